# SPDX-License-Identifier: Apache-2.0
"""The host kept right: what somebody takes away is put back by the kernel's event and not by the next look, it is said
who it was, and one who does so again and again costs neither CPU nor log."""

import re
import signal
import subprocess

import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import assert_as_before, monitor_listens, service, snapshot, wait_state, wait_weights
from test_reload import reload
from topology import arp_answers, dr_topology, ipvs, load, routed_topology, serve

NOBODY = "somebody (the kernel does not say who)"


class Ip:
    """An `ip` that stays alive after its commands, so that it has a name when the agent asks for it."""

    def __init__(self, host):
        with host.inside():
            self.process = subprocess.Popen(["ip", "-batch", "-"], stdin=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def __call__(self, *lines):
        self.process.stdin.write("\n".join(lines) + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.stdin.close()
        self.process.wait()


class Monitor:
    """The kernel's events with their times."""

    def __init__(self, host):
        self.process = host.start("ip", "-ts", "-o", "monitor", "label", "address", "link", "rule", "route", "netconf")
        monitor_listens(host, self.process)
        self.begin = 0

    def lines(self):
        return self.process.stdout().splitlines()[self.begin :]

    def mark(self):
        self.begin = len(self.process.stdout().splitlines())

    def milliseconds(self, gone, back):
        """From the first event of its going to the first later one of its coming; lines are told by regular expressions."""

        def time_of(line):
            m = re.search(r"T(\d+):(\d+):([\d.]+)\]", line)
            return (int(m[1]) * 3600 + int(m[2]) * 60 + float(m[3])) * 1000

        def both():
            lines = self.lines()
            first = next((i for i, line in enumerate(lines) if re.search(gone, line)), None)
            if first is None:
                return None
            second = next((line for line in lines[first:] if re.search(back, line) and not re.search(gone, line)), None)
            return second and (lines[first], second)

        first, second = wait_for(both, what=f"events {gone}, {back}: {self.lines()}")
        return time_of(second) - time_of(first)


def one_of_each(t, **config):
    """A host with dr, ipip, gue and nat services, and an agent that looks by itself only once an hour."""
    director = Director(t.di)
    vips = {"web": "10.100.0.1", "six": "fd00:100::1", "tun": "10.100.0.2", "gue": "10.100.0.3", "nat": "10.100.0.4"}
    backends = {"web": {"method": "dr"}, "six": {"method": "dr"}, "tun": {"method": "ipip"}, "gue": {"method": "gue"}, "nat": {"method": "nat"}}
    for name, vip in vips.items():
        director.make(name, host=vip, port=80)
    agent = Agent(t.r1, [director], backends, address=t.r1.v4, gateway="10.2.0.1", **{"check_interval": "1h", **config})
    for name in vips:
        wait_state(agent, "up", name, 10)
    return director, agent, vips


def table(host, number, family="-4"):
    return host.run("ip", family, "route", "show", "table", number, check=False).stdout


def test_what_is_taken_away_comes_back_by_the_event(measured):
    with routed_topology() as t:
        _, agent, vips = one_of_each(t)
        host = t.r1
        monitor = Monitor(host)
        rules = host.run("ip", "rule").stdout
        copies, nat = table(host, 4673), table(host, 4672)
        # what is done, what is then right again, and the kernel's events of its going and coming
        events = (
            ("VIP deleted", "addr del 10.100.0.1/32 dev lo", lambda: "10.100.0.1/32" in host.addresses("lo"), r"Deleted .* 10\.100\.0\.1/32", r" 10\.100\.0\.1/32"),
            ("IPv6 VIP deleted", "addr del fd00:100::1/128 dev lo", lambda: "fd00:100::1/128" in host.addresses("lo"), r"Deleted .* inet6 fd00:100::1/128", r" inet6 fd00:100::1/128"),
            ("addresses flushed", "addr flush dev brass-ipip", lambda: {"10.100.0.2/32", "10.100.0.3/32"} <= set(host.addresses("brass-ipip")), r"Deleted .* 10\.100\.0\.2/32", r" 10\.100\.0\.2/32"),
            ("tunnel set down", "link set brass-ipip down", lambda: "UP" in host.link("brass-ipip")["flags"], r"LINK.* brass-ipip@NONE: <NOARP> ", r"LINK.* brass-ipip@NONE: <NOARP,UP"),
            ("tunnel deleted", "link del brass-ipip", lambda: "10.100.0.2/32" in host.addresses("brass-ipip"), r"LINK\]Deleted .* brass-ipip", r" brass-ipip +inet 10\.100\.0\.2/32"),
            ("rule deleted", "rule del pref 4672", lambda: host.run("ip", "rule").stdout == rules, r"RULE\]Deleted .*lookup 4672", r"RULE\].*lookup 4672"),
            ("MSS route deleted", "route del default table 4673", lambda: table(host, 4673) == copies, r"ROUTE\]Deleted .*default.* table 4673", r"ROUTE\].*default.* table 4673"),
            ("MSS table flushed", "route flush table 4673", lambda: table(host, 4673) == copies, r"ROUTE\]Deleted .*default.* table 4673", r"ROUTE\].*default.* table 4673"),
            ("return route deleted", "route del default table 4672", lambda: table(host, 4672) == nat, r"ROUTE\]Deleted .* table 4672", r"ROUTE\].* table 4672"),
        )  # fmt: skip
        with Ip(host) as ip:
            for what, command, right, gone, back in events:
                monitor.mark()
                ip(command)
                took = monitor.milliseconds(gone, back)
                wait_for(right, what=f"{what}: it is back")
                measured(f"{what}: back {took:.1f} ms after the kernel's event of its going")
        # settings of the kinds that the kernel tells of
        monitor.mark()
        host.sysctl("net/ipv4/conf/all/rp_filter", 1)
        host.sysctl("net/ipv4/conf/brass-ipip/rp_filter", 0)
        wait_for(lambda: host.sysctl("net/ipv4/conf/brass-ipip/rp_filter") == "2", what="rp_filter is back")
        # devices that come
        host.ip("link add late0 link eth0 type macvlan mode bridge")
        wait_for(lambda: host.sysctl("net/ipv4/conf/late0/arp_ignore") == "1" and host.sysctl("net/ipv4/conf/late0/arp_announce") == "2", what="device conf of late0")
        for name in vips:
            wait_state(agent, "up", name)
        # the kernel sends no event for a port of fou: that is for the next look, which any event brings about
        host.run("ip", "fou", "del", "port", "6080", "local", host.v4)
        host.ip("link set late0 up")
        wait_for(lambda: "6080" in host.run("ip", "fou", "show").stdout, what="the port is back")
        assert agent.stop() == 0


def test_it_is_said_who_it_was():
    with routed_topology() as t:
        _, agent, _ = one_of_each(t)
        with Ip(t.r1) as ip:
            changes = {
                "addr del 10.100.0.1/32 dev lo": "ip addr add 10.100.0.1/32 dev lo",
                "rule del pref 4672": "ip rule add from 10.2.0.101 ipproto 6 sport 80 lookup 4672 pref 4672",
                "route del default table 4672": "ip route add default via 10.2.0.1 table 4672",
            }
            for n, (command, what) in enumerate(changes.items(), 1):
                ip(command)
                wait_for(lambda: agent.status()["repairs"] == n, what=f"{command} is undone")
                last = agent.status()["repaired"]["last"][-1]
                assert (last["what"], last["who"]) == (what, f"ip (pid {ip.pid})")
                assert f"put back what was gone or changed, by ip (pid {ip.pid}): {what}" in agent.log()
            # the copy of the main table: that somebody changes it is told; that the main table changes is nobody's fault
            ip("route del default table 4673")
            wait_for(lambda: agent.status()["repairs"] == 4, what="the copy is put right")
            assert agent.status()["repaired"]["last"][-1]["who"] == f"ip (pid {ip.pid})"
            ip("route add 10.77.0.0/16 via 10.2.0.1")
            wait_for(lambda: "10.77.0.0/16" in table(t.r1, 4673), what="the copy follows")
        # a tool that is gone before anybody asks for its name; or it is not
        t.r1.ip("addr del 10.100.0.1/32 dev lo")
        wait_for(lambda: agent.status()["repairs"] == 5, what="the VIP is back")
        assert re.fullmatch(r"ip \(pid \d+\)|process \d+, gone by now", agent.status()["repaired"]["last"][-1]["who"])
        # a setting has no sender
        t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 0)
        t.r1.ip("link add probe0 type dummy")  # brings a look about
        wait_for(lambda: agent.status()["repairs"] == 6, what="the setting is back")
        assert agent.status()["repaired"]["last"][-1] | {"time": ""} == {"time": "", "what": "sysctl -w net/ipv4/conf/eth0/arp_ignore=1", "who": NOBODY}
        assert agent.status()["repaired"]["by_kind"] == {"vip": 2, "rule": 1, "route": 1, "mirror": 1, "conf": 1}
        text = agent.command("status").stdout
        assert "repairs   6: 1 conf, 1 mirror, 1 route, 1 rule, 2 vip\n" in text and f"was undone by ip (pid {ip.pid})" in text, text


class Deleter:
    """Another manager, that takes the VIP away whenever it sees it: a listener of address events."""

    SCRIPT = """
import ctypes, socket, struct, sys
ctypes.CDLL(None).prctl(15, b"othermanager", 0, 0, 0)
address, index = socket.inet_aton(sys.argv[1]), 1
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0x10))  # RTMGRP_IPV4_IFADDR
def delete():
    body = struct.pack("BBBBi", 2, 32, 0, 0, index) + struct.pack("HH", 8, 2) + address
    s.send(struct.pack("IHHII", 16 + len(body), 21, 1, 0, 0) + body)
delete()
while True:
    data = s.recv(65536)
    if struct.unpack_from("H", data, 4)[0] == 20 and address in data:
        delete()
"""

    def __init__(self, host, address):
        self.process = host.start("/usr/bin/python3", "-c", self.SCRIPT, address)
        self.pid = self.process.popen.pid


def system_calls(agent, seconds):
    """How many of each it makes in that time, counted by another program; and "total"."""
    out = f"{agent.host.topology.directory}/strace"
    agent.host.run("timeout", "-s", "INT", seconds, "strace", "-c", "-f", "-o", out, "-p", agent.process.popen.pid, check=False, timeout=seconds + 25)
    with open(out) as f:
        rows = [line.split() for line in f if re.match(r" *\d", line)]
    return {row[-1]: int(row[3]) for row in rows}


def cpu_ticks(agent):
    with open(f"/proc/{agent.process.popen.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_a_war_costs_little_and_ends(measured):
    with dr_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        director.make("other", host="10.1.0.99", port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}, "other": {"method": "dr"}}, address=t.r1.v4, check_interval="1h")
        wait_state(agent, "up")
        wait_state(agent, "up", "other")
        wait_weights(director, 100, 100)
        other = Deleter(t.r1, t.vip)
        down = wait_for(lambda: service(agent)["state"] == "down" and service(agent), 10, "the service is down")
        assert down["reason"] == f"ip addr add {t.vip}/32 dev lo: undone again and again, by othermanager (pid {other.pid})"
        wait_for(lambda: {k: [d.weight for d in v] for k, v in ipvs(t.di).items()} == {f"TCP {t.vip}:80": [0], "TCP 10.1.0.99:80": [100]}, what="weights")
        before = cpu_ticks(agent), agent.status()["repairs"]
        calls = system_calls(agent, 15)["total"]
        made = agent.status()["repairs"] - before[1]
        measured(f"a VIP that is deleted as often as it comes, 15 s: {made} repairs, {calls} system calls, {(cpu_ticks(agent) - before[0]) * 10} ms CPU")
        assert made <= 5 and calls < 6000
        wars = agent.status()["repaired"]["wars"]
        assert [(w["what"], w["who"]) for w in wars] == [(f"ip addr add {t.vip}/32 dev lo", f"othermanager (pid {other.pid})")]
        assert service(agent)["state"] == "down" and service(agent, "other")["state"] == "up"
        about = [line for line in agent.log().splitlines() if t.vip in line]
        assert sum("put back what" in line for line in about) <= 10 and len(about) <= 14, "\n".join(about)
        assert sum("undone 10 times within 10 s" in line and "othermanager" in line for line in about) == 1
        other.process.kill()
        wait_state(agent, "up", timeout=15)
        wait_weights(director, 100, 100)
        wait_for(lambda: "nobody undoes it any more" in agent.log(), 30, "the war is over")
        # and the next time is the first time again
        t.r1.ip(f"addr del {t.vip}/32 dev lo")
        wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("lo"), what="the VIP is back")
        assert agent.stop() == 0


