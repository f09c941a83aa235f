# SPDX-License-Identifier: Apache-2.0
"""Kinds of checks: each passes, fails for each reason that it can fail for, says so, and passes again; each goes the way
of traffic."""

import json
import os
import signal
import subprocess

import pytest
from daemons import Agent, Director
from net import wait_for
from test_via import by_hand, wait_status
from topology import dr_topology, serve

PORT = 7000
HERE = os.path.dirname(os.path.realpath(__file__))


class Answers:
    """answers.py on a host."""

    def __init__(self, host, kind, port=PORT, certificate=None, client_ca=None, **say):
        self.file = os.path.join(host.directory("answers"), f"{kind}-{port}.json")
        self.say(**say)
        self.process = host.start("/usr/bin/python3", os.path.join(HERE, "answers.py"), kind, port, self.file,
                                  *([certificate] if certificate else []), *([client_ca] if client_ca else []), name="answers")  # fmt: skip
        wait_for(lambda: "listening" in self.process.stdout() or not self.process.running(), 20, f"answers {kind}")
        assert self.process.running(), self.process.output()

    def say(self, **say):
        with open(self.file + ".new", "w") as f:
            json.dump(say, f)
        os.rename(self.file + ".new", self.file)

    def seen(self):
        """What http was asked last."""
        lines = [line for line in self.process.stdout().splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else None


def pulse(kind, timeout="500ms", **args):
    return {"type": kind, "interval": "200ms", "timeout": timeout, "args": args}


@pytest.fixture
def web():
    """A director, and one real server that an agent does not know."""
    with dr_topology(servers=1) as t:
        d = Director(t.di, check_programs=[t.di.directory("checks")])
        by_hand(t.r1, t.vip)

        def make(name="web", protocol="tcp", port=PORT, **check):
            d.make(name, host=t.vip, port=port, protocol=protocol, method="rr")
            d.make(f"{name}/r1", host=t.r1.v4, method="dr", pulse=check)

        yield t, d, make


def goes_through(d, server, good, bads, via="vip"):
    """Up with `good`, down with each of `bads` ({words of the reason: what the server says}), and up again."""
    server.say(**good)
    up = wait_status(d, "r1", "up", timeout=10)
    assert up.get("via") == via, up
    for words, say in bads.items():
        server.say(**say)
        down = wait_status(d, "r1", "down", timeout=10)
        wait_for(lambda: words in d.get("/service/web/r1")["reason"], 5, f"{words}: {d.get('/service/web/r1')['reason']}")
        assert f"r1: up -> down" in d.log() or "up -> down" in d.log()
        server.say(**good)
        wait_status(d, "r1", "up", timeout=10)
    return down


def test_tcp_talks(web):
    t, d, make = web
    make(**pulse("tcp", send="PING\r\n", answer="+PONG"))
    server = Answers(t.r1, "tcp", reply="+PONG\r\n")
    goes_through(d, server, {"reply": "+PONG\r\n"}, {
        'answered "-LOADING..", expected "+PONG"': {"reply": "-LOADING\r\n"},
        'connected, but no answer before it closed the connection, expected "+PONG"': {"reply": "", "close": True},
        'connected, but no answer in time, expected "+PONG"': {"reply": ""},
    })  # fmt: skip
    # a greeting, in bytes
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"send": None, "answer": "hex:323230"}}})[0] == 200
    goes_through(d, server, {"greeting": "220 ready\r\n"}, {'answered "554 no.."': {"greeting": "554 no\r\n"}})
    server.process.signal(signal.SIGKILL)
    assert "connection refused" in wait_status(d, "r1", "down")["reason"]


def test_udp(web):
    t, d, make = web
    make(protocol="udp", **pulse("udp", send="hello", answer="world"))
    server = Answers(t.r1, "udp", reply="hello world")
    goes_through(d, server, {"reply": "hello world"}, {'answered "other", expected "world"': {"reply": "other"}, "no answer in time": {}})
    # entries of one-packet services are gone with their packet
    assert [line for line in t.di.run("ipvsadm", "-Lcn").stdout.splitlines() if line.startswith("UDP")] == []
    # nothing expected: silence is no sign, but the host's word that nobody listens is
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"answer": None}}})[0] == 200
    server.say()
    wait_status(d, "r1", "up")
    server.process.signal(signal.SIGKILL)
    wait_for(lambda: "rejected (ICMP port unreachable)" in wait_status(d, "r1", "down")["reason"], what="port unreachable")


