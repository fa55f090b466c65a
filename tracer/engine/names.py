# SPDX-License-Identifier: Apache-2.0
"""Which name an address was looked up by: filled from the DNS answers that the tree gets.

The table is bounded and keeps what it has until its time to live is over: whoever looks up names as
fast as he can makes it refuse new ones, which is counted, not forget old ones. A name is the answering
server's word, which the tree may have chosen: it is shown, and may accuse, but never excuses. Aliases
(CNAME) on the way to the address are kept with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.wire.dns import NAMES_TEXT
from tracer.engine.intrinsics import i64
from tracer.jit import inline, njit

#: Places of the table that one address may be in.
WAYS = 16
#: Answers are kept no shorter and no longer than this: programs use them for a while, and no answer
#: should hold its place for ever.
TTL_MIN_S, TTL_MAX_S = 300, 3600

# Places in Names.state
N_FULL, N_KEPT = range(2)


class Names(NamedTuple):
    """``keys`` int64[n, 3]: address (two words, IPv4 mapped) and when it ends (ns; 0: free);
    ``texts`` uint8[n, NAMES_TEXT]: names, NUL between them; ``lengths`` int64[n]; ``state`` int64[2].
    """

    keys: npt.NDArray[np.int64]
    texts: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_names(capacity: int = 1 << 14) -> Names:
    """An empty table; ``capacity`` is a power of two."""
    return Names(
        np.zeros((capacity, 3), np.int64),
        np.zeros((capacity, NAMES_TEXT), np.uint8),
        np.zeros(capacity, np.int64),
        np.zeros(2, np.int64),
    )


@inline
def _home(names: Names, high: int, low: int) -> int:
    mixed = (high ^ (low * 0x9E3779B97F4A7C15)) & 0x7FFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    return mixed & (len(names.keys) - 1) & ~(WAYS - 1)


@njit
def find_name(names: Names, high: int, low: int, now: int) -> int:
    """The row of the address, or -1."""
    home = _home(names, high, low)
    for row in range(home, home + WAYS):
        if names.keys[row, 2] > now and names.keys[row, 0] == high and names.keys[row, 1] == low:
            return row
    return -1


@njit
def learn_name(
    names: Names,
    high: int,
    low: int,
    text: npt.NDArray[np.uint8],
    length: int,
    ttl: int,
    now: int,
) -> None:
    """The address was given for the names ``text[:length]``, for ``ttl`` seconds from ``now`` (ns) on."""
    home = _home(names, high, low)
    place = -1
    for row in range(home, home + WAYS):
        if names.keys[row, 2] <= now:
            if place < 0:
                place = row
        elif names.keys[row, 0] == high and names.keys[row, 1] == low:
            place = row
            break
    if place < 0:
        names.state[N_FULL] += 1
        return
    length = min(length, NAMES_TEXT)
    for at in range(length):
        names.texts[place, at] = text[at]
    names.lengths[place] = length
    names.keys[place, 0] = high
    names.keys[place, 1] = low
    names.keys[place, 2] = now + i64(min(max(ttl, TTL_MIN_S), TTL_MAX_S)) * 1_000_000_000
    names.state[N_KEPT] += 1
