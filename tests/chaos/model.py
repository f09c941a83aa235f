# SPDX-License-Identifier: Apache-2.0
"""What the director promises, as a pure function: state and request -> status, state, and what a GET shows.

A state is a dict: ("service", name) -> {"options", "backends", "drains": names of those that drain, "leaving": bool},
("agent", node) -> report. Values are never changed, only replaced, so that a copy of the dict is a copy of the state.
Options are kept in the form in which the API prints them. This is written from docs/api.md, not from the director's code.

A drain ends at a time that nobody knows: that is a request of its own (END), which nobody sends and nobody answers.
"""

import fractions
import functools
import ipaddress
import re
import socket

PULSE = {"type": "none", "interval": "1m", "timeout": "5s", "via": "auto", "full_size": False}
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "dh", "lblc", "fo", "ovf")
NO_SCHEDULER = "nope"  # a good name, which the kernel does not know
FLAGS = ("flag-1", "flag-2", "flag-3")
FLAG_NAMES = {**{f: f for f in (*FLAGS, "none")}, "mh-fallback": "flag-1", "mh-port": "flag-2", "sh-fallback": "flag-1", "sh-port": "flag-2"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
STAYS = {"drains": (), "leaving": False}


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


def _name(value):
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Refused(400)
    return value


def _labels(value):
    if not isinstance(value, dict) or len(value) > 8:
        raise Refused(400)
    return {_name(k): _name(v) for k, v in value.items()}


_share = _number(0, 1_000_000)


def _split(value):
    if not isinstance(value, dict) or set(value) != {"label", "shares"} or not isinstance(value["shares"], dict):
        raise Refused(400)
    shares = {_name(k): _share(v) for k, v in value["shares"].items()}
    if not sum(shares.values()):
        raise Refused(400)
    return {"label": _name(value["label"]), "shares": shares}


SERVICE_FIELDS = {
    "host": _address,
    "port": _number(1, 65535),
    "protocol": _choice({"tcp": "tcp", "udp": "udp"}),
    "fwmark": _number(1, 2**32 - 1),
    "family": _choice({"ipv4": "ipv4", "ipv6": "ipv6"}),
    "method": _scheduler,
    "flags": _flags,
    "persistent": _persistent,
    "ops": _boolean,
    "split": _split,
    "pulse": _pulse,
}
SERVICE_DEFAULTS = {"method": "wrr", "persistent": False, "ops": False, "pulse": PULSE}
METHODS = {"dr": "dr", "ipip": "ipip", "tunnel": "ipip", "nat": "nat"}
BACKEND_FIELDS = {"host": _address, "port": _number(0, 65535), "weight": _number(0, 65535), "method": _choice(METHODS), "labels": _labels, "pulse": _pulse}
BACKEND_DEFAULTS = {"weight": 100, "method": "nat", "pulse": PULSE}
REPORT_FIELDS = {"port": _number(0, 65535), "weight": _number(0, 65535), "method": _choice(METHODS), "vip": _address,
                 "state": _choice({s: s for s in ("setup", "up", "down", "drain")})}  # fmt: skip
REPORT_DEFAULTS = {"port": 0, "weight": 100, "method": "dr", "state": "setup"}


# printed only when they were given
OPTIONAL = ("host", "fwmark", "split", "labels")


def _parse(fields, body, base, defaults=None):
    """defaults: it is a PATCH of base, where null puts a field back."""
    if not isinstance(body, dict):
        raise Refused(400)
    options = dict(base)
    for name, value in body.items():
        if name not in fields:
            raise Refused(400)
        if value is None and defaults is not None:
            options.pop(name, None)
            options |= {k: v for k, v in defaults.items() if k == name}
            continue
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
    if options.get("fwmark"):
        return "fwmark", 6 if options.get("family") == "ipv6" else 4, options["fwmark"]
    return options.get("protocol", "tcp"), options.get("host"), options.get("port")


def _port(service):
    return service.get("port", 0)  # of a firewall mark: the packet's


def _family(service):
    if "host" in service:
        return family(service["host"])
    return socket.AF_INET6 if service["family"] == "ipv6" else socket.AF_INET


def _check_service(options):
    """The options, complete."""
    if "fwmark" in options:
        if options.keys() & {"host", "port", "protocol"}:
            raise Refused(400)
        options = {"family": "ipv4", **options}
    else:
        if "host" not in options or "port" not in options or ipaddress.ip_address(options["host"]).is_loopback:
            raise Refused(400)
        if options.get("family", "ipv6" if ":" in options["host"] else "ipv4") != ("ipv6" if ":" in options["host"] else "ipv4"):
            raise Refused(400)
        options = {"protocol": "tcp", **{k: v for k, v in options.items() if k != "family"}}
    if options["ops"] and options.get("protocol") != "udp":
        raise Refused(400)
    return options


def _check_pair(service, backend):
    if backend["method"] != "nat" and backend["port"] != _port(service):
        raise Refused(400)
    if backend["method"] != "ipip" and family(backend["host"]) != _family(service):
        raise Refused(400)
    if backend["method"] == "nat" and service["ops"]:
        raise Refused(400)
    if backend["method"] == "ipip" and backend["host"] == service.get("host"):
        raise Refused(400)


def _fits(service, backend):
    try:
        _check_pair(service, backend)
    except Refused:
        return False
    return True


def _new_service(body):
    return _check_service(_parse(SERVICE_FIELDS, body, SERVICE_DEFAULTS))


def _check_backend(service, options):
    """The options, complete."""
    if "host" not in options or (options.get("port") == 0 and _port(service)):
        raise Refused(400)
    options = {"port": _port(service), **options}
    _check_pair(service, options)
    return options


def _new_backend(service, body):
    return _check_backend(service, _parse(BACKEND_FIELDS, body, BACKEND_DEFAULTS))


# ---------------------------------------------------------------- agents' backends: a function of reports and services


def agent_backend(service, report, entry):
    """Options and weight of the backend that a report makes in a service; None when it does not fit."""
    if "fwmark" in service:
        return None  # it has no VIP that an agent could set up
    options = {"host": report["address"], "port": entry["port"] or service["port"], "weight": entry["weight"], "method": entry["method"]}
    if not _fits(service, options):
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


def _changed(state, name, **changes):
    """What an agent's backend or a new one joins stays."""
    service = {**state[("service", name)], **changes}
    if service["leaving"]:
        joined = set(service["backends"]) != set(service["drains"]) or agent_backends({**state, ("service", name): service}, name)
        service["leaving"] = not joined
    return _with(state, ("service", name), service)


def _without(state, service_name, name):
    """A service that is leaving goes with its last backend."""
    service = state[("service", service_name)]
    backends = {k: v for k, v in service["backends"].items() if k != name}
    if service["leaving"] and not backends:
        return _with(state, ("service", service_name), None)
    return _changed(state, service_name, backends=backends, drains=tuple(d for d in service["drains"] if d != name))


def _taken(state, where, name):
    return any(k[0] == "service" and k[1] != name and place(s["options"]) == where for k, s in state.items())


def _old_name(name, names):
    return next(old for old in (f"{name}.old{i if i > 1 else ''}" for i in range(1, 100)) if old not in names)


def _wait(drain):
    """Of ?drain=: whether to drain, or "cancel"."""
    if drain in (None, "cancel"):
        return drain
    match = re.fullmatch(r"(\d+)(s|m|h|d)", drain)
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else -1
    if not 0 <= seconds <= 86400:
        raise Refused(400)
    return seconds > 0


def _flags_shown(options):
    """Equal where the director shows the same: flag-1 of sh is its default; none, where none is the default, was said."""
    return _flag_set(options) if "flags" in options or _flag_set(options) else None


def put_service(state, body, name):
    if not NAME.fullmatch(name):
        raise Refused(400)
    options = _new_service(_given(body))
    there = state.get(("service", name))
    if there:
        bare = [{k: v for k, v in o.items() if k != "flags"} for o in (there["options"], options)]
        if bare[0] != bare[1] or _flags_shown(there["options"]) != _flags_shown(options):
            raise Refused(409)
        return state, None
    if _taken(state, place(options), name):
        raise Refused(409)
    if options["method"] == NO_SCHEDULER:
        raise Refused(400)
    return _with(state, ("service", name), {"options": options, "backends": {}, **STAYS}), None


def _move_service(state, name, options):
    """A new one with the backends that stay, and the old one drains beside it."""
    service = state[("service", name)]
    old, backends = service["options"], service["backends"]
    if _taken(state, place(options), name):
        raise Refused(409)
    if options["method"] == NO_SCHEDULER:
        raise Refused(400)
    moved = {k: {**b, "port": _port(options) if b["port"] == _port(old) else b["port"]} for k, b in backends.items() if k not in service["drains"]}
    # agents follow the service by its name; the old one keeps copies of their backends, so that their hosts keep its VIP
    made = {node: {**b, "port": _port(options) if b["port"] == _port(old) else b["port"]} for node, (b, _) in agent_backends(state, name).items()}
    copies = {node: {**BACKEND_DEFAULTS, **b, "pulse": PULSE} for node, (b, _) in agent_backends(state, name).items()}
    everywhere = [*moved.values(), *made.values()]
    for backend in everywhere:
        _check_pair(options, backend)
    if len({(b["host"], b["port"]) for b in everywhere}) < len(everywhere):
        raise Refused(409)
    old_name = _old_name(name, {k[1] for k in state if k[0] == "service"})
    state = _with(state, ("service", name), {"options": options, "backends": moved, **STAYS})
    left = {**backends, **copies}
    return _with(state, ("service", old_name), {**service, "backends": left, "drains": tuple(sorted(left)), "leaving": True}) if left else state


def _host_has_moved(state, service_name, name):
    """Is this a copy that _move_service made, and does its agent still serve the service where it is now?"""
    base = re.fullmatch(r"(.*)\.old\d*", service_name)
    service, report = state[("service", service_name)], state.get(("agent", name))
    return bool(base and report and name in service["drains"] and base[1] in report["backends"] and report["address"] == service["backends"][name]["host"])


def patch_service(state, body, name, move=None, drain=None):
    service = _service(state, name)
    old = service["options"]
    options = _check_service(_parse(SERVICE_FIELDS, body, old, SERVICE_DEFAULTS))
    _wait(drain)
    if place(options) != place(old):
        if not move:
            raise Refused(400)
        return _move_service(state, name, options), None
    for backend in [*service["backends"].values(), *(made[0] for made in agent_backends(state, name).values())]:
        _check_pair(options, backend)
    if options["method"] == NO_SCHEDULER:
        raise Refused(400)
    return _changed(state, name, options=options) if options != old else state, None


def delete_service(state, body, name, drain=None):
    service = _service(state, name)
    wait = _wait(drain)
    if wait == "cancel":
        if any(_host_has_moved(state, name, backend) for backend in service["drains"]):
            raise Refused(409)
        return _changed(state, name, **STAYS) if service["drains"] else state, None
    if wait and agent_backends(state, name):
        raise Refused(409)
    if wait and service["backends"]:
        return _changed(state, name, drains=tuple(sorted(service["backends"])), leaving=True), None
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
    return _changed(state, service_name, backends={**service["backends"], name: options}), None


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


def patch_backend(state, body, service_name, name, move=None, drain=None):
    service, old = _backend(state, service_name, name)
    options = _parse(BACKEND_FIELDS, body, old or {**BACKEND_DEFAULTS, "host": "::1"}, BACKEND_DEFAULTS)
    if "host" not in options:
        raise Refused(400)
    _wait(drain)
    if not old:
        raise Refused(409)
    options = _check_backend(service["options"], options)
    if options == old:
        return state, None
    backends, drains = {**service["backends"], name: options}, service["drains"]
    if (options["host"], options["port"]) != (old["host"], old["port"]):
        if not move:
            raise Refused(400)
        others = [*service["backends"].values(), *(made[0] for made in agent_backends(state, service_name).values())]
        if any((other["host"], other["port"]) == (options["host"], options["port"]) for other in others):
            raise Refused(409)
        old_name = _old_name(name, {*backends, *agent_backends(state, service_name)})
        backends[old_name], drains = old, tuple(sorted({*drains, old_name} - {name}))
    return _changed(state, service_name, backends=backends, drains=drains), None


def delete_backend(state, body, service_name, name, drain=None):
    service, old = _backend(state, service_name, name)
    wait = _wait(drain)
    if wait == "cancel":
        if _host_has_moved(state, service_name, name):
            raise Refused(409)
        left = tuple(d for d in service["drains"] if d != name)
        return _changed(state, service_name, drains=left) if left != service["drains"] else state, None
    if not old:
        raise Refused(409)
    if wait:
        return _changed(state, service_name, drains=tuple(sorted({*service["drains"], name}))), None
    return _without(state, service_name, name), None


def end_of_drain(state, body, service_name, name):
    service, _ = _backend(state, service_name, name)
    if name not in service["drains"]:
        raise Refused(404)
    return _without(state, service_name, name), None


def get_backend(state, body, service_name, name):
    service, options = _backend(state, service_name, name)
    shown = {"origin": "api" if options else "agent", "draining": name in service["drains"]}
    return state, {"options": options or agent_backends(state, service_name)[name][0], **shown}


def put_agent(state, body, node):
    if not NAME.fullmatch(node):
        raise Refused(400)
    if not isinstance(body.get("backends"), dict) or "boot" not in body or "address" not in body:
        raise Refused(400)
    backends = {name: _parse(REPORT_FIELDS, entry, REPORT_DEFAULTS) for name, entry in body["backends"].items()}
    report = {"address": _address(body["address"]), "boot": body["boot"], "ttl": body.get("ttl", "10s"), "backends": backends}
    state = _with(state, ("agent", node), report)
    for name in backends:
        if state.get(("service", name), STAYS)["leaving"]:
            state = _changed(state, name)
    return state, None


def delete_agent(state, body, node):
    if not NAME.fullmatch(node):
        raise Refused(400)
    if ("agent", node) not in state:
        raise Refused(404)
    return _with(state, ("agent", node), None), None


def put_config(state, body):
    """The whole state that was made through the API; agents stay, and what drains where it is."""
    if not isinstance(body, dict) or not isinstance(body.get("services"), dict):
        raise Refused(400)
    leaving = {place(s["options"]): k[1] for k, s in state.items() if k[0] == "service" and s["leaving"]}
    new = {key: value for key, value in state.items() if key[0] != "service"}
    for name, fields in body["services"].items():
        if not NAME.fullmatch(name) or not isinstance(fields, dict):
            raise Refused(400)
        options = _new_service({k: v for k, v in fields.items() if k != "backends"})
        if _taken(new, place(options), name) or leaving.get(place(options), name) != name:
            raise Refused(409)
        new[("service", name)] = {"options": options, "backends": {}, **STAYS}
        of_agents = agent_backends(new, name)
        there = state.get(("service", name), {"options": {}, "backends": {}, **STAYS})
        drains = {d: there["backends"][d] for d in there["drains"]}
        backends = {}
        for backend_name, backend_fields in fields.get("backends", {}).items():
            backend = _new_backend(options, backend_fields)
            others = [*backends.values(), *(made[0] for made in of_agents.values()), *(b for k, b in drains.items() if k != backend_name)]
            if backend_name in of_agents or any((b["host"], b["port"]) == (backend["host"], backend["port"]) for b in others):
                raise Refused(409)
            backends[backend_name] = backend
        kept = {k: b for k, b in drains.items() if k not in backends and place(options) == place(there["options"]) and _fits(options, b)}
        new[("service", name)] = {"options": options, "backends": {**kept, **backends}, "drains": tuple(sorted(kept)), "leaving": False}
    if any(s["options"]["method"] == NO_SCHEDULER for k, s in new.items() if k[0] == "service"):
        raise Refused(400)
    return {**{k: s for k, s in state.items() if k[0] == "service" and s["leaving"]}, **new}, None


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
    ("END", "service", 3): end_of_drain,
}


