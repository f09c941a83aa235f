# SPDX-License-Identifier: Apache-2.0
"""The whole state as one document: PUT and GET /config, `brass apply` and its like, the configuration file, the store."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3

import pytest
from daemons import Agent, Director
from topology import BUILD, ipvs, load, load_start, rules, serve, wait_for

BRASS = os.path.join(BUILD, "director", "cli", "brass")
NO_PULSE = {"type": "none"}
VIP = "10.1.0.100"


def backend(host, **more):
    return {"host": host, "method": "dr", "pulse": NO_PULSE, **more}


def web(*hosts, **more):
    return {"host": VIP, "port": 80, "backends": {f"b{n}": backend(h) for n, h in enumerate(hosts)}, **more}


def brass(t, *words, check=True, stdin=None):
    return t.di.run(BRASS, *words, check=check, stdin=stdin)


def messages(d):
    return d.get("/status")["kernel_messages"]


def put(d, services, query="", code=200):
    status, answer = d.api("PUT", f"/config{query}", {"services": services})
    assert status == code, answer
    return answer


def vips(t):
    return sorted(a for a in t.di.addresses("brass0") if not a.startswith("fe80:"))


def test_least_difference(t, d):
    services = {"web": web("10.1.0.101", "10.1.0.102"), "dns": {"host": VIP, "port": 53, "protocol": "udp"}}
    assert put(d, services) == {"added": 4, "changed": 0, "deleted": 0}
    assert d.get("/config") == {"services": services}
    before = messages(d)
    assert put(d, services) == {"added": 0, "changed": 0, "deleted": 0}
    assert messages(d) == before
    # one weight is one message; another name for the same place is none
    services["web"]["backends"]["b0"]["weight"] = 7
    assert put(d, services) == {"added": 0, "changed": 1, "deleted": 0}
    assert messages(d) == before + 1
    services["web"]["backends"]["renamed"] = services["web"]["backends"].pop("b0")
    assert put(d, services) == {"added": 1, "changed": 0, "deleted": 1}
    assert messages(d) == before + 1
    # two services change places: nothing is deleted and made again but what has to be
    services["web"]["port"], services["dns"] = 81, {"host": VIP, "port": 80}
    assert put(d, services)["changed"] == 4  # with the ports of two backends, which follow their service's
    table = rules(t.di)
    assert "-A -t 10.1.0.100:81 -s wrr" in table and "-a -t 10.1.0.100:81 -r 10.1.0.101:81 -g -w 7" in table
    assert "-A -t 10.1.0.100:80 -s wrr" in table and "-t 10.1.0.100:80 -r" not in table and "-u" not in table
    assert put(d, {}) == {"added": 0, "changed": 0, "deleted": 2}  # a service goes with its backends
    assert not rules(t.di) and d.get("/config") == {"services": {}} and vips(t) == []


def test_dry_run_tells_and_changes_nothing(t, d):
    for server in t.servers:
        server.no_arp()
        server.ip(f"addr add {VIP} dev lo")
        serve(server)
    services = {"web": web(t.r1.v4, t.r2.v4), "old": {"host": VIP, "port": 8080}}
    put(d, services)
    held = [t.cl.connect(VIP, 80) for _ in range(4)]
    table, before = rules(t.di), messages(d)
    services["web"]["backends"].pop("b1")
    services["web"]["backends"]["b2"] = backend(t.r3.v4)
    services["web"]["method"] = "rr"
    services.pop("old")
    plan = put(d, services, "?dry_run=1")
    assert (plan["added"], plan["changed"], plan["deleted"]) == (1, 1, 2)
    assert {"action": "delete", "service": "web", "backend": "b1", "connections": 2} in plan["plan"]
    assert {"action": "delete", "service": "old", "connections": 0} in plan["plan"]
    assert {"action": "change", "service": "web", "fields": "method"} in plan["plan"]
    assert {"action": "add", "service": "web", "backend": "b2"} in plan["plan"]
    assert rules(t.di) == table and messages(d) == before and len(held) == 4


def test_all_mistakes_at_once(t, d):
    put(d, {"web": web("10.1.0.101")})
    table = rules(t.di)
    bad = {
        "web": {"host": VIP, "port": 99999, "method": "RR", "backends": {}},
        "same": {"host": VIP, "port": 80},
        "again": {"host": VIP, "port": 80},
        "x y": {},
        "b": web("10.1.0.101", "10.1.0.101", port=81),
        "c": {"host": "10.1.0.9", "port": 1, "backends": {"d": {"weight": -1, "nope": 1}, "e": backend("fd00::1")}},
    }
    answer = put(d, bad, code=400)
    assert {m["field"] for m in answer["errors"]} == {
        "services.web.port", "services.web.method", "services.again.host", "services", "services.b.backends.b1.host",
        "services.c.backends.d.weight", "services.c.backends.d.nope", "services.c.backends.d.host", "services.c.backends.e.host"}  # fmt: skip
    assert answer["error"].startswith("9 mistakes")
    many = {f"s{n}": {"host": VIP, "port": -1} for n in range(300)}
    answer = put(d, many, code=400)
    assert len(answer["errors"]) == 100 and answer["error"].startswith("300 mistakes")
    for body, field in (({}, "services"), ({"services": {}, "more": 1}, "more"), ({"services": [1]}, None)):
        status, answer = d.api("PUT", "/config", body)
        assert status == 400 and answer.get("field") == field, answer
    assert rules(t.di) == table and list(d.get("/config")["services"]) == ["web"]


def test_what_the_kernel_refuses_is_taken_back_whole(t, d):
    put(d, {"web": web("10.1.0.101"), "gone": {"host": "10.1.0.50", "port": 1}})
    table, document = rules(t.di), d.get("/config")
    answer = put(d, {"web": web("10.1.0.102", weight=None) | {"method": "nope"}, "new": {"host": "10.1.0.51", "port": 1}} | {}, code=400)
    assert "errors" in answer  # weight is no field of a service
    # a real server of the other family, while connections are synchronised
    t.di.run("ipvsadm", "--start-daemon", "master")
    other = {"host": "10.1.0.52", "port": 80, "backends": {"b": backend("fd00:1::101", method="ipip")}}
    answer = put(d, {"web": web("10.1.0.102"), "new": {"host": "10.1.0.51", "port": 1}, "other": other}, code=500)
    assert "sync daemon exclude each other" in answer["error"]
    assert rules(t.di) == table and d.get("/config") == document
    t.di.run("ipvsadm", "--stop-daemon", "master")
    d.restart()
    assert rules(t.di) == table and d.get("/config") == document
    assert vips(t) == ["10.1.0.100/32", "10.1.0.50/32"]


def test_what_the_kernel_lacks_is_found_before_anything_is_stored(t, d):
    """All of it, each with its path, and a power cut at any time finds none of it on the disk."""
    put(d, {"web": web("10.1.0.101")})
    table, document = rules(t.di), d.get("/config")
    sip = {"host": "10.1.0.50", "port": 5060, "protocol": "udp", "persistent": True, "pe": "nope"}
    answer = put(d, {"web": web("10.1.0.102", method="nope"), "new": {"host": "10.1.0.51", "port": 1}, "sip": sip}, code=400)
    assert [m["field"] for m in answer["errors"]] == ["services.web.method", "services.sip.pe"]
    assert "ip_vs_nope" in answer["errors"][0]["error"] and "ip_vs_pe_nope" in answer["errors"][1]["error"]
    assert rules(t.di) == table and d.get("/config") == document
    for name in (d.store, f"{d.store}-wal"):
        with open(name, "rb") as file:
            assert b"nope" not in file.read(), name


def test_agents_are_left_alone(t, d):
    put(d, {"web": web()})
    Agent(t.r1, [d], {"web": {"method": "dr"}})
    wait_for(lambda: d.get("/service/web")["backends"] == ["r1"], what="the agent is registered")
    assert put(d, {"web": web(t.r2.v4)}) == {"added": 1, "changed": 0, "deleted": 0}
    assert sorted(d.get("/service/web")["backends"]) == ["b0", "r1"]
    assert list(d.get("/config")["services"]["web"]["backends"]) == ["b0"]
    # neither its name nor its place can be taken
    clash = web()
    clash["backends"] = {"r1": backend("10.1.0.77"), "x": backend(t.r1.v4)}
    answer = put(d, {"web": clash}, code=400)
    assert [m["field"] for m in answer["errors"]] == ["services.web.backends.r1", "services.web.backends.x.host"]
    # a new VIP reaches it
    put(d, {"web": {"host": "10.1.0.120", "port": 80}})
    wait_for(lambda: "10.1.0.120/32" in t.r1.addresses("lo"), 10, "the agent's host has the new VIP")


@pytest.mark.parametrize("name, host", [("r1", "10.1.0.102"), ("b0", "10.1.0.101")], ids=["name", "place"])
def test_what_is_declared_comes_before_agents_that_wait(t, d, name, host):
    """An agent waits for a service. The document that makes it declares a backend of the agent's name, or at its place."""
    Agent(t.r1, [d], {"web": {"method": "dr"}})
    wait_for(lambda: d.api("GET", "/agent/r1")[0] == 200, what="the agent is registered")
    declared = {"host": VIP, "port": 80, "backends": {name: backend(host)}}
    assert put(d, {"web": declared}) == {"added": 2, "changed": 0, "deleted": 0}
    assert d.get("/service/web")["backends"] == [name]
    assert ipvs(t.di)[f"TCP {VIP}:80"].weights() == {f"{host}:80": 100}
    assert put(d, {"web": declared}) == {"added": 0, "changed": 0, "deleted": 0}
    d.restart()
    assert d.get("/service/web")["backends"] == [name]
    assert d.api("DELETE", f"/service/web/{name}")[0] == 200
    wait_for(lambda: d.get("/service/web")["backends"] == ["r1"], 20, what="the place is free for the agent")


