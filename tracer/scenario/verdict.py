# SPDX-License-Identifier: Apache-2.0
"""From the alerts of a run to a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tracer.respond.responder import ENDED
from tracer.rules.model import SEVERITIES
from tracer.scenario.spec import Expected, Scenario

#: What a scenario comes to; if it was enforced, ``stopped``, or ``late`` if it had ended by itself. ``broken``: it did not do what it describes; it says nothing about the watch.
CAUGHT, STOPPED, LATE, MISSED, QUIET, FALSE_ALARM, BROKEN, SKIPPED = (
    "caught", "stopped", "late", "missed", "quiet", "false alarm", "broken", "skipped",
)  # fmt: skip
GOOD = (CAUGHT, STOPPED, LATE, QUIET)
_LOUD = SEVERITIES.index("high")


@dataclass(frozen=True, slots=True)
class Flag:
    """One alert, as far as a scenario cares."""

    rule: str
    severity: str
    latency_us: float
    pid: int | None
    exe: str | None
    evidence: dict[str, Any]
    action: str = "none"
    error: str | None = None
    #: from the deciding event to what was done about it
    effect_us: float | None = None
    #: done by the probe, before the program ran an instruction or the packet left
    by_probe: bool = False

    def meets(self, expected: Expected) -> bool:
        """Is this what was expected, or worse?"""
        return fnmatchcase(self.rule, expected.rule) and rank(self.severity) >= rank(expected.severity)


@dataclass(slots=True)
class Result:
    """What came of one scenario."""

    scenario: Scenario
    verdict: str
    reason: str = ""
    flags: list[Flag] = field(default_factory=list)
    missing: list[Expected] = field(default_factory=list)
    unwanted: list[Flag] = field(default_factory=list)
    status: int | None = None
    duration_s: float = 0.0
    lost: int = 0
    #: the first alert that its recording gives otherwise
    replayed_otherwise: str = ""
    output: str = ""
    folder: str | None = None
    enforced: bool = False

    @property
    def passed(self) -> bool:
        """As it should be, or known not to be yet."""
        if self.verdict in {*GOOD, SKIPPED}:
            return True
        return self.scenario.pending is not None and self.verdict in {MISSED, FALSE_ALARM}

    @property
    def deciding(self) -> list[Flag]:
        """The alerts that were expected, or where none was, those that were not wanted."""
        if self.scenario.kind == "benign":
            return self.unwanted
        if self.enforced:
            return [flag for flag in self.flags if flag.action != "none"]
        return [flag for flag in self.flags if any(flag.meets(e) for e in self.scenario.alerts)]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "scenario": self.scenario.name,
            "title": self.scenario.title,
            "kind": self.scenario.kind,
            "expected": [{"rule": e.rule, "severity": e.severity} for e in self.scenario.alerts],
            "verdict": self.verdict,
            "pending": self.scenario.pending,
            "reason": self.reason,
            "alerts": [
                {
                    "rule": flag.rule,
                    "severity": flag.severity,
                    "latency_us": flag.latency_us,
                    "pid": flag.pid,
                    "exe": flag.exe,
                    "evidence": flag.evidence,
                    "action": flag.action,
                    "action_error": flag.error,
                    "effect_us": flag.effect_us,
                    "by_probe": flag.by_probe,
                }
                for flag in self.flags
            ],
            "missing": [e.rule for e in self.missing],
            "unwanted": [flag.rule for flag in self.unwanted],
            "status": self.status,
            "duration_s": round(self.duration_s, 3),
            "lost": self.lost,
        }


def rank(severity: str) -> int:
    """Its place among the severities."""
    return SEVERITIES.index(severity)


def judge(result: Result) -> None:
    """Set verdict and reason of a scenario that has run as it should."""
    scenario = result.scenario
    if result.enforced and scenario.kind == "malicious":
        errors = {flag.error for flag in result.flags if flag.error}
        if any(flag.action != "none" for flag in result.flags):
            # by whichever rule: what it was to be flagged for may then never have come
            result.verdict = STOPPED
            return
        if any(rank(e.severity) >= _LOUD for e in scenario.alerts):
            if errors and all(error.endswith(ENDED) for error in errors):
                result.verdict = LATE
            else:
                result.verdict = MISSED
                result.reason = f"not stopped: {', '.join(sorted(errors)) or 'nothing was done'}"
            return
    result.missing = [e for e in scenario.alerts if not any(flag.meets(e) for flag in result.flags)]
    result.unwanted = [flag for flag in result.flags if _unwanted(scenario, flag)]
    if result.missing:
        result.verdict = MISSED
        result.reason = "not flagged: " + ", ".join(f"{e.rule} ({e.severity})" for e in result.missing)
    elif result.unwanted:
        result.verdict = FALSE_ALARM
        result.reason = "flagged: " + ", ".join(f"{flag.rule} ({flag.severity})" for flag in result.unwanted)
    else:
        result.verdict = CAUGHT if scenario.kind == "malicious" else QUIET


def _unwanted(scenario: Scenario, flag: Flag) -> bool:
    if any(fnmatchcase(flag.rule, pattern) for pattern in scenario.never):
        return True
    if flag.action != "none" and scenario.kind == "benign":
        return True
    if scenario.kind == "malicious":
        return False
    return rank(flag.severity) >= _LOUD or not any(fnmatchcase(flag.rule, p) for p in scenario.allow)
