# SPDX-License-Identifier: Apache-2.0
"""Hosts, segments and routers out of network namespaces, fresh for every scenario.

    with dr_topology() as t:
        serve(t.r1)
        t.di.run("ipvsadm", "-A", "-t", f"{t.vip}:80")
        assert load(t.cl, t.vip, 80, n=10)["ok"] == 10

Nothing is sent to the kernel before it is needed: a host's first use builds everything that was declared by then, with
one `ip -batch` a namespace. All namespaces share one file system, so every program gets a directory of its own.
At the end every process is killed and every namespace removed.
"""

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import net
from net import LabError, Namespace, endpoint, wait_for  # noqa: F401: endpoint is for scenarios

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.environ.get("BRASS_BUILD", os.path.join(ROOT, "build", "debug"))
TOOLS = os.path.join(BUILD, "tools")

_numbers = itertools.count(1)
live = []  # topologies that exist
failed_logs = []  # what those printed that ended with an exception


# ---------------------------------------------------------------- processes


class Process:
    """A running program of a host; its output goes to files."""

    def __init__(self, host, argv, name=None):
        self.host = host
        self.argv = [str(a) for a in argv]
        self.name = name or os.path.basename(self.argv[0])
        number = next(host.topology.process_numbers)
        base = os.path.join(host.topology.directory, f"{host.name}-{number}-{self.name}")
        self._files = (base + ".out", base + ".err")
        with open(self._files[0], "wb") as out, open(self._files[1], "wb") as err, host.inside():
            self.popen = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, cwd=host.topology.directory
            )

    def stdout(self):
        with open(self._files[0], errors="replace") as f:
            return f.read()

    def stderr(self):
        with open(self._files[1], errors="replace") as f:
            return f.read()

    def output(self):
        return self.stdout() + self.stderr()

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.running():
            self.popen.send_signal(number)

    def wait(self, timeout=15):
        """Waits for the end; returns the exit code."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.host.name}: {self.name} still runs after {timeout:g} s:\n{self.output()}") from None

    def stop(self, timeout=15):
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        """With everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        return self.popen.wait()


class Capture:
    """tcpdump on a device; see Host.capture."""

    def __init__(self, host, device, expression):
        argv = ["tcpdump", "-enn", "-l", "-U", "--immediate-mode", "-Z", "root", "-i", device, *expression.split()]
        self.process = host.start(*argv)
        wait_for(lambda: "listening on" in self.process.stderr() or not self.process.running(), what=f"tcpdump on {host.name} {device}")
        if not self.process.running():
            raise LabError(f"tcpdump: {self.process.stderr()}")

    def packets(self):
        """Everything seen until now."""
        return net.parse_packets(self.process.stdout())

    def wait(self, fn=lambda packet: True, count=1, timeout=5, what="packets"):
        """Waits until `count` packets were seen for which fn is true, and returns them."""
        found = lambda: [p for p in self.packets() if fn(p)]
        return wait_for(lambda: (lambda f: f if len(f) >= count else None)(found()), timeout, f"{count} {what} among {len(self.packets())} packets")

    def drain(self):
        """Returns when everything that had passed the filter is in packets()."""
        asked = len(self.process.stderr())
        self.process.signal(signal.SIGUSR1)  # tcpdump says "3 packets captured, 5 packets received by filter, ..."

        def level():
            text = self.process.stderr()[asked:]
            said = [(int(a), int(b)) for a, b in re.findall(r"(\d+) packets? captured, (\d+) packets? received", text)]
            if said and said[-1][0] >= said[-1][1]:
                return True
            # what came before the filter was set is received and never captured: then the numbers stand still
            if len(said) >= 4 and len(set(said[-4:])) == 1:
                return True
            if said:
                self.process.signal(signal.SIGUSR1)
            return False

        wait_for(level, what="tcpdump has caught up")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.running():
            self.drain()
        self.process.signal(signal.SIGINT)
        self.process.wait()


# ---------------------------------------------------------------- hosts


class Answer(tuple):
    """(status, json) of a request, with .headers and .text."""

    headers = None
    text = ""


