# SPDX-License-Identifier: Apache-2.0
"""The director alone against the kernel: what it says over REST, what the kernel then has, what clients see."""

import ctypes
import http.client
import json
import os
import shutil
import socket
import sqlite3
import threading

import pytest
from daemons import Director
from faults import Faults
from topology import TOOLS, arp_answers, dr_topology, endpoint, ipvs, load, load_start, rules, serve, wait_for

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "dh", "lblc", "fo", "ovf")
NO_PULSE = {"type": "none"}  # the default is tcp


def real_servers(t, *vips, servers=None):
    """Servers that are ready for dr: the VIPs on lo, no ARP for them, and something that answers."""
    for server in servers or t.servers:
        server.no_arp()
        server.ip(*(f"addr add {vip} dev lo" + (" nodad preferred_lft 0" if ":" in vip else "") for vip in vips))
    return [serve(server) for server in servers or t.servers]


def make_web(t, d, name="web", vip=None, port=80, scheduler="rr", servers=None, **backend):
    """A dr service with every real server behind it; without a pulse, unless one is given."""
    vip = vip or t.vip
    d.make(name, host=vip, port=port, method=scheduler)
    for server in servers or t.servers:
        d.make(f"{name}/{server.name}", **{"host": server.v6 if ":" in vip else server.v4, "port": port, "method": "dr", "pulse": NO_PULSE, **backend})


def steady(services):
    """GET /service?expand=1 without what moves by itself."""
    moving = {"stats", "active", "inactive", "metrics", "health"}
    if isinstance(services, dict):
        return {k: steady(v) for k, v in services.items() if k not in moving}
    return services


# ---------------------------------------------------------------- the routes


def test_gorb_routes(t, d):
    vs = {"host": t.vip, "port": 80, "protocol": "tcp", "method": "rr", "persistent": True}
    rs = {"host": t.r1.v4, "port": 80, "method": "dr", "weight": 70, "pulse": NO_PULSE}
    assert d.get("/service") == []

    status, made = d.api("PUT", "/service/web", vs)
    assert status == 200 and made["options"]["host"] == t.vip and made["options"]["persistent"] is True
    status, made = d.api("PUT", "/service/web/r1", rs)
    assert status == 200 and made["options"]["weight"] == 70 and made["options"]["method"] == "dr"
    assert d.get("/service") == ["web"]
    web = d.get("/service/web")
    assert web["backends"] == ["r1"] and web["health"] == 1.0 and web["options"]["method"] == "rr"
    backend = d.get("/service/web/r1")
    assert backend["metrics"]["status"] == "Up" and backend["metrics"]["health"] == 1.0 and backend["origin"] == "api"

    # the same again changes nothing, something else is refused with the names of the fields
    messages = d.get("/status")["kernel_messages"]
    assert d.api("PUT", "/service/web", vs)[0] == 200
    assert d.api("PUT", "/service/web/r1", rs)[0] == 200
    for path, body, word in (("web", {**vs, "method": "wlc"}, "method"), ("web/r1", {**rs, "weight": 1}, "weight")):
        status, answer = d.api("PUT", f"/service/{path}", body)
        assert status == 409 and word in answer["error"], answer
    assert d.get("/status")["kernel_messages"] == messages

    status, answer = d.api("PATCH", "/service/web", {"method": "wlc", "persistent": False})
    assert status == 200 and answer["options"]["method"] == "wlc" and not answer["options"]["persistent"]
    status, answer = d.api("PATCH", "/service/web/r1", {"weight": 5})
    assert status == 200 and answer["options"]["weight"] == 5 and answer["effective_weight"] == 5
    service = ipvs(t.di)[f"TCP {t.vip}:80"]
    assert service.scheduler == "wlc" and service.options == "" and service.weights() == {f"{t.r1.v4}:80": 5}

    assert d.api("DELETE", "/service/web/r1")[0] == 200
    assert d.get("/service/web")["backends"] == [] and ipvs(t.di)[f"TCP {t.vip}:80"] == []
    assert d.api("DELETE", "/service/web")[0] == 200
    assert d.get("/service") == [] and ipvs(t.di) == {}
    for method, path in (("GET", "web"), ("PATCH", "web"), ("DELETE", "web"), ("GET", "web/r1"), ("PUT", "web/r1"), ("DELETE", "web/r1")):
        status, answer = d.api(method, f"/service/{path}", {} if method in ("PUT", "PATCH") else None)
        assert status == 404 and "web" in answer["error"], (method, path, answer)


def test_metrics(t, d):
    """Prometheus text: every backend's weight and the kernel's counters."""
    real_servers(t, t.vip, servers=[t.r1])
    make_web(t, d, servers=[t.r1])
    assert load(t.cl, t.vip, 80, n=7)["ok"] == 7

    def samples():
        answer = d.api("GET", "/metrics")
        assert answer[0] == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    wait_for(lambda: samples()['brass_backend_connections_total{service="web",backend="r1"}'] == 7, what="seven connections")
    assert samples()['brass_backend_weight{service="web",backend="r1"}'] == 100
    assert samples()['brass_backend_up{service="web",backend="r1"}'] == 1
    assert samples()["brass_agents"] == 0


def test_gorb_clients_send_every_field(t, d):
    """What GORB's Go client marshals: empty strings, null and 0 for all that was not said; only 200 is a success to it."""
    d.make("web", host=t.vip, port=80)
    body = {"host": t.r1.v4, "port": 8080, "weight": 0, "method": "", "pulse": None}
    status, made = d.api("PUT", "/service/web/a", body)
    assert status == 200 and made["options"]["weight"] == 100 and made["options"]["method"] == "nat", made
    assert made["options"]["pulse"]["type"] == "tcp"
    # weight 0 that is meant stays
    assert d.make("web/b", host=t.r2.v4, port=8080, weight=0, pulse=NO_PULSE)["options"]["weight"] == 0


def test_gorb_words(t, d):
    """tunnel is ipip; a backend is nat with a tcp pulse, a service wrr and tcp, if nothing else is said."""
    d.make("web", host=t.vip, port=80)
    d.make("web/a", host=t.r1.v4, port=80, method="tunnel", pulse=NO_PULSE)
    d.make("web/b", host=t.r2.v4, port=8080)
    assert d.get("/service/web/b")["options"]["pulse"]["type"] == "tcp"
    d.api("DELETE", "/service/web/b")
    d.make("web/b", host=t.r2.v4, port=8080, pulse=NO_PULSE)
    service = ipvs(t.di)[f"TCP {t.vip}:80"]
    assert service.scheduler == "wrr"
    assert {dest.rs: (dest.forward, dest.weight) for dest in service} == {f"{t.r1.v4}:80": ("ipip", 100), f"{t.r2.v4}:8080": ("nat", 100)}
    assert d.get("/service/web/a")["options"]["method"] == "ipip"


