# SPDX-License-Identifier: Apache-2.0
"""`brass-agent doctor`: each test breaks one thing, sees just that named, types the command that was printed, and sees it mended.

The agent is killed first, so that nobody but the doctor's command mends anything; the lease is long.
"""

import email.utils
import json
import os
import re
import socket
import struct
import threading
import time

import forge
import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import assert_as_before, snapshot, wait_state, wait_weights
from topology import arp_answers, dr_topology, endpoint, load, nat_topology, routed_topology, serve

MENDS_MAX = 6  # one command may uncover the next: a tunnel before what stands on it


class Patient:
    """A real server with one service, set up by an agent that is dead now."""

    def __init__(self, t, host, v6=False, rip6=False, rip=None, backend=None, service=None, running=False, url=None, **config):
        self.t, self.host = t, host
        self.vip = t.vip6 if v6 else t.vip
        self.director = Director(t.di, listen=[endpoint(a, 4672) for a in (t.di.v4, t.di.v6, "127.0.0.1")])
        self.director.make("web", host=self.vip, port=80, **(service or {}))
        self.server = serve(host)
        self.agent = Agent(host, [url or self.director], {"web": {"check": "listen", **(backend or {})}}, address=rip or (host.v6 if rip6 else host.v4), ttl="1h", **config)  # fmt: skip
        wait_state(self.agent, "up", timeout=10)
        wait_weights(self.director, 100)
        if not running:
            self.agent.kill9()
            self.fine()

    def doctor(self, *words):
        """Its findings; the exit code must be that of the worst."""
        done = self.agent.command("doctor", "--json", *words, check=False)
        assert not done.stderr, done.stderr
        answer = json.loads(done.stdout)
        worst = {f["status"] for f in answer["findings"]}
        assert answer["complete"] and done.returncode == (2 if "wrong" in worst else 1 if worst - {"ok"} else 0), answer
        return answer["findings"]

    def complaints(self, *words):
        return [f for f in self.doctor(*words) if f["status"] != "ok"]

    def fine(self, *words):
        assert self.complaints(*words) == []

    def finds(self, check, *texts, status="wrong", also=(), words=()):
        """Exactly this check complains, with these texts in its first complaint, and perhaps others that follow from it."""
        found = self.complaints(*words)
        assert {f["check"] for f in found} - set(also) == {check}, found
        first = next((f for f in found if f["check"] == check and f["status"] == status), {"evidence": ""})
        assert all(text in first["evidence"] for text in texts), found
        return first

    def mend(self, *words, at=None):
        """Types what is printed until nothing is left to complain of."""
        for _ in range(MENDS_MAX):
            found = self.complaints(*words)
            if not found:
                return
            commands = [f for f in found if f["mend"]]
            assert commands, found
            host = at if commands[0]["where"] else self.host
            host.run("sh", "-c", commands[0]["mend"])
        self.fine(*words)


@pytest.fixture
def t():
    with dr_topology() as t:
        yield t


@pytest.fixture
def far():
    with routed_topology() as t:
        yield t


def served(t, vip, **options):
    return load(t.cl, vip, 80, n=1, timeout=1000, **options)["ok"] == 1


# ---------------------------------------------------------------- a host that is well


@pytest.mark.parametrize("method", ["dr", "nat", "ipip", "gue", "gre"])
@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_a_host_that_is_well_and_left_as_it_was(method, v6):
    with nat_topology() if method == "nat" else dr_topology() if method == "dr" else routed_topology() as t:
        gateway = {"gateway": "fd00:1::10" if v6 else "10.1.0.10"} if method == "nat" else {}
        p = Patient(t, t.r1, v6=v6, rip6=v6, backend={"method": method}, running=True, **gateway)
        before = snapshot(t.r1)
        p.fine()
        assert_as_before(t.r1, before)
        text = p.agent.command("doctor").stdout
        assert "host r1, address" in text and f"web: {method}, tcp " in text and "0 wrong, 0 warnings, 0 not looked at" in text, text
        assert len(text.splitlines()) < 8, text
        assert "backend     http" in p.agent.command("doctor", "-v", "web").stdout
        assert served(t, p.vip)


def test_words_that_make_no_sense(t):
    p = Patient(t, t.r1)
    for words, text in ((["nosuch"], "nosuch is no service of the configuration"), (["--client", "there"], '--client: found "there"')):
        done = p.agent.command("doctor", *words, check=False)
        assert done.returncode == 2 and text in done.stderr and not done.stdout


def test_without_permission_it_says_what_it_did_not_see(t):
    p = Patient(t, t.r1)
    t.r1.run("iptables-legacy", "-A", "INPUT", "-p", "47", "-j", "DROP")  # so that there are rules not to be seen
    done = t.r1.run("setpriv", "--reuid", "65534", "--clear-groups", p.agent.binary, "-c", p.agent.file, "doctor", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"not seen  rules +rules: ip6?tables", done.stdout) and f"not seen  duplicate   who answers for {p.vip}" in done.stdout, done.stdout
    for check in ("filter", "conntrack", "dnat"):
        assert check not in done.stdout, done.stdout


def test_vips_without_a_director():
    """In front of another balancer there is nobody to ask."""
    with dr_topology() as t:
        statics = [{"host": t.vip, "port": 80}, {"host": "10.1.0.99", "method": "ipip"}]
        agent = Agent(t.r1, static=statics, address=None)
        serve(t.r1)
        wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("lo") and agent.status()["static"][0]["state"] == "up", what="the VIP is there")
        agent.kill9()
        done = agent.command("doctor", "-v")
        assert f"{t.vip}: dr, tcp {t.vip}:80 on lo, static" in done.stdout and "10.1.0.99: ipip, tcp 10.1.0.99 on brass-ipip, static" in done.stdout
        assert "director" not in done.stdout and "lease" not in done.stdout and "clock" not in done.stdout, done.stdout
        t.r1.ip("addr del 10.1.0.99/32 dev brass-ipip")
        t.r1.run("iptables-legacy", "-A", "INPUT", "-p", "4", "-j", "DROP")
        agent.command("doctor", t.vip)
        done = agent.command("doctor", "10.1.0.99", check=False)
        assert done.returncode == 2 and "10.1.0.99 is not on brass-ipip" in done.stdout
        assert f"mend: iptables-legacy -I INPUT -d {t.r1.v4} -p 4 -j ACCEPT" in done.stdout, done.stdout
        # one host has the VIP: the balancer, one may think. Two are one too many
        t.r2.ip(f"addr add {t.vip}/32 dev lo")
        assert f"{t.r2.mac()} alone answers for {t.vip}" in agent.command("doctor", "-v", t.vip).stdout
        t.r3.ip(f"addr add {t.vip}/32 dev lo")
        done = agent.command("doctor", t.vip, check=False)
        assert done.returncode == 2 and f"wrong     duplicate   {t.r2.mac()}" in done.stdout and f"wrong     duplicate   {t.r3.mac()}" in done.stdout


