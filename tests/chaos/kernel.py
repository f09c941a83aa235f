# SPDX-License-Identifier: Apache-2.0
"""The kernel's IPVS table without the director: hands that edit it, and eyes that read it.

The hands speak netlink, because a process for each edit would take 25 ms in user-mode Linux; the eyes are ipvsadm's, so
that what the director's success is measured by is nobody's code here. A place is (protocol, address, port), or
("fwmark", 4 or 6, mark). Only the constants of linux/ip_vs.h are from elsewhere.
"""

import errno
import functools
import ipaddress
import json
import os
import socket
import struct
import subprocess

_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
_COMMANDS = {"add_service": 1, "edit_service": 2, "delete_service": 3, "add_dest": 5, "edit_dest": 6, "delete_dest": 7}
_FORWARDS = {"nat": 0, "ipip": 2, "dr": 3}
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}


def _attr(kind, payload):
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


@functools.lru_cache(None)
def _address(text):
    """(family, 16 bytes)"""
    address = ipaddress.ip_address(text)
    return socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed.ljust(16, b"\0")


def _u16(kind, value):
    return _attr(kind, struct.pack("=H", value))


def _u32(kind, value):
    return _attr(kind, struct.pack("=I", value))


class Hands:
    """Somebody with ipvsadm."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 16)  # NETLINK_GENERIC
        self._socket.bind((0, 0))
        self._seq = 0
        name = _attr(_CTRL_ATTR_FAMILY_NAME, b"IPVS\0")
        reply = self._send(_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name, flags=0)
        at = 20
        while at + 4 <= len(reply):
            length, kind = struct.unpack_from("=HH", reply, at)
            if kind == _CTRL_ATTR_FAMILY_ID:
                self._family = struct.unpack_from("=H", reply, at + 4)[0]
            at += (length + 3) & ~3

    def close(self):
        self._socket.close()

    def _send(self, kind, command, payload, flags=_NLM_F_ACK):
        self._seq += 1
        body = struct.pack("=BBH", command, 1, 0) + payload
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | flags, self._seq, 0) + body)
        return self._socket.recv(65536)

    def edit(self, command, place, scheduler=None, dest=None, forward=None, weight=0):
        """One change. Returns 0 or the kernel's errno."""
        protocol, host, port = place
        if protocol == "fwmark":
            service = _u16(1, socket.AF_INET if host == 4 else socket.AF_INET6) + _u32(5, port)
            family = socket.AF_INET if host == 4 else socket.AF_INET6
        else:
            family, address = _address(host)
            service = _u16(1, family) + _u16(2, _PROTOCOLS[protocol]) + _attr(3, address) + _u16(4, socket.htons(port))
        if scheduler:
            netmask = 0xFFFFFFFF if family == socket.AF_INET else 128
            service += _attr(6, scheduler.encode() + b"\0") + _attr(7, struct.pack("=II", 0, 0xFFFFFFFF)) + _u32(8, 0) + _u32(9, netmask)
        payload = _attr(1, service)
        if dest:
            family, address = _address(dest[0])
            body = _u16(11, family) + _attr(1, address) + _u16(2, socket.htons(dest[1]))
            if forward:
                body += _u32(3, _FORWARDS[forward]) + _u32(4, weight) + _u32(5, 0) + _u32(6, 0)
            payload += _attr(2, body)
        reply = self._send(self._family, _COMMANDS[command], payload)
        return -struct.unpack_from("=i", reply, 16)[0]


# ---------------------------------------------------------------- eyes

# of sh and mh ipvsadm prints the bits by other names
_FLAGS = {"mh-fallback": "flag-1", "mh-port": "flag-2", "sh-fallback": "flag-1", "sh-port": "flag-2"}


def _endpoint(text):
    host, _, port = text.rpartition(":")
    return str(_parsed(host.strip("[]"))), int(port)


@functools.lru_cache(None)
def _parsed(text):
    return ipaddress.ip_address(text)


def _words(words):
    """{"-t": value, ...}; options without a value have True."""
    options, i = {}, 0
    while i < len(words):
        if i + 1 < len(words) and not words[i + 1].startswith("-"):
            options[words[i]] = words[i + 1]
            i += 2
        else:
            options[words[i]] = True
            i += 1
    return options


def _place(options):
    if "-f" in options:
        # ipvsadm prints large marks as negative numbers, which look like options
        return "fwmark", 6 if "-6" in options else 4, -1 if options["-f"] is True else int(options["-f"])
    protocol = "tcp" if "-t" in options else "udp"
    return (protocol, *_endpoint(options["-t" if protocol == "tcp" else "-u"]))


def parse_table(text):
    """{place: {"scheduler", "persistent": s, "ops", "flags": set, "dests": {(host, port): (forward, weight)}}}"""
    table = {}
    lines = [_words(line.split()) for line in text.splitlines()]
    for options in lines:
        if "-A" in options:
            flags = {_FLAGS.get(flag, flag) for flag in options["-b"].split(",")} if "-b" in options else set()
            table[_place(options)] = {
                "scheduler": options["-s"],
                "persistent": int(options.get("-p", 0)),
                "ops": "-o" in options,
                "flags": flags,
                "dests": {},
            }
    for options in lines:
        if "-a" in options:
            forward = next(name for word, name in (("-g", "dr"), ("-i", "ipip"), ("-m", "nat")) if word in options)
            table[_place(options)]["dests"][_endpoint(options["-r"])] = (forward, int(options["-w"]))
    return table


def table():
    return parse_table(subprocess.run(["ipvsadm", "-Sn"], check=True, capture_output=True, text=True).stdout)


def saved():
    """The table as a text for restore()."""
    lines = subprocess.run(["ipvsadm", "-Sn"], check=True, capture_output=True, text=True).stdout.splitlines()
    return "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.startswith("-a")))


def restore(text):
    subprocess.run(["ipvsadm", "-C"], check=True)
    subprocess.run(["ipvsadm", "-R"], check=True, input=text, text=True)


def addresses(device):
    """Global addresses on a device; none when there is no such device."""
    done = subprocess.run(["ip", "-j", "addr", "show", "dev", device], capture_output=True, text=True)
    links = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []
    return {a["local"] for link in links for a in link.get("addr_info", ()) if a["scope"] == "global"}


def error_name(number):
    return errno.errorcode.get(number, os.strerror(number))