YAML = """\
# a comment
services:
  web:
    host: 10.1.0.100
    port: 80
    split: {label: version, shares: {a: 9, "1": 1}}
    backends:
      b0: {host: 10.1.0.101, method: dr, labels: {version: "1"}, pulse: {type: none}}
  "53":
    host: 10.1.0.100
    port: 53
    protocol: udp
"""


def test_yaml_and_the_command(t, d, tmp_path):
    file = tmp_path / "state.yaml"
    file.write_text(YAML)
    diff = brass(t, "diff", str(file)).stdout
    assert "add     web      b0" in diff and diff.endswith("3 added, 0 changed, 0 deleted\n")
    assert rules(t.di) == ""
    assert brass(t, "apply", str(file)).stdout == "3 added, 0 changed, 0 deleted\n"
    exported = brass(t, "export").stdout
    assert '  "53":' in exported and "split: {label: version, shares: {\"1\": 1, a: 9}}" in exported
    # what was exported is what is there, in either language
    again = tmp_path / "again.yaml"
    again.write_text(exported)
    assert brass(t, "diff", str(again)).stdout == "0 added, 0 changed, 0 deleted\n"
    again = tmp_path / "again.json"
    again.write_text(brass(t, "--json", "export").stdout)
    assert json.loads(again.read_text()) == d.get("/config")
    assert brass(t, "diff", str(again)).stdout == "0 added, 0 changed, 0 deleted\n"
    assert brass(t, "apply", "-", stdin="services: {}\n").stdout == "0 added, 0 changed, 2 deleted\n"
    file.write_text(YAML.replace("port: 80", "port: eighty").replace("method: dr", "method: fly"))
    done = brass(t, "apply", str(file), check=False)
    assert done.returncode == 1
    assert "state.yaml, line 5: services.web.port: " in done.stderr
    file.write_text(YAML.replace("method: dr", "method: fly"))
    assert "state.yaml, line 8: services.web.backends.b0.method: " in brass(t, "apply", str(file), check=False).stderr
    file.write_text("services:\n  web: [\n")
    assert "line 3" in brass(t, "apply", str(file), check=False).stderr
    assert d.get("/service") == []


