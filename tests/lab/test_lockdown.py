# SPDX-License-Identifier: Apache-2.0
"""Tunnel packets come in from the directors only. What a stranger sends is looked for at a program's socket."""

import json
import re
import socket

import forge
import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import assert_as_before, service, snapshot, wait_state, wait_weights
from topology import ipvs, load, load_start, routed_topology, serve

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
    agent = Agent(t.r1, [director], backends, address=t.r1.v6 if outer == 6 else t.r1.v4, ttl="5s", **config)
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
        assert agent.stop() == 0

        agent.config.pop("lockdown")
        agent.configure()
        agent.start()
        all_up(agent)
        assert agent.status()["lockdown"] == {"state": "on", "dropped": 0}
        forge_all(t.cl, to)
        wait_for(lambda: dropped(agent) == len(VIPS), what=f"all of it is dropped: {ruleset(t.r1)}")
        forge.send_whole(t.cl, to, forge.fragments(own, to, protocol, data, 64))
        wait_for(lambda: dropped(agent) == len(VIPS) + 1, what="fragments are dropped")
        if outer == 6:
            udp = forge.header(own, to, 17, 0)[:0] + b"\x03\xe8" + PORT.to_bytes(2, "big") + b"\0\x0c\0\0" + b"last"
            pseudo = forge.raw(own) + forge.raw(to) + b"\0\0\0\x0c\0\0\0\x11"
            udp = udp[:6] + forge.checksum(pseudo + udp).to_bytes(2, "big") + udp[8:]
            forge.send_whole(t.cl, to, forge.hidden(own, to, protocol, data))
            forge.send_whole(t.cl, to, forge.fragments(own, to, 17, udp, 8))
            got = set()
            wait_for(lambda: (got.update(received(sockets)), "last" in got)[1], what="other fragments arrive")
            assert got == {"last"}, "and what was sent before it does not"
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
