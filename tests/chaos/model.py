# SPDX-License-Identifier: Apache-2.0
"""What the director promises, as a pure function: state and request -> status, state, and what a GET shows.

A state is a dict: ("service", name) -> {"options", "backends"}, ("agent", node) -> report. Values are never changed,
only replaced, so that a copy of the dict is a copy of the state. Options are kept in the form in which the API prints
them. This is written from docs/api.md, not from the director's code.
"""

import functools
import ipaddress
import re
import socket

PULSE = {"type": "none", "interval": "1m", "timeout": "5s"}
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "dh", "lblc", "fo", "ovf")
NO_SCHEDULER = "nope"  # a good name, which the kernel does not know
FLAGS = ("flag-1", "flag-2", "flag-3")
FLAG_NAMES = {**{f: f for f in (*FLAGS, "none")}, "mh-fallback": "flag-1", "mh-port": "flag-2", "sh-fallback": "flag-1", "sh-port": "flag-2"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


class Refused(Exception):
    """The request is refused with this status and changes nothing."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


# ---------------------------------------------------------------- fields: given -> as it is printed


@functools.lru_cache(None)
def address(text):
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        raise Refused(400) from None
    if parsed.is_multicast or parsed.is_unspecified or str(parsed) == "255.255.255.255":
        raise Refused(400)
    return str(parsed)


@functools.lru_cache(None)
def packed(text):
    return socket.inet_pton(family(text), text)


def family(text):
    return socket.AF_INET6 if ":" in text else socket.AF_INET


def _address(value):
    if not isinstance(value, str):
        raise Refused(400)
    return address(value)


def _number(low, high):
    def parse(value):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Refused(400)
        return value

    return parse


def _choice(words):
    def parse(value):
        if not isinstance(value, str) or value.lower() not in words:
            raise Refused(400)
        return words[value.lower()]

    return parse


def _boolean(value):
    if not isinstance(value, bool):
        raise Refused(400)
    return value


def _persistent(value):
    if isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)(s|m)", value) if isinstance(value, str) else None
    seconds = int(match[1]) * {"s": 1, "m": 60}[match[2]] if match else 0
    if not 1 <= seconds <= 86400:
        raise Refused(400)
    return True if seconds == 300 else value


def persistent_seconds(value):
    return {True: 300, False: 0}[value] if isinstance(value, bool) else int(value[:-1]) * {"s": 1, "m": 60}[value[-1]]


def _flags(value):
    words = value.split("|") if isinstance(value, str) else [None]
    if not set(words) <= set(FLAG_NAMES):
        raise Refused(400)
    return "|".join(sorted({FLAG_NAMES[w] for w in words} - {"none"})) or "none"


def _scheduler(value):
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_-]{1,15}", value):
        raise Refused(400)
    return value


def _pulse(value):
    """Only type none, and times as they are printed: checks would make the kernel's weights a matter of luck."""
    if not isinstance(value, dict) or value.get("type", "none") != "none" or not set(value) <= set(PULSE):
        raise Refused(400)
    return value


SERVICE_FIELDS = {
    "host": _address,
    "port": _number(1, 65535),
    "protocol": _choice({"tcp": "tcp", "udp": "udp"}),
    "method": _scheduler,
    "flags": _flags,
    "persistent": _persistent,
    "ops": _boolean,
    "pulse": _pulse,
}
SERVICE_DEFAULTS = {"protocol": "tcp", "method": "wrr", "persistent": False, "ops": False, "pulse": PULSE}
METHODS = {"dr": "dr", "ipip": "ipip", "tunnel": "ipip", "nat": "nat"}
BACKEND_FIELDS = {"host": _address, "port": _number(1, 65535), "weight": _number(0, 65535), "method": _choice(METHODS), "pulse": _pulse}
BACKEND_DEFAULTS = {"weight": 100, "method": "nat", "pulse": PULSE}
REPORT_FIELDS = {"port": _number(0, 65535), "weight": _number(0, 65535), "method": _choice(METHODS), "vip": _address,
                 "state": _choice({s: s for s in ("setup", "up", "down", "drain")})}  # fmt: skip
REPORT_DEFAULTS = {"port": 0, "weight": 100, "method": "dr", "state": "setup"}


def _parse(fields, body, base):
    if not isinstance(body, dict):
        raise Refused(400)
    options = dict(base)
    for name, value in body.items():
        if name not in fields:
            raise Refused(400)
        printed = fields[name](value)
        options[name] = {**base.get("pulse", PULSE), **printed} if name == "pulse" else printed
    return options


def _given(body):
    """Of a PUT: empty texts and null are not given, and a weight of 0 beside them neither."""
    if not isinstance(body, dict):
        raise Refused(400)
    given = {k: v for k, v in body.items() if v is not None and v != ""}
    if len(given) < len(body) and given.get("weight") == 0 and not isinstance(given["weight"], bool):
        del given["weight"]
    return given


# ---------------------------------------------------------------- rules across fields


def place(options):
    return options["protocol"], options["host"], options["port"]


def _check_service(options):
    if options["ops"] and options["protocol"] != "udp":
        raise Refused(400)
    if ipaddress.ip_address(options["host"]).is_loopback:
        raise Refused(400)


def _check_pair(service, backend):
    if backend["method"] != "nat" and backend["port"] != service["port"]:
        raise Refused(400)
    if backend["method"] != "ipip" and family(backend["host"]) != family(service["host"]):
        raise Refused(400)
    if backend["method"] == "nat" and service["ops"]:
        raise Refused(400)
    if backend["method"] == "ipip" and backend["host"] == service["host"]:
        raise Refused(400)


def _new_service(body):
    options = _parse(SERVICE_FIELDS, body, SERVICE_DEFAULTS)
    if "host" not in options or "port" not in options:
        raise Refused(400)
    _check_service(options)
    return options


def _new_backend(service, body):
    options = _parse(BACKEND_FIELDS, body, BACKEND_DEFAULTS)
    if "host" not in options:
        raise Refused(400)
    options.setdefault("port", service["port"])
    _check_pair(service, options)
    return options


# ---------------------------------------------------------------- agents' backends: a function of reports and services


def agent_backend(service, report, entry):
    """Options and weight of the backend that a report makes in a service; None when it does not fit."""
    options = {"host": report["address"], "port": entry["port"] or service["port"], "weight": entry["weight"], "method": entry["method"]}
    try:
        _check_pair(service, options)
    except Refused:
        return None
    up = entry["state"] == "up" and entry.get("vip", service["host"]) == service["host"] and not report.get("lost")
    return options, entry["weight"] if up else 0


def agent_backends(state, name):
    """{node: (options, effective weight)} in a service."""
    service = state[("service", name)]["options"]
    found = {}
    for (kind, node), report in state.items():
        if kind == "agent" and name in report["backends"]:
            made = agent_backend(service, report, report["backends"][name])
            if made:
                found[node] = made
    return found


# ---------------------------------------------------------------- requests


def _service(state, name):
    if not NAME.fullmatch(name):
        raise Refused(400)
    found = state.get(("service", name))
    if not found:
        raise Refused(404)
    return found


def _with(state, key, value):
    state = dict(state)
    if value is None:
        del state[key]
    else:
        state[key] = value
    return state


def _taken(state, where, name):
    return any(k[0] == "service" and k[1] != name and place(s["options"]) == where for k, s in state.items())


def put_service(state, body, name):
    if not NAME.fullmatch(name):
        raise Refused(400)
    options = _new_service(_given(body))
    there = state.get(("service", name))
    if there:
        if there["options"] != options:
            raise Refused(409)
        return state, None
    if _taken(state, place(options), name):
        raise Refused(409)
    if options["method"] == NO_SCHEDULER:
        raise Refused(400)
    return _with(state, ("service", name), {"options": options, "backends": {}}), None


def patch_service(state, body, name):
    service = _service(state, name)
    old = service["options"]
    options = _parse(SERVICE_FIELDS, body, old)
    if place(options) != place(old):
        raise Refused(400)
    for backend in [*service["backends"].values(), *(made[0] for made in agent_backends(state, name).values())]:
        _check_pair(options, backend)
    _check_service(options)
    if options["method"] == NO_SCHEDULER:
        raise Refused(400)
    return _with(state, ("service", name), {**service, "options": options}) if options != old else state, None


def delete_service(state, body, name):
    _service(state, name)
    return _with(state, ("service", name), None), None


def get_service(state, body, name):
    service = _service(state, name)
    return state, {"options": service["options"], "backends": sorted([*service["backends"], *agent_backends(state, name)])}


def list_services(state, body):
    return state, sorted(name for kind, name in state if kind == "service")


def put_backend(state, body, service_name, name):
    service = _service(state, service_name)
    if not NAME.fullmatch(name):
        raise Refused(400)
    options = _new_backend(service["options"], _given(body))
    of_agents = agent_backends(state, service_name)
    if name in of_agents:
        raise Refused(409)
    there = service["backends"].get(name)
    if there:
        if there != options:
            raise Refused(409)
        return state, None
    others = [*service["backends"].values(), *(made[0] for made in of_agents.values())]
    if any((other["host"], other["port"]) == (options["host"], options["port"]) for other in others):
        raise Refused(409)
    return _with(state, ("service", service_name), {**service, "backends": {**service["backends"], name: options}}), None


def _backend(state, service_name, name):
    """The service and the backend's options; an agent's backend has options None."""
    service = _service(state, service_name)
    if not NAME.fullmatch(name):
        raise Refused(400)
    if name in service["backends"]:
        return service, service["backends"][name]
    if name in agent_backends(state, service_name):
        return service, None
    raise Refused(404)


def patch_backend(state, body, service_name, name):
    service, old = _backend(state, service_name, name)
    options = _parse(BACKEND_FIELDS, body, old or BACKEND_DEFAULTS)
    if not old:
        raise Refused(409)
    if (options["host"], options["port"]) != (old["host"], old["port"]):
        raise Refused(400)
    _check_pair(service["options"], options)
    if options == old:
        return state, None
    return _with(state, ("service", service_name), {**service, "backends": {**service["backends"], name: options}}), None


def delete_backend(state, body, service_name, name):
    service, old = _backend(state, service_name, name)
    if not old:
        raise Refused(409)
    left = {k: v for k, v in service["backends"].items() if k != name}
    return _with(state, ("service", service_name), {**service, "backends": left}), None


def get_backend(state, body, service_name, name):
    _, options = _backend(state, service_name, name)
    return state, {"options": options or agent_backends(state, service_name)[name][0], "origin": "api" if options else "agent"}


def put_agent(state, body, node):
    if not NAME.fullmatch(node):
        raise Refused(400)
    if not isinstance(body.get("backends"), dict) or "boot" not in body or "address" not in body:
        raise Refused(400)
    backends = {name: _parse(REPORT_FIELDS, entry, REPORT_DEFAULTS) for name, entry in body["backends"].items()}
    report = {"address": _address(body["address"]), "boot": body["boot"], "ttl": body.get("ttl", "10s"), "backends": backends}
    return _with(state, ("agent", node), report), None


def delete_agent(state, body, node):
    if not NAME.fullmatch(node):
        raise Refused(400)
    if ("agent", node) not in state:
        raise Refused(404)
    return _with(state, ("agent", node), None), None


def put_config(state, body):
    """The whole state that was made through the API; agents stay."""
    if not isinstance(body, dict) or not isinstance(body.get("services"), dict):
        raise Refused(400)
    new = {key: value for key, value in state.items() if key[0] != "service"}
    for name, fields in body["services"].items():
        if not NAME.fullmatch(name) or not isinstance(fields, dict):
            raise Refused(400)
        options = _new_service({k: v for k, v in fields.items() if k != "backends"})
        if _taken(new, place(options), name):
            raise Refused(409)
        new[("service", name)] = {"options": options, "backends": {}}
        of_agents = agent_backends(new, name)
        for backend_name, backend_fields in fields.get("backends", {}).items():
            backend = _new_backend(options, backend_fields)
            others = [*new[("service", name)]["backends"].values(), *(made[0] for made in of_agents.values())]
            if backend_name in of_agents or any((b["host"], b["port"]) == (backend["host"], backend["port"]) for b in others):
                raise Refused(409)
            backends = {**new[("service", name)]["backends"], backend_name: backend}
            new[("service", name)] = {"options": options, "backends": backends}
    if any(s["options"]["method"] == NO_SCHEDULER for k, s in new.items() if k[0] == "service"):
        raise Refused(400)
    return new, None


# verb and first segment, number of segments -> the function; a new request is a row here and one in operations.py
REQUESTS = {
    ("PUT", "service", 2): put_service,
    ("PATCH", "service", 2): patch_service,
    ("DELETE", "service", 2): delete_service,
    ("GET", "service", 2): get_service,
    ("GET", "service", 1): list_services,
    ("PUT", "service", 3): put_backend,
    ("PATCH", "service", 3): patch_backend,
    ("DELETE", "service", 3): delete_backend,
    ("GET", "service", 3): get_backend,
    ("PUT", "agent", 2): put_agent,
    ("DELETE", "agent", 2): delete_agent,
    ("PUT", "config", 1): put_config,
}


def predict(state, request):
    """(status, the state afterwards, what a GET shows or None)"""
    segments = request["path"].partition("?")[0].strip("/").split("/")
    function = REQUESTS[(request["verb"], segments[0], len(segments))]
    try:
        after, shown = function(state, request.get("body"), *segments[1:])
    except Refused as refused:
        return refused.status, state, None
    return 200, after, shown


def touched(state, request):
    """What the request's outcome depends on or changes: requests that share nothing may be taken in any order.
    None: everything."""
    segments = request["path"].partition("?")[0].strip("/").split("/")
    if segments[0] == "config" or len(segments) == 1:
        return None
    keys = {(segments[0], segments[1])}
    if segments[0] == "service" and len(segments) == 2 and request["verb"] in ("PUT", "DELETE"):
        there, body = state.get(keys_of(segments)), request.get("body")
        if there:
            keys.add(("place", place(there["options"])))
        if isinstance(body, dict):
            with_defaults = {**SERVICE_DEFAULTS, **body}
            keys.add(("place", tuple(str(with_defaults.get(k)) for k in ("protocol", "host", "port"))))
            keys.add(("place", (with_defaults.get("protocol"), with_defaults.get("host"), with_defaults.get("port"))))
    if segments[0] == "service":
        # agents' backends stand in the service, and its shape decides about them
        keys |= {key for key in state if key[0] == "agent" and segments[1] in state[key]["backends"]}
    else:
        body = request.get("body")
        there = state.get(keys_of(segments), {"backends": {}})
        keys |= {("service", name) for name in [*there["backends"], *((body or {}).get("backends") or {})]}
    return keys


def places_of(request):
    """Of the services that a PUT makes."""
    segments, body = request["path"].partition("?")[0].strip("/").split("/"), request.get("body")
    if request["verb"] != "PUT" or not isinstance(body, dict):
        return []
    if segments[0] == "config":
        bodies = body["services"].values()
    else:
        bodies = [body] if segments[0] == "service" and len(segments) == 2 else []
    return [place({**SERVICE_DEFAULTS, **_given(b)}) for b in bodies]


def keys_of(segments):
    return segments[0], segments[1]


# ---------------------------------------------------------------- what follows for the kernel


def _flag_set(options):
    if "flags" in options:
        return {FLAG_NAMES[word] for word in options["flags"].split("|")} - {"none"}
    return {"flag-1"} if options["method"] in ("mh", "sh") else set()  # their fallback


def kernel_table(state):
    """In the form of kernel.parse_table."""
    table = {}
    for (kind, name), service in state.items():
        if kind != "service":
            continue
        options = service["options"]
        dests = {(b["host"], b["port"]): (b["method"], b["weight"]) for b in service["backends"].values()}
        for backend, weight in agent_backends(state, name).values():
            dests[(backend["host"], backend["port"])] = (backend["method"], weight)
        table[place(options)] = {
            "scheduler": options["method"],
            "persistent": persistent_seconds(options["persistent"]),
            "ops": options["ops"],
            "flags": _flag_set(options),
            "dests": dests,
        }
    return table


def vips(state):
    return {s["options"]["host"] for k, s in state.items() if k[0] == "service"}


# ---------------------------------------------------------------- what follows for the API


def same(want, got):
    """got has all that want has; fields that the model does not know are not looked at."""
    if isinstance(want, dict):
        return isinstance(got, dict) and all(k in got and same(v, got[k]) for k, v in want.items())
    return want == got and isinstance(want, bool) == isinstance(got, bool)


def same_options(want, got):
    if not same({k: v for k, v in want.items() if k != "flags"}, got):
        return False
    # a field without a default is printed only when it is set, and flags by the names of the scheduler
    return _flag_set(got) == _flag_set(want)


def stored(kind, row, service):
    """The options that a row of the store stands for: what was given, over the defaults."""
    defaults = SERVICE_DEFAULTS if kind == "service" else {**BACKEND_DEFAULTS, "port": service["port"]}
    pulse = {**PULSE, "type": PULSE["type"] if kind == "service" else "tcp", **row.get("pulse", {})}
    return {**defaults, **row, "pulse": pulse}


def service_differs(state, name, got):
    """What GET ?expand=1 of one service shows (None: 404), against the state. A sentence, or None."""
    want = state.get(("service", name))
    if not want or got is None:
        return None if bool(want) == (got is not None) else f"service {name}: {'missing' if want else 'should not be there'}"
    if not same_options(want["options"], got["options"]):
        return f"service {name}: options {got['options']}, should be {want['options']}"
    backends = {k: (v, "api") for k, v in want["backends"].items()}
    backends |= {k: (v[0], "agent") for k, v in agent_backends(state, name).items()}
    if set(backends) != set(got["backends"]):
        return f"service {name}: backends {sorted(got['backends'])}, should be {sorted(backends)}"
    for backend, (options, origin) in backends.items():
        shown = got["backends"][backend]
        if not same_options(options, shown["options"]) or shown["origin"] != origin:
            return f"backend {name}/{backend}: {shown['options']} of {shown['origin']}, should be {options} of {origin}"
    return None


def object_differs(state, key, got):
    """The same for one service or agent; got is what its GET (?expand=1) shows, None if that is 404."""
    kind, name = key
    if kind == "service":
        return service_differs(state, name, got)
    want = state.get(key)
    if not want or got is None:
        return None if bool(want) == (got is not None) else f"agent {name}: {'missing' if want else 'should not be there'}"
    entries = set(want["backends"]) == set(got["backends"]) and all(same(v, got["backends"][k]) for k, v in want["backends"].items())
    return None if entries and want["address"] == got["address"] else f"agent {name}: {got}, should be {want}"


def shown_as(want, got):
    """The answer to a GET against what predict says that it shows."""
    if isinstance(want, list):
        return sorted(got) == want
    if not same_options(want["options"], got["options"]):
        return False
    if "backends" in want:
        return sorted(got["backends"]) == want["backends"]
    return got["origin"] == want["origin"]
