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

from tracer.detect.crowding import NOBODY, most_crowding
from tracer.detect.mixing import mixed
from tracer.detect.tags import Tags, all_differ, expect_tagged, make_tags, tag_of
from tracer.detect.telling import TOLD_FIELD, forget_told
from tracer.jit import inline, njit
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
LEG_WAYS, PAIR_WAYS = 16, 16
#: In one pass a leg outside is compared with so many inside of each process it may belong to: nobody's flood takes
#: the turn of another's.
NEAR = 32
#: What has moved inside is looked for by process, and by the process above; so many groups of each.
BY_PROCESS, BY_PARENT = range(2)
GROUPS = 256
#: Of a process so many pairs may ask others to make room in one pass; processes in so many groups.
ASKS, ASKERS = 16, 1024
#: Rules of which a leg remembers with what severity they have been told.

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
        ("number", "i8"),  # of the leg: no two have the same
        ("moved", "i8"),  # 1 + the pass in which it last moved
        ("got", "i8", (2,)),  # bytes received in that pass, and in the one before it
        ("gave", "i8", (2,)),
        ("got_packets", "i8", (2,)),
        ("gave_packets", "i8", (2,)),
        TOLD_FIELD,
    ]
)

LEG_BYTES = LEG.itemsize

PAIR = np.dtype(
    [
        ("tgid", "i8"),  # whose leg outside is
        ("start", "i8"),
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
    LEGS_DROPPED,  # found no place, or gave theirs to another process's
    PAIRS_DROPPED,
    NOT_COMPARED,  # more legs of a process moved in one pass than are compared
    TOLD,  # the pair of which something was told last
    NUMBERED,  # legs so far
    MOVED_OUTSIDE,  # entries in moved[0]
    MOVED_INSIDE,
) = range(8)
SECOND = 1_000_000_000


class Relays(NamedTuple):
    """``legs`` LEG[n], ``pairs`` PAIR[m], both powers of two; of each leg ``last`` int64[n]: when it last moved, 0:
    nobody's; ``tags`` int32[n], and ``owners`` int32[n], which are tags of its process; ``compared`` int64[m / PAIR_WAYS]: how many pairs of each
    PAIR_WAYS places are there; ``moved`` int64[2, n]: legs that moved in this pass, by side; ``near`` int64[2, GROUPS, NEAR]: of those inside some of each group, ``gathered`` int64[2, GROUPS]: how many
    there were; ``asked`` int64[ASKERS]: see ASKS; ``limits`` int64[9]: the thresholds; ``state`` int64[8].
    """

    legs: npt.NDArray[np.void]
    last: npt.NDArray[np.int64]
    tags: Tags
    owners: Tags
    pairs: npt.NDArray[np.void]
    compared: npt.NDArray[np.int64]
    moved: npt.NDArray[np.int64]
    near: npt.NDArray[np.int64]
    gathered: npt.NDArray[np.int64]
    asked: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_relays(legs: int = 1 << 14, pairs: int = 1 << 12) -> Relays:
    """Nothing has moved yet."""
    return Relays(
        np.zeros(legs, LEG),
        np.zeros(legs, np.int64),
        make_tags(legs),
        make_tags(legs),
        np.zeros(pairs, PAIR),
        np.zeros(pairs // PAIR_WAYS, np.int64),
        np.zeros((2, legs), np.int64),
        np.zeros((2, GROUPS, NEAR), np.int64),
        np.zeros((2, GROUPS), np.int64),
        np.zeros(ASKERS, np.int64),
        np.zeros(len(THRESHOLDS["relay"]), np.int64),
        np.zeros(8, np.int64),
    )


@inline
def _key(tgid: int, high: int, low: int, port: int) -> int:
    return mixed(mixed(tgid ^ high, low), port)


@inline
def _home(r: Relays, key: int) -> int:
    return key & (len(r.legs) - 1) & ~(LEG_WAYS - 1)


@inline
def _owner(tgid: int, start: int) -> int:
    return tag_of(mixed(tgid, start))


@inline
def expect_leg(r: Relays, tgid: int, high: int, low: int, port: int) -> None:
    """This leg will move soon."""
    key = _key(tgid, high, low, port)
    expect_tagged(r.legs, LEG_BYTES, r.tags, _home(r, key), LEG_WAYS, tag_of(key))


@njit
def _makes_room(r: Relays, home: int, tgid: int, start: int, now: int) -> int:
    """The leg that has not moved for longest: of whoever crowds these places; if nobody does, of all that have been still
    for a second. -1: none.
    """
    crowds = NOBODY
    if not all_differ(r.owners, home, LEG_WAYS, _owner(tgid, start)):
        crowds = most_crowding(r.legs, home, LEG_WAYS, 1, tgid, start)
    found = -1
    for at in range(home, home + LEG_WAYS):
        if crowds == NOBODY:
            if r.last[at] + SECOND >= now:
                continue
        elif r.legs[at].tgid != r.legs[crowds].tgid or r.legs[at].start != r.legs[crowds].start:
            continue
        if found < 0 or r.last[at] < r.last[found]:
            found = at
    return found


@njit
def _find_leg(
    r: Relays, tgid: int, start: int, side: int, accepted: int, high: int, low: int, port: int, now: int
) -> int:
    """The leg, a new one if need be; -1 if there is no place."""
    key = _key(tgid, high, low, port)
    home, tag = _home(r, key), tag_of(key)
    too_old = now - r.limits[WINDOW] * SECOND
    for at in range(home, home + LEG_WAYS):
        if r.tags[at] != tag or r.last[at] == 0 or r.last[at] < too_old:
            continue
        leg = r.legs[at]
        if (
            leg.tgid == tgid
            and leg.start == start
            and leg.side == side
            and leg.flags & ACCEPTED == accepted
            and leg.high == high
            and leg.low == low
            and leg.port == port
        ):
            return at
    place = -1
    for at in range(home, home + LEG_WAYS):
        if r.last[at] == 0 or r.last[at] < too_old:
            place = at
            break
    if place < 0:
        r.state[LEGS_DROPPED] += 1
        place = _makes_room(r, home, tgid, start, now)
        if place < 0:
            return -1
    r.tags[place] = tag
    r.owners[place] = _owner(tgid, start)
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
    forget_told(leg)
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
        if count < len(r.legs):
            r.moved[side - OUTSIDE, count] = at
            r.state[MOVED_OUTSIDE + side - OUTSIDE] += 1
        else:
            r.state[NOT_COMPARED] += 1
    r.last[at] = now
    leg.entry = entry
    leg.cookie = cookie
    leg.flags |= flags
    leg.got[0] += got
    leg.gave[0] += gave
    leg.got_packets[0] += got_packets
    leg.gave_packets[0] += gave_packets


@njit
def _note_near(r: Relays, kind: int, key: int, leg: int) -> bool:
    """Put the leg into its group; where more have moved than are compared, any of them as likely as another, and others
    in the next pass. False if that leaves one out.
    """
    group = group_of(key)
    count = r.gathered[kind, group]
    r.gathered[kind, group] += 1
    place = count
    if count >= NEAR:
        place = mixed(leg, r.state[PASSES]) % (count + 1)
    if place < NEAR:
        r.near[kind, group, place] = leg
    return bool(count < NEAR)


@njit
def group_of(key: int) -> int:
    """Where those of a process, or below one, are gathered."""
    return mixed(key, 0) & (GROUPS - 1)


@njit
def gather(r: Relays, leg: int, above: int) -> None:
    """The leg has moved inside, and is to be found by its process and by the one ``above`` (a place in the process table;
    negative: none).
    """
    if not _note_near(r, BY_PROCESS, r.legs[leg].tgid, leg):
        r.state[NOT_COMPARED] += 1
    if above >= 0:
        _note_near(r, BY_PARENT, above, leg)


@njit
def end_pass(r: Relays) -> None:
    """Nothing has moved yet in the next one."""
    r.state[PASSES] += 1
    if r.state[MOVED_INSIDE] > 0:
        r.gathered[:] = 0
        r.asked[:] = 0
    r.state[MOVED_OUTSIDE] = 0
    r.state[MOVED_INSIDE] = 0
