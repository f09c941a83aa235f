# SPDX-License-Identifier: Apache-2.0
"""The words of brass-agent that ask a running agent or do without one: drain, undrain, status --watch, plan, restore; and VIPs
without a director."""

import difflib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import LEASE, agents, assert_as_before, look_at, service, snapshot, wait_state, wait_weights
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
    held = t.cl.connect(t.vip, 80), t.cl.connect(t.vip, 80)  # one on each
    wait_for(lambda: sum(d.active for d in ipvs(t.di)[f"TCP {t.vip}:80"]) == 2, what="a connection on each")
    web, api = load_start(t.cl, t.vip, 80, rate=50, c=4), load_start(t.cl, t.vip, 8080, rate=50, c=4)
    drain = word(first, "drain", "--service", "web")
    wait_for(lambda: weights(t) == {"10.1.0.101:80": 0, "10.1.0.102:80": 100}, what="web has weight 0 on r1")
    assert weights(t, port=8080) == {"10.1.0.101:8080": 100, "10.1.0.102:8080": 100}
    wait_for(lambda: re.search(r"^draining: 1 connection, \d+ s left$", drain.stdout(), re.M), what="progress")
    seen = service(first)
    assert seen["state"] == "drain" and seen["reason"].startswith("an operator asked for it: 1 connection, "), seen
    for connection in held:  # what is open goes on
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.")
        connection.close()
    assert drain.wait() == 0
    assert drain.stdout().splitlines()[-1] == "drained: no connection is open"
    # drained means that nothing comes any more; the host stays as it is
    assert f"{t.vip}/32" in t.r1.addresses("lo")
    assert load(t.cl, t.vip, 80, n=6)["servers"] == {"r2": 6}
    assert set(load(t.cl, t.vip, 8080, n=6)["servers"]) == {"r1", "r2"}
    assert director.get("/service/web/r1")["reason"] == "an operator asked for it"
    assert first.command("undrain", "--service", "web").stdout == ""
    wait_for(lambda: weights(t) == {"10.1.0.101:80": 100, "10.1.0.102:80": 100}, what="web has its weight again")
    assert set(load(t.cl, t.vip, 80, n=6)["servers"]) == {"r1", "r2"}
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


