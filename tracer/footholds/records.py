# SPDX-License-Identifier: Apache-2.0
"""From what was written to records for the engine: by whom, if that was one of the tree."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tracer import clock
from tracer.duties import Duty
from tracer.engine.processes import NONE, find, find_recent
from tracer.footholds.packaged import by_packages
from tracer.footholds.watcher import Footholds, Written
from tracer.kernel import cgroup, schema

if TYPE_CHECKING:
    from tracer.engine.engine import Engine

#: A process that has ended is asked for no longer than this: later its pid may have been another's.
_RECENTLY_NS = 10_000_000_000
#: Each process is told of once for each kind of place. Beyond so many, some are told of again.
_TOLD_MAX = 4096
_KIND, _PATH_MAX = schema.KIND["EVENT_FOOTHOLD"], 512
_PACKAGED, _LINKED = (schema.FOOTHOLD_FLAG[f"FOOTHOLD_{name}"] for name in ("PACKAGED", "LINKED"))
_NS_A_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class FootholdRecords(Duty):
    """Asks ``footholds`` what was written, and ``engine`` who that was."""

    name = "footholds"

    def __init__(self, footholds: Footholds, engine: Engine) -> None:
        self._footholds = footholds
        self._engine = engine
        self._told: set[tuple[int, int, int, bool]] = set()
        self._gone = 0

    @property
    def fd(self) -> int:
        """Becomes readable when something has been written."""
        return self._footholds.fd

    def lost(self) -> Counter[str]:
        """What could not be told, by why; ``writer-gone``: whoever wrote had ended, and nobody knew him."""
        return Counter(self._footholds.lost) + Counter({"writer-gone": self._gone})

    def take(self) -> list[bytes]:
        """Records of what members of the tree have written. The rings are to be empty by now."""
        found = []
        for written in self._footholds.take():
            entry = self._writer(written.pid)
            if entry != NONE and (record := self._record(written, entry)) is not None:
                found.append(record)
        return found

    def _writer(self, pid: int) -> int:
        """The entry of whoever has this pid, or had it when it wrote a moment ago."""
        processes = self._engine.state.processes
        ticks = cgroup.process_start_ticks(pid)
        entry = int(find(processes, pid))
        if entry == NONE:  # it may have ended, and nobody have waited for it yet
            entry = int(find_recent(processes, pid, clock.boottime_ns() - _RECENTLY_NS))
        if ticks is None:
            self._gone += entry == NONE
            return entry
        # the same number is not enough: it may have been given away
        same = entry != NONE and int(processes.table[entry]["start"]) // _NS_A_TICK == ticks
        return entry if same else NONE

    def _record(self, written: Written, entry: int) -> bytes | None:
        row = self._engine.state.processes.table[entry]
        tgid, start = int(row["tgid"]), int(row["start"])
        key = tgid, start, written.what, written.linked
        if key in self._told:
            return None
        if len(self._told) >= _TOLD_MAX:
            self._told.clear()
        self._told.add(key)
        path = os.fsencode(written.path)[-_PATH_MAX:]
        record = np.zeros((), schema.FOOTHOLD)
        record["kind"], record["size"] = _KIND, schema.FOOTHOLD.itemsize + len(path)
        record["ts"], record["tgid"], record["tid"], record["start"] = clock.boottime_ns(), tgid, tgid, start
        record["what"], record["path_len"] = written.what, len(path)
        record["foothold_flags"] = (_LINKED if written.linked else 0) | (
            _PACKAGED if int(row["uid"]) == 0 and self._packaged(entry) else 0
        )
        return record.tobytes() + path

    def _packaged(self, entry: int) -> bool:
        programs = [self._engine.describe(at) for at in self._engine.lineage(entry)]
        return by_packages((p.exe, p.argv) for p in programs if p is not None)
