# SPDX-License-Identifier: Apache-2.0
"""Check-ins at even intervals, in plain Python: every one is kept, and the intervals counted anew each time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

MILLISECOND = 1_000_000
LEVELS = 4


@dataclass(eq=False)
class Series:
    #: (when, over a new connection)
    check_ins: list[tuple[int, bool]] = field(default_factory=list)
    carried: list[tuple[int, int]] = field(default_factory=list)
    moved: int = 0
    told: int = -1


class NaiveBeacons:
    """``parents``: who has forked whom."""

    def __init__(self, limits, parents):
        self.limits, self.parents = limits, dict(parents)
        self.alive = set(parents)
        self.series = {}
        self.flows = {}

    def fork(self, child, parent):
        self.parents[child] = parent
        self.alive.add(child)

    def above(self, who):
        who = self.parents[who]
        while who is not None and who not in self.alive:
            who = self.parents[who]
        return who

    def connect(self, cookie, who, place, now):
        above, line = who, []
        while above is not None:
            above = self.above(above)
            line.append(above)
        self.flows[cookie] = {"who": who, "place": place, "began": now, "above": line, "checked": False}

    def is_beacon(self, series):
        count = self.limits["intervals"]
        times = [when for when, _ in series.check_ins]
        steps = [b - a for a, b in itertools.pairwise(times)][-count:]
        if len(steps) < count:
            return None
        mean = sum(steps) // count
        sent, received = (sum(row[way] for row in series.carried) for way in range(2))
        if max(abs(step - mean) for step in steps) * 100 > mean * self.limits["jitter_percent"]:
            return None
        if not 0 < sent <= self.limits["most_bytes"] * len(times):
            return None
        if not 0 < received <= self.limits["most_bytes"] * len(times):
            return None
        if 2 * sum(new for _, new in series.check_ins) > len(times):
            return 1
        return None if sent < self.limits["keep_alive_bytes"] * len(times) else 0

    def carry(self, cookie, sent, received, now, *, ends=False):
        """(process, rank) of what is told, or None."""
        flow = self.flows[cookie]
        if sent + received == 0:
            return None
        fresh, flow["checked"] = not flow["checked"], True
        mine = flow["who"] in self.alive
        line = [flow["who"]] if mine else []
        if mine:
            while len(line) < LEVELS and (above := self.above(line[-1])) is not None:
                line.append(above)
        else:
            found = next((one for one in flow["above"][:5] if one in self.alive), None)
            while found is not None and len(line) < LEVELS:
                line.append(found)
                found = self.above(found)
        for depth, who in enumerate(line):
            series = self.series.setdefault((who, flow["place"]), Series())
            when = flow["began"] if fresh else now
            pause = not series.check_ins or when - series.moved >= self.limits["least_ms"] * MILLISECOND
            series.carried.append((sent, received))
            series.moved = max(series.moved, now)
            begins = fresh or (mine and depth == 0 and sent > 0 and not ends)
            if begins and pause:
                series.check_ins.append((when, fresh))
                rank = self.is_beacon(series)
                if rank is not None and rank > series.told:
                    series.told = rank
                    return who, rank
            if mine and depth == 0 and len(series.check_ins) > 1:
                return None
        return None
