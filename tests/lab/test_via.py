# SPDX-License-Identifier: Apache-2.0
"""Checks along the path of traffic: what they see that checks of the real server's own address do not, what the
director sets for them, and its marks."""

import json
import os
import signal
import time

import pytest
from daemons import Agent, Director
from net import wait_for
from test_director import NO_PULSE
from test_tunnels import KINDS, start
from topology import BUILD, dr_topology, endpoint, ipvs, load, routed_topology, rules, serve

BRASS = os.path.join(BUILD, "director", "cli", "brass")
FIRST_MARK = 0x42000000
FAST = {"type": "tcp", "interval": "200ms", "timeout": "1s"}
HTTP = {"type": "http", "interval": "200ms", "timeout": "1s", "args": {"path": "/health"}}


def tunnel(server, vip, method="ipip", **csum):
    """The tunnel device of a real server, made by hand: its lines for ip(8) that are left out are the faults."""
    kind = "gre" if method == "gre" else "ipip"
    words = f"link add tun1 type {kind} local {server.v4} remote any" + (" csum" if csum.get("checksum") else "")
    server.ip(words, "link set tun1 up", f"addr add {vip}/32 dev tun1")
    server.sysctl("net.ipv4.conf.tun1.rp_filter", 0)


def by_hand(server, vip, method="dr"):
    """What a real server needs, without an agent."""
    if method == "dr":
        server.no_arp()
        server.ip(f"addr add {vip}/{128 if ':' in vip else 32} dev lo" + (" nodad" if ":" in vip else ""))
    elif method == "gue":
        server.run("ip", "fou", "add", "port", "6080", "gue")
    if method != "dr":
        tunnel(server, vip, method)


def marks(host):
    """{real server: mark} of the services in the kernel that lead checks."""
    found = {}
    for service, dests in ipvs(host).items():
        kind, mark = service.split()[:2]
        if kind == "FWM" and FIRST_MARK <= int(mark) % 2**32 <= FIRST_MARK + 0xFFFFFF:
            for dest in dests:
                found[dest.rs] = int(mark) % 2**32
    return found


def backend(d, name, service="web"):
    return d.get(f"/service/{service}/{name}")


def wait_status(d, name, status, service="web", timeout=5):
    return wait_for(lambda: (lambda b: b if b["status"] == status else None)(backend(d, name, service)), timeout, f"{service}/{name} is {status}")


@pytest.mark.parametrize("device", ["eth0", "brass0"])
@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_a_missing_vip_is_seen(t, six, device):
    """The director holds the VIP itself, on the device of the segment or on a dummy, under all/rp_filter=1."""
    vip, bits = (t.vip6, 128) if six else (t.vip, 32)
    t.di.sysctl("net.ipv4.conf.all.rp_filter", 1)
    d = Director(t.di, vip_device=device)
    d.make("web", host=vip, port=80, method="rr")
    own = {}
    for server, pulse in ((t.r1, FAST), (t.r2, HTTP)):
        serve(server)
        by_hand(server, vip)
        own[server.name] = server.v6 if six else server.v4
        d.make(f"web/{server.name}", host=own[server.name], method="dr", pulse=pulse)
    for server in (t.r1, t.r2):
        wait_for(lambda: backend(d, server.name)["metrics"]["uptime"] >= 1, what="checked and up")
        assert backend(d, server.name)["via"] == "vip"
    assert t.di.sysctl("net.ipv4.conf.eth0.accept_local") == ("0" if six else "1")
    assert t.di.sysctl("net.ipv4.conf.eth0.rp_filter") == ("2" if device == "brass0" and not six else "0")
    # a reset ends each: with a FIN the entry would lead whoever uses the port again to the same real server
    entries = [line.split() for line in t.di.run("ipvsadm", "-Lcn").stdout.splitlines() if line.startswith("TCP")]
    assert entries and {state for _, _, state, *_ in entries} <= {"CLOSE", "SYN_RECV", "ESTABLISHED"}, entries
    for server in (t.r1, t.r2):
        # what the wire says: the check is addressed to the VIP, and comes from the director's own address
        with server.capture("eth0", f"tcp dst port 80 and dst host {vip}") as seen:
            packet = seen.wait()[0]
            assert (t.di.v6 if six else t.di.v4) in packet.text and packet.src_mac == t.di.mac(), packet
        server.ip(f"addr del {vip}/{bits} dev lo")
        down = wait_status(d, server.name, "down")
        assert f"{endpoint(own[server.name], 80)} via VIP {vip}" in down["reason"], down["reason"]
        assert sum(backend(d, name)["status"] == "up" for name in own) == 1
        server.ip(f"addr add {vip}/{bits} dev lo" + (" nodad" if six else ""))
        wait_status(d, server.name, "up")
    assert load(t.cl, vip, 80, n=6)["servers"] == {"r1": 3, "r2": 3}


