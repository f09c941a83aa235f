# SPDX-License-Identifier: Apache-2.0
"""Tunnels to real servers: every kind and pair of families, the MSS that fits, and what the agent makes for them."""

import itertools
import json
import time

import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import assert_as_before, service, snapshot, wait_state, wait_weights
from topology import dr_topology, load, routed_topology, serve

KINDS = {
    "ipip": ({"method": "ipip"}, 20),
    "gue": ({"method": "gue"}, 32),
    "gue-checksum": ({"method": "gue", "tunnel": {"port": 6081, "checksum": "on"}}, 32),
    "gue-remote": ({"method": "gue", "tunnel": {"checksum": "remote"}}, 40),
    "gre": ({"method": "gre"}, 24),
    "gre-checksum": ({"method": "gre", "tunnel": {"checksum": "on"}}, 28),
}  # of IPv4; 20 more of IPv6
DEVICES = {("ip", 4, 4): "brass-ipip", ("ip", 6, 4): "brass-sit", ("ip", 4, 6): "brass-ip6", ("ip", 6, 6): "brass-ip6"}


def start(t, backend, outer=4, inner=4, servers=None, **config):
    """Director, service and agents with this kind of tunnel, all up."""
    vip = t.vip if inner == 4 else t.vip6
    director = Director(t.di)
    director.make("web", host=vip, port=80, method="rr")
    made = [Agent(s, [director], {"web": backend}, address=s.v6 if outer == 6 else s.v4, **{"ttl": "5s", **config}) for s in servers or t.servers]
    for agent in made:
        wait_state(agent, "up", timeout=10)
    wait_weights(director, *[100] * len(made))
    return vip, director, made


@pytest.mark.parametrize("inner,outer", itertools.product((4, 6), (4, 6)))
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "ipip"])
def test_every_kind_in_every_pair_of_families(kind, inner, outer):
    with routed_topology() as t:
        before = {s: None for s in t.servers}
        for server in t.servers:
            server.sysctl("net.ipv4.conf.all.rp_filter", 1)
            server.run("ip", "fou", "show", check=False)  # so that its module is there already
            serve(server)
            before[server] = snapshot(server)
        backend = KINDS[kind][0]
        vip, director, made = start(t, backend, outer, inner)
        if backend["method"] == "gre":
            assert service(made[0])["device"] == ("brass-gre" if outer == 4 else "brass-gre6")
        else:
            assert service(made[0])["device"] == DEVICES["ip", inner, outer]
        counts = load(t.cl, vip, 80, n=9)
        assert counts["servers"] == {"r1": 3, "r2": 3, "r3": 3}, counts
        for agent in made:
            assert agent.stop() == 0
        for server in t.servers:
            assert_as_before(server, before[server])
            assert server.run("ip", "fou", "show").stdout == "" and server.run("ip", "-6", "fou", "show").stdout == ""


def test_a_copy_that_is_not_whole_is_taken_back():
    with routed_topology() as t:
        # the kernel keeps a route whose gateway is no longer on the link, and refuses its copy
        t.r1.ip("route add 10.77.0.0/24 dev eth0", "route add 10.78.0.0/24 via 10.77.0.1", "route del 10.77.0.0/24")
        before = snapshot(t.r1)
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {"method": "ipip"}}, address=t.r1.v4)
        copies = lambda: t.r1.run("ip", "route", "show", "table", "4673", check=False).stdout  # noqa: E731
        wait_for(lambda: "default" in copies() and service(agent)["state"] == "down", what="the others are copied")
        assert "10.78.0.0/24" not in copies()
        assert agent.stop() == 0
        assert copies() == ""
        assert_as_before(t.r1, before)


def test_a_path_that_is_down_is_no_part_of_the_copy():
    with routed_topology() as t:
        gateway = t.r1.run("ip", "route", "show", "default").stdout.split()[2]
        t.r1.ip("link add leg type dummy", "addr add 10.77.0.1/24 dev leg", "link set leg up")
        t.r1.ip(f"route replace default nexthop via 10.77.0.2 dev leg nexthop via {gateway} dev eth0")
        t.r1.ip("link set leg down")
        before = snapshot(t.r1)
        _, director, (agent,) = start(t, {"method": "ipip"}, 4, 4, servers=[t.r1])
        copies = lambda: t.r1.run("ip", "route", "show", "table", "4673").stdout  # noqa: E731
        assert f"default via {gateway} dev eth0 " in copies() and "leg" not in copies()
        # it comes back, and so it does in the copy
        t.r1.ip("link set leg up")
        wait_for(lambda: "dev leg" in copies(), what="the other path is copied")
        t.r1.ip("link set leg down")
        assert agent.stop() == 0
        assert copies() == ""
        assert_as_before(t.r1, before)


