# SPDX-License-Identifier: Apache-2.0
"""Health checks in number: what they cost brass-director, keepalived, and a loop that does nothing but connect; and how
evenly they come, as the checked see it.

On this machine's own kernel, where it lets us have a network namespace: a stand-in (bench_ipvs.c) says yes to the messages
about IPVS, which checks have nothing to do with. In the lab's kernel a system call costs twenty times as much, and the
largest rate is left out."""

import contextlib
import json
import os
import signal
import subprocess
import time

from harness import Daemon, Space, Tracer, api, kernel_name, memory_kib, start_director, wait_until

PORT, INTERVAL_MS = 8000, 1000
KINDS, COUNTS = ("tcp", "http"), (100, 1000, 10000)
SECONDS = 20
IN_LAB = "BRASS_LAB" in os.environ


class Here:
    """This namespace: the whole run has one of its own."""

    enter = ()

    def __init__(self, _name):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    def close(self):
        pass


def space(name):
    made = (Space if IN_LAB else Here)(name)
    # connections that the checked close first would fill the table of those in TIME_WAIT, which nobody is measured for
    subprocess.run([*made.enter, "sh", "-c", "echo 1000 >/proc/sys/net/ipv4/tcp_max_tw_buckets"], stderr=subprocess.DEVNULL)
    return made


def preload(args):
    return {} if IN_LAB else {"LD_PRELOAD": f"{args.build}/tools/bench-ipvs.so"}


def host(n):
    return f"127.1.{(n + 1) >> 8}.{(n + 1) & 255}"


def cpu_s(pid):
    """Of all its threads, user and system, as the scheduler counts it: clock_getcpuclockid(3). /proc has it in ticks."""
    return time.clock_gettime((~pid << 3) | 2)


# ---------------------------------------------------------------- the checked


class Checked:
    """The real servers; they tell when they were checked."""

    def __init__(self, args, where, directory, kind):
        self.daemon = Daemon(where, f"{directory}/checked", f"{args.build}/tools/bench-health", "serve", kind, str(PORT), str(INTERVAL_MS))
        wait_until(lambda: self.daemon.alive() and "listening" in self.said(), "the checked listen")

    def said(self):
        with open(self.daemon.log) as f:
            return f.read()

    def wait_for_all(self, count):
        """Until every one of them has been checked."""

        def all_seen():
            os.kill(self.daemon.pid, signal.SIGUSR2)
            time.sleep(0.1)
            return self.said().split()[-1] == str(count)

        wait_until(all_seen, f"{count} are checked", 120)

    def forget(self):
        os.kill(self.daemon.pid, signal.SIGUSR1)

    def stop(self):
        self.daemon.stop()
        return json.loads(self.said().splitlines()[-1])


# ---------------------------------------------------------------- who checks


class Bare:
    title = "connect loop alone"

    def __init__(self, args, where, directory, kind, count, seconds):
        command = [f"{args.build}/tools/bench-health", kind, str(PORT), str(INTERVAL_MS), str(count), str(seconds)]
        self.daemon = Daemon(where, f"{directory}/bare", *command)
        self.pid = self.daemon.pid

    def stop(self):
        """Its time is counted so that it still runs at the end of the measurement."""
        self.daemon.process.kill()
        self.daemon.process.wait()


class Brass:
    title = "brass-director"

    def __init__(self, args, where, directory, kind, count, _seconds):
        pulse = {"type": kind, "interval": f"{INTERVAL_MS}ms", "timeout": "1s", "via": "rip"}
        backends = {f"b{n}": {"host": host(n), "port": PORT, "method": "nat", "pulse": pulse} for n in range(count)}
        with open(f"{directory}/state.json", "w") as f:
            json.dump({"services": {"web": {"host": "10.9.9.9", "port": 80, "backends": backends}}}, f)
        self.daemon = start_director(args, where, directory, env=preload(args))
        self.pid = self.daemon.pid
        done = api(args, where, "config", f"{directory}/state.json")
        if done["status"] != 200:
            raise SystemExit(f"bench: PUT /config: {done}")

    def stop(self):
        with open(self.daemon.log) as f:
            self.failed = f.read().count("-> down")
        self.daemon.stop()


class Keepalived:
    title = "keepalived"

    def __init__(self, args, where, directory, kind, count, _seconds):
        check = "TCP_CHECK {\n connect_timeout 1\n }" if kind == "tcp" else "HTTP_GET {\n url {\n path /\n status_code 200\n }\n connect_timeout 1\n }"
        with open(f"{directory}/keepalived.conf", "w") as f:
            f.write("global_defs {\n router_id bench\n}\n")
            f.write(f"virtual_server 10.9.9.9 80 {{\n delay_loop {INTERVAL_MS / 1000:g}\n lb_algo rr\n lb_kind NAT\n protocol TCP\n")
            f.writelines(f" real_server {host(n)} {PORT} {{\n weight 1\n {check}\n }}\n" for n in range(count))
            f.write("}\n")
        pids = [f"{directory}/k.pid", f"{directory}/c.pid"]
        self.daemon = Daemon(where, f"{directory}/keepalived", "keepalived", "-n", "-C", "-f", f.name, "-p", pids[0], "-c", pids[1], env=preload(args))
        wait_until(lambda: self.daemon.alive() and len(self.daemon.all_pids()) > 1, "keepalived has its checker")
        self.pid = self.daemon.all_pids()[-1]  # the other one rests

    def stop(self):
        for pid in self.daemon.all_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemon.process.wait()