# ---------------------------------------------------------------- settings of all


def test_all_is_lowered_where_that_is_allowed():
    with dr_topology() as t:
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 3)
        t.r1.sysctl("net.ipv4.conf.all.arp_announce", 1)  # does no harm, and stays
        before = snapshot(t.r1)
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}}, address=t.r1.v4, check_interval="200ms")
        down = wait_state(agent, "down")
        assert "sysctl -w net/ipv4/conf/all/arp_ignore=1, or manage_all: true" in down["reason"]
        assert agent.stop() == 0
        assert_as_before(t.r1, before)
        agent.configure(manage_all=True)
        agent.start()
        wait_state(agent, "up")
        assert (t.r1.sysctl("net.ipv4.conf.all.arp_ignore"), t.r1.sysctl("net.ipv4.conf.all.arp_announce")) == ("1", "1")
        assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]
        # somebody runs `sysctl --system`
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 3)
        wait_for(lambda: t.r1.sysctl("net.ipv4.conf.all.arp_ignore") == "1", what="it is lowered again")
        # it is known to be ours after a crash
        agent.kill9()
        agent.start()
        wait_state(agent, "up")
        assert agent.stop() == 0
        assert_as_before(t.r1, before)


def assert_quiet(t):
    assert f"{t.vip}/32" not in t.r1.addresses("lo")
    assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]


