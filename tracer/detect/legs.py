# SPDX-License-Identifier: Apache-2.0
"""What each process has with each place, by the amounts that are carried: the *legs* of a relay.

A leg is all of a process's connections to one place, so that a tunnel that opens one connection inside for each
request is seen as one. What moves is counted by *pass*: a look at all connections at one moment. See
:mod:`tracer.detect.relay` for what is made of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.mixing import mixed
from tracer.jit import njit
from tracer.rules.thresholds import THRESHOLDS

OUTSIDE, INSIDE = 1, 2

# Bits of LEG.flags
ACCEPTED, LATE = 1, 2

# Places in Relays.limits
EXCHANGES, BYTES, CHANGES, APART, OVERHEAD, PACKET, SLACK, BACK_TIMES, WINDOW = range(
    len(THRESHOLDS["relay"])
)
assert list(THRESHOLDS["relay"])[WINDOW] == "window_s"

#: Places that a leg, or a pair, may be in.
LEG_WAYS, PAIR_WAYS = 16, 8
#: Legs of each side that are compared in one pass.
MOVED_MAX = 256
#: Rules of which a leg remembers with what severity they have been told.
RULES_TOLD = 4

LEG = np.dtype(
    [
        ("tgid", "i8"),
        ("start", "i8"),
        ("entry", "i8"),  # of the process table, when it last moved
        ("side", "i8"),
        ("flags", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("port", "i8"),  # of the other end; of what was accepted, ours
        ("cookie", "i8"),  # of the connection that moved last
        ("last", "i8"),  # when it last moved; 0: nobody's
        ("number", "i8"),  # of the leg: no two have the same
        ("moved", "i8"),  # 1 + the pass in which it last moved
        ("got", "i8", (2,)),  # bytes received in that pass, and in the one before it
        ("gave", "i8", (2,)),
        ("got_packets", "i8", (2,)),
        ("gave_packets", "i8", (2,)),
        ("told", "i8", (RULES_TOLD,)),  # rule << 3 | 1 + rank of the severity
    ]
)

PAIR = np.dtype(
    [
        ("outer", "i8"),  # legs, and their numbers
        ("inner", "i8"),
        ("outer_number", "i8"),
        ("inner_number", "i8"),
        ("since", "i8"),
        ("used", "i8"),  # 0: free
        ("judged", "i8"),  # by these rules (epoch), with a 1 added
        ("outside", "i8", (2,)),  # bytes since then, by way
        ("inside", "i8", (2,)),
        ("packets", "i8", (2,)),
        ("together", "i8", (2,)),  # passes
        ("apart", "i8", (2,)),
        ("alone", "i8", (2,)),
        ("amount", "i8"),  # carried inside the last time
        ("changes", "i8"),
    ]
)

# Places in Relays.state
(
    PASSES,
    LEGS_DROPPED,  # found no place among legs that are in use
    PAIRS_DROPPED,
    NOT_COMPARED,  # more legs moved in one pass than are compared
    TOLD,  # the pair of which something was told last
    NUMBERED,  # legs so far
    MOVED_OUTSIDE,  # entries in moved[0]
    MOVED_INSIDE,
) = range(8)
SECOND = 1_000_000_000


class Relays(NamedTuple):
    """``legs`` LEG[n], ``pairs`` PAIR[m], both powers of two; ``moved`` int64[2, MOVED_MAX]: legs that moved
    in this pass, by side; ``limits`` int64[9]: the thresholds; ``state`` int64[8].
    """

    legs: npt.NDArray[np.void]
    pairs: npt.NDArray[np.void]
    moved: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_relays(legs: int = 1 << 12, pairs: int = 1 << 9) -> Relays:
    """Nothing has moved yet."""
    return Relays(
        np.zeros(legs, LEG),
        np.zeros(pairs, PAIR),
        np.zeros((2, MOVED_MAX), np.int64),
        np.zeros(len(THRESHOLDS["relay"]), np.int64),
        np.zeros(8, np.int64),
    )


@njit
def _find_leg(
    r: Relays, tgid: int, start: int, side: int, accepted: int, high: int, low: int, port: int, now: int
) -> int:
    """The leg, a new one if need be; -1 if there is no place."""
    key = mixed(mixed(tgid ^ high, low), port << 2 | side << 1 | accepted)
    home = key & (len(r.legs) - 1) & ~(LEG_WAYS - 1)
    place = -1
    for at in range(home, home + LEG_WAYS):
        leg = r.legs[at]
        if leg.last == 0 or leg.last + r.limits[WINDOW] * SECOND < now:
            if place < 0:
                place = at
        elif (
            leg.tgid == tgid
            and leg.start == start
            and leg.side == side
            and leg.flags & ACCEPTED == accepted
            and leg.high == high
            and leg.low == low
            and leg.port == port
        ):
            return at
    if place < 0:
        r.state[LEGS_DROPPED] += 1
        return -1
    leg = r.legs[place]
    r.state[NUMBERED] += 1
    leg.number = r.state[NUMBERED]
    leg.tgid = tgid
    leg.start = start
    leg.side = side
    leg.flags = accepted
    leg.high = high
    leg.low = low
    leg.port = port
    leg.moved = 0
    for rule in range(RULES_TOLD):
        leg.told[rule] = 0
    return place


@njit
def _begin_pass(leg: Any, number: int) -> None:
    """Make room in the leg for the pass ``number``."""
    before = leg.moved == number
    leg.got[1] = leg.got[0] if before else 0
    leg.gave[1] = leg.gave[0] if before else 0
    leg.got_packets[1] = leg.got_packets[0] if before else 0
    leg.gave_packets[1] = leg.gave_packets[0] if before else 0
    leg.got[0] = 0
    leg.gave[0] = 0
    leg.got_packets[0] = 0
    leg.gave_packets[0] = 0
    leg.moved = number + 1


@njit
def move(
    r: Relays, tgid: int, start: int, entry: int, side: int, flags: int, high: int, low: int, port: int,
    cookie: int, got: int, gave: int, got_packets: int, gave_packets: int, now: int,
) -> None:  # fmt: skip
    """A connection has carried something in this pass."""
    at = _find_leg(r, tgid, start, side, flags & ACCEPTED, high, low, port, now)
    if at < 0:
        return
    leg = r.legs[at]
    number = r.state[PASSES]
    if leg.moved != number + 1:
        _begin_pass(leg, number)
        count = r.state[MOVED_OUTSIDE + side - OUTSIDE]
        if count < MOVED_MAX:
            r.moved[side - OUTSIDE, count] = at
            r.state[MOVED_OUTSIDE + side - OUTSIDE] += 1
        else:
            r.state[NOT_COMPARED] += 1
    leg.last = now
    leg.entry = entry
    leg.cookie = cookie
    leg.flags |= flags
    leg.got[0] += got
    leg.gave[0] += gave
    leg.got_packets[0] += got_packets
    leg.gave_packets[0] += gave_packets


@njit
def end_pass(r: Relays) -> None:
    """Nothing has moved yet in the next one."""
    r.state[PASSES] += 1
    r.state[MOVED_OUTSIDE] = 0
    r.state[MOVED_INSIDE] = 0


@njit
def is_news(leg: Any, rule: int, rank: int) -> bool:
    """Has the rule not been told of this leg yet, or with less severity? From now on it has."""
    word = rule << 3 | (rank + 1)
    for place in range(RULES_TOLD):  # filled from the front
        old = leg.told[place]
        if old != 0 and old >> 3 != rule:
            continue
        if old < word:
            leg.told[place] = word
        return bool(old < word)
    return True
