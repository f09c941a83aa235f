# SPDX-License-Identifier: Apache-2.0
"""What the agent does to its host, and takes back: seen in the kernel, on the wire and by a client."""

import contextlib
import difflib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest
from daemons import Agent, Director
from net import wait_for
from topology import arp_answers, dr_topology, ipvs, load, load_start, nat_topology, routed_topology, serve

LEASE = "2s"


@pytest.fixture
def t():
    with dr_topology() as t:
        yield t


def agents(t, director, method="dr", v6=False, servers=None, **config):
    return [
        Agent(s, [director], {"web": {"method": method}}, **{"address": s.v6 if v6 else s.v4, "ttl": LEASE, **config})
        for s in servers or t.servers
    ]


def service(agent, name="web"):
    status = agent.status()
    return next(s for s in status["services"] if s["service"] == name) if status else {}


def wait_state(agent, state, name="web", timeout=5):
    return wait_for(lambda: service(agent, name).get("state") == state and service(agent, name), timeout, f"{name} on {agent.host.name} is {state}")


def wait_weights(director, *weights, timeout=5):
    def weights_now():  # but not those of paths, which checks take
        return [dest.weight for key, table in ipvs(director.host).items() if not key.startswith("FWM") for dest in table]

    wait_for(lambda: weights_now() == list(weights), timeout, f"weights {weights}")


COUNTERS = {"nf_conntrack_count", "max_dgram_qlen"}  # the latter is raised by a systemd that boots (machine.py)


def look_at(host):
    """Everything of the host's network that the agent could have touched, as text."""
    commands = "addr\nlink\nrule\nroute show table all\n"
    parts = [host.run("ip", "-d", family, "-batch", "-", stdin=commands).stdout for family in ("-4", "-6")]
    parts.append(host.run("ip", "fou", "show", check=False).stdout)
    with host.inside():
        # `sysctl -a` of what belongs to a network namespace
        for folder, _, names in sorted(os.walk("/proc/sys/net")):
            for name in sorted(set(names) - COUNTERS):
                with contextlib.suppress(OSError), open(f"{folder}/{name}") as f:  # some are only to be written
                    parts.append(f"{folder[14:]}/{name} {f.read().strip()}\n")
    return re.sub(r"\b(valid_lft|preferred_lft|expires) \d+\S*", "", "".join(parts))


def snapshot(host):
    # addresses and routes of the host's own links may still be on their way
    looks = [look_at(host)]

    def settled():
        looks.append(look_at(host))
        return looks[-1] == looks[-2] and "tentative" not in looks[-1]

    wait_for(settled, what="the host's network is settled")
    return looks[-1]


def assert_as_before(host, before):
    now = look_at(host)
    if now != before:
        changes = [line for line in difflib.ndiff(before.splitlines(), now.splitlines()) if line[0] in "+-"]
        pytest.fail("the host is not as it was:\n" + "\n".join(changes), pytrace=False)


# ---------------------------------------------------------------- direct server return


def test_without_noarp_real_servers_answer_for_the_vip(t):
    """The control: the same host, set up without the agent's device conf."""
    t.r1.ip(f"addr add {t.vip}/32 dev lo")
    assert arp_answers(t.ro, "eth1", t.vip) == [t.r1.mac()]


def test_dr_no_real_server_answers_for_the_vip(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    for server in t.servers:
        serve(server)
    for agent in agents(t, director):
        wait_state(agent, "up")
    assert t.r1.addresses("lo") == ["127.0.0.1/8", f"{t.vip}/32", "::1/128"]
    assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]
    assert load(t.cl, t.vip, 80, n=9)["servers"] == {"r1": 3, "r2": 3, "r3": 3}


def test_dr_a_device_that_appears_later_does_not_answer_either(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1], check_interval="1h")
    wait_state(agent, "up")
    t.r1.ip("link add late0 link eth0 type macvlan mode bridge", "link set late0 up")
    wait_for(lambda: t.r1.sysctl("net/ipv4/conf/late0/arp_ignore") == "1", what="device conf of late0")
    assert t.r1.sysctl("net/ipv4/conf/late0/arp_announce") == "2"
    assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]
    # the control: that device would have answered
    t.r1.sysctl("net/ipv4/conf/late0/arp_ignore", 0)
    wait_for(lambda: len(arp_answers(t.ro, "eth1", t.vip)) == 2, what="late0 answers, too")