def test_a_vip_goes_when_the_host_would_answer_for_it():
    with dr_topology() as t:
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 3)
        before = snapshot(t.r1)
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}}, address=t.r1.v4, check_interval="200ms", manage_all=True)
        wait_state(agent, "up")
        # "all" is given back as it was
        agent.configure(manage_all=False)
        reload(agent)
        assert "or manage_all: true" in wait_state(agent, "down")["reason"]
        assert t.r1.sysctl("net.ipv4.conf.all.arp_ignore") == "3"
        assert_quiet(t)
        # somebody runs `sysctl --system`
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 0)
        wait_state(agent, "up")
        assert f"{t.vip}/32" in t.r1.addresses("lo")
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 3)
        wait_state(agent, "down")
        assert_quiet(t)
        agent.configure(manage_all=True)
        reload(agent)
        wait_state(agent, "up")
        assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]
        assert agent.stop() == 0
        assert_as_before(t.r1, before)


def test_all_that_cannot_be_written_is_said():
    """ProtectKernelTunables= of the unit: /proc/sys is read-only."""
    with dr_topology() as t:
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 3)
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}}, address=t.r1.v4, manage_all=True, check_interval="200ms", start=False)
        read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
        agent.process = t.r1.start("unshare", "-m", "sh", "-c", f"{read_only} && exec {agent.binary} -c {agent.file}")
        down = wait_state(agent, "down")
        assert "net/ipv4/conf/all/arp_ignore=1: Read-only file system" in down["reason"] and "ProtectKernelTunables" in down["reason"]
        assert f"{t.vip}/32" not in t.r1.addresses("lo")
        assert agent.status()["repairs"] == 0
        # a VIP that stands already goes
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 0)
        wait_state(agent, "up")
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 3)
        wait_state(agent, "down")
        assert_quiet(t)
        t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 0)
        wait_state(agent, "up")
        assert f"{t.vip}/32" in t.r1.addresses("lo")
        assert agent.stop() == 0