PROGRAMS = {"bare": Bare, "brass": Brass, "keepalived": Keepalived}


# ---------------------------------------------------------------- one measurement


def steady(args, directory, program, kind, count, seconds):
    """Who checks and the checked, when every one of them has been checked and the start is over."""
    where = space(f"h{os.path.basename(directory)}")
    checked = Checked(args, where, directory, kind)
    checks = program(args, where, directory, kind, count, seconds)
    checked.wait_for_all(count)
    time.sleep(3 * INTERVAL_MS / 1000)  # keepalived's first checks, and its own start, are over
    checked.forget()
    return where, checked, checks


def measure(args, directory, program, kind, count):
    where, checked, checks = steady(args, directory, program, kind, count, SECONDS + 15)
    cpu, began, files = cpu_s(checks.pid), time.monotonic(), 0
    while time.monotonic() < began + SECONDS:
        files = max(files, len(os.listdir(f"/proc/{checks.pid}/fd")))
        time.sleep(0.5)
    found = {"cpu": (cpu_s(checks.pid) - cpu) / (time.monotonic() - began), "files": files, "kib": memory_kib(checks.pid, "VmRSS")}
    checks.stop()
    found |= checked.stop() | {"failed": getattr(checks, "failed", 0)}
    where.close()
    if found["lost"] or found["backends"] != count:
        raise SystemExit(f"bench: {program.title}: {found['backends']} of {count} were checked, {found['lost']} packets not seen")
    return found


def count_calls(args, directory, program, kind, count):
    where, checked, checks = steady(args, directory, program, kind, count, 30)
    tracer = Tracer(checks.pid, f"{directory}/strace")
    checked.forget()
    time.sleep(5)
    calls, _ = tracer.stop()
    checks.stop()
    found = checked.stop()
    where.close()
    return {name: round(n / found["checks"], 2) for name, n in calls.items() if n > found["checks"] / 50}


# ---------------------------------------------------------------- the table


def line(title, found, bare, keepalived):
    def ratio(to):
        return f"{found['cpu'] / to['cpu']:.2f}" if to else "-"

    share = found["off_p99_ms"] / INTERVAL_MS * 100
    cells = [f"{found['checks'] / found['seconds']:,.0f}", f"{found['cpu'] * 100:.2f}", f"{found['cpu'] / found['checks'] * found['seconds'] * 1e6:.0f}", ratio(bare),
             ratio(keepalived), f"{share:.2f}", f"{found['off_max_ms'] / INTERVAL_MS * 100:.2f}", f"{found['kib'] / 1024:.1f}", str(found["files"])]  # fmt: skip
    print(f"  {title:22}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def judge(kind, count, found):
    """What is missed of what was promised."""
    brass, missed = found["brass"], []
    if kind == "tcp" and brass["cpu"] > 1.5 * found["bare"]["cpu"]:
        missed.append("CPU is more than 1.5 of the loop alone")
    if brass["cpu"] > 0.5 * found["keepalived"]["cpu"]:
        missed.append("CPU is more than half of keepalived's")
    if brass["off_p99_ms"] > 0.05 * INTERVAL_MS:
        missed.append("the 99th percentile of jitter is over 5 % of the interval")
    if brass["checks"] < 0.98 * count * brass["seconds"] * 1000 / INTERVAL_MS:
        missed.append("fewer checks than asked for")
    if brass["failed"]:
        missed.append(f"{brass['failed']:,} times a real server that answers was taken out")
    for sentence in missed:
        print(f"  MISSED, {kind}, {count:,}: {sentence}")
    return missed


def run(args, fresh, _disk):
    counts = COUNTS[:-1] if IN_LAB else COUNTS
    print(f"\nChecks of {', '.join(f'{c:,}' for c in counts)} real servers on loopback, each every {INTERVAL_MS / 1000:g} s, straight to their addresses; {SECONDS} s each\n")
    heads = ("checks/s", "CPU %", "us a check", "x loop", "x keepal.", "off p99 %", "off max %", "MiB", "files")
    result = {}
    for kind in KINDS:
        print(f"{kind:24}" + "".join(f"{head:>12}" for head in heads))
        for count in counts:
            found = {key: measure(args, fresh(f"{kind}-{count}-{key}"), program, kind, count) for key, program in PROGRAMS.items()}
            for key, program in PROGRAMS.items():
                line(program.title, found[key], found["bare"], found["keepalived"])
            found["missed"] = judge(kind, count, found)
            result[f"{kind}-{count}"] = found
        result[f"{kind}-calls"] = calls = {key: count_calls(args, fresh(f"{kind}-calls-{key}"), program, kind, counts[-2]) for key, program in PROGRAMS.items()}
        print("  system calls a check, by strace in a run of its own:")
        for key, program in PROGRAMS.items():
            print(f"    {program.title:22}{sum(calls[key].values()):6.1f}  " + ", ".join(f"{name} {n:g}" for name, n in sorted(calls[key].items(), key=lambda c: -c[1])))
    print(f"\nKernel: {kernel_name()}{'' if IN_LAB else '; a stand-in for IPVS says yes to both daemons, the sockets are real'}. CPU: of the process alone, user and system.")
    print("off: how far the gap between two checks of one real server is from the interval, in percent of the interval, by the kernel's time of the SYN.")
    print("loop: connect, epoll, SO_ERROR, reset; http: a GET and its answer in between. keepalived: delay_loop 1, TCP_CHECK and HTTP_GET.")
    return result