def test_dns(web):
    t, d, make = web
    make(protocol="udp", port=53, **pulse("dns", name="www.example.com", answer="192.0.2.7"))
    server = Answers(t.r1, "dns", port=53, answers=[])
    good = {"answers": [[5, "web.example.com"], [1, "192.0.2.7"]]}
    goes_through(d, server, good, {
        "answered 192.0.2.8, expected 192.0.2.7": {"answers": [[1, "192.0.2.8"]]},
        "answered without such a record": {"answers": [[28, "2001:db8::1"]]},
        "answered NXDOMAIN": {"answers": [], "rcode": 3},
        "answered SERVFAIL": {"answers": [], "rcode": 2},
        "no answer in time": {},
    })  # fmt: skip
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"record": "AAAA", "answer": None}}})[0] == 200
    goes_through(d, server, {"answers": [[28, "2001:db8::1"]]}, {"answered without such a record": good})


def test_http(web):
    t, d, make = web
    make(**pulse("http", path="/health?deep=1", expect=["200-204", 301], host="www.example.com", headers={"X-Check": "brass: 1"}, body="all is well"))
    server = Answers(t.r1, "http", body="all is well")
    good = {"body": "<p>all is well</p>"}
    goes_through(d, server, good, {
        "status 205, expected 200-204,301": {"status": 205, **good},
        'status 200, body "<p>not so well</p>", expected "all is well" in it': {"body": "<p>not so well</p>"},
        "timed out": {"delay": 2, **good},
    })  # fmt: skip
    seen = server.seen()
    assert seen["path"] == "/health?deep=1" and seen["headers"]["Host"] == "www.example.com" and seen["headers"]["X-Check"] == "brass: 1", seen
    server.say(status=301, **good)
    wait_status(d, "r1", "up")
    # a body is read as far as 64 KiB, and not waited for
    server.say(size=50_000_000, **good)
    wait_for(lambda: d.get("/service/web/r1")["status"] == "up", what="a large body passes")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"body": None, "body_regex": "^load: [0-4]$"}}})[0] == 200
    goes_through(d, server, {"body": "load: 3"}, {'body "load: 7"': {"body": "load: 7"}})
    server.process.signal(signal.SIGKILL)
    wait_for(lambda: "Couldn't connect" in wait_status(d, "r1", "down")["reason"] or "Failed to connect" in wait_status(d, "r1", "down")["reason"], what="refused")


def test_http2(web):
    t, d, make = web
    make(**pulse("http", http_version=2, body="ok"))
    server = Answers(t.r1, "h2", body="ok")
    goes_through(d, server, {"body": "ok"}, {"status 503": {"status": 503}, 'body "no"': {"body": "no"}})
    server.process.stop()
    one = Answers(t.r1, "http", body="ok")
    wait_status(d, "r1", "down")
    one.process.stop()
    Answers(t.r1, "h2", body="ok")
    wait_status(d, "r1", "up")


def certificate(directory, name, ca=None, days=90):
    """A certificate for `name`, signed by itself or by `ca`; certificate and key in one file."""
    base = os.path.join(directory, name)
    run = lambda *argv: subprocess.run(argv, check=True, capture_output=True)
    extra = ["-addext", f"subjectAltName=DNS:{name}"]
    if ca:
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", base + ".key", "-out", base + ".csr", "-subj", f"/CN={name}", *extra)
        run("openssl", "x509", "-req", "-in", base + ".csr", "-CA", ca, "-CAkey", ca, "-CAcreateserial", "-days", str(days), "-out", base + ".crt",
            "-copy_extensions", "copy")  # fmt: skip
    else:
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-keyout", base + ".key", "-out", base + ".crt", "-subj", f"/CN={name}", *extra)
    with open(base + ".pem", "w") as f:
        f.write(open(base + ".crt").read() + open(base + ".key").read())
    return base + ".pem"


