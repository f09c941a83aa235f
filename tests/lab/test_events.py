# SPDX-License-Identifier: Apache-2.0
"""GET /events and `brass events`: what happened, once, in order, with its reason; to everybody who asks, and after restarts."""

import json
import os
import signal
import socket
import time

import pytest
from daemons import Agent, Director
from topology import BUILD, ipvs, serve, wait_for

BRASS = os.path.join(BUILD, "director", "cli", "brass")
PULSE = {"type": "tcp", "interval": "200ms", "timeout": "1s"}


@pytest.fixture
def d(t):
    return Director(t.di)


def ready(t, *servers):
    for server in servers:
        server.no_arp()
        server.ip(f"addr add {t.vip} dev lo")
    return [serve(server) for server in servers]


def make(t, d, *servers, **service):
    d.make("web", host=t.vip, port=80, method="rr", **service)
    for server in servers:
        d.make(f"web/{server.name}", host=server.v4, method="dr", pulse=PULSE)


def events(d, since=None):
    return d.get("/events" + (f"?since={since}" if since is not None else ""))


def short(events):
    """(who, what, old, new) of each."""
    return [("/".join(e[k] for k in ("service", "backend", "agent") if k in e), e["what"], e.get("old"), e["new"]) for e in events]


class Follower:
    """A client of the stream, from inside the director's host."""

    def __init__(self, t, header="Accept: text/event-stream", query=""):
        with t.di.inside():
            self.socket = socket.create_connection(("127.0.0.1", 4672), 5)
        self.socket.sendall(f"GET /events{query} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        self.text = b""

    def read(self, until, timeout=10):
        """Reads until the text has this in it."""
        end = time.monotonic() + timeout
        while until not in self.text:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            more = self.socket.recv(65536)
            assert more, f"the stream ended: {self.text!r}"
            self.text += more

    def events(self):
        return [json.loads(line[6:]) for line in self.text.split(b"\n") if line.startswith(b"data: ")]


def test_every_transition_once(t, d):
    programs = ready(t, t.r1, t.r2)
    make(t, d, t.r1, t.r2, slow_start="2s", quorum={"up": 2})
    wait_for(lambda: set(ipvs(t.di)[f"TCP {t.vip}:80"].weights().values()) == {100}, 10, "both have all their weight")
    wait_for(lambda: len(events(d)) >= 9, what="it is told")
    seen = short(events(d))
    assert seen[0] == ("web", "status", None, "made") and seen[1] == ("web", "quorum", "unknown", "lost")
    for name in ("web/r1", "web/r2"):
        assert [e[1:] for e in seen if e[0] == name] == [
            ("status", "unknown", "up"), ("weight", "none", "rising"), ("weight", "rising", "whole")]
    assert [e[1:] for e in seen if e[0] == "web"] == [("status", None, "made"), ("quorum", "unknown", "lost"), ("quorum", "lost", "there")]
    last = events(d)[-1]["id"]

    programs[0].kill()
    wait_for(lambda: len(events(d, last)) == 2, what="down is told")
    down, quorum = events(d, last)
    assert down["id"] > last and down["time"].endswith("Z") and down["type"] == "backend" and (down["old"], down["new"]) == ("up", "down")
    assert down["reason"].startswith(f"connect to {t.r1.v4}:80 via VIP {t.vip}: "), down
    assert quorum["type"] == "service" and quorum["what"] == "quorum" and quorum["new"] == "lost" and "1 backends" in quorum["reason"]
    assert d.log().count("web/r1: up -> down: connect to") == 1, "one line in the log"

    assert d.api("DELETE", "/service/web/r2?drain=20s")[0] == 200
    assert d.api("DELETE", "/service/web/r2?drain=cancel")[0] == 200
    assert d.api("DELETE", "/service/web")[0] == 200
    assert short(events(d, quorum["id"])) == [("web/r2", "status", "up", "drain"), ("web/r2", "status", "drain", "up"), ("web", "status", None, "removed")]


def test_what_is_refused_did_not_happen(t, d):
    """The kernel has no such scheduler: nothing of it is told."""
    status, _ = d.api("PUT", "/service/web", {"host": t.vip, "port": 80, "method": "nosuch"})
    assert status == 400 and events(d) == []
    document = {"services": {"a": {"host": t.vip, "port": 80, "backends": {"b": {"host": "10.1.0.101", "pulse": {"type": "none"}}}},
                             "c": {"host": t.vip, "port": 81, "method": "nosuch"}}}
    assert d.api("PUT", "/config", document)[0] == 400 and events(d) == []
    d.make("web", host=t.vip, port=80)
    assert short(events(d)) == [("web", "status", None, "made")]


def test_agents(t, d):
    d.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [d], {"web": {}}, ttl="3s")
    wait_for(lambda: ("web/r1", "status", "setup", "up") in short(events(d)), what="it is set up")
    assert ("r1", "lease", None, "registered") in short(events(d))
    last = events(d)[-1]["id"]
    agent.process.signal(signal.SIGSTOP)
    wait_for(lambda: len(events(d, last)) == 2, 20, "it is lost")
    assert short(events(d, last)) == [("r1", "lease", "held", "lost"), ("web/r1", "status", "up", "lost")]
    last = events(d)[-1]["id"]
    agent.process.signal(signal.SIGCONT)
    wait_for(lambda: len(events(d, last)) == 2, what="it is back")
    assert sorted(short(events(d, last))) == [("r1", "lease", "lost", "held"), ("web/r1", "status", "lost", "up")]


