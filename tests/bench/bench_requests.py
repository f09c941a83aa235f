#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench measures, inside the lab."""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time

IDLE_S = 20
AGENT_VIPS = 100
TRACED = (100, 10)  # services and backends of the run under strace


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--build", required=True)
    p.add_argument("--disk", required=True, help="directory of a real file system")
    p.add_argument("--services", type=int, default=1000)
    p.add_argument("--backends", type=int, default=10)
    p.add_argument("--json")
    return p.parse_args()


# ---------------------------------------------------------------- processes


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key + ":"))


def wait_until(fn, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not fn():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: not within {seconds} s: {what}")
        time.sleep(0.05)


class Space:
    """A fresh network namespace."""

    def __init__(self, name):
        self.enter = ["ip", "netns", "exec", name]
        subprocess.run(["ip", "netns", "add", name], check=True)
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)

    def run(self, *command, **more):
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True, **more).stdout

    def table(self):
        return sorted(self.run("ipvsadm", "-Sn").splitlines())

    def get(self, path):
        return json.loads(self.run("curl", "-sSf", f"http://127.0.0.1:4672{path}"))


class Daemon:
    def __init__(self, space, name, *command):
        with open(f"{name}.log", "w") as log:
            self.process = subprocess.Popen([*space.enter, *command], stderr=log)
        self.pid, self.log = self.process.pid, f"{name}.log"

    def alive(self):
        if self.process.poll() is not None:
            with open(self.log) as f:
                raise SystemExit(f"bench: {self.log}: ended: {f.read()}")
        return True

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def start_director(args, space, directory, vips=False):
    director = Daemon(space, f"{directory}/director", f"{args.build}/director/brass-director", "--store", f"{directory}/director.db",
                      "--vip-device", "brass0" if vips else "none", "--log-level", "warning")  # fmt: skip
    check = [*space.enter, "curl", "-sf", "-o", "/dev/null", "http://127.0.0.1:4672/healthz"]
    wait_until(lambda: director.alive() and subprocess.run(check).returncode == 0, "the director answers")
    return director


def load(args, space, what, services, backends):
    return json.loads(space.run(f"{args.build}/tools/bench-api", what, str(services), str(backends), "127.0.0.1", "4672"))


# ---------------------------------------------------------------- what is measured


def through_api(args, name, directory, vips=False):
    """The whole table by PUTs, then a GET for each service; and how long a restart takes with that table."""
    space = Space(name)
    director = start_director(args, space, directory, vips)
    figures = {"idle_kib": memory_kib(director.pid, "VmRSS")}
    cpu, messages = cpu_seconds(director.pid), space.get("/status")["kernel_messages"]
    figures |= load(args, space, "put", args.services, args.backends)
    figures |= {
        "cpu_seconds": round(cpu_seconds(director.pid) - cpu, 2),
        "kernel_messages": space.get("/status")["kernel_messages"] - messages,
        "peak_kib": memory_kib(director.pid, "VmHWM"),
    }
    figures["get"] = load(args, space, "get", args.services, args.backends)
    made = space.table()
    director.stop()
    begin = time.monotonic()
    director = start_director(args, space, directory, vips)
    figures["restart_seconds"] = round(time.monotonic() - begin, 2)
    if space.table() != made:
        raise SystemExit("bench: the table was another one after a restart")
    director.stop()
    return figures, made


def through_ipvsadm(made):
    """The same lines; ipvsadm wants services before their destinations."""
    space = Space("ipvsadm")
    lines = [line for line in made if line.startswith("-A")] + [line for line in made if line.startswith("-a")]
    text = "\n".join(lines) + "\n"
    begin = time.monotonic()
    process = subprocess.Popen([*space.enter, "ipvsadm", "-R"], stdin=subprocess.PIPE, text=True)
    process.stdin.write(text)
    process.stdin.close()
    _, code, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    if code:
        raise SystemExit("bench: ipvsadm -R failed")
    if space.table() != made:
        raise SystemExit("bench: the two tables differ")
    return {"requests": len(lines), "seconds": round(seconds, 4), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2), "peak_kib": usage.ru_maxrss}


