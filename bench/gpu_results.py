# SPDX-License-Identifier: Apache-2.0
"""What came of bench/gpu_session.sh: ``python bench/gpu_results.py FOLDER`` reads its recording and writes, beside it,

sequence.txt (each ioctl that was the first of its kind, in order), phases.json (calls of the training program by phase), coverage.json
(numbers that have no name), clients.json (as ``vigiles gpu --json``) and summary.txt.
"""

from __future__ import annotations

import bisect
import json
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from tracer.gpu.names import describe
from tracer.kernel import schema
from tracer.record.export import Event, events
from tracer.record.follow import Follower
from tracer.record.reader import in_order
from tracer.report.gpus import Gpus, as_json

_IOCTL, _COUNTS = schema.KIND["EVENT_GPU_IOCTL"], schema.KIND["EVENT_GPU_COUNTS"]
BEFORE = "before"

Kind = tuple[int, int, int]


def phases_of(path: Path) -> tuple[list[int], list[str]]:
    """When each phase began, and its name."""
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [int(row[0]) for row in rows], [row[1] for row in rows]


class Session:
    """One pass over the events of a recording."""

    def __init__(self, folder: Path) -> None:
        self.starts, self.names = phases_of(folder / "phases")
        self.sequence: list[str] = []
        self.by_phase: dict[str, Counter[str]] = defaultdict(Counter)
        self.calls: Counter[Kind] = Counter()
        self._sums: dict[tuple[int, int], Counter[Kind]] = defaultdict(Counter)
        self.trainer: int | None = None
        (parts,) = in_order([folder / "run.vgl"])
        for event in events(parts):
            kind = int(event.record["kind"])
            if kind == _IOCTL:
                self._first(event)
            elif kind == _COUNTS:
                self._summed(event)
        for sums in self._sums.values():
            self.calls.update(sums)

    def _phase(self, ts: int) -> str:
        at = bisect.bisect_right(self.starts, ts) - 1
        return self.names[at] if at >= 0 else BEFORE

    def _first(self, event: Event) -> None:
        e = event.record
        if self.trainer is None:  # whoever comes first
            self.trainer = int(e["tgid"])
        phase = self._phase(int(e["ts"])) if int(e["tgid"]) == self.trainer else "-"
        began = self.starts[0] if self.starts else 0
        when = (int(e["ts"]) - began) / 1e6
        self.sequence.append(f"{when:12.3f} ms  {int(e['tgid']):8}  {phase:8}  {event.detail()}")
        self._add(e, (int(e["family"]), int(e["nr"]), int(e["code"])), 1)

    def _add(self, e: np.void, kind: Kind, count: int) -> None:
        """``count``: so often up to now."""
        sums = self._sums[int(e["tgid"]), int(e["start"])]
        fresh = count - sums[kind]
        if fresh > 0:
            sums[kind] = count
            if int(e["tgid"]) == self.trainer:
                self.by_phase[self._phase(int(e["ts"]) - 1)][describe(*kind)] += fresh

    def _summed(self, event: Event) -> None:
        e = event.record
        there = len(event.tail) // schema.GPU_KIND.itemsize
        now: Counter[Kind] = Counter()
        for k in np.frombuffer(event.tail, schema.GPU_KIND, min(int(e["kinds"]), there)):
            now[int(k["family"]), int(k["nr"]), int(k["code"])] += int(k["count"])
        for kind, count in now.items():
            self._add(e, kind, count)

    def coverage(self) -> dict[str, Any]:
        """How many of the kinds, and of the calls, have a name; which have none."""
        unknown = {kind: count for kind, count in self.calls.items() if is_number(describe(*kind))}
        return {
            "kinds": len(self.calls),
            "kinds_named": len(self.calls) - len(unknown),
            "calls": self.calls.total(),
            "calls_named": self.calls.total() - sum(unknown.values()),
            "unknown": [
                {
                    "family": f,
                    "nr": hex(nr),
                    "code": hex(code),
                    "calls": count,
                    "shown": describe(f, nr, code),
                }
                for (f, nr, code), count in sorted(unknown.items())
            ],
        }


def is_number(text: str) -> bool:
    """Is the last of it no name? ``RM_CONTROL 0x2080a618 NV20_SUBDEVICE_0 PMGR`` names a part of the card, not the call."""
    words = text.replace(" (XFER_CMD)", "").split()
    if words[0] == "RM_CONTROL":
        return len(words) < 3 or words[2].startswith(("NV", "class")) or words[2].endswith("_0")
    return "class" in words or words[-1].startswith("0x")


def steps_of(folder: Path) -> dict[str, Any]:
    """Median step of each round, traced and not; the ratio of the medians of rounds."""
    rounds = {
        how: [json.loads(line)["median_ns"] for line in (folder / f"steps-{how}").read_text().splitlines()]
        for how in ("untraced", "traced")
        if (folder / f"steps-{how}").exists()
    }
    found: dict[str, Any] = {f"{how}_ns": values for how, values in rounds.items()}
    if len(rounds) == 2:
        found["ratio"] = statistics.median(rounds["traced"]) / statistics.median(rounds["untraced"])
    return found


def clients_of(path: Path) -> list[dict[str, Any]]:
    follower, gpus = Follower(path), Gpus()
    gpus.take(follower)
    names = follower.recording.header.gpu_names
    follower.close()
    return [as_json(client, names) for client in gpus.listed()]


def main() -> int:
    """0 if there is something of everything."""
    folder = Path(sys.argv[1])
    session = Session(folder)
    phases = {
        name: dict(session.by_phase[name].most_common())
        for name in (BEFORE, *session.names)
        if session.by_phase[name]
    }
    coverage, steps, clients = session.coverage(), steps_of(folder), clients_of(folder / "run.vgl")
    alerts = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    (folder / "sequence.txt").write_text("\n".join(session.sequence) + "\n")
    for name, said in (("phases", phases), ("coverage", coverage), ("steps", steps), ("clients", clients)):
        (folder / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n")
    lines = ["calls of the training program, by phase:"]
    lines += [f"  {name}: {sum(kinds.values()):,} of {len(kinds)} kinds" for name, kinds in phases.items()]
    lines.append(
        f"named: {coverage['kinds_named']} of {coverage['kinds']} kinds, {coverage['calls_named']:,} of {coverage['calls']:,} calls"
    )
    lines += [f"  no name: {one['shown']} ×{one['calls']}" for one in coverage["unknown"]]
    lines += [
        f"client: {one['client']}, {one['calls']:,} calls, {one['channels']} channels: {one['command']}"
        for one in clients
    ]
    lines += [f"alert: {a['severity']} {a['rule']} {' '.join(a['argv'])}" for a in alerts]
    if "ratio" in steps:
        lines.append(f"a step takes {steps['ratio']:.4f} of the time that it takes untraced")
    (folder / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    missing = [
        name
        for name, there in (("clients", clients), ("ioctls", session.calls), ("alerts", alerts))
        if not there
    ]
    if missing:
        print(f"nothing was seen of: {', '.join(missing)}", file=sys.stderr)
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
