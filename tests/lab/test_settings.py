# SPDX-License-Identifier: Apache-2.0
"""The kernel's settings of IPVS and its sync daemons: what /proc and ipvsadm read back, what other hands change, and
connections that outlive the director they came through.
"""

import os
import re
import signal

import pytest
from daemons import Director
from topology import dr_topology, endpoint, ipvs, serve, wait_for

VS = "net/ipv4/vs/"
# one for all namespaces; newer than Linux 6.1
NOT_OURS = {"debug_level", "est_cpulist", "est_nice", "conn_lfactor", "svc_lfactor"}
NO_PULSE = {"type": "none"}
ROLE = {"interface": "eth0", "id": 7}
FULL = {"interface": "eth0", "id": 7, "group": "224.0.0.81", "port": 8848, "ttl": 1, "max_length": 1472}


def setting(host, name, value=None):
    return host.sysctl(VS + name, value)


def timeouts(host):
    """(tcp, tcp_fin, udp) in seconds"""
    return tuple(int(n) for n in host.run("ipvsadm", "-L", "--timeout").stdout.rsplit(":", 1)[1].split())


def daemons(host):
    """{"master": {"mcast": "eth0", "syncid": "7", ...}}, as ipvsadm says"""
    lines = host.run("ipvsadm", "-L", "--daemon").stdout.splitlines()
    return {line.split()[0]: dict(part.split("=") for part in re.search(r"\((.*)\)", line)[1].split(", ")) for line in lines}


def sockets(host):
    """The sockets of this host's sync daemons on port 8848, by role: another inode is another daemon."""
    found = {"master": set(), "backup": set()}
    with host.inside():
        for name in ("udp", "udp6"):
            with open(f"/proc/thread-self/net/{name}") as f:
                for words in map(str.split, f.readlines()[1:]):
                    for role, end in (("backup", words[1]), ("master", words[2])):
                        if end.endswith(":2290"):
                            found[role].add(int(words[9]))
    return found


# ---------------------------------------------------------------- settings


def test_set_shown_and_kept(t):
    setting(t.di, "pmtu_disc", 0)  # somebody's own business: not declared
    declared = {"conntrack": 1, "sync_threshold": [1, 10], "secure_tcp": 1, "sync_refresh_period": "10s", "expire_nodest_conn": 0}
    d = Director(t.di, resync="1s", ipvs=declared)
    want = {**declared, "expire_quiescent_template": 1, "conn_reuse_mode": 1}
    status = d.get("/status")["ipvs"]
    version, size = re.search(r"version ([0-9.]+) \(size=(\d+)\)", t.di.run("ipvsadm", "-Ln").stdout).groups()
    assert status["version"] == version and status["connection_table_size"] == int(size)
    assert status["settings"] == want
    assert status["timeouts"] == {"tcp": "15m", "tcp_fin": "2m", "udp": "5m"}
    table = {"conntrack": "1", "sync_threshold": "1\t10", "sync_refresh_period": "10", "expire_nodest_conn": "0", "pmtu_disc": "0", "sloppy_tcp": "0"}
    assert {name: setting(t.di, name) for name in table} == table

    # other hands: declared ones and defaults come back, with one line each
    for name, value in (("conntrack", 0), ("sync_threshold", "5 60"), ("conn_reuse_mode", 0), ("pmtu_disc", 1)):
        setting(t.di, name, value)
    wait_for(lambda: setting(t.di, "conntrack") == "1" and setting(t.di, "sync_threshold") == "1\t10" and setting(t.di, "conn_reuse_mode") == "1", what="put back")
    wait_for(lambda: "ipvs.sync_threshold: found 5 60, wanted 1 10; put back" in d.log(), what="a line of the log")
    assert d.log().count("ipvs.conntrack: found 0, wanted 1; put back") == 1
    assert setting(t.di, "pmtu_disc") == "1", "not ours"
    setting(t.di, "secure_tcp", 3)
    wait_for(lambda: setting(t.di, "secure_tcp") == "1", what="put back")
    assert d.log().count("secure_tcp: found 3, wanted 1; put back") == 1


