# SPDX-License-Identifier: Apache-2.0
"""Requests that were under way together, and their answers: which order explains them, and what is the state then?

A request without an answer (the director was killed) may have been carried out or not; one that was answered 5xx
(a fault was injected) too; all others must be what the model says, in some order.
"""

import json

import model

LIMIT = 200_000  # steps of one search


class Unexplained(Exception):
    pass


class Asked:
    """One request and what came back."""

    __slots__ = ("request", "status", "body", "shown")

    def __init__(self, request, status, body):
        self.request, self.status, self.body = request, status, body
        self.shown = None

    def fits(self, status, shown):
        if self.request["path"].startswith("/config") and 400 <= status < 500:
            return 400 <= self.status < 500  # of several faults in a document the first one found decides
        if status != self.status:
            return False
        if status != 200 or shown is None:
            return True
        if self.shown is None:
            self.shown = json.loads(self.body)
        return model.shown_as(shown, self.shown)

    def is_sure(self, faulty):
        return self.status is not None and not (faulty and self.status >= 500)

    def is_idle(self, faulty):
        return self.is_sure(faulty) and (self.request["verb"] == "GET" or self.status >= 400)

    def __str__(self):
        text = f"{self.request['verb']} {self.request['path']} {json.dumps(self.request.get('body', ''))}"
        return f"{text} -> {self.status or 'no answer'} {self.body[:300].decode(errors='replace')}"


def outcomes(state, asked, faulty, strict=False):
    """The states that this request may leave, when it is the next one; none: it cannot be the next one."""
    status, after, shown = model.predict(state, asked.request)
    if strict and faulty and asked.status is not None and asked.status >= 500:
        return [state]
    if not asked.is_sure(faulty):
        return [state] if after is state else [after, state]
    if asked.fits(status, shown):
        return [after]
    return []


def groups(state, wave):
    """Those that share an object must be ordered; others are independent of them."""
    found = []  # (keys, [asked])
    for asked in wave:
        keys = model.touched(state, asked.request)
        if keys is None:
            return [(None, wave)]
        joined, together = set(keys), []
        for other in [g for g in found if g[0] & joined]:
            found.remove(other)
            joined |= other[0]
            together += other[1]
        found.append((joined, together + [asked]))
    return [(sorted(g[0], key=str), sorted(g[1], key=wave.index)) for g in found]


def _fingerprint(state, base, keys):
    """What differs from base among these keys."""
    changed = ((k, state.get(k)) for k in keys if state.get(k) is not base.get(k))
    return tuple((k, repr(v)) for k, v in changed if v != base.get(k))


def _orders(state, wave, keys, faulty, strict):
    """All states that some order of the wave leaves."""
    ends, seen, steps = {}, set(), 0
    stack = [(state, tuple(range(len(wave))))]
    while stack:
        now, left = stack.pop()
        steps += 1
        if steps > LIMIT:
            raise Unexplained("the search for an order takes too long")
        print_of = _fingerprint(now, state, keys)
        if (left, print_of) in seen:
            continue
        seen.add((left, print_of))
        if not left:
            ends[print_of] = now
            continue
        reached = {}
        for i in reversed(left):
            reached[i] = outcomes(now, wave[i], faulty, strict)
            if reached[i] and wave[i].is_idle(faulty):
                reached = {i: reached[i]}  # it fits here, and changes nothing wherever it comes
                break
        for i, states in reached.items():
            stack += [(after, tuple(j for j in left if j != i)) for after in states]
    return list(ends.values())


def _all_keys(state, wave):
    """Of a wave with a request that touches everything: what is there, and what the others may make."""
    keys = set(state)
    for asked in wave:
        body = asked.request.get("body")
        if isinstance(body, dict) and isinstance(body.get("services"), dict):
            keys |= {("service", name) for name in body["services"]}
        keys |= model.touched(state, asked.request) or set()
    return keys


def explain(state, wave, faulty=False, strict=False):
    """The states that the wave may have left, at least one; Unexplained if there is none."""
    candidates = [state]
    for keys, group in groups(state, wave):
        if len(group) == 1:
            reached = [outcomes(c, group[0], faulty, strict) for c in candidates]
        else:
            reached = [_orders(c, group, keys or sorted(_all_keys(c, group), key=str), faulty, strict) for c in candidates]
        candidates = [s for states in reached for s in states]
        if not candidates:
            raise Unexplained("no order of these requests explains their answers:\n" + "\n".join(f"  {a}, alone expected: {model.predict(state, a.request)[0]}" for a in group))
        if len(candidates) > 1:
            keys = sorted(set(state).union(*candidates), key=str)
            candidates = list({_fingerprint(c, state, keys): c for c in candidates}.values())
    return candidates


def choose(candidates, ask):
    """Which of these states it is; ask(("service" or "agent", name)) is what a GET shows, or None for 404."""
    first = candidates[0]
    keys = {k for k in set().union(*candidates) for c in candidates[1:] if c.get(k) != first.get(k)}
    found = {key: ask(key) for key in keys}
    why = set()
    for candidate in candidates:
        differs = next(filter(None, (model.object_differs(candidate, key, shown) for key, shown in found.items())), None)
        if not differs:
            return candidate
        why.add(differs)
    raise Unexplained("neither wholly done nor wholly undone:\n" + "\n".join(sorted(f"  {w}" for w in why)))


def api_differs(state, director):
    """All that the API shows, against the state: sentences, or ""."""
    found = {}
    for kind, path in (("service", "/service?expand=1"), ("agent", "/agent")):
        status, shown = director.get(path)
        if status != 200:
            return f"  GET {path}: {status} {shown}"
        found |= {(kind, name): value for name, value in shown.items()}
    keys = sorted(found.keys() | state.keys())
    return "\n".join(f"  {d}" for d in (model.object_differs(state, k, found.get(k)) for k in keys) if d)