def test_expanded_list_is_the_whole_state(t, d):
    make_web(t, d)
    make_web(t, d, "six", vip=t.vip6)
    everything = d.get("/service?expand=1")
    assert {name: sorted(s["backends"]) for name, s in everything.items()} == {"web": ["r1", "r2", "r3"], "six": ["r1", "r2", "r3"]}
    assert everything["six"]["backends"]["r2"]["options"]["host"] == t.r2.v6
    assert d.get("/status")["services"] == 2 and d.get("/status")["backends"] == 6
    assert d.api("HEAD", "/service").text == "" and d.api("HEAD", "/service")[0] == 200


# ---------------------------------------------------------------- the kernel's table


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("family", [4, 6])
def test_methods_and_schedulers(t, family, protocol):
    d = Director(t.di, vip_device="eth0")
    vip = t.vip if family == 4 else t.vip6
    rips = [server.v4 if family == 4 else server.v6 for server in t.servers]
    want = {}
    for port, scheduler in enumerate(SCHEDULERS, 8000):
        d.make(scheduler, host=vip, port=port, protocol=protocol, method=scheduler)
        d.make(f"{scheduler}/a", host=rips[0], port=port, method="dr", weight=1, pulse=NO_PULSE)
        d.make(f"{scheduler}/b", host=rips[1], port=port, method="ipip", weight=0, pulse=NO_PULSE)
        d.make(f"{scheduler}/c", host=rips[2], port=80, method="nat", weight=65535, pulse=NO_PULSE)
        want[f"{protocol.upper()} {endpoint(vip, port)}"] = (
            scheduler,
            {(endpoint(rips[0], port), "dr", 1), (endpoint(rips[1], port), "ipip", 0), (endpoint(rips[2], 80), "nat", 65535)},
        )
    table = ipvs(t.di)
    assert {key: (s.scheduler, {(x.rs, x.forward, x.weight) for x in s}) for key, s in table.items()} == want
    # each may become any other
    first = SCHEDULERS[0]
    for scheduler in SCHEDULERS[1:]:
        assert d.api("PATCH", f"/service/{first}", {"method": scheduler})[0] == 200
        key = f"{protocol.upper()} {endpoint(vip, 8000)}"
        assert f"-s {scheduler}" in next(line for line in rules(t.di).splitlines() if line.startswith("-A") and f"{endpoint(vip, 8000)} " in line), key
    for scheduler in SCHEDULERS:
        assert d.api("DELETE", f"/service/{scheduler}")[0] == 200
    assert ipvs(t.di) == {}


def test_flags_persistence_and_ops(t, d):
    d.make("mh", host=t.vip, port=80, method="mh", flags="mh-fallback|mh-port")
    d.make("sh", host=t.vip, port=81, method="sh", flags="sh-port")
    d.make("sticky", host=t.vip, port=82, persistent="2m")
    d.make("ops", host=t.vip, port=53, protocol="udp", method="rr", ops=True)
    table = ipvs(t.di)
    assert "mh-fallback" in table[f"TCP {t.vip}:80"].options and "mh-port" in table[f"TCP {t.vip}:80"].options
    assert table[f"TCP {t.vip}:81"].options == "(sh-port)"
    assert table[f"TCP {t.vip}:82"].options == "persistent 120"
    assert table[f"UDP {t.vip}:53"].options == "ops"
    d.api("PATCH", "/service/sticky", {"persistent": False})
    assert ipvs(t.di)[f"TCP {t.vip}:82"].options == ""


def test_a_tunnel_crosses_families(t, d):
    d.make("web", host=t.vip, port=80)
    d.make("web/six", host=t.r1.v6, method="ipip")
    d.make("web6", host=t.vip6, port=80)
    d.make("web6/four", host=t.r1.v4, method="ipip")
    table = ipvs(t.di)
    assert [x.rs for x in table[f"TCP {t.vip}:80"]] == [f"[{t.r1.v6}]:80"]
    assert [x.rs for x in table[f"TCP [{t.vip6}]:80"]] == [f"{t.r1.v4}:80"]


@pytest.mark.parametrize("family", [4, 6])
def test_traffic_and_its_counters(t, d, family):
    vip = t.vip if family == 4 else t.vip6
    real_servers(t, vip)
    make_web(t, d, vip=vip)
    counts = load(t.cl, vip, 80, n=30)
    assert counts["servers"] == {"r1": 10, "r2": 10, "r3": 10} and counts["failed"] == 0, counts
    # the kernel adds its counters up every two seconds (ip_vs_est.c)
    # and the director keeps those of the backends for a moment
    def counted():
        web = d.get("/service/web?expand=1")
        return [web["stats"]["connections"]] + [b["stats"]["connections"] for b in web["backends"].values()] == [30, 10, 10, 10] and web

    web = wait_for(counted, what="counters")
    assert web["stats"]["in_packets"] > 90 and web["stats"]["in_bytes"] > 30 * 40
    assert web["stats"]["out_bytes"] == 0, "replies do not come by in direct server return"
    for backend in web["backends"].values():
        assert backend["stats"]["connections"] == 10 and backend["active"] + backend["inactive"] == 10
    load(t.cl, vip, 80, n=3)
    wait_for(lambda: d.get("/service/web/r1")["stats"]["connections"] == 11, what="counters of a backend")
    wait_for(lambda: d.get("/service/web")["stats"]["connections"] == 33, what="counters of the service")


def test_weight_0_gets_nothing_new(t, d):
    real_servers(t, t.vip)
    make_web(t, d)
    kept = load_start(t.cl, t.vip, 80, keep=True, c=3, rate=60)
    wait_for(lambda: sum(x.active for x in ipvs(t.di)[f"TCP {t.vip}:80"]) == 3, what="three kept connections")
    d.api("PATCH", "/service/web/r1", {"weight": 0})
    counts = load(t.cl, t.vip, 80, n=20)
    assert counts["servers"] == {"r2": 10, "r3": 10}
    counts = kept.finish()
    assert counts["failed"] == 0 and counts["servers"]["r1"] > 0, counts


