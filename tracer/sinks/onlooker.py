# SPDX-License-Identifier: Apache-2.0
"""What a watch takes in, for a screen: who is there and what they are at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer import clock
from tracer.engine import processes as procs
from tracer.report.live import Live

if TYPE_CHECKING:
    from tracer.alerts import Alert
    from tracer.engine.engine import Engine
    from tracer.rules import RuleSet
    from tracer.summary import Summary

#: Of what comes at once, so much is looked at: Python is slower than a storm, and the engine goes first.
LOOKED_AT = 1 << 19


class Onlooker:
    """Observer of a watch, and journal of its engine. ``live``: what there is."""

    one_by_one = False

    def __init__(self, engine: Engine) -> None:
        self.target = "the screen"
        self.failed = 0
        self.live = Live()
        self._engine = engine
        engine.journal = self

    def take(self, tap: bytes) -> None:
        """Records from the rings."""
        self.live.records(tap[:LOOKED_AT])
        self.live.passed_over += max(len(tap) - LOOKED_AT, 0)

    def fed(self, laid: bytes, *, counted: bool) -> None:
        """Records made in user space."""
        self.take(laid)

    def listed(self, tasks: bytes) -> None:
        """The kernel's list of the tree's processes."""

    def unseen(self, before_ns: int) -> None:
        """The engine knows, see :meth:`look`."""

    def judged(self, rules: RuleSet, epoch: int) -> None:
        """Alerts say it."""

    def tell(self, alert: Alert) -> None:
        """One alert."""
        self.live.alert(alert.to_json())

    def close(self) -> None:
        """There is nothing to give back."""

    def finished(self, summary: Summary, *, ended: bool) -> None:
        """The last picture says it."""

    def look(self) -> Live:
        """How it is now. Who is there is the engine's word: it has taken in what was passed over here."""
        p = self._engine.state.processes
        table = p.table[: int(p.state[procs.P_USED])]
        entries = np.flatnonzero(table["state"] == procs.LIVE)
        rows = table[entries]
        keys = list(zip(rows["tgid"].tolist(), rows["start"].tolist(), strict=True))
        self.live.keep_only(set(keys))
        for entry, key in zip(entries.tolist(), keys, strict=True):
            if key not in self.live.processes:
                program = self._engine.describe(entry)
                said = b" ".join(program.argv) or program.exe if program else b""
                self.live.meet(key, said)
        self.live.last_ns = max(self.live.last_ns, clock.boottime_ns())
        return self.live
