# SPDX-License-Identifier: Apache-2.0
"""What the names that are asked for below one domain carry: data, if there are many and most of each is long labels.

Each tunnel over DNS that has a name is known by its wire format (:mod:`tracer.detect.wire.dns_tunnels`). This asks
for none: whoever sends data outside through resolvers puts it into names, and never asks for one twice, or its
answer would come from a cache. A domain is what somebody registers: its last two labels, or three where the last two
are a country's. Names count once, however often they are asked for; of a name only its long labels count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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
#: A domain of no more names gives its place up for another, the oldest first.
_FEW = 2
SECOND = 1_000_000_000
_DOT = 46
#: Of a country's own second level (co.uk, com.au, ac.jp): short, below two letters.
_COUNTRY, _SECOND_LEVEL = 2, 3

DOMAIN = np.dtype(
    [
        ("key", "i8"),  # the domain's hash; 0: nobody's
        ("since", "i8"),
        ("last", "i8"),
        ("asked", "i8"),  # questions
        ("names", "i8"),  # different ones
        ("bytes", "i8"),  # of their long labels
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
    no place, those of hardly any names that gave theirs up, the one of which something was told last, and where the
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
def _find(d: Domains, key: int, now: int) -> int:
    """The domain, a new one if need be; -1 if there is no place."""
    home = key & (len(d.table) - 1) & ~(WAYS - 1)
    place = oldest = -1
    for at in range(home, home + WAYS):
        row = d.table[at]
        if row.key == key:
            if row.since + d.limits[WINDOW] * SECOND >= now:
                return at
            place = at  # counting begins anew
            break
        if row.key == 0 or row.last + d.limits[WINDOW] * SECOND < now:
            if place < 0:
                place = at
        elif row.names <= _FEW and (oldest < 0 or row.last < d.table[oldest].last):
            oldest = at
    if place < 0:
        if oldest < 0:
            d.state[D_DROPPED] += 1
            return -1
        d.state[D_FORGOTTEN] += 1
        place = oldest
    row = d.table[place]
    same = row.key == key
    row.key = key
    row.since = now
    row.asked = 0
    row.names = 0
    row.bytes = 0
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
def ask(d: Domains, text: Bytes, lo: int, hi: int, odd: bool, now: int) -> int:
    """The name ``text[lo:hi]`` is asked for, ``odd``: as something else than an address. Where its domain is if it is
    a new name; -1 if not, or if there is no place.
    """
    begin = domain_of(text, lo, hi)
    if begin == hi or begin == lo:
        return -1
    at = _find(d, mixed(fnv(text, begin, hi), 0) + 1, now)
    if at < 0:
        return -1
    row = d.table[at]
    row.last = now
    row.asked += 1
    if not _is_new(d, at, mixed(fnv(text, lo, hi), 1)):
        return -1
    row.odd += odd
    longest = 0
    end = begin - 1
    while end > lo:
        start = _label(text, lo, end)
        size = end - start
        longest = max(longest, size)
        if size >= d.limits[COUNTED_FROM]:
            row.bytes += size
        end = start - 1
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
