#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kills the director at random moments and looks whether its store kept what it had acknowledged.

Each round: requests over several connections, kill -9 in the middle of the last of them (sometimes during the start, or
during a clean stop), start again, compare. Acknowledged changes are there, those under way wholly or not at all, and
nothing else is; the kernel has the same. In some rounds a copy of the store is damaged first as a loss of power would
leave it: what the write-ahead log has after the last acknowledged commit (from there on nobody asked the disk to be done) is
cut off or overwritten; a director must start on that copy and show the same.

Run through scripts/chaos kill.
"""

import argparse
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import explain
import kernel
import model
import operations
from chaos import BUILD, read_store, store_differs
from wire import Director, Failure, fresh_namespace

WAVES_MAX = 12  # of a round; eight requests each
# nor what drains: its end comes when it comes, and chaos.py, which kills as well, searches for it
WITHOUT = {"drain_backend", "drain_service", "stay_backend", "stay_service", "move_backend", "move_service", "delete_old",
           "get_service", "get_backend", "list_services", "agent_report", "agent_leaves", "unknown_scheduler", "hand_service", "hand_dest", "fault_once",
           "fault_storm", "fault_off", "kill", "stop", "config"}  # fmt: skip


def log_end(path):
    """(salts, offset after the last commit) of a write-ahead log; (None, 0) when there is none.

    The format: https://www.sqlite.org/fileformat2.html#walformat. A log that begins anew leaves old frames behind,
    whose salts are others."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except FileNotFoundError:
        return None, 0
    if len(data) < 32:
        return None, 0
    page = struct.unpack_from(">I", data, 8)[0]
    salts, end = data[16:24], 32
    for at in range(32, len(data) - 23 - page, 24 + page):
        if data[at + 8 : at + 16] != salts:
            break
        if data[at + 4 : at + 8] != bytes(4):
            end = at + 24 + page
    return salts, end


def damage(r, path, start):
    """Overwrites or cuts off something from start on. Returns what it did."""
    size = os.path.getsize(path)
    start = min(start, size)
    kind = r.choice(("truncate", "garble", "zero", "flip", "append"))
    at = r.randint(start, size)
    with open(path, "r+b") as f:
        if kind == "truncate":
            f.truncate(at)
        elif kind == "append" or at == size:
            f.seek(size)
            f.write(r.randbytes(r.randint(1, 10000)))
        elif kind == "flip":
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1 << r.randrange(8)]))
        else:
            f.seek(at)
            length = min(size - at, r.choice((1, 24, 512, 4096, 100000)))
            f.write(r.randbytes(length) if kind == "garble" else bytes(length))
    return f"{kind} at {at} of {size}, from {start} on allowed"


