# SPDX-License-Identifier: Apache-2.0
"""Who makes room in a small set of places that are all taken: whoever has most of them.

Tables that look a thing up in one of a few places (*ways*) can be filled by whoever makes many such things, or by one
who knows the hash: 16 that fall together are enough. So one process must never push out, nor keep out, another's. Each
row says whose it is: ``tgid`` and ``start``. The set is compared with itself, 256 steps for 16 ways, and only when it is
full.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tracer.jit import njit

NOBODY = -1
#: A field of the rows: int64[n].
Words: TypeAlias = npt.NDArray[np.int64]


@njit
def most_crowding(rows: npt.NDArray[np.void], home: int, ways: int, tgid: int, start: int) -> int:
    """A row of the process that has most of rows[home:home + ways], if one more is this process's; it itself, where
    another has no more than that. NOBODY if each has one.
    """
    most, found = 2, NOBODY  # twice what it has, and one more if it asks
    for at in range(home, home + ways):
        row: Any = rows[at]
        asks = row.tgid == tgid and row.start == start
        weight = 3 if asks else 0
        for other in range(home, home + ways):
            if rows[other].tgid == row.tgid and rows[other].start == row.start:
                weight += 2
        if weight > most:
            most, found = weight, at
    return found


@njit
def makes_room(
    rows: npt.NDArray[np.void], home: int, ways: int, tgid: int, start: int, worth: Words, heard: Words, nothing: int
) -> int:  # fmt: skip
    """Which of rows[home:home + ways], all taken, gives up its place to this process: of whoever crowds them the one of
    least ``worth``, and of these the one ``heard`` of longest ago. If nobody does, only one that is worth no more than
    ``nothing``: so much may be pushed out by many processes. -1: none.
    """
    crowds = most_crowding(rows, home, ways, tgid, start)
    found = -1
    for at in range(home, home + ways):
        row: Any = rows[at]
        if crowds == NOBODY:
            if worth[at] > nothing:
                continue
        elif row.tgid != rows[crowds].tgid or row.start != rows[crowds].start:
            continue
        if found < 0 or (worth[at], heard[at]) < (worth[found], heard[found]):
            found = at
    return found
