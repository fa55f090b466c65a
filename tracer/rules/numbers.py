# SPDX-License-Identifier: Apache-2.0
"""Indicators that are numbers, as rule files write them: networks, ports, ioctls, files."""

from __future__ import annotations

import ipaddress
import re

#: IPv6, with IPv4 mapped into ::ffff:0:0/96; ports as protocol << 16 | port; GPU ioctls; files, see :func:`file_number`.
SPACE_NETWORK, SPACE_PORT, SPACE_IOCTL, SPACE_INODE = range(4)


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


#: What a file's size and time of change are multiplied by (splitmix64's constants).
CONTENT_SIZE, CONTENT_TIME = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
_CONTENT_BITS = 32


def content_mark(size: int, changed_ns: int) -> int:
    """32 bits that differ when a file has been written to, unless its time of change was set back."""
    word = (1 << 64) - 1
    return ((size * CONTENT_SIZE & word) ^ (changed_ns * CONTENT_TIME & word)) >> _CONTENT_BITS


def file_number(dev: int, inode: int, content: int) -> int:
    """A file, and the state that it is in: 128 bits, the last 32 for ``content``."""
    return dev << 96 | inode << _CONTENT_BITS | content


def inode_range(text: str) -> tuple[int, int]:
    """First and last number for ``MAJOR:MINOR:INODE``, a file whatever is in it, or
    ``MAJOR:MINOR:INODE:SIZE:NANOSECONDS``, the same as long as nobody writes to it. Raises ValueError.
    """
    parts = [int(part) for part in text.split(":")]
    most = (0xFFF, 0xFFFFF, (1 << 64) - 1, (1 << 63) - 1, (1 << 63) - 1)
    if len(parts) not in (3, 5) or not all(0 <= n <= m for n, m in zip(parts, most, strict=False)):
        raise ValueError(text)
    dev = parts[0] << 20 | parts[1]
    if len(parts) == 3:
        return file_number(dev, parts[2], 0), file_number(dev, parts[2], 0xFFFFFFFF)
    exact = file_number(dev, parts[2], content_mark(parts[3], parts[4]))
    return exact, exact


def ranges_of(where: str, text: str) -> list[tuple[int, int, int]]:
    """(space, first, last) of one indicator of a group with this ``where``. Raises ValueError."""
    if where == "network":
        return [(SPACE_NETWORK, *network_range(text))]
    if where == "port":
        return [(SPACE_PORT, *found) for found in port_ranges(text)]
    if where == "inode":
        return [(SPACE_INODE, *inode_range(text))]
    return [(SPACE_IOCTL, *ioctl_range(text))]
