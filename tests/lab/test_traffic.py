# SPDX-License-Identifier: Apache-2.0
"""The whole of it: agents register, a client's requests to the VIP are answered by the real servers, and go on being
answered while agents and directors come, stop and are killed. The proof is in packets, byte counters and counted requests.
"""

import contextlib
import ipaddress
import time

import pytest
from daemons import Agent, Director
from topology import arp_answers, dr_topology, ipvs, load, load_start, nat_topology, routed_topology, rules, serve, wait_for

TOPOLOGIES = {"dr": dr_topology, "ipip": routed_topology, "nat": nat_topology}
LEASE = "2s"
# A request that is lost (a reset, a server that is gone, a connection entry that leads nowhere) fails within this time too;
# one that only waits for a busy machine does not.
PATIENCE_MS = 5000


class Site:
    """A director, agents and servers on a topology, with the service `web` on a VIP of one family."""

    def __init__(self, t, method, family):
        self.t, self.method, self.v6 = t, method, family == 6
        self.vip = str(ipaddress.ip_address(t.vip6 if self.v6 else t.vip))
        self.key = f"TCP [{self.vip}]:80" if self.v6 else f"TCP {self.vip}:80"
        # the address that the servers reach the director by
        inside = ("fd00:1::10" if self.v6 else "10.1.0.10") if method == "nat" else (t.di.v6 if self.v6 else t.di.v4)
        self.url = f"http://[{inside}]:4672" if self.v6 else f"http://{inside}:4672"
        self.director = Director(t.di, listen=[self.url.removeprefix("http://"), "127.0.0.1:4672"])
        self.director.make("web", host=self.vip, port=80, method="rr")
        self.servers = {host.name: serve(host) for host in t.servers}
        self.agents = {}

    def agent(self, host, **config):
        a = Agent(
            host,
            [self.url],
            {"web": {"method": self.method}},
            **{"address": host.v6 if self.v6 else host.v4, "ttl": LEASE, "drain": "8s", **config},
        )
        self.agents[host.name] = a
        return a

    def start_agents(self, **config):
        for host in self.t.servers:
            self.agent(host, **config)
        self.wait_for_weights([100] * len(self.t.servers))
        return self

    def dests(self):
        return {d.rs: d for d in ipvs(self.t.di)[self.key]}

    def dest(self, host):
        return self.dests().get(f"[{host.v6}]:80" if self.v6 else f"{host.v4}:80")

    def weights(self):
        return sorted(d.weight for d in self.dests().values())

    def wait_for_weights(self, weights):
        wait_for(lambda: self.weights() == sorted(weights), 10, f"weights {weights}")

    def load(self, **options):
        return load(self.t.cl, self.vip, 80, **options)

    def load_start(self, **options):
        return load_start(self.t.cl, self.vip, 80, **options)


@contextlib.contextmanager
def site(method, family=4, offloads=False):
    t = TOPOLOGIES[method]()
    t.offloads = offloads
    with t:
        yield Site(t, method, family)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("method", ["dr", "ipip", "nat"])
def test_every_server_answers(method, family):
    with site(method, family) as s:
        if method == "ipip":
            for host in s.t.servers:
                host.sysctl("net.ipv4.conf.all.rp_filter", 1)
        s.start_agents()
        n = 10 * len(s.t.servers)
        counts = s.load(n=n)
        assert counts["ok"] == n and counts["failed"] == 0, counts
        assert counts["servers"] == {host.name: 10 for host in s.t.servers}
        assert {d.forward for d in s.dests().values()} == {{"dr": "dr", "ipip": "ipip", "nat": "nat"}[method]}
        # what the director counts is what the client did
        info = s.director.get("/service/web?expand=1")
        assert sorted(info["backends"]) == sorted(host.name for host in s.t.servers)
        wait_for(
            lambda: s.director.get("/service/web")["stats"]["connections"] >= n, 5, "the kernel's estimator has counted them"
        )
        assert all(b["origin"] == "agent" and b["status"] == "up" for b in info["backends"].values())


def bytes_both_ways(host, device, work):
    before = host.bytes(device)
    result = work()
    after = host.bytes(device)
    return after[0] - before[0] + after[1] - before[1], result


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("method", ["dr", "ipip"])
def test_replies_go_straight_back(method, family):
    """1 MB down: of the replies the director sees nothing, and all that crosses it (the client's acknowledgements, in and
    out) is less than 5 % of them."""
    size = 1_000_000
    with site(method, family, offloads=True) as s:
        s.start_agents()
        with s.t.di.capture("eth0", f"src host {s.vip} and tcp src port 80") as replies:
            through, counts = bytes_both_ways(s.t.di, "eth0", lambda: s.load(n=1, path=f"/bytes/{size}", timeout=10000))
            assert counts["ok"] == 1 and counts["bytes"] >= size, counts
        assert replies.packets() == [], "a reply came by the director"
        assert through < size * 0.05, f"{through} bytes crossed the director"