def test_what_the_kernel_changes_is_no_drift(t):
    """With little memory (here: less than any machine has) mode 1 reads 2."""
    d = Director(t.di, resync="1s", ipvs={"amemthresh": 2147483647, "secure_tcp": 1, "drop_entry": 1})
    wait_for(lambda: setting(t.di, "secure_tcp") == setting(t.di, "drop_entry") == "2", what="the kernel's defence")
    for _ in range(2):
        setting(t.di, "conn_reuse_mode", 0)
        wait_for(lambda: setting(t.di, "conn_reuse_mode") == "1", what="a resync")
    assert "secure_tcp: found" not in d.log() and "drop_entry: found" not in d.log()
    assert d.get("/status")["ipvs"]["settings"]["secure_tcp"] == 2, "as the kernel has it"


def test_a_restart_writes_nothing(t):
    d = Director(t.di, ipvs={"conntrack": 1, "timeouts": {"tcp": "1h"}}, sync={"master": ROLE, "backup": ROLE})
    before = sockets(t.di)
    assert len(before["master"]) == len(before["backup"]) == 1
    assert "ipvs.conntrack: was 0, set to 1" in d.log() and setting(t.di, "sloppy_tcp") == "1", "a default beside sync daemons"
    d.stop()
    first = d.log()
    assert sockets(t.di) == before and timeouts(t.di)[0] == 3600, "a stop leaves them"
    d.start()
    again = d.log()[len(first) :]
    assert sockets(t.di) == before and "master daemon runs already on eth0" in again
    assert "set to" not in again and "started" not in again
    d.kill9()
    d.start()
    assert sockets(t.di) == before and d.get("/sync")["master"]["running"] is True


def other_value(name, now):
    if name in ("drop_entry", "drop_packet", "secure_tcp"):
        return 3
    if name == "sync_threshold":
        return [2, 20]
    if name in ("sync_refresh_period", "lblc_expiration", "lblcr_expiration"):
        return "7s"
    if name in ("am_droprate", "amemthresh", "sync_qlen_max", "sync_sock_size", "sync_ports"):
        return 64
    return 0 if now == "1" else 1


def test_every_setting_of_this_kernel(t):
    """What the kernel has can be declared, and reads back."""
    with t.di.inside():
        names = sorted(set(os.listdir("/proc/sys/" + VS)) - NOT_OURS)
    values = {name: other_value(name, setting(t.di, name)) for name in names}
    d = Director(t.di, ipvs=values)
    assert d.get("/status")["ipvs"]["settings"] == values
    for name, value in values.items():
        text = "\t".join(map(str, value)) if isinstance(value, list) else str(value).removesuffix("s")
        assert setting(t.di, name) == text, name


def test_the_setting_of_a_scheduler_comes_with_it(t):
    d = Director(t.di, ipvs={"lblc_expiration": "1h"}, resync="1s")
    d.make("web", host=t.vip, port=80, method="lblc")
    wait_for(lambda: setting(t.di, "lblc_expiration") == "3600", 10, "it is set once the kernel has the scheduler")


def without(t, d, missing, mount_options="size=1m"):
    """The director in a mount namespace in which the kernel has no such setting: its files are copies."""
    script = (
        "set -e; mkdir /tmp/vs-$$; cp /proc/sys/net/ipv4/vs/* /tmp/vs-$$/; mount -t tmpfs none /proc/sys/net/ipv4/vs;"
        ' cp /tmp/vs-$$/* /proc/sys/net/ipv4/vs/; rm "/proc/sys/net/ipv4/vs/$1"; shift; mount -o remount,$1 /proc/sys/net/ipv4/vs; shift; exec "$@"'
    )
    d.process = t.di.start("unshare", "-m", "sh", "-c", script, "sh", missing, mount_options, d.binary, "-c", d.file)
    d._logs.append(d.process)


