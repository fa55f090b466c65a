# SPDX-License-Identifier: Apache-2.0
"""Recorded blocks through the very same engine: the alerts of then, or those of other rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracer.alerts import Alert, AlertBuilder, Origin, Who, unexcused
from tracer.engine import reconcile
from tracer.engine.engine import Engine, Fired, OpenedSpan, Program
from tracer.engine.tap import lay_out
from tracer.kernel import schema
from tracer.record import layout
from tracer.record.header import is_judged_by
from tracer.record.reader import Found, Recording
from tracer.repeats import Repeats
from tracer.respond.responder import Response, would_do
from tracer.rules import RuleSet
from tracer.rules.ruleset import Sample
from tracer.spans import Span

Key = tuple[str, int, int | None, int | None]
Excuse = Callable[[Alert], bool]
#: An epoch that no probe's verdict carries, since they are counted from 1: all is judged again.
_OTHERS = 0xFFFFFFFF
_RESPONSE = ("action", "would", "action_error")


@dataclass(slots=True)
class Played:
    """What was in the recording. ``other_rules``: it was, for a while or all the time, judged by others."""

    alerts_then: list[dict[str, Any]] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    other_rules: bool = False
    excused: int = 0
    end: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Examined:
    """What was found in a file, as it was recorded."""

    path: bytes
    groups: frozenset[str]
    facts: frozenset[str]
    evidence: dict[str, object]

    def to_evidence(self) -> dict[str, object]:
        return self.evidence


class Player:
    """One recording, all its parts in order, judged by ``rules``.

    What was done about an alert is taken from the alert of then, where there was the same one; else it says
    what would be done. Nothing is done. ``on_records`` is given each block of records, and its type, when it has
    been taken in.
    """

    def __init__(
        self,
        parts: list[Recording],
        rules: RuleSet,
        excuse: Excuse | None = None,
        on_records: Callable[[bytes, int], None] | None = None,
    ) -> None:
        self.parts = parts
        self._on_records = on_records
        self.played = Played()
        header = parts[0].header
        self.engine = Engine(rules, processes=header.processes, flows=header.flows)
        self._rules = rules
        self._excuse = excuse
        self._cgroups: dict[int, str] = {}
        self._then: dict[Key, deque[dict[str, Any]]] = {}
        for part in parts:
            self._look_ahead(part)
        origin = Origin(header.tree, header.host, lambda number: self._cgroups.get(number, ""))
        self._builder = AlertBuilder(self.engine, origin, header.wall_offset_ns)
        self._judge_by(header.judged_by)
        self._repeats = Repeats()
        self._file: tuple[_Examined, Who] | None = None
        self._take: dict[int, Callable[[Recording, Found], Iterator[Alert]]] = {
            layout.RECORDS: self._records,
            layout.FED: self._fed,
            layout.TASKS: self._tasks,
            layout.SNAPSHOT: self._snapshot,
        }
        self._note: dict[int, Callable[[Any], None]] = {
            layout.UNSEEN: self._unseen,
            layout.RULES: self._judge_by,
            layout.FILE: self._examined,
            layout.LOSS: self.played.losses.append,
            layout.GAP: self.played.gaps.append,
            layout.CLOCK: self._clock,
            layout.END: self._end,
        }

    @property
    def records(self) -> int:
        """How many of the probes' records were taken in."""
        return sum(self.engine.received().values())

    def _look_ahead(self, part: Recording) -> None:
        """Names of cgroups and what was done about alerts stand behind the records they belong to."""
        for found in part.of_types(layout.ALERT, layout.REPEAT, layout.CGROUPS):
            said = part.read(found)
            if said is None:
                continue
            if found.head.type == layout.CGROUPS:
                self._cgroups = said | self._cgroups  # the first name is the one that was told
            else:
                if found.head.type == layout.ALERT:
                    self.played.alerts_then.append(said)
                self._then.setdefault(key_of(said), deque()).append(said)

    def _judge_by(self, then: dict[str, Any]) -> None:
        """Trust probes' verdicts only if they came of the same rules."""
        same = is_judged_by(then, self._rules)
        self.played.other_rules |= not same
        self.engine.state.epoch[0] = then["epoch"] if same else _OTHERS

    def _unseen(self, before_ns: int) -> None:
        reconcile.end_missing(self.engine, before_ns)

    def _clock(self, offset_ns: int) -> None:
        self._builder.wall_offset_ns = offset_ns

    def _end(self, said: dict[str, Any]) -> None:
        self.played.end = said

    def alerts(self) -> Iterator[Alert]:
        """Every alert, in the order of the events."""
        for number, part in enumerate(self.parts):
            known = number > 0 and part.header.part == self.parts[number - 1].header.part + 1
            for found in part.blocks():
                kind = found.head.type
                if kind == layout.SNAPSHOT and known:
                    continue
                known |= kind == layout.RECORDS
                if kind in self._take:
                    yield from self._take[kind](part, found)
                    if self._on_records is not None and kind != layout.TASKS:
                        self._on_records(part.payload(found) or b"", kind)
                elif kind in self._note:
                    said = part.read(found)
                    if said is not None:
                        self._note[kind](said)
                    if kind == layout.END:
                        yield from self._repeats.remaining()

    def _records(self, part: Recording, found: Found) -> Iterator[Alert]:
        laid = part.payload(found)
        if laid is None:
            return
        for fired in self.engine.play(laid, count=True):
            yield from self._alerts_of(fired)
        self.engine.take_files()  # whoever read them has read them

    def _fed(self, part: Recording, found: Found) -> Iterator[Alert]:
        laid = part.payload(found)
        examined, self._file = self._file, None
        if laid is None:
            return
        if examined is not None:
            laid = self._judged_again(laid, examined[0])
        for fired in self.engine.play(laid, count=False):
            yield from self._alerts_of(fired, *(examined or ()))
        self.engine.take_files()

    def _snapshot(self, part: Recording, found: Found) -> Iterator[Alert]:
        """Who is there; whatever is to be said of them, it was said before this file began."""
        laid = part.payload(found)
        for _ in self.engine.play(laid or b"", count=False):
            pass
        self.engine.take_files()
        return iter(())

    def _tasks(self, part: Recording, found: Found) -> Iterator[Alert]:
        raw = part.payload(found)
        if raw is not None and len(raw) % schema.TASK.itemsize == 0:
            reconcile.take_in(self.engine, np.frombuffer(raw, schema.TASK))
        return iter(())

    def _examined(self, said: dict[str, Any]) -> None:
        examined = _Examined(
            said["path"], frozenset(said["groups"]), frozenset(said["facts"]), said["evidence"]
        )
        self._file = examined, _who(said)

    def _judged_again(self, laid: bytes, examined: _Examined) -> bytes:
        """The record about a file, with the numbers that groups have in these rules."""
        record = np.frombuffer(laid, np.uint8)[8 : 8 + schema.FILE.itemsize].copy().view(schema.FILE)[0]
        known = frozenset(name for name in examined.groups if name in self._rules.numbers)
        record["signals"] = self._rules.signals(Sample(on="file", facts=examined.facts, groups=known))
        record["epoch"] = self.engine.state.epoch[0]
        return lay_out([record.tobytes()])

    def _alerts_of(
        self,
        fired: Fired,
        examined: _Examined | None = None,
        was: Who | None = None,
    ) -> Iterator[Alert]:
        alerts = self._builder.build(fired, fired.time_ns, examined, was)
        if self._excuse is not None:
            told = unexcused(alerts, self._excuse, done=bool(fired.done))
            self.played.excused += len(alerts) - len(told)
            alerts = told
        would = would_do(fired, [alert.rule for alert in alerts], self._rules.terms)
        for alert in alerts:
            program = alert.program
            key = (
                alert.rule.id,
                alert.hook_ns,
                program.pid if program else None,
                program.start_ns if program else None,
            )
            then = self._then.get(key)
            if then:
                _as_it_was(alert, then.popleft())
            else:
                alert.handout_ns = alert.hook_ns
                alert.response = Response(would=would)
            if self._repeats.is_news(alert):
                yield alert


def key_of(said: dict[str, Any]) -> Key:
    """Names an alert: its rule, when, and of whom."""
    return said["rule"], said["times_ns"]["hook"], said["pid"], said["start_ns"]


def _who(said: dict[str, Any]) -> Who:
    """Who had executed a file, as a FILE block has it."""
    program, span = said["program"], said["span"]
    names = Program.__dataclass_fields__
    return Who(
        Program(**({n: program[n] for n in names} | {"argv": tuple(program["argv"])})) if program else None,
        [(pid, exe) for pid, exe in said["ancestry"]],
        Span(
            tuple(OpenedSpan(**{n: row[n] for n in OpenedSpan.__dataclass_fields__}) for row in span["path"]),
            tuple(span["exes"]),
            tuple(span["traces"]),
        )
        if span
        else None,
    )


def _as_it_was(alert: Alert, said: dict[str, Any]) -> None:
    """What was done about the alert of then, and when it was told."""
    times = said["times_ns"]
    alert.engine_ns, alert.handout_ns = times["engine"], times["handout"]
    action, would, error = (said[name] for name in _RESPONSE)
    alert.response = Response(action, would, error, times["effect"] or 0)
