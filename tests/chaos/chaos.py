#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random requests, edits by other hands, kills and faults; afterwards model, API, store and kernel must agree.

Run through scripts/chaos. On a failure the operations are in a trace file, one JSON object a line; --replay runs it
again, --shrink looks for the smallest part of it that still fails. Each run has a network namespace and a store of its own.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import explain
import kernel
import model
import operations
from faults import Faults
from wire import CONNECTIONS, Director, Failure, fresh_namespace

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.environ.get("BRASS_BUILD", os.path.join(ROOT, "build", "debug"))
RESYNC_S = 1
LOOK_EVERY = 250  # operations between two looks at API and store alone, which cost little
AGREE_S = 3 * RESYNC_S + 2  # one resync may be under way, one may fail
STORE_KINDS = {"service": 0, "backend": 1, "agent": 2, "owned_service": 3, "owned_address": 4, "drain": 6, "leaving": 7}  # director/store.h
DRAIN_AT_LEAST_S = 0.9  # the director waits 1 s
DRAIN_AT_MOST_S = 20  # without connections
DRAINS_AT_ONCE = 4  # that may have ended while a wave was under way: more make a search long


def read_store(path, directory):
    """{kind: {(owner, name): text}} from a copy: the director holds a lock on its own. Nothing may be writing."""
    copy = os.path.join(directory, "copy.db")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy + suffix)
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path + suffix, copy + suffix)
    with contextlib.closing(sqlite3.connect(copy)) as db:
        rows = {kind: {} for kind in STORE_KINDS}
        names = {number: kind for kind, number in STORE_KINDS.items()}
        for number, owner, name, text in db.execute("SELECT kind, owner, name, text FROM item"):
            if number in names:
                rows[names[number]][(owner, name)] = text
    return rows


def store_differs(state, rows):
    """A sentence, or None. The lists of what is ours may be longer than what is wanted: rows go with a later commit."""
    services = {("", k[1]): v["options"] for k, v in state.items() if k[0] == "service"}
    backends = {(k[1], name): options for k, v in state.items() if k[0] == "service" for name, options in v["backends"].items()}
    for kind, want in (("service", services), ("backend", backends)):
        if set(want) != set(rows[kind]):
            return f"{kind} rows {sorted(set(rows[kind]) ^ set(want))} are in one of store and model only"
        for key, options in want.items():
            service = None if kind == "service" else services[("", key[0])]
            if not model.same_options(options, model.stored(kind, json.loads(rows[kind][key]), service)):
                return f"{kind} row {key} is {rows[kind][key]}, should be {options}"
    leaving = {("", k[1]) for k, v in state.items() if k[0] == "service" and v["leaving"]}
    for kind, want in (("drain", model.drains(state)), ("leaving", leaving)):
        if set(rows[kind]) != want:
            return f"{kind} rows {sorted(rows[kind])}, should be {sorted(want)}"
    agents = {("", k[1]) for k in state if k[0] == "agent"}
    if set(rows["agent"]) != agents:
        return f"agent rows {sorted(rows['agent'])}, should be {sorted(agents)}"
    vips = {("", vip) for vip in model.vips(state)}
    if vips - set(rows["owned_address"]):
        return f"addresses that are ours: {sorted(rows['owned_address'])}, should be {sorted(vips)}"
    if len(rows["owned_service"]) < len(services):
        return f"places that are ours: {sorted(rows['owned_service'])}, for services {sorted(services)}"
    return None


