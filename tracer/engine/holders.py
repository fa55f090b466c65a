# SPDX-License-Identifier: Apache-2.0
"""Who holds how many of the flow table's places, and whose flow makes room once it is full.

Each process has a *share*: the places there are, divided among those that hold any. Whoever has its share pays for a
new flow with its own least telling one; whoever has less takes it from one that has its share. So a process that opens
flows as fast as it can forgets its own, and nobody else's.

How telling a flow is, is its *rank*: it has carried nothing; it has carried something; it has done so again, a while
later; something was found in it. Of a process's flows those of the least rank go first, and of these the one that has
been silent longest. Where many can pay, those pay first who have a flow of the least rank, and among them who has most.

Shares are compared in powers of two, which makes all this a few list operations: a process belongs to one list, by
the least rank of its flows and by how many it has, to a factor of two. No list is walked.

What an attacker can do, then:

- with one process, whatever it opens: make that process forget what its flows were, but for those in which something
  was found. Where all of its flows are such, new ones are not recorded.
- with many processes (or one that forks for each flow: each of them counts): bring the share down. Somebody who has
  more than that then loses flows to newcomers, but all idle ones of whoever has a share go before, then all that carried
  something once, and so on; about half a share is left in any case, of the most telling ones.
- with more processes than there are places, each with a flow that has carried something twice or in which something was
  found: keep newcomers out.

What is given up, and what is not recorded, is counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.mixing import mixed
from tracer.engine.intrinsics import address_at, i64, prefetch
from tracer.jit import inline, njit

NONE = -1

# How telling a flow is
IDLE, CARRIED, LASTING, FOUND = range(4)
RANKS = 4

#: A list for each power of two, up to more flows than any table has.
LEVELS = 32

HOLDER = np.dtype(
    [
        ("tgid", "i8"),
        ("start", "i8"),
        ("count", "i8"),  # flows
        # of each rank the flow that has been silent longest, and the one that was heard of last; all places are + 1
        ("first", "i8", (RANKS,)),
        ("last", "i8", (RANKS,)),
        ("list", "i8"),  # rank * LEVELS + level, + 1; 0: in none
        ("before", "i8"),  # neighbours in that list; of a free row ``behind`` is the next free one
        ("behind", "i8"),
    ]
)

# Columns of Holders.links
BEFORE, BEHIND, HOLDER_OF, RANK = range(4)

# Places in Holders.state
H_FREE, H_USED, H_LIVE = range(3)


class Holders(NamedTuple):
    """``table`` HOLDER[n]; ``slots`` int32[2**k], a hash of process to holder + 1; ``links`` int32[n, 4], by flow: its
    neighbours among the holder's flows of its rank, + 1, the holder, + 1, and the rank; ``lists`` int64[RANKS * LEVELS, 2]:
    the holder that has been in it longest, and the last one, + 1; ``state`` int64[3].
    """

    table: npt.NDArray[np.void]
    slots: npt.NDArray[np.int32]
    links: npt.NDArray[np.int32]
    lists: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_holders(capacity: int) -> Holders:
    """Nobody holds any of ``capacity`` flows."""
    return Holders(
        np.zeros(capacity, HOLDER),
        np.zeros(1 << max(4, (2 * capacity - 1).bit_length()), np.int32),
        np.zeros((capacity, 4), np.int32),
        np.zeros((RANKS * LEVELS, 2), np.int64),
        np.zeros(3, np.int64),
    )


@inline
def _home(h: Holders, tgid: int, start: int) -> int:
    return mixed(tgid, start) & (len(h.slots) - 1)


@inline
def expect_holder(h: Holders, tgid: int, start: int) -> None:
    """This process will be looked for soon."""
    prefetch(address_at(h.slots, _home(h, tgid, start)))


@njit
def find_holder(h: Holders, tgid: int, start: int) -> int:
    """Where the process is, or NONE if it holds nothing."""
    mask = len(h.slots) - 1
    at = _home(h, tgid, start)
    while h.slots[at]:
        holder = i64(h.slots[at]) - 1
        if h.table[holder].tgid == tgid and h.table[holder].start == start:
            return holder
        at = (at + 1) & mask
    return NONE


@njit
def _new_holder(h: Holders, tgid: int, start: int) -> int:
    """There is room: nobody is here who holds nothing."""
    holder = h.state[H_FREE] - 1
    if holder >= 0:
        h.state[H_FREE] = h.table[holder].behind
    else:
        holder = h.state[H_USED]
        h.state[H_USED] += 1
    row = h.table[holder]
    row.tgid = tgid
    row.start = start
    row.count = 0
    row["list"] = 0
    for rank in range(RANKS):
        row.first[rank] = 0
        row.last[rank] = 0
    mask = len(h.slots) - 1
    at = _home(h, tgid, start)
    while h.slots[at]:
        at = (at + 1) & mask
    h.slots[at] = holder + 1
    h.state[H_LIVE] += 1
    return int(holder)


@njit
def _drop_holder(h: Holders, holder: int) -> None:
    """It holds nothing any more; closing the gap in the hash leaves no tombstone."""
    mask = len(h.slots) - 1
    at = _home(h, h.table[holder].tgid, h.table[holder].start)
    while h.slots[at] != holder + 1:
        at = (at + 1) & mask
    hole = at
    at = (at + 1) & mask
    while h.slots[at]:
        other = h.table[i64(h.slots[at]) - 1]
        if ((at - _home(h, other.tgid, other.start)) & mask) >= ((at - hole) & mask):
            h.slots[hole] = h.slots[at]
            hole = at
        at = (at + 1) & mask
    h.slots[hole] = 0
    h.table[holder].behind = h.state[H_FREE]
    h.state[H_FREE] = holder + 1
    h.state[H_LIVE] -= 1


@njit
def level_of(count: int) -> int:
    """The power of two at or below it; -1 of 0."""
    level = -1
    while count > 0:
        level += 1
        count >>= 1
    return level


@njit
def _least(h: Holders, holder: int) -> int:
    """The least rank of its flows; RANKS if it has none."""
    rank = 0
    while rank < RANKS and h.table[holder].first[rank] == 0:
        rank += 1
    return rank


@njit
def _take_off_list(h: Holders, holder: int) -> None:
    row = h.table[holder]
    at = row["list"] - 1
    if at < 0:
        return
    if row.before:
        h.table[row.before - 1].behind = row.behind
    else:
        h.lists[at, 0] = row.behind
    if row.behind:
        h.table[row.behind - 1].before = row.before
    else:
        h.lists[at, 1] = row.before
    row["list"] = 0


@njit
def _file(h: Holders, holder: int) -> None:
    """Put it into the list where it belongs, at the end; one that is there already keeps its place."""
    row = h.table[holder]
    level = (row["list"] - 1) % LEVELS
    if row["list"] == 0 or row.count >> level != 1:
        level = level_of(row.count)
    at = _least(h, holder) * LEVELS + level
    if row["list"] == at + 1:
        return
    _take_off_list(h, holder)
    row["list"] = at + 1
    row.before = h.lists[at, 1]
    row.behind = 0
    if row.before:
        h.table[row.before - 1].behind = holder + 1
    else:
        h.lists[at, 0] = holder + 1
    h.lists[at, 1] = holder + 1


@njit
def _append(h: Holders, entry: int, holder: int, rank: int) -> None:
    row = h.table[holder]
    link = h.links[entry]
    link[HOLDER_OF] = holder + 1
    link[RANK] = rank
    link[BEFORE] = row.last[rank]
    link[BEHIND] = 0
    if row.last[rank]:
        h.links[row.last[rank] - 1, BEHIND] = entry + 1
    else:
        row.first[rank] = entry + 1
    row.last[rank] = entry + 1


@njit
def _unlink(h: Holders, entry: int, holder: int) -> None:
    row = h.table[holder]
    link = h.links[entry]
    rank = i64(link[RANK])
    before, behind = i64(link[BEFORE]), i64(link[BEHIND])
    if before:
        h.links[before - 1, BEHIND] = behind
    else:
        row.first[rank] = behind
    if behind:
        h.links[behind - 1, BEFORE] = before
    else:
        row.last[rank] = before


@njit
def hold(h: Holders, entry: int, tgid: int, start: int, rank: int) -> None:
    """The process holds the flow at ``entry``, which nobody does."""
    holder = find_holder(h, tgid, start)
    if holder == NONE:
        holder = _new_holder(h, tgid, start)
    _append(h, entry, holder, rank)
    h.table[holder].count += 1
    _file(h, holder)


@njit
def let_go(h: Holders, entry: int) -> None:
    """Nobody holds the flow any more."""
    holder = i64(h.links[entry, HOLDER_OF]) - 1
    _unlink(h, entry, holder)
    h.table[holder].count -= 1
    if h.table[holder].count == 0:
        _take_off_list(h, holder)
        _drop_holder(h, holder)
    else:
        _file(h, holder)


@njit
def set_rank(h: Holders, entry: int, rank: int) -> None:
    """The flow was heard of, and is so telling."""
    holder = i64(h.links[entry, HOLDER_OF]) - 1
    if i64(h.links[entry, RANK]) == rank and h.table[holder].last[rank] == entry + 1:
        return
    _unlink(h, entry, holder)
    _append(h, entry, holder, rank)
    _file(h, holder)


@njit
def _poorest(h: Holders, lowest: int, ranks: int) -> int:
    """The flow of one of the lowest of so many ranks, of whoever has most among those of level ``lowest`` and more that
    have one; NONE if there is none.
    """
    for rank in range(ranks):
        for back in range(LEVELS - lowest):
            holder = h.lists[rank * LEVELS + LEVELS - 1 - back, 0] - 1
            if holder >= 0:
                return int(h.table[holder].first[rank] - 1)
    return NONE


@njit
def whose_turn(h: Holders, tgid: int, start: int) -> int:
    """The flow that makes room in a full table for a new one of this process; NONE if none does."""
    holder = find_holder(h, tgid, start)
    count = i64(0) if holder == NONE else h.table[holder].count
    share = len(h.links) // (h.state[H_LIVE] + (1 if holder == NONE else 0))
    fair = level_of(share)
    if level_of(count) < fair:
        return _poorest(h, fair, RANKS)
    if holder == NONE:  # more processes than places: only for what hardly says anything
        return _poorest(h, i64(0), LASTING)
    rank = _least(h, holder)
    if rank != IDLE and count <= share:
        entry = _poorest(h, fair, CARRIED)
        if entry != NONE:
            return entry
    return NONE if rank == FOUND else int(h.table[holder].first[rank] - 1)