class Host:
    def __init__(self, topology, name, number, ports):
        self.topology = topology
        self.name = name
        self.ports = {}  # device -> (segment, [addresses with prefix], mac)
        self.namespace = Namespace(f"{topology.prefix}-{name}")
        self._new = True
        self._lines = []  # for ip(8), at the next use
        self._sysctls = []  # to be set to 1, likewise
        for index, (device, (segment, *addresses)) in enumerate(ports.items()):
            mac = f"02:00:00:00:{number:02x}:{index:02x}"
            self.ports[device] = (segment, addresses, mac)
            self._lines += [f"addr add {a} dev {device}" + (" nodad" if ":" in a else "") for a in addresses]

    def mac(self, device="eth0"):
        return self.ports[device][2]

    def _own(self, colon):
        for _, addresses, _ in self.ports.values():
            for address in addresses:
                if (":" in address) == colon:
                    return address.split("/")[0]
        return None

    @property
    def v4(self):
        return self._own(False)

    @property
    def v6(self):
        return self._own(True)

    # --- set-up

    def route(self, to, **parts):
        """route("default", via="10.0.0.1"); other words of ip route as keywords (dev=, table=, advmss=)."""
        self._lines.append(f"route add {to} " + " ".join(f"{k} {v}" for k, v in parts.items()))

    def ip(self, *lines):
        """Commands of ip(8), at once, in one batch: ip("addr add 10.1.0.100/32 dev lo")."""
        self._lines += lines
        with self.inside():
            pass

    def forward(self):
        """A router."""
        self._sysctls += ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]

    def sysctl(self, key, value=None):
        with self.inside():
            return net.sysctl(key, value)

    def no_arp(self, device="all"):
        """What a real server of a dr service needs by hand."""
        self.sysctl(f"net/ipv4/conf/{device}/arp_ignore", 1)
        self.sysctl(f"net/ipv4/conf/{device}/arp_announce", 2)

    # --- use

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is on this host. Sockets opened here stay here."""
        self.topology.build()
        with self.namespace:
            self._catch_up()
            yield

    def _catch_up(self):
        keys, self._sysctls = self._sysctls, []
        for key in keys:
            net.sysctl(key, 1)
        lines, self._lines = self._lines, []
        if lines:
            ip_batch(lines)

    def run(self, *argv, check=True, timeout=30, stdin=None):
        """Runs a command to its end; returns subprocess.CompletedProcess with text."""
        with self.inside():
            done = subprocess.run([str(a) for a in argv], input=stdin or "", capture_output=True, text=True, errors="replace", timeout=timeout)
        if check and done.returncode:
            raise LabError(f"{self.name}: {' '.join(map(str, argv))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *argv, name=None):
        process = Process(self, argv, name)
        self.topology.processes.append(process)
        return process

    def bytes(self, device="eth0"):
        """(received, sent)"""
        with self.inside():
            return net.device_bytes(device)

    def capture(self, device="eth0", expression=""):
        """with host.capture("eth0", "tcp port 80") as seen: ...; then seen.packets()"""
        return Capture(self, device, expression)

    def addresses(self, device):
        """Addresses on a device, "10.1.0.100/32"; none when there is no such device."""
        done = self.run("ip", "-j", "addr", "show", "dev", device, check=False)
        if done.returncode:
            return []
        return [f"{a['local']}/{a['prefixlen']}" for link in json.loads(done.stdout) for a in link.get("addr_info", [])]

    def link(self, device):
        """The device as `ip -d -j link` tells it, None without it."""
        done = self.run("ip", "-d", "-j", "link", "show", "dev", device, check=False)
        return None if done.returncode else json.loads(done.stdout)[0]

    def neighbour(self, address, device="eth0"):
        """The MAC that this host has in its cache for an address, None without one."""
        entries = json.loads(self.run("ip", "-j", "neigh", "show", address, "dev", device).stdout or "[]")
        return entries[0].get("lladdr") if entries else None

    def connect(self, address, port, timeout=5):
        with self.inside():
            return socket.create_connection((address, port), timeout)

    def api(self, method, path, body=None, port=4672, raw=None, address="127.0.0.1", headers=None, timeout=10):
        """One request to a REST API. body is sent as JSON, raw (bytes) as it is. Returns (status, json)."""
        connection = http.client.HTTPConnection(address, port)
        connection.sock = self.connect(address, port, timeout)
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})} if data is not None else headers or {})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        try:
            value = json.loads(text) if text else None
        except ValueError:
            value = None
        answer = Answer((response.status, value))
        answer.headers = response.headers
        answer.text = text.decode(errors="replace")
        return answer

    def directory(self, name):
        """A directory of this host's own."""
        path = os.path.join(self.topology.directory, self.name, name)
        os.makedirs(path, exist_ok=True)
        return path


def ip_batch(lines):
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise LabError(f"ip: {done.stderr.strip()}\nin:\n" + "\n".join(lines))


# ---------------------------------------------------------------- topologies


