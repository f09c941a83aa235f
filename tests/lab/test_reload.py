# SPDX-License-Identifier: Apache-2.0
"""The agent reads its configuration again: what changed is changed, what did not is not touched, mistakes change nothing."""

import signal

from daemons import Agent, Director
from net import wait_for
from test_agent import assert_as_before, service, snapshot, wait_state
from topology import ipvs, load, load_start, serve

KINDS = ["address", "link", "rule", "route"]


def reload(agent):
    """SIGHUP; returns when it has been answered with a line in the log."""
    before = agent.log().count(" reload: ")
    agent.process.signal(signal.SIGHUP)
    wait_for(lambda: agent.log().count(" reload: ") > before, what="reload")
    return [line for line in agent.log().splitlines() if " reload: " in line][-1]


def vips(host):
    return sorted(a for a in host.addresses("lo") if a not in ("127.0.0.1/8", "::1/128"))


def weights(director):
    return {key: [dest.weight for dest in dests] for key, dests in ipvs(director.host).items()}


PROBE = "192.0.2.254"  # nobody's; it comes and goes until the monitor has seen it


def watch(host, *kinds):
    """`ip monitor`, when it is known to listen."""
    monitor = host.start("ip", "-ts", "monitor", *(kinds or KINDS))

    def hears():
        host.ip(f"addr add {PROBE}/32 dev lo", f"addr del {PROBE}/32 dev lo")
        return PROBE in monitor.stdout()

    wait_for(hears, 30, "ip monitor listens")
    return monitor


def touched(monitor, word=""):
    """What it has seen of that since."""
    return [line for line in monitor.stdout().splitlines() if line.startswith("[") and word in line and PROBE not in line]


def test_a_reload_brings_and_takes_services_and_leaves_the_others_alone(t):
    director = Director(t.di)
    for name, host in (("web", "10.1.0.100"), ("old", "10.1.0.110"), ("new", "10.1.0.120")):
        director.make(name, host=host, port=80, method="rr")
    serve(t.r1)
    before = snapshot(t.r1)
    agent = Agent(t.r1, [director], {"web": {}, "old": {}})
    for name in ("web", "old"):
        wait_state(agent, "up", name)
    monitor = watch(t.r1)
    steady = load_start(t.cl, "10.1.0.100", 80, c=2, rate=50)
    slow = load_start(t.cl, "10.1.0.110", 80, n=1, path="/slow/8000", timeout=20000)
    wait_for(lambda: ipvs(t.di)["TCP 10.1.0.110:80"][0].active == 1, what="the request is under way")
    agent.configure(backends={"web": {"check": "none"}, "new": {"check": "none", "weight": 7}}, ttl="5s", check_interval="1s")
    assert "read again: 3 backends, 1 directors" in reload(agent)
    wait_state(agent, "up", "new")
    # no new connections to the one that is gone, and its address stays for the open one
    wait_for(lambda: weights(director) == {"TCP 10.1.0.100:80": [100], "TCP 10.1.0.110:80": [0], "TCP 10.1.0.120:80": [7]}, what="weights")
    assert service(agent, "old")["reason"] == "it is no longer in the agent's configuration"
    assert vips(t.r1) == ["10.1.0.100/32", "10.1.0.110/32", "10.1.0.120/32"]
    assert load(t.cl, "10.1.0.120", 80, n=5)["ok"] == 5
    assert slow.result()["ok"] == 1
    wait_for(lambda: vips(t.r1) == ["10.1.0.100/32", "10.1.0.120/32"], what="the address goes with its last connection")
    wait_for(lambda: weights(director)["TCP 10.1.0.110:80"] == [], what="the director has let go of it")
    counts = steady.finish()
    assert counts["failed"] == 0 and counts["ok"] > 50, counts
    assert touched(monitor, "10.1.0.100") == []
    assert len(touched(monitor, "inet 10.1.0.110")) == 1 and len(touched(monitor, "inet 10.1.0.120")) == 1
    assert "web/r1: agent says down" not in director.log() and "web/r1: agent says setup" not in director.log()
    assert agent.stop() == 0
    assert_as_before(t.r1, before)


