# SPDX-License-Identifier: Apache-2.0
"""What tracers that are no more have left: trees that are still guarded, and pins of those that have ended."""

from __future__ import annotations

from tracer import rundir
from tracer.errors import HostError, LoadError, VigilesError
from tracer.kernel import pins
from tracer.kernel.remains import Remains, tree_of
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
    return info, info.remains


def clear_leftovers() -> list[TreeInfo]:
    """Remove the pins of trees that have ended; the trees that go on guarded, but unwatched."""
    try:
        listed = [info for info in rundir.trees() if not info.alive and pins.exist(info.tree)]
    except HostError:
        return []  # register() says what is wrong with the directory
    going_on = []
    for info in listed:
        if info.remains is not None and _is_there(info.remains):
            going_on.append(info)
        else:
            pins.remove(pins.folder_of(info.tree))
    return going_on


def _is_there(remains: Remains) -> bool:
    """Has the tree a process left?"""
    try:
        with tree_of(remains) as tree:
            return bool(tree.identities())
    except LoadError:
        return False
