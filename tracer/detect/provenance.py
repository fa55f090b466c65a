# SPDX-License-Identifier: Apache-2.0
"""Where a compute client comes from, and whether it works while the job does not.

Miners drive a GPU as trainers do, so the shape of the work says nothing. What says something: that its executable
was made while the watch ran, that a tool call has started it, that it drives a descriptor which it has not
opened, that it goes on when the job has stopped. Each has innocent reasons (an environment that the job installs, an
evaluation that the harness runs as a tool); the rules weigh them.

Work is known by two things: a process that computes on a processor at all (``struct event_effort``, told once a
second), and calls to the driver. Neither is work on the card, of which there is no call: a client that launches
kernels or waits for them by spinning, as CUDA does unless told otherwise, keeps a processor busy. Where NVML is joined in,
it says whose the work on the card is (``struct event_gpu_use``).
"""

from __future__ import annotations

from tracer.detect.facts import FACT_BIT
from tracer.detect.gpu import (
    BORROWED,
    COMPUTES,
    DEV,
    INHERITED,
    INO,
    JOB_BUSY,
    KNOWN,
    LISTED,
    MODE,
    NOT_LISTED,
    OF_TOOL,
    OTHER_EXECUTABLE,
    OTHER_SCRIPT,
    PASSED,
    SCRIPT,
    SUSPECT,
    TUNING_TOLD,
    WORK_TOLD,
    GpuState,
)
from tracer.detect.program import IS_INTERPRETER
from tracer.engine.processes import EXITED, NONE, Processes
from tracer.engine.spans import NONE as NO_SPAN
from tracer.engine.spans import Spans
from tracer.jit import njit
from tracer.kernel.schema import EXEC_FLAG

FIRST_CLIENT, NAMED, NEW_PROGRAM, IN_TOOL_CALL, BY_BORROWED, TUNES_CARD, JOB_IDLE, FORKED_ON = (
    1 << FACT_BIT[f"gpu-{name}"]
    for name in (
        "first-client", "listed", "new-program", "in-tool-call", "borrowed", "tunes", "job-idle", "forked-on",
    )
)  # fmt: skip

_NEW_FILE = EXEC_FLAG["EXEC_NEW_FILE"] | EXEC_FLAG["EXEC_MEMFD"]
_TOOL = tuple(b"tool=")
_SECOND = 1_000_000_000
#: After so long without a pass nothing is known of who has worked meanwhile.
_PASS_GAP = 10 * _SECOND
#: Place in GpuState.limits
IDLE_S = 0


@njit
def _names_a_tool(s: Spans, row: int) -> bool:
    """Does one of the ``key=value`` that are said of the span say ``tool``?"""
    begin = 0
    for at in range(s.table[row].length):
        if s.texts[row, at] == 0:
            begin = at + 1
        elif at - begin == len(_TOOL) - 1:
            same = True
            for place in range(len(_TOOL)):
                same &= s.texts[row, begin + place] == _TOOL[place]
            if same:
                return True
    return False


@njit
def in_tool_call(p: Processes, entry: int) -> bool:
    """Was the process born in a tool call, or in what lies inside of one? A step alone is none."""
    row = p.table[entry].span
    while row != NO_SPAN:
        if _names_a_tool(p.spans, row):
            return True
        row = p.spans.table[row].above
    return False


@njit
def _is_the_first(p: Processes, gpu: GpuState, entry: int, script: bool) -> bool:
    """Does it run the first client's executable and, of an interpreter and if asked, the first one's script?"""
    if gpu.state[KNOWN] == 0 or p.table[entry].image == NONE:
        return False
    image = p.images[p.table[entry].image]
    if image.dev != gpu.state[DEV] or image.ino != gpu.state[INO]:
        return False
    return not script or not image.program & IS_INTERPRETER or image.script == gpu.state[SCRIPT]


@njit
def _is_new(p: Processes, entry: int) -> bool:
    """Was its executable written since the watch began?"""
    image = p.table[entry].image
    return image != NONE and p.images[image].flags & _NEW_FILE != 0


@njit
def provenance(p: Processes, gpu: GpuState, entry: int, first: bool, facts: int) -> int:
    """Fact bits about a client that has just been judged, beside ``facts``, which that gave; ``first``: nobody has
    made a compute context before. Links and chmod change an inode, too: of what runs the first client's file
    nothing new is said.
    """
    row = p.table[entry]
    listed = gpu.state[MODE] == LISTED
    found = 0
    if _is_new(p, entry) and (first or not _is_the_first(p, gpu, entry, False)):
        found |= NEW_PROGRAM
    if first:
        gpu.state[OF_TOOL] = in_tool_call(p, entry)
        return found | FIRST_CLIENT
    if not gpu.state[OF_TOOL] and not _is_the_first(p, gpu, entry, True) and in_tool_call(p, entry):
        found |= IN_TOOL_CALL
    if row.gpu & BORROWED and not row.gpu & INHERITED:
        found |= BY_BORROWED
    suspicious = NOT_LISTED | OTHER_EXECUTABLE | OTHER_SCRIPT | NEW_PROGRAM
    if listed and not facts & NOT_LISTED:
        found |= NAMED
    else:
        suspicious |= IN_TOOL_CALL | BY_BORROWED
    if (found | facts) & suspicious:
        row.gpu |= SUSPECT
    return found


@njit
def tuning(p: Processes, gpu: GpuState, entry: int) -> int:
    """Fact bits about a process that is to set how the card runs; 0 if that has been said of it."""
    row = p.table[entry]
    if row.gpu & TUNING_TOLD:
        return 0
    row.gpu |= TUNING_TOLD
    found = TUNES_CARD
    if _is_new(p, entry) and not _is_the_first(p, gpu, entry, False):
        found |= NEW_PROGRAM
    if not gpu.state[OF_TOOL] and not _is_the_first(p, gpu, entry, True) and in_tool_call(p, entry):
        found |= IN_TOOL_CALL
    return found


@njit
def pass_told(gpu: GpuState, now: int) -> None:
    """What processes compute is being told. When it has not been for long, the job may have worked meanwhile."""
    if now - gpu.state[PASSED] > _PASS_GAP and gpu.state[JOB_BUSY] != 0:
        gpu.state[JOB_BUSY] = now
    gpu.state[PASSED] = now


@njit
def _is_left_behind(p: Processes, entry: int) -> bool:
    """Has the client ended that this one was forked from?"""
    at = p.table[entry].parent
    while at != NONE:
        if p.table[at].gpu & COMPUTES:
            return p.table[at].state == EXITED
        at = p.table[at].parent
    return False


@njit
def work(p: Processes, gpu: GpuState, entry: int, now: int) -> int:
    """Fact bits about a process that was seen at work; the job's own are remembered to be."""
    row = p.table[entry]
    if not row.gpu & (COMPUTES | INHERITED):
        return 0
    left_behind = not row.gpu & COMPUTES and _is_left_behind(p, entry)
    if not row.gpu & SUSPECT and not left_behind:
        gpu.state[JOB_BUSY] = now
        return 0
    if gpu.limits[IDLE_S] == 0 or gpu.state[JOB_BUSY] == 0 or row.gpu & WORK_TOLD:
        return 0
    if now - gpu.state[PASSED] > _PASS_GAP or now - gpu.state[JOB_BUSY] < gpu.limits[IDLE_S] * _SECOND:
        return 0
    row.gpu |= WORK_TOLD
    return JOB_IDLE if row.gpu & SUSPECT else FORKED_ON
