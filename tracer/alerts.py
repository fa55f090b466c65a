# SPDX-License-Identifier: Apache-2.0
"""From rules that fired to alerts: who it was, its line, the evidence, how fast it was told.

The keys of :meth:`Alert.to_json` are a contract that other tools rely on.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tracer import clock
from tracer.detect.execfacts import describe_facts
from tracer.detect.gpu import KNOWN, TRAINER, TRAINER_START
from tracer.engine.engine import Engine, Fired, Program
from tracer.gpu.names import describe as describe_gpu
from tracer.kernel import cgroup, schema
from tracer.rules import Rule
from tracer.text import decode

ANCESTRY_MAX = 256
#: Sixteen matches are enough to see why; the rest is counted.
EVIDENCE_MAX = 16
_CONTAINER = re.compile(r"(?:^|[-/:_])([0-9a-f]{64})(?:\.scope)?(?:/|$)")
_EXEC = schema.KIND["EVENT_EXEC"]


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
    action: str = "none"
    span: str | None = None

    @property
    def latency_us(self) -> float:
        """From the kernel's time of the deciding event to the hand-out to the sinks."""
        return round((self.handout_ns - self.hook_ns) / 1000, 1)

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
            "span": self.span,
            "evidence": self.evidence,
            "action": self.action,
            "latency_us": self.latency_us,
            "times_ns": {"hook": self.hook_ns, "engine": self.engine_ns, "handout": self.handout_ns},
            "tree": self.tree,
            "host": self.host,
        }


@lru_cache(maxsize=4096)
def _cgroup_path(identity: int) -> str:
    return cgroup.path_of(identity)


class AlertBuilder:
    """Makes alerts of what the engine says fired."""

    def __init__(self, engine: Engine, tree: str) -> None:
        self._engine = engine
        self._tree = tree
        self._host = socket.gethostname()
        self._offset = clock.wall_offset_ns()

    def refresh_clock(self) -> None:
        """Measure the wall clock again."""
        self._offset = clock.wall_offset_ns()

    def learn_cgroup(self, identity: int) -> None:
        """Look the name of a cgroup up before an alert needs it."""
        _cgroup_path(identity)

    def build(self, fired: Fired, engine_ns: int) -> list[Alert]:
        """One alert for each rule that fired."""
        engine = self._engine
        program = engine.describe(fired.entry)
        line = engine.lineage(fired.entry)[:ANCESTRY_MAX]
        ancestry = [engine.exe_of(entry) for entry in line]
        where = _cgroup_path(program.cgroup) if program and program.cgroup else ""
        alerts = []
        for rule, severity in fired.rules:
            alerts.append(
                Alert(
                    rule=rule,
                    severity=severity,
                    program=program,
                    ancestry=ancestry,
                    evidence=self._evidence(fired, program),
                    hook_ns=fired.time_ns,
                    engine_ns=engine_ns,
                    tree=self._tree,
                    host=self._host,
                    cgroup=where,
                    wall_ns=fired.time_ns + self._offset,
                )
            )
        return alerts

    def _evidence(self, fired: Fired, program: Program | None) -> dict[str, Any]:
        if fired.kind == _EXEC:
            return self._exec_evidence(program)
        family, number, code = fired.subject >> 48, fired.subject >> 32 & 0xFFFF, fired.subject & 0xFFFFFFFF
        evidence: dict[str, Any] = {"ioctl": describe_gpu(family, number, code)}
        state = self._engine.state.gpu.state
        if state[KNOWN]:
            evidence["first_client"] = {"pid": int(state[TRAINER]), "start_ns": int(state[TRAINER_START])}
        return evidence

    def _exec_evidence(self, program: Program | None) -> dict[str, Any]:
        if program is None:
            return {}
        facts = int(self._engine.state.signals[0])
        evidence: dict[str, Any] = dict(
            describe_facts(program.exe, program.called, list(program.argv), facts)
        )
        fields = {
            "name": [program.exe.rpartition(b"/")[2], program.called.rpartition(b"/")[2]]
            + [a.rpartition(b"/")[2] for a in program.argv[:1]],
            "path": [program.exe],
            "args": [b"".join(a + b"\0" for a in program.argv[1:])],
        }
        matches = []
        for where, texts in fields.items():
            for text in dict.fromkeys(texts):
                for match in self._engine.rules.find(where, text):
                    row = {"group": match.group, "indicator": match.literal, "in": where}
                    if row not in matches:
                        matches.append(row)
        if matches:
            evidence["matched"] = matches[:EVIDENCE_MAX]
            if len(matches) > EVIDENCE_MAX:
                evidence["matched_more"] = len(matches) - EVIDENCE_MAX
        return evidence
