# SPDX-License-Identifier: Apache-2.0
"""The flow table in plain Python: looks through everything each time room is needed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

IDLE, CARRIED, LASTING, FOUND = range(4)

Process = tuple[int, int]


@dataclass(eq=False)
class NaiveFlow:
    cookie: int
    owner: Process
    rank: int
    heard: int  # since when it stands where it does among its owner's of that rank


@dataclass(eq=False)
class NaiveHolder:
    process: Process
    filed: tuple[int, int]  # least rank, power of two
    since: int


def power_of(count: int) -> int:
    return count.bit_length() - 1


class NaiveFlows:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.flows: dict[int, NaiveFlow] = {}
        self.holders: dict[Process, NaiveHolder] = {}
        self.full = self.forgotten = 0
        self.clock = itertools.count(1)

    def of(self, process: Process) -> list[NaiveFlow]:
        """Its flows, the least telling first."""
        mine = [flow for flow in self.flows.values() if flow.owner == process]
        return sorted(mine, key=lambda flow: (flow.rank, flow.heard))

    def share(self, process: Process) -> int:
        """Of the process, were it to hold one more."""
        return self.capacity // len(self.holders.keys() | {process})

    def _file(self, process: Process) -> None:
        mine = self.of(process)
        if not mine:
            self.holders.pop(process, None)
            return
        filed = mine[0].rank, power_of(len(mine))
        if process not in self.holders or self.holders[process].filed != filed:
            self.holders[process] = NaiveHolder(process, filed, next(self.clock))

    def _poorest(self, lowest: int, ranks: int) -> NaiveFlow | None:
        able = [
            (holder.filed[0], -holder.filed[1], holder.since, holder.process)
            for holder in self.holders.values()
            if holder.filed[0] < ranks and holder.filed[1] >= lowest
        ]
        return self.of(min(able)[3])[0] if able else None

    def whose_turn(self, process: Process) -> NaiveFlow | None:
        mine = self.of(process)
        share = self.share(process)
        if power_of(len(mine)) < power_of(share):
            return self._poorest(power_of(share), FOUND + 1)
        if not mine:
            return self._poorest(0, LASTING)
        if mine[0].rank != IDLE and len(mine) <= share:
            other = self._poorest(power_of(share), CARRIED)
            if other is not None:
                return other
        return mine[0] if mine[0].rank != FOUND else None

    def open(self, cookie: int, process: Process) -> NaiveFlow | None:
        """The flow; None if it found no room."""
        flow = self.flows.get(cookie)
        if flow is not None:
            if flow.owner != process:
                before = flow.owner
                del self.flows[cookie]
                self._file(before)
                self.flows[cookie] = flow
                flow.owner, flow.heard = process, next(self.clock)
                self._file(process)
            return flow
        if len(self.flows) == self.capacity:
            least = self.whose_turn(process)
            if least is None:
                self.full += 1
                return None
            self.forgotten += 1
            self.close(least.cookie)
        flow = self.flows[cookie] = NaiveFlow(cookie, process, IDLE, next(self.clock))
        self._file(process)
        return flow

    def close(self, cookie: int) -> None:
        flow = self.flows.pop(cookie, None)
        if flow is not None:
            self._file(flow.owner)

    def set_rank(self, cookie: int, rank: int) -> None:
        flow = self.flows[cookie]
        if flow.rank != rank or self._last(flow) is not flow:
            flow.rank, flow.heard = rank, next(self.clock)
            self._file(flow.owner)

    def _last(self, flow: NaiveFlow) -> NaiveFlow:
        return [other for other in self.of(flow.owner) if other.rank == flow.rank][-1]
