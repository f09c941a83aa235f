# SPDX-License-Identifier: Apache-2.0
"""What the agent makes of this host's own programs: who listens, local checks, weight by load."""

import os
import re
import signal
import time

import pytest
from daemons import Agent, Director
from net import wait_for
from test_agent import service, wait_state, wait_weights
from topology import dr_topology, load, load_start, nat_topology, serve


def start(t, host, v6=False, method="dr", protocol="tcp", gateway=None, **backend):
    director = Director(t.di)
    director.make("web", host=t.vip6 if v6 else t.vip, port=80, protocol=protocol, method="rr")
    return director, Agent(host, [director], {"web": {"method": method, "check": "listen", **backend}},
                           address=host.v6 if v6 else host.v4, gateway=gateway)  # fmt: skip


def wait_reason(agent, state, *words):
    return wait_for(lambda: service(agent).get("state") == state and all(w in service(agent)["reason"] for w in words), 5, f"{state}: {words}; {service(agent)}")


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_without_a_program_no_weight(v6):
    with dr_topology() as t:
        vip = t.vip6 if v6 else t.vip
        director, agent = start(t, t.r1, v6)
        wait_reason(agent, "down", f"no program listens on tcp {f'[{vip}]' if v6 else vip}:80")
        wait_weights(director, 0)
        # on the RIP only: the commonest mistake
        rip = t.r1.v6 if v6 else t.r1.v4
        server = serve(t.r1, address=rip)
        wait_reason(agent, "down", "a program listens on", rip, "only, not on", vip, "all addresses")
        wait_weights(director, 0)
        server.stop()
        wait_reason(agent, "down", "no program listens")
        for address in (None, vip):
            server = serve(t.r1, address=address)
            wait_state(agent, "up")
            wait_weights(director, 100)
            assert load(t.cl, vip, n=2)["ok"] == 2
            server.kill()
            wait_reason(agent, "down", "no program listens")
            wait_weights(director, 0)
        assert "is served again" in agent.log()
        # another port is another program
        serve(t.r1, port=81)
        assert service(agent)["state"] == "down"