PATHS = [("ipip", 6, 6), ("ipip", 6, 4), ("ipip", 4, 6), ("gue", 4, 4), ("gue-remote", 6, 6), ("gre-checksum", 4, 4)]


@pytest.mark.parametrize("kind,inner,outer", PATHS, ids=["-".join(map(str, p)) for p in PATHS])
def test_every_tunnel(kind, inner, outer):
    """Agents set the hosts up, of which one loses its VIP without its agent."""
    with routed_topology() as t:
        for server in t.servers:
            serve(server)
        vip, d, agents = start(t, KINDS[kind][0], outer, inner, ttl="60s")
        assert d.api("PATCH", "/service/web", {"pulse": {**HTTP, "full_size": True}})[0] == 200
        for server in t.servers:
            wait_for(lambda: backend(d, server.name)["metrics"]["uptime"] >= 1, 10, "checked and up")
            assert backend(d, server.name)["via"] == "vip" and "via_problem" not in backend(d, server.name)
        agents[0].kill9()
        device = next(link["ifname"] for link in json.loads(t.r1.run("ip", "-j", "addr").stdout) if any(a["local"] == vip for a in link["addr_info"]))
        t.r1.run("ip", "addr", "del", f"{vip}/{32 if inner == 4 else 128}", "dev", device)
        assert f"via VIP {vip}" in wait_status(d, "r1", "down")["reason"]
        assert [backend(d, name)["status"] for name in ("r2", "r3")] == ["up", "up"]


# ---------------------------------------------------------------- faults


def firewall(*rule):
    return lambda r: r.run("iptables-legacy", "-A", "INPUT", *rule), lambda r: r.run("iptables-legacy", "-F")


def words(*lines, undo):
    return lambda r: r.ip(*lines), lambda r: r.ip(*undo)


VIP, RIP = "10.100.0.1", "10.3.0.103"
TUNNEL = (f"addr add {VIP}/32 dev tun1",)


def program(address):
    """The program starts again and listens on this address only; and as it was."""

    def stop(r):
        r.server.stop()
        if address:
            r.server = serve(r, address=address)

    def undo(r):
        if r.server.running():
            r.server.stop()
        r.server = serve(r)

    return stop, undo


def small_mtu():
    """A link on the way carries 1400 bytes, and what the router says of it is lost."""

    def stop(r):
        r.topology.rb.run("iptables-legacy", "-A", "OUTPUT", "-p", "icmp", "-j", "DROP")
        r.topology.rb.ip("link set eth2 mtu 1400")

    def undo(r):
        r.topology.rb.ip("link set eth2 mtu 1500")
        r.topology.rb.run("iptables-legacy", "-F")

    return stop, undo


def gre_with_checksum():
    def again(r, checksum):
        r.ip("link del tun1")
        tunnel(r, VIP, "gre", checksum=checksum)

    return lambda r: again(r, True), lambda r: again(r, False)


def rp_filter():
    return lambda r: r.sysctl("net.ipv4.conf.tun1.rp_filter", 1), lambda r: r.sysctl("net.ipv4.conf.tun1.rp_filter", 0)