# ---------------------------------------------------------------- devices


def test_a_renamed_device_gets_back_what_it_had():
    with dr_topology() as t:
        t.r1.ip("link add nic0 link eth0 type macvlan mode bridge", "link add nic1 link eth0 type macvlan mode bridge")
        t.r1.sysctl("net/ipv4/conf/nic0/arp_announce", 1)
        before = snapshot(t.r1)
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}}, address=t.r1.v4)
        wait_state(agent, "up")
        t.r1.ip("link set nic0 name lan0", "link set nic1 name nic0")  # another one has its name
        wait_for(lambda: "device nic0 is called lan0 now" in agent.log() and "device nic1 is called nic0 now" in agent.log(), what="it is noticed")
        assert [t.r1.sysctl(f"net/ipv4/conf/{name}/arp_ignore") for name in ("lan0", "nic0")] == ["1", "1"]
        # and while nobody looks
        agent.kill9()
        t.r1.ip("link set lan0 name wan0")
        agent.start()
        wait_state(agent, "up")
        assert agent.status()["repairs"] == 0
        assert agent.stop() == 0
        assert [t.r1.sysctl(f"net/ipv4/conf/wan0/{key}") for key in ("arp_ignore", "arp_announce")] == ["0", "1"]
        t.r1.ip("link set nic0 name nic1", "link set wan0 name nic0")
        assert_as_before(t.r1, before)