def black_hole(t, client):
    """The director tells the client nothing of packets that are too large."""
    six = ":" in client
    t.di.run("ip", "-6" if six else "-4", "rule", "add", "to", client, "ipproto", "ipv6-icmp" if six else "icmp", "pref", "1", "type", "blackhole")


def fragments(host):
    """Made and put together again, of both families."""
    shown = host.run("cat", "/proc/net/snmp").stdout.splitlines()
    names, values = (line.split() for line in shown if line.startswith("Ip:"))
    count = sum(int(v) for n, v in zip(names, values) if n in ("FragCreates", "ReasmReqds"))
    six = dict(line.split() for line in host.run("cat", "/proc/net/snmp6").stdout.splitlines())
    return count + int(six["Ip6FragCreates"]) + int(six["Ip6ReasmReqds"])


ROUNDS = {
    # kind, inner, outer, megabytes each way
    "ipip": ("ipip", 4, 4, 100), "ipip-6-in-6": ("ipip", 6, 6, 10), "sit": ("ipip", 6, 4, 10), "4-in-6": ("ipip", 4, 6, 10),
    "gue": ("gue", 4, 4, 10), "gue-remote": ("gue-remote", 4, 4, 10), "gue-6-in-6": ("gue", 6, 6, 10),
    "gre": ("gre", 4, 4, 10), "gre-checksum": ("gre-checksum", 4, 4, 10), "gre-4-in-6": ("gre", 4, 6, 10),
}  # fmt: skip


@pytest.mark.parametrize("kind,inner,outer,megabytes", ROUNDS.values(), ids=ROUNDS.keys())
def test_no_upload_stalls_where_packets_are_lost_for_their_size(kind, inner, outer, megabytes, measured):
    """No packet may be cut, none larger than 1500 passes, and nobody says so to the client."""
    with routed_topology() as t:
        backend, overhead = KINDS[kind]
        serve(t.r1)
        vip, director, (agent,) = start(t, backend, outer, inner, servers=[t.r1])
        black_hole(t, "10.0.0.2" if inner == 4 else "fd00:0::2")
        received, begin = t.r1.bytes()[0], time.monotonic()
        up = load(t.cl, vip, 80, n=1, body=megabytes << 20, timeout=120000)
        assert up["ok"] == 1 and t.r1.bytes()[0] - received > megabytes << 20, up
        between = time.monotonic()
        down = load(t.cl, vip, 80, n=1, path=f"/bytes/{megabytes << 20}", timeout=120000)
        assert down["ok"] == 1 and down["bytes"] >= megabytes << 20, down
        measured(f"{megabytes} MiB by {kind}, {inner} in {outer}: up {between - begin:.1f} s, down {time.monotonic() - between:.1f} s")
        assert [fragments(host) for host in (t.di, t.r1, t.cl)] == [0, 0, 0], "packets were cut"
        # the MSS is the largest that fits, not a byte less
        headers = (20 if outer == 4 else 40) - 20 + overhead + (40 if inner == 4 else 60)
        routes = json.loads(t.r1.run("ip", "-j", f"-{inner}", "route", "show", "table", "4673").stdout)
        default = next(r for r in routes if r["dst"] == "default")
        assert default["metrics"] == [{"advmss": 1500 - headers}], routes
        # the control: without the rule it stalls
        agent.kill9()
        t.r1.run("ip", f"-{inner}", "rule", "del", "pref", "4673")
        assert load(t.cl, vip, 80, n=1, body=1 << 20, timeout=1500)["ok"] == 0


def copies(host, family=4):
    """Table main as the copy should be, and the copy."""

    def rows(table):
        shown = json.loads(host.run("ip", "-j", f"-{family}", "-N", "route", "show", "table", table).stdout)
        return sorted((r["dst"], r.get("gateway"), r.get("dev"), r.get("metric"), r.get("prefsrc"), len(r.get("nexthops", ()))) for r in shown)

    return rows("main"), rows("4673")