def test_dr_never_a_vip_without_device_conf(t):
    """Order, as the kernel tells it: both settings of every device are there when the VIP comes."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    watch = subprocess_monitor(t.r1)
    (agent,) = agents(t, director, servers=[t.r1])
    wait_state(agent, "up")
    log = agent.log()
    vip_line = log.index(f"ip addr add {t.vip}/32 dev lo")
    for setting in ("eth0/arp_ignore=1", "eth0/arp_announce=2"):
        assert log.index(setting) < vip_line
    wait_for(lambda: t.vip in watch.stdout(), what="the monitor saw the VIP")


def test_dr_ipv6(t):
    director = Director(t.di)
    director.make("web", host=t.vip6, port=80, method="rr")
    for server in t.servers:
        serve(server)
    for agent in agents(t, director, v6=True):
        wait_state(agent, "up")
    assert f"{t.vip6}/128" in t.r1.addresses("lo")
    answers = arp_answers(t.ro, "eth1", t.vip6)
    assert not set(answers) & {server.mac() for server in t.servers}
    assert load(t.cl, t.vip6, 80, n=9)["servers"] == {"r1": 3, "r2": 3, "r3": 3}
    # deprecated: the host does not take the VIP for its own source address
    (vip,) = [line for line in t.r1.run("ip", "-6", "-o", "addr", "show", "dev", "lo").stdout.splitlines() if t.vip6 in line]
    assert "deprecated" in vip and "tentative" not in vip


def test_settings_that_are_strict_enough_are_left_alone(t):
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 2)
    t.r1.sysctl("net/ipv4/conf/all/arp_announce", 2)
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1])
    wait_state(agent, "up")
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore") == "2"
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_announce") == "0"
    assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]


# ---------------------------------------------------------------- tunnels


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
def test_ipip_in_every_pair_of_families_with_strict_reverse_path_filtering(inner, outer):
    with routed_topology() as t:
        vip = t.vip if inner == 4 else t.vip6
        for server in t.servers:
            server.sysctl("net.ipv4.conf.all.rp_filter", 1)
            serve(server)
        director = Director(t.di)
        director.make("web", host=vip, port=80, method="rr")
        made = agents(t, director, method="ipip", v6=outer == 6)
        for agent in made:
            wait_state(agent, "up")
        device = service(made[0])["device"]
        assert device == {(4, 4): "brass-ipip", (6, 4): "brass-sit", (4, 6): "brass-ip6", (6, 6): "brass-ip6"}[inner, outer]
        counts = load(t.cl, vip, 80, n=9)
        assert counts["servers"] == {"r1": 3, "r2": 3, "r3": 3}, counts
        if inner == 4:
            assert arp_answers(t.rb, "eth1", vip) == []
            made[0].kill9()
            t.r1.sysctl(f"net/ipv4/conf/{device}/rp_filter", 1)  # the control: this is what kept it working
            assert load(t.cl, vip, 80, n=9, timeout=300)["failed"] == 3


def test_a_tunnel_that_was_set_down_comes_up_again():
    with routed_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        (agent,) = agents(t, director, method="ipip", servers=[t.r1], check_interval="1h")
        wait_state(agent, "up")
        t.r1.ip("link set brass-ipip down")
        wait_for(lambda: "UP" in t.r1.link("brass-ipip")["flags"], what="brass-ipip is up")
        t.r1.ip("link del brass-ipip")
        wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("brass-ipip"), what="brass-ipip is back with its VIP")
        serve(t.r1)
        assert load(t.cl, t.vip, 80)["ok"] == 1


# ---------------------------------------------------------------- nat


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("rp_filter", [0, 1])
def test_nat_replies_return_through_the_director(family, rp_filter):
    with nat_topology() as t:
        vip = t.vip if family == 4 else t.vip6
        for server in t.servers:
            server.sysctl("net.ipv4.conf.all.rp_filter", rp_filter)
            serve(server, port=8080)
            serve(server, port=22)
        director = Director(t.di, listen=["10.1.0.10:4672", "127.0.0.1:4672"] if family == 4 else ["[fd00:1::10]:4672", "127.0.0.1:4672"])
        director.make("web", host=vip, port=80, method="rr")
        for server in t.servers:
            agent = Agent(server, [director], {"web": {"method": "nat", "port": 8080}}, address=server.v4 if family == 4 else server.v6, ttl=LEASE)
            wait_state(agent, "up")
        counts = load(t.cl, vip, 80, n=6)
        assert counts["servers"] == {"r1": 3, "r2": 3}, counts
        # nothing else of the host goes that way: its default route still leads to the other router
        rip = t.r1.v4 if family == 4 else t.r1.v6
        before = t.di.bytes("eth1")
        assert load(t.cl, rip, 22, path="/bytes/100000")["ok"] == 1
        assert t.di.bytes("eth1")[0] - before[0] < 10000


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_nat_with_the_default_route_on_another_device(rp_filter):
    with nat_topology(servers=0) as t:
        server = t.host("r9", {"eth0": ("lan", "10.1.0.109/24"), "eth1": (t.segment("other"), "172.16.0.9/24")})
        server.route("default", via="172.16.0.1", dev="eth1")
        server.sysctl("net.ipv4.conf.all.rp_filter", rp_filter)
        serve(server)
        director = Director(t.di, listen=["10.1.0.10:4672", "127.0.0.1:4672"])
        director.make("web", host=t.vip, port=80)
        (agent,) = agents(t, director, method="nat", servers=[server])
        wait_state(agent, "up")
        assert load(t.cl, t.vip, 80, n=5, timeout=300)["ok"] == 5


# ---------------------------------------------------------------- taking back


@pytest.mark.parametrize("family", [4, 6])
def test_a_stopped_agent_leaves_the_host_as_it_was(t, family):
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 3)
    before = snapshot(t.r1)
    director = Director(t.di, listen=["10.1.0.10:4672" if family == 4 else "[fd00:1::10]:4672", "127.0.0.1:4672"])
    director.make("web", host=t.vip if family == 4 else t.vip6, port=80)
    for method in ("dr", "ipip", "nat"):
        (agent,) = agents(t, director, method=method, v6=family == 6, servers=[t.r1])
        wait_state(agent, "up")
        assert look_at(t.r1) != before
        assert agent.stop() == 0
        assert_as_before(t.r1, before)
        assert os.listdir(agent.config["run_dir"]) == []
        assert director.get("/agent") == {}
        assert ipvs(t.di)[next(iter(ipvs(t.di)))] == []


def test_what_the_agent_did_not_make_is_not_taken_away(t):
    t.r1.no_arp()
    t.r1.ip(f"addr add {t.vip}/32 dev lo")
    before = snapshot(t.r1)
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1])
    wait_state(agent, "up")
    assert_as_before(t.r1, before)
    assert agent.stop() == 0
    assert_as_before(t.r1, before)


def test_a_setting_that_someone_changed_since_is_not_given_back(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1], check_interval="1h")
    wait_state(agent, "up")
    t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore", 8)
    assert agent.stop() == 0
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore") == "8"
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_announce") == "0"


def test_a_service_that_is_removed_or_moved_takes_its_vip_along(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1])
    wait_state(agent, "up")
    assert director.api("DELETE", "/service/web")[0] == 200
    wait_for(lambda: f"{t.vip}/32" not in t.r1.addresses("lo"), what="the VIP is gone")
    director.make("web", host="10.1.0.99", port=80)
    wait_for(lambda: "10.1.0.99/32" in t.r1.addresses("lo"), what="the new VIP is there")
    wait_state(agent, "up")


# ---------------------------------------------------------------- crash and adoption


def subprocess_monitor(host):
    """ip monitor of addresses, links and rules; .stdout() is what it saw."""
    monitor = host.start("ip", "-o", "monitor", "address", "link", "rule", "route")
    monitor_listens(host, monitor)
    return monitor


def monitor_listens(host, monitor):
    """It does when it sees what we do."""

    def listens():
        host.ip("link add probe0 type dummy", "link del probe0")
        return "Deleted" in monitor.stdout()

    wait_for(listens, 15, "ip monitor listens")


@pytest.mark.parametrize("method", ["dr", "ipip"])
def test_killed_and_started_again_nothing_flaps(t, method):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    for server in t.servers:
        serve(server)
    made = agents(t, director, method=method)
    for agent in made:
        wait_state(agent, "up")
    watch = subprocess_monitor(t.r1)
    seen = len(watch.stdout())
    running = load_start(t.cl, t.vip, 80, rate=100, c=4, least=10)
    made[0].kill9()
    assert f"{t.vip}/32" in t.r1.addresses("lo" if method == "dr" else "brass-ipip")
    made[0].start()
    wait_state(made[0], "up")
    counts = running.finish()
    assert counts["failed"] == 0 and counts["ok"] >= 10, counts
    assert [line for line in watch.stdout()[seen:].splitlines() if t.vip in line or "brass" in line] == []
    # and what the first run made, the second one takes back
    assert made[0].stop() == 0
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"] and t.r1.link("brass-ipip") is None
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore") == "0"


def test_started_while_the_director_is_away_the_host_is_as_last_known(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1])
    wait_state(agent, "up")
    agent.kill9()
    director.kill9()
    t.r1.ip(f"addr del {t.vip}/32 dev lo")  # as after a reboot
    agent.start()
    wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("lo"), what="the VIP is back")
    (link,) = agent.status()["directors"]
    assert link["state"] == "waiting" and link["error"] and link["retry_in"]
    director.start()
    wait_for(lambda: agent.status()["directors"][0]["state"] == "registered", 15, "the agent has found the director")


@contextlib.contextmanager
def refused(director):
    """The director's host refuses what comes for its API; what is established goes on."""
    rule = ("INPUT", "-p", "tcp", "--dport", "4672", "--syn", "-j", "REJECT", "--reject-with", "tcp-reset")
    director.host.run("iptables-legacy", "-A", *rule)
    yield
    director.host.run("iptables-legacy", "-D", *rule)


