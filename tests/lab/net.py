# SPDX-License-Identifier: Apache-2.0
"""Network namespaces without forks, and small readers of what the kernel and the tools print.

Starting a process costs 25 ms in user-mode Linux, so what can be done by a system call is: entering a namespace
(setns in the calling thread), sysctls and counters (/proc), offloads (an ioctl).
"""

import collections
import contextlib
import ctypes
import fcntl
import os
import re
import socket
import struct
import threading
import time

CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
ETHTOOL_SET_OFF = (0x15, 0x17, 0x1F, 0x24, 0x2C)  # rx and tx checksums, tso, gso, gro

_libc = ctypes.CDLL(None, use_errno=True)
_entered = threading.local()


class LabError(Exception):
    """The lab could not do what it was asked to do."""


def wait_for(fn, timeout=5.0, what=None):
    """Calls fn until it returns something true, and returns that. An AssertionError inside counts as not yet."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = fn()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or getattr(fn, '__name__', 'condition')} (last: {last!r})")
        time.sleep(0.01)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """A named network namespace. `with ns:` puts the calling thread into it; may be nested."""

    def __init__(self, name):
        self.name = name
        self._fd = -1

    def __enter__(self):
        if self._fd < 0:
            self._fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        stack = _entered.__dict__.setdefault("stack", [])
        stack.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _setns(self._fd)
        return self

    def __exit__(self, *exc):
        back = _entered.stack.pop()
        _setns(back)
        os.close(back)

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def sysctl(key, value=None):
    """Reads (value None) or writes one of the present namespace's sysctls. Dots or slashes; slashes for eth0.1."""
    path = "/proc/sys/" + (key if "/" in key else key.replace(".", "/"))
    if value is None:
        with open(path) as f:
            return f.read().strip()
    with open(path, "w") as f:
        f.write(str(value))
    return str(value)


def device_bytes(device):
    """(received, sent) of a device of the present namespace."""
    with open("/proc/thread-self/net/dev") as f:
        for line in f:
            name, _, counters = line.partition(":")
            if name.strip() == device:
                fields = counters.split()
                return int(fields[0]), int(fields[8])
    raise LabError(f"there is no device {device}")


def offloads_off(devices):
    """tso, gso, gro and checksum offload: with them packets are larger than any wire allows."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for device in devices:
            for command in ETHTOOL_SET_OFF:
                value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                request = struct.pack("16sP", device.encode(), ctypes.addressof(value)).ljust(40, b"\0")
                with contextlib.suppress(OSError):  # not every device has every one
                    fcntl.ioctl(s, SIOCETHTOOL, request)


# ---------------------------------------------------------------- what tcpdump -enn prints

Packet = collections.namedtuple("Packet", "src_mac dst_mac ethertype length text")

_TCP = re.compile(r"^(\S+)\.(\d+) > (\S+)\.(\d+): Flags \[([^\]]*)\]")
Tcp = collections.namedtuple("Tcp", "src sport dst dport flags")

_PACKET = re.compile(r"^\S+ ([0-9a-f:]{17}) > ([0-9a-f:]{17}|Broadcast), (?:802\.1Q.*?, )?ethertype (.+?) \(0x[0-9a-f]+\), length (\d+): (.*)$")


def parse_packets(text):
    packets = []
    for line in text.splitlines():
        m = _PACKET.match(line)
        if m:
            dst = "ff:ff:ff:ff:ff:ff" if m[2] == "Broadcast" else m[2]
            packets.append(Packet(m[1], dst, m[3], int(m[4]), m[5]))
    return packets


def parse_tcp(packet):
    """The ends and flags of a TCP segment, None of anything else."""
    m = _TCP.match(packet.text)
    return m and Tcp(m[1], int(m[2]), m[3], int(m[4]), m[5])


# ---------------------------------------------------------------- what ipvsadm -Ln prints

Dest = collections.namedtuple("Dest", "rs forward weight active inactive")


class VirtualService(list):
    """The real servers of one virtual service (Dest, sorted), with its scheduler and options."""

    def __init__(self, scheduler, options):
        super().__init__()
        self.scheduler = scheduler
        self.options = options  # "persistent 300", "ops", "(mh-fallback,mh-port)", ...

    def weights(self):
        return {dest.rs: dest.weight for dest in self}

    def __repr__(self):
        return f"{self.scheduler} {self.options} {list(self)}"


def parse_ipvs(text):
    """{"TCP 10.0.0.100:80": VirtualService, ...} from `ipvsadm -Ln --exact`."""
    table = {}
    service = None
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("TCP", "UDP", "SCTP", "FWM") and len(words) >= 3:
            service = VirtualService(words[2], " ".join(words[3:]))
            table[f"{words[0]} {words[1]}"] = service
        elif len(words) == 6 and words[0] == "->" and words[3].isdigit():
            service.append(Dest(words[1], {"Route": "dr", "Tunnel": "ipip", "Masq": "nat", "Local": "local"}.get(words[2], words[2]), *map(int, words[3:])))
    for service in table.values():
        service.sort()
    return table


def endpoint(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