def test_drift_is_repaired(t):
    d = Director(t.di, resync="1s")
    make_web(t, d)
    before = rules(t.di)
    t.di.run("ipvsadm", "-d", "-t", f"{t.vip}:80", "-r", f"{t.r1.v4}:80")
    t.di.run("ipvsadm", "-E", "-t", f"{t.vip}:80", "-s", "wlc")
    t.di.run("ipvsadm", "-a", "-t", f"{t.vip}:80", "-r", "10.1.0.77:80", "-g")
    t.di.ip(f"addr del {t.vip}/32 dev brass0")
    wait_for(lambda: rules(t.di) == before, what="the table is as it was")
    wait_for(lambda: f"{t.vip}/32" in t.di.addresses("brass0"), what="the VIP is back")
    assert "resync" in d.log()


@pytest.mark.parametrize("listed", [True, False])
def test_a_service_from_before_is_ours_whatever_is_refused_of_it(t, listed):
    """The kernel takes no real server of the other family while connections are synchronised. A service that is not in
    the list of what is ours is taken over as it is (its store was lost, say)."""
    d = Director(t.di)
    d.make("web", host=t.vip, port=80)
    d.make("web/six", host=t.r1.v6, method="ipip", pulse={"type": "none"})
    d.stop()
    t.di.run("ipvsadm", "-d", "-t", f"{t.vip}:80", "-r", f"[{t.r1.v6}]:80")
    if not listed:
        with sqlite3.connect(d.store) as db:
            assert db.execute("DELETE FROM item WHERE name = ?", (f"tcp {t.vip}:80",)).rowcount == 1
        db.close()
    t.di.run("ipvsadm", "--start-daemon", "master")
    d.start()
    assert "sync daemon exclude each other" in d.log()
    assert d.api("DELETE", "/service/web")[0] == 200
    assert ipvs(t.di) == {} and d.get("/status")["foreign_services"] == []


def test_foreign_services_are_left_alone(t):
    foreign = "-A -t 10.1.0.99:80 -s sh\n-a -t 10.1.0.99:80 -r 10.1.0.101:80 -m -w 7\n"
    t.di.run("ipvsadm", "-R", stdin=foreign + "-A -f 7 -s rr\n")
    d = Director(t.di, resync="1s", flush_on_exit=True)
    make_web(t, d)
    names = [s["service"] for s in d.get("/status")["foreign_services"]]
    assert sorted(names) == ["fwmark 7", "tcp 10.1.0.99:80"]
    d.restart()
    assert d.api("DELETE", "/service/web")[0] == 200
    assert d.stop() == 0
    table = ipvs(t.di)
    assert sorted(table) == ["FWM 7", "TCP 10.1.0.99:80"] and table["TCP 10.1.0.99:80"].weights() == {"10.1.0.101:80": 7}


@pytest.mark.parametrize("vip", ["new", "there"])
@pytest.mark.parametrize("scheduler", ["rr", "wlc"])
def test_a_refused_take_over_puts_back_what_was_there(t, scheduler, vip):
    """The service that somebody made by hand in our place: the kernel takes the first of our changes and refuses a later
    one (no real server of the other family while connections are synchronised). With scheduler rr the service itself
    is as we want it. The VIP may have been on the device before us, and is not ours then."""
    foreign = "-A -t 10.1.0.99:80 -s rr\n-a -t 10.1.0.99:80 -r 10.1.0.101:80 -m -w 7\n-a -t 10.1.0.99:80 -r 10.1.0.102:80 -m -w 8\n"
    t.di.run("ipvsadm", "-R", stdin=foreign)
    t.di.run("ipvsadm", "--start-daemon", "master")
    d = Director(t.di)
    # its owner changes it after we have seen it
    t.di.run("ipvsadm", "-e", "-t", "10.1.0.99:80", "-r", "10.1.0.102:80", "-m", "-w", 0)
    before = t.di.run("ipvsadm", "-Sn").stdout
    if vip == "there":
        t.di.run("ip", "addr", "add", "10.1.0.99/32", "dev", "brass0")
    vips = t.di.addresses("brass0")
    plain = {"host": "10.1.0.102", "method": "nat", "pulse": {"type": "none"}}
    six = {"host": t.r1.v6, "method": "ipip", "pulse": {"type": "none"}}
    service = {"host": "10.1.0.99", "port": 80, "method": scheduler, "backends": {"plain": plain, "six": six}}
    for _ in range(2):
        status, said = d.api("PUT", "/config", {"services": {"web": service}})
        assert status == 500 and "sync daemon exclude each other" in said["error"]
        assert t.di.run("ipvsadm", "-Sn").stdout == before and d.get("/service") == [] and t.di.addresses("brass0") == vips
        assert [s["service"] for s in d.get("/status")["foreign_services"]] == ["tcp 10.1.0.99:80"]
    d.restart()
    assert t.di.run("ipvsadm", "-Sn").stdout == before
    # without what is refused it is ours, as it has always been
    del service["backends"]["six"]
    assert d.api("PUT", "/config", {"services": {"web": service}})[0] == 200
    assert ipvs(t.di)["TCP 10.1.0.99:80"].weights() == {"10.1.0.102:80": 100} and d.get("/status")["foreign_services"] == []
    assert d.api("DELETE", "/service/web")[0] == 200
    assert ipvs(t.di) == {} and t.di.addresses("brass0") == vips


# ---------------------------------------------------------------- VIPs


def test_vip_comes_and_goes(t, d):
    assert t.di.link("brass0")["linkinfo"]["info_kind"] == "dummy"
    assert "UP" in t.di.link("brass0")["flags"]
    assert t.vip not in str(t.di.addresses("brass0"))
    d.make("a", host=t.vip, port=80)
    d.make("b", host=t.vip, port=81)
    d.make("six", host=t.vip6, port=80)
    assert f"{t.vip}/32" in t.di.addresses("brass0") and f"{t.vip6}/128" in t.di.addresses("brass0")
    six = next(a for a in json.loads(t.di.run("ip", "-j", "addr", "show", "dev", "brass0").stdout)[0]["addr_info"] if a["local"] == t.vip6)
    assert six["preferred_life_time"] == 0 and not six.get("tentative"), "never a source address, never waiting for DAD"
    d.api("DELETE", "/service/a")
    assert f"{t.vip}/32" in t.di.addresses("brass0"), "b still has it"
    d.api("DELETE", "/service/b")
    d.api("DELETE", "/service/six")
    assert t.vip not in str(t.di.addresses("brass0")) and t.vip6 not in str(t.di.addresses("brass0"))


