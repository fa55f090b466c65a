# SPDX-License-Identifier: Apache-2.0
"""Who has carried something to a place outside, in whose series that belongs, and which rules it fires."""

from __future__ import annotations

from tracer.detect.beacons import (
    B_TOLD,
    INTERVALS,
    LEVELS,
    carry,
    facts_of,
    find_series,
)
from tracer.detect.telling import keep_news
from tracer.engine.acts import living_above
from tracer.engine.first import UNRESOLVED, remote_signals
from tracer.engine.flows import ABOVE, find_flow
from tracer.engine.flows import NONE as NO_FLOW
from tracer.engine.intrinsics import i64
from tracer.engine.names import find_name
from tracer.engine.processes import NONE, find_exact
from tracer.engine.state import State, note
from tracer.jit import inline_kernel
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_BEACON

_NOT_OURS = schema.FLOW_FLAG["FLOW_ACCEPTED"] | schema.FLOW_FLAG["FLOW_LATE"]
_TCP = 6


@inline_kernel
def _judge(state: State, at: int, entry: int, kind: int, now: int) -> int:
    """Which rules the series fires that have not been told of it; how many of state.fired."""
    b = state.beacons
    facts = facts_of(b, at)
    if facts == 0:
        return 0
    row = b.series[at]
    state.signals[:] = 0
    remote_signals(
        row.high, row.low, row.port, i64(_TCP), i64(0), now, state.ranges, state.names, state.automaton, state.signals
    )  # fmt: skip
    if row.named:
        state.signals[0] &= ~UNRESOLVED
    state.signals[0] |= facts
    count = evaluate(i64(ON_BEACON), state.signals, state.rules, state.fired)
    left = keep_news(row, state.rules, state.fired, count)
    if left:
        b.state[B_TOLD] = at
        note(state, entry, kind, now, row.cookie, left)
    return left


@inline_kernel
def report(
    state: State, tgid: int, start: int, high: int, low: int, port: int, flags: int, cookie: int, sent: int,
    received: int, ends: bool, kind: int, now: int,
) -> int:  # fmt: skip
    """A connection to a place outside has carried something, or that was all; how many of state.fired."""
    b, p = state.beacons, state.processes
    if b.limits[INTERVALS] == 0 or flags & _NOT_OURS or sent + received == 0:
        return 0
    flow = find_flow(state.flows, cookie)
    if flow == NO_FLOW:
        return 0
    f = state.flows.table[flow]
    fresh = f.checked == 0
    f.checked = 1
    when = f.began if fresh and f.began != 0 else now
    entry = find_exact(p, tgid, start)
    mine = entry != NONE
    level = 0
    while entry == NONE and level < ABOVE:  # who has ended closes his flows behind that
        entry = find_exact(p, f.above[level, 0], f.above[level, 1])
        level += 1
    depth = 0
    while entry != NONE and depth < LEVELS:
        who = p.table[entry]
        at = find_series(b, who.tgid, who.start, high, low, port, now)
        if at < 0:
            return 0
        row = b.series[at]
        if row.named == 0 and find_name(state.names, high, low, now) >= 0:
            row.named = 1
        begins = fresh or (mine and depth == 0 and sent > 0 and not ends)
        if carry(b, at, cookie, sent, received, begins, fresh, when, now):
            count = _judge(state, at, entry, kind, now)
            if count:
                return count
        if mine and depth == 0 and b.visits[at] > 1:  # it reports itself, not for whoever started it
            return 0
        entry = living_above(p, entry)
        depth += 1
    return 0
