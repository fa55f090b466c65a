# SPDX-License-Identifier: Apache-2.0
"""Indicators that are numbers, as plain as can be: every value is asked by itself."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracer.rules.model import Group

INTERNAL = """
    10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16 224.0.0.0/4 255.255.255.255/32
    fc00::/7 fe80::/10 ff00::/8
"""
LOOPBACK = "127.0.0.0/8 0.0.0.0/32 ::1/128 ::/128"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def within(address: Address, network: str) -> bool:
    """IPv4 addresses and those mapped into IPv6 are the same."""
    net = ipaddress.ip_network(network)
    if isinstance(address, ipaddress.IPv6Address) and net.version == 4:
        mapped = address.ipv4_mapped
        return mapped is not None and mapped in net
    if isinstance(address, ipaddress.IPv4Address) and net.version == 6:
        return ipaddress.IPv6Address(f"::ffff:{address}") in net
    return address in net


def of_address(address: Address, groups: Sequence[Group], own: Iterable[str] = ()) -> set[str]:
    found = {
        group.id
        for group in groups
        if group.where == ("network",) and any(within(address, value) for value in group.values)
    }
    if any(within(address, network) for network in [*INTERNAL.split(), *own]):
        found.add("@internal")
    if any(within(address, network) for network in LOOPBACK.split()):
        found.add("@loopback")
    return found


def port_is(protocol: int, port: int, value: str) -> bool:
    name, slash, ports = value.rpartition("/")
    if slash and {"tcp": 6, "udp": 17}[name] != protocol:
        return False
    low, _, high = ports.partition("-")
    return protocol in (6, 17) and int(low) <= port <= int(high or low)


def of_port(protocol: int, port: int, groups: Sequence[Group]) -> set[str]:
    return {
        group.id
        for group in groups
        if group.where == ("port",) and any(port_is(protocol, port, value) for value in group.values)
    }


def ioctl_is(call: tuple[int, int, int], value: str) -> bool:
    wanted = [int(part, 0) for part in value.split(":")]
    return list(call[: len(wanted)]) == wanted


def of_ioctl(call: tuple[int, int, int], groups: Sequence[Group]) -> set[str]:
    return {
        group.id
        for group in groups
        if group.where == ("ioctl",) and any(ioctl_is(call, value) for value in group.values)
    }


def inode_is(file: tuple[int, int, int, int], value: str) -> bool:
    """``file``: device (major << 20 | minor), inode, size, nanoseconds of its last change."""
    major, minor, *rest = (int(part) for part in value.split(":"))
    return [major << 20 | minor, *rest] == list(file[: 1 + len(rest)])


def of_file(file: tuple[int, int, int, int], groups: Sequence[Group]) -> set[str]:
    return {
        group.id
        for group in groups
        if group.where == ("inode",) and any(inode_is(file, value) for value in group.values)
    }
