# SPDX-License-Identifier: Apache-2.0
"""What a pass over all processes says: who is busy, with whom they speak, and which rules that fires."""

from __future__ import annotations

from tracer.detect.effort import (
    EXCHANGES,
    FIRST,
    SECONDS,
    TOLD,
    TOLD_FLOW,
    add,
    asks_little,
    begin,
    end_pass,
    go_on,
)
from tracer.detect.facts import FACT_BIT
from tracer.detect.legs import INSIDE, OUTSIDE, SECOND
from tracer.detect.program import IS_INTERPRETER
from tracer.detect.provenance import pass_told
from tracer.detect.telling import keep_news
from tracer.detect.thin import is_thin
from tracer.engine.flows import F_USED, is_found_out
from tracer.engine.gpus import judge_work
from tracer.engine.intrinsics import i64, record_reader
from tracer.engine.processes import LIVE, NONE, Processes, find_exact
from tracer.engine.state import IN_SPAN, State, known, note, state_at
from tracer.jit import entry as compiled_entry
from tracer.jit import inline_kernel, njit
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_EFFORT

EFFORT = schema.KIND["EVENT_EFFORT"]
_TCP = 6
_NEW_FILE_FLAG = schema.EFFORT_FLAG["EFFORT_NEW_FILE"]
_ACCEPTED = schema.FLOW_FLAG["FLOW_ACCEPTED"]
_NEW_FILE, _FEW_CALLS, _THIN, _THIN_INSIDE, _HUGE_PAGES, _BY_INTERPRETER = (
    1 << FACT_BIT[name]
    for name in ("new-file", "few-calls", "thin-flow", "thin-flow-inside", "huge-pages", "by-interpreter")
)

read_effort = record_reader(schema.EFFORT)


@njit
def crew_of(p: Processes, entry: int) -> int:
    """The topmost of those above that run the same file with the same script, one below the other."""
    head = entry
    while p.table[head].image != NONE:
        above = p.table[head].parent
        if above == NONE or p.table[above].image == NONE:
            break
        one, other = p.images[p.table[head].image], p.images[p.table[above].image]
        if one.dev != other.dev or one.ino != other.ino or one.script != other.script:
            break
        head = above
    return head


@inline_kernel
def _look_for_flows(state: State, now: int) -> None:
    """Note of each crew that is long busy which thin connections it has."""
    p, f, e = state.processes, state.flows, state.efforts
    for flow in range(f.state[F_USED]):
        row = f.table[flow]
        if row.state == 0 or row.protocol != _TCP or row.flags & _ACCEPTED:
            continue
        if not is_thin(row, now, e.limits[SECONDS] * SECOND, e.limits[EXCHANGES]):
            continue
        owner = find_exact(p, row.tgid, row.start)
        if owner == NONE:
            continue
        crew = e.crews[crew_of(p, owner)]
        if crew.last == now and row.carried >= crew.since:
            crew.thin |= 1 << row.side
            crew.flows[row.side] = flow


@inline_kernel
def _judge(state: State, head: int, now: int) -> int:
    """Which rules the crew fires that have not been told of it; how many of state.fired."""
    p, e = state.processes, state.efforts
    crew = e.crews[head]
    facts = i64(0)
    if crew.flags & _NEW_FILE_FLAG:
        facts |= _NEW_FILE
    if asks_little(e, head):
        facts |= _FEW_CALLS
    if crew.thin & 1 << OUTSIDE:
        facts |= _THIN
    if crew.thin & 1 << INSIDE:
        facts |= _THIN_INSIDE
    if crew.huge > 0:
        facts |= _HUGE_PAGES
    image = p.table[crew.busiest].image
    if image != NONE and p.images[image].program & IS_INTERPRETER:
        facts |= _BY_INTERPRETER
    state.signals[:] = 0
    state.signals[0] = facts
    count = evaluate(i64(ON_EFFORT), state.signals, state.rules, state.fired)
    left = keep_news(crew, state.rules, state.fired, count)
    if left:
        side = OUTSIDE if crew.thin & 1 << OUTSIDE else INSIDE
        cookie, span = i64(0), i64(0)
        e.state[TOLD] = head
        e.state[TOLD_FLOW] = -1
        if crew.thin:
            e.state[TOLD_FLOW] = crew.flows[side]
            cookie, span = (
                state.flows.table[crew.flows[side]].cookie,
                state.flows.table[crew.flows[side]].span,
            )
            is_found_out(state.flows, crew.flows[side])
        whom = head if p.table[head].state == LIVE else crew.busiest
        note(state, whom, i64(EFFORT), now, cookie, left)
        state.pending[IN_SPAN] = span
    return left


@inline_kernel
def _end(state: State, now: int) -> int:
    """All that are busy in this pass are known; how many of state.fired."""
    e = state.efforts
    due = i64(0)
    at = e.state[FIRST] - 1
    while at >= 0:
        crew = e.crews[at]
        if go_on(e, at, now):
            due = i64(1)
        else:
            crew["pass"] = 0  # not to be judged
        at = crew.next - 1
    count = i64(0)
    if due:
        _look_for_flows(state, now)
        at = e.state[FIRST] - 1
        while at >= 0 and count == 0:  # others have their turn after the next pass
            if e.crews[at]["pass"] != 0:
                count = _judge(state, at, now)
            at = e.crews[at].next - 1
    end_pass(e)
    return count


@compiled_entry
def on_effort(where: int, address: int, length: int) -> int:
    state = state_at(where)
    e = read_effort(address)
    pass_told(state.gpu, i64(e.ts))
    on = state.efforts.limits[SECONDS] != 0
    if i64(e.tgid) == 0:
        return _end(state, i64(e.ts)) if on else i64(0)
    p = state.processes
    entry = known(state, i64(e.tgid), i64(e.start), i64(e.ts))
    if entry == NONE:
        return 0
    count = judge_work(state, entry, i64(EFFORT), i64(e.ts))
    if not on:
        return count
    head = crew_of(p, entry)
    dev, ino = i64(0), i64(0)
    if p.table[head].image != NONE:
        image = p.images[p.table[head].image]
        dev, ino = image.dev, image.ino
    begin(state.efforts, head, p.table[head].tgid, p.table[head].start, dev, ino)
    add(
        state.efforts, head, entry, i64(e.wall_ns), i64(e.ran_ns), i64(e.waited_ns), i64(e.switches), i64(e.calls),
        i64(e.huge_pages), i64(e.cores), i64(e.threads), i64(e.effort_flags),
    )  # fmt: skip
    return count
