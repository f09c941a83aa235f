# SPDX-License-Identifier: Apache-2.0
"""A real server with very many VIPs: set up and taken away by the agent beside `ip -batch`; and the agent at rest."""

import json
import os
import re
import subprocess
import time

from harness import Daemon, Space, calls_in, cpu_seconds, kernel_name, memory_kib, start_director, wait_until, write_state

VIPS = 1000
IDLE_S = 60


def addresses(space):
    return space.run("ip", "-o", "addr", "show", "dev", "lo").count(" inet 10.")


class Watch:
    """When addresses of lo changed, by the kernel's own events."""

    def __init__(self, space, path):
        self.path = path
        with open(path, "w") as out:
            self.process = subprocess.Popen([*space.enter, "ip", "-rcvbuf", "8000000", "-o", "-ts", "monitor", "address"], stdout=out)

        def listens():
            for verb in ("add", "del"):
                space.run("ip", "addr", verb, "192.0.2.250/32", "dev", "lo")
            with open(path) as f:
                return "192.0.2.250" in f.read()

        wait_until(listens, "ip monitor listens")

    def span(self, count, deleted):
        """Seconds from the first to the last of so many."""

        def times():
            with open(self.path) as f:
                lines = [line for line in f if " inet 10." in line and ("Deleted" in line) == deleted]
            return [float(m[1]) * 3600 + float(m[2]) * 60 + float(m[3]) for m in (re.search(r"T(\d+):(\d+):([\d.]+)", line) for line in lines)]

        wait_until(lambda: len(times()) >= count, f"{count} addresses are {'gone' if deleted else 'there'}", 60)
        seen = times()
        return seen[-1] - seen[0]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def prepare(name):
    space = Space(name)
    space.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    space.run("ip", "link", "set", "eth0", "up")
    space.run("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
    return space


def by_hand(args, directory, strace):
    """What a person's script does: the settings, then `ip -batch`."""
    space = prepare("hand")
    found = {}
    trace = ["strace", "-c", "-f", "-o", f"{directory}/hand"] if strace else []
    for verb in ("add", "del"):
        lines = "".join(f"addr {verb} 10.{100 + i // 250}.{i % 250}.1/32 dev lo\n" for i in range(VIPS))
        watch = Watch(space, f"{directory}/hand.{verb}")
        space.run(*trace, "ip", "-batch", "-", input=lines)
        found[verb] = {"span": watch.span(VIPS, verb == "del"), "calls": sum(calls_in(f"{directory}/hand")[0].values()) if strace else 0}
        watch.stop()
    space.close()
    return found


def by_agent(args, directory, strace, idle):
    space = prepare("agent")
    director = start_director(args, space, directory)
    state = write_state(f"{directory}/state.json", VIPS, 0)
    space.run("curl", "-sSf", "-o", "/dev/null", "-X", "PUT", "http://127.0.0.1:4672/config", "-H", "Content-Type: application/json", "--data-binary", f"@{state}")
    config = f"{directory}/agent.yaml"
    with open(config, "w") as f:
        json.dump({"node": "n1", "address": "192.0.2.1", "directors": ["http://127.0.0.1:4672"], "run_dir": f"{directory}/run", "drain": "0s", "log_level": "warning",
                   "backends": {f"s{i}": {"method": "dr", "check": "none"} for i in range(VIPS)}}, f)  # fmt: skip
    out = f"{directory}/agent.strace"
    watch, found, begin = Watch(space, f"{directory}/agent.add"), {}, time.monotonic()
    trace = ["strace", "-c", "-f", "-o", out] if strace else []
    agent = Daemon(space, f"{directory}/agent", *trace, f"{args.build}/agent/brass-agent", "-c", config)
    found["add"] = {"span": watch.span(VIPS, False)}
    wait_until(lambda: agent.alive() and sum("-w 100" in line for line in space.table()) == VIPS, "all backends are up", 120)
    found["up_seconds"] = time.monotonic() - begin
    if addresses(space) != VIPS:
        raise SystemExit(f"bench: {addresses(space)} addresses, not {VIPS}")
    watch.stop()
    if not strace:
        found["cpu_seconds"] = cpu_seconds(agent.pid)
        found["kib"] = {key: memory_kib(agent.pid, key) for key in ("VmRSS", "VmHWM", "RssAnon", "RssFile")}
    if idle:
        found["idle"] = rest(agent)
    watch = Watch(space, f"{directory}/agent.del")
    begin = time.monotonic()
    if strace:  # it hands the signal on
        os.kill(agent.all_pids()[-1], 15)
        agent.process.wait()
    else:
        agent.stop()
    found["del"] = {"span": watch.span(VIPS, True)}
    found["stop_seconds"] = time.monotonic() - begin
    if addresses(space):
        raise SystemExit("bench: addresses are left")
    watch.stop()
    if strace:
        found["calls"], _ = calls_in(out)
    director.stop()
    space.close()
    return found


def switches(pid):
    with open(f"/proc/{pid}/status") as f:
        return sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)