def tunnel_deleted(method):
    return lambda r: r.ip("link del tun1"), lambda r: tunnel(r, VIP, method)


def fou_deleted():
    return lambda r: r.run("ip", "fou", "del", "port", "6080"), lambda r: r.run("ip", "fou", "add", "port", "6080", "gue")


def blackhole():
    return lambda r: r.run("ip", "rule", "add", "from", VIP, "pref", "9", "type", "blackhole"), lambda r: r.run("ip", "rule", "del", "pref", "9")


# name -> (what breaks and mends it, does a check of the RIP see it, diagnosis)
FAULTS = {
    "ipip": {
        "VIP missing on the tunnel device": (words(f"addr del {VIP}/32 dev tun1", undo=TUNNEL), False, "tunnel-drops"),
        "no tunnel device": (tunnel_deleted("ipip"), False, "not-decapsulated"),
        "tunnel device down": (words("link set tun1 down", undo=("link set tun1 up",)), False, "not-decapsulated"),
        "rp_filter=1 on the tunnel device": (rp_filter(), False, "tunnel-drops"),
        "firewall drops IP protocol 4": (firewall("-p", "4", "-j", "DROP"), False, "tunnel-drops"),
        "firewall drops VIP:80": (firewall("-d", VIP, "-p", "tcp", "--dport", "80", "-j", "DROP"), False, "firewall"),
        "program bound to the RIP": (program(RIP), False, "bound-to-rip"),
        "answers of the VIP blackholed": (blackhole(), False, "tunnel-drops"),
        "MTU of 1400 on the way, ICMP lost": (small_mtu(), False, "mtu"),
        "program down": (program(None), True, "program-down"),
        "firewall drops port 80": (firewall("-p", "tcp", "--dport", "80", "-j", "DROP"), True, "firewall"),
        "host cut off": ((lambda r: r.topology.unplug(r), lambda r: r.topology.plug(r)), True, "host-down"),
    },
    "gue": {
        "fou port missing": (fou_deleted(), False, "not-decapsulated"),
        "no tunnel device behind it": (tunnel_deleted("gue"), False, None),
    },
    "gre": {"checksums wanted": (gre_with_checksum(), False, "tunnel-drops"), "no tunnel device": (tunnel_deleted("gre"), False, "not-decapsulated")},
    "dr": {
        "VIP missing": (words(f"addr del {VIP}/32 dev lo", undo=(f"addr add {VIP}/32 dev lo",)), False, "vip-missing"),
        "firewall rejects VIP:80": (firewall("-d", VIP, "-p", "tcp", "--dport", "80", "-j", "REJECT"), False, "firewall"),
        "answers of the VIP blackholed": (blackhole(), False, "vip-missing"),
        "program bound to the RIP": (program("10.1.0.101"), False, "bound-to-rip"),
    },
}


