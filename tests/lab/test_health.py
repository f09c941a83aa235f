# SPDX-License-Identifier: Apache-2.0
"""How checks become weights: what the kernel then has, what clients and the checked programs see."""

import itertools
import signal
import socket
import time

import pytest
from daemons import Director
from net import parse_tcp
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


CHECKED = 8080  # a port of the checks' own: what goes there is no client, and no probe of what is wrong

FAULTS = {
    "killed": (lambda t, programs: [p.kill() for p in programs], lambda t, programs: [serve(t.r1), serve(t.r1, port=CHECKED)]),
    "stopped": (lambda t, programs: [p.signal(signal.SIGSTOP) for p in programs], lambda t, programs: [p.signal(signal.SIGCONT) for p in programs]),
    "unplugged": (lambda t, programs: t.unplug(t.r1), lambda t, programs: t.plug(t.r1)),
}


def checks_seen(t, capture):
    """The checks of r1 in a capture, in their order, and whether each was answered: [(port, True)]. A check is a connection of
    its own to the VIP; a SYN that is sent again is the same. With the first packet to the RIP the director looks into what is
    wrong: its verdict has been given."""
    seen = {}
    for packet in capture.packets():
        tcp = parse_tcp(packet)
        if tcp and t.r1.v4 in (tcp.src, tcp.dst):
            break
        if tcp and tcp.dport == CHECKED and tcp.flags == "S":
            seen.setdefault(tcp.sport, False)
        elif tcp and tcp.sport == CHECKED and "HTTP/1.1 200" in packet.text and tcp.dport in seen:
            seen[tcp.dport] = True
    return list(seen.items())


@pytest.mark.parametrize("fall", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_out_in_time(t, d, measured, fault, fall):
    """`fall` checks fail, not one more and not one less, and clients fail no longer than that. In checks and in what was
    seen of the kernel, not in seconds: a machine that is busy is late with all of it."""
    pulse = {"type": "http", "interval": "300ms", "timeout": "300ms", "via": "vip", "args": {"path": "/health", "port": CHECKED}}
    programs = {server: [program, serve(server, port=CHECKED)] for server, program in ready(t).items()}
    make_web(t, d, pulse, judge={"rise": 2, "fall": fall, "down_interval": "1h"})
    all_up(t)
    running = load_start(t.cl, t.vip, rate=100, timeout=200, c=100)
    wait_for(lambda: sum(dest.inactive for dest in ipvs(t.di)[f"TCP {t.vip}:80"]) >= 10, what="requests flow")
    broken, mended = FAULTS[fault]
    t.di.ip(f"neigh replace {t.r1.v4} lladdr {t.r1.mac()} dev eth0 nud permanent")  # so that SYNs to who is unplugged are seen
    with t.di.capture("eth0", f"tcp and ether host {t.r1.mac()} and (port {CHECKED} or host {t.r1.v4})") as capture:
        wait_for(lambda: any(passed for _, passed in checks_seen(t, capture)), what="r1 is checked")
        started = time.time()
        broken(t, programs[t.r1])
        wait_for(lambda: weights(t)[t.r1.v4] == 0, 15, what="r1 is out")
        out = time.time()
    failed = [port for port, passed in itertools.takewhile(lambda check: not check[1], reversed(checks_seen(t, capture)))]
    assert len(failed) == fall, (checks_seen(t, capture), capture.process.stdout())
    assert weights(t)[t.r2.v4] == weights(t)[t.r3.v4] == 100
    counts = running.finish()
    measured(f"{fault}, fall {fall}: out after {(out - started) * 1000:.0f} ms, {counts['failed']} of {counts['requests']} requests failed")
    first, last = counts["failed_begun_ms"]  # those of 200 ms before may have been under way
    assert started * 1000 - 250 <= first <= last <= out * 1000 + 1, (started, out, counts)
    assert load(t.cl, t.vip, n=20)["failed"] == 0
    history = d.get("/service/web/r1")["metrics"]["health"]
    assert history < 1
    mended(t, programs[t.r1])
    assert d.api("PATCH", "/service/web", {"judge": {"down_interval": "0s"}})[0] == 200
    wait_for(lambda: weights(t)[t.r1.v4] == 100, 15, what="r1 is back")
    assert load(t.cl, t.vip, n=20)["failed"] == 0


def dropped(host):
    """Packets that the host's rules have dropped."""
    return sum(int(line.split()[0]) for line in host.run("iptables-legacy", "-nvxL", "INPUT").stdout.splitlines() if " DROP " in line)


def test_lost_packets_are_no_failure(t, d):
    """With every third SYN lost a server that is well stays in: a check with time for a second SYN does not even fail, and
    one without fails now and then, but not `fall` times in a row."""
    ready(t, t.r1)
    make_web(t, d, {"type": "tcp", "interval": "300ms", "timeout": "3s"}, servers=[t.r1], judge={"fall": 3})
    all_up(t)
    # checks alone, whose way is known; the kernel sends a SYN again after a second
    t.r1.run("iptables-legacy", "-A", "INPUT", "-s", t.di.v4, "-p", "tcp", "--syn", "-m", "statistic", "--mode", "nth", "--every", "3", "--packet", "0", "-j", "DROP")
    wait_for(lambda: dropped(t.r1) >= 4, 30, what="four SYNs were lost")
    assert d.get("/service/web/r1")["metrics"]["health"] == 1
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"type": "tcp", "interval": "300ms", "timeout": "200ms"}})[0] == 200
    before = dropped(t.r1)
    wait_for(lambda: dropped(t.r1) >= before + 4, 30, what="four more were lost")
    wait_for(lambda: d.get("/service/web/r1")["metrics"]["health"] < 1, what="some checks failed")
    assert weights(t) == {t.r1.v4: 100} and "up -> down" not in d.log()
    assert d.api("PATCH", "/service/web", {"judge": {"fall": 1}})[0] == 200
    wait_for(lambda: weights(t) == {t.r1.v4: 0}, 10, what="with fall 1 a lost packet is enough")


