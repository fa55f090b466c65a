# SPDX-License-Identifier: Apache-2.0
"""A watch as blocks: all that its engine takes in, in that order, and what was told and lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import numpy.typing as npt

from tracer import clock
from tracer.engine.drain import TAP_PREFIX
from tracer.record import layout
from tracer.record.writer import Block, Writer

if TYPE_CHECKING:
    from tracer.alerts import Alert, Who
    from tracer.record.snapshot import Snapshot
    from tracer.rules import RuleSet
    from tracer.summary import Recorded
    from tracer.triage.report import FileReport

#: A block of records is made of so much, or of what there is when something else has to be told.
BLOCK_BYTES = 1 << 18
#: Cgroups whose names are remembered as written; told twice, the first one counts.
CGROUPS_MAX = 1 << 14
#: So many in a block, where a file begins.
NAMES = 512
#: So much waits for the beginning of a file to be made; then the rest of that is made at once.
HELD_BYTES = 16 << 20
#: Of an alert: which one it is, and what came of it.
OUTCOME = ("rule", "pid", "start_ns", "action", "would", "action_error", "times_ns")
#: In the first record of a tap.
_TS = slice(TAP_PREFIX, TAP_PREFIX + 8)


class Recorder:
    """Sink of a watch and journal of its engine. ``describe``: what rules are, for a RULES block.

    ``before``, set by the watch, hands over what waits in the tap: nothing may overtake it.
    """

    def __init__(self, writer: Writer, describe: Callable[[RuleSet, int], dict[str, Any]]) -> None:
        self.target = "the recording"
        self.failed = 0
        self.before: Callable[[], None] = lambda: None
        self._writer = writer
        self._describe = describe
        self._cgroups: dict[int, str] = {}
        self._clock_ns: int | None = None
        self._judged_by: dict[str, Any] | None = None  # None: as the header says
        self._told_lost: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._turning: Iterator[None] | None = None  # what begins a file, as long as that is not all there
        self._holds = False
        self._held: list[Block] = []  # what comes behind it
        self._held_bytes = 0

    # what the engine takes in

    def records(self, laid: bytes, count: int) -> None:
        """Records from the rings, as they were tapped."""
        if laid:
            first = int.from_bytes(laid[_TS], "little")
            self._put(layout.RECORDS, laid, first, clock.boottime_ns(), count)

    def fed(self, laid: bytes, *, counted: bool) -> None:
        """Records made in user space."""
        self.before()
        self._put(layout.FED, laid)

    def listed(self, tasks: bytes) -> None:
        """The kernel's list of the tree's processes."""
        self.before()
        self._put(layout.TASKS, tasks)

    def unseen(self, before_ns: int) -> None:
        """Who was born before, and is not on the last list, has ended."""
        self._say(layout.UNSEEN, before_ns)

    def judged(self, rules: RuleSet, epoch: int) -> None:
        """What is judged by from here on."""
        self._judged_by = self._describe(rules, epoch)
        self._say(layout.RULES, self._judged_by)

    def file(self, report: FileReport, who: Who) -> None:
        """What has been found in an executed file, and who has executed it; the next thing fed is about it."""
        self._say(
            layout.FILE,
            {
                "path": report.path,
                "facts": sorted(report.facts),
                "groups": sorted(report.groups),
                "evidence": report.to_evidence(),
                "program": asdict(who.program) if who.program else None,
                "ancestry": who.ancestry,
                "span": asdict(who.span) if who.span else None,
            },
        )

    def clock(self, offset_ns: int) -> None:
        """Where the wall clock stands from here on."""
        self._clock_ns = offset_ns
        self._say(layout.CLOCK, offset_ns)

    def cgroup(self, number: int, path: str) -> None:
        """The name of a cgroup, when it is looked up."""
        if len(self._cgroups) >= CGROUPS_MAX:  # a tree may make as many as it likes
            self._cgroups.clear()
        if number not in self._cgroups:
            self._cgroups[number] = path
            self._say(layout.CGROUPS, {number: path})

    # what came of it

    def tell(self, alert: Alert) -> None:
        """An alert, as it is told."""
        self._say(layout.ALERT, alert.to_json())

    def repeat(self, alert: Alert) -> None:
        """One that was not told: a replay must come to know what was done about it."""
        said = alert.to_json()
        self._say(layout.REPEAT, {name: said[name] for name in OUTCOME})

    def losses(self, lost: npt.NDArray[np.int64], reasons: npt.NDArray[np.int64]) -> None:
        """The probes' counters of what was lost, by kind and by reason, whenever they have changed."""
        now = np.concatenate((lost, reasons))
        if not len(self._told_lost):
            self._told_lost = np.zeros_like(now)
        if np.array_equal(now, self._told_lost):
            return
        new = now - self._told_lost
        self._told_lost = now
        kinds = {k: int(new[k]) for k in range(len(lost)) if new[k]}
        why = {r: int(new[len(lost) + r]) for r in range(len(reasons)) if new[len(lost) + r]}
        self._say(layout.LOSS, {"at_ns": clock.boottime_ns(), "kinds": kinds, "reasons": why})

    def end(self, summary: dict[str, Any]) -> None:
        """The watch is over."""
        self._say(layout.END, summary)

    # beginnings and ends of files

    def turn(self, snapshot: Callable[[], Snapshot]) -> None:
        """Begin another file if it is time, with ``snapshot``: what whoever reads that file alone must know.

        That is made piece by piece, by :meth:`go_on`; whatever is put meanwhile waits, and comes behind it.
        """
        if self._turning is None and self._writer.is_due():
            self._turning = self._turn(snapshot())

    def go_on(self) -> bool:
        """Do another piece of what begins a file; True: there is more of it to do."""
        if self._turning is None:
            return False
        if next(self._turning, self) is not self:
            return True
        self._turning, self._holds = None, False
        held, self._held, self._held_bytes = self._held, [], 0
        for block in held:
            self._writer.put(block)
        return False

    def _turn(self, snapshot: Snapshot) -> Iterator[None]:
        yield from snapshot.prepare()
        self.before()
        self._writer.turn()
        self._holds = True
        snapshot.take()
        said: list[tuple[int, Any]] = [(layout.CLOCK, self._clock_ns), (layout.RULES, self._judged_by)]
        names = list(self._cgroups.items())
        said += [(layout.CGROUPS, dict(names[at : at + NAMES])) for at in range(0, len(names), NAMES)]
        yield
        for kind, what in said:
            if what is not None:
                self._writer.put(_block(kind, msgpack.packb(what)))
                yield
        for piece in snapshot.pieces():
            self._writer.put(_block(layout.SNAPSHOT, piece))
            yield

    def _finish_turn(self) -> None:
        """Make what begins a file at once, if it has been begun."""
        while self._holds:
            self.go_on()

    def sums(self) -> Recorded:
        """What was written, and what was not."""
        from tracer.summary import Recorded

        w = self._writer
        return Recorded(w.blocks, w.bytes, w.parts, w.lost_blocks, w.lost_records, w.failure)

    def close(self) -> None:
        """Have all that waits written."""
        self._finish_turn()
        if not self._writer.close():
            self.failed += 1

    def _say(self, kind: int, what: Any) -> None:
        self.before()
        self._put(kind, msgpack.packb(what))

    def _put(self, kind: int, payload: bytes, first_ns: int = 0, last_ns: int = 0, records: int = 0) -> None:
        block = _block(kind, payload, first_ns, last_ns, records)
        if not self._holds:
            self._writer.put(block)
            return
        self._held.append(block)
        self._held_bytes += len(payload)
        if self._held_bytes > HELD_BYTES:
            self._finish_turn()


def _block(kind: int, payload: bytes, first_ns: int = 0, last_ns: int = 0, records: int = 0) -> Block:
    now = last_ns or clock.boottime_ns()
    return Block(kind, payload, first_ns or now, now, records)
