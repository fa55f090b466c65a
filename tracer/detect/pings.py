# SPDX-License-Identifier: Apache-2.0
"""What the pings that are exchanged with one place carry: data, if they differ from each other as pings don't.

A ping holds the time, and behind that a pattern that is the same in each; its answer is the ping again, byte for
byte, for that is what the other end's kernel makes it. What carries data must change what it sends; and it must answer
with something else than it was asked, or nothing comes back. Neither can be encrypted away. Of what is sent
only bytes behind the time count, of what comes back whether anything of that size and with these bytes was sent
lately. Other messages than echoes are not looked at: errors hold the packets that they are about, which differ.

Who pings does not matter, only whom: a program may be started for each. A place lies with whoever pinged it first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.crowding import ANYTHING, makes_room
from tracer.detect.facts import FACT_BIT
from tracer.detect.mixing import mixed
from tracer.detect.names import Bytes
from tracer.detect.program import fnv
from tracer.detect.telling import TOLD_FIELD, forget_told
from tracer.jit import njit
from tracer.rules.thresholds import SHOWN_MAX, THRESHOLDS

CARRIES, ANSWERS = (1 << FACT_BIT[name] for name in ("pings-carry-data", "answers-carry-data"))

# Places in Pings.limits
PACKETS, CHANGED, WINDOW = range(len(THRESHOLDS["icmp"]))
assert list(THRESHOLDS["icmp"])[WINDOW] == "window_s"

SENT, RECEIVED = range(2)
#: Echoes and their answers (RFC 792, RFC 4443).
ECHO_REPLY, ECHO, ECHO6, ECHO6_REPLY = 0, 8, 128, 129
#: Ping programs put the time in front: two words of 8 bytes at most (iputils: struct timeval).
TIME = 16
#: Marks of the latest pings sent: how many may be under way when an answer comes.
ASKED = 32
#: Places that an address may be in.
WAYS = 16
SECOND = 1_000_000_000

PINGED = np.dtype(
    [
        ("high", "i8"),
        ("low", "i8"),
        ("tgid", "i8"),  # who pinged it first
        ("start", "i8"),
        ("since", "i8"),
        ("heard", "i8"),  # when something was last sent or received; 0: nobody's
        # sent and received: how many, their payload, how many with news
        ("count", "i8", (2,)),
        ("bytes", "i8", (2,)),
        ("news", "i8", (2,)),
        ("worth", "i8"),  # news, both ways, and what it has inherited
        ("asked", "i8", (ASKED,)),  # marks of what was sent, in turn
        ("answer", "i8"),  # hash of the last that came and had not been sent
        ("length", "i8"),  # of what follows
        ("shown", "u1", (SHOWN_MAX,)),  # behind the time, of the last that was sent
        TOLD_FIELD,
    ]
)

# Places in Pings.state
P_FORGOTTEN, P_TOLD = range(2)


class Pings(NamedTuple):
    """``table`` PINGED[n], n a power of two; ``limits`` int64[3]: the thresholds; ``state`` int64[2]: addresses that gave
    their place up, the one of which something was told last.
    """

    table: npt.NDArray[np.void]
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_pings(capacity: int = 1 << 10) -> Pings:
    """Nobody has been pinged."""
    return Pings(
        np.zeros(capacity, PINGED), np.zeros(len(THRESHOLDS["icmp"]), np.int64), np.zeros(2, np.int64)
    )


@njit
def _find(p: Pings, tgid: int, start: int, high: int, low: int, now: int) -> int:
    """The address, a new one if need be."""
    home = mixed(high, low) & (len(p.table) - 1) & ~(WAYS - 1)
    place = -1
    worth = 0
    for at in range(home, home + WAYS):
        row = p.table[at]
        over = row.heard == 0 or row.since + p.limits[WINDOW] * SECOND < now
        if row.heard != 0 and row.high == high and row.low == low:
            if not over:
                return at
            place = at  # counting begins anew
            break
        if over and place < 0:
            place = at
    if place < 0:
        place = makes_room(
            p.table, home, WAYS, WAYS // 2, tgid, start, p.table["worth"], p.table["heard"], ANYTHING
        )
        worth = p.table[place].worth
        p.state[P_FORGOTTEN] += 1
    row = p.table[place]
    if row.heard == 0 or row.high != high or row.low != low:
        forget_told(row)
    row.high = high
    row.low = low
    row.tgid = tgid
    row.start = start
    row.since = now
    row.worth = worth
    row.answer = 0
    row.length = 0
    for way in range(2):
        row.count[way] = 0
        row.bytes[way] = 0
        row.news[way] = 0
    for number in range(ASKED):
        row.asked[number] = 0
    return place


@njit
def _mark(data: Bytes, lo: int, hi: int, size: int) -> int:
    """What a ping has in common with its answer, and with the next ping."""
    return int(mixed(fnv(data, lo + TIME, hi), size) | 1) if hi - lo > TIME else size << 1


@njit
def _changes(p: Pings, at: int, data: Bytes, lo: int, hi: int) -> bool:
    """Is what is sent another than the last time, behind the time? What is too short to say is nothing."""
    row: Any = p.table[at]
    length = min(hi - lo - TIME, SHOWN_MAX)
    if length < p.limits[CHANGED]:
        return False
    changed = 0
    for place in range(min(length, row.length)):
        changed += row.shown[place] != data[lo + TIME + place]
    for place in range(length):
        row.shown[place] = data[lo + TIME + place]
    row.length = length
    return bool(changed >= p.limits[CHANGED])


@njit
def _answers(p: Pings, at: int, data: Bytes, lo: int, hi: int, mark: int) -> bool:
    """Was what has come never sent, and is it another than the last that was not?"""
    row: Any = p.table[at]
    for number in range(min(row.count[SENT], ASKED)):
        if row.asked[number] == mark:
            return False
    said = fnv(data, lo, hi) if hi - lo <= TIME else mark
    if said == row.answer:
        return False
    row.answer = said
    return True


@njit
def ping(
    p: Pings, tgid: int, start: int, high: int, low: int, way: int, data: Bytes, lo: int, hi: int, size: int, now: int
) -> int:  # fmt: skip
    """An echo or its answer was sent to this address, or has come from it (``way``), with the payload ``data[lo:hi]``, of
    ``size`` bytes in all. Where the address is if that brought something new; else -1.
    """
    at = _find(p, tgid, start, high, low, now)
    row = p.table[at]
    row.heard = now
    mark = _mark(data, lo, hi, size)
    news = _changes(p, at, data, lo, hi) if way == SENT else _answers(p, at, data, lo, hi, mark)
    if way == SENT:
        row.asked[row.count[SENT] % ASKED] = mark
    row.count[way] += 1
    row.bytes[way] += size
    row.news[way] += news
    row.worth += news
    return at if news else -1


@njit
def facts_of(p: Pings, at: int) -> int:
    """The facts about an address, as bits; 0 if it is too little to say anything."""
    row = p.table[at]
    facts = CARRIES if row.news[SENT] >= p.limits[PACKETS] else 0
    if row.news[RECEIVED] >= p.limits[PACKETS]:
        facts |= ANSWERS
    return facts
