# SPDX-License-Identifier: Apache-2.0
"""Who is there now and what they are at, from what a watch takes in, or from a recording that is being written."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracer.engine.tap import each
from tracer.kernel import schema
from tracer.record import layout
from tracer.record.follow import Follower
from tracer.text import decode, printable, shorten

#: Alerts that are still shown.
ALERTS_MAX = 200
#: Processes that are known at one time; more are counted.
PROCESSES_MAX = 200_000
_COMMAND_MAX = 300

_KIND = schema.KIND
_FORK, _EXEC, _EXIT = _KIND["EVENT_FORK"], _KIND["EVENT_EXEC"], _KIND["EVENT_EXIT"]
_CONNECT, _OPEN, _CLOSE = _KIND["EVENT_CONNECT"], _KIND["EVENT_FLOW_OPEN"], _KIND["EVENT_FLOW_CLOSE"]
_GPU, _COUNTS = _KIND["EVENT_GPU_IOCTL"], _KIND["EVENT_GPU_COUNTS"]
_SAMPLE, _USE = _KIND["EVENT_FLOW_SAMPLE"], _KIND["EVENT_GPU_USE"]
_KNOWN = schema.GPU_USE_FLAG

Key = tuple[int, int]


@dataclass(slots=True)
class Process:
    """A live process. ``flows``: open ones, by cookie; ``sent``, ``received``: of those that were sampled or have ended;
    ``gpu``: calls; ``busy``, ``held``: percent of a card's time, and bytes of its memory, if NVML has told.
    """

    pid: int
    start: int
    command: str = ""
    flows: set[int] = field(default_factory=set)
    sent: int = 0
    received: int = 0
    gpu: int = 0
    busy: int | None = None
    held: int | None = None
    rules: list[str] = field(default_factory=list)


def use_of(e: np.void) -> tuple[int | None, int | None]:
    """Percent of a card's time and bytes, of a GPU_USE; None: not known."""
    flags = int(e["use_flags"])
    return (
        int(e["utilisation"]) if flags & _KNOWN["GPU_USE_UTILISATION"] else None,
        int(e["memory"]) if flags & _KNOWN["GPU_USE_MEMORY"] else None,
    )