@pytest.mark.parametrize("method", FAULTS)
def test_what_checks_along_the_path_see(method, measured):
    """One real server, checked twice: its own address, and along the path. Then each fault."""
    with dr_topology(servers=1) if method == "dr" else routed_topology() as t:
        r = t.servers[-1]
        if method == "dr":
            t.ro.route(f"{VIP}/32", via="10.1.0.10")
        r.server = serve(r)
        by_hand(r, VIP, method)
        d = Director(t.di)
        options = {"host": r.v4, "method": method, **({"tunnel": {"port": 6080}} if method == "gue" else {})}
        for service, vip, via in (("web", VIP, "vip"), ("plain", "10.100.0.2", "rip")):
            d.make(service, host=vip, port=80)
            d.make(f"{service}/r", **options, pulse={**FAST, "via": via, "full_size": via == "vip"})
        wait_for(lambda: load(t.cl, VIP, 80, n=1, timeout=500)["ok"], what="clients are served")
        for name, ((stop, undo), rip_sees, fault) in FAULTS[method].items():
            wait_for(lambda: all(backend(d, "r", s)["metrics"]["uptime"] >= 1 for s in ("web", "plain")), 10, "both pass")
            stop(r)
            down = wait_status(d, "r", "down")
            if rip_sees:
                wait_status(d, "r", "down", "plain")
            else:
                clients = load(t.cl, VIP, 80, n=1, timeout=500, **({"body": 20000} if fault == "mtu" else {}))
                assert clients["ok"] == 0, (name, "the fault is none")
            found = d.get("/service/web/r?why=1")["diagnosis"]
            assert (found["rip"] == "answers") == (not rip_sees), (name, found)
            assert backend(d, "r", "plain")["status"] == ("down" if rip_sees else "up"), name
            measured(f"{method:5} {name:34} rip {'down' if rip_sees else 'up':5} vip down  {found['fault']:17} {down['reason']}\n      {found['text']}")
            assert fault is None or found["fault"] == fault, (name, found)
            undo(r)
            wait_status(d, "r", "up", timeout=10)
            wait_status(d, "r", "up", "plain", timeout=10)


def test_what_an_agent_has_read_back_counts(t, d):
    serve(t.r1)
    d.make("web", host=t.vip, port=80, pulse=FAST)
    Agent(t.r1, [d], {"web": {}}, ttl="5s")
    wait_for(lambda: d.get("/service/web")["backends"] == ["r1"] and backend(d, "r1")["status"] == "up", 10, "r1 is up")
    wait_for(lambda: backend(d, "r1")["metrics"]["uptime"] >= 1, what="checked")
    t.r1.run("iptables-legacy", "-A", "INPUT", "-d", t.vip, "-j", "DROP")
    wait_status(d, "r1", "down")
    found = wait_for(lambda: backend(d, "r1").get("diagnosis"), what="looked at by itself")
    assert found["fault"] == "firewall" and "its agent has read back the VIP as right" in found["text"], found
    assert f"web/r1: diagnosis: {found['text']}" in d.log()
    shown = t.di.run(BRASS, "why", "web", "r1").stdout
    assert shown.startswith("web/r1: down: connect to") and found["text"] in shown and "along the path of traffic" in shown, shown
    # a restart does not forget that it is down, and looks again
    d.restart()
    assert wait_for(lambda: backend(d, "r1").get("diagnosis"), what="looked at after a restart")["fault"] == "firewall"
    with t.di.capture("eth0", f"tcp dst port 80 and dst host {t.vip}") as seen:
        seen.wait(count=8, timeout=10)
    assert backend(d, "r1")["status"] == "down" and "down -> up" not in d.log()
    assert d.api("PATCH", "/service/web", {"pulse": {"type": "none"}})[0] == 200
    assert "diagnosis" not in backend(d, "r1"), "nobody says any more that it is down"
    assert d.api("PATCH", "/service/web", {"pulse": FAST})[0] == 200
    t.r1.run("iptables-legacy", "-F")
    wait_for(lambda: backend(d, "r1")["status"] == "up" and backend(d, "r1")["via"] == "vip", what="up, along the path")
    assert "diagnosis" not in backend(d, "r1")
    assert "it answers, on its own address and along the path, small packets and those of 1500 bytes" in t.di.run(BRASS, "why", "web", "r1").stdout
    assert t.di.run(BRASS, "why", "web", "r9", check=False).returncode == 1
    assert t.di.run(BRASS, "why", "web", check=False).returncode == 2


