# SPDX-License-Identifier: Apache-2.0
"""The story of a recording as plain data: what every format is made of, and what ``--format json`` prints."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from tracer import __version__, clock
from tracer.incidents import Incident, Part, join
from tracer.record.reader import Recording
from tracer.report.coverage import certify
from tracer.report.gather import FLOWS_MAX, PROCESSES_MAX, Gathered, Process
from tracer.report.references import attack_name, nist, owasp
from tracer.rules import RuleSet
from tracer.rules.model import SEVERITIES
from tracer.text import printable, shorten

#: Alerts that have a mark of their own on the timeline.
MARKS_MAX = 5000
_TEXT_MAX = 2000
#: A watch looks at its losses so often.
_TICK_NS = 250_000_000


def tell(parts: list[Recording], rules: RuleSet) -> dict[str, Any]:
    """Everything about one recording, all its files in order. Strings in it are fit to print, not yet for HTML."""
    found = Gathered(parts, rules)
    header = parts[0].header
    offset = header.wall_offset_ns
    incidents = join(found.alerts)
    by_severity = {name: sum(a["severity"] == name for a in found.alerts) for name in reversed(SEVERITIES)}
    said = {
        "vigiles": __version__,
        "recording": {
            "files": [Path(part.path).name for part in parts],
            "host": header.host,
            "kernel": header.kernel,
            "tree": header.tree,
            "command": header.command,
            "recorded_by": header.vigiles,
            "mode": header.judged_by["mode"],
            "policy": (header.judged_by["policy"] or {}).get("name"),
            "began": clock.rfc3339(found.began_ns + offset),
            "ended": clock.rfc3339(found.ended_ns + offset),
            "seconds": (found.ended_ns - found.began_ns) / 1e9,
        },
        "sums": {
            "events": sum(found.kinds.values()),
            "processes": found.processes_seen,
            "flows": sum(row.count for row in found.flows.values()) + found.flows_left_out["rows"],
            "alerts": by_severity,
            "actions": _actions(found.alerts),
        },
        "incidents": [_incident(number, incident, offset) for number, incident in enumerate(incidents, 1)],
        "timeline": _timeline(found, offset),
        "processes": _processes(found, offset),
        "flows": _flows(found, offset),
        "coverage": _coverage(found, offset),
    }
    told: dict[str, Any] = safe(said)
    return told


def _coverage(found: Gathered, offset: int) -> dict[str, Any]:
    """The certificate, with the times of losses on the wall clock."""
    said = asdict(certify(found))
    for loss in said["losses"]:
        loss["at_ns"] += offset
        loss["from_ns"] = loss["at_ns"] - _TICK_NS
    for gap in said["gaps"]:
        gap["first_ns"] += offset
        gap["last_ns"] += offset
    return said


def safe(value: Any) -> Any:
    """The same with every string in it printable and of a bounded length, keys included."""
    if isinstance(value, str):
        return shorten(printable(value), _TEXT_MAX)
    if isinstance(value, dict):
        return {safe(str(key)): safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [safe(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value


def _actions(alerts: list[dict[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for alert in alerts:
        word = (
            alert["action"]
            if alert["action"] != "none"
            else f"would: {alert['would']}"
            if alert["would"]
            else None
        )
        if word:
            found[word] = found.get(word, 0) + 1
    return found


def _incident(number: int, incident: Incident, offset: int) -> dict[str, Any]:
    attack = dict.fromkeys(t for part in incident.parts for t in part.alert["attack"])
    rules = [part.alert["rule"] for part in incident.parts]
    return {
        "number": number,
        "line": incident.line,
        "severity": incident.severity,
        "began": clock.rfc3339(incident.first_ns + offset),
        "ended": clock.rfc3339(incident.last_ns + offset),
        "alerts": incident.count,
        "parts_left_out": incident.left_out,
        "attack": [{"id": t, "name": attack_name(t)} for t in attack],
        "owasp": list(dict.fromkeys(word for rule in rules for word in owasp(rule))),
        "nist": list(dict.fromkeys(word for rule in rules for word in nist(rule))),
        "parts": [_part(part) for part in incident.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    alert = part.alert
    names = ("time", "rule", "title", "severity", "attack", "pid", "start_ns", "exe", "argv", "cwd", "uid",
             "container", "ancestry", "span", "evidence", "action", "would", "action_error", "latency_us")  # fmt: skip
    return {name: alert.get(name) for name in names} | {"count": part.count, "actions": part.actions}


def _timeline(found: Gathered, offset: int) -> dict[str, Any]:
    marks = [
        {
            "at": alert["times_ns"]["hook"] + offset,
            "severity": alert["severity"],
            "rule": alert["rule"],
            "pid": alert["pid"],
        }
        for alert in found.alerts
    ]
    return {
        "began_ns": found.began_ns + offset,
        "step_ns": found.step_ns,
        "lanes": {name: counts.tolist() for name, counts in found.lanes.items()},
        "marks": marks[:MARKS_MAX],
        "marks_left_out": max(len(marks) - MARKS_MAX, 0),
        "losses": [
            {"at": loss["at_ns"] + offset, "records": sum(loss["kinds"].values())}
            for loss in found.player.played.losses
        ],
        "gaps": [
            {"from": gap["first_ns"] + offset, "to": gap["last_ns"] + offset, "records": gap["records"]}
            for gap in found.player.played.gaps
        ],
    }


def _processes(found: Gathered, offset: int) -> dict[str, Any]:
    """Those that are told one by one, each with the place of its parent; flagged ones and their ancestors first."""
    kept: dict[tuple[int, int], None] = {}
    for key, process in found.processes.items():
        if len(kept) >= PROCESSES_MAX:
            break
        if process.flagged:
            line: list[tuple[int, int]] = []
            at: tuple[int, int] | None = key
            while at in found.processes and at not in kept:
                line.append(at)
                at = found.processes[at].parent
            kept.update(dict.fromkeys(reversed(line)))
    for key, process in found.processes.items():
        if len(kept) >= PROCESSES_MAX:
            break
        if process.parent is None or process.parent in kept:
            kept.setdefault(key)
    rows, place = [], {}
    alerts: dict[tuple[int, int], list[str]] = {}
    for alert in found.alerts:
        rules = alerts.setdefault((alert["pid"], alert["start_ns"]), [])
        if alert["rule"] not in rules:
            rules.append(alert["rule"])
    number = count()
    left = {key: dict(found.processes[key].folded) for key in kept}
    for key, process in found.processes.items():
        if key not in kept and process.parent in left:
            folded = left[process.parent]
            folded[process.exe] = folded.get(process.exe, 0) + 1
    for key in sorted(kept, key=lambda k: (k[1], k[0])):
        place[key] = next(number)
        rows.append(_process(found.processes[key], place, alerts.get(key, []), left[key], offset))
    told = len(rows)
    return {"rows": rows, "seen": found.processes_seen, "left_out": found.processes_seen - told}


def _process(
    p: Process, place: dict[tuple[int, int], int], rules: list[str], folded: dict[str, int], offset: int
) -> dict[str, Any]:
    top = sorted(folded.items(), key=lambda item: -item[1])
    return {
        "pid": p.pid,
        "start_ns": p.start,
        "parent": place.get(p.parent) if p.parent else None,
        "exe": p.exe,
        "command": p.command,
        "began_ns": p.began_ns + offset,
        "ended_ns": p.ended_ns + offset if p.ended_ns is not None else None,
        "status": p.status,
        "before": p.there_before,
        "rules": rules,
        "others": dict(top[:8]),
        "others_more": sum(n for _, n in top[8:]),
    }


def _flows(found: Gathered, offset: int) -> dict[str, Any]:
    rows = sorted(found.flows.values(), key=lambda row: -(row.sent + row.received))
    told = []
    for row in rows:
        said = asdict(row)
        said["first_ns"] += offset
        said["last_ns"] += offset
        told.append(said)
    return {"rows": told, "left_out": found.flows_left_out["rows"], "at_most": FLOWS_MAX}
