# SPDX-License-Identifier: Apache-2.0
"""What the end of a flow says: whether a process has been trying one place after the other."""

from __future__ import annotations

from tracer.detect.netscan import (
    BY_DESCENDANTS,
    BY_SHELL,
    LEVELS,
    OWN_PORTS_BELOW,
    REFUSED,
    SILENT,
    UNUSED,
    WINDOW,
    Scans,
    begin,
    note_target,
    remember_used,
    take_off,
    take_off_all,
    was_told,
    was_used,
)
from tracer.detect.program import IS_SHELL
from tracer.detect.telling import keep_news
from tracer.engine.acts import living_above
from tracer.engine.beacons import report
from tracer.engine.first import TRIED_IN_VAIN, address_words, place_of
from tracer.engine.flows import ABOVE, Flows, close_flow, find_flow
from tracer.engine.flows import NONE as NO_FLOW
from tracer.engine.intrinsics import bytes_at, i64, record_reader
from tracer.engine.processes import NONE, Processes, find_exact
from tracer.engine.relays import carried_last
from tracer.engine.sessions import hang_up
from tracer.engine.state import IN_SPAN, State, note, state_at
from tracer.jit import entry as compiled_entry
from tracer.jit import inline_kernel, njit
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_SCAN

FLOW_CLOSE = schema.KIND["EVENT_FLOW_CLOSE"]
_BYTES = schema.FLOW_CLOSE.itemsize
assert schema.FLOW_CLOSE.fields is not None
_REMOTE = schema.FLOW_CLOSE.fields["remote"][1]
_NOT_OURS = schema.FLOW_FLAG["FLOW_ACCEPTED"] | schema.FLOW_FLAG["FLOW_LATE"]
_TCP = 6
_ECONNREFUSED = 111

read_flow_close = record_reader(schema.FLOW_CLOSE)


@njit
def remember_above(p: Processes, flows: Flows, flow: int, entry: int) -> None:
    """Who is above the process at ``entry``, which opens the flow."""
    f = flows.table[flow]
    at = entry
    for level in range(ABOVE):
        if at != NONE:
            at = living_above(p, at)
        f.above[level, 0] = 0 if at == NONE else p.table[at].tgid
        f.above[level, 1] = 0 if at == NONE else p.table[at].start


@inline_kernel
def _whose(state: State, tgid: int, start: int, cookie: int) -> tuple[int, int]:
    """The process that closes a flow, or the next one above it that is left; how many levels above."""
    entry = find_exact(state.processes, tgid, start)
    if entry != NONE:
        return entry, i64(0)
    flow = find_flow(state.flows, cookie)  # who has ended closes his flows behind that
    if flow != NO_FLOW:
        f = state.flows.table[flow]
        for level in range(ABOVE):
            entry = find_exact(state.processes, f.above[level, 0], f.above[level, 1])
            if entry != NONE:
                return entry, level + 1
    return i64(NONE), i64(0)


@njit
def _used(p: Processes, s: Scans, entry: int, place: int, high: int, low: int, port: int) -> None:
    """Something was sent: whoever had tried this place in vain came too early."""
    at = entry
    level = 0
    while at != NONE and level < LEVELS:
        if p.table[at].net & TRIED_IN_VAIN:
            row = s.series[2 * at + place]
            if row.tgid == p.table[at].tgid and row.start == p.table[at].start:
                take_off(s, 2 * at + place, high, low, port)
        at = living_above(p, at)
        level += 1


@inline_kernel
def _judge(state: State, entry: int, series: int, now: int) -> int:
    """Which rules the series fires that have not been told of it; how many of state.fired."""
    row = state.scans.series[series]
    state.signals[:] = 0
    state.signals[0] = row.shapes
    if row.below:
        state.signals[0] |= BY_DESCENDANTS
    image = state.processes.table[entry].image
    if image != NONE and state.processes.images[image].program & IS_SHELL:
        state.signals[0] |= BY_SHELL
    count = evaluate(i64(ON_SCAN), state.signals, state.rules, state.fired)
    left = keep_news(row, state.rules, state.fired, count)
    if left:
        note(state, entry, i64(FLOW_CLOSE), now, i64(series), left)
    return left


@inline_kernel
def _in_vain(
    state: State, entry: int, level: int, place: int, high: int, low: int, port: int, outcome: int, now: int
) -> int:
    """Count it for the process at ``entry`` and for those above; how many of state.fired."""
    p, s = state.processes, state.scans
    at = entry
    depth = level
    while at != NONE and depth < LEVELS:
        series = 2 * at + place
        p.table[at].net |= TRIED_IN_VAIN
        begin(s, series, p.table[at].tgid, p.table[at].start, now, state.epoch[0])
        shapes = note_target(s, series, high, low, port, outcome, depth > 0)
        count = i64(0)
        if shapes:
            count = _judge(state, at, series, now)
        above = living_above(p, at)
        if count:
            depth += 1
            while above != NONE and depth < LEVELS:
                take_off_all(s, series, 2 * above + place)
                above = living_above(p, above)
                depth += 1
            return count
        if was_told(s, series):
            return 0
        at = above
        depth += 1
    return 0


@compiled_entry
def on_flow_close(where: int, address: int, length: int) -> int:
    state = state_at(where)
    e = read_flow_close(address)
    count = i64(0)
    high, low, there = i64(0), i64(0), i64(-1)
    if i64(e.protocol) == _TCP:
        high, low = address_words(bytes_at(address, i64(_BYTES)), i64(_REMOTE), i64(e.family))
        there = place_of(state, high, low)
        hang_up(state, i64(e.cookie))
    if i64(e.protocol) == _TCP and e.established:
        carried_last(
            state, i64(e.tgid), i64(e.start), there, high, low, i64(e.remote_port), i64(e.local_port), i64(e.flags),
            i64(e.cookie), i64(e.sent_last), i64(e.received_last), i64(e.ts),
        )  # fmt: skip
    if i64(e.protocol) == _TCP and not e.flags & _NOT_OURS and state.scans.limits[WINDOW] != 0:
        entry, level = _whose(state, i64(e.tgid), i64(e.start), i64(e.cookie))
        port = i64(e.remote_port)
        mine = entry != NONE and level == 0
        place = i64(-1) if entry == NONE else there
        if place == -1:
            pass
        elif e.established and i64(e.sent) > 0:
            _used(state.processes, state.scans, entry, place, high, low, port)
            if mine:
                remember_used(state.scans, entry, i64(e.tgid), i64(e.start), high, low, port)
        elif not mine or not was_used(state.scans, entry, i64(e.tgid), i64(e.start), high, low, port):
            outcome = i64(UNUSED)
            if not e.established:
                outcome = i64(REFUSED) if i64(e.error) == _ECONNREFUSED else i64(SILENT)
            if place == 0 or (place == 1 and port < state.scans.limits[OWN_PORTS_BELOW]):
                count = _in_vain(state, entry, level, place, high, low, port, outcome, i64(e.ts))
    if count == 0 and i64(e.protocol) == _TCP and e.established and there == -1:
        count = report(
            state, i64(e.tgid), i64(e.start), high, low, i64(e.remote_port), i64(e.flags), i64(e.cookie),
            i64(e.sent_last), i64(e.received_last), True, i64(FLOW_CLOSE), i64(e.ts),
        )  # fmt: skip
    if count:  # by the connect that was the last it took
        flow = find_flow(state.flows, i64(e.cookie))
        if flow != NO_FLOW:
            state.pending[IN_SPAN] = state.flows.table[flow].span
    close_flow(state.flows, i64(e.cookie))
    return count