def test_a_drain_waits_for_directors_to_hear_of_it(t):
    """What a director said while the host was being set up (weight 0) is no answer to it: a report that says up may be on its way."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [director], {"web": {"check": "listen"}})
    wait_state(agent, "down")  # nobody listens yet
    wait_for(lambda: agent.status()["directors"][0]["state"] == "registered", what="the director knows it")
    director.process.signal(signal.SIGSTOP)
    serve(t.r1)
    wait_state(agent, "up")
    done = agent.command("drain", "--service", "web", "--timeout", "1s", check=False)
    assert done.returncode == 1 and "not every director has stopped sending" in done.stdout + done.stderr, done
    director.process.signal(signal.SIGCONT)
    drain = word(agent, "drain", "--service", "web")
    assert drain.wait() == 0
    wait_weights(director, 0)


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
    (agent,) = agents(t, director, servers=[t.r1], ttl="60s", drain="1s")
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
    with t.di.capture("eth0", "tcp port 4672") as seen:  # another attempt fails in the same way, which is no news
        seen.wait(lambda p: "Flags [R" in p.text, 2, 15, "refusals")
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
    # without a port each connection of the VIP is waited for
    slow = load_start(t.cl, t.vip, 80, n=1, path="/slow/1500", timeout=5000)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="a connection")
    assert agent.stop() == 0
    assert slow.result()["ok"] == 1
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


# ---------------------------------------------------------------- plan


def plan(agent, *words, code=0):
    done = agent.command("plan", *words, check=False)
    assert done.returncode == code, done
    return done.stdout.splitlines()


def commands(lines, sign="+"):
    return [line[2:] for line in lines if line.startswith(sign + " ")]


def same_but_marks(text):
    """Without numbers of devices, what says who made it (alias, protocol), and what the kernel draws by lot for each new device."""
    text = re.sub(r"^(\d+: |    alias .*\n)", "", text, flags=re.M)
    text = re.sub(r" proto (181|unspec|static|boot)\b| permaddr \S+", "", text)
    text = re.sub(r"^eth0@[^:]*:", "eth0:", text, flags=re.M)  # the other end is in another namespace
    text = re.sub(r"link/ether (?!02:00:00:)\S+", "link/ether of-its-own", text)
    text = re.sub(r"fe80::\w+:\w+:\w+:\w+", "fe80::of-its-own", text)
    return sorted(line.strip() for line in text.splitlines())


METHODS_4 = [
    {"host": "10.1.0.100"},
    {"host": "fd00:1::100"},
    {"host": "10.1.0.120", "device": "vips0"},
    {"host": "10.1.0.121", "method": "ipip"},
    {"host": "fd00:1::121", "method": "ipip"},
    {"host": "10.1.0.122", "method": "gue", "tunnel": {"port": 6081}},
    {"host": "10.1.0.123", "method": "gre", "tunnel": {"checksum": "on"}},
    {"host": "10.1.0.124", "method": "nat", "port": 8080, "gateway": "10.1.0.10"},
]
METHODS_6 = [
    {"host": "10.1.0.131", "method": "ipip"},
    {"host": "fd00:1::131", "method": "ipip"},
    {"host": "fd00:1::132", "method": "gue"},
    {"host": "10.1.0.133", "method": "gre"},
    {"host": "fd00:1::134", "method": "nat", "port": 8080, "protocol": "udp", "gateway": "fd00:1::10"},
]
ROUTES = [
    "route add 172.16.0.0/16 nexthop via 10.1.0.1 weight 2 nexthop via 10.1.0.10",
    "route add blackhole 172.17.0.0/16",
    "route add 172.18.0.0/16 via 10.1.0.1 mtu lock 1400 advmss 1000 initcwnd 20",
    "nexthop add id 5 via 10.1.0.1 dev eth0",
    "route add 172.19.0.0/16 nhid 5",
    "route add 172.20.0.0/16 via 10.9.9.9 dev eth0 onlink",
    "route add 172.21.0.0/16 via inet6 fd00:1::1 dev eth0",
    "route add 172.22.0.0/16 via 10.1.0.1 src 10.1.0.101 metric 7",
    "route add fd00:77::/64 via fd00:1::1 metric 77 pref high",
    "route add unreachable fd00:78::/64",
    "route add fd00:79::/64 nexthop via fd00:1::1 nexthop via fd00:1::10",
]


@pytest.mark.parametrize("outer, methods", [(4, METHODS_4), (6, METHODS_6)], ids=["outer4", "outer6"])
@pytest.mark.parametrize("rp_filter", [0, 1])
def test_typed_by_hand_the_plan_makes_what_the_agent_makes(t, outer, methods, rp_filter):
    for key in ("default", "eth0"):
        t.r1.sysctl(f"net/ipv4/conf/{key}/rp_filter", rp_filter)
    t.r1.ip(*ROUTES)
    before = snapshot(t.r1)
    agent = Agent(t.r1, [], None, static=methods, insecure=None, address=t.r1.v6 if outer == 6 else t.r1.v4, start=False)
    lines = plan(agent)
    assert plan(agent, *[]) == lines and agent.command("--dry-run").stdout.splitlines() == lines
    assert not os.path.exists(agent.config["run_dir"])
    assert_as_before(t.r1, before)
    assert not commands(lines, "-") and not commands(lines, "!")

    agent.start()
    wait_for(lambda: agent.status() and all(s["state"] == "up" for s in agent.status()["static"] if not s["port"]), what="set up by the agent")
    made = snapshot(t.r1)
    assert plan(agent) == ["# nothing to do: the host is as it should be"]
    assert agent.stop() == 0
    assert_as_before(t.r1, before)

    script = "\n".join(commands(lines))
    done = t.r1.run("sh", "-ex", stdin=script, check=False)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: "tentative" not in look_at(t.r1), what="addresses are there")
    typed = snapshot(t.r1)

    # the routes that the kernel makes for IPv6 addresses of tunnels come after the copy of the table was typed
    follow = [line for line in plan(agent) if line != "# nothing to do: the host is as it should be"]
    assert all(re.match(r"\+ ip -6 route append \S+ dev (brass-\S+|vips0|lo) ", line) for line in follow), follow
    t.r1.run("sh", "-ex", stdin="\n".join(commands(follow)))
    typed = snapshot(t.r1)
    a, b = same_but_marks(made), same_but_marks(typed)
    assert a == b, "\n".join(difflib.unified_diff(a, b, "the agent", "by hand", lineterm="", n=0))


def test_the_line_of_the_status_makes_the_copied_table(t):
    """With several next hops, a route's own MSS, other types than unicast."""
    t.r1.ip(*ROUTES, "route add 10.74.0.0/16 via 10.1.0.1 metric 7 advmss 700", "route add 10.75.0.0/16 advmss 600 nexthop via 10.1.0.1 nexthop via 10.1.0.10 weight 3")
    agent = Agent(t.r1, [], None, static=METHODS_4, insecure=None)
    wait_for(lambda: agent.status() and all(s["state"] == "up" for s in agent.status()["static"] if not s["port"]), what="set up")
    lines = [line for line in agent.status()["resources"] if "advmss" in line]
    agent.kill9()

    def routes(table):
        shown = [same_but_marks(t.r1.run("ip", family, "-o", "route", "show", "table", table).stdout) for family in ("-4", "-6")]
        return [[line for line in lines if not line.startswith("fe80::/64")] for lines in shown]  # one a device: see resource.c

    made = routes("4673")
    assert len(lines) == 2 and any("nexthop" in line for line in made[0]) and any("nexthop" in line for line in made[1]), made
    for line in lines:
        done = t.r1.run("sh", "-c", line.replace("table 4673", "table 4999"))
        assert not done.stderr, done.stderr
    typed = routes("4999")
    assert typed == made, "\n".join(line for a, b in zip(made, typed) for line in difflib.unified_diff(a, b, "the agent", "by hand", lineterm="", n=0))