def _parts(request):
    """Segments and query of its path."""
    path, _, query = request["path"].partition("?")
    return path.strip("/").split("/"), dict(part.split("=") for part in query.split("&") if part)


def predict(state, request):
    """(status, the state afterwards, what a GET shows or None)"""
    segments, query = _parts(request)
    function = REQUESTS[(request["verb"], segments[0], len(segments))]
    try:
        after, shown = function(state, request.get("body"), *segments[1:], **query)
    except Refused as refused:
        return refused.status, state, None
    return 200, after, shown


def touched(state, request):
    """What the request's outcome depends on or changes: requests that share nothing may be taken in any order.
    None: everything."""
    segments, query = _parts(request)
    if segments[0] == "config" or len(segments) == 1:
        return None
    keys, there, body = {tuple(segments[:2])}, state.get(tuple(segments[:2])), request.get("body")
    if segments[0] == "service":
        moves = len(segments) == 2 and "move" in query
        if there and (there["leaving"] or moves or (len(segments) == 2 and request["verb"] in ("PUT", "DELETE"))):
            keys.add(("place", place(there["options"])))
        if len(segments) == 2 and isinstance(body, dict) and (moves or request["verb"] == "PUT"):
            keys |= {("place", place(body)), ("place", place({k: v for k, v in body.items() if v not in (None, "")}))}
        if moves:
            keys |= {("service", f"{segments[1]}.old{i or ''}") for i in (0, *range(2, 20))}
        # agents' backends stand in the service, and its shape decides about them
        keys |= {key for key in state if key[0] == "agent" and segments[1] in state[key]["backends"]}
    else:
        keys |= {("service", name) for name in [*(there or {}).get("backends", {}), *((body or {}).get("backends") or {})]}
    return keys