def test_vip_on_a_real_device(t):
    d = Director(t.di, vip_device="eth0")
    d.make("web", host=t.vip, port=80)
    d.make("six", host=t.vip6, port=80)
    assert {f"{t.vip}/32", f"{t.vip6}/128"} < set(t.di.addresses("eth0")) and t.di.link("brass0") is None
    assert arp_answers(t.ro, "eth1", t.vip) == arp_answers(t.ro, "eth1", t.vip6) == [t.di.mac()]
    d.api("DELETE", "/service/web")
    d.api("DELETE", "/service/six")
    assert arp_answers(t.ro, "eth1", t.vip) == arp_answers(t.ro, "eth1", t.vip6) == []
    assert f"{t.di.v4}/24" in t.di.addresses("eth0")


def test_a_vip_that_was_there_stays(t):
    t.di.ip(f"addr add {t.vip}/32 dev eth0")
    d = Director(t.di, vip_device="eth0")
    d.make("web", host=t.vip, port=80)
    d.restart()
    d.api("DELETE", "/service/web")
    assert f"{t.vip}/32" in t.di.addresses("eth0")


def test_a_real_vip_device_that_is_away_is_not_made(t):
    """ifdown and ifup: whoever makes the device again finds its name free; then the VIPs are put back."""
    pair = "link add real0 type veth peer name real1"
    t.di.ip(pair)
    d = Director(t.di, vip_device="real0", resync="1s")
    d.make("web", host=t.vip, port=80)
    t.di.ip("link del real0")
    status, answer = d.api("PUT", "/service/late", {"host": "10.1.0.111", "port": 80})
    assert status == 500 and "device real0 is gone" in answer["error"] and d.get("/service") == ["web"]
    wait_for(lambda: "resync: device real0 is gone" in d.log(), what="a resync missed it")
    assert t.di.link("real0") is None
    t.di.ip(pair)
    wait_for(lambda: f"{t.vip}/32" in t.di.addresses("real0"), what="the VIP is back")
    d.make("late", host="10.1.0.111", port=80)
    assert "10.1.0.111/32" in t.di.addresses("real0")


def test_vip_device_none(t):
    d = Director(t.di, vip_device="none")
    d.make("web", host=t.vip, port=80)
    assert t.di.link("brass0") is None and t.vip not in str(t.di.addresses("eth0"))
    assert f"TCP {t.vip}:80" in ipvs(t.di)


def test_vip_is_announced(t, d):
    with t.r1.capture("eth0", "arp or icmp6") as seen:
        d.make("web", host=t.vip, port=80)
        d.make("six", host=t.vip6, port=80)
        arp = seen.wait(lambda p: f"who-has {t.vip}" in p.text and f"tell {t.vip}" in p.text, 2, what="gratuitous ARPs")
        na = seen.wait(lambda p: "neighbor advertisement" in p.text and t.vip6 in p.text, 2, what="neighbour advertisements")
    assert {(p.src_mac, p.dst_mac) for p in arp} == {(t.di.mac(), "ff:ff:ff:ff:ff:ff")}
    assert {(p.src_mac, p.dst_mac) for p in na} == {(t.di.mac(), "33:33:00:00:00:01")}


@pytest.mark.parametrize("family", [4, 6])
def test_announcing_mends_a_wrong_neighbour(family):
    with dr_topology(route_vip6=False) as t:
        vip = t.vip if family == 4 else t.vip6
        t.r1.ip(f"addr add {vip}/{32 if family == 4 else 128} dev eth0" + (" nodad" if family == 6 else ""))
        serve(t.r1)
        assert load(t.cl, vip, 80)["servers"] == {"r1": 1}
        assert t.ro.neighbour(vip, "eth1") == t.r1.mac()
        d = Director(t.di, vip_device="eth0")
        d.make("web", host=vip, port=80)
        wait_for(lambda: t.ro.neighbour(vip, "eth1") == t.di.mac(), what="the router has the director's MAC")


# ---------------------------------------------------------------- stop, crash, start


def test_kill_and_restart_lose_nothing(t, d):
    real_servers(t, t.vip, t.vip6)
    make_web(t, d)
    make_web(t, d, "six", vip=t.vip6, scheduler="mh")
    d.api("PATCH", "/service/web/r3", {"weight": 7})
    table, state, vips = rules(t.di), steady(d.get("/service?expand=1")), sorted(t.di.addresses("brass0"))
    short = load_start(t.cl, t.vip, 80, rate=100, timeout=5000)
    kept = load_start(t.cl, t.vip, 80, keep=True, c=3, rate=30, timeout=5000)
    for _ in range(3):
        d.kill9()
        assert rules(t.di) == table
        d.start()
        assert rules(t.di) == table and steady(d.get("/service?expand=1")) == state and sorted(t.di.addresses("brass0")) == vips
        assert d.get("/status")["kernel_messages"] == 0, "an equal table is adopted, not written again"
    for running in (short, kept):
        counts = running.finish()
        assert counts["failed"] == 0 and counts["ok"] == counts["requests"] > 0, counts


class SlowDisk(Director):
    """What it writes takes a while to be on the disk."""

    def __init__(self, host, **config):
        self.faults = Faults(os.path.join(host.directory("director"), "faults"), os.path.join(TOOLS, "lab-faults.so"))
        super().__init__(host, **config)

    def launch(self):
        environment = [f"{name}={value}" for name, value in self.faults.environment().items()]
        self.process = self.host.start("env", *environment, self.binary, "-c", self.file, name=self.name)
        self._logs.append(self.process)
        return self.process


def test_writers_do_not_keep_all_else_waiting(t):
    """Clients that write without a pause: while a change of one goes to the disk those of the others arrive. The signal to
    stop is heard all the same, after a few more answers."""
    d = SlowDisk(t.di)
    written = [0] * 40

    def write(number):
        connection = http.client.HTTPConnection("127.0.0.1", 4672)
        connection.sock = t.di.connect("127.0.0.1", 4672, 30)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = json.dumps({"host": t.vip, "port": 1000 + number})
        while written[number] < 1000:
            try:
                connection.request("DELETE" if written[number] % 2 else "PUT", f"/service/s{number}", body)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                return
            written[number] += 1

    d.faults.set(sync_ms=5)
    writers = [threading.Thread(target=write, args=[number]) for number in range(len(written))]
    for writer in writers:
        writer.start()
    wait_for(lambda: min(written) >= 40, 30, "all of them write")
    before = sum(written)
    assert d.stop() == 0
    for writer in writers:
        writer.join()
    assert sum(written) - before < 10 * len(written), "one of them was served while the signal waited"