LISTEN = """
import signal, socket, sys
s = socket.socket(socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET)
if sys.argv[1] == "6":
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::" if sys.argv[1] == "6" else "0.0.0.0", 80))
s.listen()
print("listening", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_all_addresses_of_the_other_family_are_none(v6):
    """0.0.0.0:80 does not serve an IPv6 VIP, nor [::]:80 an IPv4 one when it is for IPv6 only, as nginx has it."""
    with dr_topology() as t:
        director, agent = start(t, t.r1, v6)
        wait_reason(agent, "down", "no program listens")
        others, own = ("4", "6") if v6 else ("6", "4")
        program = t.r1.start("/usr/bin/python3", "-c", LISTEN, others)
        wait_for(lambda: "listening" in program.stdout(), what="a program of the other family")
        own = t.r1.start("/usr/bin/python3", "-c", LISTEN, own)
        wait_state(agent, "up")
        wait_weights(director, 100)
        own.kill()
        wait_reason(agent, "down", "no program listens")
        wait_weights(director, 0)
        assert program.running()


def test_of_all_ports_nobody_knows_who_should_listen():
    with dr_topology() as t:
        director = Director(t.di)
        director.make("all", host=t.vip, port=0, persistent=True)
        agent = Agent(t.r1, [director], {"all": {"method": "dr", "check": "listen"}})
        wait_state(agent, "up", "all")
        wait_weights(director, 100)


def test_nat_is_for_a_port():
    """A rule for all ports would send this host's own answers, ssh's as well, to the director."""
    with nat_topology() as t:
        rules = t.r1.run("ip", "rule").stdout
        director = Director(t.di)
        director.make("all", host=t.vip, port=0, persistent=True)
        agent = Agent(t.r1, [director], {"all": {"method": "nat", "check": "none"}}, gateway="10.1.0.10")
        down = wait_state(agent, "down", "all")
        assert "nat needs a port" in down["reason"]
        assert t.r1.run("ip", "rule").stdout == rules


def switches(agent):
    """How often the agent went to sleep."""
    with open(f"/proc/{agent.process.popen.pid}/status") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M)[1])


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_the_end_of_a_program_is_heard(v6, protocol):
    """The kernel tells: the agent is woken by the listener's end, and by no connection's."""
    with dr_topology(servers=1) as t:
        server = serve(t.r1)
        director, agent = start(t, t.r1, v6, protocol=protocol)
        took = []
        for _ in range(7):
            wait_weights(director, 100)
            if protocol == "tcp":
                before = switches(agent)
                assert load(t.cl, t.vip6 if v6 else t.vip, n=300)["ok"] == 300
                assert switches(agent) - before < 100, f"woken {switches(agent) - before} times by 300 connections"
            server.kill()
            killed = time.monotonic()
            wait_weights(director, 0)
            took.append(time.monotonic() - killed)
            server = serve(t.r1)
        print(f"{protocol}, {'IPv6' if v6 else 'IPv4'}: out after", ", ".join(f"{s * 1000:.0f}" for s in sorted(took)), "ms")
        # to look once a second would take 3.5 s in all
        assert sum(took) < 1.4, took


def test_a_udp_program():
    with dr_topology() as t:
        director, agent = start(t, t.r1, protocol="udp")
        wait_reason(agent, "down", "no program listens on udp")
        server = serve(t.r1)
        wait_state(agent, "up")
        assert load(t.cl, t.vip, udp=True)["ok"] == 1
        server.kill()
        wait_reason(agent, "down", "no program listens on udp")


def test_nat_programs_listen_on_the_rip():
    with nat_topology() as t:
        director, agent = start(t, t.r1, method="nat", port=8080, gateway="10.1.0.10")
        wait_reason(agent, "down", f"no program listens on tcp {t.r1.v4}:8080")
        serve(t.r1, port=8080, address=t.r1.v4)
        wait_state(agent, "up")
        assert load(t.cl, t.vip)["ok"] == 1


def test_only_the_broken_service_goes():
    with dr_topology() as t:
        director = Director(t.di)
        for name, port in (("web", 80), ("other", 81)):
            director.make(name, host=t.vip, port=port)
        web, _ = serve(t.r1), serve(t.r1, port=81)
        agent = Agent(t.r1, [director], {"web": {"check": "listen"}, "other": {"check": "listen"}}, address=t.r1.v4)
        wait_state(agent, "up")
        wait_state(agent, "up", "other")
        web.kill()
        wait_state(agent, "down")
        assert service(agent, "other")["state"] == "up" and f"{t.vip}/32" in t.r1.addresses("lo")


def test_a_check_from_here():
    """http against the VIP, as clients come: a program that is sick is out, though it listens."""
    with dr_topology() as t:
        director, agent = start(t, t.r1, check={"type": "http", "interval": "200ms", "timeout": "1s", "args": {"path": "/health"}})
        wait_reason(agent, "down", "GET", "connect")
        server = serve(t.r1)
        wait_state(agent, "up")
        wait_weights(director, 100)
        server.fail()
        wait_reason(agent, "down", "503")
        wait_weights(director, 0)
        server.recover()
        wait_state(agent, "up")
        server.signal(signal.SIGSTOP)  # SIGSTOP: it accepts, and says nothing
        wait_reason(agent, "down", "GET")
        server.signal(signal.SIGCONT)
        wait_state(agent, "up")


def test_a_program_as_a_check():
    """It is told what it is about, its first line is the reason, and one that hangs is ended with its children."""
    with dr_topology() as t:
        answer = f"{t.directory}/answer"
        with open(answer, "w") as f:
            f.write("echo \"no: $BRASS_SERVICE $BRASS_PROTOCOL $BRASS_VIP $BRASS_PORT\"; exit 1")
        command = ["/bin/sh", "-c", f". {answer}"]
        director, agent = start(t, t.r1, check={"type": "exec", "interval": "200ms", "timeout": "500ms", "args": {"command": command}})
        wait_reason(agent, "down", f"/bin/sh: exit code 1: no: web tcp {t.vip} 80")
        wait_weights(director, 0)

        def say(text):
            with open(f"{answer}.new", "w") as f:
                f.write(text)
            os.rename(f"{answer}.new", answer)

        say("exit 0")
        wait_state(agent, "up")
        wait_weights(director, 100)
        say("echo looking; sleep 1234 & wait")
        wait_reason(agent, "down", "did not end in time: looking")
        say("exit 0")
        wait_state(agent, "up")
        wait_for(lambda: t.r1.run("pgrep", "-f", "^sleep 1234", check=False).stdout == "", what="no child is left")
        assert agent.stop() == 0


def test_a_mistake_in_a_check_is_named():
    with dr_topology() as t:
        for check, words in (("maybe", ["backends.web.check", "maybe", "listen, none"]), ({"type": "icmp"}, ["backends.web.check.type", "icmp", "http"]),
                             ({"via": "vip"}, ["backends.web.check.via", "director"]),
                             ({"type": "exec"}, ["backends.web.check.args.command", "missing"]),
                             ({"type": "exec", "args": {"command": ["/bin/true"], "user": "nobody-here"}}, ["backends.web.check.args.user", "no user"])):
            agent = Agent(t.r1, ["http://10.1.0.10:4672"], {"web": {"check": check}}, start=False)
            done = agent.command("--check", check=False)
            assert done.returncode == 2 and all(w in done.stderr for w in words), done.stderr




def test_a_full_listen_queue_lowers_the_weight():
    """A program that is stopped accepts nothing: its queue fills, and what comes then is turned away."""
    with dr_topology() as t:
        t.r1.sysctl("net.core.somaxconn", 8)
        director, agent = start(t, t.r1, weight={"base": 100, "min": 20, "from": "pressure"})
        server = serve(t.r1)
        wait_weights(director, 100)
        server.signal(signal.SIGSTOP)
        clients = [load_start(t.cl, t.vip, c=200, timeout=2000) for _ in range(2)]

        def weight():
            return director.get("/service/web/r1")["effective_weight"]

        wait_for(lambda: weight() == 20, 20, "the weight is at its lower bound")
        server.signal(signal.SIGCONT)
        for client in clients:
            client.finish()
        wait_for(lambda: weight() > 40, 30, "the weight rises again")
        assert "% of the weight" in agent.log()
        server.kill()
        wait_weights(director, 0)


def test_a_mistake_in_a_weight_is_named():
    with dr_topology() as t:
        for weight, words in (
            ({"base": 10, "min": 20, "from": "pressure"}, ["backends.web.weight.min", "20", "10"]),
            ({"base": 10, "from": "luck"}, ["backends.web.weight.from", "luck", "pressure"]),
            ({"base": 10}, ["backends.web.weight.from", "missing"]),
            (-1, ["backends.web.weight"]),
        ):
            agent = Agent(t.r1, ["http://10.1.0.10:4672"], {"web": {"weight": weight}}, start=False)
            done = agent.command("--check", check=False)
            assert done.returncode == 2 and all(w in done.stderr for w in words), done.stderr
