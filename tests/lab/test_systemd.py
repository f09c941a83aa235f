# SPDX-License-Identifier: Apache-2.0
"""The installed units under a real systemd: started, hardened, reloaded, watched, drained, shut down."""

import datetime
import json
import os
import re

import machine
import pytest
from daemons import Agent, Director
from machine import Machine
from net import wait_for
from test_agent import assert_as_before, snapshot, wait_state, wait_weights
from test_reload import touched, watch
from topology import arp_answers, ipvs, load, load_start, serve, tool

pytestmark = pytest.mark.skipif(machine.missing() is not None, reason=str(machine.missing()))

NET_ADMIN_AND_RAW = 1 << 12 | 1 << 13
EXPOSURE_MAX = 2.0  # systemd-analyze security: 0 to 10; what is left are the two capabilities and the host's network


def program(m, name="web", port=80):
    """A program of the machine's own, started and stopped by its systemd."""
    binary = tool("lab-serve")
    m.enable(f"{name}.service", f"[Service]\nType=exec\nExecStart={binary} {m.host.name} {port} -d /run/{name}.down\n")


def agent_machine(t, director, host=None, backends=None, **config):
    m = Machine(host or t.r1)
    m.configure("agent", node=m.host.name, directors=[director.url], insecure=True, backends=backends or {"web": {}}, **config)
    m.enable("brass-agent.service")
    program(m)
    return m


def drop_in(m, unit, **values):
    m.unit(f"{unit}.d/test.conf", "[Service]\n" + "".join(f"{k}={v}\n" for k, v in values.items()))


def summary(m, unit="brass-agent"):
    return m.show(unit, "StatusText")


def wait_summary(m, text, unit="brass-agent", timeout=10):
    return wait_for(lambda: re.search(text, summary(m, unit)), timeout, f"{unit} says {text}, now {summary(m, unit)}")


def assert_hardened(m, unit, measured):
    status = m.status_of(unit)
    assert status["Uid"].split()[0] != "0"
    for which in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[which], 16) == NET_ADMIN_AND_RAW, which
    if unit == "brass-agent":
        assert int(status["CapAmb"], 16) == 0  # nothing for the programs that it starts
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    text = m.run("systemd-analyze", "security", "--no-pager", unit).stdout
    exposure = float(re.search(r"exposure level for \S+: ([0-9.]+)", text)[1])
    measured(f"systemd-analyze security {unit}: {exposure}")
    assert exposure <= EXPOSURE_MAX, text


def loaded(module):
    return os.path.isdir(f"/sys/module/{module}")