def test_a_program_that_is_not_installed(t):
    """The kernel has rules and nobody prints them: not a word of them being fine."""
    p = Patient(t, t.r1)
    t.r1.run("iptables-legacy", "-A", "INPUT", "-d", p.vip, "-j", "DROP")
    # in a mount namespace of its own; iptables-save is there, but is the other kind
    hidden = f"mount --bind /dev/null /usr/sbin/xtables-legacy-multi && exec {p.agent.binary} -c {p.agent.file} doctor"
    done = t.r1.run("unshare", "-m", "sh", "-c", hidden, check=False)
    assert done.returncode == 1 and re.search(r"not seen  rules +rules: .*iptables-legacy-save is not installed", done.stdout), done.stdout + done.stderr
    assert "filter" not in done.stdout and "conntrack" not in done.stdout, done.stdout
    p.finds("filter", f"-A INPUT -d {p.vip}/32 -j DROP")
    p.mend()


# ---------------------------------------------------------------- this host's address


@pytest.fixture
def two(t):
    """The address that directors send to is on a device of its own."""
    two = t.host("two", {"eth0": ("lan", "10.1.0.140/24"), "eth1": ("lan", "10.1.0.150/24")})
    two.route("default", via="10.1.0.1", dev="eth0")
    return Patient(t, two, rip="10.1.0.150")


def test_a_device_without_carrier(two):
    two.t.unplug(two.host, "eth1")
    assert not served(two.t, two.vip)
    f = two.finds("address", "10.1.0.150 is on eth1, which has no carrier", also=["duplicate", "way in", "way out"])
    assert not f["mend"]  # a hand at the cable
    two.t.plug(two.host, "eth1")
    wait_for(lambda: two.complaints() == [], 10, "the carrier is back")
    assert served(two.t, two.vip)


def test_a_device_of_the_address_that_is_down(two):
    two.host.ip("link set eth1 down")
    f = two.finds("address", "10.1.0.150 is on eth1, which is down", also=["duplicate", "way in", "way out"])
    assert f["mend"] == "ip link set eth1 up"
    two.mend()
    wait_for(lambda: served(two.t, two.vip), 10, "it serves")


def test_an_address_that_is_not_this_hosts(t):
    p = Patient(t, t.r1)
    p.agent.configure(address="10.1.0.177")
    p.finds("address", "10.1.0.177, to which the directors send, is on no device of this host", also=["lease", "duplicate", "way in"])
    p.agent.configure(address=t.r1.v4)
    p.fine()


