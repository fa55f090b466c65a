# SPDX-License-Identifier: Apache-2.0
"""The trees that are being watched, as files in /run/vigiles: so that another command can find one.

One small JSON file a tree, root's own and nobody else's to read. Writers take turns by a lock on the directory,
readers need none: a file appears whole or not at all. Whatever lies there is taken with a grain of salt all the
same, since a damaged file must not keep anybody from acting on the other trees.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.errors import HostError, VigilesError
from tracer.kernel.cgroup import process_start_ticks
from tracer.kernel.remains import Remains
from tracer.rundir import directory
from tracer.rundir.directory import DIRECTORY
from tracer.rundir.record import TreeInfo, parse, to_bytes
from tracer.text import printable

__all__ = ["DIRECTORY", "TreeInfo", "find", "register", "trees"]

_SHOWN = 8


@contextmanager
def register(
    tree: str, cgroup_path: Path | None, mode: str, remains: Remains | None = None
) -> Iterator[TreeInfo]:
    """List a tree as watched by this process, for as long as the block lasts. Raises HostError.

    ``mode``: one of ``record.MODES``. ``cgroup_path``: None if the tree has none to itself.
    ``remains``: how to reach its probes.
    """
    start = process_start_ticks(os.getpid())
    if start is None:
        raise HostError("can't read /proc/self/stat", hint="is /proc mounted?")
    info = TreeInfo(
        tree, os.getpid(), start, cgroup_path and cgroup_path.absolute(), mode, time.time(), remains
    )
    if parse(to_bytes(info)) != info:
        raise HostError(f"tree {printable(tree)} can't be listed: nobody could read that")
    with directory.opened(make=True) as place:
        assert place is not None
        name = directory.put(place, info)
        try:
            yield info
        finally:
            directory.remove(place, name, info)


def trees() -> list[TreeInfo]:
    """All that are listed, the oldest first; also those whose tracer is no more. Raises HostError."""
    with directory.opened(make=False) as place:
        found = directory.read_all(place) if place is not None else []
    return sorted(found, key=lambda info: (info.began, info.tree, info.pid))


def _shown(listed: list[TreeInfo]) -> str:
    names = list(dict.fromkeys(info.tree for info in listed))
    return ", ".join(printable(name) for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def find(text: str) -> TreeInfo:
    """The tree with this id, or the only one whose id begins so. Raises VigilesError.

    Of several that watch one tree: the first that still does.
    """
    listed = trees()
    chosen = [info for info in listed if info.tree == text]
    if not chosen and text:
        chosen = [info for info in listed if info.tree.startswith(text)]
    if not chosen:
        hint = f"there are: {_shown(listed)}" if listed else None
        raise VigilesError(f"no tree {printable(text)} is being watched", hint=hint)
    if len({info.tree for info in chosen}) > 1:
        raise VigilesError(
            f"more than one tree begins with {printable(text)}", hint=f"say which: {_shown(chosen)}"
        )
    return next((info for info in chosen if info.alive), chosen[0])
