# SPDX-License-Identifier: Apache-2.0
"""The processes of a tree where the kernel has no iterators: by the probes' table of marks, and /proc.

Slower than to have the kernel list them, and /proc tells a start to a hundredth of a second only: the exact one is in
the mark, put there by the first probe that meets the process. To be met, a process is put into the cgroup that it is
in, which changes nothing and passes ``on_cgroup``.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracer.errors import HostError
from tracer.kernel import cgroup, schema
from tracer.kernel.object import Map

_KEY = struct.Struct("<I")
#: struct members_kept (probes/compat.bpf.h): the task's start in ns, then struct member, whose tree comes first.
_MARK = struct.Struct("<QIIIIII")
_FRESH = _MARK.pack(0, 1, 0, 0, 0, 0, 0)
_COMM = 16
# /proc/PID/stat behind the command's name: state, parent, …
_PARENT = 1


def mark(members: Map, pid: int) -> bool:
    """Put a process's main thread into the tree; false if it is there."""
    if not members.add(_KEY.pack(pid), _FRESH):
        return False
    with suppress(OSError, HostError):  # then its start is known when a probe meets it
        (cgroup.of_process(pid) / "cgroup.procs").write_text(str(pid))
    return True


def _stat(pid: int) -> list[str]:
    """What is behind the name in /proc/PID/stat; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _status(pid: int) -> dict[str, list[str]]:
    """/proc/PID/status by its lines' names; empty if there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


def _ended(pid: int, status: dict[str, list[str]]) -> bool:
    """Is it a zombie without a thread that runs, or no process at all, but a thread of one?"""
    if not status or status["Tgid"] != [str(pid)]:
        return True
    return status["State"][0] in "ZX" and status.get("Threads", ["1"]) == ["1"]


class TableTree:
    """The same as :class:`tracer.kernel.tree.Tree`."""

    def __init__(self, members: Map) -> None:
        self._members = members

    def _marks(self) -> dict[int, int]:
        """Tid → start in ns of every task that has a mark; 0: not met yet."""
        found = {}
        for key, value in self._members.items(_KEY.size, _MARK.size):
            start, tree, *_ = _MARK.unpack(value)
            if tree:
                found[_KEY.unpack(key)[0]] = start
        return found

    def _draw_in(self, marks: dict[int, int]) -> bool:
        """Mark threads and children that have none; was there one?"""
        fresh = False
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            if pid not in marks:
                stat = _stat(pid)
                if not stat or int(stat[_PARENT]) not in marks:
                    continue
                fresh |= mark(self._members, pid)
                continue
            with suppress(OSError):
                for tid in (int(name) for name in os.listdir(f"/proc/{pid}/task")):
                    if tid not in marks:
                        fresh |= self._members.add(_KEY.pack(tid), _FRESH)
        return fresh

    def tasks(self) -> npt.NDArray[np.void]:
        """The processes right now, TASK[n]; also draws in threads and children that were missed."""
        marks = self._marks()
        while self._draw_in(marks):
            marks = self._marks()
        rows = []
        for pid, start in marks.items():
            status = _status(pid)
            if start and not _ended(pid, status):
                rows.append(self._row(pid, start, status, marks))
        return np.concatenate(rows) if rows else np.zeros(0, schema.TASK)

    @staticmethod
    def _row(
        pid: int, start: int, status: dict[str, list[str]], marks: dict[int, int]
    ) -> npt.NDArray[np.void]:
        """One TASK, in an array."""
        row = np.zeros(1, schema.TASK)
        parent = int(status["PPid"][0])
        row["kind"], row["size"] = schema.KIND["EVENT_TASK"], schema.TASK.itemsize
        row["tgid"] = row["tid"] = pid
        row["start"] = start
        row["parent_tgid"], row["parent_start"] = parent, marks.get(parent, 0)
        row["uid"], row["gid"] = int(status["Uid"][0]), int(status["Gid"][0])
        row["threads"] = int(status["Threads"][0])
        row["comm"] = np.frombuffer(" ".join(status["Name"]).encode()[:_COMM].ljust(_COMM, b"\0"), np.uint8)
        with suppress(OSError, HostError):
            row["cgroup"] = cgroup.identity(cgroup.of_process(pid))
        with suppress(OSError):  # of a process of somebody else's, when most privileges are gone
            program = os.stat(f"/proc/{pid}/exe")
            row["ino"] = program.st_ino
            row["dev"] = os.major(program.st_dev) << 20 | os.minor(program.st_dev)
        return row

    def is_empty(self) -> bool:
        """Is there nobody?"""
        return all(_ended(pid, _status(pid)) for pid in self._marks())

    def identities(self) -> list[tuple[int, int]]:
        """Their pids and starts, in ns of CLOCK_BOOTTIME."""
        tasks = self.tasks()
        return list(zip(tasks["tgid"].tolist(), tasks["start"].tolist(), strict=True))
