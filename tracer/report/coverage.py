# SPDX-License-Identifier: Apache-2.0
"""What was watched and what was not: without it, that nothing was found means nothing.

Of each kind of event: seen in the kernel = delivered + lost; delivered = recorded + not written. Whatever does
not add up is said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracer.kernel import schema
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.report.gather import Gathered

_REASON = {
    number: name.removeprefix("LOSS_").lower().replace("_", "-") for name, number in schema.LOSS.items()
}
_SHARE = schema.LOSS["LOSS_SHARE"]


@dataclass(slots=True)
class Row:
    """One kind of event. ``seen``, ``delivered``: None where the watch had no end to say so."""

    kind: str
    seen: int | None
    delivered: int | None
    lost: int
    recorded: int


@dataclass(slots=True)
class Coverage:
    """The certificate. ``remarks``: what a reader must know, one line each; none: all was seen and is here."""

    rows: list[Row] = field(default_factory=list)
    missing_hooks: dict[str, str] = field(default_factory=dict)
    losses: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    ended: bool = False
    signed: bool = False
    gpu_driver: str | None = None
    processes_before: int = 0
    flows_before: int = 0
    remarks: list[str] = field(default_factory=list)


def certify(found: Gathered) -> Coverage:
    """What ``found``, and its recording, covers."""
    played = found.player.played
    header = found.parts[0].header
    end: dict[str, Any] = (played.end or {}).get("summary", {})
    events = end.get("events")
    seen, delivered, lost = (_numbers(events, name) for name in ("sent", "received", "lost"))
    told_lost = Counter[str]()
    for loss in played.losses:
        told_lost.update({schema.KIND_NAME.get(int(k), str(k)): n for k, n in loss["kinds"].items()})
    coverage = Coverage(
        missing_hooks={printable(str(k)): printable(str(v)) for k, v in header.missing_hooks.items()},
        losses=[_loss(loss) for loss in played.losses],
        gaps=[_gap(gap) for gap in played.gaps],
        damage=[f"{printable(part.path.name)}: {d}" for part in found.parts for d in part.damage],
        ended=played.end is not None,
        signed=header.signed,
        gpu_driver=printable(header.gpu_driver) if header.gpu_driver else None,
        processes_before=found.processes_before,
        flows_before=found.flows_before,
    )
    names = dict.fromkeys((*seen, *found.kinds, *told_lost))
    for name in names:
        missed = lost.get(name, 0) if seen else told_lost[name]
        row = Row(printable(name), seen.get(name), delivered.get(name), missed, found.kinds[name])
        if row.seen or row.recorded or row.lost:
            coverage.rows.append(row)
    coverage.remarks = list(_remarks(coverage, found, end))
    return coverage


def _numbers(events: Any, name: str) -> dict[str, int]:
    """A map of counts, as a summary has it; what is none is left out."""
    said = events.get(name) if isinstance(events, dict) else None
    if not isinstance(said, dict):
        return {}
    return {str(k): v for k, v in said.items() if isinstance(v, int) and not isinstance(v, bool) and v >= 0}


def _loss(said: dict[str, Any]) -> dict[str, Any]:
    return {
        "at_ns": said["at_ns"],
        "records": sum(said["kinds"].values()),
        "kinds": {schema.KIND_NAME.get(int(k), str(k)): n for k, n in said["kinds"].items()},
        # what is over its share is counted by kind, too
        "reasons": {_REASON.get(int(r), str(r)): n for r, n in said["reasons"].items() if int(r) != _SHARE},
    }


def _gap(said: dict[str, Any]) -> dict[str, Any]:
    return said | {"why": [printable(why) for why in said["why"]]}


def _remarks(c: Coverage, found: Gathered, end: dict[str, Any]) -> list[str]:
    lines = []
    first = found.parts[0].header.part
    if first > 1:
        lines.append(f"the recording begins with file {first}: those before it are not here")
    for one, two in zip(found.parts, found.parts[1:], strict=False):
        if two.header.part != one.header.part + 1:
            lines.append(f"files {one.header.part + 1} to {two.header.part - 1} are not here")
    if not c.ended:
        lines.append("the watch was killed, or its end is not here: what it lost in the end is not known")
    total = sum(row.lost for row in c.rows)
    if total:
        lines.append(f"{total:,} events were lost before they reached the watch")
    for row in c.rows:
        if row.seen is not None and row.delivered is not None and row.seen != row.delivered + row.lost:
            lines.append(
                f"{row.kind}: {row.seen:,} were seen, but {row.delivered:,} delivered and {row.lost:,} lost"
            )
        if (
            row.delivered is not None
            and row.recorded != row.delivered
            and not (c.gaps or c.damage or first > 1)
        ):
            lines.append(f"{row.kind}: {row.delivered:,} were delivered, {row.recorded:,} recorded")
    records = sum(gap["records"] for gap in c.gaps)
    if c.gaps:
        lines.append(f"{records:,} events in {len(c.gaps)} gaps were not written")
    lines += [f"damaged: {line}" for line in c.damage]
    lines += [f"hook {name} was not there: {why}" for name, why in c.missing_hooks.items()]
    tables = end.get("tables")
    if isinstance(tables, dict):
        lines += [f"{n:,} {printable(str(what))}" for what, n in tables.items() if isinstance(n, int) and n]
    skipped = sum(part.records_skipped for part in found.parts)
    if skipped:
        lines.append(f"{skipped:,} records are of kinds that this version does not know")
    if c.processes_before:
        lines.append(
            f"{c.processes_before:,} processes were there before the watch: how they came about was not seen"
        )
    if c.flows_before:
        lines.append(f"{c.flows_before:,} flows were there before the watch: how they began was not seen")
    return lines
