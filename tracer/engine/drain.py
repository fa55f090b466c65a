# SPDX-License-Identifier: Apache-2.0
"""The loop from ring to state: no Python object is made for an event.

Two rings are merged by the time of their records. The loop stops behind a record that fires a rule,
so that Python finds the state as it was at that very event: alerts do not depend on how events were
batched.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracer.engine.ahead import NEAR, expect, expect_bytes
from tracer.engine.handle import handle, read_head
from tracer.engine.intrinsics import (
    boottime_ns,
    copy_bytes,
    i64,
    ints_at,
    load_acquire_u64,
    store_fence_u64,
    store_release_u64,
)
from tracer.engine.ring import NOTHING, READY, SKIP, advance, peek
from tracer.engine.state import LAG_BUCKETS, MAX_CPUS, PENDING, State, state_at
from tracer.jit import inline, inline_kernel, njit
from tracer.kernel import schema

EXEC, CONNECT, GPU_IOCTL = (schema.KIND[f"EVENT_{k}"] for k in ("EXEC", "CONNECT", "GPU_IOCTL"))

# Columns of the array that describes rings to kernels, one row a ring
R_CONSUMER, R_PRODUCER, R_DATA, R_MASK = range(4)

# Why a drain came back
EMPTY, MORE, FIRED, TAP_FULL = range(4)

#: Give space back to the kernel at least every so many bytes.
RELEASE_EVERY = 1 << 18

# Places in the tap's state: where its memory is, how much of it there is (0: nothing is tapped) and is used,
# and how many records that is
TAP_ADDRESS, TAP_SIZE, TAP_USED, TAP_COUNT = range(4)
#: Each record in the tap: its length as 4 bytes, its bytes, up to a multiple of 8.
TAP_PREFIX = 8


@inline
def lag_bucket(lag: int) -> int:
    """Which of the histogram's buckets: four an octave."""
    if lag < 4:
        return 0
    octave = 0
    rest = lag
    while rest >= 8:
        rest >>= 1
        octave += 1
    return min(octave * 4 + rest - 4, LAG_BUCKETS - 1)


@inline_kernel
def _account(state: State, address: int, kind: int, now: int) -> None:
    head = read_head(address)
    state.received[kind] += 1
    cpu = min(i64(head.cpu), MAX_CPUS - 1)
    ring = i64(head.ring) & 1
    state.got[ring, cpu] += 1
    state.next_seq[ring, cpu] = max(state.next_seq[ring, cpu], i64(head.seq) + 1)
    if kind == EXEC or kind == CONNECT or kind == GPU_IOCTL:
        state.lag[lag_bucket(max(now - i64(head.ts), 0))] += 1


@inline
def _length_at(address: int) -> int:
    """Of a record, by what a tap has before it."""
    return ints_at(address, i64(1))[0] & 0xFFFFFFFF  # the other half says nothing


@inline
def _room(length: int) -> int:
    """What a record takes, laid out as a tap does."""
    return (TAP_PREFIX + length + 7) & ~7


@inline_kernel
def _tap(tap: npt.NDArray[np.int64], address: int, length: int) -> None:
    at = tap[TAP_ADDRESS] + tap[TAP_USED]
    ints_at(at, i64(1))[0] = length
    copy_bytes(at + TAP_PREFIX, address, length)
    tap[TAP_USED] += _room(length)
    tap[TAP_COUNT] += 1


@inline_kernel
def _look_ahead(state: State, data: int, mask: int, seen: int, position: int, produced: int) -> int:
    """Expect the records of a ring up to NEAR behind ``position``, of which those before ``seen`` are expected; up to
    where that is then.
    """
    at = max(seen, position)
    while at - position < NEAR:
        what, address, length = peek(data, mask, at, produced)
        if what == NOTHING:
            break
        if what == READY:
            expect(state, address, length)
        at = advance(at, length)
    return at


