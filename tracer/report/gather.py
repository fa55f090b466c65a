# SPDX-License-Identifier: Apache-2.0
"""From the parts of a recording to its story: one pass, in bounded memory, nothing left out uncounted."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracer.engine.tap import each
from tracer.kernel import schema
from tracer.record import layout
from tracer.record.player import Player
from tracer.record.reader import Recording
from tracer.rules import RuleSet
from tracer.text import decode, printable, shorten

#: Processes that are told one by one. Beyond it those that have ended and did nothing worth telling are counted.
PROCESSES_MAX = 2000
FLOWS_MAX = 2000
BUCKETS = 1200
#: Of the timeline, from above.
LANES = ("execs", "flows", "gpu", "spans")
_ARGUMENTS_MAX = 400
_OPEN_FLOWS_MAX = 200_000
#: Whatever a head says: no recording lasts 36 years.
_LONGEST_NS = 1 << 60

_KIND = schema.KIND
_FORK, _EXEC, _EXIT = _KIND["EVENT_FORK"], _KIND["EVENT_EXEC"], _KIND["EVENT_EXIT"]
_CONNECT, _OPEN, _CLOSE = _KIND["EVENT_CONNECT"], _KIND["EVENT_FLOW_OPEN"], _KIND["EVENT_FLOW_CLOSE"]
_GPU, _COUNTS, _LISTEN = _KIND["EVENT_GPU_IOCTL"], _KIND["EVENT_GPU_COUNTS"], _KIND["EVENT_LISTEN"]
_SPAN = _KIND["EVENT_SPAN"]
_INET = 2
_TRANSPORT = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}
_LANE = {
    _EXEC: "execs",
    _CONNECT: "flows",
    _OPEN: "flows",
    _CLOSE: "flows",
    _GPU: "gpu",
    _COUNTS: "gpu",
    _SPAN: "spans",
}
_ACCEPTED, _LATE = schema.FLOW_FLAG["FLOW_ACCEPTED"], schema.FLOW_FLAG["FLOW_LATE"]

Key = tuple[int, int]


@dataclass(slots=True)
class Process:
    """One process: identity, what it runs, and who came of it and is not told by itself."""

    pid: int
    start: int
    parent: Key | None
    exe: str = ""
    command: str = ""
    began_ns: int = 0
    ended_ns: int | None = None
    status: int | None = None
    flagged: bool = False
    there_before: bool = False
    children: int = 0
    folded: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class FlowRow:
    """All flows of one program to one place, or from it."""

    exe: str
    remote: str
    port: int
    transport: str
    direction: str
    name: str = ""
    count: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0
    first_ns: int = 0
    last_ns: int = 0


class Gathered:
    """What one pass over a recording finds."""

    def __init__(self, parts: list[Recording], rules: RuleSet) -> None:
        self.parts = parts
        self.player = Player(parts, rules, on_records=self._records)
        self.alerts = sorted(self.player.played.alerts_then, key=lambda alert: alert["times_ns"]["hook"])
        self.processes: dict[Key, Process] = {}
        self.processes_seen = 0
        self.processes_before = 0
        self.flows_before = 0
        self.folded = 0
        self.flows: dict[tuple[Any, ...], FlowRow] = {}
        self.flows_left_out: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.began_ns, self.ended_ns = _span(parts, self.alerts)
        self.step_ns = max((self.ended_ns - self.began_ns) // BUCKETS + 1, 1)
        self.lanes = {name: np.zeros(BUCKETS, np.int64) for name in LANES}
        self._open: dict[int, tuple[Any, ...]] = {}
        self._flagged = {
            (row["pid"], row["start_ns"]) for row in self.alerts if row["pid"] is not None and row["start_ns"]
        }
        for _ in self.player.alerts():
            pass  # its alerts are those of today's rules: what is told is what was told

    def _records(self, laid: bytes, kind: int) -> None:
        made = kind != layout.RECORDS
        for raw in each(laid):
            if len(raw) < schema.HEAD.itemsize:
                continue
            number = int(np.frombuffer(raw, schema.HEAD, 1)[0]["kind"])
            form = schema.LAYOUT.get(number)
            if form is None or len(raw) < form.itemsize:
                continue
            e = np.frombuffer(raw, form, 1)[0]
            if not made:
                self.kinds[schema.KIND_NAME[number]] += 1
            lane = _LANE.get(number)
            ts = int(e["ts"])
            if lane is not None:
                self.lanes[lane][min(max((ts - self.began_ns) // self.step_ns, 0), BUCKETS - 1)] += 1
            if number == _FORK:
                self._process(e, (int(e["parent_tgid"]), int(e["parent_start"])), made)
            elif number == _EXEC:
                self._exec(e, raw[form.itemsize :], made)
            elif number == _EXIT:
                self._exit(e)
            elif number in (_CONNECT, _OPEN):
                self._flow(e)
            elif number == _CLOSE:
                self._close(e)

    def _process(self, e: np.void, parent: Key | None, made: bool) -> Process:
        key = int(e["tgid"]), int(e["start"])
        found = self.processes.get(key)
        if found is None:
            if parent is not None and parent not in self.processes:
                parent = None
            found = Process(
                *key, parent, began_ns=int(e["ts"]), flagged=key in self._flagged, there_before=made
            )
            self.processes[key] = found
            self.processes_seen += 1
            self.processes_before += made
            if parent is not None:
                above = self.processes[parent]
                above.children += 1
                found.exe, found.command = above.exe, above.command
        return found

    def _exec(self, e: np.void, tail: bytes, made: bool) -> None:
        parent = (int(e["parent_tgid"]), int(e["parent_start"]))
        found = self._process(e, parent if parent[0] else None, made)
        path_len = int(e["path_len"])
        at = path_len + int(e["name_len"]) + int(e["cwd_len"])
        found.exe = _said(tail[:path_len])
        arguments = tail[at : at + int(e["args_len"])].removesuffix(b"\0").replace(b"\0", b" ")
        found.command = shorten(_said(arguments[: 4 * _ARGUMENTS_MAX]), _ARGUMENTS_MAX)

    def _exit(self, e: np.void) -> None:
        found = self.processes.get((int(e["tgid"]), int(e["start"])))
        if found is None:
            return
        found.ended_ns, found.status = int(e["ts"]), int(e["status"])
        while self._foldable(found) and found.parent in self.processes:
            above = self.processes[found.parent]
            del self.processes[found.pid, found.start]
            self.folded += 1
            above.children -= 1
            above.folded[found.exe] += 1
            above.folded.update(found.folded)
            found = above

    def _foldable(self, p: Process) -> bool:
        over = len(self.processes) > PROCESSES_MAX
        return over and p.ended_ns is not None and not p.flagged and not p.children

    def _flow(self, e: np.void) -> None:
        who = self.processes.get((int(e["tgid"]), int(e["start"])))
        accepted = bool(int(e["flags"]) & _ACCEPTED)
        family, raw = int(e["family"]), e["remote"].tobytes()
        key = (
            who.exe if who else "",
            str(ipaddress.IPv4Address(raw[:4]) if family == _INET else ipaddress.IPv6Address(raw)),
            int(e["local_port"] if accepted else e["remote_port"]),
            _TRANSPORT.get(int(e["protocol"]), str(int(e["protocol"]))),
            "in" if accepted else "out",
        )
        cookie, ts = int(e["cookie"]), int(e["ts"])
        if cookie in self._open:
            return
        self.flows_before += bool(int(e["flags"]) & _LATE)
        if len(self._open) < _OPEN_FLOWS_MAX:
            self._open[cookie] = key
        row = self.flows.get(key)
        if row is None:
            if len(self.flows) >= FLOWS_MAX:
                self.flows_left_out["rows"] += 1
                return
            row = self.flows[key] = FlowRow(*key, first_ns=ts)
        row.name = row.name or _said(self.player.engine.name_of(raw, family, ts))
        row.count += 1
        row.last_ns = ts

    def _close(self, e: np.void) -> None:
        key = self._open.pop(int(e["cookie"]), None)
        row = self.flows.get(key) if key is not None else None
        if row is None:
            self.flows_left_out["ends"] += 1
            return
        row.sent += int(e["sent"])
        row.received += int(e["received"])
        row.failed += bool(e["error"]) and not e["established"]
        row.last_ns = int(e["ts"])


def _said(raw: bytes) -> str:
    return printable(decode(raw))


def _span(parts: list[Recording], alerts: list[dict[str, Any]]) -> tuple[int, int]:
    """When the recording begins and ends, CLOCK_BOOTTIME ns; no alert is outside."""
    first = last = parts[0].header.began_ns
    for part in parts:
        for found in part.of_types(layout.RECORDS, layout.CLOCK, layout.LOSS, layout.END):
            last = max(last, found.head.last_ns)
    hooks = [alert["times_ns"]["hook"] for alert in alerts]
    first, last = min([first, *hooks]), max([last, *hooks])
    return first, min(last, first + _LONGEST_NS)