class Run:
    """One director and its world, and the operations that it went through."""

    def __init__(self, directory, options):
        self.options = options
        self.directory = directory
        self.faults = Faults(os.path.join(directory, "faults"), os.path.join(BUILD, "tools", "lab-faults.so"))
        self.director = Director(os.path.join(BUILD, "director", "brass-director"), directory, self.faults, resync=f"{RESYNC_S}s")
        self.hands = kernel.Hands()
        self.state = {}
        self.foreign = {}  # place -> as in kernel.parse_table
        self.wild = set()  # foreign places of which nobody knows what became: a PUT that took them over failed
        self.avoid = set()  # places where the kernel may have something that is ours no longer: no hand goes there
        self.faulty = False  # a fault may have happened since the last check
        self.dirty = False  # the kernel may differ from the model until the next resync
        self.sent = 0.0  # when the last wave was
        self.drains = {}  # (service, backend) -> a time at which it had not begun to drain
        self.stats = {"operations": 0, "waves": 0, "checks": 0, "kills": 0, "5xx": 0, "5xx_but_done": 0, "unanswered": 0, "ambiguous": 0, "drains": 0, "moves": 0}
        self.checking, self.check_seconds = False, 0.0
        self.paths = {}  # optional endpoints: path -> exists

    def begin(self):
        self.director.start()
        for row in operations.OPERATIONS:
            for path in row[3:]:
                status, _ = self.director.get(path)
                self.paths[path] = status != 404

    def end(self):
        self.director.kill()
        self.hands.close()

    # ------------------------------------------------------------ requests

    def _unfaulted(self, path):
        """A GET that no fault meets."""
        orders = self.faults.orders()
        self.faults.off()
        try:
            return self.director.get(path)
        finally:
            self.faults.set(**orders)

    def _possible(self, request):
        return self.paths.get("/" + request["path"].split("/")[1].partition("?")[0], True)

    def wave(self, requests, kill=None):
        """Sends them together, and kills the director meanwhile."""
        requests = [r for r in requests if self._possible(r)]
        at_once = DRAINS_AT_ONCE if all(model.touched(self.state, r) for r in requests) else 0
        if len(self._ends(self.drains)) > at_once:
            self._await_drains(at_once)
        self.sent = time.monotonic()
        self.director.send(requests)
        if kill:
            if kill["delay_us"]:
                time.sleep(kill["delay_us"] / 1e6)
            self.director.signal(kill["signal"])
        answers = self.director.receive(len(requests))
        self.stats["waves"] += 1
        if kill:
            self._restart(kill)
        wave = [explain.Asked(r, *answer) for r, answer in zip(requests, answers)]
        if not kill and any(a.status is None for a in wave):
            code = self.director.process.poll()
            raise Failure(f"a connection was lost without a kill; exit code {code}:\n" + "\n".join(f"  {a}" for a in wave))
        self.stats["unanswered"] += sum(a.status is None for a in wave)
        self.stats["5xx"] += sum(a.status is not None and a.status >= 500 for a in wave)
        self.stats["moves"] += sum(a.status == 200 and "move=1" in a.request["path"] for a in wave)
        before = self.state
        self._resolve(wave)
        self._places(before, wave, kill)

    def _ends(self, drains):
        """Those of the drains that may have ended by now, as requests that nobody sent and nobody answered."""
        now = time.monotonic()
        old = (d for d in sorted(drains) if now - self.drains.get(d, self.sent) > DRAIN_AT_LEAST_S)
        return [explain.Asked(model.end_request(*d), None, b"") for d in old]

    def _resolve(self, wave):
        """Finds the state after a wave by its answers and, where they leave a doubt, by asking. The end of a drain that
        the wave has nothing to do with can be found later."""
        keys = [model.touched(self.state, a.request) for a in wave]
        about = set().union(*keys) if keys and None not in keys else None
        drains, state = set(self.drains), self.state
        while True:
            possible, doubt = self._ends(drains), None
            ends = [e for e in possible if about is None or about & model.touched(self.state, e.request)]
            try:
                candidates = explain.explain(self.state, wave + ends, self.faulty, self.options.strict)
                drains |= set().union(*map(model.drains, candidates))
                state = self._choose(candidates) if len(candidates) > 1 else candidates[0]
            except (explain.Unexplained, Failure) as error:
                doubt = error
            if len(self._ends(drains)) > len(possible):
                continue  # meanwhile another one may have ended
            if doubt:
                raise Failure(str(doubt)) from None
            if self.faulty:
                self.avoid |= model.leaving(self.state) - model.leaving(state)
            self.state, left = state, model.drains(state)
            self.stats["drains"] += len(left - self.drains.keys())
            self.drains = {d: self.drains.get(d, self.sent) for d in left}
            return

    def _await_drains(self, most=0):
        """Until no more than so many drain."""
        deadline = time.monotonic() + DRAIN_AT_MOST_S
        orders = self.faults.orders()
        self.faults.off()
        self._resolve([])
        while len(self.drains) > most:
            if time.monotonic() > deadline:
                raise Failure(f"drains without connections do not end for {DRAIN_AT_MOST_S} s: {sorted(self.drains)}")
            time.sleep(0.02)
            self._resolve([])
        self.faults.set(**orders)

    def _choose(self, candidates):
        """Which of the states it is, by asking for what they differ in."""
        self.stats["ambiguous"] += 1

        def ask(key):
            status, shown = self._unfaulted(f"/{key[0]}/{key[1]}?expand=1")
            if status not in (200, 404):
                raise Failure(f"GET /{key[0]}/{key[1]}: {status} {shown}")
            return shown if status == 200 else None

        return explain.choose(candidates, ask)

    def _places(self, before, wave, kill):
        """What the requests mean for those who are not ours."""
        ours = {model.place(s["options"]) for k, s in self.state.items() if k[0] == "service"}
        if self.state is not before:
            for where in ours & self.foreign.keys():
                del self.foreign[where]  # taken over
            if not self.faulty:
                self.avoid -= ours
            self.wild -= ours
        for asked in wave:
            if asked.status == 200:
                # what was made and deleted again within the wave was taken over, unless both were one turn's
                for where in set(model.places_of(asked.request)) & self.foreign.keys() - ours:
                    del self.foreign[where]
                    self.wild.add(where)
                    self.avoid.add(where)
            failed = asked.status is None or asked.status >= 500
            if not failed:
                continue
            if asked.status is not None:
                after = model.predict(before, asked.request)[1]
                if after is not before and model.predict(self.state, asked.request)[1] is self.state and asked.request["verb"] == "DELETE":
                    self.stats["5xx_but_done"] += 1
            keys = model.touched(before, asked.request)
            places = {k[1] for k in keys if k[0] == "place"} if keys is not None else set(self.foreign) | set(model.kernel_table(before))
            self.avoid |= places
            for where in places & self.foreign.keys():
                del self.foreign[where]
                self.wild.add(where)

    # ------------------------------------------------------------ ends

    def _restart(self, kill):
        orders = self.faults.orders()
        self.faults.off()
        code = self.director.wait()
        expected = 0 if kill["signal"] == signal.SIGTERM else -kill["signal"]
        if code != expected:
            raise Failure(f"exit code {code} after signal {kill['signal']}, should be {expected}")
        self.director.disconnect()
        self.director.start()
        self.faults.set(**orders)
        self.stats["kills"] += 1

    # ------------------------------------------------------------ other hands, faults

    def hand(self, edit):
        where = tuple(edit["place"])
        if where in self.avoid or where in model.leaving(self.state):
            return
        dest = tuple(edit["dest"]) if "dest" in edit else None
        error = self.hands.edit(edit["command"], where, edit.get("scheduler"), dest, edit.get("forward"), edit.get("weight", 0))
        self.dirty = True
        if error or any(k[0] == "service" and model.place(s["options"]) == where for k, s in self.state.items()):
            return
        service = self.foreign.get(where)
        if edit["command"] == "add_service":
            self.foreign[where] = {"scheduler": edit["scheduler"], "persistent": 0, "ops": False, "flags": set(), "dests": {}}
        elif service is None:
            raise Failure(f"the kernel had something at {where}, where nothing should be: {edit} was taken")
        elif edit["command"] == "edit_service":
            service["scheduler"] = edit["scheduler"]
        elif edit["command"] == "delete_service":
            del self.foreign[where]
        elif edit["command"] == "delete_dest":
            del service["dests"][dest]
        else:
            service["dests"][dest] = (edit["forward"], edit["weight"])

    def fault(self, order):
        if order.get("off"):
            self.faults.off()
            return
        self.faulty = self.dirty = True
        self.faults.set(**{k: v for k, v in order.items() if k != "op"})

    def wait(self, order):
        """In traces only: for what the director does by itself."""
        time.sleep(order["seconds"])

    # ------------------------------------------------------------ the check

    def _expire(self):
        """Agents with a short lease are silent for longer than that when the check is done."""
        for key, report in list(self.state.items()):
            if key[0] == "agent" and report["ttl"] == "1s" and not report.get("lost"):
                self.state = {**self.state, key: {**report, "lost": True}}
                self.dirty = True

    def _kernel_differs(self):
        want, have = {**self.foreign, **model.kernel_table(self.state)}, kernel.table()
        for where in self.wild:
            have.pop(where, None)
        ours = model.kernel_table(self.state)
        whose = {where: "ours" if where in ours else "foreign" if where in self.foreign else "nobody's" for where in want.keys() | have.keys()}
        lines = model.kernel_differs(self.state, want, have, whose)
        vips, there = model.vips(self.state), kernel.addresses("brass0")
        if vips != there:
            lines.append(f"  VIPs {sorted(there)}, should be {sorted(vips)}")
        return "\n".join(lines)

    def _look(self):
        """Model, API and store must agree at any time between two waves; while something drains, soon."""
        orders = self.faults.orders()
        self.faults.off()
        deadline = time.monotonic() + DRAIN_AT_MOST_S
        while True:
            self._resolve([])
            differs = explain.api_differs(self.state, self.director)
            differs = f"API and model differ:\n{differs}" if differs else self._store_differs()
            if not differs:
                break
            if not self.drains or time.monotonic() > deadline:
                raise Failure(differs)
            time.sleep(0.02)
        self.faults.set(**orders)

    def _store_differs(self):
        try:
            differs = store_differs(self.state, read_store(self.director.store, self.directory))
        except sqlite3.DatabaseError as error:
            differs = str(error)  # a drain ended while it was copied
        return f"store and model differ: {differs}" if differs else ""

    def _agree(self, begin):
        while True:
            self._resolve([])
            differs = self._kernel_differs()
            if not differs:
                break
            moving = self.dirty or self.drains
            if time.monotonic() >= begin + (self.options.agree if moving else 0):
                after = f"for {self.options.agree:g} s, with a resync every {RESYNC_S} s" if moving else "although nothing disturbed it"
                raise Failure(f"kernel and model differ {after}:\n{differs}")
            time.sleep(0.05)

    def check(self):
        """Model, API, store and kernel must agree, the kernel after a resync if something may have disturbed it; once
        with what drains now, and once when all that has ended."""
        begin = time.monotonic()
        self.checking = True
        self.faults.off()
        self._look()
        self._expire()
        self._agree(begin)
        if self.drains:
            self._await_drains()
            self._agree(time.monotonic())
        for where in self.wild:
            self.hands.edit("delete_service", where)
        self.wild.clear()
        self.faulty = self.dirty = False
        self.checking = False
        self.stats["checks"] += 1
        self.check_seconds += time.monotonic() - begin

    # ------------------------------------------------------------ the whole

    def run(self, sequence, keep=None):
        """sequence: operations; those done are appended to keep."""
        requests, done = [], 0
        self.begin()

        def flush(kill=None):
            if requests or kill:
                self.wave(requests, kill)
            requests.clear()

        for operation in sequence:
            if keep is not None:
                keep.append(operation)
            self.stats["operations"] += 1
            done += 1
            if operation["op"] == "request":
                together = requests and operation.get("wave", -1) == requests[0].get("wave")
                if not together or len(requests) == CONNECTIONS:
                    flush()
                requests.append(operation)
            elif operation["op"] == "kill":
                flush(operation)
            else:
                flush()
                getattr(self, operation["op"])(operation)
            if done % LOOK_EVERY == 0 and done < self.options.check_every:
                flush()
                self.checking = True
                self._look()
                self.checking = False
            if done >= self.options.check_every:
                flush()
                self.check()
                done = 0
        flush()
        if self.options.last_check:
            self.check()


