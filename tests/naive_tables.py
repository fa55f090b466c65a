# SPDX-License-Identifier: Apache-2.0
"""The engine's tables in the plainest Python: what the compiled ones must agree with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class NaiveProcess:
    tgid: int
    start: int
    parent: NaiveProcess | None
    image: bytes | None
    live: bool = True
    children: list[NaiveProcess] = field(default_factory=list)


class NaiveTree:
    """Processes that live, or from which somebody who lives descends."""

    def __init__(self) -> None:
        self.live: dict[int, NaiveProcess] = {}
        self.missed_exits = 0

    def exact(self, tgid: int, start: int) -> NaiveProcess | None:
        found = self.live.get(tgid)
        return found if found is not None and found.start == start else None

    def fork(self, tgid: int, start: int, parent: NaiveProcess | None) -> NaiveProcess:
        old = self.live.get(tgid)
        if old is not None:
            if old.start == start:
                return old
            self.missed_exits += 1
            self.exit(old)
            if old is parent:
                parent = None
        new = NaiveProcess(tgid, start, parent, parent.image if parent else None)
        if parent is not None:
            parent.children.append(new)
        self.live[tgid] = new
        return new

    def exit(self, process: NaiveProcess) -> None:
        if not process.live:
            return
        process.live = False
        del self.live[process.tgid]
        at: NaiveProcess | None = process
        while at is not None and not at.live and not at.children:
            if at.parent is not None:
                at.parent.children.remove(at)
            at = at.parent

    def line(self, process: NaiveProcess) -> list[tuple[int, int]]:
        found = []
        at: NaiveProcess | None = process
        while at is not None:
            found.append((at.tgid, at.start))
            at = at.parent
        return found