def pss_kib(pid):
    """Its share of what several processes have mapped."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def rest(agent):
    begin = cpu_seconds(agent.pid), switches(agent.pid)
    time.sleep(IDLE_S)
    return {
        "cpu_seconds": round(cpu_seconds(agent.pid) - begin[0], 2),
        "wakeups": switches(agent.pid) - begin[1],
        **{key: memory_kib(agent.pid, key) for key in ("VmRSS", "RssAnon", "RssFile")},
        "Pss": pss_kib(agent.pid),
    }


def repairs(space, path):
    """Milliseconds from the event of a VIP's deletion to that of its return, 20 times."""
    watch, found = Watch(space, path), []
    for i in range(20):
        space.run("ip", "addr", "del", "10.1.0.1/32", "dev", "lo")
        wait_until(lambda: "10.1.0.1/32" in space.run("ip", "-o", "addr", "show", "dev", "lo"), "the VIP is back")
        time.sleep(1.2)  # ten within 10 s would be a war (agent/repairs.h)
    watch.stop()
    with open(path) as f:
        lines = [line for line in f if " 10.1.0.1/32 " in line]
    times = [(float(m[1]) * 60 + float(m[2]), "Deleted" in line) for line, m in ((line, re.search(r":(\d+):([\d.]+)\]", line)) for line in lines)]
    for (gone, was_deleted), (back, is_deleted) in zip(times, times[1:]):
        if was_deleted and not is_deleted:
            found.append((back - gone) * 1000)
    if len(found) < 20:
        raise SystemExit(f"bench: {len(found)} repairs were seen of 20")
    return {"median_ms": sorted(found)[len(found) // 2], "max_ms": max(found)}


def one_vip(args, directory):
    """At rest, as most hosts are: one VIP, a program that listens."""
    space = prepare("one")
    director = start_director(args, space, directory)
    space.run("curl", "-sSf", "-o", "/dev/null", "-X", "PUT", "http://127.0.0.1:4672/service/web", "-d", json.dumps({"host": "10.1.0.1", "port": 80}))
    server = Daemon(space, f"{directory}/server", f"{args.build}/tools/lab-serve", "one", "80")
    with open(f"{directory}/one.yaml", "w") as f:
        json.dump({"node": "n1", "address": "192.0.2.1", "directors": ["http://127.0.0.1:4672"], "run_dir": f"{directory}/run1", "drain": "0s",
                   "log_level": "warning", "backends": {"web": {"method": "dr"}}}, f)  # fmt: skip
    agent = Daemon(space, f"{directory}/one", f"{args.build}/agent/brass-agent", "-c", f"{directory}/one.yaml")
    wait_until(lambda: agent.alive() and any("-w 100" in line for line in space.table()), "it is up", 30)
    found = rest(agent) | {"repairs": repairs(space, f"{directory}/repairs")}
    for daemon in (agent, server, director):
        daemon.stop()
    space.close()
    return found


def run(args, fresh, _disk):
    with open("/proc/sys/net/core/rmem_max", "w") as f:
        f.write("16000000")  # `ip monitor` must not lose events
    r = {
        "hand": by_hand(args, fresh("hand"), False), "agent": by_agent(args, fresh("agent"), False, True),
        "hand_calls": by_hand(args, fresh("hand2"), True), "agent_calls": by_agent(args, fresh("agent2"), True, False), "one": one_vip(args, fresh("one")),
    }  # fmt: skip
    hand, agent, idle = r["hand"], r["agent"], r["agent"]["idle"]
    print(f"\n{VIPS:,} VIPs on lo (dr): from the kernel's first event to its last\n")
    print(f"  {'':28}{'ip -batch':>14}{'brass-agent':>14}{'ratio':>8}")
    for title, key in (("set up, ms", "add"), ("taken away, ms", "del")):
        a, b = hand[key]["span"] * 1000, agent[key]["span"] * 1000
        print(f"  {title:28}{a:14,.0f}{b:14,.0f}{b / a:8.2f}")
    a, b = sum(r["hand_calls"][k]["calls"] for k in ("add", "del")), sum(r["agent_calls"]["calls"].values())
    print(f"  {'system calls, both':28}{a:14,}{b:14,}{b / a:8.2f}")
    print(f"\n  agent: {agent['up_seconds']:.1f} s from its start until the director sends to all; {agent['cpu_seconds']:.2f} s CPU; stopped in {agent['stop_seconds']:.1f} s")
    print("  most calls: " + ", ".join(f"{n} {c:,}" for n, c in sorted(r["agent_calls"]["calls"].items(), key=lambda x: -x[1])[:8]))
    print(f"\nThe agent at rest for {IDLE_S} s\n")
    print(f"  {'':28}{'1 VIP':>14}{f'{VIPS:,} VIPs':>14}")
    for title, key, scale in (("CPU, s", "cpu_seconds", 1), ("wake-ups a second", "wakeups", IDLE_S), ("resident, MiB", "VmRSS", 1024), ("  its own", "RssAnon", 1024),
                              ("  of programs and libraries", "RssFile", 1024), ("proportional share, MiB", "Pss", 1024)):  # fmt: skip
        print(f"  {title:28}{r['one'][key] / scale:14.2f}{idle[key] / scale:14.2f}")
    one = r["one"]["repairs"]
    print(f"\nA VIP that somebody deletes is back after {one['median_ms']:.1f} ms (median), {one['max_ms']:.1f} ms (longest of 20)\n\nKernel: {kernel_name()}.")
    return r
