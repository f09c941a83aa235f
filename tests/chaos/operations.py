# SPDX-License-Identifier: Apache-2.0
"""The operations of a random run: a table of (name, weight, function of the random numbers -> one JSON object).

They are drawn without a look at the state, from few names, places and values, so that they meet often; and so any part
of a sequence is a sequence (that is what the shrinker needs). What must come of them only the model knows.

kinds, by "op": request (verb, path, body or raw; those of one "wave" are sent together), kill (with the wave before it
under way), hand (an edit of the kernel's table), fault (orders to lab_faults.c).
"""

import model

SERVICES = [f"s{i}" for i in range(14)]
BACKENDS = [f"b{i}" for i in range(6)]
NODES = {f"n{i}": f"10.8.0.{i + 1}" for i in range(4)}
VIPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1", "fd00::2"]
PORTS = [53, 80, 443]
MARKS = [7, 8, 9]
VERSIONS = ["a", "b", "c"]
RIPS = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4", "fd00:9::1", "fd00:9::2"]
SCHEDULERS = [s for s in model.SCHEDULERS if s != "mh"] + ["rr", "wrr", "wlc"]  # mh builds a large table at each change
FOREIGN_VIP = "10.7.0.1"  # never asked of the director
PULSES = [{"type": "none"}, {"type": "none", "interval": "30s"}, {"type": "none", "timeout": "2s"}]
NO_PULSE = {"type": "none"}


def service_place(r):
    if r.random() < 0.1:
        return {"fwmark": r.choice(MARKS), **({"family": r.choice(("ipv4", "ipv6"))} if r.random() < 0.7 else {})}
    return {"host": r.choice(VIPS), "port": r.choice(PORTS), **({"protocol": r.choice(("tcp", "udp"))} if r.random() < 0.4 else {})}


def split(r):
    label = "version" if r.random() < 0.9 else "zone"
    return {"label": label, "shares": {v: r.choice((0, 1, 1, 2, 5, 50, 99)) for v in r.sample(VERSIONS, r.randint(1, 3))}}


def labels(r):
    return {name: r.choice(VERSIONS) for name in r.choice((("version",), ("version",), ("version", "zone"), ("zone", "version"), ("zone",)))}


def service_body(r):
    body = service_place(r)
    if r.random() < 0.6:
        body["method"] = "mh" if r.random() < 0.02 else r.choice(SCHEDULERS)
    if r.random() < 0.2:
        body["persistent"] = r.choice((True, False, "2m", "90s"))
    if r.random() < 0.15:
        body["flags"] = r.choice(("flag-1", "flag-2", "flag-1|flag-2", "mh-port", "none"))
    if r.random() < 0.1:
        body["ops"] = r.random() < 0.7
    if r.random() < 0.1:
        body["pulse"] = r.choice(PULSES)
    if r.random() < 0.15:
        body["split"] = split(r)
    return body


def service_patch(r):
    if r.random() < 0.1:
        return {"split": split(r) if r.random() < 0.7 else None}
    body = service_body(r)
    keep = r.choice((("method",), ("method", "persistent"), ("flags", "ops"), ("persistent",), ("ops",), ("pulse",), tuple(body)))
    return {k: v for k, v in body.items() if k in keep} or {"method": r.choice(SCHEDULERS)}


def backend_body(r):
    body = {"host": r.choice(RIPS), "pulse": NO_PULSE}
    if r.random() < 0.4:
        body["port"] = r.choice(PORTS)
    if r.random() < 0.7:
        body["weight"] = r.choice((0, 1, 2, 50, 65535))
    body["method"] = r.choice(("dr", "dr", "ipip", "tunnel", "nat"))
    if r.random() < 0.5:
        body["labels"] = labels(r)
    return body


def backend_patch(r):
    if r.random() < 0.7:
        return {"weight": r.choice((0, 1, 2, 3, 50, 65535))}
    if r.random() < 0.4:
        return {"labels": labels(r) if r.random() < 0.7 else None}
    body = backend_body(r)
    return {k: v for k, v in body.items() if k != "host" or r.random() < 0.1}


def request(verb, path, body=None, **more):
    return {"op": "request", "verb": verb, "path": path, **({} if body is None else {"body": body}), **more}


def _service(r):
    return f"/service/{r.choice(SERVICES)}"


def _backend(r):
    return f"{_service(r)}/{r.choice(BACKENDS)}"


def _old(r, path):
    """Or what was moved from there."""
    return path + r.choice(("", "", ".old", ".old2"))