def test_plan_asks_directors_and_does_not_register(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [director, "http://10.1.0.99:4672"], {"web": {}, "mail": {}}, address=None, start=False)
    lines = plan(agent, code=1)  # mail is not known
    assert f"# {director.url}: asked" in lines and f"# {director.url}: it has no service mail" in lines
    assert any(line.startswith("# http://10.1.0.99:4672: ") and line.endswith("it has said nothing before") for line in lines), lines
    assert "# address: 10.1.0.101" in lines
    assert commands(lines)[-1] == f"ip addr add {t.vip}/32 dev lo"
    assert director.get("/agent") == {}
    # with what was remembered, when nobody answers
    agent.configure(directors=[director.url], backends={"web": {"check": "none"}})
    agent.start()
    wait_state(agent, "up")
    agent.kill9()
    t.r1.ip(f"addr del {t.vip}/32 dev lo")
    director.kill9()
    lines = plan(agent)
    assert lines[0].startswith(f"# {director.url}: ") and lines[0].endswith("this is what it said last"), lines
    assert commands(lines) == [f"ip addr add {t.vip}/32 dev lo"]
    # what an earlier run made and nobody wants goes
    director.start()
    assert director.api("DELETE", "/service/web")[0] == 200
    lines = plan(agent, code=1)
    assert commands(lines, "-") == [f"ip addr del {t.vip}/32 dev lo", *(c for c in commands(lines, "-") if c.startswith("sysctl"))]
    assert "sysctl -w net/ipv4/conf/eth0/arp_ignore=0" in commands(lines, "-")
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 2)  # somebody else's by now
    assert "sysctl -w net/ipv4/conf/eth0/arp_ignore=0" not in commands(plan(agent, code=1), "-")


def test_plan_names_what_is_in_the_way(t):
    agent = static(t.r1, {"host": t.vip}, {"host": "10.1.0.121", "method": "ipip"}, start=False)
    t.r1.ip("link add brass-ipip type dummy", f"addr add {t.vip}/32 dev eth0")
    lines = plan(agent, code=1)
    conflicts = commands(lines, "!")
    assert any(c.startswith("ip link add brass-ipip") and "is there already, as dummy" in c for c in conflicts), lines
    assert any(c.startswith(f"ip addr add {t.vip}/32 dev lo: VIP {t.vip} is already on device eth0") for c in conflicts), lines
    t.r1.run("ip", "link", "del", "brass-ipip")
    t.r1.run("ip", "addr", "del", f"{t.vip}/32", "dev", "eth0")
    t.r1.sysctl("net/ipv4/conf/all/arp_ignore", 3)
    conflicts = commands(plan(agent, code=1), "!")
    assert f"ip addr add {t.vip}/32 dev lo: not added, because this host would answer ARP for it" in conflicts


