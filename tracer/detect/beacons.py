# SPDX-License-Identifier: Apache-2.0
"""Who reports to one place outside again and again at even intervals, and says little: a *beacon*.

What a process has with a place (address and port) is a *series* of check-ins. A check-in is a new connection that
carries something, or, over one that stays, something sent after a pause. A series lies with the process; where
each check-in is another process's (curl in a loop), with the one that starts them.

Even are intervals that all lie close to their mean, so it takes no clock and no spectrum: only as many of them in
a row as chance does not give. How close, and how many, is in the rule file. UDP is not looked at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.crowding import NOBODY, least_worth, most_crowding
from tracer.detect.facts import FACT_BIT
from tracer.detect.mixing import mixed
from tracer.detect.tags import Tags, all_differ, expect_tagged, make_tags, tag_of
from tracer.detect.telling import TOLD_FIELD, forget_told
from tracer.jit import inline, njit
from tracer.rules.thresholds import INTERVALS_MAX, THRESHOLDS

CHECKS_IN, ANEW, KEEP_ALIVE = (1 << FACT_BIT[name] for name in ("checks-in", "connects-anew", "keep-alive"))

# Places in Beacons.limits
INTERVALS, JITTER, LEAST, MOST_BYTES, KEEP_ALIVE_BYTES, WINDOW = range(len(THRESHOLDS["beacon"]))
assert list(THRESHOLDS["beacon"])[WINDOW] == "window_s"

#: The process that has a connection and those above it whose series it may belong to: `sh -c 'curl … | sh'` in a
#: loop is two below the loop.
LEVELS = 4
#: Places that a series may be in.
WAYS = 16
SECOND, MILLISECOND = 1_000_000_000, 1_000_000

SERIES = np.dtype(
    [
        ("tgid", "i8"),
        ("start", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("port", "i8"),
        ("since", "i8"),
        ("last", "i8"),  # when the last check-in began
        ("anew", "i8"),  # check-ins that were new connections
        ("sent", "i8"),
        ("received", "i8"),
        ("named", "i8"),  # a DNS answer has named the address at some time
        ("cookie", "i8"),  # of the connection that moved last
        ("intervals", "i8", (INTERVALS_MAX,)),  # the latest, in turn
        TOLD_FIELD,
    ]
)

SERIES_BYTES = SERIES.itemsize

# Places in Beacons.state
B_DROPPED, B_FORGOTTEN, B_TOLD = range(3)


class Beacons(NamedTuple):
    """``series`` SERIES[n], n a power of two; of each ``moved`` int64[n]: when something was last carried, 0: nobody's;
    ``visits`` int64[n]: check-ins; ``tags`` int32[n], and ``owners`` int32[n], which are tags of its process; ``limits`` int64[6]: the thresholds; ``state`` int64[3]: series that
    found no place, those that gave theirs up, the one of which something was told last.
    """

    series: npt.NDArray[np.void]
    moved: npt.NDArray[np.int64]
    visits: npt.NDArray[np.int64]
    tags: Tags
    owners: Tags
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_beacons(capacity: int = 1 << 12) -> Beacons:
    """Nobody has reported anywhere."""
    return Beacons(
        np.zeros(capacity, SERIES),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        make_tags(capacity),
        make_tags(capacity),
        np.zeros(len(THRESHOLDS["beacon"]), np.int64),
        np.zeros(3, np.int64),
    )


@inline
def _key(tgid: int, start: int, high: int, low: int, port: int) -> int:
    return mixed(mixed(tgid ^ high, low ^ start), port)


@inline
def _home(b: Beacons, key: int) -> int:
    return key & (len(b.series) - 1) & ~(WAYS - 1)


@inline
def expect_series(b: Beacons, tgid: int, start: int, high: int, low: int, port: int) -> None:
    """This series will be looked for soon."""
    key = _key(tgid, start, high, low, port)
    expect_tagged(b.series, SERIES_BYTES, b.tags, _home(b, key), WAYS, tag_of(key))


@njit
def _makes_room(b: Beacons, home: int, tgid: int, start: int, owner: int) -> int:
    """See :func:`.crowding.makes_room`. A single check-in at a place is what a crawler's many processes may push out."""
    crowds = NOBODY
    if not all_differ(b.owners, home, WAYS, owner):
        crowds = most_crowding(b.series, home, WAYS, 1, tgid, start)
    return int(least_worth(b.series, home, WAYS, crowds, b.visits, b.moved, 1))


