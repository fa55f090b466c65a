# SPDX-License-Identifier: Apache-2.0
"""Who talks to whom: one entry a socket, named by its cookie, in flat arrays, bounded.

When the table is full, whoever holds more than a fair share of it gives up the flow that says least, and that is
counted: see :mod:`tracer.engine.holders`. Nobody who opens flows as fast as he can makes the watch forget the one of
somebody else that matters, or keeps it from knowing a new one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.facts import WORDS
from tracer.detect.netscan import LEVELS
from tracer.engine.holders import (
    CARRIED,
    FOUND,
    IDLE,
    LASTING,
    RANK,
    Holders,
    hold,
    let_go,
    make_holders,
    set_rank,
    whose_turn,
)
from tracer.engine.intrinsics import address_at, i64, prefetch
from tracer.jit import inline, njit

NONE = -1

#: Rules of which a flow remembers whether they have been told; later ones may be told again.
RULES_TOLD = 128

#: Of those above the process that connects, so many are remembered.
ABOVE = LEVELS - 1

#: What has been carrying something for so long stays: a flood's many short ones don't push it out.
LASTS_NS = 10_000_000_000

CONNECTING, ESTABLISHED, LISTENING, UNCONNECTED = range(1, 5)

FLOW = np.dtype(
    [
        ("cookie", "i8"),
        ("tgid", "i8"),
        ("start", "i8"),
        (
            "above",
            "i8",
            (ABOVE, 2),
        ),  # tgid and start of those above who connects: he closes it when he has ended
        ("began", "i8"),
        ("state", "i8"),
        ("local", "u1", (16,)),
        ("remote", "u1", (16,)),
        ("local_port", "i8"),
        ("remote_port", "i8"),
        ("family", "i8"),
        ("protocol", "i8"),
        ("flags", "i8"),
        ("span", "i8"),  # serial of the span it was opened in, or 0
        # what its first bytes have shown, by direction: a protocol, how long the first segment was
        ("is", "i8", (2,)),
        ("first", "i8", (2,)),
        ("traits", "i8", (2,)),
        # since when little goes over it, when it last carried something, how much, each way: see tracer.detect.thin
        ("thin", "i8"),
        ("carried", "i8"),
        ("level", "i8"),
        ("exchanges", "i8", (2,)),
        ("side", "i8"),
        ("spoke", "i8"),  # 1 + the direction that had payload first
        ("opening", "i8"),  # bytes that this end says in TLS's handshake
        ("spoken", "i8"),  # when it first carried something; 0: never
        ("checked", "i8"),  # it has carried something, and that is in the series of its place
        ("epoch", "i8"),  # of the rules that signals and told mean
        ("told", "u1", (RULES_TOLD,)),  # by rule: 1 + the rank of the severity it was told with
    ]
)

# Places in Flows.state
F_FREE, F_USED, F_LIVE, F_FULL, F_FORGOTTEN = range(5)


class Flows(NamedTuple):
    """``table`` FLOW[n + 1]: the last row is for flows that found no room; ``signals`` int64[n + 1, WORDS]:
    what their first bytes have shown; ``slots`` int32[2**k], a hash of cookie to entry + 1; ``state``
    int64[5]; ``holders``: whose they are.
    """

    table: npt.NDArray[np.void]
    signals: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int32]
    state: npt.NDArray[np.int64]
    holders: Holders


def make_flows(capacity: int = 1 << 16) -> Flows:
    """An empty table for ``capacity`` flows."""
    slots = 1 << max(4, (2 * capacity - 1).bit_length())
    return Flows(
        np.zeros(capacity + 1, FLOW),
        np.zeros((capacity + 1, WORDS), np.int64),
        np.zeros(slots, np.int32),
        np.zeros(5, np.int64),
        make_holders(capacity),
    )


@inline
def _home(slots: npt.NDArray[np.int32], cookie: int) -> int:
    folded = (cookie ^ (cookie >> 32)) & 0xFFFFFFFF
    return (folded * 0x9E3779B1 & 0xFFFFFFFF) * len(slots) >> 32


@inline
def expect_flow(f: Flows, cookie: int) -> None:
    """This flow will be looked for soon."""
    prefetch(address_at(f.slots, _home(f.slots, cookie)))


@njit
def find_flow(f: Flows, cookie: int) -> int:
    """The entry of the flow, or NONE."""
    mask = len(f.slots) - 1
    at = _home(f.slots, cookie)
    while f.slots[at]:
        entry = i64(f.slots[at]) - 1
        if f.table[entry].cookie == cookie:
            return entry
        at = (at + 1) & mask
    return NONE


@njit
def forget(f: Flows, entry: int) -> None:
    """Nothing is known of what the flow at ``entry`` carries."""
    row = f.table[entry]
    for direction in range(2):
        row["is"][direction] = 0
        row.first[direction] = 0
        row.traits[direction] = 0
        row.exchanges[direction] = 0
    row.thin = 0
    row.spoke = 0
    row.opening = 0
    row.spoken = 0
    row.checked = 0
    forget_rules(f, entry)


@njit
def forget_rules(f: Flows, entry: int) -> None:
    """What rules have said of the flow means nothing any more."""
    f.table[entry].epoch = 0
    for rule in range(RULES_TOLD):
        f.table[entry].told[rule] = 0
    for word in range(WORDS):
        f.signals[entry, word] = 0


@njit
def open_flow(f: Flows, cookie: int, tgid: int, start: int) -> int:
    """The entry of the flow, a new one if need be, now this process's; NONE when the table is full and nobody has to
    make room for it.
    """
    entry = find_flow(f, cookie)
    if entry != NONE:
        row = f.table[entry]
        if row.tgid != tgid or row.start != start:
            rank = i64(f.holders.links[entry, RANK])
            let_go(f.holders, entry)
            hold(f.holders, entry, tgid, start, rank)
            row.tgid = tgid
            row.start = start
        return entry
    if f.state[F_LIVE] == len(f.table) - 1:
        least = whose_turn(f.holders, tgid, start)
        if least == NONE:
            f.state[F_FULL] += 1
            return NONE
        f.state[F_FORGOTTEN] += 1
        close_flow(f, f.table[least].cookie)
    entry = f.state[F_FREE] - 1
    if entry >= 0:
        f.state[F_FREE] = f.table[entry].start
    else:
        entry = f.state[F_USED]
        f.state[F_USED] += 1
    forget(f, entry)
    row = f.table[entry]
    row.cookie = cookie
    row.span = 0
    row.began = 0
    row.tgid = tgid
    row.start = start
    mask = len(f.slots) - 1
    at = _home(f.slots, cookie)
    while f.slots[at]:
        at = (at + 1) & mask
    f.slots[at] = entry + 1
    f.state[F_LIVE] += 1
    hold(f.holders, entry, tgid, start, i64(IDLE))
    return int(entry)


@njit
def begin_anew(f: Flows, entry: int) -> None:
    """The socket is used again, or for the first time."""
    row = f.table[entry]
    if row.state == 0 and row.spoke == 0:  # of a new one nothing is known
        return
    forget(f, entry)
    set_rank(f.holders, entry, i64(IDLE))


@njit
def speaks(f: Flows, entry: int, now: int) -> None:
    """The flow carries something."""
    row = f.table[entry]
    rank = i64(CARRIED)
    if row.spoken == 0:
        row.spoken = now
    elif now - row.spoken >= LASTS_NS:
        rank = i64(LASTING)
    set_rank(f.holders, entry, max(rank, i64(f.holders.links[entry, RANK])))


@njit
def is_found_out(f: Flows, entry: int) -> None:
    """Something was found in what the flow carries: it is the last to make room."""
    set_rank(f.holders, entry, i64(FOUND))


@njit
def close_flow(f: Flows, cookie: int) -> None:
    """The flow is over; closing the gap in the hash leaves no tombstone."""
    mask = len(f.slots) - 1
    at = _home(f.slots, cookie)
    while f.slots[at] and f.table[i64(f.slots[at]) - 1].cookie != cookie:
        at = (at + 1) & mask
    if f.slots[at] == 0:
        return
    entry = i64(f.slots[at]) - 1
    let_go(f.holders, entry)
    f.table[entry].state = 0
    f.table[entry].start = f.state[F_FREE]
    f.state[F_FREE] = entry + 1
    f.state[F_LIVE] -= 1
    hole = at
    at = (at + 1) & mask
    while f.slots[at]:
        home = _home(f.slots, f.table[i64(f.slots[at]) - 1].cookie)
        if ((at - home) & mask) >= ((at - hole) & mask):
            f.slots[hole] = f.slots[at]
            hole = at
        at = (at + 1) & mask
    f.slots[hole] = 0
