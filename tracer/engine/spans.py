# SPDX-License-Identifier: Apache-2.0
"""Which spans (tool calls, steps) there are, in flat arrays, bounded.

A span is named by its owner, as (tgid, start), and a number of the owner's choice. Whatever a span
is told to lie in stays in the table as long as it does, and a span stays while a process that was
born in it does, ended or not: whoever opens spans as fast as he can makes the watch forget none that
matters. Ended ones that nobody is in go first, the oldest first. When there are none, a new span is
not recorded, and counted; those that processes open inside of others' may take no more than a part of
the table, so that a tool can't leave its trainer without.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.engine.intrinsics import i64
from tracer.jit import inline, njit
from tracer.kernel import schema

NONE = -1
#: Bytes kept of what is said of a span: all that a probe hands over.
TEXT = schema.SPAN_TEXT
#: No span lies deeper.
DEPTH = 32

FREE, OPEN, ENDED = range(3)

SPAN = np.dtype(
    [
        ("tgid", "i8"),
        ("start", "i8"),
        ("token", "i8"),
        ("serial", "i8"),  # names this use of the row: a count, and the row in the last 16 bits
        ("above", "i8"),  # the row of the span that it lies in, or NONE
        ("depth", "i8"),
        ("level", "i8"),  # how often the owner changes on the way up
        ("users", "i8"),  # processes and spans that name it
        ("state", "i8"),
        ("known", "i8"),  # its beginning was told: else only that somebody is in it
        ("began", "i8"),
        ("opener", "i8"),  # who opened it, where that was a child for its parent; else 0
        ("flags", "i8"),  # enum span_flag
        ("length", "i8"),  # bytes of its text
        ("next", "i8"),  # in the list of free rows, or of those that are ended and unused
        ("last", "i8"),
        ("younger", "i8"),  # of the open spans of one owner
        ("elder", "i8"),
    ]
)

# Places in Spans.state
(
    S_FREE,  # first free row, + 1
    S_USED,  # rows ever used
    S_OLDEST,  # of those ended and unused, or NONE
    S_YOUNGEST,
    S_BUSY,  # rows that can't be given to another span
    S_SERIAL,
    S_FULL,  # spans not recorded: no room
    S_UNKNOWN,  # spans whose beginning was not told
    S_REPEATED,  # begun a second time: the first word stands
    S_SALT,  # of the hash: owners choose their numbers
) = range(10)


class Spans(NamedTuple):
    """``table`` SPAN[n]; ``texts`` uint8[n, TEXT]; ``slots`` int32[2**k], a hash of the name to row + 1;
    ``state`` int64[10].
    """

    table: npt.NDArray[np.void]
    texts: npt.NDArray[np.uint8]
    slots: npt.NDArray[np.int32]
    state: npt.NDArray[np.int64]


def make_spans(capacity: int = 1 << 14) -> Spans:
    """An empty table for ``capacity`` spans (65,536 at most)."""
    assert capacity <= 1 << 16
    slots = 1 << max(4, (2 * capacity - 1).bit_length())
    spans = Spans(
        np.zeros(capacity, SPAN),
        np.zeros((capacity, TEXT), np.uint8),
        np.zeros(slots, np.int32),
        np.zeros(10, np.int64),
    )
    spans.state[S_SALT] = int.from_bytes(os.urandom(4), "little")
    spans.state[S_OLDEST] = spans.state[S_YOUNGEST] = NONE
    return spans


@inline
def _home(s: Spans, tgid: int, start: int, token: int) -> int:
    mixed = (tgid * 0x9E3779B1 ^ token * 0x85EBCA77 ^ start ^ start >> 20 ^ s.state[S_SALT]) & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 15) * 0x85EBCA6B & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return (mixed ^ mixed >> 16) * len(s.slots) >> 32


@njit
def find_span(s: Spans, tgid: int, start: int, token: int) -> int:
    """The row of this very span, or NONE."""
    mask = len(s.slots) - 1
    at = _home(s, tgid, start, token)
    while s.slots[at]:
        row = i64(s.slots[at]) - 1
        r = s.table[row]
        if r.token == token and r.tgid == tgid and r.start == start:
            return row
        at = (at + 1) & mask
    return NONE


@njit
def _leave_hash(s: Spans, row: int) -> None:
    mask = len(s.slots) - 1
    r = s.table[row]
    at = _home(s, r.tgid, r.start, r.token)
    while s.slots[at] != row + 1:
        if s.slots[at] == 0:
            return
        at = (at + 1) & mask
    hole = at
    at = (at + 1) & mask
    while s.slots[at]:
        other = s.table[i64(s.slots[at]) - 1]
        home = _home(s, other.tgid, other.start, other.token)
        if ((at - home) & mask) >= ((at - hole) & mask):
            s.slots[hole] = s.slots[at]
            hole = at
        at = (at + 1) & mask
    s.slots[hole] = 0


@njit
def _idle(s: Spans, row: int) -> None:
    """If the span has ended and nobody is in it, the row may go to another when it is needed."""
    r = s.table[row]
    if r.state != ENDED or r.users:
        return
    r.next = NONE
    r.last = s.state[S_YOUNGEST]
    if r.last == NONE:
        s.state[S_OLDEST] = row
    else:
        s.table[r.last].next = row
    s.state[S_YOUNGEST] = row
    s.state[S_BUSY] -= 1


@njit
def _busy(s: Spans, row: int) -> None:
    """Take the row out of the list of those that :func:`_idle` put there."""
    r = s.table[row]
    if r.last == NONE:
        s.state[S_OLDEST] = r.next
    else:
        s.table[r.last].next = r.next
    if r.next == NONE:
        s.state[S_YOUNGEST] = r.last
    else:
        s.table[r.next].last = r.last
    s.state[S_BUSY] += 1


@njit
def hold(s: Spans, row: int) -> None:
    """Somebody is in the span, or it lies above another."""
    if row == NONE:
        return
    r = s.table[row]
    if r.state == ENDED and r.users == 0:
        _busy(s, row)
    r.users += 1


@njit
def release(s: Spans, row: int) -> None:
    """The reverse of :func:`hold`."""
    if row == NONE:
        return
    s.table[row].users -= 1
    _idle(s, row)


@njit
def _forget_oldest(s: Spans) -> bool:
    """Make room: of those that have ended and that nobody is in, the oldest goes. False: there is none."""
    row = s.state[S_OLDEST]
    if row == NONE:
        return False
    _busy(s, row)
    s.state[S_BUSY] -= 1
    _leave_hash(s, row)
    r = s.table[row]
    release(s, r.above)
    r.state = FREE
    r.serial = 0
    r.next = s.state[S_FREE]
    s.state[S_FREE] = row + 1
    return True


@njit
def new_span(s: Spans, tgid: int, start: int, token: int, above: int, now: int) -> int:
    """A new open span, in the row ``above`` (or NONE); NONE when there is no room."""
    depth = i64(0)
    level = i64(0)
    if above != NONE:
        a = s.table[above]
        depth = a.depth + 1
        level = a.level if a.tgid == tgid and a.start == start else a.level + 1
    limit = len(s.table) * (4 - min(level, 2))
    hold(s, above)
    there = depth < DEPTH
    # what an ended span lies in may be free when that has gone
    while there and (
        s.state[S_BUSY] * 4 >= limit or (s.state[S_FREE] == 0 and s.state[S_USED] == len(s.table))
    ):
        there = _forget_oldest(s)
    if not there:
        release(s, above)
        s.state[S_FULL] += 1
        return NONE
    row = s.state[S_FREE] - 1
    if row >= 0:
        s.state[S_FREE] = s.table[row].next
    else:
        row = s.state[S_USED]
        s.state[S_USED] += 1
    s.state[S_BUSY] += 1
    s.state[S_SERIAL] += 1
    r = s.table[row]
    r.tgid = tgid
    r.start = start
    r.token = token
    r.serial = s.state[S_SERIAL] << 16 | row
    r.above = above
    r.depth = depth
    r.level = level
    r.users = 0
    r.state = OPEN
    r.known = 0
    r.began = now
    r.opener = 0
    r.flags = 0
    r.length = 0
    r.younger = NONE
    r.elder = NONE
    mask = len(s.slots) - 1
    at = _home(s, tgid, start, token)
    while s.slots[at]:
        at = (at + 1) & mask
    s.slots[at] = row + 1
    return row


@njit
def end_span(s: Spans, row: int, newest: int) -> int:
    """The span is over. ``newest``: of its owner's open spans; returns which that is now."""
    r = s.table[row]
    if r.state != OPEN:
        return newest
    if r.younger != NONE:
        s.table[r.younger].elder = r.elder
    elif newest == row:
        newest = r.elder
    if r.elder != NONE:
        s.table[r.elder].younger = r.younger
    r.younger = NONE
    r.elder = NONE
    r.state = ENDED
    _idle(s, row)
    return newest


@njit
def end_all(s: Spans, newest: int) -> None:
    """Their owner has ended, and so have they."""
    while newest != NONE:
        newest = end_span(s, newest, newest)


@njit
def row_of(s: Spans, serial: int) -> int:
    """The row that was given this serial, or NONE if another has it by now."""
    row = serial & 0xFFFF
    if serial and row < len(s.table) and s.table[row].serial == serial:
        return row
    return NONE