def calls_in(path, requests):
    with open(path) as f:
        rows = [line.split() for line in f]
    calls = {r[-1]: int(r[3]) for r in rows if len(r) >= 5 and r[3].isdigit() and r[-1] != "total"}
    clock = sum(calls.pop(name, 0) for name in ("clock_gettime", "gettimeofday", "time"))
    top = sorted(calls.items(), key=lambda c: -c[1])
    return {"requests": requests, "per_request": round(sum(calls.values()) / requests, 2), "clock_per_request": round(clock / requests, 2),
            "top": {name: round(n / requests, 2) for name, n in top if n * 20 >= requests}}  # fmt: skip


def system_calls(args, directory):
    """Of director and ipvsadm for each request, in a smaller run: strace is slow. It is attached for the phase only."""
    space = Space("strace")
    director = start_director(args, space, directory)
    found = {}
    for what in ("put", "get"):
        out = f"{directory}/strace.{what}"
        tracer = subprocess.Popen(["strace", "-c", "-f", "-o", out, "-p", str(director.pid)], stderr=subprocess.DEVNULL)

        def traced():
            with open(f"/proc/{director.pid}/status") as f:
                return f"TracerPid:\t{tracer.pid}\n" in f.read()

        wait_until(traced, "strace is attached")
        requests = load(args, space, what, *TRACED)["requests"]
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
        found[what] = calls_in(out, requests)
    made = space.table()
    director.stop()
    space, out = Space("strace2"), f"{directory}/strace.ipvsadm"
    lines = [line for line in made if line.startswith("-A")] + [line for line in made if line.startswith("-a")]
    space.run("strace", "-c", "-f", "-o", out, "ipvsadm", "-R", input="\n".join(lines) + "\n")
    found["ipvsadm"] = calls_in(out, len(lines))
    return found


def idle(args, directory):
    """A director, an agent with one VIP, and nothing happening. Then the agent with many VIPs."""
    space = Space("idle")
    director = start_director(args, space, directory)
    for i in range(AGENT_VIPS):
        space.run("curl", "-sSf", "-o", "/dev/null", "-X", "PUT", f"http://127.0.0.1:4672/service/s{i}", "-d", json.dumps({"host": f"10.1.0.{i + 1}", "port": 80}))

    def start_agent(vips):
        config = f"{directory}/agent{vips}.yaml"
        with open(config, "w") as f:
            json.dump({"node": "n1", "address": "10.0.0.1", "directors": ["http://127.0.0.1:4672"], "run_dir": f"{directory}/run", "ttl": "10s",
                       "drain": "0s", "backends": {f"s{i}": {"method": "dr"} for i in range(vips)}, "log_level": "warning"}, f)  # fmt: skip
        agent = Daemon(space, f"{directory}/agent{vips}", f"{args.build}/agent/brass-agent", "-c", config)
        wait_until(lambda: agent.alive() and sum("-w 100" in line for line in space.table()) == vips, f"{vips} backends are up", 60)
        return agent

    def rest(agent):
        begin = cpu_seconds(director.pid), cpu_seconds(agent.pid)
        time.sleep(IDLE_S)
        return {
            "director_cpu_seconds": round(cpu_seconds(director.pid) - begin[0], 2),
            "agent_cpu_seconds": round(cpu_seconds(agent.pid) - begin[1], 2),
            "director_kib": memory_kib(director.pid, "VmRSS"),
            "agent_kib": memory_kib(agent.pid, "VmRSS"),
        }

    agent = start_agent(1)
    figures = {"seconds": IDLE_S, "one_vip": rest(agent)}
    agent.stop()
    begin = time.monotonic()
    agent = start_agent(AGENT_VIPS)
    figures["many_vips"] = {"vips": AGENT_VIPS, "setup_seconds": round(time.monotonic() - begin, 2), "setup_cpu_seconds": cpu_seconds(agent.pid)}
    figures["many_vips"] |= rest(agent) | {"agent_peak_kib": memory_kib(agent.pid, "VmHWM")}
    agent.stop()
    director.stop()
    return figures


# ---------------------------------------------------------------- the table


