# SPDX-License-Identifier: Apache-2.0
"""scripts/lab keeps its promises: exit codes, streams, signals, time limits, and nothing left behind.

Run on the host: /usr/bin/python3 -m pytest tests/test_runner.py

What a kernel's own part of the runner is about is tested with each: "own" is what scripts/lab chooses by itself.
"""

import contextlib
import glob
import hashlib
import os
import pty
import random
import re
import select
import signal
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
LAB = os.path.join(ROOT, "scripts", "lab")

# Says that it is ready, then which signal it got; ends with 9.
CATCHER = """
import signal, sys
def caught(number, frame):
    print("caught", signal.Signals(number).name, flush=True)
    sys.exit(9)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, caught)
print("ready", flush=True)
while True:
    signal.pause()
"""


SECONDS = 120  # QEMU boots in 7 s on a quiet machine, and in 40 s on a busy one


def lab(*words, **options):
    return subprocess.run([LAB, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, **options)


def start(*words, **options):
    return subprocess.Popen([LAB, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def processes_of(job):
    """The pids of all processes whose command line names the job directory."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(path, "rb") as f:
            if job.encode() in f.read():
                found.append(int(path.split("/")[2]))
    return found


def line_of(process, timeout=SECONDS):
    """The next line that it says."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([process.stdout], [], [], timeout)[0], f"nothing more after {line!r}"
        byte = os.read(process.stdout.fileno(), 1)
        assert byte, f"ended after {line!r}"
        line += byte
    return line


def wait_until(fn, timeout, what):
    deadline = time.monotonic() + timeout
    while not fn():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def own_tmp(tmp_path, monkeypatch):
    """A temporary directory that only the labs of this test use, so that what they leave can be told from others'.
    Short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="rt", dir="/tmp") as path:
        monkeypatch.setenv("TMPDIR", path)
        yield path
        assert os.listdir(path) == []
        assert processes_of(path) == []


@pytest.fixture(params=["own", "qemu"])
def kernel(request):
    """The options that choose it."""
    return ["-k", request.param] if request.param != "own" else []


def test_exit_codes(own_tmp):
    assert lab("--", "sh", "-c", "exit 7").returncode == 7
    assert lab("sh", "-c", "kill -9 $$").returncode == 137
    assert lab("no-such-command").returncode == 127
    assert lab("-w", "/no/such/directory", "true").returncode == 2
    assert lab().returncode == 2


def test_it_is_a_kernel_with_ipvs(kernel, own_tmp):
    extra = "nft add table inet t; nft list ruleset; nproc;" if kernel else ""  # what user-mode Linux lacks
    done = lab(*kernel, "sh", "-ec", extra + "ipvsadm -A -t 10.0.0.1:80 -s mh; ipvsadm -Ln; ip link add tunnel0 type ipip local 10.0.0.1 remote any; ulimit -n; echo $BRASS_LAB; readlink /proc/self/cwd; ! touch /etc/x 2>/dev/null; exit 7", cwd=ROOT)
    assert done.returncode == 7, done.stderr
    out = done.stdout.decode()
    assert "TCP  10.0.0.1:80 mh" in out
    assert re.search(rf"^{kernel[1] if kernel else '(uml|host)'}$", out, re.MULTILINE)
    assert out.endswith(ROOT + "\n")
    if kernel:
        assert out.startswith("table inet t {\n}\n2\n")


def test_streams_are_separate_and_binary_clean(kernel, own_tmp):
    data = random.Random(1).randbytes(2_000_000)
    with tempfile.TemporaryDirectory(prefix="brass-test-") as shared:
        for name, part in (("a", data), ("b", data[::-1])):
            with open(os.path.join(shared, name), "wb") as f:
                f.write(part)
        done = lab(*kernel, "-w", shared, "sh", "-c", f"cat {shared}/b >&2 & cat {shared}/a; wait; echo kept >{shared}/c")
        assert done.returncode == 0
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
        assert hashlib.sha256(done.stderr).digest() == hashlib.sha256(data[::-1]).digest()
        with open(os.path.join(shared, "c")) as f:
            assert f.read() == "kept\n"


def test_arguments_and_environment():
    odd = ["", "a b", "*", "'", '"', "$HOME", "\\n", "é\n"]
    done = lab("sh", "-c", 'printf "%s|" "$ODD" "$@"', "-", *odd, env={**os.environ, "ODD": "x '\" $y\n"})
    assert done.stdout.decode() == "|".join(["x '\" $y\n", *odd]) + "|"


def test_stdin_may_be_closed(own_tmp):
    done = subprocess.run(["sh", "-c", f"exec {LAB} sh -c 'cat; echo end' <&-"], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"end\n")


def test_stdin_is_passed_through(kernel, own_tmp):
    process = subprocess.Popen([LAB, *kernel, "-i", "sh", "-c", 'read a; echo "got $a"; sha256sum'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert line_of(process) == b"got one\n", "before the end of its input"
    data = random.Random(2).randbytes(3_000_000)
    out, _ = process.communicate(data, timeout=SECONDS)
    assert (out.split()[0].decode(), process.returncode) == (hashlib.sha256(data).hexdigest(), 0)


def test_a_terminal(kernel, own_tmp):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(LAB, [LAB, *kernel, "-i", "sh", "-c", "test -t 0 && test -t 1 && echo ready; sleep 100; echo after"])
    out = b""
    sent = False
    with contextlib.suppress(OSError):  # what a terminal says when its other end is gone
        while True:
            assert select.select([fd], [], [], SECONDS)[0], out
            data = os.read(fd, 4096)
            if not data:
                break
            out += data
            if b"ready" in out and not sent:
                os.write(fd, b"\x03")
                sent = True
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert b"after" not in out


def test_the_time_limit(own_tmp):
    begun = time.monotonic()
    done = lab("-t", "5", "sh", "-c", "echo $BRASS_LAB; trap '' TERM; while :; do sleep 1; done")
    assert done.returncode == 124
    assert 5 <= time.monotonic() - begun < 25
    assert b"time of 5 s is up" in done.stderr
    if done.stdout == b"uml\n":
        assert b"kernel log" in done.stderr


@pytest.mark.parametrize(("chosen", "number"), [("own", signal.SIGINT), ("own", signal.SIGTERM), ("own", signal.SIGHUP), ("qemu", signal.SIGTERM)])
def test_signals_reach_the_command(own_tmp, chosen, number):
    process = start(*(["-k", chosen] if chosen != "own" else []), "/usr/bin/python3", "-c", CATCHER)
    assert line_of(process) == b"ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out.decode(), process.returncode) == (f"caught {signal.Signals(number).name}\n", 9), err


def test_a_signal_while_it_boots(own_tmp):
    process = start("sleep", "1000")
    wait_until(lambda: processes_of(own_tmp), 20, "the kernel is started")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_nobody_reads_its_output(kernel, own_tmp):
    process = start(*kernel, "yes")
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(timeout=30) != 0
    process.stderr.close()


def test_two_side_by_side(own_tmp):
    first, second = (start("/usr/bin/python3", "-c", CATCHER) for _ in range(2))
    assert line_of(first) == line_of(second) == b"ready\n"
    first.terminate()
    first.communicate(timeout=30)
    assert (first.returncode, second.poll()) == (9, None), "the other one is not touched"
    second.terminate()
    second.communicate(timeout=30)
    assert second.returncode == 9


def test_killed_without_mercy(kernel, own_tmp):
    process = start(*kernel, "/usr/bin/python3", "-c", CATCHER)
    assert line_of(process) == b"ready\n"
    process.kill()
    process.wait()
    process.communicate(timeout=10)
    wait_until(lambda: not processes_of(own_tmp) and not os.listdir(own_tmp), 10, "nothing of the lab is left")


@pytest.mark.parametrize("chosen", ["uml", "qemu"])
def test_a_kernel_that_dies(own_tmp, chosen):
    done = lab("-k", chosen, "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 100")
    assert done.returncode == 125
    assert b"the kernel died" in done.stderr and b"sysrq triggered crash" in done.stderr.lower()