def places_of(request):
    """Of the services that a PUT or a move makes."""
    (segments, query), body = _parts(request), request.get("body")
    if not isinstance(body, dict) or (request["verb"] != "PUT" and "move" not in query):
        return []
    if segments[0] == "config":
        bodies = body["services"].values()
    else:
        bodies = [body] if segments[0] == "service" and len(segments) == 2 else []
    return [place(_given(b)) for b in bodies]


def drains(state):
    """{(service, backend)}"""
    return {(k[1], name) for k, s in state.items() if k[0] == "service" for name in s["drains"]}


def leaving(state):
    """Places of services that go with their last backend."""
    return {place(s["options"]) for k, s in state.items() if k[0] == "service" and s["leaving"]}


def end_request(service, backend):
    return {"verb": "END", "path": f"/service/{service}/{backend}"}


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
        weights = {k: 0 if k in service["drains"] else b["weight"] for k, b in service["backends"].items()}
        dests = {(b["host"], b["port"]): (b["method"], weights[k]) for k, b in service["backends"].items()}
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


def splits(state):
    """place -> (scheduler, shares, {dest: its version, None when it shall get nothing})"""
    found = {}
    for (kind, name), service in state.items():
        if kind != "service" or "split" not in service["options"]:
            continue
        label, shares = service["options"]["split"]["label"], service["options"]["split"]["shares"]
        versions = {(b["host"], b["port"]): None for b, _ in agent_backends(state, name).values()}  # they have no labels
        for backend, options in service["backends"].items():
            version = options.get("labels", {}).get(label)
            usable = options["weight"] and backend not in service["drains"] and shares.get(version)
            versions[(options["host"], options["port"])] = version if usable else None
        found[place(service["options"])] = (service["options"]["method"], shares, versions)
    return found


