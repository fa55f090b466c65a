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
from tracer.rules.numbers import inode_range
from tracer.rules.users import Who, read_user

# Bits of PROCESS.gpu
HAS_OPENED = 1 << 0
HAS_DRIVEN = 1 << 1
COMPUTES = 1 << 2
JUDGED = 1 << 3
ABOVE_TRAINER = 1 << 4  # an ancestor of the trainer: part of the job's launcher
HELD = 1 << 5  # held a GPU when the watch began
BORROWED = 1 << 6  # drives one that it has not opened: inherited, or passed over a socket
INHERITED = 1 << 7  # forked from one that computes: what that has mapped of the card is mapped here, too
SUSPECT = 1 << 8  # judged, and not the job's
TUNING_TOLD = 1 << 9
WORK_TOLD = 1 << 10  # that it works while the job does not
USE_KNOWN = 1 << 11  # its row of GpuState.use is about it
MARKS = 12  # above: those of tracer.detect.clients

NOT_LISTED = 1 << FACT_BIT["gpu-not-listed"]
OTHER_EXECUTABLE = 1 << FACT_BIT["gpu-other-executable"]
OTHER_SCRIPT = 1 << FACT_BIT["gpu-other-script"]

# Places in GpuState.state
(
    MODE,
    KNOWN,
    DEV,
    INO,
    SCRIPT,
    TRAINER,
    TRAINER_START,
    ASKED,
    NOT_ASKED,
    OF_TOOL,  # a tool call has started the first client
    JOB_BUSY,  # when one of the job's own was last seen at work, ns
    PASSED,  # when what processes compute was last told, ns
) = range(12)
PRESUME, LISTED = range(2)

#: Clients whose libraries Python is still to look at.
ASKS_MAX = 64

TEXT_MAX = 4096

# Columns of GpuState.use: percent of a card's time, bytes; -1: not known
UTILISATION, MEMORY, UTILISATION_HIGHEST, MEMORY_HIGHEST, USE_COLUMNS = range(5)

# Columns of GpuState.users: who may, and below whom, each as a kind and two numbers
WHO, BELOW = 0, 3
ANYBODY, GLOB, FILE = range(3)


class GpuState(NamedTuple):
    """``state`` int64[12]; ``users`` int64[n, 6]: kind of selector and two numbers (of a glob, where it begins and
    ends in ``patterns``; of a file, its words), for who may and below whom; ``text`` scratch; ``asks``
    int64[ASKS_MAX, 2]: pid and start of clients that Python is to look at; ``limits`` int64[1]: rules.thresholds, gpu;
    ``use`` int64[processes, 4]: what NVML has said of each, the last time and at most.
    """

    state: npt.NDArray[np.int64]
    users: npt.NDArray[np.int64]
    patterns: npt.NDArray[np.uint8]
    text: npt.NDArray[np.uint8]
    asks: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]
    use: npt.NDArray[np.int64]


def make_gpu(users: tuple[str, ...] | None, processes: int) -> GpuState:
    """``users``: who may use the GPU, see tracer.rules.users; None to presume, empty for nobody. ``processes``: how many
    there can be.
    """
    fresh = GpuState(
        np.zeros(PASSED + 1, np.int64),
        np.zeros((0, 6), np.int64),
        np.zeros(1, np.uint8),
        np.zeros(TEXT_MAX, np.uint8),
        np.zeros((ASKS_MAX, 2), np.int64),
        np.zeros(1, np.int64),
        np.zeros((processes, USE_COLUMNS), np.int64),
    )
    return for_users(fresh, users)


def for_users(gpu: GpuState, users: tuple[str, ...] | None) -> GpuState:
    """``gpu`` with other users, which hold for clients that are not judged yet."""
    patterns = bytearray(b"\0")
    rows = np.zeros((len(users or ()), 6), np.int64)
    for row, text in zip(rows, users or (), strict=True):
        user = read_user(text)
        row[WHO:BELOW] = _selector(user.who, patterns)
        if user.below is not None:
            row[BELOW:] = _selector(user.below, patterns)
    gpu.state[MODE] = PRESUME if users is None else LISTED
    return gpu._replace(users=rows, patterns=np.frombuffer(patterns, np.uint8).copy())


