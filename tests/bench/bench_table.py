# SPDX-License-Identifier: Apache-2.0
"""A whole table, loaded by the director from one request, by ipvsadm -R, by keepalived's start, and by a program that does
nothing but send the messages. Each in a namespace of its own; the tables must be equal, in the kernel."""

import contextlib
import json
import os
import signal
import statistics
import struct
import time

from harness import Daemon, Space, Tracer, api, calls_in, cpu_seconds, kernel_name, memory_kib, page_faults, rip, start_director, vip, wait_until, write_state

# services, backends of each, rounds, rounds of the slow ones
SIZES = ((100, 10, 7, 3), (1000, 10, 5, 3), (1000, 100, 3, 1), (10000, 10, 3, 1))
STRACED = 1000  # as many backends at most, of a program with a system call and more for each
TIMED_SENDS = 10000


class Size:
    def __init__(self, args, directory, services, backends):
        self.args, self.directory, self.services, self.backends = args, directory, services, backends
        self.state = write_state(f"{directory}/state.json", services, backends)
        self.whole = None  # the table, by the first program
        self.number = 0

    @property
    def total(self):
        return self.services * self.backends

    def space(self):
        self.number += 1
        return Space(f"t{self.services}-{self.backends}-{self.number}")

    def check(self, space, who):
        found = space.check_table(self.services, self.backends)
        self.whole = self.whole or found
        if found != self.whole:
            raise SystemExit(f"bench: {who}: the table differs")

    def sends_file(self):
        return f"{self.directory}/sends.{self.number}"

    def sends_env(self):
        return {"BENCH_SENDS": self.sends_file(), "LD_PRELOAD": f"{self.args.build}/tools/bench-sends.so"}

    def sends(self):
        """Seconds that netlink messages were in the kernel."""
        with open(self.sends_file(), "rb") as f:
            return struct.unpack("=3Q", f.read(24))[0] / 1e9


def middle(rounds):
    """Of several rounds: the median, and the mean of the CPU time, which is counted in ticks."""
    found = dict(rounds[0])
    found["seconds"] = statistics.median(r["seconds"] for r in rounds)
    found["cpu"] = statistics.mean(r["cpu"] for r in rounds)
    found["rounds"] = len(rounds)
    return found


# ---------------------------------------------------------------- the floor


def floor_once(size):
    space, tool = size.space(), f"{size.args.build}/tools/bench-table"
    figures = space.measure(size.args, f"{size.directory}/usage", tool, "load", str(size.services), str(size.backends))
    size.check(space, "bench-table")
    space.close()
    return json.loads(figures["output"]) | {key: figures[key] for key in ("peak_kib", "faults")}


def floor(size, rounds, _slow):
    found = middle([floor_once(size) for _ in range(rounds)])
    space = size.space()
    space.run("env", *(f"{k}={v}" for k, v in size.sends_env().items()), f"{size.args.build}/tools/bench-table", "load", str(size.services), str(size.backends))
    found["kernel"] = size.sends()
    space.close()
    return found


# ---------------------------------------------------------------- the director


def put(size, space, director):
    messages, cpu, faults = space.get("/status")["kernel_messages"], cpu_seconds(director.pid), page_faults(director.pid)
    done = api(size.args, space, "config", size.state)
    return {
        "status": done["status"],
        "seconds": done["seconds"],
        "cpu": cpu_seconds(director.pid) - cpu,
        "faults": page_faults(director.pid) - faults,
        "peak_kib": memory_kib(director.pid, "VmHWM"),
        "answer": done["answer"],
        "messages": space.get("/status")["kernel_messages"] - messages,
    }


def director_round(size, number):
    space, directory = size.space(), f"{size.directory}/director{number}"
    os.mkdir(directory)
    director = start_director(size.args, space, directory)
    first = put(size, space, director)
    again = None
    if first["status"] == 200:
        size.check(space, "PUT /config")
        again = put(size, space, director)
        size.check(space, "PUT /config again")
    director.stop()
    space.close()
    return first, again


