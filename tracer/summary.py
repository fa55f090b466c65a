# SPDX-License-Identifier: Apache-2.0
"""What a watch has seen and lost, at its end: one form for people, one for machines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tracer.engine.engine import Engine
from tracer.incidents import INCIDENTS_MAX, Incidents
from tracer.kernel import loader, schema
from tracer.kernel.probes import Probes
from tracer.respond.responder import Responder
from tracer.rules.model import ACTIONS

#: The reason for a loss that is counted by kind as well: see probes/share.bpf.h.
SHARE = "share"
#: The last ones; the recording has all.
_INCIDENTS_SHOWN = 10
#: Latencies kept for the percentiles; beyond it later ones replace earlier ones at even distance.
_KEPT = 100_000


@dataclass(slots=True)
class Tally:
    """Alerts told so far."""

    by_rule: Counter[str] = field(default_factory=Counter)
    by_severity: Counter[str] = field(default_factory=Counter)
    latencies_us: list[float] = field(default_factory=list)
    files_lost: Counter[str] = field(default_factory=Counter)
    #: see tracer.duties
    duties_lost: dict[str, int] = field(default_factory=dict)
    excused: int = 0
    #: by rule: alerts like one that has been told, see tracer.repeats
    repeated: Counter[str] = field(default_factory=Counter)
    would: Counter[str] = field(default_factory=Counter)
    incidents: Incidents = field(default_factory=lambda: Incidents(INCIDENTS_MAX))

    def add(self, rule: str, severity: str, latency_us: float) -> None:
        """Count one."""
        total = self.by_rule.total()
        self.by_rule[rule] += 1
        self.by_severity[severity] += 1
        if total < _KEPT:
            self.latencies_us.append(latency_us)
        else:
            self.latencies_us[total % _KEPT] = latency_us

    def percentile(self, share: float) -> float | None:
        """The latency in µs below which ``share`` (0 to 100) of the alerts lie."""
        return float(np.percentile(self.latencies_us, share)) if self.latencies_us else None


def _number(count: int) -> str:
    return f"{count:,}"


class Recorded(NamedTuple):
    """What came of a recording. ``failure``: the disk's last word, if it was a bad one."""

    blocks: int
    bytes: int
    files: int
    lost_blocks: int
    lost_records: int
    failure: str


def _of_recording(r: Recorded) -> str:
    files = f" in {r.files} files" if r.files > 1 else ""
    said = f"recorded: {r.bytes / 1e6:,.1f} MB{files}, lost: "
    if not r.lost_blocks:
        return said + (f"0, but: {r.failure}" if r.failure else "0")
    why = f" ({r.failure})" if r.failure else " (the disk was too slow)"
    return f"{said}{_number(r.lost_records)} records in {_number(r.lost_blocks)} blocks{why}"


