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
        if status != self.status:
            return False
        if status != 200 or shown is None:
            return True
        if self.shown is None:
            self.shown = json.loads(self.body)
        return model.shown_as(shown, self.shown)

    def __str__(self):
        text = f"{self.request['verb']} {self.request['path']} {json.dumps(self.request.get('body', ''))}"
        return f"{text} -> {self.status or 'no answer'} {self.body[:300].decode(errors='replace')}"


def outcomes(state, asked, faulty):
    """The states that this request may leave, when it is the next one; none: it cannot be the next one."""
    status, after, shown = model.predict(state, asked.request)
    if asked.status is None or (faulty and asked.status >= 500):
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
            return [wave]
        joined, together = set(keys), []
        for other in [g for g in found if g[0] & joined]:
            found.remove(other)
            joined |= other[0]
            together += other[1]
        found.append((joined, together + [asked]))
    return [sorted(g[1], key=wave.index) for g in found]


def _fingerprint(state, base):
    """What differs from base."""
    changed = [(k, v) for k, v in state.items() if base.get(k) is not v]
    return repr(sorted((k, json.dumps(v, sort_keys=True)) for k, v in changed if v != base.get(k))) + repr(sorted(k for k in base if k not in state))


def _orders(state, wave, faulty):
    """All states that some order of the wave leaves."""
    ends, seen, steps = {}, set(), 0
    stack = [(state, tuple(range(len(wave))))]
    while stack:
        now, left = stack.pop()
        steps += 1
        if steps > LIMIT:
            raise Unexplained("the search for an order takes too long")
        print_of = _fingerprint(now, state)
        if (left, print_of) in seen:
            continue
        seen.add((left, print_of))
        if not left:
            ends[print_of] = now
            continue
        for i in reversed(left):
            for after in outcomes(now, wave[i], faulty):
                stack.append((after, tuple(j for j in left if j != i)))
    return list(ends.values())


def explain(state, wave, faulty=False):
    """The states that the wave may have left, at least one; Unexplained if there is none."""
    candidates = [state]
    for group in groups(state, wave):
        if len(group) == 1:
            reached = [outcomes(c, group[0], faulty) for c in candidates]
        else:
            reached = [_orders(c, group, faulty) for c in candidates]
        candidates = [s for states in reached for s in states]
        if not candidates:
            raise Unexplained("no order of these requests explains their answers:\n" + "\n".join(f"  {a}, alone expected: {model.predict(state, a.request)[0]}" for a in group))
        if len(candidates) > 1:
            candidates = list({_fingerprint(c, state): c for c in candidates}.values())
    return candidates


def differing(candidates):
    """The services and agents by which the candidates differ."""
    first = candidates[0]
    keys = set().union(*candidates)
    return {k for k in keys for c in candidates[1:] if c.get(k) != first.get(k)}