def test_after_a_failure_the_director_is_heard_at_once(t):
    """It would hold the next request for a third of the lease, since there is nothing new to say."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [director], {"web": {"check": "listen"}}, ttl="120s")
    program = serve(t.r1)
    wait_state(agent, "up")
    with refused(director):
        program.stop()
        wait_for(lambda: service(agent)["state"] == "down", what="the agent sees it")
        wait_for(lambda: agent.status()["directors"][0]["state"] == "waiting", what="and cannot say it")
        program = serve(t.r1)
        wait_for(lambda: service(agent)["state"] == "up", what="it is as before")
    wait_for(lambda: agent.status()["directors"][0]["state"] == "registered", 15, "the agent is heard again")
    program.stop()
    wait_weights(director, 0)


def test_a_stop_waits_for_a_director_that_may_still_send(t):
    """It cannot be told for a moment, and its lease lasts: what it has sent here, and sends, is waited for."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [director], {"web": {"check": "none"}}, ttl="120s", drain="60s")
    serve(t.r1)
    wait_state(agent, "up")
    wait_weights(director, 100)
    client = t.cl.start("/usr/bin/python3", "-c", f"import socket, sys; s = socket.create_connection(('{t.vip}', 80)); print('open', flush=True); sys.stdin.read(1)")
    wait_for(lambda: "open" in client.stdout(), what="a connection")
    with refused(director):
        agent.process.signal(signal.SIGTERM)
        wait_for(lambda: "waiting" in agent.log(), what="the director cannot be told")
        client.kill()
        time.sleep(1)  # three looks would be enough for it to go
        assert agent.process.running() and f"{t.vip}/32" in t.r1.addresses("lo")
    wait_weights(director, 0, timeout=15)
    assert agent.process.wait(30) == 0


