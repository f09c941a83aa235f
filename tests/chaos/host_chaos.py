#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random events on a real server's host: what the agent made is deleted, set down, overwritten; devices come and go;
routes change; the agent is killed, the director restarted, services come and go. Again and again the host must become
what the services ask for, as the kernel shows it, and after a stop it must be as it was before the first start. With
--lockdown the rules of nftables that guard the tunnels are among what is flushed, deleted and altered.

Run by scripts/chaos host, inside the lab.
"""

import argparse
import json
import os
import random
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lab"))

from daemons import Agent, Director  # noqa: E402
from net import wait_for  # noqa: E402
from test_agent import assert_as_before, snapshot  # noqa: E402
from topology import routed_topology  # noqa: E402

RIP = "10.2.0.101"
# name: backend of the agent, VIPs to choose from, device, port of the service
SERVICES = {
    "d4": ({"method": "dr"}, [f"10.100.0.{n}" for n in (1, 2)], "lo"),
    "d6": ({"method": "dr"}, ["fd00:100::1", "fd00:100::2"], "lo"),
    "b4": ({"method": "dr", "device": "brass0"}, ["10.100.0.11", "10.100.0.12"], "brass0"),
    "t4": ({"method": "ipip"}, [f"10.100.0.{n}" for n in (21, 22)], "brass-ipip"),
    "t6": ({"method": "ipip"}, ["fd00:100::21", "fd00:100::22"], "brass-sit"),
    "u4": ({"method": "gue"}, [f"10.100.0.{n}" for n in (31, 32)], "brass-ipip"),
    "g4": ({"method": "gre"}, [f"10.100.0.{n}" for n in (41, 42)], "brass-gre"),
    "n4": ({"method": "nat", "port": 8080}, ["10.100.0.51"], None),
}
TUNNELS = ("t4", "t6", "u4", "g4")
DEVICES = {"brass0", "brass-ipip", "brass-sit", "brass-gre"}
SETTINGS = ("arp_ignore", "arp_announce", "rp_filter")
OVERHEAD = {"t4": 20, "t6": 20, "u4": 32, "g4": 24}


# with lockdown: what is looked at by protocol for each service, and by port
LOCKS = {"t4": ["meta l4proto ipencap"], "t6": ["meta l4proto ipv6"], "g4": ["meta l4proto gre"], "u4": ["meta l4proto ipencap", "udp dport 6080"]}
DIRECTOR = "10.1.0.10"
OUR_TABLE = "inet brass-agent"
# somebody else's, which must come through it all as it is
OTHERS = """table inet filter {
  set friends { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 } }
  chain input { type filter hook input priority 0; policy accept; ip saddr @friends accept; meta l4proto { 4, 17, 41, 47 } accept; }
}
"""


class Failure(Exception):
    pass


class Run:
    def __init__(self, t, seed, lockdown):
        self.t, self.r = t, random.Random(seed)
        self.host = t.r1
        self.lockdown = lockdown
        self.patience = 60 if lockdown else 10  # seconds; every process is slow in that kernel
        self.services = {}  # name -> VIP, as the director has them
        self.foreign = set()  # (address with length, device) that we put there
        self.devices = set()  # made by us
        self.routes = set()  # of ours, in main
        self.main = [r for family in ("-4", "-6") for r in self.host.run("ip", family, "route").stdout.splitlines() if " via " in r]
        self.all = {key: self.host.sysctl(f"net/ipv4/conf/all/{key}") for key in SETTINGS}
        self.counts = {}
        if lockdown:
            self.nft(OTHERS)
        self.before, self.rules_before = snapshot(self.host), self.ruleset()
        self.director = Director(t.di)
        for name in SERVICES:
            self.make(name)
        backends = {name: backend for name, (backend, *_) in SERVICES.items()}
        more = {"lockdown": True} if lockdown else {}
        self.agent = Agent(self.host, [self.director], backends, address=RIP, gateway="10.2.0.1", check_interval="300ms", ttl="20s", drain="1s", **more)

    def ip(self, *words, six=False):
        """Whether it was possible is not asked: most things are gone half of the time."""
        return self.host.run("ip", *(["-6"] if six else []), *words, check=False).returncode == 0

    def nft(self, rules):
        """All or nothing, and likewise not asked."""
        return self.host.run("nft", "-f", "-", stdin=rules, check=False).returncode == 0

    def ruleset(self):
        """Of all tables, without counters."""
        return self.host.run("nft", "-s", "list", "ruleset").stdout if self.lockdown else ""

    # ---------------------------------------------------------------- events

    def make(self, name):
        vip = self.r.choice(SERVICES[name][1])
        self.director.make(name, host=vip, port=80)
        self.services[name] = vip

    def service_goes_or_comes(self):
        name = self.r.choice(list(SERVICES))
        if name in self.services:
            self.director.api("DELETE", f"/service/{name}")
            del self.services[name]
        else:
            self.make(name)

    def service_moves(self):
        name = self.r.choice(list(SERVICES))
        if name in self.services:
            self.director.api("DELETE", f"/service/{name}")
        self.make(name)

    def vip_deleted(self):
        name = self.r.choice([n for n in SERVICES if SERVICES[n][2]])
        vip = self.services.get(name, SERVICES[name][1][0])
        self.ip("addr", "del", f"{vip}/{128 if ':' in vip else 32}", "dev", SERVICES[name][2])

    def addresses_flushed(self):
        self.ip("addr", "flush", "dev", self.r.choice(sorted(DEVICES)))

    def vip_elsewhere(self):
        name = self.r.choice([n for n in SERVICES if SERVICES[n][2]])
        vip = self.r.choice(SERVICES[name][1])
        prefix = f"{vip}/{128 if ':' in vip else 32}"
        if self.ip("addr", "add", prefix, "dev", "eth0", *(["nodad"] if ":" in vip else [])):
            self.foreign.add((prefix, "eth0"))

    def foreign_goes(self):
        """Everything that others did and that keeps services from being right."""
        for prefix, device in sorted(self.foreign):
            self.ip("addr", "del", prefix, "dev", device)
        self.foreign.clear()
        for route in self.main:
            self.ip("route", "add", *route.split(), six=":" in route)
        for key, value in self.all.items():
            if self.host.sysctl(f"net/ipv4/conf/all/{key}") != value:
                self.host.sysctl(f"net/ipv4/conf/all/{key}", value)

    def device_deleted(self):
        self.ip("link", "del", self.r.choice(sorted(DEVICES)))

    def device_down(self):
        self.ip("link", "set", self.r.choice(sorted(DEVICES)), "down")

    def device_comes_or_goes(self):
        name = f"nic{self.r.randint(0, 4)}"
        if name in self.devices:
            self.ip("link", "del", name)
            self.devices.discard(name)
            return
        kind = self.r.choice((["type", "veth", "peer", "name", f"{name}p"], ["type", "bridge"], ["link", "eth0", "type", "macvlan"],
                              ["type", "dummy"], ["link", "eth0", "type", "vlan", "id", str(self.r.randint(2, 99))]))  # fmt: skip
        if kind[0] == "link":
            made = self.ip("link", "add", "link", "eth0", "name", name, *kind[2:])
        else:
            made = self.ip("link", "add", name, *kind)
        if made:
            self.ip("link", "set", name, "up")
            self.devices.add(name)

    def device_renamed(self):
        if not self.devices:
            return
        old = self.r.choice(sorted(self.devices))
        new = f"nic{self.r.randint(5, 9)}"
        if new not in self.devices and self.ip("link", "set", old, "down") and self.ip("link", "set", old, "name", new):
            self.devices.discard(old)
            self.devices.add(new)
            self.ip("link", "set", new, "up")

    def device_enslaved(self):
        if not self.devices:
            return
        slave, master = (self.r.choice(sorted(self.devices)) for _ in range(2))
        self.ip("link", "set", slave, *self.r.choice((["master", master], ["nomaster"])))

    def eth0_down_and_up(self):
        """The kernel throws away the routes over it, and its IPv6 addresses, as when a cable is pulled and somebody restarts networking."""
        self.ip("link", "set", "eth0", "down")
        self.ip("link", "set", "eth0", "up")
        self.ip("addr", "add", f"{self.host.v6}/64", "dev", "eth0", "nodad")
        for route in self.main:
            self.ip("route", "add", *route.split(), six=":" in route)

    def default_route_deleted(self):
        self.ip("route", "del", "default", six=self.r.random() < 0.3)

    def all_changed(self):
        key = self.r.choice(SETTINGS)
        self.host.sysctl(f"net/ipv4/conf/all/{key}", self.r.choice((0, 1, 2, 3) if key == "arp_ignore" else (0, 1, 2)))

    def settings_reset(self):
        """As by `sysctl --system`."""
        with self.host.inside():
            for device in os.listdir("/proc/sys/net/ipv4/conf"):
                for key in ("arp_ignore", "arp_announce"):
                    if device not in ("all", "default"):
                        with open(f"/proc/sys/net/ipv4/conf/{device}/{key}", "w") as f:
                            f.write("0")

    def setting_changed(self):
        key = self.r.choice(SETTINGS)
        device = self.r.choice(["eth0", *sorted(DEVICES), *sorted(self.devices)])
        path = f"/proc/sys/net/ipv4/conf/{device}/{key}"
        # rp_filter of devices that are not the agent's is not its business
        if key == "rp_filter" and device not in DEVICES:
            return
        with self.host.inside():
            if os.path.exists(path):
                with open(path, "w") as f:
                    f.write(str(self.r.choice((0, 1))))

    def rule_deleted(self):
        self.ip("rule", "del", "pref", self.r.choice(("4672", "4673")), six=self.r.random() < 0.3)

    def table_flushed(self):
        self.ip("route", "flush", "table", self.r.choice(("4672", "4673")), six=self.r.random() < 0.3)

    def route_changed(self):
        prefix = f"10.{self.r.randint(60, 69)}.0.0/16"
        if prefix in self.routes:
            self.ip("route", "del", prefix)
            self.routes.discard(prefix)
        elif self.ip("route", "add", prefix, "via", "10.2.0.1", *self.r.choice(([], ["advmss", "700"], ["mtu", "1300"]))):
            self.routes.add(prefix)

    def port_deleted(self):
        self.ip("fou", "del", "port", "6080", "local", RIP)

    def agent_killed(self):
        self.agent.kill9()
        self.agent.start()

    def agent_restarted(self):
        if self.agent.stop() != 0:
            raise Failure("the agent did not give the host back:\n" + self.agent.log()[-2000:])
        self.agent.start()

    def director_killed(self):
        self.director.kill9()
        self.director.start()

    EVENTS = [
        (vip_deleted, 20), (addresses_flushed, 5), (vip_elsewhere, 4), (foreign_goes, 6), (device_deleted, 8), (device_down, 8),
        (device_comes_or_goes, 10), (setting_changed, 20), (rule_deleted, 10), (table_flushed, 6), (route_changed, 8), (port_deleted, 4),
        (device_renamed, 4), (device_enslaved, 4), (eth0_down_and_up, 1), (default_route_deleted, 3), (all_changed, 5), (settings_reset, 2),
        (service_goes_or_comes, 8), (service_moves, 5), (agent_killed, 1), (agent_restarted, 0.5), (director_killed, 0.5),
    ]  # fmt: skip

    # ---------------------------------------------------------------- of nftables

    def ruleset_flushed(self):
        """As `systemctl reload nftables` does it: all goes, and the host's own comes back."""
        self.nft("flush ruleset\n" + OTHERS)

    def table_deleted(self):
        self.nft(f"delete table {OUR_TABLE}\n")

    def table_emptied(self):
        self.nft(f"flush table {OUR_TABLE}\n")

    def chain_flushed(self):
        self.nft(f"flush chain {OUR_TABLE} {self.r.choice(('directors', 'hidden', 'input'))}\n")

    def _some_rule(self):
        """(chain, handle) of a rule of ours by chance, None without one."""
        text = self.host.run("nft", "-a", "list", "table", *OUR_TABLE.split(), check=False).stdout
        chain, found = "", []
        for line in text.splitlines():
            if begin := re.match(r"\s+chain (\S+) \{", line):
                chain = begin[1]
            elif (handle := re.search(r"# handle (\d+)$", line)) and "hook" not in line:
                found.append((chain, handle[1]))
        return self.r.choice(found) if found else None

    def lock_rule_deleted(self):
        if rule := self._some_rule():
            self.nft(f"delete rule {OUR_TABLE} {rule[0]} handle {rule[1]}\n")

    def lock_rule_altered(self):
        if rule := self._some_rule():
            self.nft(f"replace rule {OUR_TABLE} {rule[0]} handle {rule[1]} ip saddr 192.0.2.{self.r.randint(1, 9)} counter\n")

    def director_behind_the_drop(self):
        """It is there, and lets nobody in."""
        self.nft(f"flush chain {OUR_TABLE} directors\nadd rule {OUR_TABLE} directors counter drop\nadd rule {OUR_TABLE} directors ip saddr {DIRECTOR} accept\n")

    def table_gets_company(self):
        """A chain and a set of somebody else's in the table of ours."""
        name = f"mine{self.r.randint(0, 3)}"
        self.nft(self.r.choice((
            f"add chain {OUR_TABLE} {name}\nadd rule {OUR_TABLE} {name} counter drop\n",
            f"add set {OUR_TABLE} s{name} {{ type ipv4_addr; elements = {{ 192.0.2.1 }}; }}\nadd rule {OUR_TABLE} directors ip saddr @s{name} counter\n",
            f"delete chain {OUR_TABLE} {name}\n",
        )))  # fmt: skip

    EVENTS_OF_NFTABLES = [
        (ruleset_flushed, 8), (table_deleted, 8), (table_emptied, 5), (chain_flushed, 10), (lock_rule_deleted, 15), (lock_rule_altered, 10),
        (director_behind_the_drop, 5), (table_gets_company, 8),
    ]  # fmt: skip

    # ---------------------------------------------------------------- what must be

    def _json(self, *words):
        return json.loads(self.host.run("ip", "-j", *words).stdout or "[]")

    def wrong(self):
        """What differs from what the services ask for, "" when nothing does."""
        want = {name: vip for name, vip in self.services.items() if SERVICES[name][2]}
        links = {link["ifname"]: link for link in self._json("-d", "link")}
        addresses = {(a["local"], a["prefixlen"], link["ifname"]) for link in self._json("addr") for a in link["addr_info"]}
        vips = {a for a in addresses if a[0].startswith(("10.100.", "fd00:100:"))}
        right = {(vip, 128 if ":" in vip else 32, SERVICES[name][2]) for name, vip in want.items()}
        if vips != right:
            return f"VIPs {sorted(vips)}, should be {sorted(right)}"
        devices = {SERVICES[name][2] for name in want} - {"lo"}
        if DEVICES & links.keys() != devices:
            return f"devices {DEVICES & links.keys()}, should be {devices}"
        down = [d for d in devices if "UP" not in links[d]["flags"]]
        if down:
            return f"{down} are down"
        quiet = any(":" not in vip for vip in want.values())
        for name, link in links.items():
            if quiet and link["link_type"] == "ether" and "NOARP" not in link["flags"]:
                found = [self.host.sysctl(f"net/ipv4/conf/{name}/{key}") for key in ("arp_ignore", "arp_announce")]
                if found[0] not in "128" or found[1] != "2":
                    return f"{name}: arp_ignore, arp_announce are {found}"
        for device in devices - {"brass0", "brass-sit"}:
            if self.host.sysctl(f"net/ipv4/conf/{device}/rp_filter") == "1":
                return f"{device}: rp_filter is 1"
        return self._wrong_routes() or (self._wrong_locks() if self.lockdown else "")

    def _wrong_routes(self):
        rules = {(r["src"], r["table"]) for family in ("-4", "-6") for r in self._json(family, "rule") if r["table"] in ("4672", "4673")}
        right = {(self.services[n], "4673") for n in TUNNELS if n in self.services} | ({(RIP, "4672")} if "n4" in self.services else set())
        if rules != right:
            return f"rules {rules}, should be {right}"
        nat = [r.get("gateway") for r in self._json("route", "show", "table", "4672")] if "n4" in self.services else ["10.2.0.1"]
        if nat != ["10.2.0.1"]:
            return f"table 4672: {nat}"
        for family in ("-4", "-6"):
            tunnels = [n for n in TUNNELS if n in self.services and (":" in self.services[n]) == (family == "-6")]
            shown = {r["dst"]: r for r in self._json(family, "route", "show", "table", "4673")} if tunnels else {}
            main = {r["dst"]: r for r in self._json(family, "route", "show", "table", "main")} if tunnels else {}
            if shown.keys() != main.keys():
                return f"copies of {sorted(shown)}, should be of {sorted(main)}"
            mss = 1500 - max((OVERHEAD[n] for n in tunnels), default=0) - (60 if family == "-6" else 40)
            for dst, route in shown.items():
                own = next((m["advmss"] for m in main[dst].get("metrics", ()) if "advmss" in m), mss)
                if route.get("gateway") != main[dst].get("gateway") or next(m["advmss"] for m in route["metrics"] if "advmss" in m) != min(own, mss):
                    return f"copy {route} of {main[dst]}, MSS should be {min(own, mss)}"
        port = "6080" in self.host.run("ip", "fou", "show").stdout
        if port != ("u4" in self.services):
            return f"port of GUE: {port}"
        return ""

    def _wrong_locks(self):
        """Ours by what they do; what others put beside them is left alone."""
        text = self.host.run("nft", "-s", "list", "table", *OUR_TABLE.split(), check=False).stdout
        right = {lock for name in LOCKS if name in self.services for lock in LOCKS[name]}
        if not right:
            return f"a table that nobody needs: {text}" if text else ""
        chains = {name: [line.strip() for line in body.splitlines()] for name, body in re.findall(r"chain (\S+) \{\n(.*?)\n\t\}", text, re.S)}
        directors = chains.get("directors", [])
        accept, drop = f"ip saddr {DIRECTOR} accept", "counter drop"
        if accept not in directors or drop not in directors or directors.index(accept) > directors.index(drop):
            return f"directors: {directors}"
        found = [line for line in chains.get("input", []) if line.startswith(f"ip daddr {RIP} ") and line.endswith(" jump directors")]
        missing = [lock for lock in right if not any(lock in line for line in found)]
        if missing or len(found) != len(right) or not any("hook input priority" in line for line in chains.get("input", [])):
            return f"locks {found}, should be of {sorted(right)}; {chains.get('input')}"
        if chains.get("hidden", [])[-1:] != ["jump directors"] and "jump directors" not in chains.get("hidden", []):
            return f"hidden: {chains.get('hidden')}"
        return ""

    def check(self):
        self.foreign_goes()
        begin = time.monotonic()
        wrong = [""]

        def right():
            wrong[0] = self.wrong()
            return not wrong[0]

        try:
            wait_for(right, self.patience)
        except AssertionError:
            raise Failure(f"after {self.patience} s: {wrong[0]}\n{self.agent.log()[-3000:]}") from None
        states = {s["service"]: s["state"] for s in (self.agent.status() or {"services": []})["services"]}
        if any(states.get(n) != "up" for n in self.services):
            wait_for(lambda: all(s["state"] == "up" for s in self.agent.status()["services"] if s["service"] in self.services), self.patience, f"all are up: {self.agent.status()}")
        return time.monotonic() - begin

    def run(self, events, check_every):
        waits, done = [], 0
        functions, weights = zip(*(self.EVENTS + (self.EVENTS_OF_NFTABLES if self.lockdown else [])))
        waits.append(self.check())
        for event in self.r.choices(functions, weights, k=events):
            event(self)
            self.counts[event.__name__] = self.counts.get(event.__name__, 0) + 1
            done += 1
            if self.r.random() < 1 / check_every:
                waits.append(self.check())
        waits.append(self.check())
        repairs = self.agent.status()["repairs"]
        if self.agent.stop() != 0:
            raise Failure("the agent did not give the host back:\n" + self.agent.log()[-2000:])
        for name in sorted(self.devices):
            self.ip("link", "del", name)
        for prefix in sorted(self.routes):
            self.ip("route", "del", prefix)
        self.foreign_goes()
        assert_as_before(self.host, self.before)
        if self.ruleset() != self.rules_before:
            raise Failure(f"nftables is not as it was:\n{self.ruleset()}\nwas:\n{self.rules_before}")
        return f"{events} events, {len(waits)} checks, each right after {max(waits):.1f} s at most; {repairs} repairs since the last start; " + ", ".join(
            f"{v} {k}" for k, v in sorted(self.counts.items())
        )