def split_wrong(split, weights):
    """Of the kernel's weights ({dest: weight}) only what is promised is looked at. A sentence, or None."""
    scheduler, shares, versions = split
    sums = {}
    for dest, version in versions.items():
        if (weights[dest] > 0) != (version is not None):
            return f"{dest} of version {version} has weight {weights[dest]}"
        if version is not None:
            sums[version] = sums.get(version, 0) + weights[dest]
    if scheduler not in ("sh", "mh") and len({fractions.Fraction(total, shares[version]) for version, total in sums.items()}) > 1:
        return f"the sums {sums} are not as the shares {shares}"
    return None


def kernel_differs(state, want, have, whose=None):
    """Two tables in the form of kernel.parse_table, want being kernel_table(state) and more: sentences."""
    want, wrong = dict(want), []
    for where, split in splits(state).items():
        dests = have[where]["dests"] if where in have else {}
        if dests.keys() == split[2].keys():
            weights = {dest: weight for dest, (_, weight) in dests.items()}
            why = split_wrong(split, weights)
            wrong += [f"  split of {where}: {why}"] if why else []
            want[where] = {**want[where], "dests": {dest: (forward, weights[dest]) for dest, (forward, _) in want[where]["dests"].items()}}
    differ = [w for w in sorted(want.keys() | have.keys(), key=str) if want.get(w) != have.get(w)]
    return [f"  {w}{f' ({whose[w]})' if whose else ''}: {have.get(w)}, should be {want.get(w)}" for w in differ] + wrong