@pytest.mark.parametrize("family", [4, 6])
def test_nat_replies_come_back_through_the_director(family):
    """Although the servers' default route leads elsewhere; and the client hears them from the VIP."""
    size = 1_000_000
    with site("nat", family) as s:
        s.start_agents()
        with s.t.ro.capture("eth1", "tcp src port 80") as elsewhere:
            through, counts = bytes_both_ways(s.t.di, "eth1", lambda: s.load(n=1, path=f"/bytes/{size}", timeout=10000))
            assert counts["ok"] == 1 and counts["bytes"] >= size, counts
        assert through > size, "the replies did not come back through the director"
        assert elsewhere.packets() == [], "replies left by the default route"
        with s.t.cl.capture("eth0", "tcp src port 80") as cap:
            s.load(n=1)
            replies = cap.wait(what="replies")
        assert all(s.vip in p.text for p in replies)


def test_replies_carry_the_servers_mac():
    with site("dr") as s:
        s.start_agents()
        macs = {host.mac() for host in s.t.servers}
        with s.t.ro.capture("eth1", f"tcp src port 80 and src host {s.vip}") as cap:
            assert s.load(n=6)["ok"] == 6
            cap.wait(count=6, what="replies")
        assert {p.src_mac for p in cap.packets()} == macs


def test_client_on_the_same_segment_sees_the_servers_mac():
    """The router's place, seen from a client without a router: the capture is at the client itself."""
    with site("dr") as s:
        s.start_agents()
        with s.t.ro.capture("eth1", f"src host {s.vip} and tcp src port 80") as cap:
            assert load(s.t.ro, s.vip, 80, n=6)["ok"] == 6
            cap.wait(count=6, what="replies")
        assert {p.src_mac for p in cap.packets()} == {host.mac() for host in s.t.servers}
        assert arp_answers(s.t.ro, "eth1", s.vip) == [s.t.di.mac()], "only the director answers for the VIP"


def test_first_answer_within_a_second_of_the_agents_start(measured):
    with site("dr") as s:
        waiting = s.load_start(wait=20, n=1, timeout=100)
        wait_for(lambda: s.t.di.run("ipvsadm", "-Ln", "--stats").stdout, what="the load client runs")
        begin = time.monotonic()
        s.agent(s.t.r1, start=False).launch()
        counts = waiting.result()
        took = time.monotonic() - begin
        assert counts["ok"] == 1
        measured(f"agent start to first answered request: {1000 * took:.0f} ms")
        assert s.load(n=5)["servers"] == {"r1": 5}


@pytest.mark.parametrize("method", ["dr", "ipip", "nat"])
def test_graceful_stop_of_an_agent_fails_no_request(method):
    with site(method) as s:
        s.start_agents()
        running = s.load_start(c=4, rate=400, timeout=PATIENCE_MS)
        slow = s.load_start(c=2, rate=10, path="/slow/700", timeout=PATIENCE_MS)
        wait_for(lambda: s.dest(s.t.r1).active > 0, what="open connections")
        assert s.agents["r1"].stop() == 0
        assert s.dest(s.t.r1) is None, "a backend that left stays in the table"
        # enough traffic afterwards to meet ports that were used before
        left = len(s.t.servers) - 1
        more = s.load(n=400)
        assert more["failed"] == 0 and "r1" not in more["servers"] and len(more["servers"]) == left
        for counts in (running.finish(), slow.finish()):
            assert counts["failed"] == 0 and counts["ok"] == counts["requests"] > 0, counts


def test_killed_director_fails_no_request_and_comes_back_to_the_same_table():
    with site("dr") as s:
        s.start_agents(ttl="5s")
        s.director.make("other", host="10.1.0.101" if s.v6 else "10.1.0.99", port=443, method="wlc", persistent=True)
        s.director.make("other/api", host="10.1.0.101", port=443, method="dr", weight=7, pulse={"type": "none"})
        before = rules(s.t.di)
        running = s.load_start(c=4, rate=400, timeout=PATIENCE_MS)
        wait_for(lambda: sum(d.inactive for d in s.dests().values()) > 50, what="traffic")
        s.director.kill9()
        assert rules(s.t.di) == before
        assert s.load(n=100)["failed"] == 0
        s.director.start()
        assert rules(s.t.di) == before
        assert "; 0 changes made" in s.director.log(), "the restarted director wrote to the kernel"
        # the agents find it again, and nothing moves
        wait_for(lambda: all(not a["lost"] for a in s.director.get("/agent").values()), what="agents")
        for agent in s.agents.values():
            wait_for(lambda: agent.status()["directors"][0]["state"] == "registered", 15, "registered again")
        assert rules(s.t.di) == before
        counts = running.finish()
        assert counts["failed"] == 0 and counts["ok"] == counts["requests"] > 0, counts