# ---------------------------------------------------------------- one run in a child, so that nothing is left of it


def _child(pipe, sequence, options):
    directory = tempfile.mkdtemp(prefix="chaos-")
    kept, run, why = [], None, None
    begin = time.monotonic()
    try:
        fresh_namespace()
        run = Run(directory, options)
        run.run(sequence() if callable(sequence) else sequence, kept)
    except Failure as failure:
        why = str(failure)
    except Exception:
        why = "the test itself: " + traceback.format_exc()
    finally:
        result = {"why": why, "trace": kept if why else None, "seconds": time.monotonic() - begin}
        if run:
            run.end()
            result |= {"stats": {**run.stats, **run.faults.counts()}, "check_seconds": run.check_seconds, "in_check": run.checking}
            result["log"] = run.director.log() if why and os.path.exists(run.director.log_path) else ""
        pipe.send(result)
        shutil.rmtree(directory, ignore_errors=True)


def attempt(sequence, options):
    """Runs a sequence (or a function that yields one) in a fresh world: {"why": None or what failed, ...}."""
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(there, sequence, options))
    child.start()
    there.close()
    try:
        result = here.recv()
    except EOFError:
        result = {"why": "the test itself died", "trace": [], "seconds": 0}
    child.join()
    return result


# ---------------------------------------------------------------- traces


