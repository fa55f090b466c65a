# SPDX-License-Identifier: Apache-2.0
"""What a watch sees to beside its rings: what no probe tells, and has to be asked or listened for.

rounds    whose turn it is
samples   what connections have carried, and processes computed: asked of the probes by the clock

Others live where what they ask does: tracer/footholds/records.py, tracer/gpu/uses.py, tracer/gpu/libraries.py. Which of
them a session has: tracer/session/duties.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter


class Duty(ABC):
    """One such thing. It hands over records for the engine, and has no say in what becomes of them.

    ``name``: of what it has lost, in the summary. ``every_s``: its turn comes so often, None: not by the clock.
    ``follows``: also whenever the engine has taken in what there was, which may have made it ask for something; that
    must cost next to nothing. Whatever it holds is given back by whoever made it.
    """

    name: str
    every_s: float | None = None
    follows: bool = False

    @property
    def fd(self) -> int | None:
        """When this is readable, its turn comes; None: it says nothing, or nothing more."""
        return None

    @abstractmethod
    def take(self) -> list[bytes]:
        """Records of what there is by now. Never waits."""

    def settle(self) -> list[bytes]:
        """The same, but all that can be had, however long it takes: there may be no other turn."""
        return self.take()

    def lost(self) -> Counter[str]:
        """What is missing from the records, by why."""
        return Counter()
