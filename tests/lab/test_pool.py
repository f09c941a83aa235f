# SPDX-License-Identifier: Apache-2.0
"""Services as a whole: quorum, sorry servers, panic, zones; what clients get then, and the programs that are run."""

import os

import pytest
from daemons import Director
from topology import ipvs, load, rules, serve, wait_for

PULSE = {"type": "http", "interval": "200ms", "timeout": "1s", "args": {"path": "/health"}}


@pytest.fixture
def d(t):
    return Director(t.di)


def ready(t):
    for server in t.servers:
        server.no_arp()
        server.ip(f"addr add {t.vip} dev lo")
    return [serve(server) for server in t.servers]


def make(t, d, labels=None, **service):
    d.make("web", host=t.vip, port=80, method="wrr", **service)
    for server, own in zip(t.servers, labels or [{}] * len(t.servers)):
        d.make(f"web/{server.name}", host=server.v4, method="dr", pulse=PULSE, **({"labels": own} if own else {}))


def weights(t):
    """Of r1, r2, r3 in the kernel."""
    found = ipvs(t.di)[f"TCP {t.vip}:80"].weights()
    return [found[f"{server.v4}:80"] for server in t.servers]


def served(t, n=60):
    counts = load(t.cl, t.vip, n=n)
    assert counts["failed"] == 0, counts
    return counts["servers"]


def becomes(t, *wanted):
    wait_for(lambda: weights(t) == list(wanted), 10, f"weights {wanted}, they are {weights(t)}")


def test_sorry_server(t, d):
    programs = ready(t)
    make(t, d, quorum={"up": 2, "down": 1}, sorry=["r3"])
    becomes(t, 100, 100, 0)
    assert set(served(t)) == {"r1", "r2"}
    programs[0].fail()
    becomes(t, 0, 100, 0)
    assert d.get("/service/web")["serving"] == {"up": 1, "needs": 1, "quorum": True, "sorry": False, "panic": False}
    programs[1].fail()
    becomes(t, 0, 0, 100)
    assert set(served(t)) == {"r3"}
    assert d.get("/service/web")["serving"] == {"up": 0, "needs": 2, "quorum": False, "sorry": True, "panic": False}
    table = rules(t.di)
    d.kill9()
    d.start()
    assert rules(t.di) == table and d.get("/status")["kernel_messages"] == 0
    programs[1].recover()
    wait_for(lambda: d.get("/service/web/r2")["status"] == "up", what="r2 is up")
    assert weights(t) == [0, 0, 100], "one is not enough to come back"
    programs[0].recover()
    becomes(t, 100, 100, 0)
    assert set(served(t)) == {"r1", "r2"}
    assert d.api("PATCH", "/service/web", {"sorry": None, "quorum": None})[0] == 200
    becomes(t, 100, 100, 100)


def test_panic(t, d):
    """The checks fail, but the programs serve: with panic nobody is turned away."""
    programs = ready(t)
    make(t, d, panic=50)
    becomes(t, 100, 100, 100)
    programs[0].fail()
    becomes(t, 0, 100, 100)
    programs[1].fail()
    wait_for(lambda: d.get("/service/web/r2")["status"] == "down", what="r2 is down")
    becomes(t, 100, 100, 100)
    assert set(served(t)) == {"r1", "r2", "r3"}
    assert d.get("/service/web")["serving"]["panic"] is True and d.get("/service/web/r2")["effective_weight"] == 100
    assert d.api("PATCH", "/service/web", {"panic": 0})[0] == 200
    assert weights(t) == [0, 0, 100]
    assert set(served(t)) == {"r3"}
    assert d.api("PATCH", "/service/web", {"panic": 40})[0] == 200
    assert weights(t) == [100, 100, 100]
    programs[0].recover()
    becomes(t, 100, 0, 100)


def test_zones(t, d, measured):
    programs = ready(t)
    make(t, d, labels=[{"zone": "a"}, {"zone": "a"}, {"zone": "b"}], zones={"prefer": ["a"], "spill": 80})
    becomes(t, 100, 100, 0)
    assert set(served(t)) == {"r1", "r2"}
    programs[0].fail()
    # 50 percent are left, 80 are needed: 5/8 stay
    wait_for(lambda: weights(t)[0] == 0 and weights(t)[2] > 0, what="it spills")
    cycle = sum(weights(t))
    counts = served(t, 3 * cycle)
    measured(f"half of zone a left, spill 80: {weights(t)}, {counts} of {3 * cycle} connections")
    assert abs(counts["r2"] / sum(counts.values()) - 0.625) < 0.011 and d.get("/service/web")["serving"]["local"] in (62, 63)
    assert d.api("PATCH", "/service/web", {"zones": {"spill": 50}})[0] == 200
    assert weights(t)[2] == 0, "now what is left is enough"
    programs[1].fail()
    becomes(t, 0, 0, 100)
    assert set(served(t)) == {"r3"}
    programs[0].recover()
    programs[1].recover()
    becomes(t, 100, 100, 0)