def test_events_are_heard_after_some_were_lost():
    """More of them than the socket takes, while the agent stands still: it looks at everything, and goes on to listen."""
    with dr_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}}, address=t.r1.v4, check_interval="1h", log_level="debug")
        wait_state(agent, "up")
        vip = f"{t.vip}/32"
        agent.process.signal(signal.SIGSTOP)
        many = [f"route {what} blackhole 10.200.{n // 250}.{n % 250}/32 table 77" for what in ("add", "del") for n in range(10000)]
        t.r1.ip(f"addr del {vip} dev lo", *many)
        agent.process.signal(signal.SIGCONT)
        wait_for(lambda: vip in t.r1.addresses("lo"), what="it is back after the look at everything")
        assert "events were lost" in agent.log()
        for _ in range(3):
            t.r1.ip(f"addr del {vip} dev lo")
            wait_for(lambda: vip in t.r1.addresses("lo"), what="it is back by an event")
        assert agent.stop() == 0


def test_a_device_that_is_replaced_has_an_original_of_its_own():
    with dr_topology() as t:
        t.r1.ip("link add nic0 link eth0 type macvlan mode bridge")
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}}, address=t.r1.v4, check_interval="1h")
        wait_state(agent, "up")
        agent.kill9()
        t.r1.ip("link del nic0", "link add nic0 link eth0 type macvlan mode bridge")
        t.r1.sysctl("net/ipv4/conf/nic0/arp_announce", 1)
        agent.start()
        wait_for(lambda: t.r1.sysctl("net/ipv4/conf/nic0/arp_announce") == "2", what="device conf of the new one")
        assert agent.stop() == 0
        assert [t.r1.sysctl(f"net/ipv4/conf/nic0/{key}") for key in ("arp_ignore", "arp_announce")] == ["0", "1"]


def wires(t):
    """A device of every kind on r1, each with one of ro's at its other end: {name on r1: name on ro}."""
    with t.ro.inside(), t.r1.inside():
        pass  # both are there
    t.r1.ip(*[f"link add veth{n} type veth peer name far{n} netns {t.ro.namespace.name}" for n in range(5)])
    t.ro.ip(*[f"link set far{n} up" for n in range(5)], "link add farvlan link far1 type vlan id 7", "link set farvlan up")
    t.r1.ip(
        "link set veth0 up",
        "link set veth1 up", "link add vlan0 link veth1 type vlan id 7", "link set vlan0 up",
        "link add bond0 type bond mode active-backup", "link set veth2 master bond0", "link set veth2 up", "link set bond0 up",
        "link add br0 type bridge forward_delay 0 stp_state 0", "link set veth3 master br0", "link set veth3 up", "link set br0 up",
        "link set veth4 up", "link add macvlan0 link veth4 type macvlan mode bridge", "link set macvlan0 up",
    )  # fmt: skip
    return {"veth0": "far0", "vlan0": "farvlan", "bond0": "far2", "br0": "far3", "macvlan0": "far4"}


def answers(t, ends, vip):
    """By device of r1, whether anybody answers at its other end."""
    return {name: bool(arp_answers(t.ro, far, vip)) for name, far in ends.items()}


