# SPDX-License-Identifier: Apache-2.0
"""Indicators that are numbers: networks, ports, ioctls, files. One sorted table of where what begins.

Every number lives in a space of its own (``SPACE_*``) and is a pair of words there, so that one binary
search serves all: the row found says which signals hold from its number up to the next row's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.detect.facts import FACT_BIT, FIRST_GROUP, WORD_BITS, WORDS
from tracer.jit import njit
from tracer.rules.numbers import (
    CONTENT_SIZE,
    CONTENT_TIME,
    SPACE_INODE,
    SPACE_IOCTL,
    SPACE_NETWORK,
    SPACE_PORT,
    network_range,
    ranges_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracer.rules.model import Group

I64 = NDArray[np.int64]

#: Networks that are nobody's outside (RFC 1918, 6598, 3927, 4193, 4291): traffic in them stays in house.
INTERNAL = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4",
    "255.255.255.255/32", "fc00::/7", "fe80::/10", "ff00::/8",
)  # fmt: skip
LOOPBACK = ("127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128")

_SIGN = 1 << 63
_TOP = (1 << 128) - 1


class Ranges(NamedTuple):
    """``begins`` int64[n, 3]: space and the two words of the first number, sorted; each word has its
    highest bit turned, so that signed comparison orders it. ``signals`` int64[n, WORDS].
    """

    begins: I64
    signals: I64


def _key(space: int, number: int) -> tuple[int, int, int]:
    high, low = number >> 64, number & (1 << 64) - 1
    return space, high - _SIGN, low - _SIGN


def compile_ranges(groups: Sequence[Group], own_networks: Iterable[str] = ()) -> Ranges:
    """The table of all groups that are numbers, and of the networks that count as inside.

    ``own_networks``: CIDR, in addition to :data:`INTERNAL`.
    """
    found: list[tuple[int, int, int, int]] = []  # space, first, last, signal
    for name, networks in (("internal", (*INTERNAL, *own_networks)), ("loopback", LOOPBACK)):
        found += [(SPACE_NETWORK, *network_range(text), FACT_BIT[name]) for text in networks]
    for number, group in enumerate(groups):
        if group.match == "range":
            for value in group.values:
                found += [(*span, FIRST_GROUP + number) for span in ranges_of(group.where[0], value)]
    changes: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for space, first, last, signal in found:
        changes.setdefault((space, first), ([], []))[0].append(signal)
        if last < _TOP:
            changes.setdefault((space, last + 1), ([], []))[1].append(signal)
    for space in (SPACE_NETWORK, SPACE_PORT, SPACE_IOCTL, SPACE_INODE):
        changes.setdefault((space, 0), ([], []))
    begins, rows = [], []
    depth = dict.fromkeys((signal for *_, signal in found), 0)
    now = -1
    for (space, number), (starting, ending) in sorted(changes.items()):
        if space != now:
            depth = dict.fromkeys(depth, 0)
            now = space
        for signal in starting:
            depth[signal] += 1
        for signal in ending:
            depth[signal] -= 1
        row = [0] * WORDS
        for signal, count in depth.items():
            if count > 0:
                row[signal // WORD_BITS] |= 1 << signal % WORD_BITS
        begins.append(_key(space, number))
        rows.append(row)
    return Ranges(np.array(begins, np.int64), np.array(rows, np.int64))


@njit
def add_signals(ranges: Ranges, space: int, high: int, low: int, signals: I64) -> None:
    """Add to ``signals`` int64[WORDS] what holds for the number (``high``, ``low``), bits as they are."""
    a = high ^ np.int64(-(1 << 63))
    b = low ^ np.int64(-(1 << 63))
    lo, hi = 0, len(ranges.begins)
    while hi - lo > 1:
        middle = (lo + hi) >> 1
        row = ranges.begins[middle]
        after = row[0] < space or (row[0] == space and (row[1] < a or (row[1] == a and row[2] <= b)))
        if after:
            lo = middle
        else:
            hi = middle
    for word in range(len(signals)):
        signals[word] |= ranges.signals[lo, word]


_SIZE, _TIME = np.uint64(CONTENT_SIZE), np.uint64(CONTENT_TIME)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@njit
def file_words(dev: int, inode: int, size: int, changed_ns: int) -> tuple[int, int]:
    """The two words of :func:`.numbers.file_number` for a file as it is executed."""
    content = (np.uint64(size) * _SIZE ^ np.uint64(changed_ns) * _TIME) >> _HALF
    high = np.uint64(dev) << _HALF | np.uint64(inode) >> _HALF
    low = (np.uint64(inode) & _LOW) << _HALF | content
    return np.int64(high), np.int64(low)  # type: ignore[return-value]