def try_as(m, unit, script):
    """A script with the service's own user, capabilities and file systems."""
    caps = "-all,+net_admin,+net_raw"
    own = ["nsenter", "-t", m.show(unit, "MainPID"), "-m", "setpriv", "--reuid", unit, "--regid", unit, "--clear-groups"]
    return m.run(*own, "--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps, "sh", "-c", script, check=False)


# ---------------------------------------------------------------- the agent


def test_the_agent_starts_hardened_and_serves(t, measured):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    m = agent_machine(t, director)
    if loaded("fou"):
        t.r1.run("modprobe", "-r", "fou")
    m.boot()
    assert loaded("fou")  # by modules-load.d
    assert m.show("brass-agent", "Type") == "notify"
    wait_summary(m, "^1 service up; 1 of 1 directors$")
    assert load(t.cl, t.vip, 80, n=20)["servers"] == {"r1": 20}
    assert "1 service up; 1 of 1 directors" in m.systemctl("status", "brass-agent").stdout
    assert_hardened(m, "brass-agent", measured)
    # the only kernel settings in reach are the network's
    assert try_as(m, "brass-agent", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore").returncode == 0
    assert t.r1.sysctl("net/ipv4/conf/all/arp_ignore") == "1"
    assert "Read-only" in m.run("nsenter", "-t", m.show("brass-agent", "MainPID"), "-m", "sh", "-c", "echo 1 >/proc/sys/kernel/panic", check=False).stderr
    assert "Read-only" in try_as(m, "brass-agent", "echo >/etc/brass/agent.yaml").stderr
    # a program that ends is seen, and named
    m.systemctl("stop", "web")
    wait_summary(m, r"^0 services up, 1 down: web: no program listens on tcp 10\.1\.0\.100:80; 1 of 1 directors$")
    wait_weights(director, 0)
    m.systemctl("start", "web")
    wait_summary(m, "^1 service up")


def test_the_agent_is_ready_without_a_director(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80)
    director.stop()
    m = agent_machine(t, director)
    m.boot()  # waits for it
    assert m.show("brass-agent", "ActiveState") == "active"
    wait_summary(m, "^0 services up, 1 being set up; 0 of 1 directors$")
    director.start()
    wait_summary(m, "^1 service up; 1 of 1 directors$", timeout=20)


def test_a_mistake_in_the_file_is_a_start_that_failed(t):
    m = Machine(t.r1)
    m.configure("agent", directors=["http://10.1.0.10:4672"], backends={"web": {}})
    m.boot()
    done = m.systemctl("start", "brass-agent", check=False)
    assert done.returncode == 1
    assert "set \"insecure: true\"" in m.journal("brass-agent")
    assert m.show("brass-agent", "ActiveState", "NRestarts") == {"ActiveState": "failed", "NRestarts": "0"}


def test_a_stop_drains_for_longer_than_its_timeout(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    before = snapshot(t.r1)
    m = agent_machine(t, director, drain="60s")
    drop_in(m, "brass-agent.service", TimeoutStopSec="2s")
    m.boot()
    wait_weights(director, 100)
    slow = load_start(t.cl, t.vip, 80, n=1, path="/slow/8000", timeout=20000)
    wait_for(lambda: ipvs(t.di)[f"TCP {t.vip}:80"][0].active == 1, what="the request is under way")
    stop = m.host.start("nsenter", "-t", m.pid, "-m", "-p", "-C", "systemctl", "stop", "brass-agent")
    wait_summary(m, r"^draining: 1 connection, 5\d s left$")
    assert slow.result()["ok"] == 1
    assert stop.wait(30) == 0
    assert m.show("brass-agent", "Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}
    assert "the host is as it was found" in m.journal("brass-agent")
    assert_as_before(t.r1, before)
    assert not director.get("/agent")


def test_an_agent_that_hangs_is_started_again(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    m = agent_machine(t, director, ttl="30s")
    drop_in(m, "brass-agent.service", WatchdogSec="2s")
    m.boot()
    wait_weights(director, 100)
    pid = m.show("brass-agent", "MainPID")
    seen = watch(t.r1)
    load_ = load_start(t.cl, t.vip, 80, c=2, rate=50)
    m.run("kill", "-STOP", pid)
    wait_for(lambda: m.show("brass-agent", "NRestarts") == "1", 20, "the watchdog started it again")
    assert "watchdog" in m.journal("brass-agent").lower()
    wait_summary(m, "^1 service up; 1 of 1 directors$")
    counts = load_.finish()
    assert counts["failed"] == 0 and counts["ok"] > 50, counts
    assert m.show("brass-agent", "MainPID") != pid
    assert touched(seen) == []  # nothing on the host was touched


def test_what_root_left_behind_is_taken_over(t):
    """An earlier version ran as root; so does whoever starts the agent by hand."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    before = snapshot(t.r1)
    m = agent_machine(t, director)
    drop_in(m, "brass-agent.service", User="root")
    m.boot()
    wait_summary(m, "^1 service up")
    monitor = watch(t.r1)
    drop_in(m, "brass-agent.service")
    m.systemctl("daemon-reload")
    m.run("kill", "-KILL", m.show("brass-agent", "MainPID"))
    wait_for(lambda: m.show("brass-agent", "NRestarts") == "1", what="it was started again")
    wait_summary(m, "^1 service up; 1 of 1 directors$")
    assert m.status_of("brass-agent")["Uid"].split()[0] != "0"
    assert touched(monitor) == []
    m.systemctl("stop", "brass-agent")
    assert_as_before(t.r1, before)


def test_a_shutdown_drains_first(t):
    """The program runs on the machine that goes down: it must not be stopped before the drain is over."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    serve(t.r2)
    Agent(t.r2, [director], {"web": {}})
    m = agent_machine(t, director, drain="60s")
    m.boot()
    wait_weights(director, 100, 100)
    steady = load_start(t.cl, t.vip, 80, c=2, rate=50)
    slow = load_start(t.cl, t.vip, 80, n=20, c=20, path="/slow/3000", timeout=20000)
    wait_for(lambda: sum(dest.active for dest in ipvs(t.di)[f"TCP {t.vip}:80"]) >= 20, what="requests are under way")
    m.power_off()
    m.wait_off()
    counts = slow.result()
    assert counts["failed"] == 0 and counts["servers"]["r1"] >= 5, counts
    counts = steady.finish()
    assert counts["failed"] == 0 and counts["servers"]["r2"] > 0, counts
    assert t.r1.addresses("lo") == ["127.0.0.1/8", "::1/128"]


def test_a_reload_of_the_unit(t):
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    director.make("api", host="10.1.0.110", port=80, method="rr")
    m = agent_machine(t, director)
    m.boot()
    wait_summary(m, "^1 service up")
    pid = m.show("brass-agent", "MainPID")
    steady = load_start(t.cl, t.vip, 80, c=2, rate=50)
    config = {"node": "r1", "directors": [director.url], "insecure": True}
    m.configure("agent", **config, backends={"web": {}, "api": {}})
    m.systemctl("reload", "brass-agent")
    wait_summary(m, "^2 services up; 1 of 1 directors$")
    assert load(t.cl, "10.1.0.110", 80, n=5)["ok"] == 5
    # what cannot be taken over fails the reload; the reason is in the journal and in the status
    m.configure("agent", **{**config, "node": "r9"}, backends={"web": {}})
    assert m.systemctl("reload", "brass-agent", check=False).returncode == 1
    assert "node: found r9; a running agent keeps its name, r1" in m.journal("brass-agent")
    wait_summary(m, "^reload refused: node: found r9; .*; 2 services up; 1 of 1 directors$")
    assert m.show("brass-agent", "MainPID", "ActiveState") == {"MainPID": pid, "ActiveState": "active"}
    # SIGHUP is as good, without an answer
    m.configure("agent", **config, backends={"web": {}})
    m.systemctl("kill", "-s", "HUP", "brass-agent")
    wait_summary(m, "^1 service up; 1 of 1 directors$")
    assert steady.finish()["failed"] == 0


# ---------------------------------------------------------------- who else manages the network

NETWORKD = {
    "10-eth0": "[Match]\nName=eth0\n[Network]\nAddress=10.1.0.101/24\nGateway=10.1.0.1\n",
    # the worst case: it manages the agent's own devices as well
    "20-brass": "[Match]\nName=brass*\n[Network]\n",
}


def changes(monitor, what):
    """Of `ip -ts monitor`: "Deleted" or "made" and the time in seconds, one after the other, of each line about it."""
    found = []
    for stamp, words in re.findall(r"^\[(\S+)\] ?(.*)$", monitor.stdout(), re.MULTILINE):
        if what in words:
            found += ["Deleted" if words.startswith("Deleted") else "made", datetime.datetime.fromisoformat(stamp).timestamp()]
    return found


def test_networkd_takes_what_is_not_its_own(t, measured):
    """systemd-networkd removes addresses, rules and routes that are not in its files when it configures a device anew."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    director.make("tun", host="10.1.0.110", port=80, method="rr")
    m = agent_machine(t, director, backends={"web": {"device": "brass0"}, "tun": {"method": "ipip"}}, address="10.1.0.101")
    m.networkd(**{name: text + "KeepConfiguration=no\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n" for name, text in NETWORKD.items()})
    t.r1.ip("addr flush dev eth0 scope global")  # they are networkd's from now on
    m.boot()
    wait_summary(m, "^2 services up", timeout=20)

    def whole():
        return t.r1.addresses("brass0") == [f"{t.vip}/32"] and "10.1.0.110/32" in t.r1.addresses("brass-ipip") and "from 10.1.0.110 lookup 4673" in t.r1.run("ip", "rule").stdout

    wait_for(whole, what="the host is set up")
    monitor = watch(t.r1, "address", "rule")
    m.systemctl("restart", "systemd-networkd")  # takes nothing, in this version: only what is configured anew is swept
    m.run("networkctl", "reconfigure", "eth0", "brass0", "brass-ipip")
    wait_for(lambda: changes(monitor, f"inet {t.vip}/32")[:1] == ["Deleted"], what="networkd took the VIP")
    wait_for(whole, what="the host is set up again")
    wait_summary(m, "^2 services up")
    assert load(t.cl, t.vip, 80, n=10)["ok"] == 10 and load(t.cl, "10.1.0.110", 80, n=10)["ok"] == 10
    status = json.loads(m.run("brass-agent", "status", "--json").stdout)
    assert 2 <= status["repairs"] <= 5  # the VIPs; and the rule, which each of the three devices' turns may take
    # each was taken once and put back once: nobody fights
    m.systemctl("restart", "systemd-networkd")
    took = []
    for what in (f"inet {t.vip}/32", "inet 10.1.0.110/32"):
        assert changes(monitor, what)[::2] == ["Deleted", "made"], monitor.stdout()
        took.append(changes(monitor, what)[3] - changes(monitor, what)[1])
    assert max(took) < 1
    measured(f"VIPs that systemd-networkd took were back after {max(took) * 1000:.0f} ms")


def test_networking_is_started_again(t):
    """What ifdown and ifup do to a device, as `systemctl restart networking` runs them."""
    director = Director(t.di)
    director.make("web", host=t.vip, port=80, method="rr")
    director.make("tun", host="10.1.0.110", port=80, method="rr")
    serve(t.r1)
    agent = Agent(t.r1, [director], {"web": {}, "tun": {"method": "ipip"}})
    wait_state(agent, "up", "tun")
    t.r1.ip("addr flush dev eth0", "link set eth0 down")
    t.r1.ip("link set eth0 up", "addr add 10.1.0.101/24 dev eth0", "route add default via 10.1.0.1")
    for name, vip in (("web", t.vip), ("tun", "10.1.0.110")):
        wait_state(agent, "up", name)
        wait_for(lambda: load(t.cl, vip, 80, n=5, timeout=1000)["ok"] == 5, 20, f"{name} is served again")  # noqa: B023
    assert "advmss" in t.r1.run("ip", "route", "show", "table", "4673", "default").stdout
    assert arp_answers(t.ro, "eth1", t.vip) == [t.di.mac()]


# ---------------------------------------------------------------- the director


def director_machine(t, **config):
    m = Machine(t.di)
    m.configure("director", listen=["10.1.0.10:4672", "127.0.0.1:4672"], insecure=True, **config)
    m.enable("brass-director.service")
    return m


def test_the_director_starts_hardened_and_balances(t, measured):
    m = director_machine(t, ipvs={"sloppy_tcp": 1})
    t.di.run("modprobe", "-r", "ip_vs_sed", check=False)  # another test may have used it
    before_it_was = loaded("ip_vs_sed")
    m.boot()
    assert m.show("brass-director", "Type") == "notify"
    assert_hardened(m, "brass-director", measured)
    for server in t.servers[:2]:
        serve(server)
    # a scheduler that nobody has loaded: the kernel does that itself, sandbox or not
    status, answer = t.di.api("PUT", "/service/web", {"host": t.vip, "port": 80, "method": "sed"})
    assert status == 200, answer
    assert loaded("ip_vs_sed") and not before_it_was
    for server in t.servers[:2]:
        status, answer = t.di.api("PUT", f"/service/web/{server.name}", {"host": server.v4, "port": 80, "method": "dr"})
        server.no_arp()
        server.ip(f"addr add {t.vip}/32 dev lo")
        assert status == 200, answer
    wait_for(lambda: sorted(ipvs(t.di)[f"TCP {t.vip}:80"].weights().values()) == [100, 100], what="both have passed their first check")
    assert load(t.cl, t.vip, 80, n=20)["ok"] == 20
    assert t.di.sysctl("net/ipv4/vs/sloppy_tcp") == "1"
    wait_summary(m, "^1 services, 2 backends, 0 agents$", "brass-director")
    # another start finds everything in its store, and the kernel's table is never without it
    load_ = load_start(t.cl, t.vip, 80, c=2, rate=50)
    m.systemctl("restart", "brass-director")
    assert "0 changes made in the kernel's table" in m.journal("brass-director")
    # a mistake is named by the reload, and changes nothing
    pid = m.show("brass-director", "MainPID")
    m.configure("director", listen="127.0.0.1:4672", resync="soon")
    assert m.systemctl("reload", "brass-director", check=False).returncode == 1
    assert "resync: found" in m.journal("brass-director")
    m.configure("director", listen=["10.1.0.10:4672", "127.0.0.1:4672"], insecure=True, ipvs={"sloppy_tcp": 0})
    m.systemctl("reload", "brass-director")
    wait_for(lambda: t.di.sysctl("net/ipv4/vs/sloppy_tcp") == "0", what="the file was read again")
    assert m.show("brass-director", "MainPID", "ActiveState") == {"MainPID": pid, "ActiveState": "active"}
    assert load_.finish()["failed"] == 0
    # the store is the service's user's, also after root has mended it
    m.systemctl("stop", "brass-director")
    m.run("brass-director", "-c", "/etc/brass/director.yaml", "--store-recover")
    m.systemctl("start", "brass-director")
    assert t.di.api("GET", "/service")[1] == ["web"]