class Live:
    """Takes in what a follower finds."""

    def __init__(self) -> None:
        self.processes: dict[Key, Process] = {}
        self.not_kept = 0
        self.seen = 0
        self.last_ns = 0
        self.alerts: deque[dict[str, Any]] = deque(maxlen=ALERTS_MAX)
        self.by_severity: Counter[str] = Counter()
        self.lost = 0
        self.passed_over = 0  # bytes of records that were not looked at
        self._sampled: set[int] = set()
        self._knows = False  # who was there when the first file begins that is read
        self._by_kind = {
            _FORK: self._fork, _EXEC: self._exec, _EXIT: self._exit, _CONNECT: self._flow, _OPEN: self._flow,
            _CLOSE: self._close, _GPU: self._gpu, _COUNTS: self._counts, _SAMPLE: self._sample, _USE: self._use,
        }  # fmt: skip

    def take(self, follower: Follower) -> int:
        """All that has come since the last call; how many blocks."""
        count = 0
        for found in follower.look():
            count += 1
            kind, recording = found.head.type, follower.recording
            self._knows |= kind == layout.RECORDS
            if kind in (layout.RECORDS, layout.FED) or (kind == layout.SNAPSHOT and not self._knows):
                self.records(recording.payload(found) or b"")
            elif kind == layout.ALERT and (alert := recording.read(found)) is not None:
                self.alert(alert)
            elif kind in (layout.LOSS, layout.GAP) and (said := recording.read(found)) is not None:
                self.lost += said["records"] if kind == layout.GAP else sum(said["kinds"].values())
        return count

    def records(self, laid: bytes) -> None:
        """Records that are laid out as a tap has them."""
        for raw in each(laid):
            if len(raw) < schema.HEAD.itemsize:
                continue
            kind = int(np.frombuffer(raw, schema.HEAD, 1)[0]["kind"])
            form, take = schema.LAYOUT.get(kind), self._by_kind.get(kind)
            if form is None or take is None or len(raw) < form.itemsize:
                continue
            e = np.frombuffer(raw, form, 1)[0]
            self.last_ns = max(self.last_ns, int(e["ts"]))
            take(e, raw[form.itemsize :])

    def _process(self, e: np.void) -> Process | None:
        return self.meet((int(e["tgid"]), int(e["start"])))

    def meet(self, key: Key, said: bytes = b"") -> Process | None:
        """The process by its pid and start, which is new if it is not known; None: there are too many. ``said``: its arguments."""
        found = self.processes.get(key)
        if found is None:
            self.seen += 1
            if len(self.processes) >= PROCESSES_MAX:
                self.not_kept += 1
                return None
            found = self.processes[key] = Process(*key)
        if said:
            found.command = shorten(printable(decode(said[: 4 * _COMMAND_MAX])), _COMMAND_MAX)
        return found

    def _fork(self, e: np.void, _tail: bytes) -> None:
        found = self._process(e)
        above = self.processes.get((int(e["parent_tgid"]), int(e["parent_start"])))
        if found is not None and above is not None and not found.command:
            found.command = above.command

    def _exec(self, e: np.void, tail: bytes) -> None:
        at = int(e["path_len"]) + int(e["name_len"]) + int(e["cwd_len"])
        said = tail[at : at + int(e["args_len"])].removesuffix(b"\0").replace(b"\0", b" ")
        self.meet((int(e["tgid"]), int(e["start"])), said or tail[: int(e["path_len"])])

    def _exit(self, e: np.void, _tail: bytes) -> None:
        self.processes.pop((int(e["tgid"]), int(e["start"])), None)

    def _flow(self, e: np.void, _tail: bytes) -> None:
        found = self._process(e)
        if found is not None:
            found.flows.add(int(e["cookie"]))

    def _sample(self, e: np.void, _tail: bytes) -> None:
        found = self._process(e) if e["cookie"] else None
        if found is not None:
            self._sampled.add(int(e["cookie"]))
            found.sent += int(e["sent"])
            found.received += int(e["received"])

    def _close(self, e: np.void, _tail: bytes) -> None:
        cookie = int(e["cookie"])
        found = self.processes.get((int(e["tgid"]), int(e["start"])))
        sampled = cookie in self._sampled
        self._sampled.discard(cookie)
        if found is None:
            return
        found.flows.discard(cookie)
        if not sampled:  # else most of it has been told
            found.sent += int(e["sent"])
            found.received += int(e["received"])

    def _gpu(self, e: np.void, _tail: bytes) -> None:
        found = self._process(e)
        if found is not None:
            found.gpu += 1

    def _counts(self, e: np.void, tail: bytes) -> None:
        found = self._process(e)
        if found is not None:
            there = len(tail) // schema.GPU_KIND.itemsize
            kinds = np.frombuffer(tail, schema.GPU_KIND, min(int(e["kinds"]), there))
            found.gpu = max(found.gpu, int(kinds["count"].sum()))

    def _use(self, e: np.void, _tail: bytes) -> None:
        found = self.processes.get((int(e["tgid"]), int(e["start"])))
        if found is not None:
            found.busy, found.held = use_of(e)

    def alert(self, alert: dict[str, Any]) -> None:
        """One that has been told."""
        self.alerts.append(alert)
        self.by_severity[alert["severity"]] += 1
        found = self.processes.get((alert["pid"], alert["start_ns"]))
        if found is not None and alert["rule"] not in found.rules:
            found.rules.append(alert["rule"])

    def keep_only(self, live: set[Key]) -> None:
        """Whoever is none of these has ended, though that was not told."""
        for key in self.processes.keys() - live:
            del self.processes[key]

    def rows(self, most: int) -> list[Process]:
        """Those with alerts first, then those that do most, then the youngest."""
        order = sorted(
            self.processes.values(),
            key=lambda p: (bool(p.rules), p.gpu, p.sent + p.received, len(p.flows), p.start),
            reverse=True,
        )
        return order[:most]
