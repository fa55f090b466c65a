# SPDX-License-Identifier: Apache-2.0
"""What a process does with GPUs: opens them, drives them, has libraries for it, keeps them busy."""

from __future__ import annotations

from tracer.detect import gpu as gpu_detect
from tracer.detect.clients import FAMILY_MARKS, LIBRARIES_AT, LOOKED, TABLE, TUNES, marks_of
from tracer.detect.provenance import provenance, tuning, work
from tracer.engine.intrinsics import i64, record_reader
from tracer.engine.marked import serial_named
from tracer.engine.processes import NONE, Processes, find_exact
from tracer.engine.state import DECIDED, DONE, IN_SPAN, State, known, state_at
from tracer.engine.state import note as _note
from tracer.jit import entry as compiled_entry
from tracer.jit import inline_kernel, njit
from tracer.kernel import schema
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_GPU
from tracer.rules.numbers import SPACE_IOCTL
from tracer.rules.ranges import add_signals

GPU_OPEN, GPU_IOCTL = schema.KIND["EVENT_GPU_OPEN"], schema.KIND["EVENT_GPU_IOCTL"]
GPU_LIBRARIES, GPU_COUNTS = schema.KIND["EVENT_GPU_LIBRARIES"], schema.KIND["EVENT_GPU_COUNTS"]
GPU_USE = schema.KIND["EVENT_GPU_USE"]
_UVM, _KFD = schema.GPU_FAMILY["GPU_NVIDIA_UVM"], schema.GPU_FAMILY["GPU_KFD"]
_COMPUTE, _FIRST = schema.GPU_FLAG["GPU_COMPUTE"], schema.GPU_FLAG["GPU_FIRST"]
_HELD = schema.GPU_OPEN_FLAG["GPU_HELD"]
_KNOWS_MEMORY, _KNOWS_UTILISATION = (
    schema.GPU_USE_FLAG[f"GPU_USE_{name}"] for name in ("MEMORY", "UTILISATION")
)
#: BPF_DEVCG_ACC_READ and _WRITE: more than making a node for it.
_READ_OR_WRITE = 6

_read_head = record_reader(schema.HEAD)
_read_open = record_reader(schema.GPU_OPEN)
_read_ioctl = record_reader(schema.GPU_IOCTL)
_read_libraries = record_reader(schema.GPU_LIBRARIES)
_read_use = record_reader(schema.GPU_USE)
_marks_of = njit(marks_of)


@njit
def _of_family(family: int) -> int:
    """Whose driver it is; a recording may say anything."""
    return int(FAMILY_MARKS[family]) if family < len(FAMILY_MARKS) else 0


@njit
def _judge(p: Processes, gpu: gpu_detect.GpuState, entry: int) -> int:
    """Fact bits about a process that makes a compute context: who it is, and where it comes from. Told once."""
    judged = p.table[entry].gpu & gpu_detect.JUDGED
    first = gpu.state[gpu_detect.MODE] == gpu_detect.PRESUME and gpu.state[gpu_detect.KNOWN] == 0
    facts = gpu_detect.judge(p, gpu, entry)
    return i64(0) if judged else facts | provenance(p, gpu, entry, first, facts)


@inline_kernel
def judge_work(state: State, entry: int, kind: int, now: int) -> int:
    """The process at ``entry`` was seen at work, by a record of this kind; how many of state.fired."""
    facts = work(state.processes, state.gpu, entry, now)
    if facts == 0:
        return 0
    state.signals[:] = 0
    state.signals[0] = facts
    count = evaluate(i64(ON_GPU), state.signals, state.rules, state.fired)
    if count:
        _note(state, entry, kind, now, i64(0), count)
    return count


@inline_kernel
def _is_busy(state: State, address: int, entry: int) -> bool:
    """Keep what NVML says of the process at ``entry``: does it compute?"""
    e = _read_use(address)
    utilisation = i64(e.utilisation) if e.use_flags & _KNOWS_UTILISATION else i64(-1)
    memory = i64(e.memory) if e.use_flags & _KNOWS_MEMORY else i64(-1)
    gpu_detect.note_use(state.processes, state.gpu, entry, utilisation, memory)
    return utilisation > 0