def test_import_of_what_ipvsadm_saved(t, d, tmp_path):
    for line in (
        "-A -t 10.1.0.60:80 -s wlc -p 90 -M 255.255.255.0", "-a -t 10.1.0.60:80 -r 10.1.0.101:80 -g -w 3 -x 10 -y 5",
        "-a -t 10.1.0.60:80 -r 10.1.0.102:8080 -m -w 0", "-A -u [fd00:1::60]:53 -s rr -o", "-a -u [fd00:1::60]:53 -r [fd00:1::101]:53 -g",
        "-A -f 7 -s mh -b mh-port,mh-fallback", "-a -f 7 -r 10.1.0.101:0 -i --tun-type gue --tun-port 6080 --tun-remcsum",
        "-A -f 7 -6 -s rr", "-a -f 7 -6 -r [fd00:1::101]:0 -i --tun-type gre --tun-csum", "-A -t 10.1.0.60:0 -s rr -p 300",
        "-a -t 10.1.0.60:0 -r 10.1.0.101:0 -g", "-A --sctp-service 10.1.0.60:9 -s sh"):  # fmt: skip
        t.di.run("ipvsadm", *line.split())
    saved = tmp_path / "saved"
    table = rules(t.di)
    saved.write_text(table + "-A -t www:http -s rr\n-a -t www:http -r x:80 -g\n--frob\n-A -t 10.1.0.61:80 --frob\n")
    d.make("mine", host="10.1.0.99", port=80)
    d.restart()  # it looks at what is there
    before = messages(d)
    done = brass(t, "import", str(saved))
    # ipvsadm saves no thresholds: that is all that is changed, and VIPs come to the director
    assert sorted(rules(t.di).replace("-A -t 10.1.0.99:80 -s wrr\n", "").splitlines()) == sorted(table.splitlines())
    assert messages(d) <= before + 1
    assert done.stdout.endswith("12 added, 0 changed, 0 deleted\n"), done.stdout
    lines = table.count("\n")
    for number, word in ((1, "www:http"), (2, "www:http"), (3, "--frob"), (4, "--frob")):
        assert f"line {lines + number}: not taken: " in done.stderr and word in done.stderr
    assert "mine" in d.get("/service") and "10.1.0.60/32" in t.di.addresses("brass0")
    assert d.get("/service/fwmark-7")["options"]["flags"] == "mh-fallback|mh-port"
    again = brass(t, "import", str(saved), check=False)
    assert again.returncode == 1 and "is there already" in again.stderr