class Topology:
    # True (before the first use): segmentation and checksum offload stay on, as on a real host. Then a bulk transfer has
    # few large segments and few acknowledgements, and packet sizes mean nothing.
    offloads = False

    def __init__(self):
        self.prefix = f"b{os.getpid()}-{next(_numbers)}"
        self.directory = tempfile.mkdtemp(prefix=f"{self.prefix}-")
        os.chmod(self.directory, 0o755)
        self.hosts = {}
        self.segments = []
        self.processes = []
        self.daemons = []
        self.process_numbers = itertools.count(1)
        self._lan = Namespace(f"{self.prefix}-lan")  # has the bridges
        self._lan_made = False
        self._new_segments = []
        live.append(self)

    def segment(self, name):
        self.segments.append(name)
        self._new_segments.append(name)
        return name

    def host(self, name, ports):
        """ports: {"eth0": (segment, "10.1.0.10/24", "fd00:1::10/64"), ...}"""
        host = Host(self, name, len(self.hosts) + 1, ports)
        self.hosts[name] = host
        return host

    def __getattr__(self, name):
        try:
            return self.__dict__["hosts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def build(self):
        """Brings everything declared so far into being. Called by the first use of a host."""
        fresh = [h for h in self.hosts.values() if h._new]
        if not fresh and not self._new_segments:
            return
        for host in fresh:
            host._new = False
        spaces = [h.namespace for h in fresh] + ([] if self._lan_made else [self._lan])
        ip_batch([f"netns add {space.name}" for space in spaces])
        if not self._lan_made:
            self._lan_made = True
            with self._lan:
                net.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        for host in fresh:
            with host.namespace:
                for which in ("default", "all"):
                    # a new namespace begins with what the first one has; scenarios begin with the kernel's defaults
                    for key in ("rp_filter", "arp_ignore", "arp_announce", "accept_local", "send_redirects", "accept_redirects"):
                        net.sysctl(f"net.ipv4.conf.{which}.{key}", 0)
                    net.sysctl(f"net.ipv6.conf.{which}.accept_dad", 0)
                    net.sysctl(f"net.ipv6.conf.{which}.accept_redirects", 0)
                    net.sysctl(f"net.ipv6.conf.{which}.router_solicitations", 0)
        self._plug(fresh)
        for host in fresh:
            lines = ["link set lo up"]
            for device, (_, _, mac) in host.ports.items():
                lines += [f"link set {device} address {mac}", f"link set {device} up"]
            host._lines = lines + host._lines
            with host.namespace:
                host._catch_up()
                if not self.offloads:
                    net.offloads_off(host.ports)

    def _plug(self, hosts):
        lines = []
        for name in self._new_segments:
            lines += [f"link add {name} type bridge forward_delay 0 stp_state 0 mcast_snooping 0", f"link set {name} up"]
        self._new_segments = []
        plugs = []
        for host in hosts:
            for device, (segment, _, _) in host.ports.items():
                plug = f"{host.name}-{device}"
                plugs.append(plug)
                lines += [f"link add {plug} type veth peer name {device} netns {host.namespace.name}", f"link set {plug} master {segment} up"]
        with self._lan:
            if lines:
                ip_batch(lines)
            if not self.offloads:
                net.offloads_off(plugs)

    def unplug(self, host, device="eth0"):
        """Pulls the cable; plug() puts it back."""
        self._cable(host, device, "down")

    def plug(self, host, device="eth0"):
        self._cable(host, device, "up")

    def lose(self, host, percent, device="eth0"):
        """So many packets are lost on the way to the host, and as many on the way from it; 0: none any more."""
        self.build()
        for namespace, plug in ((self._lan, f"{host.name}-{device}"), (host.namespace, device)):
            with namespace:
                words = ["add", "dev", plug, "root", "netem", "loss", f"{percent}%"] if percent else ["del", "dev", plug, "root"]
                subprocess.run(["tc", "qdisc", *words], check=True)

    def _cable(self, host, device, state):
        self.build()
        with self._lan:
            ip_batch([f"link set {host.name}-{device} {state}"])

    def logs(self):
        """What the daemons of this scenario said, for people who read about a failed test."""
        return "".join(f"--- {d.name} on {d.host.name}\n{d.log()}" for d in self.daemons)

    def close(self):
        if self in live:
            live.remove(self)
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.popen.pid, signal.SIGKILL)
        for process in self.processes:
            process.popen.wait()
        made = [h.namespace for h in self.hosts.values() if not h._new] + ([self._lan] if self._lan_made else [])
        for space in made:
            space.close()
        if made:
            ip_batch([f"netns del {space.name}" for space in made])
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        logs = self.logs()
        if kind:
            failed_logs.append(logs)
        self.close()
        # a build with sanitizers: what they found is a failure, whatever the scenario looked at
        complaints = [line for line in logs.splitlines() if "runtime error:" in line or "Sanitizer:" in line]
        if complaints and not kind:
            failed_logs.append(logs)
            raise AssertionError("\n".join(complaints))