@dataclass(slots=True)
class Summary:
    """Sums of one watch. ``sent`` = ``received`` + ``lost`` for every kind when all is well."""

    duration_s: float
    sent: dict[str, int]
    received: dict[str, int]
    lost: dict[str, int]
    reasons: dict[str, int]
    threads: int
    tables: dict[str, int]
    missing_hooks: dict[str, str]
    tally: Tally
    #: by action of rules: what was done, by probes and from user space, and what could not be
    acted: dict[str, int]
    failed: dict[str, int]
    packets_dropped: int
    lag_p50_us: float | None
    lag_p99_us: float | None
    sinks_failed: dict[str, int] = field(default_factory=dict)
    recorded: Recorded | None = None
    #: how the probes got into the kernel, and why so
    loader: str = ""
    loader_why: str = ""

    @property
    def lost_total(self) -> int:
        """Records that never reached the engine, whatever the reason."""
        # what is over its share is counted by kind, too
        return sum(self.lost.values()) + sum(self.reasons.values()) - self.reasons.get(SHARE, 0)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "summary": {
                "duration_s": round(self.duration_s, 3),
                "events": {"sent": self.sent, "received": self.received, "lost": self.lost},
                "lost": self.lost_total,
                "lost_by_reason": self.reasons,
                "threads": self.threads,
                "tables": self.tables,
                "missing_hooks": self.missing_hooks,
                "loader": {"name": self.loader, "why": self.loader_why},
                "alerts": dict(self.tally.by_rule),
                "incidents": [
                    {
                        "line": i.line,
                        "severity": i.severity,
                        "alerts": i.count,
                        "first_ns": i.first_ns,
                        "last_ns": i.last_ns,
                    }
                    for i in self.tally.incidents.all
                ],
                "incidents_forgotten": self.tally.incidents.forgotten,
                "repeated": dict(+self.tally.repeated),
                "excused": self.tally.excused,
                "acted": self.acted,
                "would": dict(self.tally.would),
                "failed": self.failed,
                "packets_dropped": self.packets_dropped,
                "alerts_by_severity": dict(self.tally.by_severity),
                "alert_latency_us": {
                    "p50": self.tally.percentile(50),
                    "p99": self.tally.percentile(99),
                    "max": self.tally.percentile(100),
                },
                "hook_to_engine_us": {"p50": self.lag_p50_us, "p99": self.lag_p99_us},
                "sinks_failed": self.sinks_failed,
                "recording": self.recorded._asdict() if self.recorded else None,
            }
        }

    def lines(self) -> list[str]:
        """For people; zero losses are said."""
        seen = ", ".join(f"{_number(n)} {kind}" for kind, n in self.received.items() if n) or "none"
        out = [f"watched {self.duration_s:.1f} s · events: {seen}"]
        alerts = ", ".join(
            f"{n} {rule}"
            + (f" (and {_number(again)} like it)" if (again := self.tally.repeated[rule]) else "")
            for rule, n in self.tally.by_rule.most_common()
        )
        alerts = alerts or "none"
        excused = f" · {_number(self.tally.excused)} excused by the policy" if self.tally.excused else ""
        out.append(f"alerts: {alerts}{excused}")
        for incident in self.tally.incidents.all[-_INCIDENTS_SHOWN:]:
            if incident.count > 1:
                seconds = (incident.last_ns - incident.first_ns) / 1e9
                told = f"{_number(incident.count)} alerts in {seconds:,.1f} s"
                out.append(f"incident ({incident.severity}): {incident.line} · {told}")
        acted = [f"{_number(n)} {what}" for what, n in self.acted.items()]
        if self.packets_dropped:
            acted.append(f"{_number(self.packets_dropped)} packets dropped")
        acted += [f"{_number(n)} {what} failed" for what, n in self.failed.items()]
        if acted:
            out.append(f"acted: {', '.join(acted)}")
        if self.tally.would:
            would = ", ".join(f"{_number(n)} {what}" for what, n in self.tally.would.most_common())
            out.append(f"would have: {would} (nothing was done: --enforce does it)")
        if self.tally.latencies_us:
            out.append(
                f"hook → alert: p50 {self.tally.percentile(50) or 0:,.0f} µs, "
                f"p99 {self.tally.percentile(99) or 0:,.0f} µs, max {self.tally.percentile(100) or 0:,.0f} µs"
            )
        held = self.reasons.get(SHARE, 0)
        why = " (ring full)" if not held else ""
        lost = [f"{_number(n)} {kind}{why}" for kind, n in self.lost.items() if n]
        if held:
            rest = sum(self.lost.values()) - held
            full = f", for {_number(rest)} the ring was full" if rest else ""
            lost[-1] += f" ({_number(held)} of a process over its share{full})"
        lost += [f"{_number(n)} {reason}" for reason, n in self.reasons.items() if n and reason != SHARE]
        out.append(f"lost: {', '.join(lost) if lost else '0'}")
        tables = [f"{_number(n)} {what}" for what, n in self.tables.items() if n]
        if tables:
            out.append(f"tables: {', '.join(tables)}")
        if self.recorded is not None:
            out.append(_of_recording(self.recorded))
        for sink, n in self.sinks_failed.items():
            out.append(f"{sink}: {_number(n)} alerts could not be written")
        if self.loader:
            out.append(f"loader: {self.loader} ({self.loader_why})")
        for hook, complaint in self.missing_hooks.items():
            out.append(f"not watched: {hook}: {complaint}")
        return out


def _actions(counted: np.ndarray[Any, Any], here: Counter[str]) -> dict[str, int]:
    """What probes and user space did, by action, without what never happened."""
    sums = {name: int(counted[number]) for number, name in enumerate(ACTIONS)}
    for name, count in here.items():
        sums[name] = sums.get(name, 0) + count
    return {name: count for name, count in sums.items() if count}


def summarise(
    engine: Engine,
    probes: Probes,
    tally: Tally,
    responder: Responder,
    duration_s: float,
    sinks_failed: dict[str, int],
) -> Summary:
    """The sums as they stand; call it when the rings are drained."""
    counters = probes.counters()
    sent = counters["sent"].sum(axis=0)
    lost = counters["lost"].sum(axis=0)
    reasons = counters["reasons"].sum(axis=0)
    names = {k: schema.KIND_NAME[k] for k in schema.SENT_KINDS}
    received = engine.received()
    by_reason = {
        name.removeprefix("LOSS_").lower().replace("_", "-"): int(reasons[number])
        for name, number in schema.LOSS.items()
        if 0 < number < len(reasons) and name != "LOSS_RING_FULL"
    }
    for program, count in probes.misses().items():
        by_reason[f"{program}-nested"] = count
    p50, p99 = engine.lag_percentile(0.5), engine.lag_percentile(0.99)
    return Summary(
        duration_s=duration_s,
        sent={names[k]: int(sent[k]) for k in names},
        received={names[k]: received[k] for k in names},
        lost={names[k]: int(lost[k]) for k in names},
        reasons=by_reason,
        threads=int(counters["threads"].sum()),
        tables=engine.table_losses()
        | {"spans-refused": int(counters["spans_refused"].sum())}
        | {f"files-{why}": n for why, n in sorted(tally.files_lost.items())}
        | tally.duties_lost,
        missing_hooks=probes.unseen | probes.missing,
        loader=loader.taken().name,
        loader_why=loader.taken().why,
        tally=tally,
        lag_p50_us=p50 / 1000 if p50 else None,
        lag_p99_us=p99 / 1000 if p99 else None,
        sinks_failed=sinks_failed,
        acted=_actions(counters["acted"].sum(axis=0), responder.done),
        failed=_actions(counters["failed"].sum(axis=0), responder.failed),
        packets_dropped=int(counters["dropped"].sum()),
    )