def test_the_routes_with_the_mss_follow_the_main_table():
    with routed_topology() as t:
        _, director, (agent,) = start(t, {"method": "ipip"}, servers=[t.r1], check_interval="1h")
        main, copy = copies(t.r1)
        assert main == copy and len(main) == 2
        changes = ("route add 10.77.0.0/16 via 10.2.0.1", "route change 10.77.0.0/16 via 10.2.0.102", "route add unreachable 10.78.0.0/16",
                   "route add 10.79.0.0/16 proto static advmss 900 mtu 1300 nexthop via 10.2.0.1 nexthop via 10.2.0.102 weight 3",
                   "route replace default via 10.2.0.102", "route del 10.77.0.0/16", "route add 10.88.0.1 dev eth0 metric 5")  # fmt: skip
        for change in changes:
            t.r1.ip(change)
            wait_for(lambda: len(set(map(tuple, map(str, copies(t.r1))))) == 1, 2, f"the copy follows: {change}: {copies(t.r1)}")
        # a smaller MSS of the route's own stays, and so does what else it says
        shown = t.r1.run("ip", "route", "show", "table", "4673", "10.79.0.0/16").stdout
        assert "advmss 900" in shown and "mtu 1300" in shown and "weight 3" in shown
        assert "repairs" in agent.status() and agent.status()["repairs"] == 0
        # another MTU, another MSS
        t.r1.ip("link set eth0 mtu 1400")
        wait_for(lambda: "advmss 1340" in t.r1.run("ip", "route", "show", "table", "4673", "default").stdout, 2, "the MSS follows the MTU")
        # what somebody takes away comes back
        t.r1.ip("route flush table 4673")
        wait_for(lambda: len(set(map(str, copies(t.r1)))) == 1, 2, "the copy is whole again")
        t.r1.ip("rule del pref 4673")
        wait_for(lambda: "from 10.100.0.1 lookup 4673" in t.r1.run("ip", "rule").stdout, 2, "the rule is back")
        kinds = agent.status()["repaired"]["by_kind"]
        assert kinds["rule"] == 1 and kinds["mirror"] >= 1, kinds  # a flush may be seen in parts


LEARN = """
import fcntl, socket, struct, sys
# SIOCADDRT with a struct in6_rtmsg: a default route as learnt of a router (RTF_UP, RTF_GATEWAY, RTF_DEFAULT, RTF_ADDRCONF)
for gateway in sys.argv[2:]:
    message = struct.pack("@16s16s16sIHHILIi", bytes(16), bytes(16), socket.inet_pton(socket.AF_INET6, gateway), 1, 0, 0, 1024, 0, 0x50003, int(sys.argv[1]))
    fcntl.ioctl(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), 0x890B, message)
"""


@pytest.mark.parametrize("second", ["learnt", "static"])
def test_two_ipv6_routers_of_equal_metric(second):
    """The kernel shows what it has learnt of two routers as two routes, and their copies as one with two next hops."""
    with routed_topology() as t:
        index = t.r1.link("eth0")["ifindex"]
        t.r1.run("ip", "-6", "route", "del", "default", check=False)
        t.r1.run("/usr/bin/python3", "-c", LEARN, index, "fe80::a1", *(["fe80::a2"] if second == "learnt" else []))
        if second == "static":
            t.r1.run(*"ip -6 route append default via fe80::a2 dev eth0 metric 1024".split())
        assert len([r for r in json.loads(t.r1.run("ip", "-j", "-6", "route", "show", "default").stdout) if "gateway" in r]) == 2
        _, _, (agent,) = start(t, {"method": "ipip"}, 6, 6, servers=[t.r1], check_interval="1h")
        shown = t.r1.run("ip", "-6", "route", "show", "table", "4673", "default").stdout
        assert "fe80::a1" in shown and "fe80::a2" in shown and shown.count("nexthop") == 2, shown
        # one of them goes
        t.r1.run(*"ip -6 route del default via fe80::a2 dev eth0".split())
        wait_for(lambda: "fe80::a2" not in t.r1.run("ip", "-6", "route", "show", "table", "4673", "default").stdout, what="its copy goes")
        assert "fe80::a1" in t.r1.run("ip", "-6", "route", "show", "table", "4673", "default").stdout
        assert agent.status()["repairs"] == 0 and "did not last" not in agent.log()


