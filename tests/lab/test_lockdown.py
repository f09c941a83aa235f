# SPDX-License-Identifier: Apache-2.0
"""Tunnel packets come in from the directors only. What a stranger sends is looked for at a program's socket."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time

import forge
import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import assert_as_before, snapshot, wait_state, wait_weights
from topology import load, load_start, routed_topology, serve

qemu = pytest.mark.qemu
STRANGER = {4: "198.51.100.7", 6: "2001:db8:7::7"}  # inside
PORT = 7000
VIPS = {(method, inner): (f"10.100.0.{n}" if inner == 4 else f"fd00:100::{n}") for n, (method, inner) in
        enumerate([(m, f) for m in ("ipip", "gue", "gre") for f in (4, 6)], 1)}  # fmt: skip


def names(method, inner):
    return f"{method}{inner}"


def everything(t, outer, **config):
    """A director, and on r1 an agent with each kind of tunnel over this family."""
    director = Director(t.di)
    for (method, inner), vip in VIPS.items():
        director.make(names(method, inner), host=vip, port=80)
    t.r1.sysctl("net.ipv4.conf.all.rp_filter", 0)
    backends = {names(*key): {"method": key[0]} for key in VIPS}
    agent = Agent(t.r1, [director], backends, address=t.r1.v6 if outer == 6 else t.r1.v4, **{"ttl": "5s", **config})
    all_up(agent)
    return director, agent


def all_up(agent):
    wait_for(lambda: [s["state"] for s in agent.status()["services"]] == ["up"] * len(agent.status()["services"]), 60, f"all is up: {agent.status()}")


def listening(host):
    """Sockets that get what comes to the VIPs."""
    sockets = []
    with host.inside():
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            s = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((any_address, PORT))
            s.setblocking(False)
            sockets.append(s)
    return sockets


def received(sockets):
    texts = set()
    for s in sockets:
        try:
            while True:
                texts.add(s.recv(2000).decode())
        except BlockingIOError:
            pass
    return texts


def inner_packet(method, inner, text=None, size=0):
    text = (text or names(method, inner)).encode().ljust(size, b".")
    return forge.datagram(STRANGER[inner], VIPS[method, inner], PORT, text)


def forge_all(host, to):
    for method, inner in VIPS:
        forge.send(host, to, method, inner_packet(method, inner))


def dropped(agent):
    return agent.status()["lockdown"]["dropped"]


def ruleset(host, *options):
    return host.run("nft", *options, "list", "ruleset").stdout


def rules_of(host, chain):
    """As nft prints them, without the numbers of counters."""
    text = host.run("nft", "list", "chain", "inet", "brass-agent", chain, check=False).stdout
    return sorted(re.sub(r"packets \d+ bytes \d+ ", "", line.strip()) for line in text.splitlines()[2:-2] if "hook" not in line)


OTHERS = """
table inet filter {
  chain input { type filter hook input priority 0; policy accept; meta l4proto { 4, 17, 41, 47 } accept; }
}
"""


@qemu
@pytest.mark.parametrize("outer", (4, 6))
def test_a_strangers_packets_reach_the_program_only_without_it(outer):
    with routed_topology() as t:
        to = t.r1.v6 if outer == 6 else t.r1.v4
        own = t.cl.v6 if outer == 6 else t.cl.v4
        t.r1.run("nft", "-f", "-", stdin=OTHERS)
        others = ruleset(t.r1)
        serve(t.r1)
        before = snapshot(t.r1)
        everyone = {names(*key) for key in VIPS}
        # the control
        director, agent = everything(t, outer, lockdown=False)
        assert agent.status()["lockdown"] == {"state": "off"} and ruleset(t.r1) == others
        sockets = listening(t.r1)
        got = set()
        forge_all(t.cl, to)
        wait_for(lambda: (got.update(received(sockets)), got == everyone)[1], what=f"all of it arrives: {got}")
        protocol, data = forge.wrapped("ipip", inner_packet("ipip", 6, "cut", 300))
        forge.send_whole(t.cl, to, forge.fragments(own, to, protocol, data, 64))
        wait_for(lambda: any(text.startswith("cut") for text in received(sockets)), what="fragments arrive")
        if outer == 6:
            forge.send_whole(t.cl, to, forge.hidden(own, to, protocol, data))
            wait_for(lambda: any(text.startswith("cut") for text in received(sockets)), what="so does what they hide")
        assert agent.stop() == 0

        agent.config.pop("lockdown")
        agent.configure()
        agent.start()
        all_up(agent)
        assert agent.status()["lockdown"] == {"state": "on", "dropped": 0}
        forge_all(t.cl, to)
        wait_for(lambda: dropped(agent) == len(VIPS), what=f"all of it is dropped: {ruleset(t.r1)}")
        forge.send_whole(t.cl, to, forge.fragments(own, to, protocol, data, 64))
        # IPv4 is put together first; of IPv6 each says what is in it
        wait_for(lambda: dropped(agent) == len(VIPS) + (2 if outer == 6 else 1), what="fragments are dropped")
        if outer == 6:
            # one that does not say what is in it is dropped, and what is no tunnel packet gets through in pieces as well
            forge.send_whole(t.cl, to, forge.hidden(own, to, protocol, data))
            wait_for(lambda: dropped(agent) == len(VIPS) + 3, what="what is hidden is dropped")
            forge.send_whole(t.cl, to, forge.fragments(own, to, 17, forge.datagram(own, to, PORT, b"plain")[40:], 8))
            got = set()
            wait_for(lambda: (got.update(received(sockets)), "plain" in got)[1], what="other fragments arrive")
            assert got == {"plain"}
        assert received(sockets) == set()
        # who may
        assert load(t.cl, VIPS["ipip", 4], n=3)["ok"] == load(t.cl, VIPS["ipip", 6], n=3)["ok"] == 3
        forge_all(t.di, to)
        got = set()
        wait_for(lambda: (got.update(received(sockets)), got == everyone)[1], what=f"a director's packets arrive: {got}")
        assert "lockdown  on;" in agent.command("status").stdout
        assert agent.stop() == 0
        assert ruleset(t.r1) == others
        assert_as_before(t.r1, before)


@qemu
def test_what_it_takes_from_others_and_for_how_long(measured):
    """Traffic of every kind flows while the rules change; what somebody takes away comes back; a restart takes over."""
    with routed_topology() as t:
        serve(t.r1)
        director, agent = everything(t, 4, check_interval="1h")  # the kernel says when rules change
        loads = [load_start(t.cl, vip, 80, c=1, rate=5, timeout=20000) for vip in VIPS.values()]
        first = rules_of(t.r1, "directors")
        for n in range(50):
            t.r1.ip(f"link add other type ipip local {t.r1.v4} remote 10.9.8.{n + 1}", "link set other up")
            wait_for(lambda: f"meta l4proto ipencap ip saddr 10.9.8.{n + 1}" in agent.log() or f"saddr 10.9.8.{n + 1} meta l4proto 4 accept" in agent.log(), 20, "the other tunnel is let in")
            t.r1.ip("link del other")
            wait_for(lambda: agent.log().count("nft delete rule") == n + 1, 20, "it is not let in any more")
        assert rules_of(t.r1, "directors") == first
        for command in ("flush ruleset", "flush chain inet brass-agent directors", "flush chain inet brass-agent input", "delete table inet brass-agent"):
            locks = rules_of(t.r1, "input")
            t.r1.run("nft", *command.split())
            wait_for(lambda: rules_of(t.r1, "directors") == first and rules_of(t.r1, "input") == locks, 10, f"the rules are back after nft {command}")
        counts = [made.finish() for made in loads]
        assert [c["failed"] for c in counts] == [0] * len(VIPS) and min(c["ok"] for c in counts) > 20, counts
        measured(f"lockdown: {sum(c['ok'] for c in counts)} requests by 6 kinds of tunnel while the rules changed 100 times and were taken away 4 times: none failed")
        assert agent.status()["repairs"] >= 4
        # VmRSS of status lags behind where a kernel counts by CPU
        with open(f"/proc/{agent.process.popen.pid}/smaps_rollup") as f:
            resident = next(line.split()[1] for line in f if line.startswith("Rss:"))
        measured(f"lockdown: the agent has {resident} kB resident in the midst of it")

        # the agent is killed
        before = ruleset(t.r1, "-a", "-s")
        agent.kill9()
        forge.send(t.cl, t.r1.v4, "ipip", inner_packet("ipip", 4))
        agent.start()
        all_up(agent)
        assert ruleset(t.r1, "-a", "-s") == before, "nothing was made anew"
        assert dropped(agent) == 1, "it was locked meanwhile"

        # the director sends from another address
        t.di.ip("addr add 10.1.0.20/24 dev eth0", "route change default via 10.1.0.1 src 10.1.0.20")
        wait_for(lambda: "ip saddr 10.1.0.20 accept" in rules_of(t.r1, "directors"), 10, "it is let in")
        with t.r1.capture("eth0", "ip proto 4") as seen:
            assert load(t.cl, VIPS["ipip", 4], n=3)["ok"] == 3
        assert any("10.1.0.20 > 10.2.0.101" in p.text for p in seen.packets())
        t.di.ip("route change default via 10.1.0.1", "addr del 10.1.0.20/24 dev eth0")
        wait_for(lambda: "ip saddr 10.1.0.20 accept" not in rules_of(t.r1, "directors"), 10, "it is not any more")
        # a command that is printed does what the agent does: one on r2 finds everything there
        for line in agent.status()["resources"]:
            if line.startswith("nft "):
                t.r2.run("sh", "-c", line.replace(t.r1.v4, t.r2.v4))
        second = Agent(t.r2, [director], agent.config["backends"], address=t.r2.v4)
        all_up(second)
        assert second.log().count("nft ") == 0 and rules_of(t.r2, "directors") == first
        for host in (t.r1, t.r2):
            lines = host.run("nft", "list", "chain", "inet", "brass-agent", "directors").stdout.splitlines()
            assert lines[-3].endswith(" drop"), lines  # behind all that are let in


@qemu
def test_somebody_elses_tunnels():
    with routed_topology() as t:
        r1 = t.r1
        r1.ip(f"link add mine type ipip local {r1.v4} remote {t.cl.v4}", "link set mine up", "addr add 192.0.2.1/32 dev mine")
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        director.make("six", host=t.vip6, port=80)
        agent = Agent(r1, [director], {"web": {"method": "ipip"}, "six": {"method": "ipip"}}, address=r1.v4, ttl="5s")
        all_up(agent)
        inner = forge.datagram("192.0.2.2", "192.0.2.1", PORT, b"mine")
        forge.send(t.cl, r1.v4, "ipip", inner)
        wait_for(lambda: r1.bytes("mine")[0] > 0, what="its packets are its own")
        forge.send(t.rb, r1.v4, "ipip", inner)
        wait_for(lambda: dropped(agent) == 1, what="others' are dropped")
        forge.send(t.cl, r1.v4, "ipip", forge.datagram("2001:db8::1", "2001:db8::2", PORT, b"six"))
        wait_for(lambda: dropped(agent) == 2, what="and those of another protocol")
        # one that takes from anybody
        r1.ip("link set tunl0 up")
        wait_for(lambda: "l4proto ipencap" not in ruleset(r1), 10, "that protocol is not locked")
        assert agent.status()["lockdown"]["state"] == "off for what device tunl0 takes from anybody (ipip)"
        assert any("l4proto ipv6" in line for line in rules_of(r1, "input"))
        assert [s["state"] for s in agent.status()["services"]] == ["up", "up"]
        agent.stop()
        agent.configure(lockdown=["10.9.0.0/24", "192.0.2.0/26", "fd00:77::/64"])
        agent.start()
        all_up(agent)
        assert "ip saddr 10.9.0.0/24 accept" in rules_of(r1, "directors") and any("ipencap" in line for line in rules_of(r1, "input"))
        got = listening(r1)
        r1.sysctl("net.ipv4.conf.all.rp_filter", 0)
        forge.send(t.ro, r1.v4, "ipip", forge.datagram(STRANGER[4], t.vip, PORT, b"allowed"))
        texts = set()
        wait_for(lambda: (texts.update(received(got)), "allowed" in texts)[1], what="who is named may send")
        # a table of that name that is somebody else's
        agent.stop()
        r1.run("nft", "-f", "-", stdin="table inet brass-agent { chain input { type filter hook output priority 0; }; }")
        agent.launch()
        state = wait_state(agent, "down", timeout=20)
        assert "nft delete table inet brass-agent" in state["reason"] and not r1.link("brass-ipip")
        r1.run("nft", "delete", "table", "inet", "brass-agent")
        all_up(agent)


def doctor(agent, *words):
    """What it complains of."""
    done = agent.command("doctor", "--json", *words, check=False)
    found = [f for f in json.loads(done.stdout)["findings"] if f["status"] != "ok"]
    assert done.returncode == (2 if any(f["status"] == "wrong" for f in found) else 1 if found else 0) and not done.stderr, done
    return found


@qemu
@pytest.mark.parametrize("outer", (4, 6))
def test_the_doctor_beside_the_lockdown(outer):
    """A host that is well has nothing to hear of it; a director that the table has not is named, whatever the tunnel."""
    with routed_topology() as t:
        serve(t.r1)
        # clients' packets come to the very address that is locked, too
        gateway = "fd00:2::10" if outer == 6 else "10.2.0.10"
        nat = {"host": "fd00:100::99" if outer == 6 else "10.100.0.99", "port": 80, "method": "nat", "gateway": gateway}
        director, agent = everything(t, outer, static=[nat], ttl="1h")
        assert agent.status()["lockdown"]["state"] == "on"
        assert doctor(agent) == []
        agent.kill9()
        assert doctor(agent) == []
        family, own, to = ("ip6", t.di.v6, t.r1.v6) if outer == 6 else ("ip", t.di.v4, t.r1.v4)
        handle = re.search(rf"{family} saddr {own} accept # handle (\d+)", t.r1.run("nft", "-a", "list", "table", "inet", "brass-agent").stdout)[1]
        before = rules_of(t.r1, "directors")
        t.r1.run("nft", "delete", "rule", "inet", "brass-agent", "directors", "handle", handle)
        assert not any(load(t.cl, vip, n=1, timeout=500)["ok"] for vip in VIPS.values())
        found = doctor(agent)
        assert {f["service"] for f in found} == {names(*key) for key in VIPS}, found
        for f in found:
            assert f["check"] == "filter" and f["status"] == "wrong", f
            assert re.fullmatch(rf"the director's tunnel packets are dropped by nft inet, table brass-agent, chain directors, rule handle \d+: they come from {own}", f["evidence"]), f
            assert f["mend"] == f"nft 'insert rule inet brass-agent directors {family} saddr {own} accept'", f
        t.r1.run("sh", "-c", found[0]["mend"])
        assert doctor(agent) == [] and all(load(t.cl, vip, n=1)["ok"] for vip in VIPS.values())
        # an agent knows the rule again, and knows as well that one behind the drop lets nobody in
        agent.start()
        all_up(agent)
        assert rules_of(t.r1, "directors") == before and agent.log().count("nft insert rule") + agent.log().count("nft 'insert rule") == 1, agent.log()
        handle = re.search(rf"{family} saddr {own} accept # handle (\d+)", t.r1.run("nft", "-a", "list", "table", "inet", "brass-agent").stdout)[1]
        t.r1.run("nft", "-f", "-", stdin=f"add rule inet brass-agent directors {family} saddr {own} accept\ndelete rule inet brass-agent directors handle {handle}\n")
        wait_for(lambda: all(load(t.cl, vip, n=1, timeout=500)["ok"] for vip in VIPS.values()), 20, "the agent lets it in again")


class Owner:
    """A program that has a table inet brass-agent of its own: the kernel lets nobody else change it (NFT_TABLE_F_OWNER)."""

    def __init__(self, host, text):
        with host.inside():
            self.process = subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.process.stdin.write(f"delete table inet brass-agent; {text}\n")
        self.process.stdin.flush()
        wait_for(lambda: "flags owner" in ruleset(host) or self.process.poll() is not None, 20, "the table is owned")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()


# whole but for locks and who is let in
OWNED = """add table inet brass-agent { flags owner; }; add chain inet brass-agent directors; add chain inet brass-agent hidden;
add chain inet brass-agent input { type filter hook input priority -10; }; add rule inet brass-agent directors counter drop;
add rule inet brass-agent hidden @th,0,32 >= 0 return; add rule inet brass-agent hidden jump directors""".replace("\n", " ")


@contextlib.contextmanager
def modprobe_noted(host):
    """What the kernel has modprobe run for, as a function."""
    path, log = "/proc/sys/kernel/modprobe", os.path.join(host.directory("modprobe"), "log")
    with open(path) as f:
        real = f.read()
    script = log + ".sh"
    with open(script, "w") as f:
        f.write(f'#!/bin/sh\necho "$@" >>{log}\nexec {real.strip()} "$@"\n')
    os.chmod(script, 0o755)
    open(log, "w").close()
    try:
        with open(path, "w") as f:
            f.write(script)
        yield lambda: open(log).read()
    finally:
        with open(path, "w") as f:
            f.write(real)


@qemu
def test_no_tunnel_where_a_lock_is_refused():
    with routed_topology() as t, modprobe_noted(t.r1) as asked_for:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "ipip"}, "six": {"method": "ipip"}, "plain": {}}, address=t.r1.v4, ttl="5s")
        web = lambda: next(s for s in agent.status()["services"] if s["service"] == "web")
        wait_for(lambda: web()["state"] == "up", 20, "it is up")
        with Owner(t.r1, OWNED):
            wait_for(lambda: web()["state"] == "down", 20, "the lock is not there")
            assert re.search(r"nft '(insert|add) rule inet brass-agent .* not permitted", web()["reason"], re.S), web()
            director.make("six", host=t.vip6, port=80)
            director.make("plain", host="10.100.0.9", port=80)
            six = lambda: {s["service"]: s for s in agent.status()["services"]}
            wait_for(lambda: six()["plain"]["state"] == "up" and six()["six"]["state"] == "down", 20, f"both are known: {six()}")
            assert "not permitted" in six()["six"]["reason"], six()
            problems = agent.status()["problems"]
            assert any("brass-sit" in text and "not added, because anybody could send into it" in text for text in map(str, problems)), problems
            # a device that is not there is not looked for among modules, as ip(8) does below: that takes its time
            assert "brass-" not in asked_for(), asked_for()
            assert not t.r1.link("brass-sit") and t.vip6 not in str(t.r1.addresses("lo"))
            # nor does an agent that starts now open one
            agent.kill9()
            t.r1.ip("link del brass-ipip")
            agent.start()
            wait_for(lambda: [s["state"] for s in agent.status()["services"]] == ["up", "down", "down"], 20, f"it has looked: {agent.status()}")
            assert not t.r1.link("brass-sit") and not t.r1.link("brass-ipip")
        all_up(agent)
        assert t.r1.link("brass-sit") and len(rules_of(t.r1, "input")) == 2
        assert agent.stop() == 0 and ruleset(t.r1) == ""


@qemu
def test_nftables_that_comes_later_is_used():
    with routed_topology() as t:
        path = "/proc/sys/kernel/modprobe"
        t.r1.run("sh", "-c", "lsmod | grep -q '^nf_tables ' && modprobe -r nft_ct nft_chain_nat nf_tables_inet nf_tables || true", check=False)
        with open("/proc/modules") as f:
            if any(line.startswith("nf_tables ") for line in f):
                pytest.skip("nf_tables is in use and cannot be taken out of the kernel")
        with open(path) as f:
            real = f.read()
        try:
            with open(path, "w") as f:
                f.write("/bin/false")
            director = Director(t.di)
            director.make("web", host=t.vip, port=80)
            agent = Agent(t.r1, [director], {"web": {"method": "ipip"}}, address=t.r1.v4, ttl="5s", lockdown=True, check_interval="200ms", start=False)
            agent.launch()
            assert "no nftables" in wait_state(agent, "down", timeout=20)["reason"] and not t.r1.link("brass-ipip")
        finally:
            with open(path, "w") as f:
                f.write(real)
        wait_state(agent, "up", timeout=20)
        assert agent.status()["lockdown"]["state"] == "on" and agent.log().count("no nftables: tunnel packets") == 1
        assert agent.stop() == 0 and ruleset(t.r1) == ""


def test_a_director_says_what_its_tunnel_packets_come_from():
    with routed_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        report = {"address": t.r1.v4, "boot": "x", "backends": {"web": {"method": "ipip"}}}

        def ask(address=t.r1.v4, method="ipip", **query):
            report.update(address=address, backends={"web": {"method": method}})
            path = "/agent/r1" + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
            status, answer = director.api("PUT", path, report, timeout=30)
            assert status == 200, answer
            return answer

        assert "source" not in ask(method="dr")
        assert ask()["source"] == "10.1.0.10"
        assert ask(address=t.r1.v6)["source"] == "fd00:1::10"
        # a held request is answered when it changes
        revision = ask()["revision"]
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(ask(wait=25000, revision=revision)))
        waiting.start()
        wait_for(lambda: t.di.run("ss", "-Htn", "state", "established", "sport", "=", ":4672").stdout, what="it is being asked")
        begun = time.monotonic()
        t.di.ip("addr add 10.1.0.20/24 dev eth0", "route change default via 10.1.0.1 src 10.1.0.20")
        waiting.join(25)
        assert answers and answers[0]["source"] == "10.1.0.20" and time.monotonic() - begun < 10
        # what no route leads to any more keeps what was said last
        t.di.ip("route del default")
        assert ask()["source"] == "10.1.0.20"


@pytest.mark.uml
def test_without_nftables():
    """User-mode Linux has none. By default the agent works as if it were off, and says so; asked for, it does not."""
    with routed_topology() as t:
        serve(t.r1)
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "ipip"}}, address=t.r1.v4, ttl="5s")
        wait_state(agent, "up")
        wait_weights(director, 100)
        assert load(t.cl, t.vip, n=3)["ok"] == 3
        assert agent.status()["lockdown"] == {"state": "off: this kernel has no nftables"} and agent.status()["problems"] == []
        assert agent.log().count("warning: lockdown: this kernel has no nftables") == 1
        agent.stop()
        agent.configure(lockdown=True)
        agent.start()
        assert wait_state(agent, "down")["reason"] == "lockdown: this kernel has no nftables"
        assert not t.r1.link("brass-ipip")
