# SPDX-License-Identifier: Apache-2.0
"""Datagrams, for the plain twin."""

from __future__ import annotations

import itertools

import naive_quic
from naive_wire_dns import dns
from naive_wire_flow import Flow, big, has
from naive_wire_tcp import balanced, begins_as_text
from naive_wire_tls import hello, host_protocol


def datagram(data: bytes, flow: Flow) -> str | None:
    size = max(flow.first, len(data))
    protocol = by_header(data, size, flow)
    if not protocol and naive_quic.is_long(data, size):
        protocol = "quic"
        crypto = naive_quic.client_crypto(data) if flow.client else None
        if crypto is not None:
            protocol = quic(crypto, flow)
    protocol = protocol or dns(data, flow)
    if not protocol and balanced(data) and not begins_as_text(data):
        flow.traits.add("looks-random")
    return protocol


def quic(crypto: dict[int, int], flow: Flow) -> str:
    """``crypto``: the bytes that CRYPTO frames hold, by place."""
    start = bytes(crypto[at] for at in range(naive_quic.reached(crypto)))
    protocol = None
    if len(start) > 4 and start[0] == 1:
        protocol = hello(start, flow)
    if protocol is None or (protocol == "tls" and not flow.host):
        name = naive_quic.name_anywhere(crypto)
        if name:
            flow.name(name)
            protocol = host_protocol(name) or protocol
    return protocol if protocol and protocol != "tls" else "quic"


def openvpn(data: bytes, size: int) -> bool:
    if len(data) < 14 or data[1:9] == bytes(8):
        return False
    number = rb"(\0\0\0\x01|\x0f\0\0\x01)"
    if data[0] == 0x50:
        return size >= 200 and has(data[9:], number)
    if data[0] not in (0x38, 0x40):
        return False
    server = data[0] == 0x40
    body = 17 if server else 5
    if size == 9 + body:
        return data[9:14] == b"\1\0\0\0\0" if server else not data[9:].strip(b"\0")
    if size == 49 + body and has(data[9:], number):
        return True
    checksum = size - 17 - body
    rest = data[9 + checksum :] if checksum in (16, 20, 28, 32, 48, 64) else b""
    return len(rest) >= 8 + body and has(rest, number) and rest[8] == server


def by_header(data: bytes, size: int, flow: Flow) -> str | None:
    if len(data) >= 16:
        sizes = {1: 148, 2: 92, 3: 64}
        if data[1:4] == b"\0\0\0" and (
            sizes.get(data[0]) == size
            or (data[0] == 4 and size >= 32 and size % 16 == 0 and data[13:16] == b"\0\0\0")
        ):
            return "wireguard"
    if has(data, b"TS\xf0\x9f\x92\xac."):
        return "tailscale"
    if (len(data) >= 20 and has(data, rb"[\0-\x03]...\x21\x12\xa4\x42")) and (
        big(data[2:4]) % 4 == 0 and 20 + big(data[2:4]) <= size
    ):
        return "stun"
    if (len(data) >= 47 and data[27] & 31 == 1 and data[13:18] == data[41:46] and data[46] == 0) and (
        4 <= data[28] <= 32
    ):
        return "zerotier"
    if openvpn(data, size):
        return "openvpn"
    if size >= 64 and has(data, rb"\x10[\0\x01]\0\0(\0{4}\0{7}\x01|....\0{7}\x02)"):
        return "nebula"
    if has(data, rb"\x10\xd1\x9e[\x10-\x3f]"):
        return "iodine"
    if len(data) >= 13 and has(data, rb"[\x14-\x19]\xfe[\xfc-\xff]"):
        return "dtls"
    if (size == 48 and 123 in (flow.remote, flow.local)) and (
        1 <= data[0] >> 3 & 7 <= 4 and 1 <= data[0] & 7 <= 5
    ):
        return "ntp"
    return None


def icmp(data: bytes, size: int, flow: Flow) -> str | None:
    if len(data) >= 28 and data[0] == 0x45 and data[9] == 1:
        data, size = data[20:], size - 20
    if len(data) < 8:
        return None
    if data[0] in (0, 8, 128, 129) and data[1] == 0:
        data, size = data[8:], size - 8
    elif (
        (data[0] <= 43 or 130 <= data[0] <= 161)
        and data[1] <= 15
        and not data.startswith(b"\xd5\x20\x08\x80")
    ):
        return None
    if len(data) >= 28 and data.startswith((b"\xd5\x20\x08\x80", b"\xde\xad\xc0\xde")):
        return "icmp-tunnel"
    if data.startswith(b"TUNL"):
        return "icmp-tunnel"
    if len(data) >= 20 and data[0] == 0x45 and big(data[2:4]) == size:
        return "icmp-tunnel"
    if size > 128:
        flow.traits.add("icmp-large")
    if len(data) > 24 and not patterned(data) and not patterned(data[16:]):
        flow.traits.add("icmp-odd-payload")
    return "icmp"


def patterned(data: bytes) -> bool:
    step = data[1] - data[0]
    pairs = list(itertools.pairwise(data))
    return step in (0, 1) and all(b == (a + step) % 256 or (a, b) == (119, 97) for a, b in pairs)