# ---------------------------------------------------------------- the configuration file


def test_services_of_the_configuration_file(t):
    d = Director(t.di, services={"web": web("10.1.0.101")}, resync="1h")
    assert list(d.get("/service")) == ["web"]
    d.make("more", host=VIP, port=81)
    table = rules(t.di)
    d.restart()  # the file's word counts
    assert list(d.get("/service")) == ["web"] and ":81" not in rules(t.di) and ":81" in table
    # SIGHUP: read again, as a whole
    d.configure(services={"web": web("10.1.0.101", "10.1.0.102", method="rr")}, log_level="debug")
    d.process.signal(signal.SIGHUP)
    wait_for(lambda: "-A -t 10.1.0.100:80 -s rr" in rules(t.di) and "10.1.0.102:80" in rules(t.di), what="the file is read again")
    # a mistake leaves all as it was, and says where
    before = rules(t.di)
    d.configure(services={"web": web("10.1.0.101", method="rr", port=-1)})
    d.process.signal(signal.SIGHUP)
    wait_for(lambda: "all stays as it was" in d.log(), what="the mistake is told")
    assert "services.web.port" in d.log() and rules(t.di) == before
    # what takes a restart is named
    d.configure(services={"web": web("10.1.0.101", method="rr")}, vip_device="other0")
    d.process.signal(signal.SIGHUP)
    wait_for(lambda: "vip_device: has changed in the file; it takes effect with the next start" in d.log(), what="it is named")
    assert "10.1.0.102" not in rules(t.di)
    # --check looks at services, too
    d.configure(services={"web": web("10.1.0.101", method="rr", host="127.0.0.1")})
    done = t.di.run(d.binary, "-c", d.file, "--check", check=False)
    assert done.returncode == 2 and "services.web.host" in done.stderr


def test_reload_under_load(t):
    for server in t.servers:
        server.no_arp()
        server.ip(f"addr add {VIP} dev lo")
        serve(server)
    d = Director(t.di, services={"web": web(t.r1.v4, t.r2.v4)})
    running = load_start(t.cl, VIP, rate=300, c=4, least=20)
    for number in range(5):
        hosts = (t.r1.v4, t.r2.v4, t.r3.v4)[: 2 + number % 2]
        d.configure(services={"web": web(*hosts, method=("rr", "wlc")[number % 2])})
        d.process.signal(signal.SIGHUP)
        wait_for(lambda: d.log().count("read again") == number + 1, what="the file is read again")  # noqa: B023
        assert load(t.cl, VIP, n=20)["ok"] == 20  # so that there is traffic between two readings, however fast they are
    d.restart()
    assert load(t.cl, VIP, n=20)["ok"] == 20
    counts = running.finish()
    assert counts["failed"] == 0 and counts["ok"] >= 20, counts


def test_a_new_binary_takes_over(t):
    """An upgrade in place: the file is replaced, the service restarted; nothing is written, no connection is lost."""
    for server in t.servers:
        server.no_arp()
        server.ip(f"addr add {VIP} dev lo")
        serve(server)
    d = Director(t.di)
    copy = os.path.join(d.directory, "brass-director")
    shutil.copy(d.binary, copy)
    d.stop()
    d.binary = copy
    d.start()
    put(d, {"web": web(*(s.v4 for s in t.servers))})
    running = load_start(t.cl, VIP, rate=300, c=4, keep=True, least=20)
    shutil.copy(Director.binary, copy + ".new")
    os.rename(copy + ".new", copy)
    d.restart()
    assert load(t.cl, VIP, n=20)["ok"] == 20
    counts = running.finish()
    assert counts["failed"] == 0 and counts["ok"] >= 20, counts
    assert d.log().rstrip().splitlines()[-2].endswith("0 changes made in the kernel's table")