# ---------------------------------------------------------------- restore


def test_restore_after_a_kill_leaves_no_trace(t):
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 4)  # an original that is not the default
    before = snapshot(t.r1)
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    director.make("six", host=t.vip6, port=80)
    nat = {"host": "10.1.0.124", "method": "nat", "port": 8080, "gateway": "10.1.0.10"}
    agent = Agent(t.r1, [director], {"web": {"method": "gue"}, "six": {"method": "dr"}}, static=[nat, {"host": "10.1.0.9", "device": "vips0"}])
    wait_state(agent, "up")
    wait_state(agent, "up", "six")
    agent.command("drain", "--service", "six", "--no-wait")
    done = agent.command("restore", check=False)
    assert done.returncode == 1 and "a brass-agent is running here" in done.stderr
    assert agent.status()["state"] == "running"
    agent.kill9()
    assert f"{t.vip}/32" in t.r1.addresses("brass-ipip")
    run_dir = agent.config["run_dir"]
    os.unlink(agent.file)  # it needs no configuration
    done = t.r1.run(agent.binary, "--run-dir", run_dir, "restore")
    assert done.stdout == "the host is as it was found\n"
    assert_as_before(t.r1, before)
    assert os.listdir(run_dir) == []
    assert t.r1.run(agent.binary, "--run-dir", run_dir, "restore").stdout.startswith("nothing to do")
    assert t.r1.run(agent.binary, "--run-dir", run_dir + "-none", "restore").stdout.startswith("nothing to do")
    assert not os.path.exists(run_dir + "-none")


def test_restore_and_an_agent_keep_out_of_each_others_way(t):
    """Whoever is there first: the other one says so, and the host is right."""
    agent = Agent(t.r1, [], None, static=[{"host": t.vip}], insecure=None)
    is_up = lambda: f"{t.vip}/32" in t.r1.addresses("lo")
    wait_for(is_up, what="set up")
    agent.kill9()
    # one of them is at work, and nobody answers on the socket yet
    run_dir = agent.config["run_dir"]
    with open(os.path.join(run_dir, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in ((), ("restore",)):
            done = agent.command(*words, check=False)
            assert done.returncode == 1 and f"another brass-agent is running, or gives this host back just now: it holds {run_dir}/lock" in done.stderr, done
        assert is_up() and os.path.exists(os.path.join(run_dir, "journal.json"))
        assert agent.command("plan").returncode == 0  # who only looks need not wait
    for _ in range(8):
        restore, process = word(agent, "restore"), agent.launch()
        codes = restore.wait(), process.wait() if "gives this host back" in process.stderr() else None
        wait_for(lambda: agent.status() is not None or not process.running(), what="the agent is there, or is not")
        if process.running():
            wait_for(is_up, what="what it set up stays")
            journal = os.path.join(run_dir, "journal.json")
            wait_for(lambda: os.path.exists(journal), what="it has its journal")
            agent.kill9()
        else:
            assert codes[0] == 0 and process.wait() == 1 and not is_up(), (codes, restore.output(), process.output())
            agent.start()
            wait_for(is_up, what="set up")
            agent.kill9()
    agent.command("restore")
    assert not is_up() and os.listdir(run_dir) == []


def test_restore_says_what_it_cannot_do(t):
    agent = Agent(t.r1, [], None, static=[{"host": t.vip}], insecure=None)
    wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("lo"), what="set up")
    agent.kill9()
    journal = os.path.join(agent.config["run_dir"], "journal.json")
    with t.r1.inside():
        binary = shutil.copy(agent.binary, t.directory)  # where everybody may read it
        argv = [binary, "--run-dir", agent.config["run_dir"], "restore"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, user=65534)
    assert done.returncode == 3 and "root" in done.stderr
    with open(journal) as f:
        text = f.read()
    with open(journal, "w") as f:
        f.write(text[:-20])
    done = agent.command("restore", check=False)
    assert done.returncode == 1 and f"{journal} makes no sense" in done.stderr
    assert os.path.exists(journal), "a person may still read it"
    with open(journal, "w") as f:
        f.write(text)
    agent.command("restore")
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"]
