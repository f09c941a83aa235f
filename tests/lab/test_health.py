# SPDX-License-Identifier: Apache-2.0
"""How checks become weights: what the kernel then has, what clients and the checked programs see."""

import itertools
import signal
import socket
import time

import pytest
from daemons import Director
from topology import dr_topology, ipvs, load, load_start, rules, serve, wait_for

NO_PULSE = {"type": "none"}


@pytest.fixture
def d(t):
    return Director(t.di)


def ready(t, *servers):
    """Servers with the VIP and a program that answers; returns the programs by host."""
    for server in servers or t.servers:
        server.no_arp()
        server.ip(f"addr add {t.vip} dev lo")
    return {server: serve(server) for server in servers or t.servers}


def make_web(t, d, pulse, servers=None, backend=None, **service):
    d.make("web", **{"host": t.vip, "port": 80, "method": "rr", **service})
    for server in servers or t.servers:
        d.make(f"web/{server.name}", **{"host": server.v4, "method": "dr", "pulse": pulse, **(backend or {})})


def weights(t):
    """{address of the real server: weight in the kernel}"""
    return {rs.rsplit(":", 1)[0]: weight for rs, weight in ipvs(t.di)[f"TCP {t.vip}:80"].weights().items()}


def all_up(t, servers=None):
    wait_for(lambda: set(weights(t).values()) == {100}, what="all are up")


def test_unknown_is_neither_up_nor_down(t, d):
    """No connection goes to a real server before its first check has passed."""
    ready(t, t.r1, t.r2)
    t.unplug(t.r3)
    make_web(t, d, {"type": "tcp", "interval": "500ms", "timeout": "2s"})
    wait_for(lambda: weights(t) == {t.r1.v4: 100, t.r2.v4: 100, t.r3.v4: 0}, what="two are up")
    backend = d.get("/service/web/r3")
    assert backend["status"] == "unknown" and "no check" in backend["reason"], "its check has two seconds"
    assert backend["effective_weight"] == 0 and backend["metrics"]["status"] == "Down"
    assert load(t.cl, t.vip, n=10)["failed"] == 0
    wait_for(lambda: d.get("/service/web/r3")["status"] == "down", what="then it is down")
    t.plug(t.r3)
    serve(t.r3)
    t.r3.no_arp()
    t.r3.ip(f"addr add {t.vip} dev lo")
    wait_for(lambda: weights(t)[t.r3.v4] == 100, 10, what="and then up")


FAULTS = {
    "killed": (lambda t, program: program.kill(), lambda t, program: serve(t.r1)),
    "stopped": (lambda t, program: program.signal(signal.SIGSTOP), lambda t, program: program.signal(signal.SIGCONT)),
    "unplugged": (lambda t, program: t.unplug(t.r1), lambda t, program: t.plug(t.r1)),
}


