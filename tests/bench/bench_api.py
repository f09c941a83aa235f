# SPDX-License-Identifier: Apache-2.0
"""The API under load: beside libmicrohttpd alone, beside small and large tables, and while large answers are on their way."""

import json
import os
import statistics
import subprocess

from harness import ADDRESS, URL, Daemon, Space, api, api_command, cpu_seconds, kernel_name, load, start_director, wait_until

SIZES = ((1, 10), (100, 10), (10000, 10))
CONNECTIONS = (1, 32)
MHD_PORT = "4673"
PATH = "/service/s0/b0"
LARGE = ("/service?expand=1", "/metrics", "/config")


def press(args, space, daemon, port, method, connections):
    """wrk against the daemon; what a request costs it."""
    cpu = cpu_seconds(daemon.pid)
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "weight.lua")
    url = f"http://{ADDRESS[0]}:{port}{PATH}"
    out = space.run("wrk", "-t1", f"-c{connections}", f"-d{args.seconds}s", "-s", script, url, env={**os.environ, "BENCH_METHOD": method})
    found = json.loads(out.splitlines()[-1])
    if found["errors"] or not found["requests"]:
        raise SystemExit(f"bench: wrk: {method}: {found}")
    return found | {"a_second": found["requests"] / found["seconds"], "cpu_us": (cpu_seconds(daemon.pid) - cpu) / found["requests"] * 1e6}


def press_all(args, space, directory, director):
    """Each load once on libmicrohttpd alone and right after it on the director: a ratio of two minutes says little."""
    size = len(space.run("curl", "-sSf", URL + PATH))
    alone = Daemon(space, f"{directory}/mhd", f"{args.build}/tools/bench-mhd", MHD_PORT, str(size))
    check = [*space.enter, "curl", "-sf", "-o", "/dev/null", f"http://{ADDRESS[0]}:{MHD_PORT}{PATH}"]
    wait_until(lambda: alone.alive() and subprocess.run(check).returncode == 0, "bench-mhd answers")
    found = {}
    for method in ("GET", "PATCH"):
        for connections in CONNECTIONS:
            base = press(args, space, alone, MHD_PORT, method, connections)
            found[f"{method} {connections}"] = press(args, space, director, ADDRESS[1], method, connections) | {"alone": base}
    alone.stop()
    return size, found


def beside(args, space, seconds, *command):
    """How long GET /healthz takes, one a millisecond, while the command runs."""
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if command else None
    beat = api(args, space, "beat", seconds)
    if other:
        out = other.communicate()[0]
        if other.returncode:
            raise SystemExit(f"bench: {command}: exit {other.returncode}")
        beat["large"] = json.loads(out)
    return beat


def streams(args, space, directory, whole):
    seconds = 2 * args.seconds
    found = {"nothing else": beside(args, space, seconds)}
    for path in LARGE if whole else LARGE[:-1]:
        found[f"GET {path}"] = beside(args, space, seconds, *api_command(args, space, "loop", path, seconds))
    if whole:
        put = beside(args, space, seconds, *api_command(args, space, "config", f"{directory}/state.json"))
        put["large"] = {"requests": 1, "seconds": put["large"]["seconds"], "bytes": put["large"]["bytes"]}
        found["PUT /config, equal"] = put
    return found


def run(args, fresh, _disk):
    result, large = {}, None
    for services, backends in SIZES:
        space, directory = Space(f"api{services}"), fresh(f"api{services}")
        director = start_director(args, space, directory)
        whole = load(args, space, directory, services, backends)["status"] == 200
        size, result[f"{services * backends:,} backends"] = press_all(args, space, directory, director)
        space.check_table(services, backends)
        if services * backends == 100000:
            large = streams(args, space, directory, whole)
            space.check_table(services, backends)
        director.stop()
        space.close()
    show(args, result, size, large)
    return {"load": result, "streams": large}


def show(args, result, size, large):
    loads = [f"{method} {c}" for method in ("GET", "PATCH") for c in CONNECTIONS]
    print(f"\nOne backend, read and changed over and over (wrk, {args.seconds} s each): {size} bytes an answer; beside libmicrohttpd alone = 1\n")
    print(f"  {'':22}" + "".join(f"{c + ' conn.':>20}" for c in loads))
    for title, key, form in (("requests a second", "a_second", "{:,.0f}"), ("CPU a request, us", "cpu_us", "{:,.0f}"), ("median, us", "median_us", "{:,.0f}")):
        print(title)
        alone = [statistics.median(found[c]["alone"][key] for found in result.values()) for c in loads]
        print(f"  {'libmicrohttpd alone':22}" + "".join(f"{form.format(a):>13}{'':7}" for a in alone))
        for name, found in result.items():
            cells = [(form.format(found[c][key]), found[c][key] / found[c]["alone"][key]) for c in loads]
            print(f"  {name:22}" + "".join(f"{value:>13}{f'({ratio:.2f})':>7}" for value, ratio in cells))
    print("\nGET /healthz, one a millisecond, with 100,000 backends, beside\n")
    print(f"  {'':24}" + "".join(f"{c:>14}" for c in ("median, us", "99 %, us", "longest, us", "large ones", "s of each", "MB of each")))
    for name, found in large.items():
        cells = [f"{found[k]:,.0f}" for k in ("median_us", "p99_us", "max_us")]
        if other := found.get("large"):
            cells += [f"{other['requests']}", f"{other['seconds'] / other['requests']:.2f}", f"{other['bytes'] / 1e6:.1f}"]
        print(f"  {name:24}" + "".join(f"{c:>14}" for c in cells))
    if "GET /config" not in large:
        print("  GET /config: not built yet")
    print(f"\nKernel: {kernel_name()}. wrk, the clients and the daemon share what CPUs there are (user-mode Linux: one, and 20 us a system call).")
    print("A request to /healthz that was late counts once for each millisecond that it kept the next ones waiting.", flush=True)
