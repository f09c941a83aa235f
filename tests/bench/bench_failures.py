# SPDX-License-Identifier: Apache-2.0
"""What clients see of a real server that fails, until who checks it has noticed: brass-director alone, with an agent on the
host, and keepalived, with the same interval, time limit and number of failures. One of three real servers fails."""

import os
import signal
import sys
import time

from harness import kernel_name

RATE, TIMEOUT_MS = 1000, 1000  # of clients
BEFORE_S, AFTER_S = 2, 12
FALL = 2
PULSE = {"interval": "1s", "timeout": "1s"}
KEEPALIVED = {
    "tcp": "TCP_CHECK {\n connect_timeout 1\n retry 1\n delay_before_retry 1\n }",
    "http": "HTTP_GET {\n url {\n path /health\n status_code 200\n }\n connect_timeout 1\n retry 1\n delay_before_retry 1\n }",
}


def lab(args):
    """The scenarios' own hosts and daemons."""
    os.environ["BRASS_BUILD"] = args.build
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lab"))
    import daemons
    import topology

    return topology, daemons


# ---------------------------------------------------------------- who checks


class Brass:
    def __init__(self, title, kind, agent=False):
        self.title, self.kind, self.agent = title, kind, agent

    def start(self, t, topology, daemons):
        pulse = {"type": self.kind, **PULSE, "args": {"path": "/health"} if self.kind == "http" else {}}
        director = daemons.Director(t.di)
        director.make("web", host=t.vip, port=80, method="rr", pulse=pulse, judge={"rise": 1, "fall": FALL})
        for server in t.servers:
            if self.agent:
                daemons.Agent(server, [director], {"web": {"method": "dr", "check": "listen"}})
            else:
                prepare(t, server)
                director.make(f"web/{server.name}", host=server.v4, method="dr", pulse=pulse)


class Keepalived:
    def __init__(self, title, kind):
        self.title, self.kind = title, kind

    def start(self, t, topology, daemons):
        for server in t.servers:
            prepare(t, server)
        t.di.ip(f"addr add {t.vip}/32 dev lo")
        path = os.path.join(t.di.directory("keepalived"), "keepalived.conf")
        with open(path, "w") as f:
            f.write(f"global_defs {{\n router_id bench\n}}\nvirtual_server {t.vip} 80 {{\n delay_loop 1\n lb_algo rr\n lb_kind DR\n protocol TCP\n")
            f.writelines(f" real_server {server.v4} 80 {{\n weight 100\n {KEEPALIVED[self.kind]}\n }}\n" for server in t.servers)
            f.write("}\n")
        t.di.start("keepalived", "-n", "-C", "-f", path, "-p", path + ".pid", "-c", path + ".checkers")


def prepare(t, server):
    server.no_arp()
    server.ip(f"addr add {t.vip} dev lo")


WHO = (
    Brass("brass, tcp", "tcp"),
    Brass("brass, http", "http"),
    Brass("brass + agent, http", "http", agent=True),
    Keepalived("keepalived, TCP_CHECK", "tcp"),
    Keepalived("keepalived, HTTP_GET", "http"),
)

FAULTS = (
    ("program killed", lambda t, program: program.kill()),
    ("program frozen", lambda t, program: program.signal(signal.SIGSTOP)),
    ("host unplugged", lambda t, program: t.unplug(t.r1)),
    ("30 % of packets lost", lambda t, program: t.lose(t.r1, 30)),
    ("answers take 3 s", lambda t, program: program.tire()),
)


# ---------------------------------------------------------------- one failure


def one(args, who, fault):
    topology, daemons = lab(args)
    with topology.dr_topology() as t:
        programs = [topology.serve(server) for server in t.servers]
        who.start(t, topology, daemons)

        def weights():
            table = topology.ipvs(t.di).get(f"TCP {t.vip}:80") or []
            return {dest.rs.rsplit(":", 1)[0]: dest.weight for dest in table}

        topology.wait_for(lambda: list(weights().values()) == [100] * 3, 20, f"{who.title}: all are up")
        running = topology.load_start(t.cl, t.vip, rate=RATE, timeout=TIMEOUT_MS, c=2000)
        time.sleep(BEFORE_S)
        broken = time.time()
        fault(t, programs[0])
        out = None
        while time.time() < broken + AFTER_S:
            if out is None and not weights().get(t.r1.v4):
                out = time.time() - broken
            time.sleep(0.1)
        counts = running.finish()
        # what failed before has other reasons, and the measurement would say nothing
        begun = counts["failed_begun_ms"]
        if begun and begun[0] < broken * 1000 - TIMEOUT_MS - 200:
            raise SystemExit(f"bench: {who.title}: requests failed before the fault: {counts}")
        at_end = weights().get(t.r1.v4, 0)
        return {
            "requests": counts["requests"],
            "failed": counts["failed"],
            "seconds": (begun[1] - max(begun[0], broken * 1000)) / 1000 if begun else 0,
            "rate": counts["requests"] / (BEFORE_S + AFTER_S),
            "reasons": counts["reasons"],
            "out": out,
            "in_at_end": at_end > 0,
        }


def cell(found):
    if found["out"] is None:
        return f"{found['failed']:,}, never out"
    return f"{found['failed']:,} in {found['seconds']:.1f} s" + (", back again" if found["in_at_end"] else "")


def run(args, fresh, _disk):
    os.chdir(fresh("failures"))
    print(f"\nOne of three real servers (dr, rr) fails; {RATE:,} requests a second, each a new connection, failed without an answer within {TIMEOUT_MS / 1000:g} s.")
    print(f"Interval 1 s, time limit 1 s, out after {FALL} failures in a row. Failed requests of {AFTER_S} s after the fault, and how long they went on.\n")
    print("| fault | " + " | ".join(who.title for who in WHO) + " |\n|---" + "|---" * len(WHO) + "|", flush=True)
    result = {}
    for title, fault in FAULTS:
        found = result[title] = {who.title: one(args, who, fault) for who in WHO}
        print(f"| {title} | " + " | ".join(cell(found[who.title]) for who in WHO) + " |", flush=True)
    rates = [f["rate"] for found in result.values() for f in found.values()]
    print(f"\nRequests a second that were really begun: {min(rates):.0f} to {max(rates):.0f}. Kernel: {kernel_name()}.")
    return result