@njit
def drain(
    rings: npt.NDArray[np.int64],
    where: int,
    tap: npt.NDArray[np.int64],
    limit: int,
) -> tuple[int, int]:
    """Take in up to ``limit`` records from the rings int64[2, 4]; (why it came back, how many).

    ``where``: the address of the state's words; ``tap`` int64[4].
    """
    state = state_at(where)
    done = 0
    why = MORE
    state.pending[PENDING] = 0
    now = boottime_ns()
    c0 = load_acquire_u64(rings[0, R_CONSUMER])
    c1 = load_acquire_u64(rings[1, R_CONSUMER])
    p0 = load_acquire_u64(rings[0, R_PRODUCER])
    p1 = load_acquire_u64(rings[1, R_PRODUCER])
    released0, released1 = c0, c1
    seen0, seen1 = c0, c1
    while done < limit:
        s0, a0, n0 = peek(rings[0, R_DATA], rings[0, R_MASK], c0, p0)
        s1, a1, n1 = peek(rings[1, R_DATA], rings[1, R_MASK], c1, p1)
        if s0 == SKIP:
            c0 = advance(c0, n0)
            continue
        if s1 == SKIP:
            c1 = advance(c1, n1)
            continue
        if s0 == NOTHING and s1 == NOTHING:
            n = load_acquire_u64(rings[0, R_PRODUCER])
            m = load_acquire_u64(rings[1, R_PRODUCER])
            if n == p0 and m == p1:
                why = EMPTY
                break
            p0, p1 = n, m
            now = boottime_ns()
            continue
        first = s1 == NOTHING or (s0 != NOTHING and read_head(a0).ts <= read_head(a1).ts)
        address = a0 if first else a1
        length = n0 if first else n1
        if tap[TAP_SIZE]:
            if tap[TAP_USED] + length + TAP_PREFIX + 8 > tap[TAP_SIZE]:
                why = TAP_FULL
                break
            _tap(tap, address, length)
        expect_bytes(address, length)
        ring = 0 if first else 1
        seen = _look_ahead(
            state, rings[ring, R_DATA], rings[ring, R_MASK], seen0 if first else seen1, c0 if first else c1,
            p0 if first else p1,
        )  # fmt: skip
        if first:
            seen0 = seen
        else:
            seen1 = seen
        kind = handle(state, where, address, length)
        if kind:
            _account(state, address, kind, now)
        done += 1
        if first:
            c0 = advance(c0, n0)
        else:
            c1 = advance(c1, n1)
        if state.pending[PENDING]:
            why = FIRED
            break
        if c0 - released0 > RELEASE_EVERY:
            store_release_u64(rings[0, R_CONSUMER], c0)
            released0 = c0
        if c1 - released1 > RELEASE_EVERY:
            store_release_u64(rings[1, R_CONSUMER], c1)
            released1 = c1
    if c0 != released0:
        store_release_u64(rings[0, R_CONSUMER], c0)
    if c1 != released1:
        store_release_u64(rings[1, R_CONSUMER], c1)
    return why, done


@njit
def replay(where: int, address: int, size: int, start: int, count: bool) -> tuple[int, int]:
    """Take in records laid out as a tap has them, from byte ``start``; (EMPTY or FIRED, next byte).

    ``count``: they came from probes and belong into the sums.
    """
    state = state_at(where)
    at = seen = start
    state.pending[PENDING] = 0
    while at + TAP_PREFIX <= size:
        length = _length_at(address + at)
        if at + TAP_PREFIX + length > size:
            state.malformed[0] += 1
            return EMPTY, size
        while seen - at < NEAR and seen + TAP_PREFIX <= size:
            behind = _length_at(address + seen)
            if seen + TAP_PREFIX + behind > size:
                break
            expect(state, address + seen + TAP_PREFIX, behind)
            seen += _room(behind)
        here = address + at + TAP_PREFIX
        expect_bytes(here, length)
        kind = handle(state, where, here, length)
        if kind and count:
            _account(state, here, kind, 0)
        at += _room(length)
        if state.pending[PENDING]:
            return FIRED, at
    if at < size:  # a piece of a length
        state.malformed[0] += 1
    return EMPTY, size


@njit
def fall_asleep(rings: npt.NDArray[np.int64], flag: int) -> bool:
    """Say at ``flag`` (an address) that any record must wake us; false if one is there already.

    The order matters: a probe reserves, then reads the flag, then submits. After a full fence we
    either see its reservation here, or it sees our flag.
    """
    store_fence_u64(flag, 1)
    for ring in range(2):
        if load_acquire_u64(rings[ring, R_PRODUCER]) != load_acquire_u64(rings[ring, R_CONSUMER]):
            store_release_u64(flag, 0)
            return False
    return True
