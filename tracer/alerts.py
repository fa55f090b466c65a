# SPDX-License-Identifier: Apache-2.0
"""From rules that fired to alerts: who it was, its line, the evidence, how fast it was told.

The keys of :meth:`Alert.to_json` are a contract that other tools rely on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer import clock
from tracer.engine.engine import Engine, Fired, Program
from tracer.evidence import evidence_of
from tracer.respond.responder import NOTHING, Response
from tracer.rules import Rule
from tracer.spans import Span, span_of
from tracer.text import decode

if TYPE_CHECKING:
    from tracer.triage.report import Examined

ANCESTRY_MAX = 256
_CONTAINER = re.compile(r"(?:^|[-/:_])([0-9a-f]{64})(?:\.scope)?(?:/|$)")


@dataclass(slots=True)
class Alert:
    """One thing worth telling. Times are CLOCK_BOOTTIME ns until they are told."""

    rule: Rule
    severity: str
    program: Program | None
    ancestry: list[tuple[int, bytes]]
    evidence: dict[str, Any]
    hook_ns: int
    engine_ns: int
    tree: str
    host: str
    cgroup: str
    handout_ns: int = 0
    wall_ns: int = 0
    response: Response = NOTHING
    span: Span | None = None

    @property
    def latency_us(self) -> float:
        """From the kernel's time of the deciding event to the hand-out to the sinks."""
        return round((self.handout_ns - self.hook_ns) / 1000, 1)

    def outline(self) -> dict[str, Any]:
        """What it takes to join it with others, see :mod:`tracer.incidents`: little, since it is kept."""
        return {
            "rule": self.rule.id,
            "severity": self.severity,
            "exe": decode(self.program.exe) if self.program else None,
            "evidence": {"remote": self.evidence["remote"]} if "remote" in self.evidence else {},
            "action": self.response.action,
            "would": self.response.would,
            "times_ns": {"hook": self.hook_ns},
            "tree": self.tree,
        }

    def to_json(self) -> dict[str, Any]:
        """The alert as the contract has it."""
        p = self.program
        found = _CONTAINER.search(self.cgroup)
        return {
            "time": clock.rfc3339(self.wall_ns),
            "rule": self.rule.id,
            "title": self.rule.title,
            "severity": self.severity,
            "attack": list(self.rule.attack),
            "pid": p.pid if p else None,
            "start_ns": p.start_ns if p else None,
            "exe": decode(p.exe) if p else None,
            "argv": [decode(a) for a in p.argv] if p else [],
            "argv_cut": p.argv_cut if p else False,
            "cwd": decode(p.cwd) if p else None,
            "uid": p.uid if p else None,
            "cgroup": self.cgroup or None,
            "container": found.group(1)[:12] if found else None,
            "ancestry": [{"pid": pid, "exe": decode(exe)} for pid, exe in self.ancestry],
            "span": self.span.to_json() if self.span else None,
            "evidence": self.evidence,
            "action": self.response.action,
            "would": self.response.would,
            "action_error": self.response.error,
            "latency_us": self.latency_us,
            "times_ns": {
                "hook": self.hook_ns,
                "engine": self.engine_ns,
                "effect": self.response.effect_ns or None,
                "handout": self.handout_ns,
            },
            "tree": self.tree,
            "host": self.host,
        }


@dataclass(frozen=True, slots=True)
class Origin:
    """Where alerts come from. ``cgroup_path``: the name of a cgroup by its number, empty if it has none."""

    tree: str
    host: str
    cgroup_path: Callable[[int], str]


class Who(NamedTuple):
    """A process, its line of ancestors (pid and executable, itself first), and the span it is in."""

    program: Program | None
    ancestry: list[tuple[int, bytes]]
    span: Span | None


class AlertBuilder:
    """Makes alerts of what the engine says fired. ``wall_offset_ns``: see :mod:`tracer.clock`."""

    def __init__(self, engine: Engine, origin: Origin, wall_offset_ns: int) -> None:
        self._engine = engine
        self.origin = origin
        self.wall_offset_ns = wall_offset_ns

    def who(self, entry: int, serial: int = 0) -> Who:
        """The process at ``entry``, as long as the table has it; ``serial``: of the span its thread was in."""
        engine = self._engine
        line, program = engine.lineage(entry)[:ANCESTRY_MAX], engine.describe(entry)
        ancestry = [] if program is None else [(program.pid, program.exe)]
        ancestry += [engine.exe_of(above) for above in line[1:]]
        return Who(program, ancestry, span_of(engine, entry, serial, line))

    def build(
        self,
        fired: Fired,
        engine_ns: int,
        report: Examined | None = None,
        was: Who | None = None,
    ) -> list[Alert]:
        """One alert for each rule that fired; ``report``: of the file, where it is about one; ``was``: who
        it was, for whom the table may have forgotten.
        """
        engine = self._engine
        who = self.who(fired.entry, fired.span)
        if who.program is None and was is not None:
            who = was
        program, origin = who.program, self.origin
        where = origin.cgroup_path(program.cgroup) if program and program.cgroup else ""
        alerts = []
        for rule, severity in fired.rules:
            alerts.append(
                Alert(
                    rule=rule,
                    severity=severity,
                    program=program,
                    ancestry=who.ancestry,
                    span=who.span,
                    evidence=evidence_of(engine, fired, program, report, origin.cgroup_path),
                    hook_ns=fired.time_ns,
                    engine_ns=engine_ns,
                    tree=origin.tree,
                    host=origin.host,
                    cgroup=where,
                    wall_ns=fired.time_ns + self.wall_offset_ns,
                )
            )
        return alerts


def unexcused(alerts: list[Alert], excuse: Callable[[Alert], bool], *, done: bool) -> list[Alert]:
    """Those of one event that ``excuse`` lets stand. ``done``: a probe has acted upon it, by rules that held until an
    exception came just now, say. Then all of them stand if none would: what was done is never silent.
    """
    standing = [alert for alert in alerts if not excuse(alert)]
    return standing or alerts if done else standing