BAD_SERVICE = [
    {"port": 70000}, {"port": "80"}, {"host": "10.0.0"}, {"host": "127.0.0.1"}, {"method": "Not a scheduler"}, {"nothing": 1}, {"protocol": "icmp"},
    {"ops": True, "protocol": "tcp"}, {"persistent": "0s"}, {"flags": "flag-9"}, {"host": "224.0.0.1"}, {"fwmark": 0}, {"fwmark": 7, "host": "10.0.0.1"},
    {"fwmark": 7, "protocol": "udp"}, {"family": "ipv5"}, {"split": []}, {"split": {"label": "v", "shares": {}}}, {"split": {"label": "v", "shares": {"a": 0}}},
    {"split": {"label": "-", "shares": {"a": 1}}}, {"split": {"shares": {"a": 1}}}, {"split": {"label": "v", "shares": {"a": 1_000_001}}},
]  # fmt: skip
BAD_BACKEND = [
    {"weight": -1}, {"weight": 65536}, {"method": "teleport"}, {"host": None}, {"port": 0}, {"host": "::"}, {"x": []}, {"labels": "a"},
    {"labels": {"version": 1}}, {"labels": {"": "a"}}, {"labels": {"version": "a b"}},
]  # fmt: skip
DRAINS = ("?drain=30s", "?drain=1h", "?drain=1d")
NO_DRAINS = ("?drain=0s", "?drain=soon", "?drain=2d", "?drain=-1s")


def bad_service(r):
    return request(r.choice(("PUT", "PATCH")), _service(r), {**service_body(r), **r.choice(BAD_SERVICE)})


def bad_backend(r):
    return request("PUT", _backend(r), {**backend_body(r), **r.choice(BAD_BACKEND)})


def bad_name(r):
    return request("PUT", f"/service/{r.choice(('-x', 'a' * 65))}", service_body(r))


def drain(r, path):
    return request("DELETE", _old(r, path) + (r.choice(DRAINS) if r.random() < 0.9 else r.choice(NO_DRAINS)))


def _move(r):
    return "?move=1" + r.choice(("", "", "&drain=1m", "&drain=cancel", "&drain=soon"))


def move_service(r):
    """To another place, all of which is named; now and then there is nothing that moves."""
    if r.random() < 0.15:
        return request("PATCH", _service(r) + _move(r), service_patch(r))
    nowhere = {"host": None, "port": None, "protocol": None, "fwmark": None, "family": None}
    more = {"method": r.choice(SCHEDULERS)} if r.random() < 0.3 else {}
    return request("PATCH", _old(r, _service(r)) + _move(r), {**nowhere, **service_place(r), **more})


def move_backend(r):
    body = {"host": r.choice(RIPS)} if r.random() < 0.8 else backend_patch(r)
    if r.random() < 0.3:
        body["port"] = r.choice((*PORTS, None))
    if r.random() < 0.3:
        body["weight"] = r.choice((0, 1, 7))
    return request("PATCH", _old(r, _backend(r)) + _move(r), body)


def unknown_scheduler(r):
    return request(r.choice(("PUT", "PATCH")), _service(r), {**service_body(r), "method": model.NO_SCHEDULER})


def agent_report(r):
    node = r.choice(list(NODES))
    backends = {}
    for name in r.sample(SERVICES, r.randint(0, 4)):
        entry = {"state": r.choice(("up", "up", "up", "setup", "down", "drain")), "method": r.choice(("dr", "dr", "ipip", "nat"))}
        if r.random() < 0.5:
            entry["weight"] = r.choice((0, 1, 10, 100))
        if r.random() < 0.3:
            entry["vip"] = r.choice(VIPS)
        backends[name] = entry
    ttl = "1s" if r.random() < 0.05 else "1h"
    return request("PUT", f"/agent/{node}", {"address": NODES[node], "boot": r.choice(("x", "y")), "ttl": ttl, "backends": backends})


def config(r):
    services = {}
    for name in r.sample(SERVICES, r.randint(0, 6)):
        services[name] = {**service_body(r), "backends": {b: backend_body(r) for b in r.sample(BACKENDS, r.randint(0, 3))}}
    return request("PUT", "/config", {"services": services})


# ---------------------------------------------------------------- other hands


def _place(r):
    if r.random() < 0.1:
        return ["fwmark", r.choice((4, 6)), r.choice(MARKS)]
    host = FOREIGN_VIP if r.random() < 0.3 else r.choice(VIPS)
    return [r.choice(("tcp", "udp")), host, r.choice(PORTS)]


def _dest(r, place):
    six = place[1] == 6 if place[0] == "fwmark" else ":" in place[1]
    return [r.choice([rip for rip in RIPS if (":" in rip) == six]), r.choice(PORTS) if place[0] != "fwmark" else 0]