def attempt(seed, events, check_every=25, lockdown=False):
    """One run; a sentence of what was done, or Failure."""
    with routed_topology() as t:
        for name in ("r2", "r3"):
            t.servers.remove(next(s for s in t.servers if s.name == name))
        t.r1.run("ip", "fou", "show", check=False)
        return Run(t, seed, lockdown).run(events, check_every)


def main():
    p = argparse.ArgumentParser(prog="scripts/chaos host", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--events", type=int, default=2000, metavar="N", help="of each seed (default 2000)")
    p.add_argument("--seeds", default="", metavar="N,N", help="default: one by chance, printed")
    p.add_argument("--check-every", type=int, default=25, metavar="N", help="events between two checks, on average (default 25)")
    p.add_argument("--lockdown", action="store_true", help="with tunnels locked and events of nftables; runs in QEMU's kernel, which has it")
    p.add_argument("--directory", metavar="DIR", help=argparse.SUPPRESS)
    options = p.parse_args()
    failed = 0
    for seed in [int(s) for s in options.seeds.split(",") if s] or [random.randrange(2**31)]:
        print(f"seed {seed}: {options.events} events", flush=True)
        begin = time.monotonic()
        try:
            print(f"seed {seed}: {attempt(seed, options.events, options.check_every, options.lockdown)} ({time.monotonic() - begin:.0f} s)", flush=True)
        except (Failure, AssertionError) as error:
            print(f"seed {seed}: FAILED: {error}", flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
