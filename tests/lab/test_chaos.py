# SPDX-License-Identifier: Apache-2.0
"""A short part of what scripts/chaos runs at length, with fixed seeds; and that its tools do what they say."""

import json
import os
import subprocess

import pytest
from topology import BUILD, ROOT

CHAOS = os.path.join(ROOT, "tests", "chaos")
TRACES = sorted(name.removesuffix(".jsonl") for name in os.listdir(os.path.join(CHAOS, "traces")))
FAULTS = ("fault_once", "fault_storm")  # by name in operations.py


def python(program, directory, *arguments):
    environment = {**os.environ, "BRASS_BUILD": BUILD}
    argv = ["/usr/bin/python3", os.path.join(CHAOS, program), *map(str, arguments)]
    return subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)


def run(program, directory, *arguments, small=True):
    """Returns what it printed. Of a failure that left a trace the smallest part is looked for and shown (small)."""
    done = python(program, directory, *arguments)
    if done.returncode:
        traces = [name for name in os.listdir(directory) if name.endswith(".jsonl") and small]
        shrunk = "".join(python("chaos.py", directory, "--shrink", name, "--shrink-time", 60).stdout for name in traces)
        pytest.fail(f"{program} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}\n{shrunk}", pytrace=False)
    return done.stdout


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_requests_hands_and_kills(tmp_path, measured, seed):
    """Model, API, store and kernel agree after a random sequence, and after each kill."""
    said = run("chaos.py", tmp_path, "--seeds", seed, "--operations", 1500, "--check-every", 500, "--without", ",".join(FAULTS))
    measured(said.splitlines()[-1])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_requests_under_faults(tmp_path, measured, seed):
    """The same, and the kernel refuses messages and loses answers."""
    said = run("chaos.py", tmp_path, "--seeds", seed, "--operations", 1500, "--check-every", 500)
    measured(said.splitlines()[-1])


@pytest.mark.parametrize("name", TRACES)
def test_traces(tmp_path, name):
    """What random runs have found, as small as it can be."""
    run("chaos.py", tmp_path, "--replay", os.path.join(CHAOS, "traces", name + ".jsonl"))


def test_killed_in_the_middle_of_a_commit(tmp_path, measured):
    """In the lab /tmp is memory, so that what is tested here is kill -9, and logs cut short; scripts/chaos kill has a disk."""
    said = run("kill_store.py", tmp_path, "--rounds", 20, "--seed", 1, "--directory", tmp_path)
    measured(said.splitlines()[-1])


def test_faults_are_real(tmp_path):
    """One message of the kernel's refused, seen by a client as 500; answers lost, made good; nothing without orders."""
    sequence = [
        {"op": "request", "verb": "PUT", "path": "/service/a", "body": {"host": "10.0.0.1", "port": 80}},
        {"op": "fault", "seed": 1, "refuse_in": 1},
        {"op": "request", "verb": "PATCH", "path": "/service/a", "body": {"persistent": "1m"}},
        {"op": "fault", "seed": 1, "lose_in": 1},
        {"op": "request", "verb": "PATCH", "path": "/service/a", "body": {"persistent": "2m"}},
        {"op": "fault", "seed": 1, "interrupt_in": 1},
        {"op": "request", "verb": "PATCH", "path": "/service/a", "body": {"persistent": "3m"}},
    ]
    trace = tmp_path / "trace"
    trace.write_text("".join(json.dumps(operation) + "\n" for operation in sequence))
    said = run("chaos.py", tmp_path, "--replay", trace)
    for happened in ("1 5xx", "1 refused", "1 lost", "1 interrupted"):
        assert happened in said, said


def test_a_trace_shrinks_to_what_matters(tmp_path):
    """Of forty requests the one is left of which the model says something else than the director: the model takes no
    pulse but type none."""
    requests = [{"op": "request", "verb": "PUT", "path": f"/service/s{i}", "body": {"host": "10.0.0.1", "port": 1 + i}, "wave": i // 4} for i in range(40)]
    odd = {"op": "request", "verb": "PUT", "path": "/service/x", "body": {"host": "10.0.0.2", "port": 80, "pulse": {"type": "http"}}, "wave": 5}
    trace = tmp_path / "trace"
    trace.write_text("".join(json.dumps(operation) + "\n" for operation in [*requests[:20], odd, *requests[20:]]))
    run("chaos.py", tmp_path, "--shrink", trace)
    left = [json.loads(line) for line in (tmp_path / "trace.min").read_text().splitlines()][1:]
    assert left == [odd]
