# SPDX-License-Identifier: Apache-2.0
"""What came of scenarios, for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tracer.scenario.verdict import BROKEN, CAUGHT, FALSE_ALARM, LATE, MISSED, QUIET, SKIPPED, STOPPED, Result

_STYLE = {
    CAUGHT: "green", STOPPED: "green", LATE: "yellow", QUIET: "green", MISSED: "red", FALSE_ALARM: "red", BROKEN: "magenta", SKIPPED: "dim",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over scenarios that ran; each counts once, whatever number of alerts it caused."""

    caught: int
    stopped: int
    late: int
    missed: int
    quiet: int
    false_alarms: int
    broken: int
    skipped: int

    @classmethod
    def of(cls, results: Sequence[Result]) -> Score:
        """Count."""
        verdicts = [r.verdict for r in results]
        return cls(
            *(verdicts.count(v) for v in (CAUGHT, STOPPED, LATE, MISSED, QUIET, FALSE_ALARM, BROKEN, SKIPPED))
        )

    @property
    def precision(self) -> float | None:
        """Of what was flagged, the share that was meant."""
        right = self.caught + self.stopped + self.late
        flagged = right + self.false_alarms
        return right / flagged if flagged else None

    @property
    def recall(self) -> float | None:
        """Of what is malicious, the share that was flagged."""
        right = self.caught + self.stopped + self.late
        malicious = right + self.missed
        return right / malicious if malicious else None

    def line(self) -> str:
        """For people."""
        stopped = f"{self.stopped} stopped, {self.late} late, " if self.stopped else ""
        parts = [
            f"{stopped}{self.caught} caught, {self.missed} missed, {self.quiet} quiet, {self.false_alarms} false alarms",
            f"precision {_share(self.precision)}, recall {_share(self.recall)}",
        ]
        if self.broken or self.skipped:
            parts.append(f"{self.broken} broken, {self.skipped} skipped: not counted")
        return " · ".join(parts)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def expected(result: Result) -> str:
    """What should have come: the rules, or nothing."""
    rules = [e.rule for e in result.scenario.alerts]
    return ", ".join(rules) if rules else "–"


def flagged_by(result: Result) -> str:
    """The rules that fired, once each, with the severest that each said."""
    return ", ".join(dict.fromkeys(f"{flag.rule} ({flag.severity})" for flag in result.flags)) or "–"


def latency(result: Result) -> str:
    """Of the first alert that was expected (or was not wanted), in milliseconds."""
    flags = result.deciding
    return f"{flags[0].latency_us / 1000:.2f} ms" if flags else "–"


def effect(result: Result) -> str:
    """What was done first, how soon, and by whom."""
    flags = [flag for flag in result.flags if flag.action != "none"]
    if not flags:
        return "–"
    first = min(flags, key=lambda flag: flag.effect_us or 0.0)
    who = "probe" if first.by_probe else "responder"
    return f"{first.action} after {(first.effect_us or 0) / 1000:.3f} ms ({who})"


def verdict(result: Result) -> str:
    """The verdict; brackets where it is known and pending."""
    pending = result.scenario.pending is not None and result.verdict in {MISSED, FALSE_ALARM}
    return f"({result.verdict})" if pending else result.verdict


def table(results: Sequence[Result]) -> Table:
    """All of them."""
    out = Table(box=None, pad_edge=False)
    enforced = any(r.enforced for r in results)
    headings = ["scenario", "expected", "flagged by", "latency", *(["effect"] if enforced else []), "verdict"]
    for heading in headings:
        out.add_column(
            heading,
            justify="right" if heading == "latency" else "left",
            no_wrap=heading not in {"expected", "flagged by"},
            overflow="fold",
        )
    for r in results:
        style = _STYLE[r.verdict]
        cells = [r.scenario.name, expected(r), flagged_by(r), latency(r), *([effect(r)] if enforced else [])]
        out.add_row(*map(escape, cells), f"[{style}]{verdict(r)}[/]")
    return out


def show(results: Sequence[Result], console: Console) -> None:
    """The table, then why whatever did not go as it should, then the score."""
    console.print(table(results))
    for r in results:
        if r.reason:
            known = f" (pending: {r.scenario.pending})" if r.scenario.pending and r.passed else ""
            console.print(escape(f"{r.scenario.name}: {r.reason}{known}"))
        if r.output and not r.passed:
            console.print(escape("".join(f"    {line}\n" for line in r.output.splitlines())), end="")
        if r.folder:
            console.print(escape(f"{r.scenario.name}: its files are in {r.folder}"))
    console.print(Score.of(results).line())