def test_a_setting_that_the_kernel_lacks(t):
    d = Director(t.di, start=False, ipvs={"conntrack": 1}, vip_device="brass0")
    without(t, d, "conntrack")
    assert d.process.wait() == 4
    assert "ipvs.conntrack: this kernel has no such setting (/proc/sys/net/ipv4/vs/conntrack): take it out of the configuration" in d.log()
    assert len(d.log().splitlines()) == 1 and t.di.link("brass0") is None, "nothing was changed"
    # only a default of ours: a warning
    without(t, d, "conn_reuse_mode")
    wait_for(lambda: d.ready() or not d.process.running(), what="the director is there")
    assert d.log().count("warning: ipvs.conn_reuse_mode: this kernel has no such setting; going on without our default, 1") == 1
    assert "conn_reuse_mode" not in d.get("/status")["ipvs"]["settings"]
    assert d.stop() == 0


def test_settings_that_may_not_be_written(t):
    """As in a container with a read-only /proc/sys: right already is fine, a default that is not is a warning."""
    setting(t.di, "conntrack", 1)
    d = Director(t.di, start=False, ipvs={"conntrack": 1})
    without(t, d, "run_estimation", "ro")
    wait_for(lambda: d.ready() or not d.process.running(), what="the director is there")
    assert "ipvs.expire_nodest_conn: our default, 1, cannot be set: Read-only file system" in d.log()
    assert "conntrack" not in d.log() and d.stop() == 0
    d.configure(ipvs={"conntrack": 0})
    without(t, d, "run_estimation", "ro")
    assert d.process.wait() == 3
    assert "ipvs.conntrack: found 1, cannot be set to 0: Read-only file system" in d.log()


def test_timeouts(t):
    t.di.run("ipvsadm", "--set", "100", "101", "102")
    d = Director(t.di, resync="1s", ipvs={"timeouts": {"tcp": "1h", "udp": "30s"}})
    assert timeouts(t.di) == (3600, 101, 30)
    assert d.get("/status")["ipvs"]["timeouts"] == {"tcp": "1h", "tcp_fin": "101s", "udp": "30s"}
    t.di.run("ipvsadm", "--set", "200", "201", "30")
    wait_for(lambda: timeouts(t.di) == (3600, 201, 30), what="put back; what was not declared stays")
    wait_for(lambda: d.log().count("ipvs.timeouts.tcp: found 200s, wanted 1h; put back") == 1, what="a line of the log")
    assert "timeouts.tcp_fin" not in d.log() and "timeouts.udp: found" not in d.log()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"ipvs": {"conntrack": 2}}, "ipvs.conntrack: found 2, allowed is a whole number from 0 to 1"),
        ({"ipvs": {"con_track": 1}}, "ipvs.con_track: unknown field of a set of IPVS settings"),
        ({"ipvs": {"timeouts": {"tcp": "1500ms"}}}, "ipvs.timeouts.tcp: found 1500ms, allowed are whole seconds"),
        ({"sync": {"master": {"id": 1}}}, "sync.master.interface: missing; a sync daemon needs it"),
        ({"sync": {"backup": {**ROLE, "max_length": 100}}}, "sync.backup.max_length: found 100, allowed is a whole number from 1024 to 65507"),
    ],
)
def test_mistakes_in_the_file(t, config, words):
    d = Director(t.di, start=False, **config)
    done = t.di.run(d.binary, "-c", d.file, "--check", check=False)
    assert done.returncode == 2 and words in done.stderr and ", line " in done.stderr, done.stderr


# ---------------------------------------------------------------- sync daemons


def test_daemons_of_the_file_are_kept(t):
    d = Director(t.di, sync={"master": ROLE, "backup": {"interface": "eth0", "group": "ff02::81", "port": 9000, "ttl": 3, "max_length": 2000}})
    want = {
        "master": {"mcast": "eth0", "syncid": "7", "maxlen": "1472", "group": "224.0.0.81", "port": "8848", "ttl": "1"},
        "backup": {"mcast": "eth0", "syncid": "0", "maxlen": "2000", "group": "ff02::81", "port": "9000", "ttl": "3"},
    }
    assert daemons(t.di) == want
    backup = sockets(t.di)["backup"]
    t.di.run("ipvsadm", "--stop-daemon", "master")
    wait_for(lambda: daemons(t.di) == want, what="the master runs again")
    assert d.log().count("the master daemon on eth0 was gone, starting it again") == 1
    t.di.run("ipvsadm", "--stop-daemon", "master")
    t.di.run("ipvsadm", "--start-daemon", "master", "--mcast-interface", "eth0", "--syncid", "9")
    wait_for(lambda: daemons(t.di) == want, what="the master has its own parameters again")
    assert d.log().count("the master daemon on eth0 differed in id, starting it again") == 1 or d.log().count("was gone") == 2
    assert sockets(t.di)["backup"] == backup, "the other one was left alone"
    status, answer = d.api("PUT", "/sync", {})
    assert status == 409 and "the configuration file has \"sync\"" in answer["error"]
    assert daemons(t.di) == want