def test_an_address_that_nobody_knows(t):
    """No director answers, none was remembered, and no default route leads to one."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [director], {"web": {}}, address=None, static=[{"host": "10.1.0.99", "method": "ipip"}], start=False)
    t.r1.ip("route del default")
    t.r1.run("ip", "-6", "route", "del", "default")
    director.kill9()
    done = agent.command("doctor", "-v", check=False)
    assert done.returncode == 2 and re.search(r"wrong +address +this host's address is not known", done.stdout), done.stdout
    assert re.search(r"not seen +address +it cannot be looked at without this host's address", done.stdout), done.stdout
    assert re.search(rf"not seen +backend +{re.escape(director.url)} does not say what it is", done.stdout), done.stdout
    director.start()
    assert "this host's address is not known" not in agent.command("doctor", check=False).stdout


# ---------------------------------------------------------------- ARP and the VIP


def test_a_device_that_answers_arp(t):
    p = Patient(t, t.r1)
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 0)
    assert t.r1.mac() in arp_answers(t.ro, "eth1", p.vip)
    p.finds("arp", f"eth0 answers ARP for {p.vip}", "arp_ignore is 0 (all 0, its own 0)")
    p.mend()
    assert arp_answers(t.ro, "eth1", p.vip) == [t.di.mac()]
    # of two services the command stands there once
    p.director.make("more", host="10.1.0.99", port=80)
    p.agent.configure(backends={"web": {"check": "none"}, "more": {"check": "none"}})
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 0)
    text = p.agent.command("doctor", check=False).stdout
    assert text.count("eth0 answers ARP for") == 2 and text.count("mend: sysctl -w net/ipv4/conf/eth0/arp_ignore=1") == 1 and text.count("mend: as above") == 1, text


def test_a_device_that_announces_the_vip(t):
    p = Patient(t, t.r1)
    t.r1.sysctl("net/ipv4/conf/eth0/arp_announce", 0)
    p.finds("arp", "eth0 may tell its neighbours", "arp_announce is 0")
    p.mend()


def test_a_setting_of_all_overrules(t):
    p = Patient(t, t.r1)
    t.r1.sysctl("net/ipv4/conf/all/arp_ignore", 3)
    p.finds("arp", "arp_ignore is 3 (all 3, its own 1)")
    p.mend()
    assert arp_answers(t.ro, "eth1", p.vip) == [t.di.mac()]


def test_devices_that_came_later(t):
    p = Patient(t, t.r1)
    t.r1.ip("link add late0 link eth0 type macvlan mode bridge", "link set late0 up")
    p.finds("arp", "late0 answers ARP for")
    p.mend()
    # more than a screen wants to hear of
    t.r1.ip(*(f"link add v{i} type veth peer name w{i}" for i in range(4)), *(f"link set v{i} up" for i in range(4)))
    found = p.complaints()
    assert len(found) == 8 and "5 devices more" in found[3]["evidence"] and found[3]["mend"] == "sysctl -w net/ipv4/conf/all/arp_ignore=1", found
    for f in found:
        t.r1.run("sh", "-c", f["mend"])
    p.fine()


def test_two_devices_in_one_segment(t):
    two = t.host("two", {"eth0": ("lan", "10.1.0.140/24"), "eth1": ("lan", "10.1.0.150/24")})
    two.route("default", via="10.1.0.1")
    p = Patient(t, two)
    two.sysctl("net/ipv4/conf/eth1/arp_ignore", 0)
    found = p.complaints()
    assert {f["check"] for f in found} == {"arp", "duplicate"}, found
    assert any(f"this host's own eth1 ({two.mac('eth1')}) answers for" in f["evidence"] for f in found)  # heard on the wire
    p.mend()


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_no_vip(t, v6):
    p = Patient(t, t.r1, v6=v6, rip6=v6)
    t.r1.ip(f"addr del {p.vip}/{128 if v6 else 32} dev lo")
    assert not served(t, p.vip)
    p.finds("vip", f"{p.vip} is not on lo", also=["way in", "way out"])
    p.mend()
    assert served(t, p.vip)


def test_the_vip_where_it_answers(t):
    p = Patient(t, t.r1)
    t.r1.ip(f"addr del {p.vip}/32 dev lo", f"addr add {p.vip}/24 dev eth0")
    assert t.r1.mac() in arp_answers(t.ro, "eth1", p.vip)
    p.finds("vip", f"{p.vip}/24 is on eth0, where this host answers for it", also=["way in", "way out"])
    p.mend()
    assert t.r1.addresses("lo").count(f"{p.vip}/32") == 1 and arp_answers(t.ro, "eth1", p.vip) == [t.di.mac()]


def test_a_vip_that_is_a_whole_network(t):
    p = Patient(t, t.r1)
    t.r1.ip(f"addr del {p.vip}/32 dev lo", f"addr add {p.vip}/24 dev lo")
    found = p.complaints()
    # the host takes the router and the director for itself
    assert any(f["check"] == "vip" and "more than one address" in f["evidence"] for f in found), found
    for f in [f for f in found if f["check"] == "vip"]:
        t.r1.run("sh", "-c", f["mend"])
    p.fine()
    assert served(t, p.vip)


def test_a_vip_of_ipv6_that_may_become_a_source(t):
    p = Patient(t, t.r1, v6=True, rip6=True)
    t.r1.ip(f"addr change {p.vip}/128 dev lo preferred_lft forever")
    p.finds("vip", "may become the source", status="warning")
    p.mend()


def test_lo_that_is_down(t):
    p = Patient(t, t.r1)
    t.r1.ip("link set lo down")
    p.finds("vip", f"{p.vip}/32 is on lo, which is down", also=["way in", "way out"])
    p.mend()
    assert served(t, p.vip)


def test_a_device_that_is_not_ours_to_mind_or_down_is_a_warning(t):
    t.r1.ip("link add other0 type dummy", "link set other0 arp on up")
    p = Patient(t, t.r1, devices=["eth0"], running=True)
    p.agent.kill9()
    for state, name in (("up", "other0"), ("down", "other0 (down)")):
        t.r1.ip(f"link set other0 {state}")
        found = p.complaints()
        assert {(f["check"], f["status"]) for f in found} == {("arp", "warning")}, found
        assert any(f["evidence"].startswith(f"{name} answers ARP for {p.vip}") for f in found), found
    for f in found:
        t.r1.run("sh", "-c", f["mend"])
    p.fine()


def test_more_vips_than_are_asked_for_at_once(t):
    vips = [f"10.1.{1 + n // 200}.{1 + n % 200}" for n in range(257)]
    agent = Agent(t.r1, static=[{"host": vip} for vip in vips])
    wait_for(lambda: all(s["state"] == "up" for s in agent.status()["static"]), 20, "they are there")
    agent.kill9()
    answer = json.loads(agent.command("doctor", "--json", check=False).stdout)
    (f,) = [f for f in answer["findings"] if f["status"] != "ok"]
    assert f["check"] == "duplicate" and f["status"] == "unseen", f
    assert f["evidence"] == f"who answers for {vips[-1]}: there are more than 256 VIPs; name the service"
    t.r2.ip("addr add 10.1.2.57/32 dev lo")
    assert vips[-1] == "10.1.2.57"
    done = agent.command("doctor", "-v", vips[-1], check=False)
    assert f"{t.r2.mac()} alone answers for {vips[-1]}" in done.stdout, done.stdout


def test_a_dummy_device_that_is_down(t):
    p = Patient(t, t.r1, backend={"method": "dr", "device": "brass9"})
    t.r1.ip("link set brass9 down")
    assert p.complaints()[0]["check"] in ("tunnel", "vip")
    p.mend()
    assert served(t, p.vip)


def test_a_vip_of_ipv6_that_another_host_has(t):
    """Duplicate address detection found it: the address is there and is not used."""
    p = Patient(t, t.r1, v6=True, rip6=True)
    t.r1.ip(f"addr del {p.vip}/128 dev lo", "link add brass9 link eth0 type macvlan", "link set brass9 up")
    t.r2.ip(f"addr add {p.vip}/128 dev eth0 nodad")
    t.r1.sysctl("net/ipv6/conf/brass9/accept_dad", 1)
    t.r1.sysctl("net/ipv6/conf/all/accept_dad", 1)
    p.agent.configure(backends={"web": {"check": "none", "device": "brass9"}})
    t.r1.ip(f"addr add {p.vip}/128 dev brass9 preferred_lft 0")
    wait_for(lambda: "dadfailed" in t.r1.run("ip", "-6", "addr", "show", "dev", "brass9").stdout, 10, "the kernel has found the other one")
    found = [f for f in p.complaints() if f["check"] == "vip"]
    assert len(found) == 1 and "is not usable: duplicate detection found another host with it" in found[0]["evidence"], found
    t.r1.run("sh", "-c", found[0]["mend"])
    assert "vip" not in {f["check"] for f in p.complaints()}


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_another_real_server_answers(t, v6):
    p = Patient(t, t.r1, v6=v6, rip6=v6)
    (ok,) = [f for f in p.doctor() if f["check"] == "duplicate"]
    if not v6:  # a dummy answers no solicitation
        assert t.di.mac() in ok["evidence"] and "a director, answers" in ok["evidence"]
        t.r2.ip(f"addr add {p.vip}/32 dev lo")
    else:
        t.r2.ip(f"addr add {p.vip}/128 dev eth0 nodad")
        t.r1.run("ping", "-6", "-c1", t.r2.v6)
    f = p.finds("duplicate", f"{t.r2.mac()}", "which is no director, answers for", p.vip)
    assert t.r2.mac() in f["where"] and (not v6 or t.r2.v6 in f["where"])
    p.mend(at=t.r2)
    assert t.r2.mac() not in arp_answers(t.ro, "eth1", p.vip)


# ---------------------------------------------------------------- tunnels


def test_no_tunnel(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.r1.ip("link del brass-ipip")
    p.finds("tunnel", "there is no device brass-ipip", also=["vip", "way in", "way out"])
    p.mend()
    assert served(far, p.vip)


def test_a_tunnel_that_is_down(far):
    p = Patient(far, far.r1, backend={"method": "gre"})
    far.r1.ip("link set brass-gre down")
    assert not served(far, p.vip)
    p.finds("tunnel", "brass-gre is down", also=["vip"])
    p.mend()
    assert served(far, p.vip)


def test_a_tunnel_with_other_ends(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.r1.ip("link del brass-ipip", f"link add brass-ipip up type ipip local {far.r1.v4} remote 10.9.0.77", f"addr add {p.vip}/32 dev brass-ipip")
    assert not served(far, p.vip)
    p.finds("tunnel", "brass-ipip is ipip, local 10.2.0.101, remote 10.9.0.77", "remote any")
    p.mend()
    assert served(far, p.vip)


def test_a_tunnel_of_another_kind(far):
    """gre whose ends do not agree on checksums: packets are dropped without a word."""
    p = Patient(far, far.r1, backend={"method": "gre"})
    far.r1.ip("link del brass-gre", f"link add brass-gre up type gre local {far.r1.v4} remote any csum", f"addr add {p.vip}/32 dev brass-gre")
    assert not served(far, p.vip)
    p.finds("tunnel", "with checksums")
    p.mend()
    assert served(far, p.vip)


def test_another_tunnel_takes_the_packets(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.r1.ip(f"link add site0 up type ipip local {far.r1.v4} remote {far.di.v4}")
    far.r1.sysctl("net/ipv4/conf/site0/rp_filter", 1)
    p.finds("tunnel", "site0 is ipip", "takes the director's packets before brass-ipip does")
    before = far.r1.bytes("site0")[0]
    served(far, p.vip)
    assert far.r1.bytes("site0")[0] > before  # it does
    p.mend()
    assert served(far, p.vip)


def test_no_port_for_gue(far):
    p = Patient(far, far.r1, backend={"method": "gue"})
    far.r1.ip(f"fou del port 6080 local {far.r1.v4}")
    assert not served(far, p.vip)
    p.finds("tunnel", "nothing takes packets out of GUE on UDP port 6080")
    p.mend()
    far.r1.ip(f"fou del port 6080 local {far.r1.v4}", "fou add port 6080 ipproto 4")
    assert not served(far, p.vip)
    p.finds("tunnel", "UDP port 6080 has another encapsulation")
    p.mend()
    assert served(far, p.vip)


def test_a_module_that_is_not_loaded(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.r1.ip("link del brass-ipip")
    far.r1.run("rmmod", "ipip")
    found = p.complaints()
    assert {f["check"] for f in found} == {"module", "tunnel", "vip", "way in", "way out"}, found
    f = next(f for f in found if f["check"] == "module")
    assert f["status"] == "warning" and f["evidence"] == "the module ipip is not loaded" and f["mend"] == "modprobe ipip"
    far.r1.run("sh", "-c", f["mend"])
    assert "module" not in {f["check"] for f in p.complaints()}
    p.mend()
    assert served(far, p.vip)


def test_a_module_that_this_kernel_does_not_have(far):
    """It is not in the list that modprobe goes by, which is a stand-in: the lab's kernel has all of them."""
    p = Patient(far, far.r1, backend={"method": "gue"})
    p.fine()
    far.r1.ip("link del brass-ipip", f"fou del port 6080 local {far.r1.v4}")
    far.r1.run("rmmod", "ipip")
    work = far.r1.directory("modules")
    lists = f"/lib/modules/{os.uname().release}"
    script = f"""mount -t overlay -o lowerdir=/usr/lib,upperdir={work}/upper,workdir={work}/work overlay /usr/lib && mkdir -p {lists} || exit 9
        cp {work}/list {lists}/modules.dep && touch {lists}/modules.builtin && exec {p.agent.binary} -c {p.agent.file} doctor --json"""
    for name in ("upper", "work"):
        os.mkdir(os.path.join(work, name))

    def found(*modules):
        with open(os.path.join(work, "list"), "w") as f:
            f.writelines(f"kernel/net/ipv4/{name}.ko.xz: kernel/net/ipv4/tunnel4.ko.xz\n" for name in modules)
        done = far.r1.run("unshare", "-m", "sh", "-c", script, check=False)
        assert done.returncode == 2, done.stdout + done.stderr
        return [(f["status"], f["evidence"], f["mend"]) for f in json.loads(done.stdout)["findings"] if f["check"] == "module" and f["status"] != "ok"]

    assert found("fou", "ip_tunnel") == [("wrong", "this kernel has no module ipip", "")]
    assert found("fou", "ipip") == [("warning", "the module ipip is not loaded", "modprobe ipip")]
    p.mend()
    assert served(far, p.vip)


