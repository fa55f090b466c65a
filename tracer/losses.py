# SPDX-License-Identifier: Apache-2.0
"""Whether something has been lost since the last look that leaves a gap in what is known of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.kernel import schema

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.kernel.probes import Probes

#: By reason; what these are about is in no table of processes.
_HARMLESS = ("LOSS_SHARE", "LOSS_SPAN", "LOSS_NAME", "LOSS_EFFORT", "LOSS_REASONS")
_REASONS = [number for name, number in schema.LOSS.items() if name not in _HARMLESS]
_KINDS = [schema.KIND[kind] for kind in ("EVENT_FORK", "EVENT_EXEC", "EVENT_EXIT")]


class Losses:
    """Compares with the last look."""

    def __init__(self, probes: Probes, engine: Engine) -> None:
        self._probes = probes
        self._engine = engine
        self._lost = 0
        self._forks_missed = 0

    def left_a_gap(self, counters: np.ndarray[Any, Any]) -> bool:
        """Have births, ends or execs got lost by the probes' ``counters``? Only the kernel's own list helps then."""
        lost = int(counters["lost"][:, _KINDS].sum()) + int(counters["reasons"][:, _REASONS].sum())
        lost += sum(self._probes.misses().values())
        before, self._lost = self._lost, lost
        return lost != before

    def left_out_births(self) -> bool:
        """Have processes turned up that the engine has not seen born? Then they are only to be named."""
        missed = self._engine.table_losses()["forks-missed"]
        before, self._forks_missed = self._forks_missed, missed
        return bool(missed != before)
