# SPDX-License-Identifier: Apache-2.0
"""From what NVML says of processes to records for the engine: of those that are the tree's."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tracer import clock
from tracer.duties import Duty
from tracer.engine.processes import NONE, find
from tracer.gpu.nvml_child import (
    CARDS_MAX,
    FAILED,
    NOT_KNOWN_BYTES,
    NOT_KNOWN_PERCENT,
    PASS,
    PROCESSES_MAX,
    USE,
)
from tracer.kernel import cgroup, schema

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.gpu.nvml import Nvml

_KIND = schema.KIND["EVENT_GPU_USE"]
_MEMORY, _UTILISATION = (schema.GPU_USE_FLAG[f"GPU_USE_{name}"] for name in ("MEMORY", "UTILISATION"))
_PERCENT_MAX, _BYTES_MAX = 100 * CARDS_MAX, (1 << 63) - 1
_NS_A_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class GpuUses(Duty):
    """Asks ``nvml`` who uses cards, and ``engine`` who of those is in the tree."""

    name = "nvml"

    def __init__(self, nvml: Nvml, engine: Engine) -> None:
        self._nvml = nvml
        self._engine = engine
        # by pid: when it began; in the last pass, and in this one
        self._before: dict[int, int] = {}
        self._now: dict[int, int] = {}
        self._whole = True  # this pass has left nobody out
        self._left_out = 0

    @property
    def fd(self) -> int | None:
        """Becomes readable when something has been said; None: nothing more will be."""
        return None if self._nvml.ended else self._nvml.fd

    def lost(self) -> Counter[str]:
        """What went wrong, by what."""
        return self._nvml.lost + Counter({"left-out": self._left_out})

    def take(self) -> list[bytes]:
        """Records of what members of the tree use. Who has not been born for the engine yet is in the next pass."""
        found = []
        for what, pid, percent, cards, memory in self._nvml.take():
            if what == USE and (start := self._start_of(pid)) is not None:
                self._now[pid] = start
                found.append(_record(pid, start, percent, cards, memory))
            elif what == FAILED:
                self._whole = False
            elif what == PASS:
                self._left_out += percent
                if self._whole and not percent:
                    found += [
                        _record(*one, 0, 0, 0) for one in self._before.items() if one[0] not in self._now
                    ]
                self._before, self._now, self._whole = self._now, {}, True
        self._nvml.look_out()
        return found

    def _start_of(self, pid: int) -> int | None:
        """When the member of the tree with this pid began."""
        if len(self._now) >= PROCESSES_MAX:
            return None
        processes = self._engine.state.processes
        entry = int(find(processes, pid))
        if entry == NONE:
            return None
        start = int(processes.table[entry]["start"])
        if self._before.get(pid) != start:  # the number may have been given away
            ticks = cgroup.process_start_ticks(pid)
            if ticks is None or ticks != start // _NS_A_TICK:
                return None
        return start


def _record(pid: int, start: int, percent: int, cards: int, memory: int) -> bytes:
    row = np.zeros((), schema.GPU_USE)
    row["kind"], row["size"] = _KIND, schema.GPU_USE.itemsize
    row["ts"], row["tgid"], row["tid"], row["start"] = clock.boottime_ns(), pid, pid, start
    row["cards"] = min(cards, CARDS_MAX)
    if percent != NOT_KNOWN_PERCENT:
        row["utilisation"] = min(percent, _PERCENT_MAX)
        row["use_flags"] |= _UTILISATION
    if memory != NOT_KNOWN_BYTES:
        row["memory"] = min(memory, _BYTES_MAX)
        row["use_flags"] |= _MEMORY
    return row.tobytes()