def test_acknowledged_changes_survive_kill(t, d):
    acknowledged = []

    def make_services():
        number = len(acknowledged)
        while True:
            try:
                status, _ = d.api("PUT", f"/service/s{number}", {"host": t.vip, "port": 1000 + number, "method": "rr"})
            except (OSError, http.client.HTTPException):
                return
            assert status == 200
            acknowledged.append(f"s{number}")
            number += 1

    for round_number in range(1, 5):
        before = len(acknowledged)
        writer = threading.Thread(target=make_services)
        writer.start()
        wait_for(lambda: len(acknowledged) >= before + 3 * round_number, what="some services are made")
        d.kill9()
        writer.join()
        d.start()
        have = set(d.get("/service"))
        assert set(acknowledged) <= have and len(have) <= len(acknowledged) + 1
        table = ipvs(t.di)
        assert len(table) == len(have) and all(f"TCP {t.vip}:{1000 + int(name[1:])}" in table for name in have)
        acknowledged[:] = [f"s{n}" for n in range(len(have))]


def test_changes_while_it_was_away(t, d):
    """A table that someone changed while the director was dead is put right at its start, and not more than that."""
    make_web(t, d)
    table = rules(t.di)
    d.kill9()
    t.di.run("ipvsadm", "-d", "-t", f"{t.vip}:80", "-r", f"{t.r2.v4}:80")
    t.di.ip(f"addr del {t.vip}/32 dev brass0")
    d.start()
    assert rules(t.di) == table and f"{t.vip}/32" in t.di.addresses("brass0")
    assert d.get("/status")["kernel_messages"] == 1
    d.kill9()
    t.di.run("ipvsadm", "-C")
    t.di.ip("link del brass0")
    d.start()
    assert rules(t.di) == table and f"{t.vip}/32" in t.di.addresses("brass0")


def test_clean_stop_keeps_the_table(t, d):
    real_servers(t, t.vip)
    make_web(t, d)
    table = rules(t.di)
    running = load_start(t.cl, t.vip, 80, rate=100, timeout=5000)
    assert d.stop() == 0
    assert rules(t.di) == table and f"{t.vip}/32" in t.di.addresses("brass0")
    d.start()
    assert rules(t.di) == table
    counts = running.finish()
    assert counts["failed"] == 0 and counts["ok"] > 0, counts


def test_flush_on_exit(t):
    d = Director(t.di, flush_on_exit=True)
    make_web(t, d)
    make_web(t, d, "six", vip=t.vip6)
    assert len(ipvs(t.di)) == 2
    assert d.stop() == 0
    assert ipvs(t.di) == {} and t.vip not in str(t.di.addresses("brass0")) and t.vip6 not in str(t.di.addresses("brass0"))
    d.start()
    assert len(ipvs(t.di)) == 2 and f"{t.vip}/32" in t.di.addresses("brass0"), "the services are still known"


# ---------------------------------------------------------------- pulses


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_pulse(t, d, kind, family):
    vip = t.vip if family == 4 else t.vip6
    servers = real_servers(t, vip)
    pulse = {"type": kind, "interval": "100ms", "timeout": "1s", "args": {"path": "/health"} if kind == "http" else {}}
    make_web(t, d, vip=vip, pulse=pulse, weight=9)
    key, rs = f"TCP {endpoint(vip, 80)}", endpoint(t.r1.v6 if family == 6 else t.r1.v4, 80)
    weight = lambda: ipvs(t.di)[key].weights()[rs]
    assert weight() == 9

    if kind == "http":
        servers[0].fail()
    else:
        servers[0].kill()
    wait_for(lambda: weight() == 0, what="r1 has weight 0")
    backend = d.get("/service/web/r1")
    assert backend["options"]["weight"] == 9 and backend["effective_weight"] == 0
    assert backend["metrics"]["status"] == "Down" and backend["metrics"]["health"] < 1 and backend["reason"]
    assert d.get("/service/web")["health"] < 1
    assert load(t.cl, vip, 80, n=10)["servers"] == {"r2": 5, "r3": 5}

    if kind == "http":
        servers[0].recover()
    else:
        serve(t.r1)
    wait_for(lambda: weight() == 9, what="r1 has its weight again")
    assert d.get("/service/web/r1")["metrics"]["status"] == "Up"
    assert set(load(t.cl, vip, 80, n=9)["servers"]) == {"r1", "r2", "r3"}


def test_pulse_of_a_dead_host(t, d):
    make_web(t, d, pulse={"type": "tcp", "interval": "200ms", "timeout": "200ms"})
    real_servers(t, t.vip)
    weights = lambda: ipvs(t.di)[f"TCP {t.vip}:80"].weights()
    wait_for(lambda: set(weights().values()) == {100}, what="all are up")
    t.unplug(t.r2)
    wait_for(lambda: weights()[f"{t.r2.v4}:80"] == 0, what="r2 has weight 0")
    t.plug(t.r2)
    wait_for(lambda: weights()[f"{t.r2.v4}:80"] == 100, 10, what="r2 is back")


def test_pulse_can_be_taken_away(t, d):
    make_web(t, d, servers=[t.r1], pulse={"type": "tcp", "interval": "100ms"})
    weights = lambda: set(ipvs(t.di)[f"TCP {t.vip}:80"].weights().values())
    wait_for(lambda: weights() == {0}, what="nobody listens")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"type": "none"}})[0] == 200
    wait_for(lambda: weights() == {100}, what="without a pulse it is up")


def test_a_verdict_survives_a_restart(t, d):
    real_servers(t, t.vip, servers=[t.r1])
    make_web(t, d, servers=[t.r1, t.r2], pulse={"type": "tcp", "interval": "100ms"})
    rs = f"{t.r2.v4}:80"
    weights = lambda: ipvs(t.di)[f"TCP {t.vip}:80"].weights()
    wait_for(lambda: weights()[rs] == 0, what="r2 is down")
    running = load_start(t.cl, t.vip, 80, rate=100)
    wait_for(lambda: d.get("/service/web/r1")["stats"]["connections"] > 5, what="traffic")
    for _ in range(2):
        d.kill9()
        d.start()
        wait_for(lambda: d.get("/service/web/r1")["metrics"]["health"] == 1.0, what="r1 was checked")
        assert weights() == {f"{t.r1.v4}:80": 100, rs: 0}
    counts = running.finish()
    assert counts["failed"] == 0, counts