@pytest.mark.parametrize("when", ["before", "later"])
def test_no_kind_of_device_answers_for_a_vip(when):
    with dr_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        director.make("six", host=t.vip6, port=80)  # set up, though the director refuses an IPv4 address for it
        ends = wires(t) if when == "before" else None
        agent = Agent(t.r1, [director], {"web": {"method": "dr"}, "six": {"method": "dr"}}, address=t.r1.v4, check_interval="1h")
        wait_state(agent, "up")
        wait_state(agent, "up", "six")
        ends = ends or wires(t)
        devices = [*ends, *(f"veth{n}" for n in range(1, 5))]

        def quiet():
            return all(t.r1.sysctl(f"net/ipv4/conf/{name}/{key}") == value for name in devices for key, value in (("arp_ignore", "1"), ("arp_announce", "2")))

        wait_for(quiet, what="all are quiet")
        nobody, everybody = dict.fromkeys(ends, False), dict.fromkeys(ends, True)
        assert answers(t, ends, t.vip) == nobody
        assert answers(t, ends, t.vip6) == nobody
        # what is renamed or enslaved later
        t.r1.ip("link set veth0 down", "link set veth0 name wire0", "link set wire0 up", "link set wire0 master br0")
        wait_for(lambda: "device veth0 is called wire0 now" in agent.log(), what="it is noticed")
        assert answers(t, ends, t.vip) == nobody and answers(t, ends, t.vip6) == nobody
        t.r1.ip("link set wire0 nomaster")
        assert answers(t, ends, t.vip) == nobody
        # the control: each of them would
        agent.kill9()
        t.r1.ip("link set wire0 down", "link set wire0 name veth0", "link set veth0 up")
        for name in ends:
            t.r1.sysctl(f"net/ipv4/conf/{name}/arp_ignore", 0)
            t.r1.ip(f"addr del {t.vip6}/128 dev lo", f"addr add {t.vip6}/128 dev {name} nodad")
            assert answers(t, {name: ends[name]}, t.vip6) == {name: True}
            t.r1.ip(f"addr del {t.vip6}/128 dev {name}", f"addr add {t.vip6}/128 dev lo nodad")
        assert answers(t, ends, t.vip) == everybody


# ---------------------------------------------------------------- at rest


def test_at_rest_it_wakes_up_for_what_it_has_to_do(measured):
    """A look at the listeners a second, a look at the host each check_interval, a heartbeat each third of the lease; and while nobody
    answers nothing but attempts."""
    with dr_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        serve(t.r1)
        agent = Agent(t.r1, [director], {"web": {"method": "dr", "check": "listen"}}, address=t.r1.v4, ttl="9s")
        wait_state(agent, "up")
        calls = system_calls(agent, 15)
        measured(f"at rest, 15 s: {calls['epoll_wait']} wake-ups, {calls['total']} system calls")
        # 15 + 3 + 5 * (the answer, libcurl's time-outs, the next request), and as much again for luck
        assert calls["epoll_wait"] <= 80
        alone = Agent(t.r2, ["http://10.1.0.77:4672"], {"web": {}}, address=t.r2.v4)
        wait_for(lambda: alone.status()["directors"][0]["state"] == "waiting", what="nobody answers")
        assert system_calls(alone, 5)["epoll_wait"] <= 60


def test_at_rest_it_is_small(measured):
    """What starting has touched is given back after 10 s without a change, and everything goes on."""
    with dr_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        serve(t.r1)
        agent = Agent(t.r1, [director], {"web": {"method": "dr", "check": "listen"}}, address=t.r1.v4)
        wait_state(agent, "up")

        def resident():
            with open(f"/proc/{agent.process.popen.pid}/status") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))

        begin = resident()
        wait_for(lambda: resident() < 6144, 20, "less than 6 MiB are resident")
        measured(f"resident: {begin} KiB after the start, {resident()} KiB at rest")
        t.r1.ip(f"addr del {t.vip}/32 dev lo")
        wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("lo"), what="the VIP is back")
        assert load(t.cl, t.vip, 80)["ok"] == 1
        assert agent.stop() == 0