def test_https(web):
    t, d, make = web
    where = t.r1.directory("tls")
    ca = certificate(where, "ca")
    good, other = certificate(where, "www.example.com", ca, days=11), certificate(where, "other.example.com", ca)
    server = Answers(t.r1, "https", certificate=good, body="ok")
    make(**pulse("https", timeout="1s", ca=ca, sni="www.example.com", body="ok"))
    goes_through(d, server, {"body": "ok"}, {"status 500": {"status": 500, "body": "ok"}})
    assert server.seen()["headers"]["Host"] == f"www.example.com:{PORT}"
    assert d.get("/service/web/r1")["certificate_expires"].startswith("20")
    metric = 'brass_backend_certificate_expiry_days{service="web",backend="r1"} 10\n'
    metrics = t.di.run("curl", "-s", f"{d.url}/metrics").stdout
    assert metric in metrics, [line for line in metrics.splitlines() if "certificate" in line]
    # another name, and an authority that is not known
    server.process.stop()
    server = Answers(t.r1, "https", certificate=other, body="ok")
    reason = wait_status(d, "r1", "down")["reason"]
    wait_for(lambda: "no alternative certificate subject name matches" in d.get("/service/web/r1")["reason"], what=f"the name: {reason}")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"sni": "other.example.com"}}})[0] == 200
    wait_status(d, "r1", "up")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"ca": None}}})[0] == 200
    wait_for(lambda: "certificate" in wait_status(d, "r1", "down")["reason"], what="the authority")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"verify": False}}})[0] == 200
    wait_status(d, "r1", "up")
    # a client's certificate, that the server asks for
    server.process.stop()
    server = Answers(t.r1, "https", certificate=good, client_ca=ca, body="ok")
    wait_status(d, "r1", "down")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"cert": certificate(where, "director", ca)}}})[0] == 200
    wait_status(d, "r1", "up")
    # HTTP/2 that the server does not speak, and one that does
    server.process.stop()
    server = Answers(t.r1, "https", certificate=good, body="ok")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"http_version": "2"}}})[0] == 200
    wait_for(lambda: "answered in HTTP/1.1, expected 2" in wait_status(d, "r1", "down")["reason"], what="HTTP/1.1")
    server.process.stop()
    server = Answers(t.r1, "h2s", certificate=good, body="ok")
    wait_status(d, "r1", "up")
    # no TLS at all
    server.process.stop()
    server = Answers(t.r1, "http", body="ok")
    wait_status(d, "r1", "down")


@pytest.fixture
def system_authorities():
    """The folder of those whom this system trusts: empty."""
    folder = "/etc/ssl/certs"
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_whom_is_trusted(system_authorities, web):
    """The authorities of `ca` and no others, or those of the system."""
    t, d, make = web
    where = t.r1.directory("tls")
    ours, public = certificate(where, "ours"), certificate(where, "public")
    crt = lambda pem: open(pem.replace(".pem", ".crt")).read()
    name = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", public], check=True, capture_output=True, text=True).stdout.strip()
    for file in (f"{name}.0", "ca-certificates.crt"):
        with open(os.path.join(system_authorities, file), "w") as f:
            f.write(crt(public))
    server = Answers(t.r1, "https", certificate=certificate(where, "www.example.com", public), body="ok")
    make(**pulse("https", timeout="1s", ca=ours, sni="www.example.com"))
    wait_for(lambda: "unable to get local issuer certificate" in wait_status(d, "r1", "down")["reason"], what="another authority's")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"ca": None}}})[0] == 200
    wait_status(d, "r1", "up")
    server.process.stop()
    Answers(t.r1, "https", certificate=certificate(where, "www.example.com", ours), body="ok")
    wait_for(lambda: "unable to get local issuer certificate" in wait_status(d, "r1", "down")["reason"], what="not the system's")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"ca": ours}}})[0] == 200
    wait_status(d, "r1", "up")


def test_grpc(web):
    t, d, make = web
    server = Answers(t.r1, "grpc", status=1, services=["web"])
    make(**pulse("grpc", timeout="1s", name="web"))
    good = {"status": 1, "services": ["web"]}
    goes_through(d, server, good, {
        "NOT_SERVING, expected SERVING": {"status": 2},
        "UNKNOWN, expected SERVING": {},
        'does not know service "web"': {"status": 1, "services": ["other"]},
        "gRPC status 13: as it was told": {"code": "INTERNAL"},
    })  # fmt: skip
    server.process.stop()
    server = Answers(t.r1, "grpc", package="another.Service", status=1)
    wait_for(lambda: "has no health service" in wait_status(d, "r1", "down")["reason"], 10, "no health service")


