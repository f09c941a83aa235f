# SPDX-License-Identifier: Apache-2.0
"""The lab's own tools tell the truth: direct server return by hand, with ipvsadm, and nothing of Brass."""

import os

import pytest
from topology import Topology, arp_answers, dr_topology, ipvs, load, load_start, nat_topology, routed_topology, serve, wait_for


def by_hand(t, vip, port=80, protocol="-t", method="-g", servers=None):
    """A virtual service on the director, VIPs on the real servers' lo with ARP put right."""
    v6 = ":" in vip
    at = f"[{vip}]:{port}" if v6 else f"{vip}:{port}"
    t.di.ip(f"addr add {vip}/{128 if v6 else 32} dev eth0" + (" nodad preferred_lft 0" if v6 else ""))
    lines = [f"-A {protocol} {at} -s rr"]
    for server in servers or t.servers:
        server.no_arp()
        server.ip(f"addr add {vip}/{128 if v6 else 32} dev lo" + (" nodad preferred_lft 0" if v6 else ""))
        rip = f"[{server.v6}]" if v6 else server.v4
        lines.append(f"-a {protocol} {at} -r {rip}:{port} {method} -w 1")
    t.di.run("ipvsadm", "-R", stdin="\n".join(lines) + "\n")


@pytest.fixture
def t():
    with dr_topology() as t:
        yield t


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("udp", [False, True])
def test_direct_server_return(t, family, udp):
    vip = t.vip if family == 4 else t.vip6
    by_hand(t, vip, protocol="-u" if udp else "-t")
    for server in t.servers:
        serve(server)
    counts = load(t.cl, vip, 80, n=30, udp=udp)
    assert counts["requests"] == counts["ok"] == 30 and counts["failed"] == 0, counts
    assert counts["servers"] == {"r1": 10, "r2": 10, "r3": 10}
    (service,) = ipvs(t.di).values()
    assert service.scheduler == "rr" and [d.forward for d in service] == ["dr"] * 3
    assert sum(d.active + d.inactive for d in service) == 30


def test_load_counts_what_fails(t):
    by_hand(t, t.vip, servers=[t.r1])
    counts = load(t.cl, t.vip, 80, n=5)
    assert counts["failed"] == counts["requests"] == 5 and counts["ok"] == 0 and counts["first_ok_ms"] is None
    assert counts["reasons"] == {"refused": 5}
    server = serve(t.r1)
    assert load(t.cl, t.vip, 80, n=5)["ok"] == 5
    assert load(t.cl, t.vip, 80, n=3, path="/nothing")["reasons"] == {"http-404": 3}
    assert load(t.cl, t.vip, 80, n=2, path="/slow/400", timeout=150)["reasons"] == {"timeout": 2}
    server.fail()
    assert load(t.cl, t.vip, 80, n=2, path="/health")["reasons"] == {"http-503": 2}
    server.recover()
    assert load(t.cl, t.vip, 80, n=2, path="/health")["ok"] == 2
    t.di.run("ipvsadm", "-C")
    t.di.ip(f"addr del {t.vip}/32 dev eth0")
    t.ro.ip(f"route add blackhole {t.vip}/32")
    counts = load(t.cl, t.vip, 80, n=2, timeout=200)
    assert counts["failed"] == 2 and "refused" not in counts["reasons"]


def test_load_ends_when_told_and_loses_nothing(t):
    by_hand(t, t.vip)
    for server in t.servers:
        serve(server)
    running = load_start(t.cl, t.vip, 80, rate=100, c=4, path="/slow/50")
    wait_for(lambda: sum(d.active + d.inactive for d in ipvs(t.di)[f"TCP {t.vip}:80"]) >= 20, what="twenty connections")
    counts = running.finish()
    assert counts["ok"] == counts["requests"] >= 20 and counts["failed"] == 0, counts


def test_load_waits_for_the_first_answer(t):
    by_hand(t, t.vip, servers=[t.r1])
    running = load_start(t.cl, t.vip, 80, wait=20, n=5)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active > 0, what="tries")
    serve(t.r1)
    counts = running.result()
    assert counts["ok"] == counts["requests"] == 5 and counts["failed"] == 0
    assert counts["first_ok_ms"] > 0
    serve(t.r2)
    assert load(t.cl, t.r3.v4, 80, wait=0.2, n=5)["requests"] == 0


def test_kept_connections_break_when_their_server_dies(t):
    by_hand(t, t.vip, servers=[t.r1])
    server = serve(t.r1)
    running = load_start(t.cl, t.vip, 80, keep=True, c=2, rate=50)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 2, what="two connections")
    server.kill()
    wait_for(lambda: load(t.cl, t.vip, 80)["failed"] == 1, what="nobody listens")
    counts = running.finish()
    assert counts["failed"] > 0 and counts["ok"] > 0