def director_sends(size):
    space = size.space()
    os.mkdir(f"{size.directory}/sends")
    director = start_director(size.args, space, f"{size.directory}/sends", env=size.sends_env())
    before = size.sends()
    api(size.args, space, "config", size.state)
    seconds = size.sends() - before
    size.check(space, "PUT /config")
    director.stop()
    space.close()
    return seconds


def director_calls(size):
    space = size.space()
    os.mkdir(f"{size.directory}/strace")
    director = start_director(size.args, space, f"{size.directory}/strace")
    tracer = Tracer(director.pid, f"{size.directory}/strace.put")
    api(size.args, space, "config", size.state)
    calls, _ = tracer.stop()
    director.stop()
    space.close()
    return calls


def by_director(size, rounds, _slow):
    found = [director_round(size, 0)]
    if found[0][0]["status"] != 200:
        return None
    found += [director_round(size, number) for number in range(1, rounds)]
    first, again = middle([f for f, _ in found]), middle([a for _, a in found])
    calls = director_calls(size)
    first |= {"kernel": director_sends(size), "calls": sum(calls.values()), "calls_by_name": calls}
    return first | {"again": again}


# ---------------------------------------------------------------- ipvsadm and keepalived


def ipvsadm_lines(size):
    lines = []
    for s in range(size.services):
        lines.append(f"-A -t {vip(s)}:80 -s rr")
        lines += [f"-a -t {vip(s)}:80 -r {rip(b)}:80 -g -w 100" for b in range(size.backends)]
    return "\n".join(lines) + "\n"


def ipvsadm_once(size, lines, *prefix):
    space = size.space()
    figures = space.measure(size.args, f"{size.directory}/usage", *prefix, "ipvsadm", "-R", input=lines)
    size.check(space, "ipvsadm -R")
    space.close()
    return figures


def by_ipvsadm(size, _rounds, slow):
    lines = ipvsadm_lines(size)
    found = middle([ipvsadm_once(size, lines) for _ in range(slow)]) | {"messages": lines.count("\n")}
    if size.total <= TIMED_SENDS:
        size.number += 1  # ipvsadm_once takes the next
        env = size.sends_env()
        ipvsadm_once(size, lines, "env", *(f"{k}={v}" for k, v in env.items()))
        with open(env["BENCH_SENDS"], "rb") as f:
            found["kernel"] = struct.unpack("=3Q", f.read(24))[0] / 1e9
    if size.total <= STRACED:
        ipvsadm_once(size, lines, "strace", "-c", "-f", "-o", f"{size.directory}/strace.ipvsadm")
        found["calls"] = sum(calls_in(f"{size.directory}/strace.ipvsadm")[0].values())
    return found


def write_keepalived(size):
    path = f"{size.directory}/keepalived.conf"
    with open(path, "w") as f:
        f.write("global_defs {\n  router_id bench\n}\n")
        for s in range(size.services):
            f.write(f"virtual_server {vip(s)} 80 {{\n  lb_algo rr\n  lb_kind DR\n  protocol TCP\n")
            f.writelines(f"  real_server {rip(b)} 80 {{\n    weight 100\n  }}\n" for b in range(size.backends))
            f.write("}\n")
    return path


