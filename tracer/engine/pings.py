# SPDX-License-Identifier: Apache-2.0
"""Whom the tree pings, whether that carries data, and which rules it fires."""

from __future__ import annotations

from tracer.detect.facts import FACT_BIT, FACT_WORDS, WORDS
from tracer.detect.names import Bytes, Ints
from tracer.detect.pings import ECHO, ECHO6, ECHO6_REPLY, ECHO_REPLY, P_TOLD, PACKETS, facts_of, ping
from tracer.detect.telling import gravest_news, keep_news
from tracer.engine.intrinsics import i64
from tracer.engine.state import State
from tracer.jit import inline_kernel, njit
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_ICMP

ICMP, ICMPV6 = 1, 58
_PLACE = sum(1 << FACT_BIT[name] for name in ("external", "internal", "loopback", "unresolved"))


@njit
def is_echo(transport: int, kind: int) -> bool:
    """``kind``: of an ICMP message."""
    if transport == ICMP:
        return bool(kind == ECHO or kind == ECHO_REPLY)
    return bool(transport == ICMPV6 and (kind == ECHO6 or kind == ECHO6_REPLY))


@inline_kernel
def note_ping(
    state: State, tgid: int, start: int, high: int, low: int, way: int, data: Bytes, lo: int, hi: int, size: int,
    now: int,
) -> int:  # fmt: skip
    """An echo or its answer, with the payload ``data[lo:hi]``, of ``size`` bytes in all: where its address is if that
    brought something new; else -1.
    """
    if state.pings.limits[PACKETS] == 0:
        return -1
    return ping(state.pings, tgid, start, high, low, way, data, lo, hi, max(size, hi - lo), now)


@inline_kernel
def judge_ping(state: State, at: int, signals: Ints, grade: int) -> int:
    """Which rules the address fires that have not been told of it; how many of state.fired. ``signals``: what is known of
    the other end, among other things. None if something graver is to be told, of severity ``grade`` (1 + its rank, 0:
    nothing): it stays news.
    """
    p = state.pings
    facts = facts_of(p, at)
    if facts == 0:
        return 0
    state.signals[:] = 0
    state.signals[0] = signals[0] & _PLACE | facts
    for word in range(FACT_WORDS, WORDS):
        state.signals[word] = signals[word]
    count = evaluate(i64(ON_ICMP), state.signals, state.rules, state.fired)
    if gravest_news(p.table[at], state.rules, state.fired, count) < max(grade, 1):
        return 0
    p.state[P_TOLD] = at
    return keep_news(p.table[at], state.rules, state.fired, count)