def _servers(t, segment, count, v4, v6, gateway4, gateway6, first=1):
    servers = []
    for i in range(first, first + count):
        host = t.host(f"r{i}", {"eth0": (segment, f"{v4}.10{i}/24", f"{v6}::10{i}/64")})
        host.route("default", via=gateway4)
        host.route("default", via=gateway6)
        servers.append(host)
    return servers


def dr_topology(servers=3, route_vip6=True):
    """cl 10.0.0.2 - ro - 10.1.0.0/24 with di (.10) and r1, r2, r3 (.101 ...); fd00:0::/64 and fd00:1::/64 beside it.

    t.vip and t.vip6 are in the servers' segment. A dummy device does not answer neighbour solicitations, so the router
    sends the IPv6 VIP to the director (route_vip6).
    """
    t = Topology()
    clients, lan = t.segment("clients"), t.segment("lan")
    cl = t.host("cl", {"eth0": (clients, "10.0.0.2/24", "fd00:0::2/64")})
    ro = t.host("ro", {"eth0": (clients, "10.0.0.1/24", "fd00:0::1/64"), "eth1": (lan, "10.1.0.1/24", "fd00:1::1/64")})
    di = t.host("di", {"eth0": (lan, "10.1.0.10/24", "fd00:1::10/64")})
    t.servers = _servers(t, lan, servers, "10.1.0", "fd00:1", "10.1.0.1", "fd00:1::1")
    t.vip, t.vip6 = "10.1.0.100", "fd00:1::100"
    cl.route("default", via="10.0.0.1")
    cl.route("default", via="fd00:0::1")
    di.route("default", via="10.1.0.1")
    di.route("default", via="fd00:1::1")
    if route_vip6:
        ro.route(f"{t.vip6}/128", via="fd00:1::10")
    ro.forward()
    return t


def routed_topology():
    """cl - ro - di (10.1.0.10); from ro over rb two more hops to r1, r2 (10.2.0.101, .102) and r3 (10.3.0.103).

    The VIPs (10.100.0.0/24, fd00:100::/64) are nobody's segment: the routers send them to the director.
    """
    t = Topology()
    clients, lan, transit = t.segment("clients"), t.segment("lan"), t.segment("transit")
    far2, far3 = t.segment("far2"), t.segment("far3")
    cl = t.host("cl", {"eth0": (clients, "10.0.0.2/24", "fd00:0::2/64")})
    ro = t.host(
        "ro",
        {
            "eth0": (clients, "10.0.0.1/24", "fd00:0::1/64"),
            "eth1": (lan, "10.1.0.1/24", "fd00:1::1/64"),
            "eth2": (transit, "10.9.0.1/24", "fd00:9::1/64"),
        },
    )
    rb = t.host(
        "rb",
        {
            "eth0": (transit, "10.9.0.2/24", "fd00:9::2/64"),
            "eth1": (far2, "10.2.0.1/24", "fd00:2::1/64"),
            "eth2": (far3, "10.3.0.1/24", "fd00:3::1/64"),
        },
    )
    di = t.host("di", {"eth0": (lan, "10.1.0.10/24", "fd00:1::10/64")})
    t.servers = _servers(t, far2, 2, "10.2.0", "fd00:2", "10.2.0.1", "fd00:2::1")
    t.servers += _servers(t, far3, 1, "10.3.0", "fd00:3", "10.3.0.1", "fd00:3::1", first=3)
    t.vip, t.vip6 = "10.100.0.1", "fd00:100::1"
    for host, four, six in ((cl, "10.0.0.1", "fd00:0::1"), (di, "10.1.0.1", "fd00:1::1"), (rb, "10.9.0.1", "fd00:9::1")):
        host.route("default", via=four)
        host.route("default", via=six)
    for net_number in (2, 3):
        ro.route(f"10.{net_number}.0.0/24", via="10.9.0.2")
        ro.route(f"fd00:{net_number}::/64", via="fd00:9::2")
    ro.route("10.100.0.0/24", via="10.1.0.10")
    ro.route("fd00:100::/64", via="fd00:1::10")
    ro.forward()
    rb.forward()
    return t