# ---------------------------------------------------------------- which way


def dropped_by_rp_filter(host):
    names, values = (line.split() for line in host.run("cat", "/proc/net/netstat").stdout.splitlines() if line.startswith("TcpExt:"))
    return int(dict(zip(names, values))["IPReversePathFilter"])


def test_rp_filter_in_a_tunnel(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.r1.sysctl("net/ipv4/conf/brass-ipip/rp_filter", 1)
    assert not served(far, p.vip) and dropped_by_rp_filter(far.r1) > 0
    p.finds("way in", "come in by brass-ipip are dropped: rp_filter is 1 (all 0, its own 1)")
    p.mend()
    assert served(far, p.vip)
    # a setting of all counts as well, and 2 on the device cures it
    far.r1.sysctl("net/ipv4/conf/brass-ipip/rp_filter", 0)
    far.r1.sysctl("net/ipv4/conf/all/rp_filter", 1)
    assert not served(far, p.vip)
    p.finds("way in", "rp_filter is 1 (all 1, its own 0)")
    p.mend()
    assert served(far, p.vip)


def test_rp_filter_where_replies_leave_elsewhere(t):
    p = Patient(t, t.r1)
    t.r1.ip("link add up0 type dummy", "addr add 10.55.0.1/24 dev up0", "link set up0 up", f"route add {t.cl.v4} via 10.55.0.2")
    p.fine("--client", t.cl.v4)
    t.r1.sysctl("net/ipv4/conf/eth0/rp_filter", 1)
    p.fine()  # for clients elsewhere
    served(t, p.vip)
    before = dropped_by_rp_filter(t.r1)
    assert before > 0
    p.finds("way in", f"from {t.cl.v4} that come in by eth0 are dropped", words=("--client", t.cl.v4))
    p.mend("--client", t.cl.v4)
    served(t, p.vip)
    assert dropped_by_rp_filter(t.r1) == before


def test_a_client_that_cannot_be_outside(t):
    """Its address is one of this host's: the kernel takes no such packet from a wire."""
    p = Patient(t, t.r1)
    t.r1.ip("addr add 198.51.100.1/32 dev lo")
    p.finds("way in", "clients' packets from 198.51.100.1 that come in by eth0 are dropped", also=["way out"])
    t.r1.ip("addr del 198.51.100.1/32 dev lo")
    p.fine()


def test_a_vip_that_is_routed_elsewhere(t):
    p = Patient(t, t.r1)
    t.r1.sysctl("net/ipv4/ip_forward", 1)
    t.r1.ip("rule add pref 100 from all lookup local", "rule del pref 0 from all lookup local",
            f"rule add pref 50 iif eth0 to {p.vip} lookup 77", "route add default via 10.1.0.1 table 77")  # fmt: skip
    assert not served(t, p.vip)
    p.finds("way in", f"clients' packets to {p.vip} that come in by eth0 are not for this host")
    t.r1.ip(f"rule del pref 50 iif eth0 to {p.vip} lookup 77")
    p.fine()
    assert served(t, p.vip)


def test_replies_that_lead_to_no_client(t):
    p = Patient(t, t.r1)
    t.r1.ip(f"route add blackhole {t.cl.v4}")
    assert not served(t, p.vip)
    p.finds("way out", f"no way for replies to {t.cl.v4}", words=("--client", t.cl.v4))
    t.r1.ip(f"route del blackhole {t.cl.v4}", f"route add {t.cl.v4} dev lo")
    assert not served(t, p.vip)
    p.finds("way out", f"replies from {p.vip} to {t.cl.v4} leave by lo, which leads to no client", words=("--client", t.cl.v4))
    t.r1.ip(f"route del {t.cl.v4} dev lo")
    p.fine("--client", t.cl.v4)
    assert served(t, p.vip)


def test_nat_without_a_gateway():
    with nat_topology() as t:
        p = Patient(t, t.r1, v6=True, backend={"method": "nat"}, rip6=True, gateway="fd00:1::10")
        # the address that the director is asked at is of another family than the service
        del p.agent.config["gateway"]
        p.agent.configure()
        f = p.finds("way out", 'no gateway for the replies: name the director\'s address as "gateway" in the file')
        assert not f["mend"]
        p.agent.configure(gateway="fd00:1::10")
        p.fine()


def test_no_way_out(t):
    p = Patient(t, t.r1)
    t.r1.ip("route del default")
    f = p.finds("way out", "no way for replies to 198.51.100.1 (a client anywhere", status="warning")
    assert not f["mend"]  # which router, only people know
    assert p.finds("way out", f"no way for replies to {t.cl.v4}", words=("--client", t.cl.v4))["status"] == "wrong"
    t.r1.ip("route add default via 10.1.0.1")
    p.fine()


def test_replies_by_the_director(t):
    p = Patient(t, t.r1)
    t.r1.ip(f"route replace default via {t.di.v4}")
    t.di.forward()
    assert not served(t, p.vip)
    p.finds("way out", f"via {t.di.v4}, which is a director")
    t.r1.ip("route replace default via 10.1.0.1")
    p.fine()
    assert served(t, p.vip)


def test_nat_replies_pass_the_director_by():
    with nat_topology() as t:
        p = Patient(t, t.r1, backend={"method": "nat"}, gateway="10.1.0.10")
        t.r1.ip("rule del pref 4672", "route flush table 4672")
        assert not served(t, p.vip)
        p.finds("way out", "leave by eth0 via 10.1.0.1, not through the director, 10.1.0.10")
        p.mend()
        assert served(t, p.vip)


def test_segments_that_do_not_fit_the_tunnel(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.r1.ip("rule del pref 4673", "route flush table 4673")
    p.finds("mss", "segments of 1460 bytes, and 1440 fit", status="warning")
    p.mend()
    with far.r1.capture("eth0", "tcp src port 80 and tcp[tcpflags] & tcp-syn != 0") as seen:
        assert served(far, p.vip)
        (answer,) = seen.wait(count=1)
    assert "mss 1440" in answer.text


def test_a_path_that_carries_less(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.di.ip(f"route add {far.r1.v4}/32 via 10.1.0.1 mtu 1400")
    wait_for(lambda: p.director.get("/service/web/r1")["max_packet"] == 1380, what="the director sees it")
    p.finds("mss", "segments of 1440 bytes, and the director's way here carries packets of 1380", status="warning")
    p.mend()
    with far.r1.capture("eth0", "tcp src port 80 and tcp[tcpflags] & tcp-syn != 0") as seen:
        assert served(far, p.vip)
        (answer,) = seen.wait(count=1)
    assert "mss 1340" in answer.text


# ---------------------------------------------------------------- the packet filter

DROPS = {
    "ipip": ({"method": "ipip"}, 4, 4, ["-p", "4"]),
    "sit": ({"method": "ipip"}, 6, 4, ["-p", "41"]),
    "gre": ({"method": "gre"}, 4, 4, ["-p", "47"]),
    "gue": ({"method": "gue"}, 4, 4, ["-p", "udp", "--dport", "6080"]),
    "4 in 6": ({"method": "ipip"}, 4, 6, ["-p", "4"]),
}


@pytest.mark.parametrize("backend,inner,outer,words", DROPS.values(), ids=DROPS.keys())
def test_tunnel_packets_that_are_dropped(far, backend, inner, outer, words):
    p = Patient(far, far.r1, v6=inner == 6, rip6=outer == 6, backend=backend, url=f"http://[{far.di.v6}]:4672" if outer == 6 else None)
    iptables = "iptables-legacy" if outer == 4 else "ip6tables-legacy"
    p.fine()
    far.r1.run(iptables, "-A", "INPUT", *words, "-j", "DROP")
    assert not served(far, p.vip)
    f = p.finds("filter", "the director's tunnel packets are dropped by", f"{iptables}, table filter, -A INPUT")
    assert f["mend"].startswith(f"{iptables} -I INPUT -s {far.di.v6 if outer == 6 else far.di.v4} ")
    p.mend()
    assert served(far, p.vip)


def test_the_directors_tunnel_packets_come_from_an_address_of_their_own(far):
    """It is asked at one address and sends from another: rules are about the other."""
    far.di.ip("addr add 10.1.0.20/24 dev eth0", "route change default via 10.1.0.1 src 10.1.0.20")
    p = Patient(far, far.r1, backend={"method": "ipip"})
    assert p.director.get("/agent/r1")["source"] == "10.1.0.20"
    far.r1.run("iptables-legacy", "-A", "INPUT", "-s", far.di.v4, "-p", "4", "-j", "DROP")
    assert served(far, p.vip)
    p.fine()
    far.r1.run("iptables-legacy", "-R", "INPUT", "1", "-s", "10.1.0.20", "-p", "4", "-j", "DROP")
    assert not served(far, p.vip)
    f = p.finds("filter", "the director's tunnel packets are dropped by", "they come from 10.1.0.20")
    assert f["mend"] == f"iptables-legacy -I INPUT -s 10.1.0.20 -d {far.r1.v4} -p 4 -j ACCEPT"
    # and so it is with what was remembered
    p.director.kill9()
    assert any(f["check"] == "filter" and "they come from 10.1.0.20" in f["evidence"] for f in p.complaints())
    p.director.start()
    p.mend()
    assert served(far, p.vip)
    # another tunnel whose other end is that address takes the packets
    far.r1.ip(f"link add site0 up type ipip local {far.r1.v4} remote {far.di.v4}")
    p.fine()
    far.r1.ip("link del site0", f"link add site0 up type ipip local {far.r1.v4} remote 10.1.0.20")
    p.finds("tunnel", "site0 is ipip", "takes the director's packets before brass-ipip does")
    p.mend()
    assert served(far, p.vip)


def test_a_policy_that_drops(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    for rule in (["-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"], ["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"], ["-P", "INPUT", "DROP"]):
        far.r1.run("iptables-legacy", *rule)
    assert not served(far, p.vip)
    p.finds("filter", "the director's tunnel packets are dropped by", "policy of chain INPUT")
    p.mend()
    assert served(far, p.vip)


def test_a_service_and_its_replies_that_are_dropped(t):
    p = Patient(t, t.r1)
    t.r1.run("iptables-legacy", "-A", "INPUT", "-d", p.vip, "-j", "REJECT")
    assert not served(t, p.vip)
    p.finds("filter", "clients' first packets are dropped by", f"-A INPUT -d {p.vip}/32 -j REJECT")
    p.mend()
    assert served(t, p.vip)
    t.r1.run("iptables-legacy", "-A", "OUTPUT", "-o", "eth0", "-p", "tcp", "--sport", "80", "-j", "DROP")
    assert not served(t, p.vip)
    p.finds("filter", "replies are dropped by", "-A OUTPUT")
    p.mend()
    assert served(t, p.vip)


def test_a_rule_that_nobody_can_judge(t):
    p = Patient(t, t.r1)
    t.r1.run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "-m", "limit", "--limit", "1/hour", "--limit-burst", "1", "-j", "DROP")
    p.finds("filter", "clients' first packets are perhaps dropped by", status="warning")
    p.mend()


def test_connections_of_which_conntrack_sees_half(t):
    p = Patient(t, t.r1)
    t.r1.run("iptables-legacy", "-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
    # both halves are seen here: only what comes late or out of order is at risk
    assert served(t, p.vip)
    p.finds("conntrack", "packets that conntrack calls invalid", "nf_conntrack_tcp_loose is 1, nf_conntrack_tcp_be_liberal 0", status="warning")
    t.r1.sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", 1)
    p.fine()
    t.r1.run("iptables-legacy", "-t", "raw", "-A", "OUTPUT", "-p", "tcp", "--sport", "80", "-j", "CT", "--notrack")
    assert not served(t, p.vip)
    p.finds("conntrack", "replies are not tracked (notrack)", "-A INPUT -m conntrack --ctstate INVALID -j DROP")
    p.mend()
    assert served(t, p.vip)


def test_a_published_port_takes_the_connections(t):
    p = Patient(t, t.r1)
    serve(t.r1, name="container", port=81)
    # as Docker does it
    for rule in (["-N", "DOCKER"], ["-A", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "DOCKER"], ["-A", "DOCKER", "-i", "docker0", "-j", "RETURN"],
                 ["-A", "DOCKER", "!", "-i", "docker0", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", f"{t.r1.v4}:81"]):  # fmt: skip
        t.r1.run("iptables-legacy", "-t", "nat", *rule)
    assert load(t.cl, p.vip)["servers"] == {"container": 1}
    p.finds("dnat", "clients' packets get another destination", "-A DOCKER ! -i docker0", f"--to-destination {t.r1.v4}:81", status="warning")
    # who says "check: none" wants it so
    p.agent.configure(backends={"web": {"check": "none"}})
    p.fine()
    p.agent.configure(backends={"web": {"check": "listen"}})
    p.mend()
    assert load(t.cl, p.vip)["servers"] == {"r1": 1}


# ---------------------------------------------------------------- the program


def test_programs(t):
    p = Patient(t, t.r1)
    p.server.kill()
    p.finds("program", f"no program listens on tcp {p.vip}:80")
    server = serve(t.r1, address=t.r1.v4)
    p.finds("program", f"a program listens on {t.r1.v4}:80 only, not on {p.vip}:80")
    server.kill()
    server = serve(t.r1)
    p.agent.configure(backends={"web": {"check": {"type": "http", "timeout": "2s", "args": {"path": "/health"}}}})
    p.fine()
    server.fail()
    p.finds("program", "503")
    server.recover()
    p.fine()


# ---------------------------------------------------------------- the directors


def test_directors_that_do_not_answer(t):
    p = Patient(t, t.r1)
    p.director.kill9()
    f = p.finds("director", f"{p.director.url}:", "what it said last is used here", also=["backend", "clock"])
    assert f["where"] == "the director"
    # what was remembered is judged all the same
    t.r1.ip(f"addr del {p.vip}/32 dev lo")
    assert any(f["check"] == "vip" and "is not on lo" in f["evidence"] for f in p.complaints())
    t.r1.ip(f"addr add {p.vip}/32 dev lo")
    p.director.start()
    p.fine()


def test_two_directors_that_say_the_same(t):
    p = Patient(t, t.r1)
    second = Director(t.r3, vip_device="brass9")
    second.make("web", host=t.vip, port=80)
    p.agent.configure(directors=[p.director.url, second.url], ttl="1h")
    p.agent.start()
    wait_state(p.agent, "up")
    wait_for(lambda: second.get("/service/web/r1")["status"] == "up", what="the second one knows it")
    p.agent.kill9()
    p.fine()
    text = p.agent.command("doctor", "-v").stdout
    assert text.count("web: dr, tcp") == 1 and text.count(f"{t.vip}/32 is on lo") == 1, text
    assert text.count(": up, weight 100") == 2 and text.count("a director, answers for") == 2, text
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 0)
    assert len(p.complaints()) == 1


def test_one_director_of_two_is_silent(t):
    p = Patient(t, t.r1)
    p.agent.configure(directors=[p.director.url, f"http://{t.di.v4}:4699"])
    p.finds("director", f"http://{t.di.v4}:4699", status="warning")


def test_leases(t):
    p = Patient(t, t.r1)
    status, _ = p.director.api("DELETE", "/agent/r1")
    assert status == 200
    f = p.finds("lease", "does not know r1", also=["backend"])
    assert f["mend"] == "systemctl restart brass-agent"
    p.agent.configure(ttl="1s")
    p.agent.start()
    wait_state(p.agent, "up")
    p.agent.kill9()
    wait_for(lambda: p.director.get("/agent/r1")["lost"], what="the lease is over")
    p.finds("lease", "the lease of r1", "has run out", also=["backend"])
    p.agent.configure(ttl="1h")
    p.agent.start()
    wait_state(p.agent, "up")
    wait_for(lambda: p.complaints() == [], 10, "all is well again")
    # another host has taken the name
    p.agent.kill9()
    p.director.api("DELETE", "/agent/r1")
    other = Agent(t.r2, [p.director], {"web": {}}, node="r1")
    wait_state(other, "up")
    p.finds("lease", f"r1 is registered at {p.director.url} from {t.r2.v4}, and this host is {t.r1.v4}")


def test_what_the_director_makes_of_it(t):
    p = Patient(t, t.r1, service={"pulse": {"type": "http", "interval": "100ms", "args": {"path": "/health"}}}, running=True)
    p.fine()
    p.server.fail()
    wait_weights(p.director, 0)
    p.finds("backend", "sends no connections: down: ", "503")
    p.server.recover()
    wait_weights(p.director, 100)
    p.fine()
    p.agent.command("drain", "--service", "web", "--no-wait")
    wait_weights(p.director, 0)
    p.finds("backend", "sends no new connections: drain, weight 0", status="warning")
    p.agent.command("undrain", "--service", "web")
    wait_weights(p.director, 100)
    p.fine()
    assert p.director.api("DELETE", "/service/web")[0] == 200
    p.finds("backend", "has no service of that name")
    p.director.make("web", fwmark=7)
    p.finds("backend", f"the service at {p.director.url} has no VIP: agents cannot serve firewall marks")


class Proxy:
    """In front of a director: passes everything on, with another Date if one is given, and calls `asked` before."""

    def __init__(self, host, date=None, asked=lambda: None):
        self.date, self.asked = date, asked
        self.url = f"http://{host.v4}:4680"
        with host.inside():
            import http.server

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(handler):
                    self.asked()
                    with host.inside():
                        status, _ = answer = host.api("GET", handler.path)
                    handler.send_response_only(status)
                    handler.send_header("Date", self.date or email.utils.formatdate(usegmt=True))
                    handler.send_header("Content-Length", str(len(answer.text)))
                    handler.end_headers()
                    handler.wfile.write(answer.text.encode())

                def log_message(handler, *_):
                    pass

            self.server = http.server.ThreadingHTTPServer((host.v4, 4680), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def test_clocks_that_differ(t):
    p = Patient(t, t.r1)
    with Proxy(t.di, "Sun, 06 Nov 2016 08:49:37 GMT") as proxy:
        p.agent.configure(directors=[proxy.url])
        f = p.finds("clock", "this host's clock is", "ahead of", status="warning")
        assert f["mend"] == "timedatectl set-ntp true"
        proxy.date = "Sun, 06 Nov 2095 08:49:37 GMT"
        p.finds("clock", "behind", status="warning")
        proxy.date = "yesterday"
        p.finds("clock", "no director says what time it is there", status="unseen")
        proxy.date = None
        p.fine()


@pytest.mark.parametrize("by, which", [(3600, "forward by 1h"), (-3600, "back by 1h")], ids=["forward", "back"])
def test_a_clock_that_is_set_while_the_doctor_looks(t, by, which):
    p = Patient(t, t.r1)
    real = time.time() - time.monotonic()

    def jump():
        time.clock_settime(time.CLOCK_REALTIME, real + time.monotonic() + by)

    with Proxy(t.di, asked=jump) as proxy:
        p.agent.configure(directors=[proxy.url])
        try:
            f = p.finds("clock", f"this host's clock was set {which}", "while the doctor looked", status="warning")
            assert f["mend"] == "timedatectl set-ntp true"
            p.fine()  # it was set before the doctor came
        finally:
            time.clock_settime(time.CLOCK_REALTIME, real + time.monotonic())


# ---------------------------------------------------------------- checksums


def test_checksums_that_are_wrong(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    # a router that spoils a byte on the way, as a NIC does that fills in the sum of the wrong header
    far.rb.run("tc", "qdisc", "add", "dev", "eth1", "root", "handle", "1:", "prio")
    far.rb.run("tc", "filter", "add", "dev", "eth1", "parent", "1:", "u32", "match", "ip", "protocol", "4", "0xff", "action", "pedit", "munge", "offset", "56", "u8", "invert")  # fmt: skip
    far.r1.run("ethtool", "-K", "eth0", "rx", "on")
    assert not served(far, p.vip)
    f = p.finds("offload", "thrown away for a wrong checksum", "eth0 leaves checksums to the hardware", status="warning")
    assert f["mend"] == "ethtool -K eth0 rx off"
    far.rb.run("tc", "qdisc", "del", "dev", "eth1", "root")
    p.mend()
    assert served(far, p.vip)


def test_checksums_that_the_directors_nic_spoils(far):
    """While the doctor looks, segments come out of the tunnel with a wrong checksum; this host's NIC did not look at them.
    They are sent as long as the director's device makes checksums, as one does that fills in those of the wrong header."""
    p = Patient(far, far.r1, backend={"method": "ipip"})
    far.r1.run("ethtool", "-K", "eth0", "rx", "off")
    far.di.run("ethtool", "-K", "eth0", "tx", "on")
    tcp = struct.pack("!HHIIHHHH", 1000, 80, 1, 0, 5 << 12 | 2, 1000, 0x1234, 0)
    segment = forge.header(far.cl.v4, p.vip, 6, len(tcp)) + tcp

    def send():
        if "tx-checksumming: on" in far.di.run("ethtool", "-k", "eth0").stdout:
            forge.send(far.di, far.r1.v4, "ipip", segment)

    with Proxy(far.di, asked=send) as proxy:
        p.agent.configure(directors=[proxy.url])
        f = p.finds("offload", "packets with a wrong checksum came while the doctor looked", "the director's NIC may make them", status="warning")
        assert f["where"] == "the director"
        p.mend(at=far.di)
    assert served(far, p.vip)


# ---------------------------------------------------------------- nftables


def nft(host, rules):
    host.run("nft", "-f", "-", stdin=rules)


@pytest.mark.qemu
def test_tunnel_packets_that_nftables_drops(far):
    p = Patient(far, far.r1, backend={"method": "ipip"})
    nft(far.r1, "table inet fw { chain in { type filter hook input priority 0; policy accept; ip protocol { 4, 47 } counter drop; }; }")
    assert not served(far, p.vip)
    f = p.finds("filter", "the director's tunnel packets are dropped by nft inet, table fw, chain in, rule handle")
    assert f["mend"] == f"nft insert rule inet fw in ip saddr {far.di.v4} ip daddr {far.r1.v4} meta l4proto 4 accept"
    p.mend()
    assert served(far, p.vip)
    # each base chain judges for itself, and so does iptables
    nft(far.r1, "table ip other { chain edge { type filter hook prerouting priority -150; policy drop; ip saddr 10.1.0.10 udp dport 53 accept; tcp dport 80 accept; tcp sport 4672 accept; ip protocol 1 accept; }; }")
    far.r1.run("iptables-nft", "-A", "INPUT", "-p", "4", "-j", "DROP")
    assert not served(far, p.vip)
    found = [f["evidence"] for f in p.complaints() if f["check"] == "filter"]
    assert len(found) == 2 and any("iptables-nft, table filter, -A INPUT -p ipencap -j DROP" in e for e in found) and any("nft ip, table other, policy of chain edge" in e for e in found), found
    p.mend()
    assert served(far, p.vip)


@pytest.mark.qemu
def test_what_nftables_does_to_a_service(t):
    p = Patient(t, t.r1)
    nft(t.r1, """table inet fw {
        chain raw { type filter hook output priority -300; policy accept; tcp sport 80 notrack; }
        chain in { type filter hook input priority 0; policy accept; ct state vmap { established : accept, invalid : drop }; }
    }""")  # fmt: skip
    assert not served(t, p.vip)
    p.finds("conntrack", "packets that conntrack calls invalid are dropped by nft inet, table fw, chain in", "replies are not tracked (notrack)")
    p.mend()
    assert served(t, p.vip)
    serve(t.r1, name="container", port=81)
    nft(t.r1, f"""table ip nat {{
        chain DOCKER {{ iifname != "docker0" tcp dport 80 counter dnat to {t.r1.v4}:81; }}
        chain PREROUTING {{ type nat hook prerouting priority -100; policy accept; fib daddr type local counter jump DOCKER; }}
    }}""")  # fmt: skip
    assert load(t.cl, p.vip)["servers"] == {"container": 1}
    p.finds("dnat", "clients' packets get another destination", "nft ip, table nat, chain DOCKER, rule handle", status="warning")
    p.mend()
    assert load(t.cl, p.vip)["servers"] == {"r1": 1}