# ---------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def strict():
    """One director for all of the refused requests: none of them may change anything."""
    with dr_topology() as t:
        t.d = Director(t.di)
        make_web(t, t.d)
        t.d.make("six", host=t.vip6, port=80)
        t.d.make("dns", host=t.vip, port=53, protocol="udp", ops=True)
        yield t


SERVICE = {"host": "10.1.0.200", "port": 80}
BACKEND = {"host": "10.1.0.150", "port": 80, "method": "dr"}
ALL = "GET, PUT, PATCH, DELETE"
# name: method, path, body (bytes: as they are), status, field, words of the sentence
BAD = {
    "unknown field": ("PUT", "/service/x", {**SERVICE, "colour": "red"}, 400, "colour", ["unknown", "host", "port"]),
    "unknown field of a backend": ("PUT", "/service/web/x", {**BACKEND, "wieght": 1}, 400, "wieght", ["unknown", "weight"]),
    "unknown field in a pulse": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"typ": "tcp"}}, 400, "pulse.typ", ["unknown", "type"]),
    "unknown field in a pulse's args": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"args": {"x": 1}}}, 400, "pulse.args.x", ["unknown", "path"]),
    "no host": ("PUT", "/service/x", {"port": 80}, 400, "host", ["missing"]),
    "no port": ("PUT", "/service/x", {"host": "10.1.0.200"}, 400, "port", ["missing"]),
    "null in a PATCH for what has no default": ("PATCH", "/service/web/r1", {"host": None}, 400, "host", ["null", "needs it"]),
    "wrong type of a port": ("PUT", "/service/x", {**SERVICE, "port": "80"}, 400, "port", ['"80"', "0 to 65535"]),
    "wrong type of a host": ("PUT", "/service/x", {**SERVICE, "host": 12}, 400, "host", ["12", "address"]),
    "wrong type of a method": ("PUT", "/service/x", {**SERVICE, "method": ["rr"]}, 400, "method", ["list", "rr"]),
    "wrong type of ops": ("PUT", "/service/x", {**SERVICE, "protocol": "udp", "ops": 1}, 400, "ops", ["1", "true or false"]),
    "wrong type of persistent": ("PUT", "/service/x", {**SERVICE, "persistent": 5}, 400, "persistent", ["true, false"]),
    "port 0": ("PUT", "/service/x", {**SERVICE, "port": 0}, 400, "port", ["0", "persistent"]),
    "port 70000": ("PUT", "/service/x", {**SERVICE, "port": 70000}, 400, "port", ["70000", "0 to 65535"]),
    "port -1": ("PUT", "/service/x", {**SERVICE, "port": -1}, 400, "port", ["-1"]),
    "port 80.5": ("PUT", "/service/x", {**SERVICE, "port": 80.5}, 400, "port", ["0 to 65535"]),
    "port 2^64": ("PUT", "/service/x", b'{"host": "10.1.0.200", "port": 18446744073709551616}', 400, None, []),
    "weight 65536": ("PUT", "/service/web/x", {**BACKEND, "weight": 65536}, 400, "weight", ["65535"]),
    "weight -1": ("PUT", "/service/web/x", {**BACKEND, "weight": -1}, 400, "weight", ["-1"]),
    "unknown protocol": ("PUT", "/service/x", {**SERVICE, "protocol": "icmp"}, 400, "protocol", ["icmp", "tcp", "udp"]),
    "unknown scheduler": ("PUT", "/service/x", {**SERVICE, "method": "best"}, 400, "method", ["best", "kernel"]),
    "scheduler by PATCH": ("PATCH", "/service/web", {"method": "best"}, 400, "method", ["best", "kernel"]),
    "scheduler with a path in it": ("PUT", "/service/x", {**SERVICE, "method": "../rr"}, 400, "method", ["rr"]),
    "unknown flag": ("PUT", "/service/x", {**SERVICE, "method": "sh", "flags": "sh-prot"}, 400, "flags", ["sh-prot", "flag-1"]),
    "unknown method": ("PUT", "/service/web/x", {**BACKEND, "method": "teleport"}, 400, "method", ["teleport", "dr", "ipip", "nat"]),
    "not an address": ("PUT", "/service/x", {**SERVICE, "host": "example.com"}, 400, "host", ["example.com", "address"]),
    "multicast": ("PUT", "/service/x", {**SERVICE, "host": "224.0.0.1"}, 400, "host", ["unicast"]),
    "any address": ("PUT", "/service/x", {**SERVICE, "host": "0.0.0.0"}, 400, "host", ["unicast"]),
    "loopback": ("PUT", "/service/x", {**SERVICE, "host": "127.0.0.1"}, 400, "host", ["loopback"]),
    "mapped address": ("PUT", "/service/x", {**SERVICE, "host": "::ffff:10.1.0.200"}, 400, "host", ["address"]),
    "taken address and port": ("PUT", "/service/x", {**SERVICE, "host": "10.1.0.100"}, 409, "host", ["web"]),
    "taken place of a backend": ("PUT", "/service/web/x", {**BACKEND, "host": "10.1.0.101"}, 409, "host", ["r1"]),
    "IPv6 server of an IPv4 service": ("PUT", "/service/web/x", {**BACKEND, "host": "fd00:1::150"}, 400, "host", ["IPv6", "IPv4", "ipip"]),
    "IPv4 server of an IPv6 service": ("PUT", "/service/six/x", {**BACKEND, "method": "nat"}, 400, "host", ["IPv6", "ipip"]),
    "dr to another port": ("PUT", "/service/web/x", {**BACKEND, "port": 8080}, 400, "port", ["8080", "80", "dr"]),
    "ipip to another port": ("PUT", "/service/web/x", {**BACKEND, "port": 8080, "method": "ipip"}, 400, "port", ["8080", "80", "ipip"]),
    "nat in one-packet mode": ("PUT", "/service/dns/x", {**BACKEND, "port": 53, "method": "nat"}, 400, "method", ["nat", "dr", "tunnels"]),
    "one-packet mode for tcp": ("PUT", "/service/x", {**SERVICE, "ops": True}, 400, "ops", ["udp"]),
    "the VIP as its own tunnel end": ("PUT", "/service/web/x", {**BACKEND, "host": "10.1.0.100", "method": "ipip"}, 400, "host", ["VIP"]),
    "another VIP by PATCH": ("PATCH", "/service/web", {"host": "10.1.0.200"}, 400, "host", ["cannot be changed"]),
    "another port by PATCH": ("PATCH", "/service/web", {"port": 81}, 400, "port", ["cannot be changed"]),
    "another RIP by PATCH": ("PATCH", "/service/web/r1", {"host": "10.1.0.150"}, 400, "host", ["cannot be changed"]),
    "a program to run": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"type": "exec", "args": {"command": ["/bin/true"]}}}, 400, "pulse.args.command", ["/bin/true", "check_programs"]),
    "a program to run for agents": ("PATCH", "/service/web", {"pulse": {"type": "exec", "args": {"command": ["/bin/true"]}}}, 400, "pulse.args.command", ["check_programs"]),
    "a command without exec": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"type": "tcp", "args": {"command": ["/bin/true"]}}}, 400, "pulse.args.command", ["found with type tcp", "exec"]),
    "pulse of an unknown type": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"type": "magic"}}, 400, "pulse.type", ["magic", "tcp"]),
    "pulse without pause": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"interval": "1ms"}}, 400, "pulse.interval", ["100ms"]),
    "pulse interval as a number": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"interval": 5}}, 400, "pulse.interval", ["500ms"]),
    "pulse as a word": ("PUT", "/service/web/x", {**BACKEND, "pulse": "tcp"}, 400, "pulse", ["object"]),
    "newline in a path": ("PUT", "/service/web/x", {**BACKEND, "pulse": {"type": "http", "args": {"path": "/\r\nX: y"}}}, 400, "pulse.args.path", ["control"]),
    "bad name": ("PUT", "/service/a%20b", SERVICE, 400, "name", ["letters"]),
    "long name": ("PUT", "/service/" + "n" * 65, SERVICE, 400, "name", ["64"]),
    "name with a zero": ("PUT", "/service/a%00b", SERVICE, 400, "name", ["letters"]),
    "empty body": ("PUT", "/service/x", b"", 400, "body", ["empty"]),
    "no JSON": ("PUT", "/service/x", b"host=10.1.0.200", 400, "body", ["JSON"]),
    "half of it": ("PUT", "/service/x", b'{"host": "10.1.0.200", "port"', 400, "body", ["JSON", "line 1"]),
    "two objects": ("PUT", "/service/x", b'{"host": "10.1.0.200", "port": 80}{}', 400, "body", ["JSON"]),
    "a list": ("PUT", "/service/x", b"[1]", 400, "body", ["list", "object"]),
    "twice the same field": ("PUT", "/service/x", b'{"host": "10.1.0.200", "port": 80, "port": 81}', 400, "body", ["port"]),
    "deep nesting": ("PUT", "/service/x", b"[" * (1 << 20), 400, "body", ["JSON"]),
    "deep objects": ("PUT", "/service/x", b'{"a":' * 100000, 400, "body", ["JSON"]),
    "invalid UTF-8": ("PUT", "/service/x", b'{"host": "\xff\xfe", "port": 80}', 400, "body", ["JSON"]),
    "a zero byte": ("PUT", "/service/x", b'{"host": "10.1.0.200\\u0000", "port": 80}', 400, None, []),
    "too large": ("PUT", "/service/x", b" " * (4 << 20) + b"{}", 413, None, ["4194304"]),
    "unknown path": ("GET", "/nothing", None, 404, None, ["/service"]),
    "path too deep": ("GET", "/service/web/r1/x", None, 404, None, []),
    "path out of bounds": ("GET", "/" + "a/" * 600, None, 414, None, ["long"]),
    "unknown service": ("GET", "/service/x", None, 404, None, ["x"]),
    "unknown backend": ("GET", "/service/web/x", None, 404, None, ["x"]),
    "backend of an unknown service": ("PUT", "/service/x/y", BACKEND, 404, None, ["x"]),
    "wrong verb for a service": ("POST", "/service/web", SERVICE, 405, ALL, ["POST"]),
    "wrong verb for the list": ("DELETE", "/service", None, 405, "GET", ["DELETE"]),
    "wrong verb for a backend": ("POST", "/service/web/r1", BACKEND, 405, ALL, ["POST"]),
    "unknown verb": ("BREW", "/service/web", None, 405, ALL, ["BREW"]),
    "agent without an address": ("PUT", "/agent/n1", {"boot": "b", "ttl": "5s", "backends": {}}, 400, "address", ["missing"]),
    "agent with a bad state": (
        "PUT",
        "/agent/n1",
        {"address": "10.1.0.101", "boot": "b", "ttl": "5s", "backends": {"web": {"state": "fine"}}},
        400,
        "backends.web.state",
        ["fine", "up"],
    ),
    "agent with a short lease": ("PUT", "/agent/n1", {"address": "10.1.0.101", "boot": "b", "ttl": "1ms", "backends": {}}, 400, "ttl", ["1s"]),
    "unknown agent": ("DELETE", "/agent/nobody", None, 404, None, ["nobody"]),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input(strict, name):
    method, path, body, status, field, words = BAD[name]
    d, di = strict.d, strict.di
    before = rules(di), steady(d.get("/service?expand=1"))
    raw = {"raw": body} if isinstance(body, bytes) else {"body": body}
    answer = d.api(method, path, **raw)
    for made in set(d.get("/service")) - {"web", "six", "dns"}:  # the next case begins with what this one began with
        d.api("DELETE", f"/service/{made}")
    assert answer[0] == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    if status == 405:
        assert answer.headers["Allow"] == field
    elif field:
        assert answer[1].get("field") == field, answer.text
    for word in words:
        assert word in answer[1]["error"], answer.text
    assert len(answer[1]["error"]) > 10
    assert (rules(di), steady(d.get("/service?expand=1"))) == before
    assert d.get("/agent") == {}