def _selector(who: Who, patterns: bytearray) -> tuple[int, int, int]:
    """A kind and two numbers; globs are put behind ``patterns``."""
    if who.is_file:
        number, _ = inode_range(who.text)
        high, low = (np.uint64(word).astype(np.int64) for word in (number >> 64, number & (1 << 64) - 1))
        return FILE, int(high), int(low)
    begin = len(patterns)
    patterns += who.text.encode()
    return GLOB, begin, len(patterns)


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
def _matches(gpu: GpuState, begin: int, end: int, lo: int, hi: int) -> bool:
    """Does text[lo:hi], or its last path component, match the glob patterns[begin:end]?"""
    base = basename(gpu.text, lo, hi)
    return glob_matches(gpu.patterns, begin, end, gpu.text, lo, hi) or glob_matches(
        gpu.patterns, begin, end, gpu.text, base, hi
    )


@njit
def _is(p: Processes, gpu: GpuState, entry: int, kind: int, first: int, second: int) -> bool:
    """Does ``entry`` run the program that a selector names: its executable or, of an interpreter, its script?"""
    if p.table[entry].image == NONE:
        return False
    image = p.images[p.table[entry].image]
    if kind == FILE:
        return image.file_high == first and image.file_low == second
    count = strings.load(p.arena, image.block, 0, image.path_len, gpu.text)
    if _matches(gpu, first, second, 0, count):
        return True
    if image.program & IS_INTERPRETER:
        skip = image.path_len + image.name_len + image.cwd_len
        count = strings.load(p.arena, image.block, skip, min(image.args_len, TEXT_MAX), gpu.text)
        return _script_matches(gpu, first, second, count)
    return False


@njit
def _is_below(p: Processes, gpu: GpuState, entry: int, kind: int, first: int, second: int) -> bool:
    """Does it descend from such a program, by who forked whom?"""
    at = p.table[entry].parent
    while at != NONE:
        if _is(p, gpu, at, kind, first, second):
            return True
        at = p.table[at].parent
    return False


@njit
def _is_listed(p: Processes, gpu: GpuState, entry: int) -> bool:
    """Does an entry of the list name it? A worker is what its parent is."""
    at = entry
    while at != NONE:
        if p.table[at].image == NONE:
            return False
        for number in range(len(gpu.users)):
            who = gpu.users[number]
            if _is(p, gpu, at, who[WHO], who[WHO + 1], who[WHO + 2]) and (
                who[BELOW] == ANYBODY or _is_below(p, gpu, at, who[BELOW], who[BELOW + 1], who[BELOW + 2])
            ):
                return True
        if not p.images[p.table[at].image].program & IS_WORKER:
            return False
        at = p.table[at].parent
    return False


@njit
def _script_matches(gpu: GpuState, begin: int, pattern_end: int, count: int) -> bool:
    """The first argument that is no option (the script, or the module after -m) decides."""
    at = 0
    number = 0
    while at < count:
        end = at
        while end < count and byte_at(gpu.text, end) != 0:
            end += 1
        if number > 0 and end > at and gpu.text[at] != 45:
            return _matches(gpu, begin, pattern_end, at, end)
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
def note_use(p: Processes, gpu: GpuState, entry: int, utilisation: int, memory: int) -> None:
    """NVML has said how much the process at ``entry`` uses of GPUs; -1: that it does not know."""
    use = gpu.use[entry]
    if not p.table[entry].gpu & USE_KNOWN:
        p.table[entry].gpu |= USE_KNOWN
        use[:] = -1
    use[UTILISATION] = utilisation
    use[MEMORY] = memory
    use[UTILISATION_HIGHEST] = max(use[UTILISATION_HIGHEST], utilisation)
    use[MEMORY_HIGHEST] = max(use[MEMORY_HIGHEST], memory)


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
