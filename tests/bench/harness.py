# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, daemons and what they cost, for the measurements of scripts/bench."""

import json
import os
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
ADDRESS = ("127.0.0.1", "4672")
URL = "http://" + ":".join(ADDRESS)


def kernel_name():
    return f"{os.environ.get('BRASS_LAB', 'host')}, {os.uname().release}"


# ---------------------------------------------------------------- processes


def stat_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()


def cpu_seconds(pid):
    fields = stat_of(pid)
    return (int(fields[11]) + int(fields[12])) / TICK


def page_faults(pid):
    return int(stat_of(pid)[7])


def memory_kib(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key + ":"))


def wait_until(fn, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not fn():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: not within {seconds} s: {what}")
        time.sleep(0.05)


def settle():
    """Until the machine rests: a namespace that was deleted is taken apart later, in the background. A machine that never
    rests is waited for 30 s."""

    def idle():
        with open("/proc/stat") as f:
            fields = [int(n) for n in f.readline().split()[1:]]
        return fields[3] / os.sysconf("SC_NPROCESSORS_ONLN")

    for _ in range(100):
        before = idle()
        time.sleep(0.3)
        if (idle() - before) / TICK > 0.2:
            return


class Space:
    """A fresh network namespace."""

    def __init__(self, name):
        self.name = name
        self.enter = ["ip", "netns", "exec", name]
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], check=True)
        settle()

    def run(self, *command, **more):
        done = subprocess.run([*self.enter, *command], capture_output=True, text=True, **more)
        if done.returncode:
            raise SystemExit(f"bench: {command[0]}: exit {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def measure(self, args, usage, *command, **more):
        """What a command costs, by bench-run; its figures are in the file `usage`."""
        output = self.run(f"{args.build}/tools/bench-run", usage, *command, **more)
        with open(usage) as f:
            return json.load(f) | {"output": output}

    def table(self):
        return sorted(self.run("ipvsadm", "-Sn").splitlines())

    def table_in_proc(self):
        """The table as the kernel prints it: each service with its destinations, in an order of its own. ipvsadm takes 16 s for
        100,000 lines in user-mode Linux."""
        blocks = []
        for line in self.run("cat", "/proc/net/ip_vs").splitlines()[3:]:
            if not line.startswith("  "):
                blocks.append([line.rstrip()])
            else:
                blocks[-1].append(line.rstrip())
        return sorted(block[:1] + sorted(block[1:]) for block in blocks)

    def check_table(self, services, backends):
        """What the kernel has; ends the run when that is not the whole."""
        blocks = self.table_in_proc()
        lines = sum(len(block) for block in blocks)
        if len(blocks) != services or lines != services * (backends + 1):
            raise SystemExit(f"bench: the kernel has {len(blocks)} services and {lines} lines, not {services} and {services * (backends + 1)}")
        return blocks

    def get(self, path):
        return json.loads(self.run("curl", "-sSf", URL + path))


class Daemon:
    """In a session of its own, so that it and its children can be ended together."""

    def __init__(self, space, name, *command, env=None):
        with open(f"{name}.log", "w") as log:
            self.process = subprocess.Popen([*space.enter, *command], stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(env or {})})
        self.pid, self.log = self.process.pid, f"{name}.log"

    def alive(self):
        if self.process.poll() is not None:
            with open(self.log) as f:
                raise SystemExit(f"bench: {self.log}: ended: {f.read()}")
        return True

    def all_pids(self):
        """Its own and its children's."""
        pids = [self.pid]
        for pid in pids:
            with open(f"/proc/{pid}/task/{pid}/children") as f:
                pids += [int(child) for child in f.read().split()]
        return pids

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def start_director(args, space, directory, vips=False, env=None):
    director = Daemon(space, f"{directory}/director", f"{args.build}/director/brass-director", "--store", f"{directory}/director.db",
                      "--vip-device", "brass0" if vips else "none", "--log-level", "warning", env=env)  # fmt: skip
    check = [*space.enter, "curl", "-sf", "-o", "/dev/null", f"{URL}/healthz"]
    wait_until(lambda: director.alive() and subprocess.run(check).returncode == 0, "the director answers", 60)
    return director


def api_command(args, space, *words):
    return [*space.enter, f"{args.build}/tools/bench-api", *ADDRESS, *map(str, words)]


def api(args, space, *words):
    done = subprocess.run(api_command(args, space, *words), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {done.stderr}")
    return json.loads(done.stdout)


class Tracer:
    """strace -c of a daemon, for a phase."""

    def __init__(self, pid, out):
        self.out = out
        self.process = subprocess.Popen(["strace", "-c", "-f", "-o", out, "-p", str(pid)], stderr=subprocess.DEVNULL)

        def traced():
            with open(f"/proc/{pid}/status") as f:
                return f"TracerPid:\t{self.process.pid}\n" in f.read()

        wait_until(traced, "strace is attached")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        return calls_in(self.out)


def calls_in(path):
    """System calls by name in the output of strace -c; what reads the clock apart, since user-mode Linux has no vdso."""
    with open(path) as f:
        rows = [line.split() for line in f]
    calls = {r[-1]: int(r[3]) for r in rows if len(r) >= 5 and r[3].isdigit() and r[-1] != "total"}
    clock = sum(calls.pop(name, 0) for name in ("clock_gettime", "gettimeofday", "time"))
    return calls, clock


# ---------------------------------------------------------------- the state that is loaded


def vip(s):
    return f"10.100.{s // 250}.{s % 250 + 1}"


def rip(b):
    return f"10.90.{b // 250}.{b % 250 + 1}"


def write_state(path, services, backends):
    """The document for PUT /config: the same table as bench-api put and bench-table load make."""
    pool = {f"b{b}": {"host": rip(b), "port": 80, "method": "dr", "weight": 100, "pulse": {"type": "none"}} for b in range(backends)}
    with open(path, "w") as f:
        json.dump({"services": {f"s{s}": {"host": vip(s), "port": 80, "protocol": "tcp", "method": "rr", "backends": pool} for s in range(services)}}, f)
    return path


def load(args, space, directory, services, backends):
    """Fills the director, in one request where it can; checked in the kernel."""
    done = api(args, space, "config", write_state(f"{directory}/state.json", services, backends))
    if done["status"] != 200:
        api(args, space, "put", services, backends)
    space.check_table(services, backends)
    return done