def test_silent_name_servers_hold_nothing_up(t):
    """A director by name, and a name server that answers nothing: the other director does not lose the agent for that."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    t.ro.run("iptables-legacy", "-A", "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP")
    resolv = os.path.join(t.r1.directory("dns"), "resolv.conf")
    with open(resolv, "w") as f:
        f.write("nameserver 10.1.0.1\n")
    agent = Agent(t.r1, [director, "http://director.example:4672"], {"web": {}}, ttl=LEASE, start=False)
    binary, agent.binary = agent.binary, os.path.join(t.r1.directory("dns"), "agent")
    with open(agent.binary, "w") as f:
        f.write(f'#!/bin/sh\nexec unshare -m sh -c \'mount --bind {resolv} /etc/resolv.conf && exec {binary} "$@"\' agent "$@"\n')
    os.chmod(agent.binary, 0o755)
    agent.launch()
    agent.binary = binary
    wait_weights(director, 100)
    wait_for(lambda: agent.log().count("director.example") >= 1, 30, "the name is not found")
    time.sleep(10)  # several leases, and attempts
    assert "lost" not in director.log()
    assert agent.stop() == 0


def test_while_nothing_is_known_what_an_earlier_run_set_up_stays(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1], check_interval="100ms")
    wait_state(agent, "up")
    agent.kill9()
    director.kill9()
    os.unlink(os.path.join(agent.config["run_dir"], "state.json"))
    agent.start()
    wait_for(lambda: agent.status()["directors"][0]["state"] == "waiting", what="the agent has seen that nobody answers")
    t.r1.ip("link add probe0 type dummy", "link del probe0")  # an event, and checks besides
    time.sleep(0.3)
    assert f"{t.vip}/32" in t.r1.addresses("lo")
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore") == "1"
    # a stop takes it back all the same
    assert agent.stop() == 0
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"]


def test_what_an_earlier_run_set_up_stays_when_there_are_too_many_routes(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, method="ipip", servers=[t.r1])
    wait_state(agent, "up")
    agent.kill9()
    director.kill9()
    os.unlink(os.path.join(agent.config["run_dir"], "state.json"))
    t.r1.ip(*(f"route add blackhole 172.16.{n // 256}.{n % 256}/32" for n in range(4100)))
    agent.start()
    wait_for(lambda: "more than 4096 routes" in agent.log(), what="the agent has seen them")
    wait_for(lambda: agent.status()["directors"][0]["state"] == "waiting", what="the agent has seen that nobody answers")
    assert f"{t.vip}/32" in t.r1.addresses("brass-ipip")
    assert "4673" not in t.r1.run("ip", "rule").stdout
    director.start()
    wait_state(agent, "up", timeout=15)
    assert agent.stop() == 0
    assert t.r1.link("brass-ipip") is None


def test_nothing_is_made_that_is_not_written_down(t):
    before = snapshot(t.r1)
    director = Director(t.di)
    (agent,) = agents(t, director, servers=[t.r1], check_interval="100ms")
    in_the_way = os.path.join(agent.config["run_dir"], "journal.json.new")
    os.mkdir(in_the_way)
    director.make("web", host=t.vip, port=80)
    wait_for(lambda: agent.log().count("cannot set up the host") > 2, what="the journal cannot be written")
    assert f"{t.vip}/32" not in t.r1.addresses("lo")
    os.rmdir(in_the_way)
    wait_state(agent, "up")
    assert agent.status()["repairs"] == 0
    agent.kill9()
    agent.command("restore")
    assert_as_before(t.r1, before)


def test_a_director_that_is_not_there_is_asked_with_growing_pauses(t):
    times = []
    with t.di.capture("eth0", "tcp port 4672") as seen:
        agent = Agent(t.r1, ["http://10.1.0.10:4672"], {"web": {}}, ttl=LEASE, start=False)
        agent.launch()
        for count in range(1, 6):
            seen.wait(lambda p: "Flags [S]" in p.text, count, 10, "attempts")
            times.append(time.monotonic())
    # the pauses are 0.1..0.2 s, 0.2..0.4 s, 0.4..0.8 s, 0.8..1.6 s
    assert times[4] - times[3] > times[2] - times[0], times
    director = agent.status()["directors"][0]
    assert director["state"] == "waiting" and "10.1.0.10" in director["error"]
    assert service(agent)["state"] == "setup"
    assert agent.stop() == 0


# ---------------------------------------------------------------- things in the way


def test_a_service_that_is_not_there_yet(t):
    director = Director(t.di)
    (agent,) = agents(t, director, servers=[t.r1])
    assert wait_state(agent, "setup")["reason"]
    assert "web" in agent.command("status").stdout
    serve(t.r1)
    director.make("web", host=t.vip, port=80)
    wait_state(agent, "up", timeout=1)
    assert load(t.cl, t.vip, 80)["ok"] == 1


def test_a_vip_on_another_device_is_said_and_the_rest_goes_on(t):
    t.r1.ip(f"addr add {t.vip}/32 dev eth0")
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    director.make("api", host="10.1.0.99", port=80)
    agent = Agent(t.r1, [director], {"web": {"method": "dr"}, "api": {"method": "dr"}}, ttl=LEASE, check_interval="1h")
    wait_state(agent, "up", "api")
    down = wait_state(agent, "down")
    assert t.vip in down["reason"] and "eth0" in down["reason"]
    assert down["reason"] in agent.command("status").stdout
    wait_for(lambda: {k: [d.weight for d in v] for k, v in ipvs(t.di).items()} == {f"TCP {t.vip}:80": [0], "TCP 10.1.0.99:80": [100]}, what="weights")
    t.r1.ip(f"addr del {t.vip}/32 dev eth0")
    wait_state(agent, "up")
    wait_weights(director, 100, 100)


@pytest.mark.parametrize("taken", ["type dummy", "type ipip local 10.1.0.101 remote 10.1.0.55", "type ipip local 10.1.0.55 remote any"])
def test_a_tunnel_name_that_is_taken_is_said(t, taken):
    t.r1.ip(f"link add brass-ipip {taken}", "link set brass-ipip up")
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, method="ipip", servers=[t.r1], check_interval="1h")
    down = wait_state(agent, "down")
    assert "brass-ipip" in down["reason"] and "not ours" in down["reason"]
    assert f"{t.vip}/32" not in t.r1.addresses("brass-ipip")
    t.r1.ip("link del brass-ipip")
    wait_state(agent, "up")
    assert agent.stop() == 0


def test_the_same_tunnel_under_another_name_is_said(t):
    t.r1.ip("link add mine type ipip local 10.1.0.101 remote any", "link set mine up")
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, method="ipip", servers=[t.r1])
    assert "mine" in wait_state(agent, "down")["reason"]
    assert agent.stop() == 0
    assert t.r1.link("mine")


def test_all_that_overrules_is_said_and_no_vip_leaks(t):
    t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 3)
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1], check_interval="200ms")
    assert "net/ipv4/conf/all/arp_ignore" in wait_state(agent, "down")["reason"]
    assert f"{t.vip}/32" not in t.r1.addresses("lo")
    t.r1.sysctl("net.ipv4.conf.all.arp_ignore", 0)
    wait_state(agent, "up")


def test_what_someone_breaks_is_repaired_and_counted(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, servers=[t.r1], check_interval="200ms")
    wait_state(agent, "up")
    t.r1.ip(f"addr del {t.vip}/32 dev lo")
    wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("lo"), what="the VIP is back")
    t.r1.sysctl("net/ipv4/conf/eth0/arp_announce", 0)  # sends no event
    wait_for(lambda: t.r1.sysctl("net/ipv4/conf/eth0/arp_announce") == "2", what="the setting is back")
    assert agent.status()["repairs"] == 2
    assert agent.stop() == 0
    assert t.r1.sysctl("net/ipv4/conf/eth0/arp_announce") == "0"


def test_nat_a_rule_that_was_deleted_comes_back():
    with nat_topology() as t:
        director = Director(t.di, listen=["10.1.0.10:4672", "127.0.0.1:4672"])
        director.make("web", host=t.vip, port=80)
        (agent,) = agents(t, director, method="nat", servers=[t.r1], check_interval="1h")
        wait_state(agent, "up")
        rules = t.r1.run("ip", "rule").stdout
        assert re.search(r"ipproto \S+ sport 80 ", rules), rules  # by name only where /etc/protocols is
        t.r1.ip("rule del pref 4672")
        wait_for(lambda: t.r1.run("ip", "rule").stdout == rules, what="the rule is back")
        t.r1.ip("route flush table 4672")
        wait_for(lambda: "10.1.0.10" in t.r1.run("ip", "route", "show", "table", "4672").stdout, what="the route is back")


# ---------------------------------------------------------------- drain


def test_drain_waits_for_the_last_connection(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    for server in t.servers:
        serve(server)
    made = agents(t, director)
    for agent in made:
        wait_state(agent, "up")
    slow = load_start(t.cl, t.vip, 80, n=3, c=3, path="/slow/5000", timeout=20000)
    wait_for(lambda: sum(d.active for d in ipvs(t.di)[f"TCP {t.vip}:80"]) == 3, what="a connection on each")
    running = load_start(t.cl, t.vip, 80, rate=100, c=4, least=50)
    made[0].process.signal(signal.SIGTERM)
    wait_for(lambda: service(made[0]).get("state") == "drain", what="drain")
    wait_for(lambda: [d.weight for d in ipvs(t.di)[f"TCP {t.vip}:80"] if d.rs.startswith(t.r1.v4)] == [0], what="weight 0")
    assert f"{t.vip}/32" in t.r1.addresses("lo")
    assert slow.result()["ok"] == 3
    assert made[0].process.wait() == 0
    counts = running.finish()
    assert counts["failed"] == 0 and counts["ok"] >= 50, counts
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"]


def test_drain_ends_with_its_time_or_a_second_signal(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    serve(t.r1)
    for drain, signals in (("1s", 1), ("1h", 2)):
        (agent,) = agents(t, director, servers=[t.r1], drain=drain)
        wait_state(agent, "up")
        held = t.cl.connect(t.vip, 80)
        wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="a connection")
        agent.process.signal(signal.SIGTERM)
        if signals == 2:
            wait_for(lambda: service(agent).get("state") == "drain", what="drain")
            agent.process.signal(signal.SIGINT)
        assert agent.process.wait() == 0
        assert ("the drain time is over" if signals == 1 else "a second signal came") in agent.log()
        assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"]
        held.close()


def test_the_address_of_an_earlier_run_is_not_trusted(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    (agent,) = agents(t, director, method="ipip", servers=[t.r1], address=None)
    wait_state(agent, "up")
    agent.kill9()
    t.r1.ip("addr del 10.1.0.101/24 dev eth0", "addr add 10.1.0.111/24 dev eth0", "route add default via 10.1.0.1")
    agent.start()
    wait_for(lambda: [d.rs for d in ipvs(t.di)[f"TCP {t.vip}:80"]] == ["10.1.0.111:80"], what="the new address")
    wait_weights(director, 100)
    assert t.r1.link("brass-ipip")["linkinfo"]["info_data"]["local"] == "10.1.0.111"
    assert f"{t.vip}/32" in t.r1.addresses("brass-ipip")


def test_drain_asks_the_director_as_well(t):
    """A connection that this host has no socket of: a program in another namespace, or one that has crashed."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    server = serve(t.r1)
    (agent,) = agents(t, director, servers=[t.r1], drain="1s")
    wait_state(agent, "up")
    held = t.cl.connect(t.vip, 80)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="a connection")
    server.kill()
    assert agent.stop() == 0
    assert "1 connections at the directors and 0 here" in agent.log()
    held.close()


