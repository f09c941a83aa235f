# SPDX-License-Identifier: Apache-2.0
"""One request after the other, beside ipvsadm -R; and both daemons at rest."""

import json
import time

from harness import Daemon, Space, Tracer, api, calls_in, cpu_seconds, kernel_name, memory_kib, start_director, wait_until

IDLE_S = 20
AGENT_VIPS = 100
TRACED = (100, 10)  # services and backends of the run under strace


# ---------------------------------------------------------------- what is measured


def through_api(args, name, directory, vips=False):
    """The whole table by PUTs, then a GET for each service; and how long a restart takes with that table."""
    space = Space(name)
    director = start_director(args, space, directory, vips)
    figures = {"idle_kib": memory_kib(director.pid, "VmRSS")}
    cpu, messages = cpu_seconds(director.pid), space.get("/status")["kernel_messages"]
    figures |= api(args, space, "put", args.services, args.backends)
    figures |= {
        "cpu_seconds": round(cpu_seconds(director.pid) - cpu, 2),
        "kernel_messages": space.get("/status")["kernel_messages"] - messages,
        "peak_kib": memory_kib(director.pid, "VmHWM"),
    }
    figures["get"] = api(args, space, "get", args.services, args.backends)
    made = space.table()
    director.stop()
    begin = time.monotonic()
    director = start_director(args, space, directory, vips)
    figures["restart_seconds"] = round(time.monotonic() - begin, 2)
    if space.table() != made:
        raise SystemExit("bench: the table was another one after a restart")
    director.stop()
    return figures, made


def through_ipvsadm(args, directory, made):
    """The same lines; ipvsadm wants services before their destinations."""
    space = Space("ipvsadm")
    lines = [line for line in made if line.startswith("-A")] + [line for line in made if line.startswith("-a")]
    figures = space.measure(args, f"{directory}/usage", "ipvsadm", "-R", input="\n".join(lines) + "\n")
    if space.table() != made:
        raise SystemExit("bench: the two tables differ")
    return {"requests": len(lines), "seconds": figures["seconds"], "cpu_seconds": round(figures["cpu"], 2), "peak_kib": figures["peak_kib"]}


def calls_a_request(path, requests):
    calls, clock = calls_in(path)
    top = sorted(calls.items(), key=lambda c: -c[1])
    return {"requests": requests, "per_request": round(sum(calls.values()) / requests, 2), "clock_per_request": round(clock / requests, 2),
            "top": {name: round(n / requests, 2) for name, n in top if n * 20 >= requests}}  # fmt: skip


def system_calls(args, directory):
    """Of director and ipvsadm for each request, in a smaller run: strace is slow. It is attached for the phase only."""
    space = Space("strace")
    director = start_director(args, space, directory)
    found = {}
    for what in ("put", "get"):
        tracer = Tracer(director.pid, f"{directory}/strace.{what}")
        requests = api(args, space, what, *TRACED)["requests"]
        tracer.stop()
        found[what] = calls_a_request(tracer.out, requests)
    made = space.table()
    director.stop()
    space, out = Space("strace2"), f"{directory}/strace.ipvsadm"
    lines = [line for line in made if line.startswith("-A")] + [line for line in made if line.startswith("-a")]
    space.run("strace", "-c", "-f", "-o", out, "ipvsadm", "-R", input="\n".join(lines) + "\n")
    found["ipvsadm"] = calls_a_request(out, len(lines))
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
                       "drain": "0s", "backends": {f"s{i}": {"method": "dr", "check": "none"} for i in range(vips)}, "log_level": "warning"}, f)  # fmt: skip
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
    print(f"\nKernel: {kernel_name()}. The store is on a tmpfs, where fsync costs nothing, except in the second column, whose time")
    print("is the disk's (user-mode Linux counts waiting for it as CPU). IPVS messages of ipvsadm: it asks for the netlink family before each.")
    print("A virtual machine among others: seconds vary by a fifth and more between runs, the ratios of one run less.")


def run(args, fresh, disk):
    result = {"services": args.services, "backends": args.backends}
    result["api"], made = through_api(args, "api", fresh("api"))
    result["ipvsadm"] = through_ipvsadm(args, fresh("ipvsadm"), made)
    result["api_on_disk"], on_disk = through_api(args, "disk", disk)
    result["api_with_vips"], with_vips = through_api(args, "vips", fresh("vips"), vips=True)
    if not made == on_disk == with_vips:
        raise SystemExit("bench: the tables of the three runs differ")
    result["system_calls"] = system_calls(args, fresh("strace"))
    result["idle"] = idle(args, fresh("idle"))
    show(args, result)
    return result