@pytest.mark.parametrize("fall", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_out_in_time(t, d, measured, fault, fall):
    """Clients fail for no longer than fall * interval + timeout, and what fails once is not at once out with fall 3."""
    interval, timeout = 0.3, 0.3
    pulse = {"type": "http", "interval": "300ms", "timeout": "300ms", "args": {"path": "/health"}}
    programs = ready(t)
    make_web(t, d, pulse, judge={"rise": 2, "fall": fall})
    all_up(t)
    running = load_start(t.cl, t.vip, rate=100, timeout=200, c=100)
    wait_for(lambda: sum(dest.inactive for dest in ipvs(t.di)[f"TCP {t.vip}:80"]) >= 10, what="requests flow")
    broken, mended = FAULTS[fault]
    started = time.monotonic()
    broken(t, programs[t.r1])
    wait_for(lambda: weights(t)[t.r1.v4] == 0, what="r1 is out")
    took = time.monotonic() - started
    assert took < fall * interval + timeout + 3, f"out after {took:.2f} s"  # a machine that is busy gets 3 s
    assert weights(t)[t.r2.v4] == weights(t)[t.r3.v4] == 100
    counts = running.finish()
    measured(f"{fault}, fall {fall}: out after {took * 1000:.0f} ms, {counts['failed']} of {counts['requests']} requests failed")
    assert 0 < counts["failed"] < counts["requests"] / 2, counts  # a third goes to r1
    assert load(t.cl, t.vip, n=20)["failed"] == 0
    history = d.get("/service/web/r1")["metrics"]["health"]
    assert history < 1
    mended(t, programs[t.r1])
    wait_for(lambda: weights(t)[t.r1.v4] == 100, 15, what="r1 is back")
    assert load(t.cl, t.vip, n=20)["failed"] == 0


def test_one_failure_is_no_verdict(t, d):
    """With fall 2 a check that fails now and then takes nobody out; with fall 1 it does."""
    programs = ready(t, t.r1)
    pulse = {"type": "http", "interval": "200ms", "timeout": "1s", "args": {"path": "/health"}}
    make_web(t, d, pulse, servers=[t.r1], judge={"fall": 5, "down_interval": "1s"})
    all_up(t)
    programs[t.r1].fail()
    wait_for(lambda: d.get("/service/web/r1")["metrics"]["health"] < 1, what="a check failed")
    programs[t.r1].recover()
    healthy = d.get("/service/web/r1")["metrics"]["health"]
    wait_for(lambda: d.get("/service/web/r1")["metrics"]["health"] > healthy, what="checks pass again")
    assert "r1: up -> down" not in d.log() and weights(t) == {t.r1.v4: 100}
    assert d.api("PATCH", "/service/web", {"judge": {"fall": 1}})[0] == 200
    assert d.get("/service/web")["options"]["judge"] == {
        "rise": 1, "fall": 1, "fast": False, "down_interval": "1s", "down_interval_max": "0s", "damping": "0s", "passive": False
    }
    programs[t.r1].fail()
    wait_for(lambda: weights(t) == {t.r1.v4: 0}, what="now one failure counts")


def test_slow_start(t, d, measured):
    """A real server that comes back gets its weight step by step, one message a step; the others keep theirs."""
    programs = ready(t)
    pulse = {"type": "tcp", "interval": "200ms", "timeout": "1s"}
    make_web(t, d, pulse, backend={"weight": 100}, slow_start="6s")
    wait_for(lambda: set(weights(t).values()) == {100}, 15, what="all have all of it")
    programs[t.r1].kill()
    wait_for(lambda: weights(t)[t.r1.v4] == 0, what="r1 is out")
    before = d.get("/status")["kernel_messages"]
    serve(t.r1)
    seen = []

    def whole():
        now = weights(t)
        assert now[t.r2.v4] == now[t.r3.v4] == 100
        seen.append(now[t.r1.v4])
        return now[t.r1.v4] == 100

    wait_for(whole, 15, what="r1 has all of it")
    steps = [weight for weight, _ in itertools.groupby(seen)]
    measured(f"slow_start 6s: {steps}")
    steps = [weight for weight in steps if weight]
    assert steps == sorted(steps) and steps[0] <= 20 and len(steps) >= 5, steps
    assert d.get("/status")["kernel_messages"] - before <= 7


def test_accumulated_weight(t, measured):
    """With `slow_start: accumulated` a real server's weight follows the record of its last 100 checks, in steps with one
    message each; those whose checks all pass keep theirs."""
    d = Director(t.di, probe_marks="none")  # so that every message is about the service
    programs = ready(t, t.r1, t.r2)
    pulse = {"type": "http", "interval": "100ms", "timeout": "1s", "via": "rip", "args": {"path": "/health"}}
    make_web(t, d, pulse, servers=[t.r1, t.r2], slow_start="accumulated", judge={"fall": 3})
    assert d.get("/service/web")["options"]["slow_start"] == "accumulated"
    all_up(t)
    programs[t.r1].fail()
    wait_for(lambda: 0 < weights(t)[t.r1.v4] < 100, 10, what="a failure costs weight before it is a verdict")
    wait_for(lambda: weights(t)[t.r1.v4] == 0, 10, what="then r1 is out")
    wait_for(lambda: d.get("/service/web/r1")["metrics"]["health"] < 0.6, 20, what="its record is poor")
    before = d.get("/status")["kernel_messages"]
    programs[t.r1].recover()
    seen = []

    def whole():
        now = weights(t)
        backend = d.get("/service/web/r1")
        seen.append((now[t.r1.v4], backend["metrics"]["health"], backend["effective_weight"]))
        assert now[t.r2.v4] == 100
        return now[t.r1.v4] == 100

    wait_for(whole, 60, what="r1 has all of it")
    steps = [weight for weight, _ in itertools.groupby(s[0] for s in seen if s[0])]
    messages = d.get("/status")["kernel_messages"] - before
    measured(f"slow_start accumulated: {steps}, {messages} messages")
    assert steps == sorted(steps) and len(steps) >= 4 and steps[0] <= 65, steps
    assert messages <= 20, "no more than one a step"
    for _, health, effective in seen:
        assert effective == 0 or abs(effective - 100 * health) <= 2.6, (health, effective)


def test_another_name_keeps_the_verdict(t):
    """A backend that only gets another name, in a document or with a move of its service, is not checked anew first."""
    d = Director(t.di, probe_marks="none")  # so that every message is about the service
    programs = ready(t)
    programs[t.r3].kill()
    pulse = {"type": "tcp", "interval": "2s", "timeout": "1s", "via": "rip"}  # a path would come and go with the names
    make_web(t, d, pulse)
    up = {t.r1.v4: 100, t.r2.v4: 100, t.r3.v4: 0}
    wait_for(lambda: weights(t) == up, what="two are up")
    table, messages = rules(t.di), d.get("/status")["kernel_messages"]
    document = d.get("/config")
    document["services"]["web"]["backends"] = {f"n{i}": b for i, b in enumerate(document["services"]["web"]["backends"].values())}
    assert d.api("PUT", "/config", document)[0] == 200
    assert rules(t.di) == table and d.get("/status")["kernel_messages"] == messages
    assert [d.get(f"/service/web/n{i}")["status"] for i in range(3)] == ["up", "up", "down"]
    d.kill9()
    d.start()
    assert rules(t.di) == table, "the verdict is stored under the new name"
    assert d.api("PATCH", "/service/web?move=1", {"host": "10.1.0.99"})[0] == 200
    moved = {rs.rsplit(":", 1)[0]: weight for rs, weight in ipvs(t.di)["TCP 10.1.0.99:80"].weights().items()}
    assert moved == up


def test_a_pulse_that_comes_later_takes_nobody_out(t):
    """Who serves without a pulse goes on until the pulse has said something."""
    d = Director(t.di, probe_marks="none")  # so that every message is about the service
    ready(t, t.r1)
    make_web(t, d, NO_PULSE, servers=[t.r1, t.r2])
    assert weights(t) == {t.r1.v4: 100, t.r2.v4: 100}
    t.unplug(t.r2)
    before = d.get("/status")["kernel_messages"]
    for server in (t.r1, t.r2):
        assert d.api("PATCH", f"/service/web/{server.name}", {"pulse": {"type": "tcp", "interval": "1m", "timeout": "1s", "via": "rip"}})[0] == 200
    assert weights(t) == {t.r1.v4: 100, t.r2.v4: 100} and d.get("/service/web/r2")["status"] == "up"
    wait_for(lambda: weights(t) == {t.r1.v4: 100, t.r2.v4: 0}, what="the first check runs at once, and counts")
    assert d.get("/status")["kernel_messages"] == before + 1


ACCEPT = """
import socket, sys, time, selectors
listener = socket.create_server(("0.0.0.0", 8000), backlog=4096)
end = time.monotonic() + float(sys.argv[1])
print("listening", flush=True)
while time.monotonic() < end:
    listener.settimeout(max(0.01, end - time.monotonic()))
    try:
        connection, _ = listener.accept()
    except OSError:
        continue
    print(connection.getsockname()[0], round(time.monotonic() * 1000))
    connection.close()
"""


def test_checks_are_spread(measured):
    """1,000 backends made at once and known at once; then each is checked once an interval, evenly over it, at its own
    time, and a restart does not make them all come together."""
    backends = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(1000)]
    interval = 5.0
    with dr_topology(servers=1) as t:
        d = Director(t.di, vip_device="none")
        watcher = t.di.start("/usr/bin/python3", "-c", ACCEPT, 27)
        wait_for(lambda: "listening" in watcher.stdout(), what="the listener")
        pulse = {"type": "tcp", "interval": "5s", "timeout": "2s"}
        document = {"services": {"many": {"host": "10.9.9.9", "port": 80, "backends": {
            f"b{n}": {"host": host, "port": 8000, "method": "nat", "pulse": pulse} for n, host in enumerate(backends)}}}}
        assert d.api("PUT", "/config", document, timeout=30)[0] == 200
        began = time.monotonic()
        key = "TCP 10.9.9.9:80"
        wait_for(lambda: set(ipvs(t.di)[key].weights().values()) == {100}, 10, what="all are up")
        measured(f"1,000 new backends are up {time.monotonic() - began:.2f} s after they were made")
        wait_for(lambda: d.get("/service/many/b999")["metrics"]["uptime"] > 6, 20, what="some rounds of checks")
        d.kill9()
        restarted = time.monotonic() * 1000
        d.start()
        watcher.wait(60)
        d.stop()
        seen = [line.split() for line in watcher.stdout().splitlines()[1:]]
        times = {host: [int(ms) for h, ms in seen if h == host] for host in backends}
        first = min(int(ms) for _, ms in seen)
        settled = [[ms for ms in at if first + 2500 < ms < restarted] for at in times.values()]
        after = [[ms for ms in at if ms > restarted + 500] for at in times.values()]
        gaps = [b - a for at in settled + after for a, b in zip(at, at[1:])]
        off = sorted(abs(gap - interval * 1000) for gap in gaps)
        measured(f"{len(gaps)} gaps between checks: off by {off[len(off) // 2]} ms (median), {off[int(len(off) * 0.99)]} ms (99 %)")
        # a busy machine is late, but never all at once
        assert len(gaps) > 1000 and off[len(off) // 2] < 500, off[-10:]
        window = [ms for at in after for ms in at if restarted + 1500 < ms < restarted + 1500 + 5000]
        slots = [sum(restarted + 1500 + 250 * i <= ms < restarted + 1750 + 250 * i for ms in window) for i in range(20)]
        measured(f"checks in each 250 ms of 5 s after a restart, 50 are even: {min(slots)} to {max(slots)}")
        assert len(window) > 900 and max(slots) <= 150, slots


SILENT = ("iptables-legacy", "-I", "INPUT", "-p", "tcp", "--dport", 80, "-s", "10.0.0.0/24", "-j", "DROP")


def unanswered(d, name):
    """(status, what is said of its traffic) of a backend."""
    backend = d.get(f"/service/web/{name}")
    return backend["status"], backend.get("unanswered")


def traffic_events(d, name):
    return [e["new"] for e in d.get("/events") if e.get("backend") == name and e["what"] == "traffic"]


OPEN_AND_CLOSE = """
import socket, sys, time
stay = []
while len(stay) < 150:
    stay.append(socket.create_connection((sys.argv[1], 80), timeout=5))
print("connected", flush=True)
while True:
    time.sleep(0.05)
    try:
        socket.create_connection((sys.argv[1], 80), timeout=0.3).close()
    except OSError:
        pass
"""


def test_connections_that_nobody_answers(t, d, measured):
    """r1 drops what clients send and lets checks pass: first a warning, then with `passive` it is out and comes back for a
    trial. The others are never named, though their counters look alike: clients only connect and close (packets as
    small as a SYN), beside some that stay."""
    ready(t)
    make_web(t, d, {"type": "tcp", "interval": "200ms", "timeout": "1s"}, judge={"fall": 2})
    all_up(t)
    client = t.cl.start("/usr/bin/python3", "-c", OPEN_AND_CLOSE, t.vip)
    wait_for(lambda: "connected" in client.stdout(), 10, what="connections that stay")
    t.r1.run(*SILENT)
    started = time.monotonic()
    wait_for(lambda: unanswered(d, "r1")[1], 120, what="the warning")
    measured(f"r1 answers nothing: warned of after {time.monotonic() - started:.1f} s")
    assert traffic_events(d, "r1") == ["unanswered"] and weights(t)[t.r1.v4] == 100, "without passive it is only said"
    assert d.get("/service/web/r1")["status"] == "up"
    assert "r1: traffic answered -> unanswered" in d.log() and "none was answered" in d.log()
    assert d.api("PATCH", "/service/web", {"judge": {"passive": True}})[0] == 200
    wait_for(lambda: weights(t)[t.r1.v4] == 0, 40, what="r1 is out")
    measured(f"and out after {time.monotonic() - started:.1f} s")
    status, said = unanswered(d, "r1")
    reason = d.get("/service/web/r1")["reason"]
    assert status == "down" and said["times"] >= 2 and said["out"], said
    assert reason.startswith("passive: ") and "connections in" in reason and "none was answered" in reason
    assert d.get("/service/web/r1")["metrics"]["health"] == 1, "its checks pass"
    assert load(t.cl, t.vip, n=20)["failed"] == 0
    assert d.api("PATCH", "/service/web", {"judge": {"passive": False}})[0] == 200
    wait_for(lambda: weights(t)[t.r1.v4] == 100, what="it is back when nobody asks for that any more")
    t.r1.run("iptables-legacy", "-F", "INPUT")
    wait_for(lambda: unanswered(d, "r1") == ("up", None), 60, what="its connections are answered")
    assert traffic_events(d, "r1") == ["unanswered", "answered"]
    for name in ("r2", "r3"):
        assert traffic_events(d, name) == [] and unanswered(d, name) == ("up", None)
    client.kill()


def test_no_more_than_half_is_out_by_traffic(t, d):
    """Without a pulse nothing else takes a dead host out; after 30 s it is tried again. When all are dead, half of them
    stay."""
    ready(t)
    make_web(t, d, NO_PULSE, judge={"passive": True})
    for server in t.servers:
        t.unplug(server)
    running = load_start(t.cl, t.vip, rate=15, timeout=300, c=100)
    wait_for(lambda: sorted(weights(t).values()) == [0, 100, 100], 40, what="one of three is out")
    wait_for(lambda: "it stays in: no more than half" in d.log(), 40, what="the others stay")
    out = next(s for s in t.servers if weights(t)[s.v4] == 0)
    for server in t.servers:
        if server is not out:
            t.plug(server)
    wait_for(lambda: unanswered(d, next(s for s in t.servers if s is not out).name)[1] is None, 60, what="those are answered again")
    wait_for(lambda: weights(t)[out.v4] == 100, 60, what="it is tried again")
    assert "down -> up: passive: it is tried again" in d.log()
    running.finish()