def test_split_in_zones_with_a_sorry_server(t, d):
    """Everything at once: shares hold while it spills, and a sorry server stands outside of it all."""
    programs = ready(t)
    labels = [{"zone": "a", "version": "1"}, {"zone": "b", "version": "2"}, {"zone": "b", "version": "1"}]
    make(t, d, labels=labels, zones={"prefer": ["b"]}, split={"label": "version", "shares": {"1": 1, "2": 3}}, sorry=["r1"])
    becomes(t, 0, 3, 1)
    programs[1].fail()
    wait_for(lambda: weights(t)[1] == 0 and weights(t)[2] > 0, what="its share goes to the other version")
    programs[2].fail()
    becomes(t, 100, 0, 0)
    assert set(served(t)) == {"r1"}


PROGRAM = """#!/bin/sh
echo "$BRASS_SERVICE $BRASS_QUORUM $BRASS_BACKENDS_UP/$BRASS_BACKENDS_NEEDED $*" >> {out}
echo "$(ps -o pid=,pgid= -p $$)" >> {out}.group
{more}
"""


def program(t, name, out, more=""):
    path = os.path.join(t.di.directory("programs"), name)
    with open(path, "w") as f:
        f.write(PROGRAM.format(out=out, more=more))
    os.chmod(path, 0o755)
    return path


def read(path):
    try:
        with open(path) as f:
            return f.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def test_programs_of_the_quorum(t):
    out = os.path.join(t.di.directory("programs"), "out")
    up, down = program(t, "up", out), program(t, "down", out)
    d = Director(t.di, on_quorum_up=[up, "a b", "$(touch /tmp/never)"], on_quorum_down=[down])
    programs = ready(t)
    make(t, d, quorum={"up": 3, "down": 2})
    told = lambda: read(out)
    # one backend after the other: it had no quorum at first
    wait_for(lambda: told()[-1:] == ["web up 3/2 a b $(touch /tmp/never)"], what="up is told, its words as they stand")
    programs[0].fail()
    becomes(t, 0, 100, 100)
    programs[1].fail()
    wait_for(lambda: told()[-1:] == ["web down 1/3 "], what="down is told")
    assert told()[-2].startswith("web up"), "nothing in between: 2 were enough"
    programs[0].recover()
    becomes(t, 100, 0, 100)
    programs[1].recover()
    wait_for(lambda: told()[-1:] == ["web up 3/2 a b $(touch /tmp/never)"] and len(told()) >= 4, what="up again")
    for line in read(out + ".group"):
        pid, group = line.split()
        assert pid == group, "each has a process group of its own"
    assert d.api("DELETE", "/service/web")[0] == 200
    wait_for(lambda: told()[-1].startswith("web down 3/"), what="a service that goes tells it, too")
    assert not os.path.exists("/tmp/never")


def test_programs_are_run_for_what_stands(t):
    """Not for a change that is refused, nor for a service that moves: it has its quorum before and afterwards."""
    out = os.path.join(t.di.directory("programs"), "out")
    d = Director(t.di, on_quorum_up=[program(t, "up", out)], on_quorum_down=[program(t, "down", out)])
    ready(t)
    new = "10.1.0.110"
    for server in t.servers:
        server.ip(f"addr add {new} dev lo")
    make(t, d, quorum={"up": 3})
    told = lambda: [line for line in read(out) if line.startswith("web ")]
    wait_for(lambda: told()[-1:] == ["web up 3/3 "], what="up is told")
    before = told()
    # the kernel wants no real server of the other family while connections are synchronised
    t.di.run("ipvsadm", "--start-daemon", "master")
    six = {"host": t.r1.v6, "method": "ipip", "pulse": {"type": "none"}}
    other = {"host": t.vip, "port": 81, "quorum": {"up": 1}, "backends": {"six": six}}
    assert d.api("PUT", "/config", {"services": {"other": other}})[0] == 500
    assert weights(t) == [100, 100, 100] and d.get("/service/web")["serving"]["quorum"]
    assert d.api("PATCH", "/service/web?move=1&drain=1s", {"host": new})[0] == 200
    assert d.get("/service/web")["serving"]["quorum"] and d.get("/service/web")["options"]["host"] == new
    assert d.api("DELETE", "/service/web")[0] == 200
    wait_for(lambda: told()[-1:] == ["web down 3/3 "], what="down is told")
    assert told() == before + ["web down 3/3 "] and not [line for line in read(out) if line.startswith("other ")]


