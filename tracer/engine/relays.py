# SPDX-License-Identifier: Apache-2.0
"""What samples of all connections say: whose legs belong together, and which rules a relay fires."""

from __future__ import annotations

from tracer.detect.beacons import expect_series
from tracer.detect.effort import MINUTE_BYTES
from tracer.detect.facts import FACT_BIT
from tracer.detect.legs import (
    ACCEPTED,
    BY_PARENT,
    BY_PROCESS,
    INSIDE,
    LATE,
    MOVED_INSIDE,
    MOVED_OUTSIDE,
    NEAR,
    OUTSIDE,
    PAIR_WAYS,
    PASSES,
    TOLD,
    WINDOW,
    Relays,
    end_pass,
    expect_leg,
    gather,
    group_of,
    move,
)
from tracer.detect.mixing import mixed
from tracer.detect.program import IS_SHELL
from tracer.detect.relay import go_on, is_relay, try_pair
from tracer.detect.telling import keep_news
from tracer.detect.thin import carry
from tracer.engine.beacons import report
from tracer.engine.first import address_words, place_of
from tracer.engine.flows import NONE as NO_FLOW
from tracer.engine.flows import find_flow, is_found_out, speaks
from tracer.engine.intrinsics import bytes_at, i64, record_reader
from tracer.engine.processes import NONE, Processes, find_exact, find_recent
from tracer.engine.sessions import end_sessions_pass, hear, judge_sessions
from tracer.engine.state import IN_SPAN, SUBJECT, State, note, state_at
from tracer.jit import entry as compiled_entry
from tracer.jit import inline, inline_kernel, njit
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_RELAY

FLOW_SAMPLE = schema.KIND["EVENT_FLOW_SAMPLE"]
_BYTES = schema.FLOW_SAMPLE.itemsize
assert schema.FLOW_SAMPLE.fields is not None
_REMOTE = schema.FLOW_SAMPLE.fields["remote"][1]
_ACCEPTED = schema.FLOW_FLAG["FLOW_ACCEPTED"]
_LATE = schema.FLOW_FLAG["FLOW_LATE"]
#: The kernel gives the ports from here on to whoever connects (ip_local_port_range): a connection that is
#: older than the watch doesn't say who opened it, but its port here does.
_FIRST_CLIENT_PORT = 32768
#: Of the last bytes of a connection no sample says how many packets they were: these hold the most.
_PACKET_BYTES = 1448
_INWARD, _OUTWARD, _FOR_OUTSIDERS, _LATE_RELAY, _BY_RELATIVES = (
    1 << FACT_BIT[name]
    for name in ("relays-inward", "relays-outward", "for-outsiders", "late-relay", "by-relatives")
)

read_flow_sample = record_reader(schema.FLOW_SAMPLE)


@inline
def _is_accepted(flags: int, local_port: int) -> bool:
    return bool(flags & _ACCEPTED or (flags & _LATE and local_port < _FIRST_CLIENT_PORT))


@inline_kernel
def expect_carried(
    state: State, tgid: int, start: int, high: int, low: int, remote_port: int, local_port: int, flags: int
) -> None:
    """It will soon be told what this connection has carried."""
    port = local_port if _is_accepted(flags, local_port) else remote_port
    expect_leg(state.relays, tgid, high, low, port)
    expect_series(state.beacons, tgid, start, high, low, remote_port)


@inline_kernel
def carried(
    state: State, tgid: int, start: int, place: int, high: int, low: int, remote_port: int, local_port: int, flags: int,
    cookie: int, sent: int, received: int, sent_packets: int, received_packets: int, now: int,
) -> None:  # fmt: skip
    """Take in what a connection has carried since it was last asked. ``place``: see place_of."""
    marks = i64(0)
    if flags & _LATE:
        marks |= LATE
    if _is_accepted(flags, local_port):
        marks |= ACCEPTED
    side = i64(OUTSIDE) if place == -1 else i64(INSIDE)
    port = local_port if marks & ACCEPTED else remote_port
    entry = find_exact(state.processes, tgid, start)
    move(
        state.relays, tgid, start, entry, side, marks, high, low, port, cookie,
        received, sent, received_packets, sent_packets, now,
    )  # fmt: skip


@inline_kernel
def carried_last(
    state: State, tgid: int, start: int, place: int, high: int, low: int, remote_port: int, local_port: int, flags: int,
    cookie: int, sent: int, received: int, now: int,
) -> None:  # fmt: skip
    """The same at its end."""
    if state.relays.limits[WINDOW] == 0 or sent + received == 0:
        return
    carried(
        state, tgid, start, place, high, low, remote_port, local_port, flags, cookie, sent, received,
        (sent + _PACKET_BYTES - 1) // _PACKET_BYTES, (received + _PACKET_BYTES - 1) // _PACKET_BYTES, now,
    )  # fmt: skip


@njit
def _live_parent(p: Processes, entry: int) -> int:
    return int(p.table[entry].parent) if entry != NONE else NONE


@njit
def _related(p: Processes, one: int, other: int) -> bool:
    """Parent and child, or two commands of a shell's pipeline?"""
    if one == NONE or other == NONE:
        return False
    above, beside = _live_parent(p, one), _live_parent(p, other)
    if above == other or beside == one:
        return True
    if above == NONE or above != beside or p.table[above].image == NONE:
        return False
    return bool(p.images[p.table[above].image].program & IS_SHELL)


