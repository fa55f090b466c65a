# SPDX-License-Identifier: Apache-2.0
"""Signals of connections, of listening and of executables, as plain as can be: every group asked by itself."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import naive_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.model import Group

TCP, UDP, ICMP = 6, 17, 1
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def has_port(text: str, protocol: int, port: int) -> bool:
    """Is it one of ``22``, ``8000-8100``, ``udp/53``?"""
    prefix, slash, span = text.rpartition("/")
    if protocol not in {"tcp": [TCP], "udp": [UDP]}.get(prefix if slash else "", [TCP, UDP]):
        return False
    first, _, last = span.partition("-")
    return int(first) <= port <= int(last or first)


def found(text: str, field: str, group: Group) -> bool:
    data = text.encode()
    return bool(naive_rules.find(data, 0, len(data), field, [group]))


def network_signals(
    groups: Sequence[Group], address: Address, protocol: int, port: int, name: str | None = None
) -> set[str]:
    """Of a connection to there (``name``: what DNS said)."""
    there = set()
    for group in groups:
        holds = {
            "network": lambda value: address in ipaddress.ip_network(value),
            "port": lambda value: has_port(value, protocol, port),
        }.get(group.where[0])
        if holds and any(holds(value) for value in group.values):
            there.add(group.id)
        if group.where == ("host",) and name is not None and found(name, "host", group):
            there.add(group.id)
    return there


def listen_signals(groups: Sequence[Group], address: Address, protocol: int, port: int) -> set[str]:
    """Of listening there; without an address in particular, it is in no network."""
    if not address.is_unspecified:
        return network_signals(groups, address, protocol, port)
    return network_signals([group for group in groups if group.where == ("port",)], address, protocol, port)


def exec_signals(groups: Sequence[Group], path: str) -> set[str]:
    return {group.id for group in groups if "path" in group.where and found(path, "path", group)}
