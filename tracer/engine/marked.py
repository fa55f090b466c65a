# SPDX-License-Identifier: Apache-2.0
"""Who is in which span: what the records say of it, in the tables of processes and of spans."""

from __future__ import annotations

from tracer.engine import processes as procs
from tracer.engine.intrinsics import bytes_at, i64, record_reader
from tracer.engine.processes import Processes
from tracer.engine.spans import (
    NONE,
    S_REPEATED,
    S_UNKNOWN,
    TEXT,
    end_all,
    end_span,
    find_span,
    hold,
    new_span,
    release,
)
from tracer.engine.state import state_at
from tracer.jit import entry as compiled_entry
from tracer.jit import njit
from tracer.kernel import schema

SPAN_BEGIN, SPAN_END = schema.SPAN_WHAT["SPAN_BEGIN"], schema.SPAN_WHAT["SPAN_END"]
SPAN_BY_CHILD = schema.SPAN_FLAG["SPAN_BY_CHILD"]
SPAN_BYTES = schema.SPAN.itemsize

read_span = record_reader(schema.SPAN)


@njit
def open_span(p: Processes, owner: int, tgid: int, start: int, token: int, above: int, now: int) -> int:
    """A new span of the process at ``owner`` (or NONE); its row, or NONE."""
    row = new_span(p.spans, tgid, start, token, above, now)
    if row == NONE:
        return NONE
    if owner == NONE:
        end_all(p.spans, row)
        return row
    newest = p.table[owner].opened
    p.spans.table[row].elder = newest
    if newest != NONE:
        p.spans.table[newest].younger = row
    p.table[owner].opened = row
    return row


@njit
def span_named(p: Processes, tgid: int, start: int, token: int, now: int) -> int:
    """The row of the span, by its name. One whose beginning was not told is entered inside of what its
    owner was born in: whoever says that he is in a span of his own that he never opened can't hide the
    one that lies around it.
    """
    row = find_span(p.spans, tgid, start, token)
    if row != NONE:
        return row
    p.spans.state[S_UNKNOWN] += 1
    owner = procs.find_exact(p, tgid, start)
    above = i64(NONE) if owner == NONE else p.table[owner].span
    return open_span(p, owner, tgid, start, token, above, now)


@njit
def serial_named(p: Processes, tgid: int, start: int, token: int, now: int) -> int:
    """The serial of the span that a record says its thread was in; 0 if it says none, or there is no room."""
    if token == 0:
        return 0
    row = span_named(p, tgid, start, token, now)
    return 0 if row == NONE else int(p.spans.table[row].serial)


@njit
def put_into_span(p: Processes, entry: int, tgid: int, start: int, token: int, now: int) -> None:
    """The process at ``entry`` is born in this span. Where there is no room for it, the process stays in
    what its parent was born in.
    """
    row = span_named(p, tgid, start, token, now)
    if row == NONE or row == p.table[entry].span:
        return
    hold(p.spans, row)
    release(p.spans, p.table[entry].span)
    p.table[entry].span = row


@compiled_entry
def on_span(where: int, address: int, length: int) -> int:
    """A tool call or a step begins or ends: what is said of it the first time stands."""
    state = state_at(where)
    e = read_span(address)
    text = i64(e.len)
    if i64(SPAN_BYTES) + text > length or text > TEXT:
        state.malformed[0] += 1
        return 0
    p = state.processes
    s = p.spans
    tgid, start, token = i64(e.span_tgid), i64(e.span_start), i64(e.span_token)
    row = find_span(s, tgid, start, token)
    if e.what == SPAN_END:
        owner = procs.find_exact(p, tgid, start)
        if row != NONE and owner != NONE:
            p.table[owner].opened = end_span(s, row, p.table[owner].opened)
        return 0
    if e.what != SPAN_BEGIN or token == 0:
        return 0
    owner = procs.find_exact(p, tgid, start)
    if row != NONE and s.table[row].known:
        s.state[S_REPEATED] += 1
        return 0
    if row == NONE:
        above = i64(NONE)
        if e.above_token == e.span_token and e.above_start == e.span_start:
            above = i64(NONE) if owner == NONE else p.table[owner].span  # none lies in itself
        elif e.above_token != 0:
            above = span_named(p, i64(e.above_tgid), i64(e.above_start), i64(e.above_token), i64(e.ts))
        row = open_span(p, owner, tgid, start, token, above, i64(e.ts))
        if row == NONE:
            return 0
    r = s.table[row]
    r.known = 1
    r.began = i64(e.ts)
    r.flags = i64(e.span_flags)
    r.opener = i64(e.tgid) if e.span_flags & SPAN_BY_CHILD else i64(0)
    r.length = text
    data = bytes_at(address + i64(SPAN_BYTES), text)
    for i in range(text):
        s.texts[row, i] = data[i]
    return 0
