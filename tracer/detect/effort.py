# SPDX-License-Identifier: Apache-2.0
"""Who keeps the processors busy for minutes and asks the system for nothing.

That is what mining is, whatever it is called: as many threads as there are processors, no files, no waiting.
Much else looks like that for a while; what doesn't is a connection outside over which little goes both ways
(:mod:`tracer.detect.thin`), by a program that was not there before. So each is a fact, and rules weigh them.

All that run the same executable one below the other, forks as well as ranks, are a *crew*, named by its topmost
process: sixteen processes with a thread each are one miner. What is ready to run counts as running, or a busy
host would hide it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.legs import SECOND
from tracer.detect.telling import TOLD_FIELD, forget_told
from tracer.jit import njit
from tracer.rules.thresholds import THRESHOLDS

# Places in Efforts.limits
CORES_PERCENT, SECONDS, PAUSE, CALLS, SWITCHES, EXCHANGES, MINUTE_BYTES = range(len(THRESHOLDS["effort"]))
assert list(THRESHOLDS["effort"])[MINUTE_BYTES] == "minute_bytes"

# What is summed up: ns that its processes ran or were ready to, that they ran, pauses, reads and writes
WANTED, RAN, SWITCHED, CALLED = range(4)

CREW = np.dtype(
    [
        ("tgid", "i8"),  # of its head
        ("start", "i8"),
        ("dev", "i8"),  # what it runs
        ("ino", "i8"),
        ("next", "i8"),  # 1 + the entry of the next crew of this pass
        ("pass", "i8"),  # 1 + the pass that the following are of
        ("sums", "i8", (4,)),  # of its processes
        ("wall", "i8"),
        ("cores", "i8"),  # thousandths
        ("threads", "i8"),
        ("flags", "i8"),
        ("huge", "i8"),  # pages
        ("busiest", "i8"),  # entry of the process that wanted most, and how much
        ("most", "i8"),
        ("since", "i8"),  # when it began to be busy; 0: it isn't
        ("last", "i8"),  # when it last was
        ("totals", "i8", (4,)),  # since then
        ("walls", "i8"),
        ("thin", "i8"),  # bit by side: it has a thin connection there
        ("flows", "i8", (3,)),  # and its entry in the table of flows
        TOLD_FIELD,
    ]
)

# Places in Efforts.state
PASSES, FIRST, TOLD, TOLD_FLOW = range(4)


class Efforts(NamedTuple):
    """``crews`` CREW[n], by entry of the process table; ``limits`` int64[7]: the thresholds; ``state`` int64[4]: passes;
    1 + the first crew of this pass; the crew and the flow of which something was told last.
    """

    crews: npt.NDArray[np.void]
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_efforts(processes: int) -> Efforts:
    """Nobody has been busy yet; memory is touched only as it is used."""
    return Efforts(
        np.zeros(processes, CREW), np.zeros(len(THRESHOLDS["effort"]), np.int64), np.zeros(4, np.int64)
    )


@njit
def begin(e: Efforts, head: int, tgid: int, start: int, dev: int, ino: int) -> None:
    """Make the crew at ``head`` ready for this pass, a new one if it was another's."""
    crew = e.crews[head]
    if crew.tgid != tgid or crew.start != start or crew.dev != dev or crew.ino != ino:
        crew.tgid = tgid
        crew.start = start
        crew.dev = dev
        crew.ino = ino
        crew.since = 0
        crew.last = 0
        forget_told(crew)
    elif crew["pass"] == e.state[PASSES] + 1:
        return
    crew["pass"] = e.state[PASSES] + 1
    crew.wall = 0
    crew.cores = 0
    crew.threads = 0
    crew.flags = 0
    crew.huge = 0
    crew.most = -1
    for place in range(4):
        crew.sums[place] = 0
    crew.next = e.state[FIRST]
    e.state[FIRST] = head + 1


@njit
def add(
    e: Efforts, head: int, entry: int, wall: int, ran: int, waited: int, switches: int, calls: int, huge: int,
    cores: int, threads: int, flags: int,
) -> None:  # fmt: skip
    """What the process at ``entry`` has done in this pass counts for the crew at ``head``."""
    crew = e.crews[head]
    wanted = ran + waited
    crew.sums[WANTED] += wanted
    crew.sums[RAN] += ran
    crew.sums[SWITCHED] += switches
    crew.sums[CALLED] += calls
    crew.wall = max(crew.wall, wall)
    crew.cores = max(crew.cores, cores)
    crew.threads += threads
    crew.huge = max(crew.huge, huge)
    crew.flags |= flags
    if wanted > crew.most:
        crew.most = wanted
        crew.busiest = entry


@njit
def is_busy(e: Efforts, head: int) -> bool:
    """Does it keep enough processors busy, in this pass?"""
    crew = e.crews[head]
    cores = max(crew.cores, 1)
    wanted_us, wall_us = crew.sums[WANTED] // 1000, crew.wall // 1000
    return bool(wall_us > 0 and wanted_us * 100_000 >= wall_us * cores * e.limits[CORES_PERCENT])


@njit
def go_on(e: Efforts, head: int, now: int) -> bool:
    """The pass is over: has it been busy for long enough?"""
    crew = e.crews[head]
    if not is_busy(e, head):
        return False
    if crew.last == 0 or crew.last + e.limits[PAUSE] * SECOND < now:
        crew.since = now - crew.wall
        crew.walls = 0
        for place in range(4):
            crew.totals[place] = 0
    crew.last = now
    crew.walls += crew.wall
    for place in range(4):
        crew.totals[place] += crew.sums[place]
    crew.thin = 0
    return bool(now - crew.since >= e.limits[SECONDS] * SECOND)


@njit
def asks_little(e: Efforts, head: int) -> bool:
    """By the processor's second: few reads and writes, few pauses of its own?"""
    crew = e.crews[head]
    seconds = max(crew.totals[RAN] // SECOND, 1)
    return bool(
        crew.totals[CALLED] <= seconds * e.limits[CALLS]
        and crew.totals[SWITCHED] <= seconds * e.limits[SWITCHES]
    )


@njit
def end_pass(e: Efforts) -> None:
    """Nobody has been busy yet in the next one."""
    e.state[PASSES] += 1
    e.state[FIRST] = 0
