# SPDX-License-Identifier: Apache-2.0
"""After set-up a watch gives up what it does not need: it is root's, and what it reads is the tree's choice.

:func:`confine` is for commands, which end with their watch. It holds for the whole process and for good, so
whoever uses watches as a library, or has more to start, goes without.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tracer.privileges import capabilities, threads
from tracer.privileges import filter as seccomp
from tracer.privileges.capabilities import NEEDED, Plan, names_of
from tracer.privileges.threads import Held, held, import_numpy_alone

__all__ = ["Confinement", "Held", "confine", "held", "import_numpy_alone", "outlook"]


class Confinement(NamedTuple):
    """What is left. ``remarks``: one line each on what is more than usual, or less."""

    kept: tuple[str, ...]
    filtered: bool
    remarks: tuple[str, ...]


def _permitted() -> int:
    return threads.parse(0, Path("/proc/thread-self/status").read_text(errors="replace")).permitted


def _remarks(plan: Plan, no_filter: str) -> tuple[str, ...]:
    lines = [*plan.remarks, *(f"{name} is not there: no {NEEDED[name]}" for name in plan.lacking)]
    if no_filter:
        lines.append(f"system calls are not filtered: {no_filter}")
    return tuple(lines)


def confine(*, writes_to: Iterable[Path] = (), resets: bool = False) -> Confinement:
    """Give up what a running watch does not need; raises HostError when a thread kept more.

    Nothing can be started, loaded or mounted afterwards. Threads that exist already can't be made to drop
    capabilities, so it is called before there are any; those that follow inherit.

    ``writes_to``: directories in which the watch will make or remove something. Those of other users than
    root cost CAP_DAC_OVERRIDE. ``resets``: it will end connections of the tree.
    """
    plan = capabilities.plan(_permitted(), foreign=capabilities.foreign(writes_to))
    no_filter = seccomp.why_not()
    emptied = capabilities.drop(plan.keep)
    if not no_filter:
        seccomp.install(resets=resets)
    threads.require(plan.keep, bounding=emptied, filtered=not no_filter)
    remarks = _remarks(plan, no_filter)
    if not emptied:
        remarks = (*remarks, "the bounding set stays as it is: there is no CAP_SETPCAP here")
    return Confinement(tuple(names_of(plan.keep)), not no_filter, remarks)


def outlook() -> tuple[str, tuple[str, ...]]:
    """What :func:`confine` would leave here, in one line, and remarks on it; changes nothing."""
    plan = capabilities.plan(_permitted())
    no_filter = seccomp.why_not()
    kept = ", ".join(names_of(plan.keep)) or "no capability"
    refused = "" if no_filter else f"; {seccomp.refused_count()} system calls are refused"
    return f"{kept}{refused}", _remarks(plan, no_filter)
