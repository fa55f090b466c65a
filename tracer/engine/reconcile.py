# SPDX-License-Identifier: Apache-2.0
"""Make the process table agree with the kernel's own list of tasks.

Used to take in a tree that was running before the watch, and to repair the table after a record was
lost: a missed fork leaves a process without parent, a missed exit a process that lives for ever.
What a process runs is then read from /proc and handed to the engine as if it had just executed it,
so that the same detectors look at it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer import clock
from tracer.engine import processes as procs
from tracer.engine.engine import Engine, Fired
from tracer.engine.intrinsics import i64
from tracer.engine.marked import put_into_span
from tracer.engine.processes import NONE, Processes
from tracer.jit import njit
from tracer.kernel import schema

_STRING_MAX = 1024
_ARGS_MAX = 4096
_ENVIRON_MAX = 1 << 17
_TRACEPARENT = b"TRACEPARENT="
_DELETED = " (deleted)"


@njit
def take_in_tasks(p: Processes, tasks: npt.NDArray[np.void], stale: npt.NDArray[np.int64]) -> int:
    """Add what is missing, mark what is there; ``stale`` gets the entries whose program is unknown
    or has changed. Returns how many those are.
    """
    p.state[procs.ROUND] += 1
    count = 0
    for i in range(len(tasks)):
        t = tasks[i]
        entry = procs.find_exact(p, i64(t.tgid), i64(t.start))
        if entry == NONE:
            entry = procs.add_process(p, i64(t.tgid), i64(t.start), NONE, i64(t.start))
            if entry == NONE:
                continue
        row = p.table[entry]
        row.seen = p.state[procs.ROUND]
        row.uid = i64(t.uid)
        row.gid = i64(t.gid)
        row.cgroup = i64(t.cgroup)
        if t.span_token != 0:
            put_into_span(p, entry, i64(t.span_tgid), i64(t.span_start), i64(t.span_token), i64(t.start))
        known = row.image != NONE
        if known:
            # Not by device: btrfs and overlayfs show user space another one than the kernel has.
            known = p.images[row.image].ino == i64(t.ino)
        if not known and i64(t.ino) != 0:
            stale[count] = entry
            count += 1
    for i in range(len(tasks)):
        t = tasks[i]
        entry = procs.find_exact(p, i64(t.tgid), i64(t.start))
        parent = procs.find_exact(p, i64(t.parent_tgid), i64(t.parent_start))
        if entry != NONE:
            procs.adopt_parent(p, entry, parent)
    return count


class Stale(NamedTuple):
    """A process whose program must be read, if its entry still belongs to it by then."""

    entry: int
    tgid: int
    start: int


def take_in(engine: Engine, tasks: npt.NDArray[np.void]) -> list[Stale]:
    """Add the processes ``tasks`` (TASK[n]) to the table; those whose program must be read."""
    stale = np.zeros(len(tasks), np.int64)
    tasks = np.ascontiguousarray(tasks)
    if engine.journal is not None:
        engine.journal.listed(tasks.tobytes())
    count = take_in_tasks(engine.state.processes, tasks, stale)
    return [_stale(engine, int(entry)) for entry in stale[:count]]


def _stale(engine: Engine, entry: int) -> Stale:
    row = engine.state.processes.table[entry]
    return Stale(entry, int(row["tgid"]), int(row["start"]))


def nameless(engine: Engine) -> list[Stale]:
    """Live processes of which nothing but the id is known."""
    return [_stale(engine, entry) for entry in engine.live_entries(imageless=True)]


def end_missing(engine: Engine, before_ns: int) -> int:
    """After :func:`take_in`, end who was born before the list was made and is not on it."""
    if engine.journal is not None:
        engine.journal.unseen(before_ns)
    return int(procs.end_unseen(engine.state.processes, before_ns))


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return b""


def _link(path: Path) -> bytes:
    try:
        return os.fsencode(os.readlink(path))[-_STRING_MAX:]
    except OSError:
        return b""


def _traceparent(proc: Path) -> bytes:
    """TRACEPARENT in the environment that the process was executed with: 55 characters, or nothing."""
    for variable in _read(proc / "environ", _ENVIRON_MAX).split(b"\0"):
        if variable.startswith(_TRACEPARENT):
            return variable[len(_TRACEPARENT) :][: 8 * procs.TRACE_WORDS - 1]
    return b""


def exec_record(engine: Engine, entry: int) -> bytes | None:
    """An exec record for a running process, from /proc; None when it has gone or is known.

    What /proc says of arguments and environment is the process's own word: it may have overwritten them.
    """
    row = engine.state.processes.table[entry]
    image = int(row["image"])
    pid = int(row["tgid"])
    proc = Path(f"/proc/{pid}")
    args = _read(proc / "cmdline", _ARGS_MAX + 1)
    path = os.fsdecode(_link(proc / "exe"))
    cwd = _link(proc / "cwd")
    try:
        info = os.stat(proc / "exe")
    except OSError:
        return None
    if image != NONE and engine.state.processes.images[image]["ino"] == info.st_ino:
        return None  # its exec was told meanwhile
    flags = 0
    if path.endswith(_DELETED):
        path = path.removesuffix(_DELETED)
        flags |= schema.EXEC_FLAG["EXEC_MEMFD" if path.startswith("/memfd:") else "EXEC_DELETED"]
    exe = os.fsencode(path)
    record = np.zeros((), schema.EXEC)
    record["kind"] = schema.KIND["EVENT_EXEC"]
    record["ts"] = clock.boottime_ns()
    record["start"] = row["start"]
    record["tgid"] = record["tid"] = pid
    record["uid"] = record["euid"] = row["uid"]
    record["gid"] = record["egid"] = row["gid"]
    record["cgroup"] = row["cgroup"]
    record["ino"] = info.st_ino
    record["dev"] = os.major(info.st_dev) << 20 | os.minor(info.st_dev)
    record["flags"] = flags
    record["args_total"] = len(args)
    record["traceparent"] = np.frombuffer(_traceparent(proc).ljust(8 * procs.TRACE_WORDS, b"\0"), np.uint64)
    args = args[:_ARGS_MAX]
    record["path_len"], record["cwd_len"], record["args_len"] = len(exe), len(cwd), len(args)
    record["argc"] = args.count(b"\0")
    record["size"] = schema.EXEC.itemsize + len(exe) + len(cwd) + len(args)
    return record.tobytes() + exe + cwd + args


def fill_in(engine: Engine, stale: list[Stale]) -> Iterator[Fired]:
    """Read what these processes run; yields what the detectors say of each, while it is at hand."""
    for found in stale:
        if _stale(engine, found.entry) != found:
            continue
        record = exec_record(engine, found.entry)
        if record is not None:
            yield from engine.feed([record], count=False)