def test_slow_answers(t, d):
    """A program that answers later than `timeout` is out, although it takes connections, and is back when it is quick again."""
    programs = ready(t)
    make_web(t, d, {"type": "http", "interval": "300ms", "timeout": "1s", "args": {"path": "/health"}}, judge={"fall": 2})
    all_up(t)
    programs[t.r1].tire()
    wait_for(lambda: weights(t) == {t.r1.v4: 0, t.r2.v4: 100, t.r3.v4: 100}, 15, what="the slow one is out")
    assert "connected, but no answer in time" in d.get("/service/web/r1")["reason"]
    assert load(t.cl, t.vip, n=20, timeout=2000)["failed"] == 0
    programs[t.r1].rest()
    all_up(t)
    assert set(load(t.cl, t.vip, n=30, timeout=2000)["servers"]) == {"r1", "r2", "r3"}


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


def judge_phase(service, backend):
    """Where in the interval a backend's checks start, of 2^32 (judge.c)."""
    mask, h = 0xFFFFFFFF, 2166136261
    for byte in f"{service}/{backend}".encode():
        h = (h ^ byte) * 16777619 & mask
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    return h ^ h >> 16


def test_a_verdict_does_not_outlive_its_pulse(t, d):
    """Who was down, was then served without a pulse and has passed the checks of a new one, serves after a restart."""
    programs = ready(t, t.r1, t.r2)
    make_web(t, d, {"type": "http", "interval": "200ms", "timeout": "1s", "args": {"path": "/health"}}, servers=[t.r1, t.r2])
    all_up(t)
    programs[t.r1].fail()
    wait_for(lambda: weights(t) == {t.r1.v4: 0, t.r2.v4: 100}, what="r1 is down")
    assert d.api("PATCH", "/service/web/r1", {"pulse": NO_PULSE})[0] == 200
    assert weights(t) == {t.r1.v4: 100, t.r2.v4: 100}
    programs[t.r1].recover()
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"type": "tcp", "interval": "1h"}})[0] == 200
    table = rules(t.di)
    d.kill9()
    d.start()
    assert rules(t.di) == table and d.get("/status")["kernel_messages"] == 0