def write_trace(path, head, sequence):
    with open(path, "w") as f:
        for row in [head, *sequence]:
            f.write(json.dumps(row, separators=(",", ":")) + "\n")


def read_trace(path):
    with open(path) as f:
        rows = [json.loads(line) for line in f if line.strip()]
    return [row for row in rows if row["op"] != "head"]


def report(result, title):
    print(f"{title}: FAILED after {len(result['trace'])} operations: {result['why']}")
    if result.get("log"):
        print("the director's last words:\n" + "".join(f"  {line}\n" for line in result["log"].splitlines()[-15:]), end="")


def kind_of(why):
    """Two failures are the same when their first lines begin alike."""
    return why.splitlines()[0][:28] + ("VIPs" if "\n  VIPs" in why and why.count("\n") == 1 else "")


def _names(operation):
    """What an operation is about, for leaving out all that is about one thing."""
    yield operation["op"]
    if operation["op"] == "request":
        segments = operation["path"].strip("/").split("/")
        yield operation["verb"]
        yield "/".join(segments[:2])
        yield "/".join(segments)
        yield operation["verb"], len(segments), segments[0]
    elif operation["op"] == "hand":
        yield operation["command"]
        yield str(operation["place"])


def _chunks(sequence):
    """Sets of positions to leave out: the front, all that is about one thing, halves, quarters, ..., single ones."""
    count = len(sequence)
    for part in (2, 4, 8):
        yield range(count - count // part)
    about = {}
    for at, operation in enumerate(sequence):
        for name in _names(operation):
            about.setdefault(name, []).append(at)
    yield from sorted(about.values(), key=len, reverse=True)
    size = count // 2
    while size:
        # from the end: what is left there is what matters, and a failure there ends a trial late
        yield from (range(max(0, at - size), at) for at in range(count - 1, 0, -size))
        size //= 2


def shrink(sequence, options):
    """Leaves out more and more, as long as what is left still fails in the same way."""
    first = next((r for r in (attempt(sequence, options) for _ in range(3)) if r["why"]), None)
    if not first:
        print("the trace does not fail when it is run again")
        return None
    kind, best, deadline = kind_of(first["why"]), first, time.monotonic() + options.shrink_time
    # a check at the end takes seconds; it is for failures that only a check finds
    options.last_check, options.agree = first["in_check"], 2 * RESYNC_S + 0.5
    sequence, trials, smaller = first["trace"], 0, True
    while smaller and time.monotonic() < deadline:
        smaller = False
        for leave_out in _chunks(sequence):
            if time.monotonic() > deadline:
                break
            positions = set(leave_out)
            if smaller and max(positions, default=0) >= len(sequence):
                break  # made for a longer sequence
            candidate = [o for at, o in enumerate(sequence) if at not in positions]
            if not candidate or not positions:
                continue
            trials += 1
            results = (attempt(candidate, options) for _ in range(options.tries))
            result = next((r for r in results if r["why"] and kind_of(r["why"]) == kind), None)
            if result:
                sequence, best, smaller = result["trace"], result, True
                print(f"  {len(sequence)} operations left", file=sys.stderr, flush=True)
                if len(positions) > 1:
                    break  # all chunks anew
    print(f"{len(sequence)} operations left after {trials} trials:")
    for operation in sequence:
        print("  " + json.dumps(operation))
    report(best, "shrunk")
    return sequence


# ---------------------------------------------------------------- the command


def arguments():
    p = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--operations", type=int, default=100_000, metavar="N", help="of each seed (default 100000)")
    p.add_argument("--seeds", default="", metavar="N,N", help="default: one by chance, printed")
    p.add_argument("--check-every", type=int, default=4000, metavar="N", help="operations between two checks (default 4000)")
    p.add_argument("--without", default="", metavar="NAME,NAME", help="operations to leave out; their names are in tests/chaos/operations.py")
    p.add_argument("--traces", default=".", metavar="DIR", help="where traces of failures go")
    p.add_argument("--replay", metavar="TRACE", help="run a trace again")
    p.add_argument("--shrink", metavar="TRACE", help="find the smallest part of a trace that fails in the same way")
    p.add_argument("--shrink-time", type=float, default=600, metavar="SEC", help="limit of --shrink (default 600)")
    p.add_argument("--tries", type=int, default=1, metavar="N", help="of each part while shrinking, for failures that depend on time")
    p.add_argument("--strict", action="store_true", help="an answer of 5xx must mean that nothing has changed")
    p.add_argument("--dump", action="store_true", help="print the operations of the seeds and run nothing")
    options = p.parse_args()
    options.last_check, options.agree = True, AGREE_S
    names = {row[0] for row in operations.OPERATIONS}
    options.without = set(filter(None, options.without.split(",")))
    if options.without - names:
        p.error(f"--without: there is no operation {', '.join(sorted(options.without - names))}; there are {', '.join(sorted(names))}")
    options.seeds = [int(s) for s in options.seeds.split(",") if s] or [random.randrange(2**31)]
    return options


def main():
    options = arguments()
    if options.shrink:
        small = shrink(read_trace(options.shrink), options)
        if small:
            path = options.shrink + ".min"
            write_trace(path, {"op": "head", "from": os.path.basename(options.shrink)}, small)
            print(f"written to {path}")
        return 0 if small else 1
    if options.replay:
        result = attempt(read_trace(options.replay), options)
        if result["why"]:
            report(result, options.replay)
        else:
            print(f"{options.replay}: fine; " + ", ".join(f"{v} {k}" for k, v in result["stats"].items()))
        return 1 if result["why"] else 0
    failed = 0
    for seed in options.seeds:

        def sequence(seed=seed):
            return operations.generate(random.Random(seed), options.operations, options.without)

        if options.dump:
            for operation in sequence():
                print(json.dumps(operation))
            continue
        print(f"seed {seed}: {options.operations:,} operations", flush=True)
        result = attempt(sequence, options)
        if result["why"]:
            path = os.path.join(options.traces, f"chaos-{seed}.jsonl")
            write_trace(path, {"op": "head", "seed": seed, "why": result["why"]}, result["trace"])
            report(result, f"seed {seed}")
            print(f"the trace is in {path}: scripts/chaos --shrink {path}")
            failed += 1
        if result.get("stats"):
            s, seconds = result["stats"], result["seconds"]
            print(f"seed {seed}: {s['operations'] / max(seconds, 1e-9):,.0f} operations a second ({seconds:.1f} s, {result['check_seconds']:.1f} s of it in checks); "
                  + ", ".join(f"{v} {k}" for k, v in s.items()), flush=True)  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
