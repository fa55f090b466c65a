# SPDX-License-Identifier: Apache-2.0
"""Whose sessions there are, what is done about what they are told, and which rules that fires."""

from __future__ import annotations

from tracer.detect.program import IS_INTERPRETER, IS_SHELL
from tracer.detect.sessions import (
    EXCHANGES,
    S_LIVE,
    S_TOLD,
    carry,
    close_session,
    end_pass,
    facts_of,
    find_session,
    is_clients,
    is_led,
    open_session,
)
from tracer.detect.telling import keep_news
from tracer.engine.first import UNRESOLVED, remote_signals
from tracer.engine.flows import NONE as NO_FLOW
from tracer.engine.flows import find_flow
from tracer.engine.intrinsics import i64
from tracer.engine.names import find_name
from tracer.engine.processes import NONE, Processes, find_exact
from tracer.engine.state import State, note
from tracer.jit import inline_kernel, njit
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_SESSION

FLOW_SAMPLE = schema.KIND["EVENT_FLOW_SAMPLE"]
_TCP = 6


@njit
def _watched(p: Processes, entry: int) -> int:
    """Whose doings count: those of whoever connected, or, of a program that runs nothing itself (`nc … | sh`), those
    of the shell whose pipeline it is in.
    """
    if entry == NONE:
        return NONE
    parent = p.table[entry].parent
    image = p.table[entry].image
    if parent == NONE or image == NONE or p.table[parent].image == NONE:
        return entry
    if p.images[image].program & (IS_SHELL | IS_INTERPRETER):
        return entry
    return int(parent) if p.images[p.table[parent].image].program & IS_SHELL else entry


@inline_kernel
def begin(
    state: State, process: int, tgid: int, start: int, high: int, low: int, port: int, cookie: int, now: int
) -> None:
    """The process connects to a place outside. From now on it counts how long both are still: before the first
    order there may be nothing at all.
    """
    s, p = state.sessions, state.processes
    if s.limits[EXCHANGES] == 0:
        return
    at = find_session(s, cookie)
    if at >= 0:  # a socket that is used again
        close_session(s, at)
    at = open_session(s, cookie, tgid, start, now)
    if at < 0:
        return
    row = s.table[at]
    row.high = high
    row.low = low
    row.port = port
    row.named = 1 if find_name(state.names, high, low, now) >= 0 else 0
    row.watched = 0
    entry = _watched(p, process)
    if entry != NONE:
        row.watched = p.table[entry].tgid
        row.watched_start = p.table[entry].start
        row.ran = p.table[entry].ran
        row.called = p.table[entry].called
        row.shells = p.table[entry].shells


@inline_kernel
def hear(state: State, cookie: int, sent: int, received: int) -> None:
    """A connection to a place outside has carried something."""
    at = find_session(state.sessions, cookie)
    if at >= 0:
        carry(state.sessions, at, received, sent)


@inline_kernel
def hang_up(state: State, cookie: int) -> None:
    """A connection has ended."""
    at = find_session(state.sessions, cookie)
    if at >= 0:
        close_session(state.sessions, at)


@inline_kernel
def _take_in(state: State, at: int, now: int) -> None:
    """What has been carried in this pass, and done; whoever leads is let go. That is asked of what was said before this
    pass: how much of it was a handshake may still wait in the ring.
    """
    s, p = state.sessions, state.processes
    row = s.table[at]
    flow = find_flow(state.flows, s.cookies[at])  # none: its memory was given up, the connection goes on
    if is_clients(s, at, i64(0) if flow == NO_FLOW else state.flows.table[flow].opening):
        close_session(s, at)
        return
    ran = called = shells = i64(0)
    entry = find_exact(p, row.watched, row.watched_start) if row.watched else i64(NONE)
    if entry != NONE:
        who = p.table[entry]
        ran = who.ran - row.ran
        shells = who.shells - row.shells
        if who.called_high != row.high or who.called_low != row.low:  # more of the same conversation: FTP
            called = who.called - row.called
        row.ran = who.ran
        row.called = who.called
        row.shells = who.shells
    end_pass(s, at, ran, called, shells, now)


@inline_kernel
def _judge(state: State, at: int, now: int) -> int:
    """Which rules the session fires that have not been told of it; how many of state.fired."""
    s, p = state.sessions, state.processes
    row = s.table[at]
    entry = find_exact(p, row.tgid, row.start)
    shell = False
    if entry != NONE and p.table[entry].image != NONE:
        shell = p.images[p.table[entry].image].program & IS_SHELL != 0
    state.signals[:] = 0
    remote_signals(
        row.high, row.low, row.port, i64(_TCP), i64(0), now, state.ranges, state.names, state.automaton, state.signals
    )  # fmt: skip
    if row.named:
        state.signals[0] &= ~UNRESOLVED
    state.signals[0] |= facts_of(s, at, shell)
    count = evaluate(i64(ON_SESSION), state.signals, state.rules, state.fired)
    left = keep_news(row, state.rules, state.fired, count)
    if left:
        s.state[S_TOLD] = at
        note(state, entry, i64(FLOW_SAMPLE), now, s.cookies[at], left)
    return left


@inline_kernel
def end_sessions_pass(state: State, now: int) -> None:
    """All connections of this pass are known."""
    s = state.sessions
    if s.state[S_LIVE] == 0:
        return
    for at in range(len(s.table)):
        if s.cookies[at] != 0:
            _take_in(state, i64(at), now)


@inline_kernel
def judge_sessions(state: State, now: int) -> int:
    """The first session that has had another exchange and fires a rule; how many of state.fired."""
    s = state.sessions
    if s.state[S_LIVE] == 0:
        return 0
    for at in range(len(s.table)):
        row = s.table[at]
        if s.cookies[at] == 0 or row.judged == row.exchanges or not is_led(s, i64(at)):
            continue
        row.judged = row.exchanges
        count = _judge(state, i64(at), now)
        if count:  # others have their turn after the next pass
            return count
    return 0