@pytest.mark.parametrize("family", [4, 6])
def test_every_answerer_is_seen(t, family):
    vip = t.vip if family == 4 else t.vip6
    suffix = "/32" if family == 4 else "/128"
    assert arp_answers(t.ro, "eth1", vip) == []
    # an IPv6 address on lo does not leak; one on eth0 does, in both families
    for host in (t.di, t.r1, t.r3):
        host.ip(f"addr add {vip}{suffix} dev eth0" + (" nodad" if family == 6 else ""))
    assert arp_answers(t.ro, "eth1", vip) == sorted([t.di.mac(), t.r1.mac(), t.r3.mac()])
    assert arp_answers(t.di, "eth0", vip) == sorted([t.r1.mac(), t.r3.mac()]), "the director itself is not asked"


def test_arp_leak_of_a_vip_on_lo(t):
    by_hand(t, t.vip)
    assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]
    t.r2.sysctl("net.ipv4.conf.all.arp_ignore", 0)
    assert arp_answers(t.ro, "eth1", t.vip) == sorted([t.di.mac(), t.r2.mac()])


def test_capture_shows_the_way(t):
    by_hand(t, t.vip, servers=[t.r2])
    serve(t.r2)
    with t.r2.capture("eth0", "tcp port 80") as at_server, t.ro.capture("eth1", "tcp port 80") as at_router:
        assert load(t.cl, t.vip, 80)["ok"] == 1
    requests = [p for p in at_server.packets() if p.dst_mac == t.r2.mac()]
    replies = [p for p in at_router.packets() if p.dst_mac == t.ro.mac("eth1")]
    assert requests and {p.src_mac for p in requests} == {t.di.mac()}
    assert replies and {p.src_mac for p in replies} == {t.r2.mac()}, "replies pass the director by"
    assert all(p.text.startswith(f"{t.vip}.80 > ") for p in replies)


def test_byte_counters(t):
    by_hand(t, t.vip, servers=[t.r1])
    serve(t.r1)
    size = 2000000
    director, router = t.di.bytes("eth0"), t.ro.bytes("eth0")
    counts = load(t.cl, t.vip, 80, path=f"/bytes/{size}", timeout=20000)
    assert counts["ok"] == 1 and counts["bytes"] == size
    through_router = t.ro.bytes("eth0")[1] - router[1]
    through_director = t.di.bytes("eth0")[1] - director[1]
    assert size < through_router < 1.1 * size
    assert through_director < 0.1 * size


def test_packets_are_not_larger_than_the_wire(t):
    by_hand(t, t.vip, servers=[t.r1])
    serve(t.r1)
    with t.cl.capture("eth0", "tcp port 80") as seen:
        assert load(t.cl, t.vip, 80, path="/bytes/200000", body=200000, timeout=5000)["ok"] == 1
    assert max(p.length for p in seen.packets()) == 1514


def test_a_pulled_cable(t):
    serve(t.r1)
    assert load(t.cl, t.r1.v4, 80)["ok"] == 1
    t.unplug(t.r1)
    assert load(t.cl, t.r1.v4, 80, timeout=100)["ok"] == 0
    t.plug(t.r1)
    assert load(t.cl, t.r1.v4, 80, wait=5)["ok"] == 1


def test_routed_topology():
    with routed_topology() as t:
        for server in t.servers:
            serve(server)
            for address in (server.v4, server.v6):
                assert load(t.cl, address, 80)["servers"] == {server.name: 1}
                assert load(t.di, address, 80)["servers"] == {server.name: 1}
        # the VIPs come to the director: nobody has them yet, so it says so
        t.di.ip(f"addr add {t.vip}/32 dev lo", f"addr add {t.vip6}/128 dev lo")
        serve(t.di)
        assert load(t.cl, t.vip, 80)["servers"] == load(t.cl, t.vip6, 80)["servers"] == {"di": 1}


def test_nat_topology():
    with nat_topology() as t:
        serve(t.r1)
        t.di.ip(f"addr add {t.vip}/32 dev eth0")
        t.di.run("ipvsadm", "-R", stdin=f"-A -t {t.vip}:80 -s rr\n-a -t {t.vip}:80 -r {t.r1.v4}:80 -m\n")
        assert load(t.cl, t.vip, 80, timeout=200)["ok"] == 0, "replies pass the director by"
        t.r1.ip("route replace default via 10.1.0.10")
        assert load(t.cl, t.vip, 80)["servers"] == {"r1": 1}


def test_nothing_is_left():
    with Topology() as t:
        t.host("a", {"eth0": (t.segment("wire"), "10.0.0.1/24")})
        process = t.a.start("sleep", "1000")
        name, directory = t.a.namespace.name, t.directory
        assert process.running()
    assert not process.running()
    assert not os.path.exists(f"/run/netns/{name}") and not os.path.exists(directory)
