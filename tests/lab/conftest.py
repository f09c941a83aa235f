# SPDX-License-Identifier: Apache-2.0
"""The scenarios of the lab: `scripts/lab -- /usr/bin/python3 -m pytest tests/lab`.

Tests marked `qemu` need what user-mode Linux has not, and are not collected there: `scripts/lab -k qemu -- ... -m qemu tests/lab`.
Every process is slow in that kernel, so only what needs it carries the mark.
"""

import os
import sys

import pytest
import topology
from daemons import Director

sys.path.append(os.path.join(topology.ROOT, "tests", "chaos"))  # of which some tests use the faults


def pytest_configure(config):
    config.addinivalue_line("markers", "qemu: needs nftables or another thing that user-mode Linux has not")
    config.addinivalue_line("markers", "uml: is about what user-mode Linux has not")


def pytest_collection_modifyitems(config, items):
    other = "qemu" if os.environ.get("BRASS_LAB") == "uml" else "uml"
    out = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
    if share := os.environ.get("BRASS_SHARE"):
        keep_share(config, items, *map(int, share.split("/")))


# Seconds that a test of these files takes, about; those of others take one or two.
SLOW = {"test_agent": 5, "test_agent_words": 6, "test_chaos": 3, "test_checks": 7, "test_doctor": 6, "test_health": 10, "test_keep": 6, "test_local": 5, "test_lockdown": 30,
        "test_pool": 4, "test_reload": 9, "test_systemd": 20, "test_traffic": 5, "test_tunnels": 8, "test_via": 8}  # fmt: skip


def keep_share(config, items, number, count):
    """BRASS_SHARE=1/2: the first of two shares of about equal length. A file stays whole: its tests may share what is
    slow to make."""
    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    shares = [[0, []] for _ in range(count)]
    seconds = {path: len(tests) * SLOW.get(path.stem, 1.5) for path, tests in files.items()}
    for path in sorted(files, key=seconds.get, reverse=True):
        share = min(shares, key=lambda s: s[0])
        share[0] += seconds[path]
        share[1] += files[path]
    mine = set(shares[number - 1][1])
    config.hook.pytest_deselected(items=[item for item in items if item not in mine])
    items[:] = [item for item in items if item in mine]


@pytest.fixture(autouse=True, scope="session")
def in_the_lab():
    if not os.environ.get("BRASS_LAB"):
        pytest.fail("not in a lab: these tests change the kernel's network. Run them with scripts/lab", pytrace=False)


@pytest.fixture
def t():
    """Clients, a router, a director's host and three real servers; a file may have a fixture of this name of its own."""
    with topology.dr_topology() as t:
        yield t


@pytest.fixture
def d(t):
    return Director(t.di)


def pytest_sessionfinish():
    for t in list(topology.live):
        t.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    logs = "".join(topology.failed_logs)
    topology.failed_logs.clear()
    if report.failed:
        logs += "".join(t.logs() for t in topology.live)
        if logs:
            report.sections.append(("daemons", logs))


_measured = []


@pytest.fixture
def measured():
    """measured("text"): a figure that is worth reading; printed at the end of the run."""
    return _measured.append


def pytest_terminal_summary(terminalreporter):
    if _measured:
        terminalreporter.section("measured")
        for line in _measured:
            terminalreporter.write_line(line)