def test_take_all(t):
    t.di.run("ipvsadm", "-A", "-t", "10.9.9.9:80", "-s", "rr")
    t.di.run("ipvsadm", "-A", "-f", "9", "-s", "rr")
    d = Director(t.di, resync="1s")
    d.make("web", host=VIP, port=80)
    wait_for(lambda: len(d.get("/status")["foreign_services"]) == 2, what="foreign services are listed")
    d.restart()
    assert "10.9.9.9:80" in rules(t.di)
    d.stop()
    d.configure(take_all=True)
    d.start()
    wait_for(lambda: rules(t.di) == "-A -t 10.1.0.100:80 -s wrr\n", 10, "only ours is left")


# ---------------------------------------------------------------- the store


def test_a_damaged_store(t):
    d = Director(t.di)
    put(d, {f"s{n}": {"host": "10.1.0.100", "port": 1 + n, "backends": {"b": backend("10.1.0.101", weight=n)}} for n in range(400)})
    table = rules(t.di)
    d.stop()
    with sqlite3.connect(d.store) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = os.path.getsize(d.store)
    with open(d.store, "r+b") as f:
        f.seek(size // 2 // 4096 * 4096)
        f.write(os.urandom(4096))
    process = d.launch()
    assert process.wait() == 5 and "--store-recover" in process.output()
    assert rules(t.di) == table  # nobody touched the kernel
    done = t.di.run(d.binary, "-c", d.file, "--store-recover")
    assert ".damaged" in done.stderr and os.path.exists(d.store + ".damaged")
    d.start()
    services = d.get("/service?expand=1").values()
    backends = sum(len(s["backends"]) for s in services)
    assert 400 < len(services) + backends < 800, (len(services), backends)


def test_a_newer_store(t):
    d = Director(t.di)
    d.make("web", host=VIP, port=80)
    d.stop()
    with sqlite3.connect(d.store) as db:
        db.execute("INSERT INTO item VALUES (0, '', 'later', '{\"host\": \"10.1.0.9\", \"port\": 1, \"colour\": \"red\"}')")
        db.execute("PRAGMA user_version = 99")
    process = d.launch()
    assert process.wait() == 5 and "newer" in process.output() and "--store-recover" in process.output()
    t.di.run(d.binary, "-c", d.file, "--store-recover")
    d.start()
    assert d.get("/service") == ["web"]


def test_no_store_no_change(t, d):
    """A disk that is full: the answer is 503, and nothing has changed anywhere."""
    d.make("web", host=VIP, port=80)
    d.stop()
    small = t.di.directory("small")
    t.di.run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small)
    try:
        shutil.copy(d.store, os.path.join(small, "director.db"))
        d.store = os.path.join(small, "director.db")
        d.configure(store=d.store)
        d.start()
        with open(os.path.join(small, "filler"), "wb", buffering=0) as f:
            with contextlib.suppress(OSError):
                while True:
                    f.write(bytes(4096))
            f.truncate(f.tell() - 100000)
        refused, number = None, 0
        while not refused and number < 400:
            status, answer = d.api("PUT", f"/service/web/b{number}", {**backend(f"10.2.{number // 200}.{1 + number % 200}"), "labels": {f"l{i}": "x" * 60 for i in range(8)}})
            refused = answer if status != 200 else None
            number += 1
        assert status == 503 and "full" in refused["error"], (status, refused)
        made = d.get("/service/web")["backends"]
        assert len(made) == number - 1 == rules(t.di).count("\n-a ") + rules(t.di).startswith("-a ")
        d.kill9()
        os.unlink(os.path.join(small, "filler"))
        d.start()
        assert sorted(d.get("/service/web")["backends"]) == sorted(made)
        d.stop()
    finally:
        t.di.run("umount", "-l", small)


def test_load_still_flows(t, d):
    """A large document beside running traffic."""
    for server in t.servers:
        server.no_arp()
        server.ip(f"addr add {VIP} dev lo")
        serve(server)
    services = {"web": web(*(s.v4 for s in t.servers))}
    put(d, services)
    running = load_start(t.cl, VIP, rate=200, c=4)
    many = {f"s{n}": {"host": "10.1.0.90", "port": 1 + n, "backends": {f"b{i}": backend(f"10.2.0.{1 + i}") for i in range(10)}} for n in range(300)}
    assert put(d, {**services, **many})["added"] == 300 * 11
    assert rules(t.di).count("\n") == 300 * 11 + 4
    assert put(d, services)["deleted"] == 300
    counts = running.finish()
    assert counts["failed"] == 0, counts
    assert load(t.cl, VIP, n=3)["ok"] == 3
