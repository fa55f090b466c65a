# SPDX-License-Identifier: Apache-2.0
"""What one record does to the state, and which rules it fires: one function a kind of event.

The small ones are inlined into the loop. The large ones are entries, called by address: an event of
theirs is worth the call, and compiling them with everything that has a loop would take minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracer.detect import gpu as gpu_detect
from tracer.detect.execfacts import exec_facts
from tracer.detect.facts import FACT_BIT, WORDS
from tracer.detect.names import Bytes, basename
from tracer.detect.netscan import expect_use
from tracer.detect.preload import PRELOADS, preload_facts
from tracer.detect.program import IS_SHELL, IS_WORKER, classify, fnv
from tracer.detect.tamper import tamper_facts
from tracer.engine import arena as strings
from tracer.engine import processes as procs
from tracer.engine.acts import has_called, has_run, runs_shell
from tracer.engine.address import call_at
from tracer.engine.behind import behind_flow
from tracer.engine.efforts import EFFORT, on_effort
from tracer.engine.ending import on_flow_close, remember_above
from tracer.engine.files import note_file
from tracer.engine.first import (
    CONNECTED_OUTSIDE,
    address_words,
    judge_connect,
    judge_listen,
    keep_record,
    on_first,
    place_of,
    read_first,
)
from tracer.engine.flows import (
    CONNECTING,
    ESTABLISHED,
    LISTENING,
    UNCONNECTED,
    begin_anew,
    find_flow,
    open_flow,
)
from tracer.engine.flows import NONE as NO_FLOW
from tracer.engine.gpus import GPU_COUNTS, GPU_IOCTL, GPU_LIBRARIES, GPU_OPEN, GPU_USE, on_gpu
from tracer.engine.intrinsics import bytes_at, i64, record_reader
from tracer.engine.marked import on_span, put_into_span, serial_named
from tracer.engine.placed import FOOTHOLD, LOCAL_CONNECT, on_foothold, on_local_connect
from tracer.engine.processes import NONE
from tracer.engine.relays import FLOW_SAMPLE, on_flow_sample
from tracer.engine.sessions import begin as begin_session
from tracer.engine.spans import NONE as NO_SPAN
from tracer.engine.spans import find_span
from tracer.engine.state import DECIDED, DONE, IN_SPAN, State, known, state_at
from tracer.engine.state import note as _note
from tracer.jit import entry as compiled_entry
from tracer.jit import inline_kernel
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import (
    ON_EXEC,
    ON_FILE,
    ON_TAMPER,
    WHERE_ARGS,
    WHERE_NAME,
    WHERE_PATH,
)
from tracer.rules.numbers import SPACE_INODE
from tracer.rules.ranges import add_signals, file_words
from tracer.rules.scan import scan

FORK, EXEC, EXIT = (schema.KIND[f"EVENT_{k}"] for k in ("FORK", "EXEC", "EXIT"))
FIRST = schema.KIND["EVENT_FIRST_BYTES"]
FILE = schema.KIND["EVENT_FILE"]
SPAN = schema.KIND["EVENT_SPAN"]
TAMPER = schema.KIND["EVENT_TAMPER"]
CONNECT, LISTEN = schema.KIND["EVENT_CONNECT"], schema.KIND["EVENT_LISTEN"]
FLOW_OPEN, FLOW_CLOSE = schema.KIND["EVENT_FLOW_OPEN"], schema.KIND["EVENT_FLOW_CLOSE"]
KINDS = schema.KIND["EVENT_KINDS"]
EXEC_ENV_CUT = schema.EXEC_FLAG["EXEC_ENV_CUT"]
LEFT = schema.TAMPER_WHAT["TAMPER_LEFT"]
FLAG_LATE = schema.FLOW_FLAG["FLOW_LATE"]
FLAG_UNCONNECTED = schema.FLOW_FLAG["FLOW_UNCONNECTED"]
FLAG_BOUND = schema.FLOW_FLAG["FLOW_BOUND"]

EXEC_REFUSED = schema.KIND["EVENT_EXEC_REFUSED"]
#: Where State.pending[DONE] says that an exec would be refused: above what was done.
REFUSABLE_BIT = 8

HEAD_BYTES = schema.HEAD.itemsize
EXEC_REFUSED_BYTES = schema.EXEC_REFUSED.itemsize
EXEC_BYTES = schema.EXEC.itemsize
CONNECT_BYTES = schema.CONNECT.itemsize
TAMPER_BYTES = schema.TAMPER.itemsize
EXTERNAL = 1 << FACT_BIT["external"]
assert schema.CONNECT.fields is not None
CONNECT_REMOTE = schema.CONNECT.fields["remote"][1]
CONNECT_LOCAL = schema.CONNECT.fields["local"][1]
assert schema.FLOW_OPEN.fields is not None
FLOW_OPEN_BYTES, FLOW_OPEN_REMOTE = schema.FLOW_OPEN.itemsize, schema.FLOW_OPEN.fields["remote"][1]
TCP = 6

#: Bytes that a record of each kind has at least.
LEAST = np.array(
    [schema.LAYOUT.get(kind, schema.HEAD).itemsize for kind in range(KINDS)],
    np.int64,
)

read_head = record_reader(schema.HEAD)
read_fork = record_reader(schema.FORK)
read_exec = record_reader(schema.EXEC)
read_exec_refused = record_reader(schema.EXEC_REFUSED)
read_connect = record_reader(schema.CONNECT)
read_flow_open = record_reader(schema.FLOW_OPEN)
read_file = record_reader(schema.FILE)
read_tamper = record_reader(schema.TAMPER)


@inline_kernel
def _note_done(state: State, done: int, at: int) -> None:
    """What the probe did that judged the event, and when."""
    state.pending[DONE] = done
    state.pending[DECIDED] = at


@inline_kernel
def on_fork(state: State, address: int) -> None:
    e = read_fork(address)
    p = state.processes
    parent = procs.find_exact(p, i64(e.parent_tgid), i64(e.parent_start))
    entry = procs.add_process(p, i64(e.tgid), i64(e.start), parent, i64(e.ts))
    if parent == NONE:
        p.state[procs.MISSED_FORK] += 1
    else:
        has_run(p, parent)
        if entry != NONE and p.table[parent].gpu & (gpu_detect.COMPUTES | gpu_detect.INHERITED):
            p.table[entry].gpu |= gpu_detect.INHERITED | p.table[parent].gpu & gpu_detect.SUSPECT
    if entry != NONE and e.span_token != 0:
        put_into_span(p, entry, i64(e.span_tgid), i64(e.span_start), i64(e.span_token), i64(e.ts))


@inline_kernel
def _argument_end(data: Bytes, lo: int, hi: int) -> int:
    at = lo
    while at < hi and data[at] != 0:
        at += 1
    return at


@compiled_entry
def on_exec(where: int, address: int, length: int) -> int:
    state = state_at(where)
    e = read_exec(address)
    p = state.processes
    path_lo = EXEC_BYTES
    name_lo = path_lo + i64(e.path_len)
    cwd_lo = name_lo + i64(e.name_len)
    args_lo = cwd_lo + i64(e.cwd_len)
    args_hi = args_lo + i64(e.args_len)
    preload_hi = args_hi + i64(e.preload_len)
    if preload_hi > length:
        state.malformed[0] += 1
        return 0
    data = bytes_at(address, length)
    entry = procs.find_exact(p, i64(e.tgid), i64(e.start))
    if entry == NONE:
        parent = procs.find_exact(p, i64(e.parent_tgid), i64(e.parent_start))
        entry = procs.add_process(p, i64(e.tgid), i64(e.start), parent, i64(e.ts))
        p.state[procs.MISSED_FORK] += 1
    note_file(
        state.files, i64(e.tgid), i64(e.start), i64(e.dev), i64(e.ino), i64(e.changed_ns), i64(e.file_size),
        i64(e.ts), data, path_lo, name_lo,
    )  # fmt: skip
    if e.flags & EXEC_ENV_CUT:
        p.state[procs.ENVIRONMENTS_CUT] += 1
    bits, script = classify(data, path_lo, name_lo, args_lo, args_hi)
    file_high, file_low = file_words(i64(e.dev), i64(e.ino), i64(e.file_size), i64(e.changed_ns))
    preload = fnv(data, args_hi, preload_hi) if preload_hi > args_hi else i64(0)
    handed_on = False
    if entry != NONE:
        row = p.table[entry]
        if row.image != NONE:  # its own, or that of whoever forked it
            handed_on = p.images[row.image].preload == preload
        if bits & IS_SHELL:
            runs_shell(p, entry)
        row.uid = i64(e.uid)
        row.gid = i64(e.gid)
        row.cgroup = i64(e.cgroup)
        if bits & IS_WORKER and row.parent != NONE and p.table[row.parent].image != NONE:
            script = p.images[p.table[row.parent].image].script
        row.gpu &= gpu_detect.ABOVE_TRAINER
        if e.span_token != 0:
            put_into_span(p, entry, i64(e.span_tgid), i64(e.span_start), i64(e.span_token), i64(e.ts))
        image = procs.replace_image(p, entry)
        if image != NONE:
            block, kept = strings.store(p.arena, data, path_lo, args_hi)
            new = p.images[image]
            new.block = block
            new.path_len = min(i64(e.path_len), kept)
            new.name_len = min(i64(e.name_len), kept - new.path_len)
            new.cwd_len = min(i64(e.cwd_len), kept - new.path_len - new.name_len)
            new.args_len = kept - new.path_len - new.name_len - new.cwd_len
            new.args_total = i64(e.args_total)
            new.flags = i64(e.flags)
            new.dev = i64(e.dev)
            new.ino = i64(e.ino)
            new.file_high, new.file_low = file_high, file_low
            new.program = bits
            new.script = script
            new.preload = preload
            new.since = i64(e.ts)
            for word in range(procs.TRACE_WORDS):
                new.trace[word] = i64(e.traceparent[word])
    a, s = state.automaton, state.signals
    if i64(e.epoch) == state.epoch[0]:
        for word in range(WORDS):
            s[word] = e.signals[word]
    else:  # not judged by the probe, or by other rules
        s[:] = 0
        first_end = _argument_end(data, args_lo, args_hi)
        scan(data, path_lo, name_lo, i64(WHERE_PATH), a, s)
        scan(data, basename(data, path_lo, name_lo), name_lo, i64(WHERE_NAME), a, s)
        scan(data, basename(data, name_lo, cwd_lo), cwd_lo, i64(WHERE_NAME), a, s)
        scan(data, basename(data, args_lo, first_end), first_end, i64(WHERE_NAME), a, s)
        scan(data, min(first_end + 1, args_hi), args_hi, i64(WHERE_ARGS), a, s)
        add_signals(state.ranges, i64(SPACE_INODE), file_high, file_low, s)
    s[0] = exec_facts(
        data, path_lo, name_lo, name_lo, cwd_lo, args_lo, args_hi,
        i64(e.flags), i64(e.stdio[0]), i64(e.stdio[1]), state.spans,
    )  # fmt: skip
    s[0] |= behind_flow(p, entry, bits, i64(e.stdio[0]))
    if not handed_on:
        s[0] |= preload_facts(data, args_hi, preload_hi, i64(e.flags))
    count = evaluate(i64(ON_EXEC), s, state.rules, state.fired)
    if count:
        if s[0] & PRELOADS:
            keep_record(state.record, bytes_at(address + args_hi, preload_hi - args_hi))
        _note(state, entry, EXEC, i64(e.ts), 0, count)
        _note_done(state, i64(e.done) | i64(e.refusable) << REFUSABLE_BIT, i64(e.ts) + i64(e.took_ns))
    return count


@compiled_entry
def on_exec_refused(where: int, address: int, length: int) -> int:
    """An exec that a probe has not let happen: whoever asked for it runs on as it was."""
    state = state_at(where)
    e = read_exec_refused(address)
    path_lo = EXEC_REFUSED_BYTES
    path_hi = path_lo + i64(e.path_len)
    if path_hi > length:
        state.malformed[0] += 1
        return 0
    process = known(state, i64(e.tgid), i64(e.start), i64(e.ts))
    data = bytes_at(address, length)
    s = state.signals
    if i64(e.epoch) == state.epoch[0]:
        for word in range(WORDS):
            s[word] = e.signals[word]
    else:
        s[:] = 0
        scan(data, path_lo, path_hi, i64(WHERE_PATH), state.automaton, s)
        scan(data, basename(data, path_lo, path_hi), path_hi, i64(WHERE_NAME), state.automaton, s)
        high, low = file_words(i64(e.dev), i64(e.ino), i64(e.file_size), i64(e.changed_ns))
        add_signals(state.ranges, i64(SPACE_INODE), high, low, s)
    count = evaluate(i64(ON_EXEC), s, state.rules, state.fired)
    if count:
        keep_record(state.record, data)
        _note(state, process, EXEC_REFUSED, i64(e.ts), 0, count)
        _note_done(state, i64(e.done), i64(e.ts) + i64(e.took_ns))
        state.pending[IN_SPAN] = serial_named(
            state.processes, i64(e.span_tgid), i64(e.span_start), i64(e.span_token), i64(e.ts)
        )
    return count


@inline_kernel
def on_exit(state: State, address: int) -> None:
    e = read_head(address)
    entry = procs.find_exact(state.processes, i64(e.tgid), i64(e.start))
    if entry != NONE:
        procs.end_process(state.processes, entry, i64(e.ts))


@inline_kernel
def _describe_flow(state: State, entry: int, e: Any) -> None:
    """Between whom it is, as an event says it."""
    f = state.flows.table[entry]
    f.family = i64(e.family)
    f.protocol = i64(e.protocol)
    f.flags = i64(e.flags)
    f.local_port = i64(e.local_port)
    f.remote_port = i64(e.remote_port)
    for i in range(16):
        f.local[i] = e.local[i]
        f.remote[i] = e.remote[i]


@compiled_entry
def on_connect(where: int, address: int, length: int) -> int:
    """A connect, a first datagram, or a socket that listens."""
    state = state_at(where)
    e = read_connect(address)
    kind = i64(e.kind)
    process = known(state, i64(e.tgid), i64(e.start), i64(e.ts))
    span = serial_named(state.processes, i64(e.span_tgid), i64(e.span_start), i64(e.span_token), i64(e.ts))
    entry = open_flow(state.flows, i64(e.cookie), i64(e.tgid), i64(e.start))
    if entry != NO_FLOW:
        begin_anew(state.flows, entry)
        _describe_flow(state, entry, e)
        f = state.flows.table[entry]
        f.began = i64(e.ts)
        f.span = span
        remember_above(state.processes, state.flows, entry, process)
        if kind == LISTEN:
            f.state = LISTENING
        elif e.flags & FLAG_UNCONNECTED:
            f.state = UNCONNECTED
        else:
            f.state = CONNECTING
    data = bytes_at(address, i64(CONNECT_BYTES))
    if kind == LISTEN:
        count = i64(0)
        # every other client binds its datagram socket to no port in particular
        if i64(e.protocol) == TCP or e.flags & FLAG_BOUND:
            high, low = address_words(data, i64(CONNECT_LOCAL), i64(e.family))
            count = judge_listen(state, high, low, i64(e.local_port), i64(e.protocol))
        if count:
            keep_record(state.record, data)
            _note(state, process, LISTEN, i64(e.ts), i64(e.cookie), count)
            _note_done(state, i64(e.done), i64(e.ts) + i64(e.took_ns))
            state.pending[IN_SPAN] = span
        return count
    judged = i64(e.epoch) == state.epoch[0]
    for word in range(WORDS):
        state.signals[word] = i64(e.signals[word]) if judged else 0
    high, low = address_words(data, i64(CONNECT_REMOTE), i64(e.family))
    count = judge_connect(
        state, process, high, low, i64(e.remote_port), i64(e.protocol), i64(e.flags), i64(e.ts)
    )
    if process != NONE and i64(e.protocol) == TCP:
        expect_use(state.scans, process)
        has_called(state.processes, process, high, low)
        if state.signals[0] & EXTERNAL:
            state.processes.table[process].net |= CONNECTED_OUTSIDE
            begin_session(
                state, process, i64(e.tgid), i64(e.start), high, low, i64(e.remote_port), i64(e.cookie), i64(e.ts)
            )  # fmt: skip
    if count:
        keep_record(state.record, data)
        _note(state, process, CONNECT, i64(e.ts), i64(e.cookie), count)
        _note_done(state, i64(e.done), i64(e.ts) + i64(e.took_ns))
        state.pending[IN_SPAN] = span
    return count


@inline_kernel
def on_flow_open(state: State, address: int) -> None:
    e = read_flow_open(address)
    entry = open_flow(state.flows, i64(e.cookie), i64(e.tgid), i64(e.start))
    if entry == NO_FLOW:
        return
    _describe_flow(state, entry, e)
    state.flows.table[entry].state = ESTABLISHED
    if e.span_token != 0:  # a listener may be older than the memory of spans: then it is in none
        row = find_span(state.processes.spans, i64(e.span_tgid), i64(e.span_start), i64(e.span_token))
        if row != NO_SPAN:
            state.flows.table[entry].span = state.processes.spans.table[row].serial
    if i64(e.flags) & FLAG_LATE and i64(e.protocol) == TCP:  # whoever opened it did so before the watch
        high, low = address_words(
            bytes_at(address, i64(FLOW_OPEN_BYTES)), i64(FLOW_OPEN_REMOTE), i64(e.family)
        )
        process = procs.find_exact(state.processes, i64(e.tgid), i64(e.start))
        if process != NONE and place_of(state, high, low) == -1:
            state.processes.table[process].net |= CONNECTED_OUTSIDE


@compiled_entry
def on_first_bytes(where: int, address: int, length: int) -> int:
    state = state_at(where)
    e = read_first(address)
    process = known(state, i64(e.tgid), i64(e.start), i64(e.ts))
    count = on_first(state, process, address, length)
    if count:
        _note(state, process, FIRST, i64(e.ts), i64(e.cookie), count)
        _note_done(state, i64(e.done), i64(e.ts) + i64(e.took_ns))
        flow = find_flow(state.flows, i64(e.cookie))
        if flow != NO_FLOW:
            state.pending[IN_SPAN] = state.flows.table[flow].span
    return count


@compiled_entry
def on_file(where: int, address: int, length: int) -> int:
    """What an executed file is, told by whoever has read it; nothing if other rules have come since."""
    state = state_at(where)
    e = read_file(address)
    if i64(e.epoch) != state.epoch[0]:
        return 0
    entry = procs.find_exact(state.processes, i64(e.tgid), i64(e.start))
    for word in range(WORDS):
        state.signals[word] = i64(e.signals[word])
    count = evaluate(i64(ON_FILE), state.signals, state.rules, state.fired)
    if count:
        _note(state, entry, FILE, i64(e.ts), 0, count)
    return count


@compiled_entry
def on_tamper(where: int, address: int, length: int) -> int:
    state = state_at(where)
    e = read_tamper(address)
    s = state.signals
    process = known(state, i64(e.tgid), i64(e.start), i64(e.ts))
    if i64(e.what) == LEFT:
        moved = procs.find_exact(state.processes, i64(e.target_tgid), i64(e.target_start))
        if moved != NONE:
            state.processes.table[moved].cgroup = i64(e.cgroup_to)
    if i64(e.epoch) == state.epoch[0]:
        for word in range(WORDS):
            s[word] = i64(e.signals[word])
    else:
        s[:] = 0
        s[0] = tamper_facts(i64(e.what), i64(e.tamper_flags))
    count = evaluate(i64(ON_TAMPER), s, state.rules, state.fired)
    if count:
        keep_record(state.record, bytes_at(address, i64(TAMPER_BYTES)))
        _note(state, process, TAMPER, i64(e.ts), i64(e.number), count)
        _note_done(state, i64(e.done), i64(e.ts) + i64(e.took_ns))
        state.pending[IN_SPAN] = serial_named(
            state.processes, i64(e.span_tgid), i64(e.span_start), i64(e.span_token), i64(e.ts)
        )
    return count


#: What takes in records of a kind, if the loop doesn't do so itself.
TAKERS: dict[int, Any] = {
    EXEC: on_exec,
    EXEC_REFUSED: on_exec_refused,
    CONNECT: on_connect,
    LISTEN: on_connect,
    FLOW_CLOSE: on_flow_close,
    FIRST: on_first_bytes,
    FILE: on_file,
    TAMPER: on_tamper,
    SPAN: on_span,
    FLOW_SAMPLE: on_flow_sample,
    FOOTHOLD: on_foothold,
    LOCAL_CONNECT: on_local_connect,
    EFFORT: on_effort,
    GPU_OPEN: on_gpu,
    GPU_IOCTL: on_gpu,
    GPU_LIBRARIES: on_gpu,
    GPU_COUNTS: on_gpu,
    GPU_USE: on_gpu,
}
#: What State.calls holds for each kind.
ENTRIES: dict[int, int] = {kind: taker.address for kind, taker in TAKERS.items()}


@inline_kernel
def handle(state: State, where: int, address: int, length: int) -> int:
    """Take one record in; returns its kind (0: malformed). Fired rules are left in ``state``, whose words
    are at ``where``.

    Lengths are checked although the kernel wrote them: a recording may have been tampered with.
    """
    if length < HEAD_BYTES:
        state.malformed[0] += 1
        return 0
    head = read_head(address)
    kind = i64(head.kind)
    if i64(head.size) > length or kind == 0 or kind >= KINDS or length < LEAST[kind]:
        state.malformed[0] += 1
        return 0
    if state.calls[kind] != 0:
        call_at(state.calls[kind], where, address, length)
    elif kind == FORK:
        on_fork(state, address)
    elif kind == EXIT:
        on_exit(state, address)
    elif kind == FLOW_OPEN:
        on_flow_open(state, address)
    return kind