def test_a_look_without_a_pulse_leaves_no_mark(t, d):
    by_hand(t.r1, t.vip)
    d.make("web", host=t.vip, port=80)
    d.make("web/r1", host=t.r1.v4, method="dr", pulse=NO_PULSE)
    found = d.get("/service/web/r1?why=1")["diagnosis"]
    assert found["fault"] == "program-down" and found["vip"] == "refused", found
    wait_for(lambda: marks(t.di) == {}, what="its mark is gone")
    serve(t.r1)
    assert d.get("/service/web/r1?why=1")["diagnosis"]["fault"] == "none"
    assert "diagnosis" not in backend(d, "r1"), "nobody keeps what is right"
    # somebody who goes away, and a backend that does, while it is being looked at
    t.unplug(t.r1)
    asked = t.di.connect("127.0.0.1", 4672)
    asked.sendall(b"GET /service/web/r1?why=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for(lambda: marks(t.di), what="looking")
    asked.close()
    second = t.di.connect("127.0.0.1", 4672, 10)
    second.sendall(b"GET /service/web/r1?why=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    wait_for(lambda: d.get("/status")["probes"]["marks"] == 1, what="looking")
    assert d.api("DELETE", "/service/web/r1")[0] == 200
    assert second.recv(4096).startswith(b"HTTP/1.1 404")
    wait_for(lambda: marks(t.di) == {}, what="its mark is gone")
    # and a director that stops
    d.make("web/r1", host=t.r1.v4, method="dr", pulse=NO_PULSE)
    third = t.di.connect("127.0.0.1", 4672, 10)
    third.sendall(b"GET /service/web/r1?why=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    wait_for(lambda: marks(t.di), what="looking")
    assert d.stop() == 0
    assert third.recv(4096)[:12] in (b"", b"HTTP/1.1 503")
    d.start()
    assert marks(t.di) == {}, "what was left is removed"


# ---------------------------------------------------------------- marks


def test_marks_are_ours_and_never_left(t, d):
    """One mark a real server and method, whoever uses it; the same after a crash; gone with the last user."""
    for server in (t.r1, t.r2):
        serve(server)
        by_hand(server, t.vip)
        by_hand(server, t.vip6)
    d.make("web", host=t.vip, port=80)
    d.make("dns", host=t.vip, port=80, protocol="udp")
    d.make("six", host=t.vip6, port=80)
    for server in (t.r1, t.r2):
        for service, host in (("web", server.v4), ("dns", server.v4), ("six", server.v6)):
            d.make(f"{service}/{server.name}", host=host, method="dr", pulse=FAST)
    found = marks(t.di)
    assert len(found) == 4 == len(set(found.values())), found  # two real servers in two families
    assert d.get("/status")["probes"]["marks"] == 4 and d.get("/status")["foreign_services"] == []
    wait_for(lambda: all(backend(d, "r1", s)["metrics"]["uptime"] >= 1 for s in ("web", "dns", "six")), what="all are checked")
    before = rules(t.di)
    d.kill9()
    d.start()
    assert rules(t.di) == before
    assert d.log().count("; 0 changes made in the kernel's table") == 2, d.log()
    # somebody's marks in our range, and one outside
    d.kill9()
    t.di.run("ipvsadm", "-A", "-f", FIRST_MARK + 77, "-s", "rr")
    t.di.run("ipvsadm", "-A", "-f", "7", "-s", "rr")
    d.start()
    t.di.run("ipvsadm", "-D", "-f", "7")
    assert rules(t.di) == before
    assert "removing our old mark of checks, fwmark" in d.log()
    # another method is another path
    assert d.api("PATCH", "/service/web/r1", {"method": "ipip"})[0] == 200
    moved = ipvs(t.di)
    assert len(marks(t.di)) == 4 and sum(dest.forward == "ipip" for name, s in moved.items() if name.startswith("FWM") for dest in s) == 1, moved
    assert len([1 for name in moved if name.startswith("FWM")]) == 5
    for service in ("web", "dns", "six"):
        assert d.api("DELETE", f"/service/{service}")[0] == 200
    assert rules(t.di) == ""


def test_marks_of_others_are_refused(t, d):
    status, answer = d.api("PUT", "/service/web", {"fwmark": FIRST_MARK + 5})
    assert status == 400 and answer["field"] == "fwmark" and "probe_marks" in answer["error"], answer
    assert d.api("PUT", "/config", {"services": {"web": {"fwmark": FIRST_MARK + 5}}})[0] == 400
    d.make("web", fwmark=7)
    d.make("web/r1", host=t.r1.v4, method="dr", pulse=FAST)
    assert backend(d, "r1")["via"] == "rip", "there is no VIP to connect to"
    d.stop()
    d.configure(probe_marks="1-9")
    done = t.di.run(d.binary, "-c", d.file, check=False)
    assert done.returncode == 1 and "web in the store: found 7, allowed are marks outside of 1 to 9" in done.stdout + done.stderr, done
    for bad in ("0-5", "9-1", "5", "0x100000000-0x100000001", 7):
        d.configure(probe_marks=bad)
        done = t.di.run(d.binary, "-c", d.file, "--check", check=False)
        assert done.returncode == 2 and "probe_marks: found" in done.stderr, done


def test_too_few_marks(t):
    """Those who get none are checked at their own address."""
    d = Director(t.di, probe_marks="0x42000000-0x42000000")
    d.make("web", host=t.vip, port=80)
    for server in t.servers:
        serve(server)
        by_hand(server, t.vip)
        d.make(f"web/{server.name}", host=server.v4, method="dr", pulse=FAST)
    assert [backend(d, s.name)["via"] for s in t.servers] == ["vip", "rip", "rip"]
    assert d.log().count("probe_marks: all 1 marks are in use") == 1
    assert d.api("DELETE", "/service/web/r1")[0] == 200
    d.make("web/r1", host=t.r1.v4, method="dr", pulse=FAST)
    assert backend(d, "r1")["via"] == "vip" and len(marks(t.di)) == 1


def test_which_way_is_told_by_the_pulse(t, d):
    LONG = {"type": "tcp", "interval": "1m", "timeout": "1m"}  # no verdict while this runs
    d.make("web", host=t.vip, port=80)
    for name, host, options, way in (
        ("auto", "10.1.0.201", {"pulse": LONG}, "vip"),
        ("rip", "10.1.0.202", {"pulse": {**LONG, "via": "rip"}}, "rip"),
        ("nat", "10.1.0.203", {"pulse": LONG, "method": "nat", "port": 8080}, "rip"),
        ("port", "10.1.0.204", {"pulse": {**LONG, "args": {"port": 8080}}}, "rip"),
        ("both", "10.1.0.205", {"pulse": {**LONG, "args": {"port": 8080}, "via": "vip"}}, "vip"),
        ("none", "10.1.0.206", {"pulse": NO_PULSE}, None),
    ):
        made = d.make(f"web/{name}", **{"host": host, "method": "dr", **options})
        assert made.get("via") == way, name
        assert backend(d, name).get("via") == way, name
    assert len(marks(t.di)) == 2
    assert d.api("PATCH", "/service/web/auto", {"pulse": {"via": "rip"}})[1]["via"] == "rip"
    assert len(marks(t.di)) == 1


def test_nat_along_the_path(t):
    """With the director as the real server's gateway the answers come back through it."""
    t.di.forward()
    d = Director(t.di)
    t.r1.run("ip", "route", "replace", "default", "via", t.di.v4)
    server = serve(t.r1, port=8080)
    d.make("web", host="10.100.0.1", port=80)
    d.make("web/r1", host=t.r1.v4, port=8080, method="nat", pulse={**FAST, "via": "vip"})
    wait_for(lambda: backend(d, "r1")["metrics"]["uptime"] >= 1, what="checked")
    assert backend(d, "r1")["via"] == "vip"
    server.stop()
    assert "via VIP 10.100.0.1: connection refused" in wait_status(d, "r1", "down")["reason"]


# ---------------------------------------------------------------- the director's host


def test_settings_that_may_not_be_made(t):
    """A check that cannot go along the path for the director's own fault goes to the RIP, and says what to type."""
    t.di.sysctl("net.ipv4.conf.all.rp_filter", 1)
    d = Director(t.di, probe_settings=False, resync="1s")
    serve(t.r1)
    by_hand(t.r1, t.vip)
    d.make("web", host=t.vip, port=80)
    d.make("web/r1", host=t.r1.v4, method="dr", pulse=FAST)
    for setting, value in (("accept_local", 1), ("rp_filter", 2)):
        problem = wait_for(lambda: (lambda p: p if setting in p else None)(backend(d, "r1").get("via_problem", "")), what=setting)
        assert backend(d, "r1")["via"] == "rip" and backend(d, "r1")["status"] == "up"
        assert problem == d.get("/status")["probes"]["problems"][0]
        command = problem[problem.index("sysctl") :].split()
        assert command == ["sysctl", "-w", f"net/ipv4/conf/eth0/{setting}={value}"]
        t.di.run(*command)
    wait_for(lambda: backend(d, "r1")["via"] == "vip", what="along the path")
    t.r1.ip(f"addr del {t.vip}/32 dev lo")
    wait_status(d, "r1", "down")


def test_settings_are_kept_and_put_back(t):
    t.di.sysctl("net.ipv4.conf.all.rp_filter", 1)
    d = Director(t.di, resync="1s", flush_on_exit=True)
    serve(t.r1)
    by_hand(t.r1, t.vip)
    d.make("web", host=t.vip, port=80)
    d.make("web/r1", host=t.r1.v4, method="dr", pulse=FAST)
    read = lambda: [t.di.sysctl(f"net.ipv4.conf.eth0.{s}") for s in ("accept_local", "rp_filter")]
    wait_for(lambda: read() == ["1", "2"], what="set")
    assert d.get("/status")["probes"]["devices"] == {"eth0": {"accept_local": 1, "rp_filter": 2}}
    t.di.sysctl("net.ipv4.conf.eth0.accept_local", 0)
    wait_for(lambda: read() == ["1", "2"], what="put back")
    assert "eth0: accept_local was 0, put back to 1" in d.log()
    assert d.stop() == 0
    assert read() == ["0", "0"] and rules(t.di) == ""


def test_a_firewall_of_the_directors_own(t):
    """Until somebody has been heard along the path, silence may be this host's fault, and does not count."""
    drop = ("INPUT", "-p", "tcp", "--sport", "80", "-s", t.vip, "-j", "DROP")
    t.di.run("iptables-legacy", "-A", *drop)
    d = Director(t.di)
    d.make("web", host=t.vip, port=80)
    pulse = {**FAST, "timeout": "300ms"}
    for server, via in ((t.r1, "auto"), (t.r2, "vip")):
        serve(server)
        by_hand(server, t.vip)
        d.make(f"web/{server.name}", host=server.v4, method="dr", pulse={**pulse, "via": via})
    wait_status(d, "r2", "down")
    wait_for(lambda: "perhaps a firewall of this host" in backend(d, "r1").get("via_problem", ""), what="it says so")
    assert backend(d, "r1")["via"] == "rip" and backend(d, "r1")["status"] == "up"
    assert "perhaps a firewall" in t.di.run(BRASS, "why", "web", "r1").stdout
    t.di.run("iptables-legacy", "-D", *drop)
    wait_status(d, "r2", "up")
    wait_for(lambda: backend(d, "r1")["via"] == "vip", what="along the path")
    # from now on silence counts
    t.di.run("iptables-legacy", "-A", *drop)
    wait_status(d, "r1", "down")


def test_groups_alone_hear_along_the_path(t, d):
    """No other kind of check tells that answers come in: a group that has passed does, and silence counts from then on."""
    d.make("web", host=t.vip, port=80)
    group = {"type": "all", "interval": "200ms", "timeout": "500ms", "args": {"checks": [{"type": "tcp"}, {"type": "http", "args": {"path": "/health"}}]}}
    for server in (t.r1, t.r2):
        serve(server)
        by_hand(server, t.vip)
        d.make(f"web/{server.name}", host=server.v4, method="dr", pulse=group)
        wait_for(lambda: backend(d, server.name)["metrics"]["uptime"] >= 1, what="checked and up")
        assert backend(d, server.name)["via"] == "vip"
    t.r2.ip(f"addr del {t.vip}/32 dev lo")
    assert "via VIP" in wait_status(d, "r2", "down")["reason"]
    assert backend(d, "r1")["status"] == "up" and "nobody has answered" not in d.log()
    t.r2.ip(f"addr add {t.vip}/32 dev lo")
    wait_status(d, "r2", "up")


def test_a_standby_checks_the_real_servers_themselves(t):
    """With backup_only a host with a backup daemon does not balance, its own packets neither: all would seem down."""
    d = Director(t.di, ipvs={"backup_only": 1}, sync={"backup": {"interface": "eth0"}})
    serve(t.r1)
    by_hand(t.r1, t.vip)
    d.make("web", host=t.vip, port=80)
    d.make("web/r1", host=t.r1.v4, method="dr", pulse=FAST)
    wait_for(lambda: "backup_only is 1" in backend(d, "r1").get("via_problem", ""), what="it says so")
    assert backend(d, "r1")["via"] == "rip" and backend(d, "r1")["status"] == "up"
    d.configure(ipvs={"backup_only": 0})
    d.process.signal(signal.SIGHUP)
    wait_for(lambda: backend(d, "r1")["via"] == "vip", what="along the path")
    assert "all checks go the way of traffic again" in d.log() and backend(d, "r1")["status"] == "up"


def test_a_director_that_does_not_hold_the_vip(t):
    """Nothing is to be set: the answers come from a stranger. Strict rp_filter lets them in by the way to the VIP."""
    t.di.sysctl("net.ipv4.conf.all.rp_filter", 1)
    d = Director(t.di, vip_device="none")
    serve(t.r1)
    by_hand(t.r1, t.vip)
    d.make("web", host=t.vip, port=80)
    d.make("web/r1", host=t.r1.v4, method="dr", pulse={**FAST, "via": "vip"})
    wait_for(lambda: backend(d, "r1")["metrics"]["uptime"] >= 1, what="checked")
    assert backend(d, "r1")["via"] == "vip" and backend(d, "r1")["status"] == "up"
    assert t.di.sysctl("net.ipv4.conf.eth0.accept_local") == "0" and t.di.sysctl("net.ipv4.conf.eth0.rp_filter") == "0"
    assert d.get("/status")["probes"]["devices"] == {"eth0": {}}
    t.r1.ip(f"addr del {t.vip}/32 dev lo")
    wait_status(d, "r1", "down")


# ---------------------------------------------------------------- sharing


def test_equal_checks_run_once(t, d):
    """Three services with the same real server and pulse: as many connections as one makes."""
    serve(t.r1)
    for n in (1, 2, 3):
        d.make(f"s{n}", host=f"10.100.0.{n}", port=80)
        d.make(f"s{n}/r1", host=t.r1.v4, method="dr", pulse={"type": "tcp", "interval": "1s", "via": "rip"})
    wait_for(lambda: all(backend(d, "r1", f"s{n}")["metrics"]["uptime"] >= 1 for n in (1, 2, 3)), what="all are checked")
    with t.r1.capture("eth0", "tcp[tcpflags] == tcp-syn and dst port 80") as seen:
        begin = time.monotonic()
        seen.wait(count=4, timeout=10)
        assert time.monotonic() - begin > 2.5, "more than one a second"
    for n in (1, 2, 3):
        assert d.api("PATCH", f"/service/s{n}/r1", {"pulse": {"interval": "4s"}})[0] == 200
    t.r1.run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
    for n in (1, 2, 3):
        wait_status(d, "r1", "down", f"s{n}", timeout=10)
    # what one has heard all have: nobody goes on with an older result
    times = [e["time"][-7:-1] for e in d.get("/events") if e["what"] == "status" and e["new"] == "down"]
    assert len(times) == 3 and len({time[:4] for time in times}) <= 2, times
