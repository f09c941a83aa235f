# SPDX-License-Identifier: Apache-2.0
"""The words of brass-agent that ask a running agent or do without one: drain, undrain, status --watch, plan, restore; and VIPs
without a director."""

import json
import os
import re
import signal
import subprocess

import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import LEASE, agents, assert_as_before, service, snapshot, wait_state
from topology import arp_answers, dr_topology, ipvs, load, load_start, nat_topology, routed_topology, serve


@pytest.fixture
def t():
    with dr_topology() as t:
        yield t


def weights(t, vip=None, port=80):
    return {d.rs: d.weight for d in ipvs(t.di)[f"TCP {vip or t.vip}:{port}"]}


def word(agent, *words):
    """Starts a word; its process."""
    return agent.host.start(agent.binary, "-c", agent.file, *words)


# ---------------------------------------------------------------- drain


def two_services(t):
    """web and api of one VIP, on r1 and r2, each with its server."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    director.make("api", host=t.vip, port=8080, method="rr")
    servers = t.servers[:2]
    for server in servers:
        serve(server)
        serve(server, port=8080)
    made = [Agent(s, [director], {"web": {}, "api": {}}, ttl=LEASE) for s in servers]
    for agent in made:
        for name in ("web", "api"):
            wait_state(agent, "up", name)
    return director, made


def test_drain_of_one_service_loses_nothing_and_the_other_goes_on(t):
    director, (first, _) = two_services(t)
    slow = load_start(t.cl, t.vip, 80, n=2, c=2, path="/slow/2000", timeout=8000)
    wait_for(lambda: sum(d.active for d in ipvs(t.di)[f"TCP {t.vip}:80"]) == 2, what="a connection on each")
    web, api = load_start(t.cl, t.vip, 80, rate=50, c=4), load_start(t.cl, t.vip, 8080, rate=50, c=4)
    drain = word(first, "drain", "--service", "web")
    wait_for(lambda: weights(t) == {"10.1.0.101:80": 0, "10.1.0.102:80": 100}, what="web has weight 0 on r1")
    assert weights(t, port=8080) == {"10.1.0.101:8080": 100, "10.1.0.102:8080": 100}
    wait_for(lambda: re.search(r"^draining: 1 connection, \d+ s left$", drain.stdout(), re.M), what="progress")
    seen = service(first)
    assert seen["state"] == "drain" and seen["reason"].startswith("an operator asked for it: 1 connection, "), seen
    assert drain.wait() == 0
    assert drain.stdout().splitlines()[-1] == "drained: no connection is open"
    assert slow.result()["ok"] == 2
    # drained means that nothing comes any more; the host stays as it is
    assert f"{t.vip}/32" in t.r1.addresses("lo")
    before = load(t.cl, t.vip, 80, n=6)
    assert before["servers"] == {"r2": 6}
    assert load(t.cl, t.vip, 8080, n=6)["servers"] == {"r1": 3, "r2": 3}
    assert director.get("/service/web/r1")["reason"] == "an operator asked for it"
    assert first.command("undrain", "--service", "web").stdout == ""
    wait_for(lambda: weights(t) == {"10.1.0.101:80": 100, "10.1.0.102:80": 100}, what="web has its weight again")
    assert load(t.cl, t.vip, 80, n=6)["servers"] == {"r1": 3, "r2": 3}
    for running in (web, api):
        counts = running.finish()
        assert counts["failed"] == 0 and counts["ok"] > 50, counts


def test_a_drain_that_is_late_says_so_and_stays(t):
    _, (first, _) = two_services(t)
    held = t.cl.connect(t.vip, 80), t.cl.connect(t.vip, 80)  # one on each
    wait_for(lambda: sum(d.active for d in ipvs(t.di)[f"TCP {t.vip}:80"]) == 2, what="a connection on each")
    done = first.command("drain", "--service", "web", "--timeout", "1s", check=False)
    assert done.returncode == 1, done
    assert done.stderr == "brass-agent: not drained: the time is over: 1 at the directors, 1 here; new connections do not come\n"
    assert weights(t)["10.1.0.101:80"] == 0
    held[0].send(b"GET / HTTP/1.0\r\n\r\n")  # and the open one goes on
    assert held[0].recv(100).startswith(b"HTTP/1.")
    for connection in held:
        connection.close()
    wait_for(lambda: service(first)["reason"] == "an operator asked for it: no connection is open", what="it is drained later", timeout=8)


def test_a_drained_service_stays_drained_until_undrain(t):
    _, (first, _) = two_services(t)
    assert first.command("drain", "--service", "web", "--no-wait").stdout.startswith("draining: ")
    wait_for(lambda: weights(t)["10.1.0.101:80"] == 0, what="weight 0")
    for end in (first.kill9, first.stop):
        assert end() in (0, -signal.SIGKILL)
        first.start()
        wait_state(first, "up", "api")
        wait_for(lambda: "10.1.0.101:8080" in weights(t, port=8080), what="api is back")
        assert service(first)["state"] == "drain"
        assert weights(t).get("10.1.0.101:80", 0) == 0
        assert load(t.cl, t.vip, 80, n=4)["servers"] == {"r2": 4}
    # all, and one of them back
    assert first.command("drain").returncode == 0
    wait_for(lambda: weights(t, port=8080)["10.1.0.101:8080"] == 0, what="api has weight 0")
    first.command("undrain", "--service", "web")
    wait_state(first, "up")
    assert service(first, "api")["state"] == "drain"
    assert load(t.cl, t.vip, 80, n=4)["servers"] == {"r1": 2, "r2": 2}
    first.command("undrain")
    wait_state(first, "up", "api")
    assert not os.path.exists(os.path.join(first.config["run_dir"], "drain.json"))


def test_drain_without_a_director_that_hears_it_is_not_over(t):
    director, (first, _) = two_services(t)
    director.kill9()  # its kernel goes on forwarding
    wait_for(lambda: first.status()["directors"][0]["state"] == "waiting", 8, "the agent knows")
    done = first.command("drain", "--timeout", "1s", check=False)
    assert done.returncode == 1 and "not every director has stopped sending" in done.stderr, done
    assert load(t.cl, t.vip, 80, n=4)["servers"] == {"r1": 2, "r2": 2}, "which is true"
    director.start()
    wait_for(lambda: weights(t)["10.1.0.101:80"] == 0, 15, "it hears of it when it is back")


def test_a_drain_is_cut_short_by_undrain_and_by_a_stop(t):
    _, (first, _) = two_services(t)
    held = t.cl.connect(t.vip, 80), t.cl.connect(t.vip, 80)
    wait_for(lambda: sum(d.active for d in ipvs(t.di)[f"TCP {t.vip}:80"]) == 2, what="a connection on each")
    drain = word(first, "drain")
    wait_for(lambda: "draining: " in drain.stdout(), what="it waits")
    first.command("undrain")
    assert drain.wait() == 1 and "somebody has ended it" in drain.stderr()
    drain = word(first, "drain")
    wait_for(lambda: "draining: " in drain.stdout(), what="it waits")
    first.process.signal(signal.SIGTERM)
    wait_for(lambda: first.status()["state"] == "draining" and first.status()["drain"].startswith("1 connection, "), what="progress of the stop")
    for connection in held:
        connection.close()
    assert first.process.wait() == 0
    assert drain.wait() in (0, 1)  # it may have been drained first


@pytest.mark.parametrize(
    "words, code, text",
    [
        (["drain", "--service", "mail"], 1, "service: found mail, allowed are those of the configuration: web"),
        (["undrain", "--service", "mail"], 1, "service: found mail"),
        (["drain", "--timeout", "5"], 2, "timeout: found 5, allowed is a time such as 500ms, 30s, 5m"),
        (["drain", "--timeout", "25h"], 1, "limit_ms: found 90000000"),
        (["drain", "--service", "web", "--service", "web"], 2, "--service: found 2 values"),
        (["drain", "--watch"], 2, "--watch has no meaning with drain"),
        (["--no-wait"], 2, "--no-wait has no meaning without a word"),
        (["darin"], 2, "unknown word darin"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(t, words, code, text):
    agent = Agent(t.r1, ["http://10.1.0.10:4672"], {"web": {}})
    done = agent.command(*words, check=False)
    assert done.returncode == code and text in done.stderr and len(done.stderr.splitlines()) == 1, done
    assert service(agent)["state"] == "setup"


def talk(agent, data):
    """One connection to the control socket: what is answered to these bytes until the end."""
    import socket

    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(os.path.join(agent.config["run_dir"], "agent.sock"))
        s.sendall(data)
        answer = b""
        while piece := s.recv(65536):
            answer += piece
        return answer


def test_the_control_socket_bears_any_bytes(t):
    agent = Agent(t.r1, ["http://10.1.0.10:4672"], {"web": {}})
    for data in (b"\n", b"[]\n", b"{\n", b"\0\xff\n", b"x" * 5000, b'{"word": 3}\n', b'{"word": "drain", "service": ["web"]}\n', b'{"word": "drain", "service": ""}\n'):
        assert "error" in json.loads(talk(agent, data)), data
    assert json.loads(talk(agent, b'{"word": "status"}\nmore'))["node"] == "r1"
    assert oct(os.stat(os.path.join(agent.config["run_dir"], "agent.sock")).st_mode & 0o777) == "0o600"
    # more than it serves at once, all silent: the next is turned away, and when they are gone it is served
    watchers = [word(agent, "status", "--watch", "--json") for _ in range(32)]
    for watcher in watchers:
        wait_for(lambda w=watcher: w.stdout(), 20, "the first document")
    assert agent.command("status", check=False).returncode == 1
    for watcher in watchers:
        watcher.kill()
    wait_for(lambda: agent.status(), what="it is served again")


# ---------------------------------------------------------------- status --watch


def test_status_watch_tells_of_each_change(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1], ttl="60s")
    wait_state(agent, "up")
    watch, text = word(agent, "status", "--watch", "--json"), word(agent, "status", "--watch")

    def documents():
        return [json.loads(line) for line in watch.stdout().splitlines() if line.endswith("}")]

    wait_for(lambda: documents() and text.stdout(), what="the present state")
    director.make("late", host=t.vip6, port=80)  # nothing that this host serves
    t.r1.ip(f"addr del {t.vip}/32 dev lo")  # repaired at once
    wait_for(lambda: documents()[-1]["repairs"] == 1, what="the repair")
    director.process.signal(signal.SIGKILL)
    wait_for(lambda: documents()[-1]["directors"][0]["state"] == "waiting", 8, "the director is away")
    for one, next_one in zip(documents(), documents()[1:]):
        for document in (one, next_one):
            for director_status in document["directors"]:
                director_status.pop("since", None), director_status.pop("retry_in", None)
        assert one != next_one, "a document that says nothing new"
    wait_for(lambda: "waiting" in text.stdout(), what="the same as text")
    assert text.stdout().count("node      r1") >= 3
    # a reader that does not read holds nobody up, and an end is told
    agent.stop()
    assert watch.wait() == 1 and "the agent has stopped" in watch.stderr()


def test_idle_watchers_cost_nothing(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1], ttl="60s", check_interval="1h")
    wait_state(agent, "up")
    watch = word(agent, "status", "--watch", "--json")
    wait_for(watch.stdout, what="the first document")
    pid = agent.process.popen.pid

    def wakeups():
        with open(f"/proc/{pid}/status") as f:
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M)[1])

    watch.wait_quiet = wakeups()
    with pytest.raises(subprocess.TimeoutExpired):
        watch.popen.wait(2)
    assert wakeups() - watch.wait_quiet <= 4
    assert len(watch.stdout().splitlines()) == 1


# ---------------------------------------------------------------- VIPs without a director


def static(host, *items, **config):
    return Agent(host, [], None, static=list(items), insecure=None, **{"node": None, "address": None, **config})


def by_hand(t, forward, *servers, vip=None, port=80):
    """A balancer without our director, made with ipvsadm."""
    vip = vip or t.vip
    at = f"[{vip}]:{port}" if ":" in vip else f"{vip}:{port}"
    t.di.run("ipvsadm", "-A", "-t", at, "-s", "rr")
    for server in servers:
        t.di.run("ipvsadm", "-a", "-t", at, "-r", f"[{server}]" if ":" in server else server, forward)
    t.di.ip(f"addr add {vip}/{128 if ':' in vip else 32} dev eth0" + (" nodad" if ":" in vip else ""))


def static_state(agent, host):
    status = agent.status()
    return next(s for s in status["static"] if s["host"] == host)


def test_static_dr_behind_a_balancer_of_somebody_elses(t):
    before = snapshot(t.r1)
    by_hand(t, "-g", t.r1.v4)
    agent = static(t.r1, {"host": t.vip, "port": 80}, {"host": t.vip6})
    wait_for(lambda: static_state(agent, t.vip)["reason"].startswith("no program listens"), what="the program is missing")
    serve(t.r1)
    wait_for(lambda: static_state(agent, t.vip)["state"] == "up", what="up")
    assert static_state(agent, t.vip6)["state"] == "up"
    assert t.r1.addresses("lo") == ["127.0.0.1/8", f"{t.vip}/32", f"{t.vip6}/128", "::1/128"]
    assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]
    assert load(t.cl, t.vip, 80, n=4)["servers"] == {"r1": 4}
    assert "static\n" in agent.command("status").stdout
    t.r1.ip(f"addr del {t.vip}/32 dev lo")
    wait_for(lambda: agent.status()["repairs"] == 1, what="it is kept so")
    done = agent.command("drain", check=False)
    assert done.returncode == 1 and "no director sends connections here" in done.stderr
    # a stop waits for the connections that are open here
    slow = load_start(t.cl, t.vip, 80, n=1, path="/slow/1500", timeout=5000)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="a connection")
    assert agent.stop() == 0
    assert slow.result()["ok"] == 1
    assert_as_before(t.r1, before)


def test_static_tunnel_finds_its_own_end(t):
    before = snapshot(t.r1)
    by_hand(t, "-i", t.r1.v4)
    serve(t.r1)
    agent = static(t.r1, {"host": t.vip, "method": "ipip"})
    wait_for(lambda: static_state(agent, t.vip)["state"] == "up", what="up")
    assert t.r1.link("brass-ipip")["linkinfo"]["info_data"]["local"] == t.r1.v4
    assert load(t.cl, t.vip, 80, n=4)["servers"] == {"r1": 4}
    assert agent.stop() == 0
    assert_as_before(t.r1, before)


def test_static_tunnel_without_a_default_route_says_what_it_needs(t):
    t.r1.run("ip", "route", "del", "default")
    t.r1.run("ip", "-6", "route", "del", "default")
    agent = static(t.r1, {"host": t.vip, "method": "ipip"}, {"host": "10.1.0.99"})
    wait_for(lambda: static_state(agent, "10.1.0.99")["state"] == "up", what="dr needs no address")
    assert 'name it as "address"' in static_state(agent, t.vip)["reason"]
    t.r1.ip("route add default via 10.1.0.1")
    wait_for(lambda: static_state(agent, t.vip)["state"] == "up", what="up, when the route is there")


def test_static_nat_sends_replies_through_the_balancer():
    with nat_topology() as t:
        before = snapshot(t.r1)
        by_hand(t, "-m", t.r1.v4)
        serve(t.r1)
        agent = static(t.r1, {"host": t.vip, "method": "nat", "port": 80})
        wait_for(lambda: "gateway" in static_state(agent, t.vip)["reason"], what="it needs a gateway")
        assert load(t.cl, t.vip, 80, n=1, timeout=500)["failed"] == 1, "the control: replies pass the balancer by"
        agent.configure(static=[{"host": t.vip, "method": "nat", "port": 80, "gateway": "10.1.0.10"}])
        agent.restart()
        wait_for(lambda: static_state(agent, t.vip)["state"] == "up", what="up")
        assert load(t.cl, t.vip, 80, n=4)["servers"] == {"r1": 4}
        assert agent.stop() == 0
        assert_as_before(t.r1, before)


def test_static_and_a_director_share_a_vip(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    serve(t.r1)
    agent = Agent(t.r1, [director], {"web": {}}, static=[{"host": t.vip, "port": 80}, {"host": "10.1.0.99"}], ttl=LEASE)
    wait_state(agent, "up")
    assert load(t.cl, t.vip, 80, n=2)["servers"] == {"r1": 2}
    # what the director no longer needs stays for the other
    assert director.api("DELETE", "/service/web")[0] == 200
    wait_state(agent, "setup")
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "10.1.0.99/32", f"{t.vip}/32", "::1/128"]
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore") == "1"
    # and the other way round
    director.make("web", host=t.vip, port=80)
    agent.configure(static=[])
    agent.restart()
    wait_state(agent, "up")
    assert t.r1.addresses("lo") == ["127.0.0.1/8", f"{t.vip}/32", "::1/128"]


def test_static_is_set_up_and_kept_while_directors_are_away(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [director], {"web": {}}, static=[{"host": "10.1.0.99", "method": "ipip"}], ttl=LEASE)
    wait_state(agent, "up")
    agent.kill9()
    director.kill9()
    os.unlink(os.path.join(agent.config["run_dir"], "state.json"))  # nothing is known of web, and it stays
    t.r1.ip("link del brass-ipip")
    agent.start()
    wait_for(lambda: static_state(agent, "10.1.0.99")["state"] == "up", what="the static one is up")
    assert "10.1.0.99/32" in t.r1.addresses("brass-ipip")
    assert f"{t.vip}/32" in t.r1.addresses("lo")
    t.r1.ip("link del brass-ipip", f"addr del {t.vip}/32 dev lo")
    wait_for(lambda: "10.1.0.99/32" in t.r1.addresses("brass-ipip") and f"{t.vip}/32" in t.r1.addresses("lo"), what="both are kept")
    assert agent.stop() == 0
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"] and t.r1.link("brass-ipip") is None