def test_clean_stop_of_the_director_leaves_table_and_connections():
    with site("dr") as s:
        s.start_agents(ttl="5s")
        before = rules(s.t.di)
        kept = s.load_start(keep=True, c=2, rate=50, timeout=PATIENCE_MS)
        wait_for(lambda: sum(d.active for d in s.dests().values()) >= 2, what="kept connections")
        assert s.director.stop() == 0
        assert rules(s.t.di) == before
        s.director.start()
        assert rules(s.t.di) == before
        counts = kept.finish()
        assert counts["failed"] == 0 and counts["ok"] > 0, counts


def test_killed_agent_keeps_serving_until_its_lease_is_over():
    with site("dr") as s:
        s.start_agents()
        running = s.load_start(c=2, rate=200, timeout=PATIENCE_MS)
        s.agents["r2"].kill9()
        # nobody knows yet, and nothing is wrong: the server itself is alive
        counts = s.load(n=30)
        assert counts["servers"].keys() == {"r1", "r2", "r3"} and counts["failed"] == 0, counts
        wait_for(lambda: s.dest(s.t.r2).weight == 0, 6, "weight 0 after the lease")
        assert s.director.get("/service/web/r2")["status"] == "lost"
        counts = s.load(n=30)
        assert counts["failed"] == 0 and "r2" not in counts["servers"]
        # it comes back, adopts what it left, and takes its place again
        before = s.t.r2.run("ip", "-o", "addr").stdout
        s.agents["r2"].start()
        wait_for(lambda: s.dest(s.t.r2).weight == 100, 6, "weight restored")
        assert s.t.r2.run("ip", "-o", "addr").stdout == before
        assert running.finish()["failed"] == 0


def test_dead_server_under_a_pulse():
    """The service's pulse watches backends that agents registered."""
    with site("dr") as s:
        s.director.api("PATCH", "/service/web", {"pulse": {"type": "http", "interval": "200ms", "args": {"path": "/health"}}})
        s.start_agents()
        s.servers["r3"].fail()
        wait_for(lambda: s.dest(s.t.r3).weight == 0, 6, "weight 0")
        assert "503" in s.director.get("/service/web/r3")["reason"]
        # a director that comes back does not put it in again
        s.director.kill9()
        s.director.start()
        assert s.dest(s.t.r3).weight == 0
        s.servers["r3"].recover()
        wait_for(lambda: s.dest(s.t.r3).weight == 100, 6, "weight restored")


def test_changed_vip_reaches_the_host():
    """The service is made anew with another VIP: agents hear of it at once, and only the new VIP is left on the hosts."""
    with site("dr") as s:
        s.start_agents()
        assert s.director.api("DELETE", "/service/web")[0] == 200
        wait_for(lambda: s.agents["r1"].status()["services"][0]["state"] == "setup", what="the agent knows")
        s.vip, s.key = "10.1.0.110", "TCP 10.1.0.110:80"
        s.director.make("web", host=s.vip, port=80, method="rr")
        s.wait_for_weights([100, 100, 100])
        for host in s.t.servers:
            text = host.run("ip", "-o", "addr", "show", "dev", "lo").stdout
            assert s.vip in text and "10.1.0.100" not in text
        assert s.load(n=30)["servers"] == {"r1": 10, "r2": 10, "r3": 10}


def test_udp():
    with site("dr") as s:
        s.director.make("dns", host=s.vip, port=80, protocol="udp", method="rr")
        for host in s.t.servers:
            Agent(host, [s.url], {"dns": {"method": "dr"}, "web": {"method": "dr"}}, ttl=LEASE)
        s.wait_for_weights([100] * 3)
        wait_for(lambda: [d.weight for d in ipvs(s.t.di)[f"UDP {s.vip}:80"]] == [100] * 3, what="udp backends")
        assert s.load(n=30, udp=True)["servers"] == {"r1": 10, "r2": 10, "r3": 10}


@pytest.mark.parametrize("outer,inner", [(4, 6), (6, 4)])
def test_tunnel_between_families(outer, inner):
    with site("ipip", inner) as s:
        s.v6 = outer == 6  # the real servers' own addresses
        for host in s.t.servers:
            s.agent(host)
        s.wait_for_weights([100] * 3)
        counts = s.load(n=30)
        assert counts["failed"] == 0 and counts["servers"] == {"r1": 10, "r2": 10, "r3": 10}, counts
