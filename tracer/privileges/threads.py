# SPDX-License-Identifier: Apache-2.0
"""What each thread of this process holds, by the kernel's own word; and how not to have threads too early."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from tracer.errors import HostError
from tracer.privileges.capabilities import names_of
from tracer.text import printable

_THREADS_OF_OPENBLAS = "OPENBLAS_NUM_THREADS"


class Held(NamedTuple):
    """One thread: its sets as masks."""

    tid: int
    name: str
    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int
    no_new_privs: bool
    #: 0 none, 2 a filter
    seccomp: int


def parse(tid: int, status: str) -> Held:
    """What /proc/PID/task/TID/status says. A kernel without seccomp has no line about it."""
    rows = dict(line.partition(":")[::2] for line in status.splitlines())

    def mask(name: str) -> int:
        return int(rows.get(name, "0"), 16)

    return Held(
        tid=tid,
        name=rows.get("Name", "").strip(),
        inheritable=mask("CapInh"),
        permitted=mask("CapPrm"),
        effective=mask("CapEff"),
        bounding=mask("CapBnd"),
        ambient=mask("CapAmb"),
        no_new_privs=int(rows.get("NoNewPrivs", "0")) == 1,
        seccomp=int(rows.get("Seccomp", "0")),
    )


def held(pid: int | str = "self") -> list[Held]:
    """Every thread of a process."""
    found = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            status = Path(f"/proc/{pid}/task/{tid}/status").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        found.append(parse(int(tid), status))
    return found


def excess(thread: Held, keep: int, *, bounding: bool, filtered: bool) -> str:
    """What a thread has that it should not have, in words; empty if nothing."""
    more = thread.permitted | thread.effective | thread.inheritable | thread.ambient
    more &= ~keep
    words = names_of(more)
    if bounding and thread.bounding:
        words.append("a bounding set")
    if not thread.no_new_privs:
        words.append("new privileges")
    if filtered and thread.seccomp != 2:
        words.append("every system call")
    return ", ".join(words)


def require(keep: int, *, bounding: bool, filtered: bool) -> None:
    """Raise HostError if any thread kept more than ``keep``: a lie about that is worse than no watch."""
    for thread in held():
        if words := excess(thread, keep, bounding=bounding, filtered=filtered):
            raise HostError(
                f"thread {thread.tid} ({printable(thread.name)}) kept {words}",
                hint=f"some library started it before the watch did; try: {_THREADS_OF_OPENBLAS}=1 "
                "OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 vigiles …",
            )


def import_numpy_alone() -> None:
    """Import NumPy so that it starts no thread: its OpenBLAS does so when it is loaded, one for each core.

    Such a thread would keep all that the first one gives up, and we multiply no matrices. The environment is
    put back as it was.
    """
    if "numpy" in sys.modules:
        return
    before = os.environ.get(_THREADS_OF_OPENBLAS)
    os.environ[_THREADS_OF_OPENBLAS] = "1"
    try:
        import numpy  # noqa: F401, ICN001 - for its threads
    finally:
        if before is None:
            del os.environ[_THREADS_OF_OPENBLAS]
        else:
            os.environ[_THREADS_OF_OPENBLAS] = before
