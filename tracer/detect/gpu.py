# SPDX-License-Identifier: Apache-2.0
"""Who may use the GPU, and who does.

When nobody has said, the job's own shape decides: the first process of the tree that makes a compute
context is presumed to be the trainer. Quiet are its ranks (same executable, same script), the
interpreter workers it starts itself (multiprocessing, ``python -m engine``), and other scripts that
the job's own launcher starts beside it. A later client with another executable is unexpected; so is,
less gravely, the same interpreter with another script that somebody below the trainer, or a shell
that the launcher did not start the trainer from, has started. What is said explicitly wins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.facts import FACT_BIT
from tracer.detect.names import Bytes, basename, byte_at
from tracer.detect.program import IS_INTERPRETER, IS_MODULE, IS_SHELL, IS_WORKER
from tracer.engine import arena as strings
from tracer.engine.processes import NONE, Processes
from tracer.jit import njit

# Bits of PROCESS.gpu
HAS_OPENED = 1 << 0
HAS_DRIVEN = 1 << 1
COMPUTES = 1 << 2
JUDGED = 1 << 3
ABOVE_TRAINER = 1 << 4  # an ancestor of the trainer: part of the job's launcher
HELD = 1 << 5  # held a GPU when the watch began
BORROWED = 1 << 6  # drives one that it has not opened: inherited, or passed over a socket
INHERITED = 1 << 7  # forked from one that computes: what that has mapped of the card is mapped here, too
MARKS = 8  # above: those of tracer.detect.clients

NOT_LISTED = 1 << FACT_BIT["gpu-not-listed"]
OTHER_EXECUTABLE = 1 << FACT_BIT["gpu-other-executable"]
OTHER_SCRIPT = 1 << FACT_BIT["gpu-other-script"]

# Places in GpuState.state
MODE, KNOWN, DEV, INO, SCRIPT, TRAINER, TRAINER_START, ASKED, NOT_ASKED = range(9)
PRESUME, LISTED = range(2)

#: Clients whose libraries Python is still to look at.
ASKS_MAX = 64

TEXT_MAX = 4096


class GpuState(NamedTuple):
    """``state`` int64[9]; ``patterns`` uint8[n], NUL-terminated globs back to back; ``text`` scratch; ``asks``
    int64[ASKS_MAX, 2]: pid and start of clients that Python is to look at.
    """

    state: npt.NDArray[np.int64]
    patterns: npt.NDArray[np.uint8]
    text: npt.NDArray[np.uint8]
    asks: npt.NDArray[np.int64]


def make_gpu(users: tuple[str, ...] | None) -> GpuState:
    """``users``: globs of who may use the GPU; None to presume, empty for nobody."""
    fresh = GpuState(
        np.zeros(NOT_ASKED + 1, np.int64),
        np.zeros(1, np.uint8),
        np.zeros(TEXT_MAX, np.uint8),
        np.zeros((ASKS_MAX, 2), np.int64),
    )
    return for_users(fresh, users)


def for_users(gpu: GpuState, users: tuple[str, ...] | None) -> GpuState:
    """``gpu`` with other users, which hold for clients that are not judged yet."""
    listed = b"".join(user.encode() + b"\0" for user in users or ())
    gpu.state[MODE] = PRESUME if users is None else LISTED
    return gpu._replace(patterns=np.frombuffer(listed + b"\0", np.uint8).copy())


@njit
def glob_matches(pattern: Bytes, p_lo: int, p_hi: int, text: Bytes, t_lo: int, t_hi: int) -> bool:
    """Does ``text`` match? ``*`` is any run of bytes, ``?`` any one; no other magic."""
    p, t = p_lo, t_lo
    star, resume = -1, 0
    while t < t_hi:
        if p < p_hi and pattern[p] == 42:
            star = p
            resume = t
            p += 1
        elif p < p_hi and (pattern[p] == 63 or pattern[p] == text[t]):
            p += 1
            t += 1
        elif star >= 0:
            p = star + 1
            resume += 1
            t = resume
        else:
            return False
    while p < p_hi and pattern[p] == 42:
        p += 1
    return p == p_hi


@njit
def _matches_any(gpu: GpuState, lo: int, hi: int) -> bool:
    """Does text[lo:hi], or its last path component, match one of the patterns?"""
    base = basename(gpu.text, lo, hi)
    at = 0
    while at < len(gpu.patterns):
        end = at
        while end < len(gpu.patterns) and gpu.patterns[end] != 0:
            end += 1
        if end > at and (
            glob_matches(gpu.patterns, at, end, gpu.text, lo, hi)
            or glob_matches(gpu.patterns, at, end, gpu.text, base, hi)
        ):
            return True
        at = end + 1
    return False


@njit
def _is_listed(p: Processes, gpu: GpuState, entry: int) -> bool:
    """Executable or, for an interpreter, script: named by a pattern? A worker is what its parent is."""
    at = entry
    while at != NONE:
        if p.table[at].image == NONE:
            return False
        image = p.images[p.table[at].image]
        count = strings.load(p.arena, image.block, 0, image.path_len, gpu.text)
        if _matches_any(gpu, 0, count):
            return True
        if image.program & IS_INTERPRETER:
            skip = image.path_len + image.name_len + image.cwd_len
            count = strings.load(p.arena, image.block, skip, min(image.args_len, TEXT_MAX), gpu.text)
            if _script_is_listed(gpu, count):
                return True
        if not image.program & IS_WORKER:
            return False
        at = p.table[at].parent
    return False


@njit
def _script_is_listed(gpu: GpuState, count: int) -> bool:
    """The first argument that is no option (the script, or the module after -m) decides."""
    at = 0
    number = 0
    while at < count:
        end = at
        while end < count and byte_at(gpu.text, end) != 0:
            end += 1
        if number > 0 and end > at and gpu.text[at] != 45:
            return _matches_any(gpu, at, end)
        number += 1
        at = end + 1
    return False


@njit
def _presume(p: Processes, gpu: GpuState, entry: int) -> None:
    """This is the trainer; who stands above it is the job's launcher."""
    row = p.table[entry]
    gpu.state[KNOWN] = 1
    gpu.state[TRAINER] = row.tgid
    gpu.state[TRAINER_START] = row.start
    if row.image != NONE:
        image = p.images[row.image]
        gpu.state[DEV] = image.dev
        gpu.state[INO] = image.ino
        gpu.state[SCRIPT] = image.script
    at = entry
    while at != NONE:
        p.table[at].gpu |= ABOVE_TRAINER
        at = p.table[at].parent