def test_checks_are_spread(measured):
    """1,000 backends made at once and known at once; then each is checked once an interval, evenly over it, at its own
    time, and a restart does not make them all come together. A busy machine is late with checks, but it keeps their order,
    and none is left out or made twice: so that is what is judged, and not when they come."""
    backends = {f"127.1.{n // 250}.{n % 250 + 1}": f"b{n}" for n in range(1000)}
    interval = 5000
    offsets = {host: interval * judge_phase("many", name) >> 32 for host, name in backends.items()}
    with dr_topology(servers=1) as t:
        d = Director(t.di, vip_device="none")
        watcher = t.di.start("/usr/bin/python3", "-c", ACCEPT, 32)
        wait_for(lambda: "listening" in watcher.stdout(), what="the listener")
        pulse = {"type": "tcp", "interval": "5s", "timeout": "2s"}
        document = {"services": {"many": {"host": "10.9.9.9", "port": 80, "backends": {
            name: {"host": host, "port": 8000, "method": "nat", "pulse": pulse} for host, name in backends.items()}}}}
        assert d.api("PUT", "/config", document, timeout=30)[0] == 200
        began = time.monotonic()
        key = "TCP 10.9.9.9:80"
        wait_for(lambda: set(ipvs(t.di)[key].weights().values()) == {100}, 10, what="all are up")
        measured(f"1,000 new backends are up {time.monotonic() - began:.2f} s after they were made")
        wait_for(lambda: d.get("/service/many/b999")["metrics"]["uptime"] > 11, 30, what="some rounds of checks")
        d.kill9()
        restarted = time.monotonic() * 1000
        d.start()
        watcher.wait(60)
        d.stop()
        seen = [(host, int(ms)) for host, ms in (line.split() for line in watcher.stdout().splitlines()[1:])]
        first = seen[0][1]
        # when each was due: the last point of its grid before it came; a timer may fire a moment early
        due = [(host, ms, ms + 5 - (ms + 5 - offsets[host]) % interval) for host, ms in seen]
        settled = [row for row in due if first + 3000 < row[1] < restarted]
        after = [row for row in due if row[1] > restarted + 500]
        late = sorted(ms - at for _, ms, at in settled + after)
        measured(f"{len(late)} checks: late by {late[len(late) // 2]} ms (median), {late[int(len(late) * 0.99)]} ms (99 %)")
        for rows in (settled, after):
            assert len(rows) > 900
            early = [(a, b) for a, b in zip(rows, rows[1:]) if b[2] < a[2] - 5]
            assert len(early) <= len(rows) / 100, early[:5]
            points = {host: [at for h, _, at in rows if h == host] for host in backends}
            gaps = [b - a for at in points.values() for a, b in zip(at, at[1:])]
            wrong = [gap for gap in gaps if gap != interval]
            assert len(gaps) > 500 and len(wrong) <= len(gaps) / 100, wrong[:5]
        assert len({host for host, _, _ in after}) == len(backends)
        start = min(at for _, _, at in after if at > restarted + 500)
        slots = [sum(start + 250 * i <= at < start + 250 * (i + 1) for _, _, at in after) for i in range(20)]
        measured(f"checks due in each 250 ms of 5 s after a restart, 50 are even: {min(slots)} to {max(slots)}")
        assert max(slots) <= 80, slots


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
    """Without a pulse nothing else takes a dead host out; after 30 s it is tried again. When all are dead, half of those
    that serve stay: one that stands aside is none of them."""
    ready(t)
    make_web(t, d, NO_PULSE, judge={"passive": True}, sorry=["aside"])
    d.make("web/aside", host="10.1.0.77", method="dr", pulse=NO_PULSE)
    for server in t.servers:
        t.unplug(server)
    running = load_start(t.cl, t.vip, rate=15, timeout=300, c=100)
    wait_for(lambda: sorted(weights(t).values()) == [0, 0, 100, 100], 40, what="one of three is out")
    wait_for(lambda: "it stays in: no more than half" in d.log(), 40, what="the others stay")
    out = next(s for s in t.servers if weights(t)[s.v4] == 0)
    for server in t.servers:
        if server is not out:
            t.plug(server)
    wait_for(lambda: unanswered(d, next(s for s in t.servers if s is not out).name)[1] is None, 60, what="those are answered again")
    wait_for(lambda: weights(t)[out.v4] == 100, 60, what="it is tried again")
    assert "down -> up: passive: it is tried again" in d.log()
    running.finish()