def test_one_route_of_two_protocols_is_copied_once():
    """As when a default route was set by hand and systemd-networkd sets the same one: each look once found the copy wanting."""
    with routed_topology() as t:
        _, _, (agent,) = start(t, {"method": "ipip"}, servers=[t.r1])
        t.r1.run("ip", "route", "append", "default", "via", "10.2.0.1", "proto", "static")
        assert len(t.r1.run("ip", "route", "show", "default").stdout.splitlines()) == 2
        t.r1.ip("route add 198.51.100.0/24 via 10.2.0.1")
        wait_for(lambda: "198.51.100.0/24" in t.r1.run("ip", "route", "show", "table", "4673").stdout, what="the copy is up to date")
        copied = agent.log().count("table 4673")
        t.r1.ip("link add late0 up type veth peer late1")
        wait_for(lambda: t.r1.sysctl("net/ipv4/conf/late0/arp_ignore") == "1", what="another look")
        assert agent.log().count("table 4673") == copied


def test_a_router_has_too_many_routes_to_copy():
    with routed_topology() as t:
        t.r1.ip(*(f"route add 10.{100 + n // 250}.{n % 250}.0/24 via 10.2.0.1" for n in range(4200)))
        _, director, (agent,) = start(t, {"method": "ipip"}, servers=[t.r1])
        assert agent.log().count("more than 4096 routes") == 1
        assert t.r1.run("ip", "route", "show", "table", "4673", check=False).stdout == ""
        serve(t.r1)
        assert load(t.cl, t.vip)["ok"] == 1


def test_a_port_of_gue_that_is_taken_is_said():
    with routed_topology() as t:
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        t.r1.run("ip", "fou", "add", "port", "6080", "ipproto", "4")
        agent = Agent(t.r1, [director], {"web": {"method": "gue"}}, address=t.r1.v4)
        state = wait_state(agent, "down")
        assert "UDP port 6080 is in use by another encapsulation" in state["reason"]
        t.r1.run("ip", "fou", "del", "port", "6080")
        wait_state(agent, "up", timeout=10)  # no event tells of it: the next check
        # it is ours now, and comes back when it goes
        t.r1.run("ip", "fou", "del", "port", "6080", "local", t.r1.v4)
        wait_for(lambda: "6080" in t.r1.run("ip", "fou", "show").stdout, 10, "the port is back")


def test_dr_on_a_device_of_the_agents():
    with dr_topology() as t:
        before = snapshot(t.r1)
        serve(t.r1)
        director = Director(t.di)
        for name, port in (("web", 80), ("plain", 81)):
            director.make(name, host=t.vip if name == "web" else "10.1.0.99", port=port)
        agent = Agent(t.r1, [director], {"web": {"method": "dr", "device": "brass9"}, "plain": {}}, address=t.r1.v4)
        assert wait_state(agent, "up")["device"] == "brass9"
        wait_state(agent, "up", "plain")
        assert "alias made by brass-agent" in t.r1.run("ip", "link", "show", "brass9").stdout
        assert f"{t.vip}/32" in t.r1.addresses("brass9") and "10.1.0.99/32" in t.r1.addresses("lo")
        assert load(t.cl, t.vip, n=3)["ok"] == 3
        t.r1.ip("link del brass9")
        wait_for(lambda: f"{t.vip}/32" in t.r1.addresses("brass9"), what="the device is back with its VIP")
        assert agent.stop() == 0
        assert_as_before(t.r1, before)


def test_only_the_named_devices_are_quietened():
    with dr_topology() as t:
        t.r1.ip("link add other0 type veth peer name other1", "link set other0 up")
        director = Director(t.di)
        director.make("web", host=t.vip, port=80)
        agent = Agent(t.r1, [director], {"web": {}}, address=t.r1.v4, devices=["eth0"])
        wait_state(agent, "up")
        assert t.r1.sysctl("net/ipv4/conf/eth0/arp_ignore") == "1" and t.r1.sysctl("net/ipv4/conf/other0/arp_ignore") == "0"