@njit
def _started_apart(p: Processes, gpu: GpuState, entry: int) -> bool:
    """Was this interpreter, with a script that is not the trainer's, started by something else than
    the trainer's own machinery or the job's launcher?
    """
    module = p.images[p.table[entry].image].program & IS_MODULE
    shell = False
    at = p.table[entry].parent
    while at != NONE:
        row = p.table[at]
        above = row.gpu & ABOVE_TRAINER
        same_job = False
        if row.image != NONE:
            image = p.images[row.image]
            same_job = image.ino == gpu.state[INO] and image.script == gpu.state[SCRIPT]
            if image.program & IS_SHELL and not above:
                shell = True
        if shell:
            return True
        if same_job:
            return not module
        if above:
            return False
        at = row.parent
    return True


@njit
def judge(p: Processes, gpu: GpuState, entry: int) -> int:
    """Fact bits about a process that has just made its first compute context."""
    row = p.table[entry]
    row.gpu |= COMPUTES
    if row.gpu & JUDGED:
        return 0
    row.gpu |= JUDGED
    if gpu.state[MODE] == LISTED:
        return 0 if _is_listed(p, gpu, entry) else NOT_LISTED
    if gpu.state[KNOWN] == 0:
        _presume(p, gpu, entry)
        return 0
    if row.image == NONE:
        return OTHER_EXECUTABLE
    image = p.images[row.image]
    if image.dev != gpu.state[DEV] or image.ino != gpu.state[INO]:
        return OTHER_EXECUTABLE
    if not image.program & IS_INTERPRETER or image.script == gpu.state[SCRIPT]:
        return 0
    return OTHER_SCRIPT if _started_apart(p, gpu, entry) else 0


@njit
def judge_holder(p: Processes, gpu: GpuState, entry: int) -> int:
    """The same about one that held a GPU when the watch began: where nobody is listed it belongs to the job."""
    row = p.table[entry]
    if gpu.state[MODE] == LISTED:
        return judge(p, gpu, entry)
    row.gpu |= COMPUTES | JUDGED
    if gpu.state[KNOWN] == 0:
        _presume(p, gpu, entry)
    return 0


@njit
def ask_about(gpu: GpuState, so_far: int, tgid: int, start: int) -> None:
    """Have Python look at the libraries of a client that begins to compute, ``so_far`` being its bits."""
    if so_far & COMPUTES:
        return
    count = gpu.state[ASKED]
    if count == ASKS_MAX:
        gpu.state[NOT_ASKED] += 1
        return
    gpu.asks[count, 0] = tgid
    gpu.asks[count, 1] = start
    gpu.state[ASKED] = count + 1
