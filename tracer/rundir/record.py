# SPDX-License-Identifier: Apache-2.0
"""What is said of a tree in its file, and what the file is called."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tracer.kernel import pins
from tracer.kernel.cgroup import is_empty, process_start_ticks
from tracer.kernel.remains import Remains
from tracer.kernel.remains import parse as parse_remains

MODES = ("run", "attach")

_NAME_MAX = 180
_TREE_MAX = 255
_PID_MAX = 1 << 22


class TreeInfo(NamedTuple):
    """A tree, and who watches it. ``start``: the tracer's, in ticks; ``began``: seconds since 1970."""

    tree: str
    pid: int
    start: int
    #: None: the tree has none to itself
    cgroup: Path | None
    mode: str
    began: float
    #: how to reach its probes
    remains: Remains | None = None

    @property
    def alive(self) -> bool:
        """Is its tracer still there?"""
        return process_start_ticks(self.pid) == self.start

    @property
    def stale(self) -> bool:
        """Nobody watches it any more, nothing guards it, nor is anything of it left in its cgroup."""
        if self.alive or pins.exist(self.tree):
            return False
        return self.cgroup is None or is_empty(self.cgroup)


def to_bytes(info: TreeInfo) -> bytes:
    """The content of its file."""
    said = {
        "tree": info.tree,
        "pid": info.pid,
        "start": info.start,
        "cgroup": str(info.cgroup) if info.cgroup else None,
        "mode": info.mode,
        "began": info.began,
        "remains": info.remains.to_json() if info.remains else None,
    }
    return json.dumps(said).encode()


def _whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most  # a bool is none


def parse(raw: bytes) -> TreeInfo | None:
    """What a file says; None if it makes no sense."""
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    tree, place, mode, began = (said.get(key) for key in ("tree", "cgroup", "mode", "began"))
    if not isinstance(tree, str) or not 0 < len(tree) <= _TREE_MAX:
        return None
    if not _whole(said.get("pid"), 1, _PID_MAX) or not _whole(said.get("start"), 0, 1 << 63):
        return None
    if not isinstance(mode, str) or mode not in MODES:
        return None
    if not (isinstance(began, float) and math.isfinite(began)):
        return None
    if place is not None and not (isinstance(place, str) and place.startswith("/") and "\0" not in place):
        return None
    try:
        os.fsencode(tree + (place or ""))
    except UnicodeEncodeError:  # half of a surrogate pair: no name that the kernel could have given
        return None
    remains = parse_remains(said.get("remains"))
    return TreeInfo(tree, said["pid"], said["start"], Path(place) if place else None, mode, began, remains)


def file_name(tree: str) -> str:
    """A name that is one: the tree's may hold anything, since a cgroup's name may."""
    name = quote(os.fsencode(tree), safe="")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > _NAME_MAX:
        name = f"{name[:_NAME_MAX]}-{hashlib.sha256(os.fsencode(tree)).hexdigest()[:16]}"
    return name