def test_exec(web):
    t, d, make = web
    folder = t.di.directory("checks")
    program = os.path.join(folder, "probe")
    with open(program, "w") as f:
        f.write(f'#!/bin/sh\necho "$BRASS_SERVICE $BRASS_VIP:$BRASS_PORT $BRASS_BACKEND $BRASS_RIP $1"; exit $(cat {folder}/code)\n')
    os.chmod(program, 0o755)
    code = lambda n: open(f"{folder}/code", "w").write(str(n))
    code(0)
    make(**pulse("exec", timeout="2s", command=[program, "a b"]))
    wait_status(d, "r1", "up")
    code(3)
    wait_for(lambda: f"exit code 3: web {t.vip}:{PORT} r1 {t.r1.v4} a b" in wait_status(d, "r1", "down")["reason"], what="exit code")
    code(0)
    wait_status(d, "r1", "up")
    # what no folder names is refused, now and for what stands already, once the folder is not named any more
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"args": {"command": ["/bin/true"]}}})[0] == 400
    d.configure(check_programs=[])
    d.process.signal(signal.SIGHUP)
    # which is no fault of the real server's
    wait_for(lambda: "Permission denied" in d.get("/service/web/r1").get("check_problem", ""), what="it says that the program may not be run")
    assert d.get("/service/web/r1")["status"] == "up"
    assert "web/r1: cannot be checked, and stays up: cannot start the check: Permission denied" in d.log()
    d.configure(check_programs=[folder])
    d.process.signal(signal.SIGHUP)
    wait_for(lambda: "check_problem" not in d.get("/service/web/r1"), what="it may be run again")


def test_agent(web):
    """A declared backend whose host has an agent that serves something else."""
    t, d, make = web
    make(**pulse("agent"))
    wait_for(lambda: "has not registered" in wait_status(d, "r1", "down")["reason"], what="no agent")
    d.make("other", host=t.vip, port=81, protocol="tcp", method="rr")
    agent = Agent(t.r1, [d], {"other": {"method": "dr", "check": "none"}}, ttl="2s")
    wait_status(d, "r1", "up")
    assert d.get("/service/web/r1")["via"] == "rip"
    agent.kill9()
    wait_for(lambda: "is lost" in wait_status(d, "r1", "down", timeout=10)["reason"], what="lease")
    agent.start()
    wait_status(d, "r1", "up")


def test_several(web):
    t, d, make = web
    serve(t.r1, port=PORT)
    make(**pulse("all", checks=[{"type": "tcp"}, {"type": "http", "args": {"port": 7001, "path": "/health"}}]))
    assert "7001" in wait_status(d, "r1", "down")["reason"]
    # the second has a port of its own, which only the RIP has: it goes straight
    second = serve(t.r1, port=7001, address=t.r1.v4)
    wait_status(d, "r1", "up")
    second.fail()
    wait_for(lambda: "status 503" in wait_status(d, "r1", "down")["reason"], what="the second's reason")
    assert d.api("PATCH", "/service/web/r1", {"pulse": {"type": "any"}})[0] == 200
    wait_status(d, "r1", "up")
    t.r1.ip(f"addr del {t.vip}/32 dev lo")
    down = wait_status(d, "r1", "down")["reason"]
    assert "status 503" in down and "via VIP" in down and "; " in down, down
    second.recover()
    wait_status(d, "r1", "up")


# ---------------------------------------------------------------- the way of traffic

SERVICES = {
    "tcp": ("tcp", 7001, "tcp", {"answer": "hello"}, {"greeting": "hello"}),
    "udp": ("udp", 7002, "udp", {"send": "x", "answer": "hello"}, {"reply": "hello"}),
    "dns": ("udp", 53, "dns", {"name": "a.example"}, {"answers": [[1, "192.0.2.1"]]}),
    "http": ("tcp", 7003, "http", {"body": "ok"}, {"body": "ok"}),
    "grpc": ("tcp", 7004, "grpc", {}, {"status": 1}),
}


@pytest.mark.parametrize("method,six", [("dr", False), ("dr", True), ("ipip", False), ("gue", False)], ids=["dr-ipv4", "dr-ipv6", "ipip", "gue"])
def test_the_way_of_traffic(method, six):
    with dr_topology(servers=1) as t:
        vip, rip = (t.vip6, t.r1.v6) if six else (t.vip, t.r1.v4)
        d = Director(t.di)
        by_hand(t.r1, vip, method)
        extra = {"tunnel": {"port": 6080}} if method == "gue" else {}
        for name, (protocol, port, kind, args, say) in SERVICES.items():
            Answers(t.r1, kind, port=port, **say)
            d.make(name, host=vip, port=port, protocol=protocol, method="rr")
            d.make(f"{name}/r1", host=rip, method=method, pulse=pulse(kind, timeout="2s", **args), **extra)
        for name in SERVICES:
            up = wait_status(d, "r1", "up", service=name, timeout=10)
            assert up["via"] == "vip" and "via_problem" not in up, (name, up)
        device = "lo" if method == "dr" else "tun1"
        t.r1.ip(f"addr del {vip}/{128 if six else 32} dev {device}")
        for name in SERVICES:
            assert f"via VIP {vip}" in wait_status(d, "r1", "down", service=name, timeout=10)["reason"], name