def test_a_stream_and_its_resumption(t, d):
    """Events come as they happen, with ids; a reader that comes back, also to another run of the director, misses none
    and gets none twice."""
    programs = ready(t, t.r1)
    follower = Follower(t)
    follower.read(b"text/event-stream")
    make(t, d, t.r1)
    follower.read(b'"new":"up"')
    assert short(follower.events()) == [("web", "status", None, "made"), ("web/r1", "status", "unknown", "up")]
    assert follower.events() == events(d)
    follower.socket.close()
    last = follower.events()[-1]["id"]
    programs[0].kill()
    wait_for(lambda: events(d, last), what="down is told")
    saved = events(d)
    again = Follower(t, header=f"Accept: text/event-stream\r\nLast-Event-ID: {last}")
    again.read(b'"new":"down"')
    assert short(again.events()) == [("web/r1", "status", "up", "down")]

    stored = lambda: t.di.run("grep", "-c", saved[-1]["time"], d.store + "-wal", check=False).stdout.strip()
    wait_for(lambda: stored() not in ("", "0"), what="it is in the store's log")
    d.kill9()
    d.start()
    assert events(d) == saved, "they outlive the director"
    after = Follower(t, query=f"?follow=1&since={saved[-1]['id']}", header="X: y")
    serve(t.r1)
    after.read(b'"new":"up"')
    assert short(after.events()) == [("web/r1", "status", "down", "up")] and after.events()[0]["id"] > saved[-1]["id"]
    assert d.stop() == 0
    after.socket.settimeout(5)
    assert after.socket.recv(100) == b"", "the stream ends with the director"
    for bad in ("x", "-1", "1x", ""):
        d.start() if not d.process.running() else None
        status, answer = d.api("GET", f"/events?since={bad}")
        assert status == 400 and answer["field"] == "since", (bad, status, answer)


def test_many_followers_and_those_who_go(t, d):
    followers = [Follower(t) for _ in range(40)]
    for f in followers:
        f.read(b"id: ")
    for f in followers[::2]:
        f.socket.close()
    d.make("web", host=t.vip, port=80)
    for f in followers[1::2]:
        f.read(b'"new":"made"')
    fds = lambda: len(os.listdir(f"/proc/{d.process.popen.pid}/fd"))
    before = fds()
    for f in followers[1::2]:
        f.socket.close()
    wait_for(lambda: fds() <= before - 20, 25, "those who have gone are noticed, without an event")
    assert d.get("/healthz")["status"] == "ok"


def test_a_slow_reader_is_let_go(t, d, measured):
    """Somebody who does not read loses his place, and nobody else waits for him."""
    for name in ("tcp_wmem", "tcp_rmem"):
        t.di.sysctl(f"net.ipv4.{name}", "4096 16384 16384")  # or the kernel keeps all of it for him
    slow = Follower(t)
    slow.read(b"id: ")
    with open(f"/proc/{d.process.popen.pid}/statm") as f:
        before = int(f.read().split()[1]) * 4
    # 200 services that come and go, 32 times: 12,800 events
    services = {"services": {f"s{n}": {"host": "10.9.0.1", "port": 1000 + n} for n in range(200)}}
    began = time.monotonic()
    for _ in range(32):
        assert d.api("PUT", "/config", services, timeout=30)[0] == 200
        assert d.api("PUT", "/config", {"services": {}}, timeout=30)[0] == 200
    with open(f"/proc/{d.process.popen.pid}/statm") as f:
        after = int(f.read().split()[1]) * 4
    measured(f"12,800 events in {time.monotonic() - began:.1f} s beside a reader that sleeps: {before} -> {after} KiB resident")
    assert after - before < 12 * 1024
    kept = events(d)
    assert len(kept) == 10000
    slow.read(b": you are too slow", 30)
    ids = [e["id"] for e in slow.events()]
    assert ids == sorted(ids) and len(ids) < 12800
    stored = lambda: int(t.di.run("python3", "-c", f"import sqlite3; print(sqlite3.connect('file:{d.store}?immutable=1', uri=True).execute('select count(*) from event').fetchone()[0])").stdout)
    d.stop()
    assert stored() <= 10000


def test_the_command(t, d):
    programs = ready(t, t.r1)
    process = t.di.start(BRASS, "events", "-f")
    wait_for(lambda: "127.0.0.1:4672" in t.di.run("ss", "-Htn", "state", "established").stdout, what="it is connected")
    make(t, d, t.r1)
    wait_for(lambda: "unknown -> up" in process.stdout(), what="up is printed")
    listed = t.di.run(BRASS, "events").stdout
    assert listed == process.stdout() and len(listed.splitlines()) == 2
    d.kill9()
    wait_for(lambda: "asking again" in process.stderr(), what="the director is missed")
    d.start()
    programs[0].kill()
    wait_for(lambda: "web/r1  up -> down: connect to" in process.stdout(), what="down is printed", timeout=15)
    assert len(process.stdout().splitlines()) == 3
    process.stop()
    assert t.di.run(BRASS, "services", "-f", check=False).returncode == 2
    d.stop()
    assert t.di.run(BRASS, "events", "-f", check=False).returncode == 1