def groups(host, device):
    return host.run("ip", "maddr", "show", "dev", device, check=False).stdout


def test_an_interface_comes_goes_and_comes_back(t):
    d = Director(t.di, sync={"backup": {"interface": "s0"}})
    assert daemons(t.di) == {} and d.log().count("the backup daemon does not run: there is no interface s0") == 1
    assert d.get("/sync")["backup"]["running"] is False and d.get("/sync")["backup"]["error"] == "there is no interface s0"
    add = ["link add s0 type dummy", "addr add 10.7.0.1/24 dev s0", "link set s0 up"]
    t.di.ip(*add)
    wait_for(lambda: "224.0.0.81" in groups(t.di, "s0"), what="the backup listens on the new device")
    assert d.get("/sync") == {"backup": {**FULL, "interface": "s0", "id": 0, "running": True}}
    t.di.ip("link del s0")
    wait_for(lambda: d.get("/sync")["backup"]["running"] is False, what="the device is gone")
    t.di.ip(*add)
    # by the event, not by the next look two seconds later
    wait_for(lambda: "224.0.0.81" in groups(t.di, "s0"), 1.2, what="the backup listens on the device that came back")
    assert d.get("/sync")["backup"]["running"] is True
    assert d.log().count("there is no interface") == 2
    # in one go, so that nobody sees it missing
    t.di.ip("link del s0", *add)
    wait_for(lambda: "224.0.0.81" in groups(t.di, "s0"), what="the backup listens on the third device")


def test_put_sync(t):
    d = Director(t.di)
    assert d.get("/sync") == {} and setting(t.di, "sloppy_tcp") == "0"
    status, answer = d.api("PUT", "/sync", {"master": ROLE, "backup": {**ROLE, "ttl": 2}})
    running = {"master": {**FULL, "running": True}, "backup": {**FULL, "ttl": 2, "running": True}}
    assert status == 200 and answer == running and d.get("/sync") == running
    assert sorted(daemons(t.di)) == ["backup", "master"] and daemons(t.di)["backup"]["ttl"] == "2"
    assert setting(t.di, "sloppy_tcp") == "1" and d.get("/status")["ipvs"]["settings"]["sloppy_tcp"] == 1
    before = sockets(t.di)
    assert d.api("PUT", "/sync", {"master": ROLE, "backup": {**ROLE, "ttl": 2}})[0] == 200 and sockets(t.di) == before, "equal: nothing happens"
    # only what changes is started anew
    assert d.api("PUT", "/sync", {"master": ROLE, "backup": {**ROLE, "ttl": 3}})[0] == 200
    assert sockets(t.di)["master"] == before["master"] and sockets(t.di)["backup"] != before["backup"] and daemons(t.di)["backup"]["ttl"] == "3"
    before = sockets(t.di)
    d.kill9()
    d.start()
    assert sockets(t.di) == before and d.get("/sync")["backup"]["ttl"] == 3, "it is in the store"
    t.di.run("ipvsadm", "--stop-daemon", "backup")
    wait_for(lambda: "backup" in daemons(t.di), what="watched after a restart, too")
    # a role that is left out goes
    assert d.api("PUT", "/sync", {"backup": {**ROLE, "ttl": 3}})[0] == 200
    assert sorted(daemons(t.di)) == ["backup"] and sorted(d.get("/sync")) == ["backup"]
    assert d.api("PUT", "/sync", {})[0] == 200 and daemons(t.di) == {} and d.get("/sync") == {}
    t.di.run("ipvsadm", "--start-daemon", "master", "--mcast-interface", "eth0")
    d.restart()
    assert d.get("/sync") == {} and sorted(daemons(t.di)) == ["master"], "somebody else's, and left alone"
    assert d.api("PUT", "/sync", {})[0] == 200 and daemons(t.di) == {}
    # both PUT by the file and the store: the file counts
    assert d.api("PUT", "/sync", {"master": ROLE})[0] == 200
    d.configure(sync={"backup": ROLE})
    d.restart()
    assert sorted(daemons(t.di)) == ["backup"] and "what PUT /sync asked for does not count" in d.log()


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"master": {}}, "master.interface", "missing"),
        ({"master": {**ROLE, "id": 256}}, "master.id", "from 0 to 255"),
        ({"master": {**ROLE, "group": "10.0.0.1"}}, "master.group", "multicast address"),
        ({"both": ROLE}, "both", "allowed are master, backup"),
        ({"backup": {**ROLE, "max_length": 65508}}, "backup.max_length", "from 1 to 65507"),
    ],
)
def test_bad_input(t, body, field, words):
    d = Director(t.di)
    assert d.api("PUT", "/sync", {"master": ROLE})[0] == 200
    status, answer = d.api("PUT", "/sync", body)
    assert status == 400 and answer["field"] == field and words in answer["error"], answer
    assert d.get("/sync") == {"master": {**FULL, "running": True}} and sorted(daemons(t.di)) == ["master"]


