# SPDX-License-Identifier: Apache-2.0
"""Spans and who is in them, in the plainest Python: what the compiled table must agree with."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

Name = tuple[int, int, int]  # owner's pid, its start, its number for it

DEPTH = 32


@dataclass(eq=False)
class NaiveSpan:
    name: Name
    above: NaiveSpan | None
    text: bytes = b""
    known: bool = False
    open: bool = True

    def path(self) -> list[NaiveSpan]:
        found: list[NaiveSpan] = []
        at: NaiveSpan | None = self
        while at is not None:
            found.append(at)
            at = at.above
        return found


@dataclass(eq=False)
class NaiveMember:
    tgid: int
    start: int
    span: NaiveSpan | None
    parent: NaiveMember | None
    live: bool = True
    children: int = 0


@dataclass
class NaiveSpans:
    """A table for ``room`` spans."""

    room: int
    members: dict[int, NaiveMember] = field(default_factory=dict)
    everybody: list[NaiveMember] = field(default_factory=list)
    spans: dict[Name, NaiveSpan] = field(default_factory=dict)
    idle: list[NaiveSpan] = field(default_factory=list)  # that may go, the oldest first
    full: int = 0
    unknown: int = 0
    repeated: int = 0

    def _in_use(self, span: NaiveSpan, held: NaiveSpan | None = None) -> bool:
        inside = any(member.span is span for member in self.everybody)
        return (
            span is held or span.open or inside or any(other.above is span for other in self.spans.values())
        )

    def _settle(self, held: NaiveSpan | None = None) -> None:
        """Who has come to be unused goes to the end of the queue; who is used again leaves it."""
        there = list(self.spans.values())
        self.idle = [span for span in self.idle if span in there and not self._in_use(span, held)]
        for span in there:
            if span not in self.idle and not self._in_use(span, held):
                self.idle.append(span)

    def _member(self, tgid: int, start: int) -> NaiveMember | None:
        found = self.members.get(tgid)
        return found if found is not None and found.start == start else None

    def _new(self, name: Name, above: NaiveSpan | None) -> NaiveSpan | None:
        depth = len(above.path()) if above else 0
        span = NaiveSpan(name, above)
        owners = [around.name[:2] for around in span.path()]
        level = sum(inner != outer for inner, outer in pairwise(owners))
        limit = self.room * (4 - min(level, 2))
        while depth < DEPTH and (self._busy(above) * 4 >= limit or len(self.spans) == self.room):
            oldest = next((s for s in self.idle if s is not above), None)
            if oldest is None:
                break
            del self.spans[oldest.name]
            self._settle(above)
        else:
            if depth < DEPTH:
                self.spans[name] = span
                self._settle()
                return span
        self._settle(above)
        self._settle()
        self.full += 1
        return None

    def _busy(self, held: NaiveSpan | None) -> int:
        return len(self.spans) - len([span for span in self.idle if span is not held])

    def named(self, name: Name) -> NaiveSpan | None:
        found = self.spans.get(name)
        if found is not None:
            return found
        self.unknown += 1
        owner = self._member(name[0], name[1])
        span = self._new(name, owner.span if owner else None)
        if span is not None and owner is None:
            span.open = False
            self._settle()
        return span

    def fork(self, tgid: int, start: int, parent: NaiveMember | None, name: Name | None) -> NaiveMember:
        old = self.members.get(tgid)
        if old is not None and old.start != start:
            self.exit(old)
            if old is parent:
                parent = None
        elif old is not None:
            parent = old.parent
        if old is None or old.start != start:
            old = NaiveMember(tgid, start, parent.span if parent else None, parent)
            if parent is not None:
                parent.children += 1
            self.members[tgid] = old
            self.everybody.append(old)
            self._settle()
        if name is not None:
            self.put(old, name)
        return old

    def put(self, member: NaiveMember, name: Name) -> None:
        span = self.named(name)
        if span is not None:
            member.span = span
            self._settle()

    def begin(self, name: Name, above: Name | None, text: bytes) -> None:
        owner = self._member(name[0], name[1])
        span = self.spans.get(name)
        if span is not None and span.known:
            self.repeated += 1
            return
        if span is None:
            if above == name:
                around = owner.span if owner else None
            else:
                around = self.named(above) if above else None
            span = self._new(name, around)
            if span is not None and owner is None:
                span.open = False
                self._settle()
        if span is not None:
            span.known, span.text = True, text

    def end(self, name: Name) -> None:
        span = self.spans.get(name)
        if span is not None and self._member(name[0], name[1]) is not None:
            span.open = False
            self._settle()

    def exit(self, member: NaiveMember) -> None:
        if not member.live:
            return
        member.live = False
        del self.members[member.tgid]
        mine = [span for span in self.spans.values() if span.name[:2] == (member.tgid, member.start)]
        for span in reversed(mine):
            span.open = False
            self._settle()
        at: NaiveMember | None = member
        while at is not None and not at.live and not at.children:
            self.everybody.remove(at)
            if at.parent is not None:
                at.parent.children -= 1
            at = at.parent
        self._settle()
