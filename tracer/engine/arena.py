# SPDX-License-Identifier: Apache-2.0
"""The strings of running programs (path, arguments, …), kept in chains of small blocks.

A block belongs to one chain and comes back when its program is gone, so that a flood of short
processes can't push out what a living one has. When all blocks are taken, a new chain is cut short
and that is counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.engine.intrinsics import address_at, copy_bytes, i64
from tracer.jit import njit

BLOCK = 128
NO_BLOCK = -1

# Places in Arena.state
FREE_HEAD, FREE_COUNT, CUT = range(3)


class Arena(NamedTuple):
    """``blocks`` uint8[n, BLOCK]; ``following`` int32[n], the next block of a chain or of the free
    list; ``state`` int64[3].
    """

    blocks: npt.NDArray[np.uint8]
    following: npt.NDArray[np.int32]
    state: npt.NDArray[np.int64]


def make_arena(capacity: int) -> Arena:
    """An arena of ``capacity`` blocks; memory is touched only as it is used."""
    arena = Arena(np.zeros((capacity, BLOCK), np.uint8), np.zeros(capacity, np.int32), np.zeros(3, np.int64))
    arena.state[FREE_HEAD] = 0
    arena.state[FREE_COUNT] = capacity
    return arena


@njit
def store(arena: Arena, source: npt.NDArray[np.uint8], lo: int, hi: int) -> tuple[int, int]:
    """Keep source[lo:hi]; (first block or NO_BLOCK, bytes kept).

    ``following`` is zero-initialised: a free block that was never used is followed by its neighbour,
    and stored links are off by one to make that the meaning of zero.
    """
    first = NO_BLOCK
    last = NO_BLOCK
    at = lo
    while at < hi:
        if arena.state[FREE_COUNT] == 0:
            arena.state[CUT] += 1
            break
        block = arena.state[FREE_HEAD]
        link = i64(arena.following[block])
        arena.state[FREE_HEAD] = block + 1 if link == 0 else link - 1
        arena.state[FREE_COUNT] -= 1
        count = min(hi - at, BLOCK)
        copy_bytes(address_at(arena.blocks[block], i64(0)), address_at(source, at), count)
        arena.following[block] = NO_BLOCK
        if last == NO_BLOCK:
            first = block
        else:
            arena.following[last] = block + 1
        last = block
        at += count
    return first, at - lo


@njit
def release(arena: Arena, first: int) -> None:
    """Give the chain that begins with ``first`` back."""
    block = first
    while block != NO_BLOCK:
        link = i64(arena.following[block])
        arena.following[block] = arena.state[FREE_HEAD] + 1
        arena.state[FREE_HEAD] = block
        arena.state[FREE_COUNT] += 1
        block = NO_BLOCK if link == NO_BLOCK else link - 1


@njit
def load(arena: Arena, first: int, skip: int, count: int, target: npt.NDArray[np.uint8]) -> int:
    """Copy ``count`` bytes of a chain, from byte ``skip`` on, into ``target``; how many there were."""
    block = first
    done = 0
    position = 0
    limit = min(count, i64(len(target)))
    while block != NO_BLOCK and done < limit:
        for i in range(BLOCK):
            if position >= skip and done < limit:
                target[done] = arena.blocks[block, i]
                done += 1
            position += 1
        link = i64(arena.following[block])
        block = NO_BLOCK if link == NO_BLOCK else link - 1
    return done
