# SPDX-License-Identifier: Apache-2.0
"""Which name an address was looked up by: filled from the DNS answers that the tree gets.

The table is bounded: whoever looks up names as fast as he can forgets his own, those of longest ago first,
and nobody else's. Of a process's own, what a rule or a policy knows makes no room for what none knows: it can't
look up others until that is forgotten. What is forgotten or refused is counted; without a name an address is
``unresolved``, which accuses. A name is the answering server's word, which the tree may have chosen: it is
shown, and may accuse, but never excuses. Aliases (CNAME) on the way to the address are kept with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.crowding import makes_room
from tracer.detect.mixing import mixed
from tracer.detect.wire.dns import NAMES_TEXT
from tracer.engine.intrinsics import i64
from tracer.jit import inline, njit
from tracer.rules.automaton import Automaton
from tracer.rules.model import WHERE_HOST
from tracer.rules.scan import scan

#: Places of the table that one address may be in.
WAYS = 16
#: Answers are kept no shorter and no longer than this: programs use them for a while, and no answer
#: should hold its place for ever.
TTL_MIN_S, TTL_MAX_S = 300, 3600

#: Who was told last that the address is this name's.
KEEPER = np.dtype(
    [
        ("tgid", "i8"),
        ("start", "i8"),
        ("worth", "i8"),  # 1: a rule or a policy knows the name
        ("heard", "i8"),  # when that was
    ]
)

# Places in Names.state
N_FULL, N_KEPT, N_FORGOTTEN = range(3)


class Names(NamedTuple):
    """``keys`` int64[n, 3]: address (two words, IPv4 mapped) and when it ends (ns; 0: free);
    ``texts`` uint8[n, NAMES_TEXT]: names, NUL between them; ``lengths`` int64[n]; ``keepers`` KEEPER[n];
    ``state`` int64[3]: names that found no place, those that did, those that gave theirs up.
    """

    keys: npt.NDArray[np.int64]
    texts: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]
    keepers: npt.NDArray[np.void]
    state: npt.NDArray[np.int64]


def make_names(capacity: int = 1 << 14) -> Names:
    """An empty table; ``capacity`` is a power of two."""
    return Names(
        np.zeros((capacity, 3), np.int64),
        np.zeros((capacity, NAMES_TEXT), np.uint8),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, KEEPER),
        np.zeros(3, np.int64),
    )


@inline
def _home(names: Names, high: int, low: int) -> int:
    return mixed(high, low) & (len(names.keys) - 1) & ~(WAYS - 1)


@njit
def find_name(names: Names, high: int, low: int, now: int) -> int:
    """The row of the address, or -1."""
    home = _home(names, high, low)
    for row in range(home, home + WAYS):
        if names.keys[row, 2] > now and names.keys[row, 0] == high and names.keys[row, 1] == low:
            return row
    return -1


@njit
def worth_of(
    text: npt.NDArray[np.uint8], length: int, automaton: Automaton, signals: npt.NDArray[np.int64]
) -> int:
    """1 if a rule or a policy knows one of the names ``text[:length]``, else 0. ``signals`` int64[WORDS]: scratch."""
    signals[:] = 0
    scan(text, i64(0), i64(length), i64(WHERE_HOST), automaton, signals)
    known = i64(0)
    for word in range(len(signals)):
        known |= signals[word]
    return i64(known != 0)


@njit
def learn_name(
    names: Names, tgid: int, start: int, high: int, low: int, text: npt.NDArray[np.uint8], length: int, worth: int,
    ttl: int, now: int,
) -> None:  # fmt: skip
    """The process was told that the address is that of the names ``text[:length]``, for ``ttl`` seconds from ``now`` (ns)
    on. ``worth`` 1: a rule or a policy knows one of them; else 0.
    """
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
        k = names.keepers
        place = makes_room(k, home, WAYS, 1, tgid, start, k["worth"], k["heard"], 0)
        if place < 0 or (k[place].worth > worth and k[place].tgid == tgid and k[place].start == start):
            names.state[N_FULL] += 1
            return
        names.state[N_FORGOTTEN] += 1
    length = min(length, NAMES_TEXT)
    for at in range(length):
        names.texts[place, at] = text[at]
    names.lengths[place] = length
    names.keys[place, 0] = high
    names.keys[place, 1] = low
    names.keys[place, 2] = now + i64(min(max(ttl, TTL_MIN_S), TTL_MAX_S)) * 1_000_000_000
    keeper = names.keepers[place]
    keeper.tgid = tgid
    keeper.start = start
    keeper.worth = worth
    keeper.heard = now
    names.state[N_KEPT] += 1