class KillRun:
    def __init__(self, directory, seed, cut_every):
        self.r = random.Random(seed)
        self.cut_every = cut_every
        self.directory = directory
        binary = os.path.join(BUILD, "director", "brass-director")
        for name in ("store", "copy"):
            os.mkdir(os.path.join(directory, name))
        config = {"vip_device": "none", "resync": "1h", "log_level": "error"}
        self.director = Director(binary, os.path.join(directory, "store"), **config)
        self.on_copy = Director(binary, os.path.join(directory, "copy"), **config)
        self.state = {}
        self.counts = {"rounds": 0, "acknowledged": 0, "under_way": 0, "killed_in_start": 0, "killed_in_stop": 0, "cuts": 0, "logs_anew": 0}
        self._requests = self._endless()

    def _endless(self):
        while True:
            for operation in operations.generate(self.r, 4000, WITHOUT):
                yield operation

    def _wave(self):
        """Mostly requests that change something."""
        wave = []
        while len(wave) < 8:
            request = next(self._requests)
            if model.predict(self.state, request)[1] is not self.state or self.r.random() < 0.05:
                wave.append(request)
        return wave

    def _explain(self, wave):
        try:
            return explain.explain(self.state, wave)
        except explain.Unexplained as error:
            raise Failure(str(error)) from None

    def _settle(self, director, candidates, what):
        """Which of the states this director has, and it must have nothing else, in API, kernel and store."""
        status, services = director.get("/service?expand=1")
        if status != 200:
            raise Failure(f"{what}: GET /service?expand=1: {status}")
        try:
            state = candidates[0] if len(candidates) == 1 else explain.choose(candidates, lambda key: services.get(key[1]))
        except explain.Unexplained as error:
            raise Failure(f"{what}: {error}") from None
        differs = explain.api_differs(state, director)
        if differs:
            raise Failure(f"{what}: API and model differ:\n{differs}")
        lines = model.kernel_differs(state, model.kernel_table(state), kernel.table())
        if lines:
            raise Failure(f"{what}: kernel and model differ:\n" + "\n".join(lines))
        return state

    def _kill_in_start(self, director):
        director.launch()
        time.sleep(self.r.random() * 0.12)
        director.kill()
        self.counts["killed_in_start"] += 1

    def _cut(self, candidates, start):
        for suffix in ("", "-wal"):
            if os.path.exists(self.director.store + suffix):
                shutil.copyfile(self.director.store + suffix, self.on_copy.store + suffix)
        wal = self.on_copy.store + "-wal"
        if not os.path.exists(wal):
            return
        done = damage(self.r, wal, start)
        table = kernel.saved()
        kernel.restore("")  # a power cut takes the kernel's table along
        self.on_copy.start()
        self._settle(self.on_copy, candidates, f"the damaged copy ({done})")
        self.on_copy.kill()
        os.unlink(wal)
        kernel.restore(table)  # what the copy made is not what the director left
        self.counts["cuts"] += 1

    def begin(self):
        self.director.start()
        self._settle(self.director, [self.state], "an empty store")

    def round(self):
        """From a running director to the next one."""
        r = self.r
        for _ in range(r.randint(0, WAVES_MAX)):
            self._answered_wave()
        # all is answered: what the log has now was promised
        salts, end = log_end(self.director.store + "-wal")
        candidates, answered = self._killed_wave()
        if self.cut_every and self.counts["rounds"] % self.cut_every == 0:
            salts_now, end_now = log_end(self.director.store + "-wal")
            anew = salts_now != salts
            self.counts["logs_anew"] += anew and salts is not None
            # answered meanwhile: where its commit ends nobody saw, so all commits count as promised. A log is begun
            # anew when the database itself has all that it held.
            self._cut(candidates, end_now if answered else 0 if anew else end)
        if r.random() < 0.15:
            self._kill_in_start(self.director)
        self.director.start()
        self.state = self._settle(self.director, candidates, "after kill -9")
        differs = store_differs_but_vips(self.state, read_store(self.director.store, self.directory))
        if differs:
            raise Failure(f"store and model differ: {differs}")
        self.counts["rounds"] += 1

    def _answered_wave(self):
        requests = self._wave()
        self.director.send(requests)
        wave = [explain.Asked(q, *answer) for q, answer in zip(requests, self.director.receive(8))]
        candidates = self._explain(wave)
        self.counts["acknowledged"] += sum(a.status == 200 for a in wave)
        self.state = candidates[0]
        if len(candidates) > 1:
            _, services = self.director.get("/service?expand=1")
            self.state = explain.choose(candidates, lambda key: services.get(key[1]))

    def _killed_wave(self):
        """The states that there may be now, and whether anybody was answered: a refusal, too, is on the disk by then."""
        r, requests = self.r, self._wave()
        self.director.send(requests)
        time.sleep(r.choice((0, 0.001, 0.003, 0.01, 0.03)) * r.random())
        if r.random() < 0.1:
            self.director.signal(signal.SIGTERM)
            time.sleep(r.random() * 0.01)
            self.counts["killed_in_stop"] += 1
        self.director.signal(signal.SIGKILL)
        answers = self.director.receive(8)
        self.director.kill()
        wave = [explain.Asked(q, *answer) for q, answer in zip(requests, answers)]
        self.counts["acknowledged"] += sum(a.status == 200 for a in wave)
        self.counts["under_way"] += sum(a.status is None for a in wave)
        return self._explain(wave), any(a.status is not None for a in wave)


def store_differs_but_vips(state, rows):
    """vip_device is none: addresses are listed all the same, or not; that is not looked at here."""
    return store_differs(state, {**rows, "owned_address": {("", vip): "" for vip in model.vips(state)}})


def main():
    p = argparse.ArgumentParser(prog="scripts/chaos kill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=1000, metavar="N")
    p.add_argument("--seed", type=int, default=random.randrange(2**31), help="default: one by chance, printed")
    p.add_argument("--cut-every", type=int, default=2, metavar="N", help="damage a copy every N rounds (default 2; 0: never)")
    p.add_argument("--directory", default=None, metavar="DIR", help="of a file system whose fsync is real; stores of failures stay there")
    options = p.parse_args()
    print(f"seed {options.seed}: {options.rounds} rounds", flush=True)
    fresh_namespace()
    directory = tempfile.mkdtemp(prefix="kill-store-", dir=options.directory)
    run = KillRun(directory, options.seed, options.cut_every)
    begin, code = time.monotonic(), 0
    try:
        run.begin()
        for _ in range(options.rounds):
            run.round()
    except Failure as failure:
        print(f"FAILED in round {run.counts['rounds']}: {failure}\nstores and logs are in {directory}\n{run.director.log(10)}{run.on_copy.log(10) if run.on_copy.starts else ''}")
        code = 1
    finally:
        run.director.kill()
        run.on_copy.kill()
        if not code:
            shutil.rmtree(directory, ignore_errors=True)
    seconds = time.monotonic() - begin
    print(f"{run.counts['rounds'] / seconds:.2f} rounds a second ({seconds:.0f} s); " + ", ".join(f"{v} {k}" for k, v in run.counts.items()))
    return code


if __name__ == "__main__":
    sys.exit(main())
