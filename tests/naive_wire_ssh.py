# SPDX-License-Identifier: Apache-2.0
"""SSH and SOCKS, for the plain twin."""

from __future__ import annotations

import re

from naive_wire_flow import Flow, has


def ssh(data: bytes, flow: Flow) -> str | None:
    if data.startswith(b"SSH-chisel-v"):
        return "chisel"
    match = re.match(rb"SSH-(?:2\.0|1\.99|1\.5)-([ -~]*)", data[:255])
    if not match:
        return None
    flow.software = match[1]
    return "chisel" if match[1].startswith(b"chisel-v") else "ssh"


def address_size(data: bytes) -> int | None:
    """Of type, address and port; None if unknown, more than there is if it can't be said."""
    if data[0] == 3:
        return 4 + data[1] if len(data) > 1 else 99999
    return {1: 7, 4: 19}.get(data[0])


def socks5(data: bytes, first: int, flow: Flow) -> str | None:
    if first == 2 and (flow.other == "socks5" or flow.other_proxied):
        if len(data) < 2:
            return None
        rest = data[2:]
        if data[1] == 2 and len(rest) >= 2 and rest[0] == 1:
            rest = rest[2:]
        if len(rest) >= 4 and rest[:3] == b"\5\0\0":
            size = address_size(rest[3:])
            if size:
                flow.inner = rest[3 + size :]
        return "socks5"
    if len(data) < 3 or not 1 <= data[1] <= 8:
        return None
    methods, rest = data[2 : 2 + data[1]], data[2 + data[1] :]
    if first != 2 + data[1] or len(methods) != data[1] or any(9 < m < 128 for m in methods):
        return None
    if not flow.client:
        flow.traits.add("role-reversed")
    if len(rest) > 2 and rest[0] == 1:
        at = 2 + rest[1]
        rest = rest[at + 1 + rest[at] :] if at < len(rest) else b""
    if len(rest) >= 4 and has(rest, rb"\x05[\x01-\x03]\0"):
        size = address_size(rest[3:])
        if size and len(rest) >= 3 + size:
            flow.traits.add("proxied")
            if rest[3] == 3:
                flow.name(rest[5 : 1 + size])
            flow.inner = rest[3 + size :]
    return "socks5"


def socks4(data: bytes, flow: Flow) -> str | None:
    if data[0] == 0:
        if flow.other != "socks4" and not flow.other_proxied:
            return None
        if not has(data, rb"\0[\x5a-\x5d]......"):
            return None
        flow.inner = data[8:]
        return "socks4"
    match = re.match(rb"\x04[\x01\x02](..)(....)[!-~]{0,63}\0", data, re.DOTALL)
    if not match or match[1] == b"\0\0":
        return None
    rest = data[match.end() :]
    if match[2][:3] == b"\0\0\0":
        name = re.match(rb"([!-~]+)\0", rest)
        if match[2][3] == 0 or not name:
            return None
        flow.name(name[1])
        rest = rest[name.end() :]
    flow.traits.add("proxied")
    if not flow.client:
        flow.traits.add("role-reversed")
    flow.inner = rest
    return "socks4"
