#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench runs inside the lab: one group of measurements."""

import argparse
import importlib
import json
import os
import tempfile

p = argparse.ArgumentParser()
p.add_argument("what", choices=("table", "single", "api", "requests", "host", "health", "failures"))
p.add_argument("--build", required=True)
p.add_argument("--disk", required=True, help="directory of a real file system")
p.add_argument("--services", type=int, default=1000)
p.add_argument("--backends", type=int, default=10)
p.add_argument("--sizes", action="append")
p.add_argument("--seconds", type=int, default=2)
p.add_argument("--json", required=True)
args = p.parse_args()

with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory(dir=args.disk) as disk:

    def fresh(name):
        os.mkdir(f"{directory}/{name}")
        return f"{directory}/{name}"

    result = importlib.import_module(f"bench_{args.what}").run(args, fresh, disk)
with open(args.json, "w") as f:
    json.dump(result, f, indent=1)