def test_a_restart_keeps_the_quorum(t):
    """Who stands aside has weight 0 in the kernel and is well: zone b counts, and the sorry server is not called."""
    out = os.path.join(t.di.directory("programs"), "out")
    d = Director(t.di, on_quorum_up=[program(t, "up", out)], on_quorum_down=[program(t, "down", out)])
    ready(t)
    make(t, d, labels=[{"zone": "a"}, {"zone": "a"}, {"zone": "b"}], zones={"prefer": ["a"]}, quorum={"up": 3}, panic=80, sorry=["sorry"])
    d.make("web/sorry", host="10.1.0.109", method="dr", pulse={"type": "none"})
    wait_for(lambda: d.get("/service/web")["serving"]["quorum"], what="it has its quorum")
    wait_for(lambda: read(out)[-1:] == ["web up 3/3 "], what="that is told")
    told, table, last = len(read(out)), rules(t.di), d.get("/events")[-1]["id"]
    d.kill9()
    d.start()
    assert rules(t.di) == table and d.get("/status")["kernel_messages"] == 0
    wait_for(lambda: len(read(out)) > told, what="up is told again")
    wait_for(lambda: d.get("/service/web/r3")["metrics"]["health"] == 1, what="r3 is checked")
    assert read(out)[told:] == ["web up 3/3 "] and rules(t.di) == table
    assert [e["new"] for e in d.get(f"/events?since={last}") if e["what"] in ("quorum", "panic")] == ["there"]


def test_a_program_that_hangs_is_killed(t):
    out = os.path.join(t.di.directory("programs"), "out")
    d = Director(t.di, on_quorum_down=[program(t, "down", out, "sleep 987 & sleep 988")])
    d.make("web", host=t.vip, port=80, quorum={"up": 1})
    running = lambda: t.di.run("pgrep", "-f", "sleep 98[78]", check=False).stdout.split()
    wait_for(lambda: len(running()) == 2, what="it runs, with its child")
    assert d.get("/healthz")["status"] == "ok"
    wait_for(lambda: not running(), 45, "both are killed")
    wait_for(lambda: "killed" in d.log(), what="a line says so")


def test_programs_come_from_the_file_only(t, d):
    d.make("web", host=t.vip, port=80, panic=30)
    for verb, path in (("PUT", "/service/x"), ("PATCH", "/service/web")):
        status, answer = d.api(verb, path, {"host": t.vip, "port": 80, "on_quorum_down": ["/bin/true"]})
        assert status == 400 and answer["field"] == "on_quorum_down" and "configuration file" in answer["error"], answer
    assert d.api("PATCH", "/service/web", {"on_quorum_up": None})[0] == 200
    assert d.get("/service/web")["options"]["panic"] == 30
    status, answer = d.api("PUT", "/config", {"services": {"web": {"host": t.vip, "port": 80, "on_quorum_up": "/bin/true"}}})
    assert status == 400 and "configuration file" in answer["errors"][0]["error"]
    d.stop()
    for value, words in ((["true"], "begins with /"), (["/no/such"], "No such file"), ("/bin/true", "list"), ([], "list"), (["/bin/true", 5], "word 2")):
        d.configure(on_quorum_up=value)
        process = d.launch()
        assert process.wait() == 2
        assert "on_quorum_up" in process.output() and words in process.output(), process.output()


@pytest.mark.parametrize(
    "body, field, words",
    [
        ({"quorum": {"up": 1, "down": 2}}, "quorum.down", ["found 2", "1"]),
        ({"quorum": 2}, "quorum", ["object"]),
        ({"panic": 101}, "panic", ["101", "100"]),
        ({"zones": {"spill": 30}}, "zones.prefer", ["missing"]),
        ({"zones": {"prefer": "a"}}, "zones.prefer", ["list"]),
        ({"sorry": ["x y"]}, "sorry", ["x y", "letters"]),
        ({"sorry": [f"b{n}" for n in range(17)]}, "sorry", ["16"]),
        ({"judge": {"rise": 0}}, "judge.rise", ["found 0", "1 to 100"]),
        ({"judge": {"damping": "2d"}}, "judge.damping", ["2d"]),
        ({"slow_start": 5}, "slow_start", ["500ms"]),
    ],
)
def test_bad_fields(t, d, body, field, words):
    status, answer = d.api("PUT", "/service/web", {"host": t.vip, "port": 80, **body})
    assert status == 400 and answer["field"] == field and all(word in answer["error"] for word in words), answer
