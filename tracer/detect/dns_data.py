# SPDX-License-Identifier: Apache-2.0
"""What the names that are asked for below one domain carry: data, if there are many and most of each is long labels.

Each tunnel over DNS that has a name is known by its wire format (:mod:`tracer.detect.wire.dns_tunnels`). This asks
for none: whoever sends data outside through resolvers puts it into names, and never asks for one twice, or its
answer would come from a cache. A domain is what somebody registers: its last two labels, or three where the last two
are a country's. Names count once, however often they are asked for; of a name only its long labels count. Who asks does
not matter, only for what: a program may be started for each. A domain lies with whoever asked first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.crowding import ANYTHING, makes_room
from tracer.detect.facts import FACT_BIT
from tracer.detect.mixing import mixed
from tracer.detect.names import Bytes, byte_at
from tracer.detect.program import fnv
from tracer.detect.telling import TOLD_FIELD, forget_told
from tracer.jit import njit
from tracer.rules.thresholds import NAMES_MAX, THRESHOLDS

CARRIES_DATA, ODD_TYPES, LONG_LABELS = (
    1 << FACT_BIT[name] for name in ("names-carry-data", "odd-types", "long-labels")
)

# Places in Domains.limits
NAMES, NAME_BYTES, LABEL_BYTES, COUNTED_FROM, WINDOW = range(len(THRESHOLDS["dns"]))
assert list(THRESHOLDS["dns"])[WINDOW] == "window_s"

#: Places that a domain may be in.
WAYS = 16
SECOND = 1_000_000_000
_DOT = 46
#: Of a country's own second level (co.uk, com.au, ac.jp): short, below two letters.
_COUNTRY, _SECOND_LEVEL = 2, 3

DOMAIN = np.dtype(
    [
        ("key", "i8"),  # the domain's hash; 0: nobody's
        ("tgid", "i8"),  # who asked first
        ("start", "i8"),
        ("since", "i8"),
        ("last", "i8"),
        ("asked", "i8"),  # questions
        ("names", "i8"),  # different ones
        ("bytes", "i8"),  # of their long labels
        ("worth", "i8"),  # these, and what it has inherited
        ("longest", "i8"),  # the longest label of each name, together
        ("odd", "i8"),  # of the names, asked for as something else than an address
        TOLD_FIELD,
        ("seen", "i8", (NAMES_MAX,)),  # hashes of the latest names, in turn
    ]
)

# Places in Domains.state
D_DROPPED, D_FORGOTTEN, D_TOLD, D_NAME_LO, D_DOMAIN_LO, D_NAME_HI = range(6)


class Domains(NamedTuple):
    """``table`` DOMAIN[n], n a power of two; ``limits`` int64[5]: the thresholds; ``state`` int64[6]: domains that found
    no place, as nothing in their first name counts, those that gave theirs up, the one of which something was told last, and where the
    name that was asked for last, and its domain, lie in the engine's text.
    """

    table: npt.NDArray[np.void]
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_domains(capacity: int = 1 << 10) -> Domains:
    """Nothing has been asked for."""
    return Domains(
        np.zeros(capacity, DOMAIN), np.zeros(len(THRESHOLDS["dns"]), np.int64), np.zeros(6, np.int64)
    )


@njit
def _label(text: Bytes, lo: int, hi: int) -> int:
    """Where the last label of the name ``text[lo:hi]`` begins."""
    at = hi
    while at > lo and byte_at(text, at - 1) != _DOT:
        at -= 1
    return at


@njit
def _is_arpa(text: Bytes, lo: int, hi: int) -> bool:
    return (
        hi - lo == 4 and text[lo] == 97 and text[lo + 1] == 114 and text[lo + 2] == 112 and text[lo + 3] == 97
    )


@njit
def domain_of(text: Bytes, lo: int, hi: int) -> int:
    """Where the domain in the name ``text[lo:hi]`` begins; ``hi`` if nobody has registered one."""
    last = _label(text, lo, hi)
    if last == lo or _is_arpa(text, last, hi):
        return hi
    second = _label(text, lo, last - 1)
    if second > lo and hi - last == _COUNTRY and last - 1 - second <= _SECOND_LEVEL:
        return int(_label(text, lo, second - 1))
    return int(second)


@njit
def _find(d: Domains, tgid: int, start: int, key: int, size: int, now: int) -> int:
    """The domain, a new one if need be; -1 if there is no place. ``size``: of the long labels in the name that is asked
    for; where none is, no domain makes room in which some were.
    """
    home = key & (len(d.table) - 1) & ~(WAYS - 1)
    place = -1
    worth = 0
    for at in range(home, home + WAYS):
        row = d.table[at]
        if row.key == key:
            if row.since + d.limits[WINDOW] * SECOND >= now:
                return at
            place = at  # counting begins anew
            break
        if place < 0 and (row.key == 0 or row.last + d.limits[WINDOW] * SECOND < now):
            place = at
    if place < 0:
        place = makes_room(
            d.table, home, WAYS, WAYS // 2, tgid, start, d.table["worth"], d.table["last"], ANYTHING
        )
        worth = d.table[place].worth
        if size == 0 and worth > 0:
            d.state[D_DROPPED] += 1
            return -1
        d.state[D_FORGOTTEN] += 1
    row = d.table[place]
    same = row.key == key
    row.key = key
    row.tgid = tgid
    row.start = start
    row.since = now
    row.asked = 0
    row.names = 0
    row.bytes = 0
    row.worth = worth
    row.longest = 0
    row.odd = 0
    if not same:
        forget_told(row)
    return place


@njit
def _is_new(d: Domains, at: int, name: int) -> bool:
    """Is the name of this hash none of the latest ones of its domain? From now on it is."""
    row = d.table[at]
    for place in range(min(row.names, NAMES_MAX)):
        if row.seen[place] == name:
            return False
    row.seen[row.names % NAMES_MAX] = name
    row.names += 1
    return True


@njit
def _labels(d: Domains, text: Bytes, lo: int, end: int) -> tuple[int, int]:
    """Of the labels ``text[lo:end]``: how much the long ones hold, and the longest."""
    size = longest = 0
    while end > lo:
        start = _label(text, lo, end)
        longest = max(longest, end - start)
        if end - start >= d.limits[COUNTED_FROM]:
            size += end - start
        end = start - 1
    return size, longest


@njit
def ask(d: Domains, tgid: int, start: int, text: Bytes, lo: int, hi: int, odd: bool, now: int) -> int:
    """The process asks for the name ``text[lo:hi]``, ``odd``: as something else than an address. Where its domain is if
    it is a new name; -1 if not, or if there is no place.
    """
    begin = domain_of(text, lo, hi)
    if begin == hi or begin == lo:
        return -1
    size, longest = _labels(d, text, lo, begin - 1)
    at = _find(d, tgid, start, mixed(fnv(text, begin, hi), 0) + 1, size, now)
    if at < 0:
        return -1
    row = d.table[at]
    row.last = now
    row.asked += 1
    if not _is_new(d, at, mixed(fnv(text, lo, hi), 1)):
        return -1
    row.odd += odd
    row.bytes += size
    row.worth += size
    row.longest += longest
    d.state[D_NAME_LO] = lo
    d.state[D_DOMAIN_LO] = begin
    d.state[D_NAME_HI] = hi
    return at


@njit
def facts_of(d: Domains, at: int) -> int:
    """The facts about what is asked below a domain, as bits; 0 if it is too little to say anything."""
    row = d.table[at]
    if row.names < d.limits[NAMES] or row.bytes < d.limits[NAME_BYTES] * row.names:
        return 0
    facts = CARRIES_DATA
    if row.odd * 2 >= row.names:
        facts |= ODD_TYPES
    if row.longest >= d.limits[LABEL_BYTES] * row.names:
        facts |= LONG_LABELS
    return facts