def vips(state):
    return {s["options"]["host"] for k, s in state.items() if k[0] == "service" and "host" in s["options"]}


# ---------------------------------------------------------------- what follows for the API


def same(want, got):
    """got has all that want has; fields that the model does not know are not looked at."""
    if isinstance(want, dict):
        return isinstance(got, dict) and all(k in got and same(v, got[k]) for k, v in want.items())
    return want == got and isinstance(want, bool) == isinstance(got, bool)


def same_options(want, got):
    if not same({k: v for k, v in want.items() if k != "flags"}, got) or any(want.get(k) != got.get(k) for k in OPTIONAL):
        return False
    # a field without a default is printed only when it is set, and flags by the names of the scheduler
    return _flag_set(got) == _flag_set(want)


def stored(kind, row, service):
    """The options that a row of the store stands for: what was given, over the defaults."""
    if kind == "service":
        defaults = {**SERVICE_DEFAULTS, **({"family": "ipv4"} if "fwmark" in row else {"protocol": "tcp"})}
    else:
        defaults = {**BACKEND_DEFAULTS, "port": _port(service)}
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
    draining = {k for k, shown in got["backends"].items() if "drain" in shown}
    if draining != set(want["drains"]) or got.get("leaving", False) != want["leaving"]:
        return f"service {name}: drains {sorted(draining)}, leaving {got.get('leaving')}, should be {want['drains']}, {want['leaving']}"
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
    return got["origin"] == want["origin"] and ("drain" in got) == want["draining"]
