# SPDX-License-Identifier: Apache-2.0
"""Packets that a stranger could send: a datagram with a forged source inside a tunnel packet, whole or in fragments."""

import itertools
import socket
import struct

PROTOCOLS = {4: 4, 6: 41}  # of IPv4 and IPv6 inside a packet
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
FRAGMENT, OPTIONS = 44, 60  # IPv6 extension headers


def family_of(address):
    return 6 if ":" in address else 4


def raw(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def header(source, to, protocol, length, fragment=0, number=0):
    """An IP header; fragment: flags and offset of IPv4."""
    if family_of(to) == 6:
        return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + raw(source) + raw(to)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, number, fragment, 64, protocol, 0) + raw(source) + raw(to)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def datagram(source, to, port, text):
    """A whole packet with UDP in it."""
    udp = struct.pack("!HHHH", 1000, port, 8 + len(text), 0) + text
    pseudo = raw(source) + raw(to) + (struct.pack("!IxxxB" if family_of(to) == 6 else "!xBH", *((len(udp), 17) if family_of(to) == 6 else (17, len(udp)))))
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    return header(source, to, 17, len(udp)) + udp


def wrapped(method, inner):
    """(IP protocol, what follows the outer IP header) of a tunnel packet; for gue what follows UDP."""
    family = inner[0] >> 4
    if method == "gre":
        return 47, struct.pack("!HH", 0, ETHERTYPES[family]) + inner
    if method == "gue":
        return 17, struct.pack("!BBH", 0, PROTOCOLS[family], 0) + inner
    return PROTOCOLS[family], inner


def send(host, to, method, inner, port=6080):
    """From that host's own address, as it is."""
    protocol, data = wrapped(method, inner)
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with host.inside(), socket.socket(family, *((socket.SOCK_DGRAM,) if method == "gue" else (socket.SOCK_RAW, protocol))) as s:
        s.sendto(data, (to, port if method == "gue" else 0))


def send_whole(host, to, packets):
    """Packets with their IP headers."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with host.inside(), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        for packet in packets:
            s.sendto(packet, (to, 0))


_numbers = itertools.count(7)


def fragments(source, to, protocol, data, cut):
    """Two of them; cut is a multiple of 8."""
    number = next(_numbers)  # a packet is put together from pieces of one number
    if family_of(to) == 4:
        return [
            header(source, to, protocol, cut, 0x2000, number) + data[:cut],
            header(source, to, protocol, len(data) - cut, cut // 8, number) + data[cut:],
        ]
    heads = [struct.pack("!BBHI", protocol, 0, offset | more, number) for offset, more in ((0, 1), (cut, 0))]
    return [header(source, to, FRAGMENT, 8 + len(part)) + head + part for head, part in zip(heads, (data[:cut], data[cut:]))]


def hidden(source, to, protocol, data):
    """IPv6: the first fragment ends before the header that says what is in the packet."""
    options = [struct.pack("!BBBBI", following, 0, 1, 4, 0) for following in (OPTIONS, protocol)]
    return fragments(source, to, OPTIONS, b"".join(options) + data, 8)
