# SPDX-License-Identifier: Apache-2.0
"""Two connections that carry the same bytes in the same rhythm: one leads outside, one inside.

That is what every tunnel does, whatever it is called and however it encrypts: what comes in here goes out
there within the moment, and what is answered comes back. It needs no bytes of it, only counts, of all
connections at the same moments (*passes*, by the probe on_sample).

Connections are put together as legs (:mod:`tracer.detect.legs`). For two legs of a process, or of relatives, a *pair*
sums up what has gone each way since they began to move together, and is dropped as soon as that doesn't fit:

- nothing goes on that has not come, and what has come has gone on by the next pass;
- what goes over the leg outside may be more, as encryption and frames have it: by a share, and by so much a packet.

Both ways must fit, so that a loader that fetches much and asks little for it, or a client that asks a model
outside about what it got inside, is no relay. Amounts that never change say nothing, nor do legs that often move
one without the other. Padding that is made for it, or a relay that compresses, is not recognised.
"""

from __future__ import annotations

from typing import Any

from tracer.detect.crowding import NOBODY, most_crowding
from tracer.detect.legs import (
    APART,
    ASKERS,
    ASKS,
    BACK_TIMES,
    BYTES,
    CHANGES,
    EXCHANGES,
    OVERHEAD,
    PACKET,
    PAIR_WAYS,
    PAIRS_DROPPED,
    PASSES,
    SECOND,
    SLACK,
    WINDOW,
    Relays,
)
from tracer.detect.mixing import mixed
from tracer.jit import njit

#: So often a pair has moved together, of both ways, in its first pass.
NEW = 2
# Which way: what comes from outside and goes inside, and what goes back.
IN, BACK = 0, 1
# Who moved alone in the pass before; what the other does in the next one may belong to it.
_OUTSIDE_ALONE, _INSIDE_ALONE = 1, 2


@njit
def _rhythm(pair: Any, way: int, outside: int, inside: int, slack: int) -> None:
    """Did both move, this way?"""
    if outside > 0 and inside > 0:
        pair.together[way] += 1
        pair.alone[way] = 0
        return
    who = 0
    if inside > 0:
        who = _INSIDE_ALONE
    elif outside > slack:  # less is a keep-alive
        who = _OUTSIDE_ALONE
    was = pair.alone[way]
    if was == 0:
        pair.alone[way] = who
    elif who == 0 or who == was:
        pair.apart[way] += 1
        pair.alone[way] = who
    else:  # the end of one pass and the beginning of the next
        pair.together[way] += 1
        pair.alone[way] = 0


@njit
def _add(r: Relays, pair: Any, way: int, outside: int, inside: int, packets: int) -> bool:
    """Sum up; false if it doesn't fit."""
    before_outside, before_inside = pair.outside[way], pair.inside[way]
    pair.outside[way] += outside
    pair.inside[way] += inside
    pair.packets[way] += packets
    slack = r.limits[SLACK]
    inner = pair.inside[way]
    most = inner + inner * r.limits[OVERHEAD] // 100 + pair.packets[way] * r.limits[PACKET] + slack
    _rhythm(pair, way, outside, inside, slack)
    if way == IN:
        return bool(inner <= pair.outside[way] + slack and before_outside <= most)
    return bool(pair.outside[way] <= most and before_inside <= pair.outside[way] + slack)


@njit
def _take_in(r: Relays, pair: Any, before: bool) -> bool:
    """What both have carried in this pass, and in the one ``before`` as well; false if it doesn't fit."""
    outer: Any = r.legs[pair.outer]
    inner: Any = r.legs[pair.inner]
    number = r.state[PASSES] + 1
    o_got = o_gave = i_got = i_gave = in_packets = back_packets = 0
    o_in = o_back = i_in = i_back = 0
    for age in range(2 if before else 1):
        if outer.moved == number:
            o_got += outer.got[age]
            o_gave += outer.gave[age]
            o_in += outer.got_packets[age]
            o_back += outer.gave_packets[age]
        if inner.moved == number:
            i_got += inner.got[age]
            i_gave += inner.gave[age]
            i_in += inner.gave_packets[age]
            i_back += inner.got_packets[age]
    in_packets = max(o_in, i_in)
    back_packets = max(o_back, i_back)
    amount = i_got + i_gave
    if amount > 0:
        if abs(amount - pair.amount) * 10 > pair.amount:
            pair.changes += 1
        pair.amount = amount
    fits = _add(r, pair, IN, o_got, i_gave, in_packets)
    return _add(r, pair, BACK, o_gave, i_got, back_packets) and fits


