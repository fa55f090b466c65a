# SPDX-License-Identifier: Apache-2.0
"""Indicators that are numbers, as rule files write them: networks, ports, ioctls."""

from __future__ import annotations

import ipaddress
import re

#: IPv6, with IPv4 mapped into ::ffff:0:0/96; ports as protocol << 16 | port; GPU ioctls.
SPACE_NETWORK, SPACE_PORT, SPACE_IOCTL = range(3)


def network_range(text: str) -> tuple[int, int]:
    """First and last number of a network in CIDR notation. Raises ValueError."""
    network = ipaddress.ip_network(text, strict=True)
    first, last = int(network.network_address), int(network.broadcast_address)
    mapped = 0xFFFF << 32 if network.version == 4 else 0
    return first | mapped, last | mapped


_PROTOCOLS = {"tcp": (6,), "udp": (17,), None: (6, 17)}
_PORTS = re.compile(r"(?:(tcp|udp)/)?([0-9]{1,5})(?:-([0-9]{1,5}))?")


def port_ranges(text: str) -> list[tuple[int, int]]:
    """Ranges for ``22``, ``8000-8100``, ``udp/53``. Raises ValueError."""
    found = _PORTS.fullmatch(text)
    if not found:
        raise ValueError(text)
    first, last = int(found[2]), int(found[3] or found[2])
    if not first <= last <= 65535:
        raise ValueError(text)
    return [(number << 16 | first, number << 16 | last) for number in _PROTOCOLS[found[1]]]


def ioctl_range(text: str) -> tuple[int, int]:
    """First and last number for ``FAMILY:NR`` or ``FAMILY:NR:CODE``, as kernels number them, in any base.

    Raises ValueError.
    """
    parts = [int(part, 0) for part in text.split(":")]
    if len(parts) not in (2, 3) or not all(
        0 <= n <= m for n, m in zip(parts, (0xFF, 0xFFFF, 0xFFFFFFFF), strict=False)
    ):
        raise ValueError(text)
    first = parts[0] << 48 | parts[1] << 32
    return (first | parts[2], first | parts[2]) if len(parts) == 3 else (first, first | 0xFFFFFFFF)


def ranges_of(where: str, text: str) -> list[tuple[int, int, int]]:
    """(space, first, last) of one indicator of a group with this ``where``. Raises ValueError."""
    if where == "network":
        return [(SPACE_NETWORK, *network_range(text))]
    if where == "port":
        return [(SPACE_PORT, *found) for found in port_ranges(text)]
    return [(SPACE_IOCTL, *ioctl_range(text))]