def keepalived_once(size, config, env=None, trace=None):
    """From its start to the whole table; its end would take the table down again, so it gets none."""
    space = size.space()
    env = size.sends_env() if env else None
    prefix = ["strace", "-I", "2", "-c", "-f", "-o", trace] if trace else []
    command = [*prefix, "keepalived", "-n", "-C", "-f", config, "-p", f"{size.directory}/k.pid", "-c", f"{size.directory}/c.pid"]
    begin = time.monotonic()
    keepalived = Daemon(space, f"{size.directory}/keepalived", *command, env=env)
    done = json.loads(space.run(f"{size.args.build}/tools/bench-table", "wait", str(size.services), str(size.backends), "300"))
    pids = keepalived.all_pids()
    figures = {"seconds": done["at"] - begin, "cpu": sum(map(cpu_seconds, pids)), "peak_kib": max(memory_kib(pid, "VmHWM") for pid in pids),
               "faults": sum(map(page_faults, pids))}  # fmt: skip
    if env:
        figures["kernel"] = size.sends()
    size.check(space, "keepalived")
    if trace:  # strace writes its counts when it is asked to end
        keepalived.process.terminate()
        wait_until(lambda: os.path.exists(trace) and os.path.getsize(trace), "strace has written its counts")
        figures["calls"] = sum(calls_in(trace)[0].values())
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    keepalived.process.wait()
    space.close()
    return figures


def by_keepalived(size, _rounds, slow):
    config = write_keepalived(size)
    found = middle([keepalived_once(size, config) for _ in range(slow)]) | {"messages": size.services * (size.backends + 1)}
    if size.total <= TIMED_SENDS:
        found["kernel"] = keepalived_once(size, config, env=True)["kernel"]
    if size.total <= STRACED:
        found["calls"] = keepalived_once(size, config, trace=f"{size.directory}/strace.keepalived")["calls"]
    return found


# ---------------------------------------------------------------- the table


PROGRAMS = (
    ("messages alone", "floor", floor),
    ("brass-director, PUT /config", "director", by_director),
    ("keepalived, start", "keepalived", by_keepalived),
    ("ipvsadm -R", "ipvsadm", by_ipvsadm),
)


def line(title, figures, base):
    def cell(key, form="{:.3f}"):
        return form.format(figures[key]) if figures.get(key) is not None else "-"

    def ratio(key):
        return f"{figures[key] / base[key]:.1f}" if base.get(key) and figures.get(key) is not None else "-"

    cells = [cell("seconds"), ratio("seconds"), cell("cpu", "{:.2f}"), ratio("cpu"), cell("kernel", "{:.4f}"), ratio("kernel"),
             cell("messages", "{:,}"), cell("calls", "{:,}"), cell("faults", "{:,}"), f"{figures['peak_kib'] / 1024:.1f}"]  # fmt: skip
    print(f"  {title:30}" + "".join(f"{c:>11}" for c in cells), flush=True)


def run(args, fresh, _disk):
    print("\nA whole table (rr, dr), from the request or start to the kernel's last answer; x: messages alone = 1; medians\n")
    print(f"  {'':30}" + "".join(f"{c:>11}" for c in ("seconds", "x", "CPU s", "x", "kernel s", "x", "messages", "calls", "faults", "peak MiB")))
    result = {}
    for services, backends, rounds, slow in SIZES:
        if args.sizes and f"{services}x{backends}" not in args.sizes:
            continue
        size = Size(args, fresh(f"{services}x{backends}"), services, backends)
        result[f"{services}x{backends}"] = found = {}
        print(f"{services:,} x {backends}", flush=True)
        for title, key, program in PROGRAMS:
            found[key] = program(size, rounds, slow)
            if not found[key]:
                print(f"  {title:30}" + "not built yet: PUT /config is not answered")
                continue
            line(title, found[key], found["floor"])
            if key != "director":
                continue
            line("  the same once more", found[key]["again"], found["floor"])
            if found[key]["again"]["messages"]:
                print("  WRONG: the second PUT /config is equal, and sent messages to the kernel")
    print(f"\nKernel: {kernel_name()}. All tables were read back from the kernel and are equal. messages alone: bench-table.")
    print("CPU s: of the process, in ticks of 10 ms. kernel s: how long its netlink messages were inside the kernel, in a run of its own.")
    print("calls: system calls without reading the clock, counted by strace in a run of its own. faults: of pages; in user-mode Linux one takes some")
    print("30 to 200 us, elsewhere less than one. The store is on a tmpfs; the answer comes after its commit. keepalived: without checkers.")
    print("Ratios of one block belong together; seconds vary with the machine.")
    return result