@njit
def _try_group(r: Relays, p: Processes, outer: int, kind: int, key: int, now: int) -> None:
    """Begin with pairs of the leg outside and those that have moved inside, in one group."""
    group = group_of(key)
    for place in range(min(r.gathered[kind, group], i64(NEAR))):
        inner = r.near[kind, group, place]
        o, i = r.legs[outer], r.legs[inner]
        same = o.tgid == i.tgid and o.start == i.start
        if i.side == INSIDE and (same or _related(p, o.entry, i.entry)):
            try_pair(r, outer, inner, now)


@njit
def _compare(r: Relays, p: Processes, now: int) -> None:
    """Begin with pairs of legs that have moved in this pass. A leg that has given up its place meanwhile is in these
    lists under its heir's name.
    """
    for place in range(r.state[MOVED_INSIDE]):
        inner = r.moved[1, place]
        gather(r, inner, i64(_live_parent(p, r.legs[inner].entry)))
    count = r.state[MOVED_OUTSIDE]
    turn = mixed(r.state[PASSES], i64(0))
    for place in range(count):
        outer = r.moved[0, (place + turn) % count]  # whoever comes first finds room
        leg = r.legs[outer]
        if leg.side != OUTSIDE:
            continue
        _try_group(r, p, outer, i64(BY_PROCESS), leg.tgid, now)
        if leg.entry == NONE:
            continue
        _try_group(r, p, outer, i64(BY_PARENT), leg.entry, now)
        above = _live_parent(p, leg.entry)
        if above != NONE:
            _try_group(r, p, outer, i64(BY_PROCESS), p.table[above].tgid, now)
            _try_group(r, p, outer, i64(BY_PARENT), i64(above), now)


@inline_kernel
def _judge(state: State, at: int, now: int) -> int:
    """Which rules the pair fires that have not been told of its leg outside; how many of state.fired."""
    r = state.relays
    outer, inner = r.legs[r.pairs[at].outer], r.legs[r.pairs[at].inner]
    state.signals[:] = 0
    state.signals[0] = _OUTWARD if inner.flags & ACCEPTED else _INWARD
    if outer.flags & ACCEPTED:
        state.signals[0] |= _FOR_OUTSIDERS
    if (outer.flags | inner.flags) & LATE:
        state.signals[0] |= _LATE_RELAY
    if outer.tgid != inner.tgid or outer.start != inner.start:
        state.signals[0] |= _BY_RELATIVES
    count = evaluate(i64(ON_RELAY), state.signals, state.rules, state.fired)
    left = keep_news(outer, state.rules, state.fired, count)
    if left:
        r.state[TOLD] = at
        entry = find_exact(state.processes, outer.tgid, outer.start)
        if entry == NONE:
            entry = find_recent(state.processes, outer.tgid, i64(0))
            if entry != NONE and state.processes.table[entry].start != outer.start:
                entry = i64(NONE)
        note(state, entry, i64(FLOW_SAMPLE), now, outer.cookie, left)
    return left


@inline_kernel
def _end(state: State, now: int) -> int:
    """All connections of this pass are known; how many of state.fired."""
    r = state.relays
    go_on(r, now)
    _compare(r, state.processes, now)
    end_pass(r)
    epoch = state.epoch[0] + 2  # never 0, whatever judges
    for home in range(len(r.compared)):
        if r.compared[home] == 0:
            continue
        for at in range(home * PAIR_WAYS, (home + 1) * PAIR_WAYS):
            if r.pairs[at].judged == epoch or not is_relay(r, at):
                continue
            r.pairs[at].judged = epoch
            count = _judge(state, at, now)
            if count:  # others have their turn after the next pass
                return count
    return 0


@inline_kernel
def _found_out(state: State, count: int) -> int:
    """So many rules are told of a flow, if any, in the span that it was opened in; how many."""
    if count:
        flow = find_flow(state.flows, state.pending[SUBJECT])
        if flow != NO_FLOW:
            is_found_out(state.flows, flow)
            state.pending[IN_SPAN] = state.flows.table[flow].span
    return count


@compiled_entry
def on_flow_sample(where: int, address: int, length: int) -> int:
    state = state_at(where)
    e = read_flow_sample(address)
    compares, efforts = state.relays.limits[WINDOW] != 0, state.efforts.limits[MINUTE_BYTES]
    now = i64(e.ts)
    if i64(e.cookie) == 0:
        end_sessions_pass(state, now)
        count = _end(state, now) if compares else i64(0)
        return _found_out(state, count or judge_sessions(state, now))
    data = bytes_at(address, i64(_BYTES))
    high, low = address_words(data, i64(_REMOTE), i64(e.family))
    place = place_of(state, high, low)
    flow = find_flow(state.flows, i64(e.cookie))
    if flow != NO_FLOW:
        speaks(state.flows, flow, now)
        if efforts != 0:
            side = i64(OUTSIDE) if place == -1 else i64(INSIDE)
            carry(state.flows.table[flow], side, i64(e.sent), i64(e.received), now, efforts)
    if compares:
        carried(
            state, i64(e.tgid), i64(e.start), place, high, low, i64(e.remote_port), i64(e.local_port), i64(e.flags),
            i64(e.cookie), i64(e.sent), i64(e.received), i64(e.sent_packets), i64(e.received_packets), now,
        )  # fmt: skip
    if place != -1:
        return 0
    hear(state, i64(e.cookie), i64(e.sent), i64(e.received))
    count = report(
        state, i64(e.tgid), i64(e.start), high, low, i64(e.remote_port), i64(e.flags), i64(e.cookie), i64(e.sent),
        i64(e.received), False, i64(FLOW_SAMPLE), now,
    )  # fmt: skip
    return _found_out(state, count)
