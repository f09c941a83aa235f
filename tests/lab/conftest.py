# SPDX-License-Identifier: Apache-2.0
"""The scenarios of the lab: `scripts/lab -- /usr/bin/python3 -m pytest tests/lab`.

Tests marked `qemu` need what user-mode Linux has not, and are not collected there: `scripts/lab -k qemu -- ... -m qemu tests/lab`.
Every process is slow in that kernel, so only what needs it carries the mark.
"""

import os

import pytest
import topology
from daemons import Director


def pytest_configure(config):
    config.addinivalue_line("markers", "qemu: needs nftables or another thing that user-mode Linux has not")
    config.addinivalue_line("markers", "uml: is about what user-mode Linux has not")


def pytest_collection_modifyitems(config, items):
    other = "qemu" if os.environ.get("BRASS_LAB") == "uml" else "uml"
    out = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


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