def test_mixed_families_and_a_daemon_exclude_each_other(t):
    d = Director(t.di)
    d.make("web", host=t.vip, port=80)
    d.make("web/six", host=t.r1.v6, method="ipip", pulse=NO_PULSE)
    status, answer = d.api("PUT", "/sync", {"master": ROLE})
    assert status == 409 and "no sync daemon beside backends of another address family" in answer["error"], answer
    assert d.get("/sync") == {} and daemons(t.di) == {}
    d.restart()
    assert d.get("/sync") == {}, "it is not in the store either"
    d.api("DELETE", "/service/web/six")
    assert d.api("PUT", "/sync", {"master": ROLE})[0] == 200
    status, answer = d.api("PUT", "/service/web/six", {"host": t.r1.v6, "method": "ipip", "pulse": NO_PULSE})
    assert status == 500 and "sync daemon" in answer["error"], answer
    assert ipvs(t.di)[f"TCP {t.vip}:80"] == []
    # declared beside such a backend: the services come first, the daemon when it can
    assert d.api("PUT", "/sync", {})[0] == 200
    d.make("web/six", host=t.r1.v6, method="ipip", pulse=NO_PULSE)
    d.configure(sync={"master": ROLE})
    d.restart()
    assert "no sync daemon beside backends" in d.get("/sync")["master"]["error"] and daemons(t.di) == {}
    d.api("DELETE", "/service/web/six")
    wait_for(lambda: "master" in daemons(t.di), what="the daemon starts when it can")


def test_the_file_is_read_again(t):
    """SIGHUP: settings and daemons follow the file; one that no longer says anything leaves both as they are."""
    d = Director(t.di, resync="1s", ipvs={"conntrack": 1}, sync={"master": ROLE, "backup": ROLE})

    def reload(**config):
        count = d.log().count("read again")
        d.configure(**config)
        d.process.signal(signal.SIGHUP)
        wait_for(lambda: d.log().count("read again") == count + 1, what="reload")

    before = sockets(t.di)
    reload(ipvs={"conntrack": 0, "timeouts": {"tcp": "1h"}}, sync={"master": ROLE, "backup": {**ROLE, "ttl": 2}})
    assert setting(t.di, "conntrack") == "0" and timeouts(t.di)[0] == 3600 and daemons(t.di)["backup"]["ttl"] == "2"
    assert sockets(t.di)["master"] == before["master"]
    # a service that is refused takes nothing of the settings along
    reload(services={"web": {"host": t.vip, "port": 80, "method": "nothing"}})
    setting(t.di, "conntrack", 1)
    wait_for(lambda: setting(t.di, "conntrack") == "0", what="still kept")
    del d.config["services"], d.config["ipvs"], d.config["sync"]
    before = sockets(t.di)
    reload()
    assert d.get("/sync") == {} and sockets(t.di) == before and setting(t.di, "conntrack") == "0"
    t.di.run("ipvsadm", "--stop-daemon", "master")
    assert d.api("PUT", "/sync", {"backup": ROLE})[0] == 200 and sorted(daemons(t.di)) == ["backup"]
    reload(sync={"master": ROLE})
    assert sorted(daemons(t.di)) == ["master"] and d.api("PUT", "/sync", {})[0] == 409
    del d.config["sync"]
    reload()
    assert sorted(d.get("/sync")) == sorted(daemons(t.di)) == ["backup"], "what PUT asked for counts again"