@compiled_entry
def on_gpu(where: int, address: int, length: int) -> int:
    """An open, an ioctl, how many there were, what was found mapped, or what NVML says. A call is judged if it is the
    first of its kind.
    """
    state = state_at(where)
    head = _read_head(address)
    kind, ts = i64(head.kind), i64(head.ts)
    p = state.processes
    if kind == GPU_COUNTS:  # sent by the probe of an exit, too
        entry = find_exact(p, i64(head.tgid), i64(head.start))
        return i64(0) if entry == NONE else judge_work(state, entry, kind, ts)
    if kind == GPU_USE:  # its process may have ended meanwhile
        entry = find_exact(p, i64(head.tgid), i64(head.start))
        if entry == NONE or not _is_busy(state, address, entry):
            return 0
        return judge_work(state, entry, kind, ts)
    entry = known(state, i64(head.tgid), i64(head.start), ts)
    if entry == NONE:
        return 0
    row = p.table[entry]
    facts = i64(0)
    if kind == GPU_LIBRARIES:
        libraries = _read_libraries(address)
        row.gpu |= (i64(libraries.libraries) * LIBRARIES_AT | LOOKED) << gpu_detect.MARKS
        return 0
    if kind == GPU_OPEN:
        opened = _read_open(address)
        family = i64(opened.family)
        row.gpu |= _of_family(family) << gpu_detect.MARKS
        if not opened.open_flags & _HELD:
            if opened.access & _READ_OR_WRITE:
                row.gpu |= gpu_detect.HAS_OPENED
            return 0
        row.gpu |= gpu_detect.HAS_OPENED | gpu_detect.HELD
        if family != _UVM and family != _KFD:
            return 0
        number = family << 48
        done, decided = i64(0), i64(0)
        gpu_detect.ask_about(state.gpu, row.gpu, i64(head.tgid), i64(head.start))
        facts = gpu_detect.judge_holder(p, state.gpu, entry)
        if facts:
            row.gpu |= gpu_detect.SUSPECT
    else:
        e = _read_ioctl(address)
        family = i64(e.family)
        row.gpu |= gpu_detect.HAS_DRIVEN
        if not row.gpu & gpu_detect.HAS_OPENED:
            row.gpu |= gpu_detect.BORROWED
        if not e.flags & (_COMPUTE | _FIRST):
            return 0
        marks = _of_family(family) | _marks_of(TABLE, family, i64(e.nr), i64(e.code))
        row.gpu |= marks << gpu_detect.MARKS
        number = family << 48 | i64(e.nr) << 32 | i64(e.code)
        done, decided = i64(e.done), i64(e.ts) + i64(e.took_ns)
        if marks & TUNES:
            facts = tuning(p, state.gpu, entry)
        if e.flags & _COMPUTE:
            gpu_detect.ask_about(state.gpu, row.gpu, i64(head.tgid), i64(head.start))
            facts |= _judge(p, state.gpu, entry)
    if row.gpu & gpu_detect.COMPUTES and not row.gpu & gpu_detect.SUSPECT:
        state.gpu.state[gpu_detect.JOB_BUSY] = ts
    state.signals[:] = 0
    state.signals[0] = facts
    add_signals(state.ranges, i64(SPACE_IOCTL), i64(0), number, state.signals)
    count = evaluate(i64(ON_GPU), state.signals, state.rules, state.fired)
    if count:
        _note(state, entry, kind, ts, number, count)
        state.pending[DONE] = done
        state.pending[DECIDED] = decided
        if kind == GPU_IOCTL:
            called = _read_ioctl(address)
            state.pending[IN_SPAN] = serial_named(
                p, i64(called.span_tgid), i64(called.span_start), i64(called.span_token), ts
            )
    return count