@njit
def _makes_room(r: Relays, home: int, leg: Any) -> int:
    """The pair that has moved together least: of whoever crowds these places; if nobody does, one that is as new as the
    one that asks. Where many are, it is another one's turn in each pass. -1: none.
    """
    asker = mixed(leg.tgid, leg.start) & (ASKERS - 1)
    r.asked[asker] += 1
    if r.asked[asker] > ASKS:
        return -1
    crowds = most_crowding(r.pairs, home, PAIR_WAYS, 1, leg.tgid, leg.start)
    turn = mixed(r.state[PASSES], r.asked[asker])
    found = -1
    fewest = 0
    for place in range(PAIR_WAYS):
        at = home + (place + turn) % PAIR_WAYS
        pair = r.pairs[at]
        together = pair.together[IN] + pair.together[BACK]
        if crowds == NOBODY:
            if together > NEW:
                continue
        elif pair.tgid != r.pairs[crowds].tgid or pair.start != r.pairs[crowds].start:
            continue
        if found < 0 or together < fewest:
            found = at
            fewest = together
    return found


@njit
def try_pair(r: Relays, outer: int, inner: int, now: int) -> None:
    """Begin to compare two legs that have just moved, unless that is done already."""
    o, i = r.legs[outer], r.legs[inner]
    if not (o.got[0] > 0 and i.gave[0] > 0) and not (o.gave[0] > 0 and i.got[0] > 0):
        return
    home = mixed(outer, inner) & (len(r.pairs) - 1) & ~(PAIR_WAYS - 1)
    place = -1
    for at in range(home, home + PAIR_WAYS):
        pair = r.pairs[at]
        if pair.used == 0:
            if place < 0:
                place = at
        elif pair.outer == outer and pair.inner == inner:
            return
    if place < 0:
        r.state[PAIRS_DROPPED] += 1
        place = _makes_room(r, home, o)
        if place < 0:
            return
    pair = r.pairs[place]
    r.compared[place // PAIR_WAYS] -= pair.used
    pair.tgid = o.tgid
    pair.start = o.start
    pair.outer = outer
    pair.inner = inner
    pair.outer_number = o.number
    pair.inner_number = i.number
    pair.since = now
    pair.judged = 0
    pair.amount = 0
    pair.changes = 0
    for way in range(2):
        pair.outside[way] = 0
        pair.inside[way] = 0
        pair.packets[way] = 0
        pair.together[way] = 0
        pair.apart[way] = 0
        pair.alone[way] = 0
    pair.used = 1 if _take_in(r, pair, True) else 0
    r.compared[place // PAIR_WAYS] += pair.used


@njit
def _goes_on(r: Relays, pair: Any, now: int) -> bool:
    """Are both legs there, and does what they have carried in this pass fit?"""
    outer: Any = r.legs[pair.outer]
    inner: Any = r.legs[pair.inner]
    there = (
        outer.number == pair.outer_number
        and inner.number == pair.inner_number
        and min(r.last[pair.outer], r.last[pair.inner]) + r.limits[WINDOW] * SECOND >= now
    )
    return bool(there and _take_in(r, pair, False))


@njit
def go_on(r: Relays, now: int) -> None:
    """The pass is over: what it says of the pairs that are compared."""
    for home in range(len(r.compared)):
        if r.compared[home] == 0:  # mostly: and the table is large
            continue
        for at in range(home * PAIR_WAYS, (home + 1) * PAIR_WAYS):
            pair = r.pairs[at]
            if pair.used != 0 and not _goes_on(r, pair, now):
                pair.used = 0
                r.compared[home] -= 1


@njit
def is_relay(r: Relays, at: int) -> bool:
    """Is that enough to say so?"""
    pair = r.pairs[at]
    if pair.used == 0 or pair.inside[IN] + pair.inside[BACK] < r.limits[BYTES]:
        return False
    if pair.outside[BACK] > pair.inside[BACK] * r.limits[BACK_TIMES]:
        return False
    for way in range(2):
        if pair.together[way] < r.limits[EXCHANGES]:
            return False
        if pair.apart[way] * 100 > pair.together[way] * r.limits[APART]:
            return False
    return bool(pair.changes >= r.limits[CHANGES])