@pytest.mark.parametrize("flush", [False, True])
def test_a_clean_stop(t, flush):
    d = Director(t.di, sync={"master": ROLE, "backup": ROLE}, flush_on_exit=flush)
    assert d.stop() == 0
    assert sorted(daemons(t.di)) == ([] if flush else ["backup", "master"])


# ---------------------------------------------------------------- what it is for


class Conversation:
    """One TCP connection, and requests over it."""

    def __init__(self, host, address):
        self.socket = host.connect(address, 80)

    def ask(self):
        """The name of the server that answers."""
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        text = b""
        while b"\r\n\r\n" not in text or len(text.split(b"\r\n\r\n", 1)[1]) < int(re.search(rb"(?i)content-length: (\d+)", text)[1]):
            piece = self.socket.recv(4096)
            assert piece, "the connection was closed"
            text += piece
        return text.split(b"\r\n\r\n", 1)[1].decode().strip()


def connections(host, address):
    """Established connections to the VIP that the kernel of this director knows: {(client, server)}"""
    found = set()
    for line in host.run("ipvsadm", "-Lcn").stdout.splitlines():
        words = line.split()
        if len(words) == 6 and words[2] == "ESTABLISHED" and words[4] == endpoint(address, 80):
            found.add((words[3], words[5]))
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_connections_outlive_their_director(family):
    """Eight connections over three servers; the VIP moves to the director that was told of them."""
    with dr_topology(route_vip6=False) as t:
        b = t.host("di2", {"eth0": ("lan", "10.1.0.11/24", "fd00:1::11/64")})
        b.route("default", via="10.1.0.1")
        b.route("default", via="fd00:1::1")
        vip, group = (t.vip, "224.0.0.81") if family == 4 else (t.vip6, "ff02::81")
        own = lambda host: host.v4 if family == 4 else host.v6
        for server in t.servers:
            server.no_arp()
            server.ip(f"addr add {vip} dev lo" + (" nodad preferred_lft 0" if family == 6 else ""))
            serve(server)
        role = {"interface": "eth0", "id": 1, "group": group}
        first = Director(t.di, vip_device="eth0", sync={"master": role})
        second = Director(b, vip_device="none", sync={"backup": role})
        for director in (first, second):
            director.make("web", host=vip, port=80, method="rr")
            for server in t.servers:
                director.make(f"web/{server.name}", host=own(server), port=80, method="dr", pulse=NO_PULSE)

        talks = [Conversation(t.cl, vip) for _ in range(8)]
        served = [talk.ask() for talk in talks]
        assert set(served) == {"r1", "r2", "r3"}
        wait_for(lambda: len(connections(t.di, vip)) == 8, what="eight connections")
        wait_for(lambda: connections(b, vip) == connections(t.di, vip), 10, "the other director knows all of them, with their servers")

        # the VIP moves: the second director puts it on its device and announces it
        first.stop()
        t.di.ip(f"addr del {vip}/{32 if family == 4 else 128} dev eth0")
        second.configure(vip_device="eth0")
        second.restart()
        wait_for(lambda: t.ro.neighbour(vip, "eth1") == b.mac(), what="the router has heard of it")
        seen = b.bytes()[0]
        assert [talk.ask() for talk in talks] == served, "every connection goes on with its server"
        assert b.bytes()[0] > seen + 8 * 60 and "master" not in daemons(b)
        # and new ones come through the second
        assert Conversation(t.cl, vip).ask() in served
