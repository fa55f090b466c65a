# SPDX-License-Identifier: Apache-2.0
"""What tracers that are no more have left: trees that are still guarded, and pins of those that have ended."""

from __future__ import annotations

from pathlib import Path

from tracer import rundir
from tracer.errors import HostError, LoadError, VigilesError
from tracer.kernel import cgroup, pins
from tracer.kernel.remains import Remains
from tracer.rundir import TreeInfo


def left_behind(text: str) -> tuple[TreeInfo, Remains]:
    """The guarded tree that ``text`` names, and what is left of its tracer. Raises VigilesError."""
    info = rundir.find(text)
    if info.alive:
        raise VigilesError(
            f"tree {info.tree} is watched by process {info.pid}", hint="end that watch first, or let it be"
        )
    if info.remains is None or not pins.exist(info.tree):
        raise VigilesError(
            f"nothing is left of the probes of tree {info.tree}",
            hint="watch it anew: vigiles attach --pid PID, or --cgroup PATH",
        )
    from tracer.kernel import schema  # NumPy, see below

    if info.remains.layout != schema.fingerprint():
        raise VigilesError(
            f"the probes of tree {info.tree} are of another version of vigiles",
            hint="go on with that version, or lift its guard and watch it anew: vigiles contain --tree ID release",
        )
    return info, info.remains


def clear_leftovers() -> list[str]:
    """Remove the pins of trees that have ended; the names of those that go on guarded, but unwatched."""
    try:
        watched = {pins.folder_of(info.tree) for info in rundir.trees() if info.alive}
    except HostError:
        return []  # register() says what is wrong with the directory
    going_on = []
    for folder in pins.folders():
        if folder in watched or _tracer_of(folder.name) is not None:
            continue
        if _is_there(folder):
            going_on.append(folder.name)
        else:
            pins.remove(folder)
    return going_on


def _tracer_of(tree: str) -> int | None:
    """The tracer that has just made these pins, but has not listed its tree, if the name says who."""
    found = cgroup.OURS.fullmatch(tree)
    if found is None or cgroup.process_start_ticks(int(found["pid"])) != int(found["start"]):
        return None
    return int(found["pid"])


def _is_there(folder: Path) -> bool:
    """Has the tree a process left?"""
    from tracer.kernel.tree import pinned_tree  # NumPy is imported when the command has been forked

    try:
        with pinned_tree(folder) as tree:
            return not tree.is_empty()
    except LoadError:
        return False