def test_a_client_that_goes_away(strict):
    """Half a request, then nothing: others do not notice."""
    for half in (b"", b"PUT /serv", b"PUT /service/x HTTP/1.1\r\nHost: d\r\nContent-Length: 50\r\n\r\n{", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"):
        sockets = [strict.di.connect("127.0.0.1", 4672) for _ in range(5)]
        for s in sockets:
            s.sendall(half)
        assert strict.d.get("/healthz") == {"status": "ok"}
        for s in sockets:
            s.close()
    assert strict.d.get("/healthz") == {"status": "ok"} and "x" not in strict.d.get("/service")


# ---------------------------------------------------------------- what can be wrong at a start


def fails(d, code, *words):
    """Starts the director, which must end with this exit code, say these words, and leave no trace."""
    process = d.launch()
    assert process.wait() == code, process.output()
    for word in words:
        assert word in process.stderr(), process.stderr()
    assert d.host.link("brass0") is None and ipvs(d.host) == {}


def test_port_taken(t):
    serve(t.di, port=4672)
    fails(Director(t.di, start=False), 1, f"{t.di.v4}:4672", "in use", "listen")


def test_second_director_on_one_store(t, d):
    """Whatever it does, it must not disturb the first one."""
    make_web(t, d)
    table = rules(t.di)
    second = t.di.start(d.binary, "-c", d.file)
    assert second.wait() in (1, 5), second.output()
    assert rules(t.di) == table and d.get("/service") == ["web"]


@pytest.mark.parametrize("who", ["nobody", "root without CAP_NET_ADMIN"])
def test_no_permission(t, who):
    d = Director(t.di, start=False)
    binary = shutil.copy(d.binary, t.directory)  # where everybody may read it
    if who == "nobody":
        os.chown(d.directory, 65534, 65534)
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    else:
        words = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    done = t.di.run(*words, binary, "-c", d.file, check=False)
    assert done.returncode == 3, done.stderr
    assert "CAP_NET_ADMIN" in done.stderr and t.di.link("brass0") is None


def damage(path, kind):
    if kind == "garbage":
        with open(path, "wb") as f:
            f.write(b"this is no database\n" * 500)
    elif kind == "directory":
        os.unlink(path)
        os.mkdir(path)
    else:  # a page in the middle
        with open(path, "r+b") as f:
            size = os.fstat(f.fileno()).st_size
            f.seek(size // 2 // 4096 * 4096)
            f.write(b"\xa5" * 4096)


@pytest.mark.parametrize("kind", ["garbage", "directory", "page"])
def test_store_damaged(t, d, kind):
    make_web(t, d)
    for n in range(60):
        d.make(f"more{n}", host=t.vip, port=1000 + n)
    assert d.stop() == 0
    table = rules(t.di)
    damage(d.store, kind)
    before = None if kind == "directory" else open(d.store, "rb").read()
    process = d.launch()
    assert process.wait() == 5, process.output()
    assert d.store in process.stderr()
    assert rules(t.di) == table, "the traffic goes on"
    assert before is None or open(d.store, "rb").read() == before, "the file is left as it is for who repairs it"


def test_store_unwritable(t):
    fails(Director(t.di, start=False, store="/proc/nothing/here.db"), 5, "/proc/nothing/here.db")
    fails(Director(t.di, start=False, store=os.path.join(t.directory, "no", "such", "folder.db")), 5, "folder.db")


def test_store_of_someone_else(t):
    d = Director(t.di, start=False)
    binary = shutil.copy(d.binary, t.directory)
    done = t.di.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, "-c", d.file, check=False)
    assert done.returncode == 5 and d.store in done.stderr, done.stderr


def test_store_full(t):
    """No room left: the change is refused, what was there stays, and when there is room again it goes on."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = t.di.directory("small")
    assert libc.mount(b"none", place.encode(), b"tmpfs", 0, b"size=300k") == 0
    try:
        d = Director(t.di, store=os.path.join(place, "director.db"))
        d.make("web", host=t.vip, port=80)
        ballast = os.path.join(place, "ballast")
        with open(ballast, "wb", buffering=0) as f:
            try:
                while f.write(b"\0" * 4096):
                    pass
            except OSError:
                pass
        refused = None
        for n in range(200):
            status, answer = d.api("PUT", f"/service/s{n}", {"host": t.vip, "port": 1000 + n})
            if status != 200:
                refused = n, status, answer
                break
        assert refused and refused[1] == 503 and "store" in refused[2].get("field", "") + refused[2]["error"], refused
        table, names = ipvs(t.di), d.get("/service")
        assert len(table) == len(names) == refused[0] + 1
        os.unlink(ballast)
        d.make("later", host=t.vip, port=81)
        d.restart()
        assert sorted(d.get("/service")) == sorted([*names, "later"])
        d.stop()
    finally:
        libc.umount2(place.encode(), 2)


# text of the file, then: line, field, words
MISTAKES = {
    "unknown key": ("listen: 127.0.0.1:4672\nlissten: x\n", 2, "lissten", ["unknown", "vip_device"]),
    "wrong port": ("store: /tmp/x.db\nlisten: 127.0.0.1:70000\n", 2, "listen", ["127.0.0.1:70000", "1 to 65535"]),
    "wrong address": ("listen: [127.0.0.1:1, everywhere:80]\n", 1, "listen", ["everywhere:80", "ADDRESS:PORT"]),
    "open to all": ("# here\nlisten: 0.0.0.0:4672\n", 2, "listen", ["insecure"]),
    "wrong time": ("resync: 5\n", 1, "resync", ["5", "1s", "30s"]),
    "short time": ("\n\nresync: 1ms\n", 3, "resync", ["1ms", "1s"]),
    "wrong choice": ("log_level: loud\n", 1, "log_level", ["loud", "debug"]),
    "wrong type": ("insecure: yes please\n", 1, "insecure", ["true or false"]),
    "number": ("body_max: 12\n", 1, "body_max", ["12", "1024"]),
    "twice": ("store: a\nstore: b\n", 2, "store", []),
    "broken YAML": ("listen: [127.0.0.1:1\nstore: x\n", 2, "", []),
    "tab": ("listen:\n\t- 127.0.0.1:1\n", 2, "", []),
    "list": ("- listen\n", None, "", ["object"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_configuration_mistake(strict, name):
    text, line, field, words = MISTAKES[name]
    path = os.path.join(strict.di.directory("mistakes"), name.replace(" ", "-") + ".yaml")
    with open(path, "w") as f:
        f.write(text)
    for options in ([], ["--check"]):
        done = strict.di.run(Director.binary, "-c", path, *options, check=False)
        assert done.returncode == 2, done.stderr
        for word in [path, field, *words, *([f"line {line}"] if line else [])]:
            assert word in done.stderr, done.stderr
        assert done.stdout == "" and done.stderr.count("\n") == 1


def test_configuration_is_missing_or_fine(strict):
    done = strict.di.run(Director.binary, "-c", "/nonexistent.yaml", check=False)
    assert done.returncode == 2 and "/nonexistent.yaml" in done.stderr
    assert strict.di.run(Director.binary, "--check", "-c", strict.d.file).returncode == 0
    for options in (["--nonsense"], ["word"], ["-c"], ["--listen", "127.0.0.1:0"]):
        done = strict.di.run(Director.binary, *options, check=False)
        assert done.returncode == 2 and done.stderr, options
