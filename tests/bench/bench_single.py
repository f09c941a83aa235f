# SPDX-License-Identifier: Apache-2.0
"""One change beside a small and a large table: it must not cost more beside the large one. And what that one weighs."""

import json

from harness import Space, api, cpu_seconds, kernel_name, load, memory_kib, start_director

SIZES = ((1, 10), (10000, 10))
REQUESTS = 1000


def memory(director):
    return {key: memory_kib(director.pid, key) for key in ("VmRSS", "VmHWM")}


def changes(args, space, director):
    before = space.table_in_proc()
    api(args, space, "patch", "/service/s0/b0", 100)  # to warm up
    messages, cpu = space.get("/status")["kernel_messages"], cpu_seconds(director.pid)
    figures = api(args, space, "patch", "/service/s0/b0", REQUESTS)
    figures["cpu_us"] = (cpu_seconds(director.pid) - cpu) / REQUESTS * 1e6
    figures["messages"] = space.get("/status")["kernel_messages"] - messages
    if figures["messages"] != REQUESTS:
        raise SystemExit(f"bench: {REQUESTS} changes of a weight made {figures['messages']} messages")
    if space.table_in_proc() != before:  # the last one is the weight of the beginning
        raise SystemExit("bench: the table is another one after the changes")
    return figures


def one(args, directory, services, backends):
    space = Space(f"single{services}")
    director = start_director(args, space, directory)
    found = {"memory_empty": memory(director)}
    found["one_request"] = load(args, space, directory, services, backends)["status"] == 200
    found["memory"] = memory(director)
    found |= changes(args, space, director)
    director.stop()
    found["floor"] = json.loads(space.run(f"{args.build}/tools/bench-table", "change", str(REQUESTS)))
    director = start_director(args, space, directory)
    space.check_table(services, backends)
    found["memory_restarted"] = memory(director)
    director.stop()
    space.close()
    return found


def run(args, fresh, _disk):
    result = {f"{s * b}": one(args, fresh(f"single{s}"), s, b) for s, b in SIZES}
    small, large = (result[f"{s * b}"] for s, b in SIZES)
    titles = [f"{s * b:,} backends" for s, b in SIZES]
    print(f"\nOne change: PATCH of a weight, {REQUESTS} times, each one message to the kernel\n")
    print(f"  {'':34}" + "".join(f"{c:>18}" for c in (*titles, "ratio")))
    lines = [(title, small[key], large[key]) for title, key in (("median, us", "median_us"), ("99th percentile, us", "p99_us"), ("longest, us", "max_us"),
                                                                ("director's CPU a request, us", "cpu_us"))]  # fmt: skip
    lines += [(f"the message alone: {title}", small["floor"][key], large["floor"][key]) for title, key in (("median, us", "median_us"), ("99 %, us", "p99_us"))]
    for title, a, b in lines:
        print(f"  {title:34}{a:18,.0f}{b:18,.0f}{f'{b / a:.2f}' if a else '-':>18}")
    print(f"\nThe director's memory, MiB{'' if large['one_request'] else ' (loaded by single requests: PUT /config is not built yet)'}\n")
    print(f"  {'':34}" + "".join(f"{c:>18}" for c in (*titles, "bytes a backend")))
    count = SIZES[1][0] * SIZES[1][1]
    for title, key, kind in (("empty, resident", "memory_empty", "VmRSS"), ("loaded, resident", "memory", "VmRSS"), ("loaded, peak", "memory", "VmHWM"),
                             ("started with it, resident", "memory_restarted", "VmRSS"), ("started with it, peak", "memory_restarted", "VmHWM")):  # fmt: skip
        share = (large[key][kind] - large["memory_empty"][kind]) * 1024 / count
        print(f"  {title:34}{small[key][kind] / 1024:18.1f}{large[key][kind] / 1024:18.1f}{share:18,.0f}")
    print(f"\nKernel: {kernel_name()}. The store is on a tmpfs.", flush=True)
    return result