def per_second(figures):
    return f"{figures['requests'] / figures['seconds']:,.0f}"


def show(args, r):
    api, disk, vips, restore, calls, quiet = (r[k] for k in ("api", "api_on_disk", "api_with_vips", "ipvsadm", "system_calls", "idle"))
    columns = (api, disk, vips, restore)

    def row(title, *cells):
        print(f"  {title:34}" + "".join(f"{c:>15}" for c in cells))

    print(f"\n{args.services} services x {args.backends} backends; the tables are equal, also after a restart of the director\n")
    row("", "REST API", "store on disk", "with VIPs", "ipvsadm -R")
    row("seconds", *(f"{c['seconds']:.2f}" for c in columns))
    row("seconds, ipvsadm = 1", *(f"{c['seconds'] / restore['seconds']:.2f}" for c in columns))
    row("CPU seconds (director; ipvsadm)", *(f"{c['cpu_seconds']:.2f}" for c in columns))
    row("requests or lines a second", *(per_second(c) for c in columns))
    row("IPVS messages", *(f"{c['kernel_messages']:,}" for c in columns[:3]), f"{restore['requests']:,}")
    row("peak memory, KiB", *(f"{c['peak_kib']:,}" for c in columns))
    row("before, KiB", *(f"{c['idle_kib']:,}" for c in columns[:3]))
    row("GETs of a backend a second", *(per_second(c["get"]) for c in columns[:3]))
    row("restart with this table, seconds", *(f"{c['restart_seconds']:.2f}" for c in columns[:3]))
    print(f"\nsystem calls a request, {TRACED[0]} services x {TRACED[1]} backends (no vdso in user-mode Linux: clock reads apart)\n")
    for title, key in (("PUT", "put"), ("GET of a backend", "get"), ("ipvsadm, a line", "ipvsadm")):
        c = calls[key]
        print(f"  {title:18}{c['per_request']:6.1f}  and {c['clock_per_request']:.1f} clock reads:  " + ", ".join(f"{n} {v:g}" for n, v in c["top"].items()))
    one, many = quiet["one_vip"], quiet["many_vips"]
    print(f"\nidle for {IDLE_S} s: one agent (ttl 10s), {AGENT_VIPS} services\n")
    row("", "director", "agent, 1 VIP", "director", f"{AGENT_VIPS} VIPs")
    row("CPU seconds", *(f"{x[f'{d}_cpu_seconds']:.2f}" for x in (one, many) for d in ("director", "agent")))
    row("resident memory, KiB", *(f"{x[f'{d}_kib']:,}" for x in (one, many) for d in ("director", "agent")))
    row("agent's peak memory, KiB", "", "", "", f"{many['agent_peak_kib']:,}")
    row("start to all in service, seconds", "", "", "", f"{many['setup_seconds']:.2f}")
    row("and the agent's CPU seconds", "", "", "", f"{many['setup_cpu_seconds']:.2f}")
    print(f"\nKernel: {r['kernel']}. The store is on a tmpfs, where fsync costs nothing, except in the second column, whose time")
    print("is the disk's (user-mode Linux counts waiting for it as CPU). IPVS messages of ipvsadm: it asks for the netlink family before each.")
    print("A virtual machine among others: seconds vary by a fifth and more between runs, the ratios of one run less.")


def main():
    args = parse()
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory(dir=args.disk) as disk:

        def fresh(name):
            os.mkdir(f"{directory}/{name}")
            return f"{directory}/{name}"

        result = {"services": args.services, "backends": args.backends, "kernel": f"{os.environ.get('BRASS_LAB', 'host')}, {os.uname().release}"}
        result["api"], made = through_api(args, "api", fresh("api"))
        result["ipvsadm"] = through_ipvsadm(made)
        result["api_on_disk"], on_disk = through_api(args, "disk", disk)
        result["api_with_vips"], with_vips = through_api(args, "vips", fresh("vips"), vips=True)
        if not made == on_disk == with_vips:
            raise SystemExit("bench: the tables of the three runs differ")
        result["system_calls"] = system_calls(args, fresh("strace"))
        result["idle"] = idle(args, fresh("idle"))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)
    show(args, result)


main()