def nat_topology(servers=2):
    """cl 10.0.0.2 and di 10.0.0.10 on one segment, di 10.1.0.10 and r1, r2 (.101 ...) on another; di forwards.

    The servers' default route goes to another router, ro (10.0.0.1, 10.1.0.1): replies pass the director by, and the
    client gets them from an address that it never asked.
    """
    t = Topology()
    clients, lan = t.segment("clients"), t.segment("lan")
    cl = t.host("cl", {"eth0": (clients, "10.0.0.2/24", "fd00:0::2/64")})
    ro = t.host("ro", {"eth0": (clients, "10.0.0.1/24", "fd00:0::1/64"), "eth1": (lan, "10.1.0.1/24", "fd00:1::1/64")})
    di = t.host("di", {"eth0": (clients, "10.0.0.10/24", "fd00:0::10/64"), "eth1": (lan, "10.1.0.10/24", "fd00:1::10/64")})
    t.servers = _servers(t, lan, servers, "10.1.0", "fd00:1", "10.1.0.1", "fd00:1::1")
    t.vip, t.vip6 = "10.0.0.100", "fd00:0::100"
    cl.route("default", via="10.0.0.1")
    cl.route("default", via="fd00:0::1")
    cl.route(f"{t.vip6}/128", via="fd00:0::10")
    ro.forward()
    di.forward()
    return t


# ---------------------------------------------------------------- the tools


def tool(name):
    path = os.path.join(TOOLS, name)
    if not os.path.exists(path):
        raise LabError(f"{path} is missing: build it first")
    return path


class Server(Process):
    """lab-serve; see serve."""

    def fail(self):
        """/health answers 503 from now on."""
        open(self.down_file, "w").close()

    def recover(self):
        os.unlink(self.down_file)

    def tire(self):
        """Every answer takes 3 s from now on."""
        self.signal(signal.SIGUSR1)

    def rest(self):
        self.signal(signal.SIGUSR2)


def serve(host, name=None, port=80, address=None):
    """A server on `host` that says who it is over HTTP and UDP. Returns when it listens."""
    name = name or host.name
    down_file = os.path.join(host.directory("serve"), f"{name}-{port}.down")
    server = Server(host, [tool("lab-serve"), name, port, "-d", down_file, *(["-a", address] if address else [])])
    server.down_file = down_file
    host.topology.processes.append(server)
    wait_for(lambda: "listening" in server.stdout() or not server.running(), what=f"server {name}")
    if not server.running():
        raise LabError(f"{host.name}: {server.stderr()}")
    return server


class Load:
    """A running lab-load."""

    def __init__(self, process):
        self.process = process

    def finish(self, timeout=30):
        """Ends it (requests under way are finished) and returns its counts."""
        self.process.signal(signal.SIGTERM)
        return self.result(timeout)

    def result(self, timeout=60):
        """Waits for its own end and returns its counts."""
        code = self.process.wait(timeout)
        if code not in (0, 1):
            raise LabError(f"lab-load: exit code {code}: {self.process.output()}")
        return json.loads(self.process.stdout())


_LOAD_OPTIONS = {"n": "-n", "t": "-t", "least": "-l", "c": "-c", "timeout": "-T", "rate": "-r", "wait": "-w", "path": "-p", "body": "-b", "source": "-s"}


def load_start(client, address, port=80, udp=False, keep=False, **options):
    """Starts requests; .finish() ends them. Options: n, t (s), least (finish() waits for so many), c, timeout (ms), rate,
    wait (s), path, body, source."""
    argv = [tool("lab-load")] + ["-u"] * udp + ["-k"] * keep
    for name, value in options.items():
        argv += [_LOAD_OPTIONS[name], value]
    if "n" not in options and "t" not in options:
        argv += ["-t", 3600]
    return Load(client.start(*argv, address, port))


def load(client, address, port=80, **options):
    """Asks and counts: {"requests", "ok", "failed", "reasons", "servers", "bytes", "max_ms", "first_ok_ms", "failed_begun_ms"}, the last
    one [first, last] in ms of the wall clock, or None."""
    if "t" not in options:
        options.setdefault("n", 1)
    return load_start(client, address, port, **options).result()


def arp_answers(host, device, address, wait_ms=200):
    """The MACs of all who say on a segment that they have an address (IPv4: ARP, IPv6: neighbour discovery)."""
    done = host.run(tool("lab-arp"), "-w", wait_ms, device, address, check=False)
    if done.returncode not in (0, 1):
        raise LabError(f"lab-arp: {done.stderr}")
    return sorted(done.stdout.split())


def ipvs(host):
    """The kernel's table as ipvsadm prints it: {"TCP 10.0.0.100:80": [Dest(rs, forward, weight, active, inactive)]}"""
    return net.parse_ipvs(host.run("ipvsadm", "-Ln", "--exact").stdout)


def rules(host):
    """The kernel's table without counters, one string: equal tables are equal strings."""
    return host.run("ipvsadm", "-Sn").stdout
