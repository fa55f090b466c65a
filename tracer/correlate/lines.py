# SPDX-License-Identifier: Apache-2.0
"""What each process of a recording ran, and who came of whom: for the line of any alert."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tracer.correlate.match import Ran
from tracer.kernel import schema
from tracer.record.export import events
from tracer.record.reader import Recording
from tracer.text import decode

_FORK, _EXEC = schema.KIND["EVENT_FORK"], schema.KIND["EVENT_EXEC"]
_DEPTH_MAX = 256

Key = tuple[int, int]


class Lines:
    """One pass over a recording."""

    def __init__(self, parts: list[Recording]) -> None:
        self._parent: dict[Key, Key] = {}
        self._ran: dict[Key, list[Ran]] = {}
        for event in events(parts):
            kind = int(event.record["kind"])
            if kind == _FORK:
                self._parent[_key(event.record)] = _parent(event.record)
            elif kind == _EXEC:
                self._exec(event.record, event.tail, event.wall_ns)

    def _exec(self, e: np.void, tail: bytes, wall_ns: int) -> None:
        at = int(e["path_len"]) + int(e["name_len"]) + int(e["cwd_len"])
        arguments = tail[at : at + int(e["args_len"])].removesuffix(b"\0").split(b"\0")
        said = tuple(decode(argument) for argument in arguments)
        key = _key(e)
        self._parent.setdefault(key, _parent(e))
        self._ran.setdefault(key, []).append(Ran(key[0], wall_ns, " ".join(said), said))

    def all(self) -> Iterator[Ran]:
        """Every exec."""
        for ran in self._ran.values():
            yield from ran

    def line(self, pid: int | None, start_ns: int | None) -> list[Ran]:
        """What a process and its ancestors were started with, nearest first."""
        found: list[Ran] = []
        at: Key | None = (pid, start_ns) if pid is not None and start_ns is not None else None
        for _ in range(_DEPTH_MAX):
            if at is None:
                break
            found += reversed(self._ran.get(at, []))
            at = self._parent.get(at)
        return found


def _key(e: np.void) -> Key:
    return int(e["tgid"]), int(e["start"])


def _parent(e: np.void) -> Key:
    return int(e["parent_tgid"]), int(e["parent_start"])