def test_what_comes_back_while_it_drains_goes_on(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    director.make("api", host="10.1.0.110", port=80, method="rr")
    serve(t.r1)
    agent = Agent(t.r1, [director], {"web": {}, "api": {}}, drain="60s")
    wait_state(agent, "up", "api")
    slow = load_start(t.cl, "10.1.0.110", 80, n=1, path="/slow/4000", timeout=20000)
    wait_for(lambda: ipvs(t.di)["TCP 10.1.0.110:80"][0].active == 1, what="the request is under way")
    agent.configure(backends={"web": {}})
    reload(agent)
    wait_for(lambda: weights(director)["TCP 10.1.0.110:80"] == [0], what="no new connections")
    agent.configure(backends={"web": {}, "api": {}})
    reload(agent)
    wait_for(lambda: weights(director)["TCP 10.1.0.110:80"] == [100], what="new connections again")
    assert slow.result()["ok"] == 1
    assert load(t.cl, "10.1.0.110", 80, n=5)["ok"] == 5
    assert service(agent, "api")["state"] == "up"


def test_a_reload_brings_and_takes_directors(t):
    first, second = Director(t.di), Director(t.r3)
    first.make("web", host=t.vip, port=80, method="rr")
    second.make("web", host="10.1.0.110", port=80, method="rr")
    serve(t.r1)
    before = snapshot(t.r1)
    agent = Agent(t.r1, [first], {"web": {}}, address=None)
    wait_state(agent, "up")
    monitor = watch(t.r1)
    steady = load_start(t.cl, t.vip, 80, c=2, rate=50)
    agent.configure(directors=[second.url, first.url + "/"])
    reload(agent)
    wait_for(lambda: vips(t.r1) == ["10.1.0.100/32", "10.1.0.110/32"] and weights(second) == {"TCP 10.1.0.110:80": [100]}, what="both")
    assert load(t.cl, "10.1.0.110", 80, n=5)["ok"] == 5
    slow = load_start(t.cl, "10.1.0.110", 80, n=1, path="/slow/8000", timeout=20000)
    wait_for(lambda: ipvs(t.r3)["TCP 10.1.0.110:80"][0].active == 1, what="the request is under way")
    agent.configure(directors=[first.url])
    reload(agent)
    wait_for(lambda: weights(second) == {"TCP 10.1.0.110:80": [0]}, what="the second director sends nothing more")
    assert slow.result()["ok"] == 1
    wait_for(lambda: not second.get("/agent"), what="the agent has left the second director")
    wait_for(lambda: vips(t.r1) == ["10.1.0.100/32"], what="what only that one wanted is gone")
    assert [d["url"] for d in agent.status()["directors"]] == [first.url]
    counts = steady.finish()
    assert counts["failed"] == 0, counts
    assert touched(monitor, "10.1.0.100") == []
    assert agent.stop() == 0
    assert_as_before(t.r1, before)


def test_a_reload_that_is_refused_changes_nothing(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    serve(t.r1)
    agent = Agent(t.r1, [director], {"web": {}})
    wait_state(agent, "up")
    good = dict(agent.config)

    def status():
        return t.r1.run(agent.binary, "--run-dir", good["run_dir"], "status").stdout.splitlines()[2:]

    before = status()
    for change, words in (
        ({"node": "r2"}, "node: found r2; a running agent keeps its name, r1"),
        ({"run_dir": "/run/elsewhere"}, "run_dir: found /run/elsewhere; a running agent keeps its own"),
        ({"backends": {"web": {"method": "ip"}, "new": {}}}, 'backends.web.method: found "ip"'),
        ({"directors": []}, "directors: found 0 directors"),
    ):
        agent.configure(**{**good, **change})
        assert words in reload(agent) and "all stays as it was" in agent.log().splitlines()[-1]
        assert status() == before
    # asked for by the word, the reason comes back to who asked
    agent.configure(**{**good, "node": "r2"})
    done = agent.command("reload", check=False)
    assert done.returncode == 1 and "node: found r2" in done.stderr
    agent.configure(**good)
    assert agent.command("reload").returncode == 0
    assert load(t.cl, t.vip, 80, n=5)["ok"] == 5


def test_another_check_is_no_flap(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    server = serve(t.r1)
    agent = Agent(t.r1, [director], {"web": {"check": "listen"}})
    wait_state(agent, "up")
    steady = load_start(t.cl, t.vip, 80, c=2, rate=50)
    health = {"type": "http", "interval": "200ms", "args": {"path": "/health"}}
    for check in (health, {**health, "interval": "300ms"}, "none", "listen", health):
        agent.configure(backends={"web": {"check": check}})
        reload(agent)
        assert service(agent)["state"] == "up"
    counts = steady.finish()
    assert counts["failed"] == 0, counts
    assert "agent says down" not in director.log()
    server.fail()  # and it is really the last one that looks
    wait_state(agent, "down")
    agent.configure(backends={"web": {"check": "none"}})
    reload(agent)
    wait_state(agent, "up")


def test_static_ones_and_tables_follow_the_file(t):
    serve(t.r1)
    before = snapshot(t.r1)
    agent = Agent(t.r1, static=[{"host": t.vip, "port": 80}, {"host": "10.1.0.110", "method": "ipip"}])
    wait_for(lambda: vips(t.r1) == ["10.1.0.100/32"] and t.r1.addresses("brass-ipip"), what="set up")
    agent.configure(static=[{"host": t.vip, "port": 80}, {"host": "10.1.0.120"}, {"host": "10.1.0.130", "method": "ipip"}], mss_table=5000, devices=["eth0"])
    monitor = watch(t.r1)
    reload(agent)
    wait_for(lambda: vips(t.r1) == ["10.1.0.100/32", "10.1.0.120/32"] and "10.1.0.130/32" in t.r1.addresses("brass-ipip"), what="the new ones")
    assert "10.1.0.110/32" not in t.r1.addresses("brass-ipip")
    assert "from 10.1.0.130 lookup 5000" in t.r1.run("ip", "rule").stdout and "lookup 4673" not in t.r1.run("ip", "rule").stdout
    assert touched(monitor, "10.1.0.100") == []
    # from none to a director
    director = Director(t.di)
    director.make("web", host="10.1.0.140", port=80)
    agent.configure(directors=[director.url], backends={"web": {"check": {"type": "http", "interval": "200ms", "args": {"path": "/health"}}}})
    reload(agent)
    wait_state(agent, "up")
    assert load(t.cl, "10.1.0.140", 80, n=3)["ok"] == 3
    assert agent.stop() == 0
    assert_as_before(t.r1, before)


def test_an_address_of_the_file_counts_before_that_of_the_route(t):
    t.r1.ip("addr add 10.1.0.77/24 dev eth0")
    before = snapshot(t.r1)
    agent = Agent(t.r1, static=[{"host": "10.1.0.110", "method": "ipip"}], address=None, check_interval="100ms")
    end = lambda: t.r1.link("brass-ipip") and t.r1.run("ip", "-d", "link", "show", "brass-ipip").stdout  # noqa: E731
    wait_for(lambda: f"local {t.r1.v4} " in (end() or ""), what="the tunnel")
    agent.configure(address="10.1.0.77")
    reload(agent)
    wait_for(lambda: "local 10.1.0.77 " in (end() or "") and "10.1.0.110/32" in t.r1.addresses("brass-ipip"), what="the tunnel of the other address")
    assert agent.stop() == 0
    assert_as_before(t.r1, before)


def test_a_signal_while_it_drains_is_not_in_the_way(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    serve(t.r1)
    agent = Agent(t.r1, [director], {"web": {}})
    wait_state(agent, "up")
    slow = load_start(t.cl, t.vip, 80, n=1, path="/slow/2000", timeout=20000)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="the request is under way")
    agent.process.signal(signal.SIGTERM)
    wait_state(agent, "drain")
    assert "the agent is stopping" in reload(agent)
    assert slow.result()["ok"] == 1
    assert agent.process.wait() == 0


def test_labels_of_hosts(t):
    """Zones and splits count for agents' backends; a reload changes their labels, a restart of the director keeps them."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr", zones={"prefer": ["a"], "spill": 50})
    director.make("api", host="10.1.0.110", port=80, method="rr", split={"label": "version", "shares": {"1": 3, "2": 1}})

    def by_node(key):
        names = {host.v4: host.name for host in t.servers}
        return {names[dest.rs.rsplit(":", 1)[0]]: dest.weight for dest in ipvs(t.di)[key]}

    def backends(version):
        return {"web": {"check": "none"}, "api": {"check": "none", "labels": {"version": version}}}

    zones, agents = {"r1": "a", "r2": "a", "r3": "b"}, {}
    for host in t.servers:
        serve(host)
        agents[host.name] = Agent(host, [director], backends("2" if host is t.r3 else "1"), labels={"zone": zones[host.name]})
    wait_for(lambda: by_node("TCP 10.1.0.100:80") == {"r1": 100, "r2": 100, "r3": 0}, what="only zone a is used")
    share = lambda w: w and len(w) == 3 and w["r3"] and (w["r1"] + w["r2"]) / w["r3"]  # noqa: E731
    wait_for(lambda: share(by_node("TCP 10.1.0.110:80")) == 3, what="three to one")
    assert director.get("/service/api/r3")["options"]["labels"] == {"version": "2", "zone": "b"}
    assert set(load(t.cl, t.vip, 80, n=10)["servers"]) == {"r1", "r2"}
    agents["r2"].configure(labels={"zone": "b"})
    del agents["r3"].config["labels"]
    agents["r3"].configure()
    reload(agents["r2"])
    reload(agents["r3"])
    wait_for(lambda: by_node("TCP 10.1.0.100:80")["r2"] == 0, what="r2 is in zone b now")
    wait_for(lambda: "zone" not in director.get("/service/web/r3")["options"].get("labels", {}), what="r3 in none")
    assert set(load(t.cl, t.vip, 80, n=10)["servers"]) == {"r1"}
    assert director.get("/service/api/r3")["options"]["labels"] == {"version": "2"}
    director.kill9()
    director.start()
    assert by_node("TCP 10.1.0.100:80") == {"r1": 100, "r2": 0, "r3": 0}
    assert director.get("/service/web/r1")["options"]["labels"] == {"zone": "a"}
