# SPDX-License-Identifier: Apache-2.0
"""The house rules that a compiler does not check: who may include whom, and the licence line of every file.

Run on the host: /usr/bin/python3 -m pytest tests/test_floors.py

A file may include its own floor, the floors below it, and, from director/ and agent/, all of shared/. The two daemons never include
each other. A new module must be given a floor here: that is the moment to think about where it belongs.
"""

import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

# folder -> floors, lowest first; a name stands for NAME.c and NAME.h, a trailing * for every name that begins so
FLOORS = {
    "shared": [
        ["err", "log", "clock", "inet", "diff", "field", "field_type", "out", "slices", "util", "utf8", "footprint"],
        ["confile", "confile_*", "labels", "options", "http_client", "loop", "notify", "sockpath", "tunnel"],
        ["netsock", "iflink", "ifaddr", "route", "route_*", "fou", "neigh"],
        ["check", "check_*", "protocol"],
    ],
    "director": [
        [],
        ["fault", "model", "model_*", "ipvs_key", "judge", "passive", "pool", "split"],
        ["store", "store_*", "conns", "events", "lease", "health", "hook", "ipvs", "ipvs_*", "announce", "path", "probe", "replies", "settings", "settings_fields", "sync", "sysctl"],
        ["desired", "desired_*", "known", "proven", "reconcile", "reconcile_*", "diagnose", "vip", "state", "state_*", "traffic"],
        ["http_*", "auth", "api", "api_*", "metrics"],
        ["config", "director", "main"],
    ],
    "director/cli": [["text", "table", "import"], ["request", "show"], ["main"]],
    "agent": [
        [],
        ["spec"],
        ["resource", "resource_*", "res_*", "health", "docker", "journal", "sockets", "evidence", "filter", "filter_*", "nft", "nft_*"],
        ["desired", "plan", "apply", "monitor", "reconcile", "observe", "host", "repairs", "lockdown"],
        ["client", "remember", "control", "control_*", "drain", "local", "load"],
        ["config", "config_*", "services", "drain_control", "reload", "retire", "status", "summary", "words", "ask", "preview", "doctor", "doctor_*", "agent", "agent_*", "main"],
    ],
}
MAY_USE = {"shared": [], "director": ["shared"], "agent": ["shared"], "director/cli": ["shared"]}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)


def floor_of(path):
    """(folder, floor) of a file; floor None if the table does not know it, folder None if it is in no folder of ours."""
    folder, name = os.path.split(path)
    if folder not in FLOORS:
        return None, None
    stem = os.path.splitext(name)[0]
    for exact in (True, False):  # a full name counts before a pattern
        for number, names in enumerate(FLOORS[folder]):
            for entry in names:
                if entry == stem or (not exact and entry.endswith("*") and stem.startswith(entry[:-1])):
                    return folder, number
    return folder, None


def source_files(root):
    for folder in FLOORS:
        if os.path.isdir(os.path.join(root, folder)):
            for name in sorted(os.listdir(os.path.join(root, folder))):
                if name.endswith((".c", ".h")):
                    yield f"{folder}/{name}"


def violations(root):
    found = []
    for path in source_files(root):
        folder, floor = floor_of(path)
        if floor is None:
            found.append(f"{path}: has no floor; give it one in the table of tests/test_floors.py")
            continue
        with open(os.path.join(root, path), encoding="utf-8") as f:
            included = INCLUDE.findall(f.read())
        for other in included:
            other_folder, other_floor = floor_of(other)
            if other_folder is None:
                found.append(f'{path}: includes "{other}"; write the path from the top: "shared/...", "{folder}/..."')
            elif other_folder == folder and other_floor is not None and other_floor > floor:
                found.append(f"{path} (floor {floor}) includes {other} (floor {other_floor}): upwards")
            elif other_folder != folder and other_folder not in MAY_USE[folder]:
                found.append(f"{path} includes {other}: {folder}/ may only use itself{''.join(f' and {m}/' for m in MAY_USE[folder])}")
    return found


def files_of_the_tree(root):
    """What git has or would take, and is there."""
    done = subprocess.run(["git", "-c", f"safe.directory={root}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True)
    return sorted({path for path in done.stdout.split("\0") if path and os.path.isfile(os.path.join(root, path))})


def needs_licence_line(root, path):
    if path.endswith((".c", ".h", ".py", ".sh", ".cmake", "CMakeLists.txt")):
        return True
    with open(os.path.join(root, path), "rb") as f:
        return f.read(2) == b"#!"


def without_licence_line(root, paths):
    found = []
    for path in paths:
        if needs_licence_line(root, path):
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
                head = [f.readline() for _ in range(2)]
            line = head[1] if head[0].startswith("#!") else head[0]
            if not re.fullmatch(r"(//|#|/\*) SPDX-License-Identifier: Apache-2\.0( \*/)?\n", line):
                found.append(f"{path}: its first line (or the second, after #!) must be the SPDX line")
    return found


def test_includes_point_down():
    assert violations(ROOT) == []


def test_every_file_has_its_licence_line():
    assert without_licence_line(ROOT, files_of_the_tree(ROOT)) == []


# ---------------------------------------------------------------- the rules themselves


def tree(root, files):
    for path, text in files.items():
        os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(text)


def test_what_is_allowed(tmp_path):
    tree(tmp_path, {
        "shared/netsock.c": '#include "shared/netsock.h"\n#include "shared/err.h"\n#include <stdio.h>\n',
        "director/api_service.c": '#include "director/api.h"\n#include "director/model.h"\n#include "shared/protocol.h"\n',
        "agent/plan.c": '// #include "director/model.h" in a comment is none\n#include "agent/desired.h"\n',
        "director/cli/main.c": '#include "director/cli/show.h"\n#include "shared/http_client.h"\n',
    })  # fmt: skip
    assert violations(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "include", "complaint"),
    [
        ("shared/err.c", "shared/netsock.h", "shared/err.c (floor 0) includes shared/netsock.h (floor 2): upwards"),
        ("shared/inet.h", "agent/spec.h", "shared/inet.h includes agent/spec.h"),
        ("director/model.h", "director/api.h", "upwards"),
        ("director/model.c", "agent/spec.h", "director/model.c includes agent/spec.h"),
        ("agent/spec.h", "director/model.h", "agent/spec.h includes director/model.h"),
        ("director/cli/main.c", "director/model.h", "director/cli/main.c includes director/model.h"),
        ("director/ipvs.c", "model.h", "write the path from the top"),
        ("agent/new_module.c", "shared/err.h", "agent/new_module.c: has no floor"),
    ],
)
def test_what_is_not(tmp_path, path, include, complaint):
    tree(tmp_path, {path: f'  # include "{include}"\n'})
    (found,) = violations(tmp_path)
    assert complaint in found


def test_licence_lines(tmp_path):
    licence = "SPDX-License-Identifier: Apache-2.0"
    tree(tmp_path, {
        "a/good.c": f"// {licence}\n", "a/good.py": f"# {licence}\n", "a/good": f"#!/bin/sh\n# {licence}\n", "a/any.md": "words\n",
        "a/bad.h": f"\n// {licence}\n", "a/bad": "#!/bin/sh\n", "a/bad.py": "",
    })  # fmt: skip
    names = ["a/good.c", "a/good.py", "a/good", "a/any.md", "a/bad.h", "a/bad", "a/bad.py"]
    assert [f.split(":")[0] for f in without_licence_line(tmp_path, names)] == ["a/bad.h", "a/bad", "a/bad.py"]
