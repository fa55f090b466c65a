# SPDX-License-Identifier: Apache-2.0
"""When to ask for a wake-up, and when to look by ourselves."""

from __future__ import annotations

#: A wake-up costs the traced program 2 µs, in a virtual machine up to 13. Under a storm, that many records in such a
#: time, nobody is asked for one. Fewer are taken in as they come, which costs the tree 2 % of a core at most.
STORM, STORM_S = 8, 0.005
#: After a storm, look so long, so often, before going to sleep.
LINGER_S = 0.02
POLL_S = 0.001


class Pace:
    """How fast records come. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._count, self._since = 0, float("-inf")
        self._until = float("-inf")

    def took(self, records: int, now: float) -> None:
        """So many have been taken in."""
        if now - self._since > STORM_S:
            self._count, self._since = 0, now
        self._count += records
        if self._count >= STORM:
            self._until = now + LINGER_S

    def is_storm(self, now: float) -> bool:
        """Do they come so fast that looking costs less than being woken?"""
        return now < self._until
