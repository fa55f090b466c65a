# SPDX-License-Identifier: Apache-2.0
"""Which names the tree asks for, whether they carry data, and which rules that fires."""

from __future__ import annotations

from tracer.detect.dns_data import D_TOLD, NAMES, ask, facts_of
from tracer.detect.names import Bytes
from tracer.detect.telling import gravest_news, keep_news
from tracer.detect.wire.dns import CNAME, MX, NULL, PRIVATE, SRV, TXT, message, question_end
from tracer.detect.wire.spans import u16
from tracer.engine.intrinsics import i64
from tracer.engine.state import State
from tracer.jit import inline_kernel, njit
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_DNS


@njit
def _is_odd(data: Bytes, lo: int, hi: int, transport: int) -> bool:
    """Is something else asked for than an address? What comes back is text of the other end's choice."""
    at = message(data, lo, hi, transport)
    if at < 0:
        return False
    kind = u16(data, question_end(data, at + 12, hi))
    return bool(kind == TXT or kind == NULL or kind == CNAME or kind == MX or kind == SRV or kind >= PRIVATE)


@inline_kernel
def note_question(
    state: State, tgid: int, start: int, data: Bytes, lo: int, hi: int, transport: int, name: int, end: int, now: int
) -> int:  # fmt: skip
    """The process asks for the name ``state.text[name:end]``: where its domain is, if that is a new name; else -1."""
    d = state.domains
    if d.limits[NAMES] == 0:
        return -1
    return ask(d, tgid, start, state.text, name, end, _is_odd(data, lo, hi, transport), now)


@inline_kernel
def judge_domain(state: State, at: int, grade: int) -> int:
    """Which rules the domain fires that have not been told of it; how many of state.fired. None if something graver is
    to be told, of severity ``grade`` (1 + its rank, 0: nothing): it stays news.
    """
    d = state.domains
    facts = facts_of(d, at)
    if facts == 0:
        return 0
    state.signals[:] = 0
    state.signals[0] = facts
    count = evaluate(i64(ON_DNS), state.signals, state.rules, state.fired)
    if gravest_news(d.table[at], state.rules, state.fired, count) < max(grade, 1):
        return 0
    d.state[D_TOLD] = at
    return keep_news(d.table[at], state.rules, state.fired, count)
