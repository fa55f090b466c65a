# SPDX-License-Identifier: Apache-2.0
"""Who makes room in a small set of places that are all taken: whoever has most of them.

Tables that look a thing up in one of a few places (*ways*) can be filled by whoever makes many such things, or by one
who knows the hash: 16 that fall together are enough. So one process must never push out, nor keep out, another's. Each
row says whose it is: ``tgid`` and ``start``. The set is compared with itself, 256 steps for 16 ways, and only when it is
full. Whoever has no more than a *share* of it is not to blame.

What makes room is worth least, and what is new is worth nothing yet: whoever makes something new time and again would
push out what he wants forgotten before it has gathered anything. Tables of what gathers (:mod:`tracer.detect.dns_data`,
:mod:`tracer.detect.pings`) know no row that is too good, then, and let each *inherit* the worth of the one whose place it
takes. So it is level with the others at once, and goes again only after all of them have gathered as much as it has:
of n rows that compete, one that gathers more than an nth of all is never lost for good (*space saving*: Metwally, Agrawal
and El Abbadi, Efficient computation of frequent and top-k elements in data streams, 2005). It is judged by its own alone.
Their share is half of the places, so that n is 8 for one process's own, however many others it has hold the rest.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tracer.jit import njit

NOBODY = -1
#: No row is worth too much to make room.
ANYTHING = (1 << 63) - 1
#: A field of the rows: int64[n].
Words: TypeAlias = npt.NDArray[np.int64]


@njit
def most_crowding(rows: npt.NDArray[np.void], home: int, ways: int, share: int, tgid: int, start: int) -> int:
    """A row of the process that has most of rows[home:home + ways], if one more is this process's; it itself, where
    another has no more than that. NOBODY if none would have more than ``share``.
    """
    most, found = 2 * share + 1, NOBODY  # twice what it will have, and one more if it asks
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
    rows: npt.NDArray[np.void], home: int, ways: int, share: int, tgid: int, start: int, worth: Words, heard: Words,
    nothing: int,
) -> int:  # fmt: skip
    """Which of rows[home:home + ways], all taken, gives up its place to this process: of whoever crowds them the one of
    least ``worth``, and of these the one ``heard`` of longest ago. If nobody does, only one that is worth no more than
    ``nothing``: so much may be pushed out by many processes. -1: none.
    """
    crowds = most_crowding(rows, home, ways, share, tgid, start)
    return least_worth(rows, home, ways, crowds, worth, heard, nothing)


@njit
def least_worth(
    rows: npt.NDArray[np.void], home: int, ways: int, crowds: int, worth: Words, heard: Words, nothing: int
) -> int:
    """The same, where it is known which row's process ``crowds`` them, or that NOBODY does."""
    found = -1
    for at in range(home, home + ways):
        if crowds == NOBODY:
            if worth[at] > nothing:
                continue
        elif rows[at].tgid != rows[crowds].tgid or rows[at].start != rows[crowds].start:
            continue
        if found < 0 or (worth[at], heard[at]) < (worth[found], heard[found]):
            found = at
    return found
