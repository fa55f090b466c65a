# SPDX-License-Identifier: Apache-2.0
"""What a process does with files and sockets of this host that are obeyed, or obey it: their names say which."""

from __future__ import annotations

from tracer.detect.facts import FACT_BIT
from tracer.detect.footholds import foothold_facts
from tracer.detect.program import IS_SSH
from tracer.engine import processes as procs
from tracer.engine.first import LOCAL_TOLD, keep_record
from tracer.engine.intrinsics import bytes_at, i64, record_reader
from tracer.engine.marked import serial_named
from tracer.engine.processes import NONE
from tracer.engine.state import IN_SPAN, known, state_at
from tracer.engine.state import note as _note
from tracer.jit import entry as compiled_entry
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_FOOTHOLD, ON_LOCAL, WHERE_PATH
from tracer.rules.scan import scan

FOOTHOLD = schema.KIND["EVENT_FOOTHOLD"]
LOCAL_CONNECT = schema.KIND["EVENT_LOCAL_CONNECT"]
FOOTHOLD_BYTES = schema.FOOTHOLD.itemsize
LOCAL_BYTES = schema.LOCAL_CONNECT.itemsize
assert schema.LOCAL_CONNECT.fields is not None
LOCAL_PATH, LOCAL_PATH_BYTES = schema.LOCAL_CONNECT.fields["path"][1], schema.LOCAL_CONNECT["path"].shape[0]
ABSTRACT, BY_SSH = 1 << FACT_BIT["abstract"], 1 << FACT_BIT["by-ssh"]

read_foothold = record_reader(schema.FOOTHOLD)
read_local_connect = record_reader(schema.LOCAL_CONNECT)


@compiled_entry
def on_foothold(where: int, address: int, length: int) -> int:
    """Something was written that will be obeyed later, by a process that may have ended since."""
    state = state_at(where)
    e = read_foothold(address)
    if i64(e.path_len) > length - FOOTHOLD_BYTES:
        state.malformed[0] += 1
        return 0
    p = state.processes
    process = procs.find_exact(p, i64(e.tgid), i64(e.start))
    if process == NONE:
        process = procs.find_recent(p, i64(e.tgid), i64(0))
        if process != NONE and p.table[process].start != i64(e.start):
            process = i64(NONE)
    state.signals[:] = 0
    state.signals[0] = foothold_facts(i64(e.what), i64(e.foothold_flags))
    count = evaluate(i64(ON_FOOTHOLD), state.signals, state.rules, state.fired)
    if count:
        keep_record(state.record, bytes_at(address, length))
        _note(state, process, FOOTHOLD, i64(e.ts), i64(e.what), count)
    return count


@compiled_entry
def on_local_connect(where: int, address: int, length: int) -> int:
    """A UNIX socket is connected. A process is told of once, and again for something more severe."""
    state = state_at(where)
    e = read_local_connect(address)
    process = known(state, i64(e.tgid), i64(e.start), i64(e.ts))
    data = bytes_at(address, i64(LOCAL_BYTES))
    lo = LOCAL_PATH + i64(e.abstract & 1)
    hi = lo
    end = LOCAL_PATH + min(i64(e.path_len), i64(LOCAL_PATH_BYTES))
    while hi < end and (data[hi] != 0 or e.abstract):
        hi += 1
    state.signals[:] = 0
    scan(data, i64(lo), i64(hi), i64(WHERE_PATH), state.automaton, state.signals)
    if e.abstract:
        state.signals[0] |= ABSTRACT
    if process != NONE:
        image = state.processes.table[process].image
        if image != NONE and state.processes.images[image].program & IS_SSH:
            state.signals[0] |= BY_SSH
    count = evaluate(i64(ON_LOCAL), state.signals, state.rules, state.fired)
    if count == 0:
        return 0
    rank = i64(0)
    for place in range(count):
        rank = max(rank, 1 + state.rules.severity[state.fired[place]])
    if process != NONE:
        row = state.processes.table[process]
        if row.net >> LOCAL_TOLD >= rank:
            return 0
        row.net = row.net & ((1 << LOCAL_TOLD) - 1) | rank << LOCAL_TOLD
    keep_record(state.record, data)
    _note(state, process, LOCAL_CONNECT, i64(e.ts), 0, count)
    state.pending[IN_SPAN] = serial_named(
        state.processes, i64(e.span_tgid), i64(e.span_start), i64(e.span_token), i64(e.ts)
    )
    return count
