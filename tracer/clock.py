# SPDX-License-Identifier: Apache-2.0
"""From the kernel's clock to the wall's.

Events carry CLOCK_BOOTTIME; people and other logs want UTC. The distance between the two changes
only when somebody sets the wall clock, so it is measured again now and then.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

_SECOND = 1_000_000_000


def boottime_ns() -> int:
    """Now, on the clock that events carry."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_offset_ns() -> int:
    """CLOCK_REALTIME minus CLOCK_BOOTTIME, from the closest of a few readings."""
    best = None
    for _ in range(5):
        before = boottime_ns()
        wall = time.time_ns()
        after = boottime_ns()
        if best is None or after - before < best[0]:
            best = (after - before, wall - (before + after) // 2)
    assert best is not None
    return best[1]


#: Readings of the distance differ by so much without anybody having set the clock.
JITTER_NS = 50_000


def rfc3339(wall_ns: int) -> str:
    """UTC with nanoseconds: 2026-03-01T12:00:00.123456789Z."""
    seconds, fraction = divmod(wall_ns, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