def hand_service(r):
    command = r.choice(("add_service", "edit_service", "edit_service", "delete_service"))
    edit = {"op": "hand", "command": command, "place": _place(r)}
    return edit if command == "delete_service" else {**edit, "scheduler": r.choice(("rr", "wlc", "sh"))}


def hand_dest(r):
    command = r.choice(("add_dest", "add_dest", "edit_dest", "delete_dest"))
    place = _place(r)
    edit = {"op": "hand", "command": command, "place": place, "dest": _dest(r, place)}
    return edit if command == "delete_dest" else {**edit, "forward": r.choice(("dr", "ipip", "nat")), "weight": r.choice((0, 1, 7, 100))}


# ---------------------------------------------------------------- faults and ends


def fault_once(r):
    order = r.choice(("refuse_in", "refuse_in", "lose_in", "lose_in", "interrupt_in"))
    return {"op": "fault", "seed": r.randint(1, 2**31), order: r.choice((1, 1, 2, 3, 5, 9))}


def fault_storm(r):
    kinds = r.sample(("refuse_per_mille", "lose_per_mille", "interrupt_per_mille"), r.randint(1, 3))
    return {"op": "fault", "seed": r.randint(1, 2**31), **{k: r.choice((5, 50, 300)) for k in kinds}}


def fault_off(r):
    return {"op": "fault", "off": True}


def kill(r):
    return {"op": "kill", "signal": 9, "delay_us": r.choice((0, 100, 300, 1000, 3000, 10000))}


def stop(r):
    return {"op": "kill", "signal": 15, "delay_us": r.choice((0, 1000, 10000))}


# name, weight, function; needs: a path that must exist (GET is not 404), or the operation is left out
OPERATIONS = [
    ("put_service", 100, lambda r: request("PUT", _service(r), service_body(r))),
    ("patch_service", 120, lambda r: request("PATCH", _service(r), service_patch(r))),
    ("delete_service", 45, lambda r: request("DELETE", _service(r))),
    ("put_backend", 260, lambda r: request("PUT", _backend(r), backend_body(r))),
    ("patch_backend", 200, lambda r: request("PATCH", _backend(r), backend_patch(r))),
    ("delete_backend", 80, lambda r: request("DELETE", _backend(r))),
    # few: the search for an order must take into account that each of them may have ended at any time
    ("drain_backend", 20, lambda r: drain(r, _backend(r))),
    ("drain_service", 5, lambda r: drain(r, _service(r))),
    ("stay_backend", 5, lambda r: request("DELETE", _old(r, _backend(r)) + "?drain=cancel")),
    ("stay_service", 2, lambda r: request("DELETE", _old(r, _service(r)) + "?drain=cancel")),
    ("move_backend", 15, move_backend),
    ("move_service", 10, move_service),
    ("delete_old", 4, lambda r: request("DELETE", _old(r, r.choice((_service, _backend))(r)))),
    ("get_service", 30, lambda r: request("GET", _service(r))),
    ("get_backend", 30, lambda r: request("GET", _backend(r))),
    ("list_services", 3, lambda r: request("GET", "/service")),
    ("bad_service", 15, bad_service),
    ("bad_backend", 15, bad_backend),
    ("bad_name", 3, bad_name),
    ("unknown_scheduler", 1, unknown_scheduler),
    ("agent_report", 40, agent_report),
    ("agent_leaves", 6, lambda r: request("DELETE", f"/agent/{r.choice(list(NODES))}")),
    ("change_agents_backend", 5, lambda r: request(r.choice(("PATCH", "DELETE")), f"{_service(r)}/{r.choice(list(NODES))}", {"weight": 3})),
    ("config", 4, config, "/config"),
    ("hand_service", 15, hand_service),
    ("hand_dest", 30, hand_dest),
    ("fault_once", 8, fault_once),
    ("fault_storm", 0.7, fault_storm),
    ("fault_off", 2, fault_off),
    ("kill", 0.8, kill),
    ("stop", 0.3, stop),
]


def generate(r, count, without=(), wave_max=8):
    """Yields `count` operations; requests that follow one another share waves of random size."""
    rows = [row for row in OPERATIONS if row[0] not in without]
    functions, weights = [row[2] for row in rows], [row[1] for row in rows]
    wave, left = 0, 0
    for function in r.choices(functions, weights, k=count):
        operation = function(r)
        if operation["op"] == "request":
            if left == 0:
                wave, left = wave + 1, r.choice((1, 2, 4, wave_max, wave_max, wave_max))
            left -= 1
            operation["wave"] = wave
        elif operation["op"] != "kill":
            left = 0
        yield operation
        if operation["op"] == "kill":
            left = 0
