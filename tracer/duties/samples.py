# SPDX-License-Identifier: Apache-2.0
"""What connections have carried, and processes computed, since the last time: nothing that happens, so it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from tracer.duties import Duty
from tracer.errors import LoadError

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.kernel.probes import Probes

#: An answer from inside goes out within one sample, or by the next.
SAMPLE_S = 0.1
#: What is looked for lasts for minutes.
EFFORT_S = 1.0


class _Asked(Duty):
    name = "samples"

    def __init__(self, probes: Probes, engine: Engine) -> None:
        self._probes = probes
        self._engine = engine
        self._failed = 0

    def settle(self) -> list[bytes]:
        """Nothing: what has ended the probes have told, and what goes on is judged by two samples."""
        return []

    def lost(self) -> Counter[str]:
        """Passes that there was no memory for."""
        return Counter({"failed": self._failed})

    def _ask(self, iterator: Callable[[], list[bytes]]) -> list[bytes]:
        try:
            return iterator()
        except LoadError:  # no memory for an iterator: what it would have said comes with the next one
            self._failed += 1
            return []


class Samples(_Asked):
    """Asks ``probes`` what all flows have carried, also when the only one has just ended."""

    every_s = SAMPLE_S

    def take(self) -> list[bytes]:
        """FLOW_SAMPLE records."""
        if self._engine.live_flows or self._engine.legs_moved:
            return self._ask(self._probes.samples)
        return []


class Efforts(_Asked):
    """Asks ``probes`` how much all processes have computed, and with whom they have spoken."""

    every_s = EFFORT_S

    def take(self) -> list[bytes]:
        """FLOW_SAMPLE records, then EFFORT records."""
        carried = self._ask(self._probes.samples) if self._engine.live_flows else []
        return carried + self._ask(self._probes.efforts)