@njit
def find_series(b: Beacons, tgid: int, start: int, high: int, low: int, port: int, now: int) -> int:
    """The series, a new one if need be; -1 if there is no place. Who has most of the places where it may be gives one
    up, and that is counted.
    """
    key = _key(tgid, start, high, low, port)
    home, tag, owner = _home(b, key), tag_of(key), tag_of(mixed(tgid, start))
    too_old = now - b.limits[WINDOW] * SECOND
    for at in range(home, home + WAYS):
        if b.tags[at] != tag or b.moved[at] == 0 or b.moved[at] < too_old:
            continue
        row = b.series[at]
        if (
            row.tgid == tgid
            and row.start == start
            and row.high == high
            and row.low == low
            and row.port == port
        ):
            return at
    place = -1
    for at in range(home, home + WAYS):
        if b.moved[at] == 0 or b.moved[at] < too_old:
            place = at
            break
    if place < 0:
        place = _makes_room(b, home, tgid, start, owner)
        if place < 0:
            b.state[B_DROPPED] += 1
            return -1
        b.state[B_FORGOTTEN] += 1
    b.moved[place] = now
    b.visits[place] = 0
    b.tags[place] = tag
    b.owners[place] = owner
    row = b.series[place]
    row.tgid = tgid
    row.start = start
    row.high = high
    row.low = low
    row.port = port
    row.since = now
    row.last = 0
    row.anew = 0
    row.sent = 0
    row.received = 0
    row.named = 0
    forget_told(row)
    return place


@njit
def carry(
    b: Beacons, at: int, cookie: int, sent: int, received: int, begins: bool, fresh: bool, when: int, now: int
) -> bool:
    """Something was carried; true if that is a check-in: if it ``begins`` something, and after a pause. ``fresh``: it
    is the first that a new connection carries. ``when`` it began: a connection is older than what it carries.
    """
    row = b.series[at]
    visits = b.visits[at]
    pause = visits == 0 or when - b.moved[at] >= b.limits[LEAST] * MILLISECOND
    row.sent += sent
    row.received += received
    b.moved[at] = max(b.moved[at], now)
    row.cookie = cookie
    if not begins or not pause:
        return False
    if visits > 0:
        row.intervals[(visits - 1) % INTERVALS_MAX] = when - row.last
    b.visits[at] = visits + 1
    row.anew += fresh
    row.last = when
    return True


@njit
def spread(b: Beacons, at: int) -> tuple[int, int]:
    """Mean of the latest intervals, and how far the farthest is from it; (0, 0) if there are too few."""
    row: Any = b.series[at]
    count, visits = b.limits[INTERVALS], b.visits[at]
    if visits <= count:
        return 0, 0
    mean = 0
    for back in range(count):
        mean += row.intervals[(visits - 2 - back) % INTERVALS_MAX]
    mean //= count
    farthest = 0
    for back in range(count):
        farthest = max(farthest, abs(row.intervals[(visits - 2 - back) % INTERVALS_MAX] - mean))
    return mean, farthest


@njit
def facts_of(b: Beacons, at: int) -> int:
    """The facts about a series, as bits; 0 if it is no beacon."""
    row = b.series[at]
    mean, farthest = spread(b, at)
    visits = b.visits[at]
    most = b.limits[MOST_BYTES] * visits
    if mean == 0 or farthest * 100 > mean * b.limits[JITTER] or row.sent > most or row.received > most:
        return 0
    if row.sent == 0 or row.received == 0:
        return 0
    facts = CHECKS_IN
    if row.anew * 2 > visits:
        return facts | ANEW
    if row.sent < b.limits[KEEP_ALIVE_BYTES] * visits:
        facts |= KEEP_ALIVE
    return facts