def half_open(host, source, to, port):
    """A SYN whose sender wants nothing of the answer. IPVS counts it among the active connections for a minute."""
    tcp = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!BBH", 0, 6, len(tcp)) + tcp
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    total = (total & 0xFFFF) + (total >> 16)
    tcp = tcp[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + tcp[18:]
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as s:
        s.sendto(tcp, (to, 0))


def test_drain_is_not_held_up_by_a_handshake_that_was_given_up(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    serve(t.r1)
    (agent,) = agents(t, director, servers=[t.r1], drain="1h")
    wait_state(agent, "up")
    half_open(t.cl, t.cl.v4, t.vip, 80)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="a connection that is none")
    assert agent.stop() == 0
    assert "1 connections at the directors are stale" in agent.log()


def test_drain_does_not_end_before_the_director_has_heard_of_it(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    serve(t.r1)
    (agent,) = agents(t, director, servers=[t.r1], drain="1h")
    wait_state(agent, "up")
    director.process.signal(signal.SIGSTOP)
    agent.process.signal(signal.SIGTERM)
    with pytest.raises(AssertionError):
        agent.process.wait(1)
    assert agent.status()["state"] == "draining"
    assert load(t.cl, t.vip, 80, n=5)["ok"] == 5, "the kernel still sends connections here"
    director.process.signal(signal.SIGCONT)
    assert agent.process.wait() == 0
    assert director.get("/agent") == {}


@pytest.mark.parametrize("stall", [2.1, 4])  # the lease is 2 s; what is left of it is 1.3 s or more
def test_a_director_that_stood_still_takes_nobody_for_lost(t, stall):
    """Its disk was slow, or its machine paused: agents could not be heard. Who is silent afterwards as well is lost."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    for server in t.servers:
        serve(server)
    all_three = agents(t, director)
    wait_weights(director, 100, 100, 100)
    director.process.signal(signal.SIGSTOP)
    time.sleep(stall)
    director.process.signal(signal.SIGCONT)
    assert director.get("/healthz")["status"] == "ok"
    wait_weights(director, 100, 100, 100)
    all_three[0].process.signal(signal.SIGSTOP)
    wait_weights(director, 0, 100, 100, timeout=10)
    assert [e["agent"] for e in director.get("/events") if e["what"] == "lease" and e["new"] == "lost"] == ["r1"]


def test_drain_without_a_director_looks_at_its_own_sockets(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    serve(t.r1)
    (agent,) = agents(t, director, servers=[t.r1], drain="1h")
    wait_state(agent, "up")
    slow = load_start(t.cl, t.vip, 80, n=1, path="/slow/1500", timeout=5000)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="a connection")
    director.kill9()  # the kernel goes on forwarding
    agent.process.signal(signal.SIGTERM)
    assert slow.result()["ok"] == 1
    assert agent.process.wait(10) == 0
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"]


# ---------------------------------------------------------------- several directors


def test_two_directors_share_a_vip(t):
    first, second = Director(t.di), Director(t.r3)
    for director in (first, second):
        director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [first, second], {"web": {"method": "dr"}}, ttl=LEASE)
    wait_for(lambda: [s["state"] for s in agent.status()["services"]] == ["up", "up"], what="up at both")
    assert second.api("DELETE", "/service/web")[0] == 200
    wait_for(lambda: [s["state"] for s in agent.status()["services"]] == ["up", "setup"], what="gone at the second")
    assert f"{t.vip}/32" in t.r1.addresses("lo")
    second.kill9()
    assert agent.stop() == 0
    assert first.get("/agent") == {}
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"]


def test_two_hosts_of_one_name_do_not_take_turns(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    first = Agent(t.r1, [director], {"web": {}}, node="debian", ttl=LEASE)
    wait_state(first, "up")
    second = Agent(t.r2, [director], {"web": {}}, node="debian", ttl=LEASE)
    error = wait_for(lambda: second.status()["directors"][0].get("error"), what="the second is refused")
    assert "debian" in error and t.r1.v4 in error and "node" in error
    assert [d.rs for d in ipvs(t.di)[f"TCP {t.vip}:80"]] == [f"{t.r1.v4}:80"]
    first.kill9()  # the lease runs out, and the other is let in
    wait_for(lambda: [(d.rs, d.weight) for d in ipvs(t.di)[f"TCP {t.vip}:80"]] == [(f"{t.r2.v4}:80", 100)], 15, "r2 in its place")


def test_the_address_is_found_by_asking(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    agent = Agent(t.r1, [director], {"web": {}}, address=None, ttl=LEASE)
    wait_state(agent, "up")
    assert agent.status()["address"] == t.r1.v4
    assert director.get("/agent/r1")["address"] == t.r1.v4


# ---------------------------------------------------------------- starting


def run_agent(t, *words, user=None, **config):
    agent = Agent(t.r1, ["http://10.1.0.10:4672"], {"web": {}}, start=False, **config)
    with t.r1.inside():
        binary = shutil.copy(agent.binary, t.directory)  # where everybody may read it
        return subprocess.run([binary, "-c", agent.file, *words], capture_output=True, text=True, timeout=10, user=user)


def test_no_permission_is_one_line_and_a_code_of_its_own(t):
    done = run_agent(t, user=65534)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1 and "root" in done.stderr


def test_what_the_systemd_unit_allows_is_enough(t):
    """CapabilityBoundingSet, NoNewPrivileges, ProtectSystem, ProtectKernelTunables of agent/brass-agent.service.in."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    before = snapshot(t.r1)
    for method in ("ipip", "nat"):
        agent = Agent(t.r1, [director], {"web": {"method": method}}, ttl=LEASE, start=False)
        os.makedirs(agent.config["run_dir"], exist_ok=True)
        read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && mount -o remount,ro,bind /"
        drop = "exec setpriv --bounding-set -all,+net_admin --no-new-privs"
        agent.process = t.r1.start("unshare", "-m", "sh", "-c", f"{read_only} && {drop} {agent.binary} -c {agent.file}")
        wait_state(agent, "up")
        assert agent.stop() == 0
        assert_as_before(t.r1, before)


def test_status_without_an_agent_says_so(t):
    done = run_agent(t, "status")
    assert done.returncode == 1 and "no brass-agent is running" in done.stderr


def test_a_second_agent_is_refused(t):
    agent = Agent(t.r1, ["http://10.1.0.10:4672"], {"web": {}})
    done = agent.command(check=False)
    assert done.returncode == 1 and "another brass-agent is running" in done.stderr
    assert agent.process.running() and agent.status()


@pytest.mark.parametrize(
    "text, words",
    [
        ("directors: [http://10.1.0.10:4672]\ninsecure: true\nbackends:\n  web:\n    prot: 80\n", ["line 5", "backends.web.prot"]),
        ("directors: [http://10.1.0.10:4672]\ninsecure: true\nbackends: {web: {port: 70000}}\n", ["line 3", "backends.web.port", "65535"]),
        ("directors: [http://10.1.0.10:4672]\ninsecure: true\nbackends: {web: {method: magic}}\n", ["line 3", "backends.web.method", "dr"]),
        ("directors: [http://10.1.0.10:4672]\nbackends: {web: {}}\n", ["line 1", "directors", "insecure"]),
        ("directors: [ftp://10.1.0.10]\nbackends: {web: {}}\n", ["line 1", "directors", "http://"]),
        ("insecure: true\nbackends: {web: {}}\n", ["directors"]),
        ("directors: [http://10.1.0.10:4672]\ninsecure: true\nbackends: {web: {}}\nttl: 5\n", ["line 4", "ttl"]),
        ("directors: [http://10.1.0.10:4672\n", ["line"]),
        ("directors: [http://10.1.0.10:4672]\ninsecure: true\nbackends: {'a/b': {}}\n", ["line 3", "a/b"]),
    ],
)
def test_a_mistake_in_the_file_is_named(t, text, words):
    agent = Agent(t.r1, start=False)
    with open(agent.file, "w") as f:
        f.write(text)
    for command in ([], ["--check"]):
        done = agent.command(*command, check=False)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        for word in [agent.file, *words]:
            assert word in done.stderr, done.stderr


def test_check_reads_and_stops(t):
    done = run_agent(t, "--check")
    assert done.returncode == 0 and "fine" in done.stdout
    assert not os.path.exists(os.path.join(t.r1.directory("agent"), "run", "agent.sock"))
