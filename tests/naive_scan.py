# SPDX-License-Identifier: Apache-2.0
"""Who feels his way around inside, in the plainest Python: the twin of tracer/detect/netscan.py."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field

TARGETS_MAX, USED_MAX, LEVELS, SECOND = 32, 32, 6, 1_000_000_000
INSIDE = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "192.168.0.0/16", "fc00::/7")]


@dataclass
class Target:
    address: str
    port: int
    outcome: str
    first: bool


@dataclass
class Series:
    since: int = 0
    last: int = -(1 << 62)
    targets: list[Target] = field(default_factory=list)
    ports: int = 0
    below: bool = False
    shapes: set[str] = field(default_factory=set)
    told: bool = False

    def remove(self, address: str, port: int) -> None:
        found = [n for n, t in enumerate(self.targets) if (t.address, t.port) == (address, port)]
        if not found:
            return
        gone = self.targets[found[0]]
        last = self.targets.pop()
        if last is not gone:
            self.targets[found[0]] = last
        if gone.first:
            for target in self.targets:
                if target.address == address:
                    target.first = True
                    break


class NaiveScans:
    """Is told what happens, says what fires: (who, severity, what is counted)."""

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = limits
        self.parent: dict[int, int | None] = {}
        self.alive: set[int] = set()
        self.above: dict[int, list[int]] = {}
        self.series: dict[tuple[int, str], Series] = {}
        self.used: dict[int, list[tuple[str, int]]] = {}

    def fork(self, child: int, parent: int | None) -> None:
        self.parent[child] = parent
        self.alive.add(child)

    def exit(self, who: int) -> None:
        self.alive.discard(who)

    def connect(self, who: int, cookie: int) -> None:
        self.above[cookie] = self.line(who)[1:]

    def close(
        self, who: int, cookie: int, address: str, port: int, end: str, now: int
    ) -> tuple[int, str, dict[str, object]] | None:
        """``end``: refused, unanswered, unused or used."""
        left = [(n, one) for n, one in enumerate([who, *self.above.pop(cookie, [])]) if one in self.alive]
        if not left:
            return None
        start, nearest = left[0]
        place = self.place(address, port)
        used = self.used.setdefault(who, [])
        line = self.line(nearest)[: LEVELS - start]
        if end == "used":
            for at in self.line(nearest):
                if where := self.place(address, 1):
                    key = "host" if where == "loopback" else address
                    if (at, where) in self.series:
                        self.series[at, where].remove(key, port)
            if self.place(address, 1) and start == 0 and (address, port) not in used:
                used.append((address, port))
                del used[:-USED_MAX]
            return None
        if place is None or (start == 0 and (address, port) in used):
            return None
        key = "host" if place == "loopback" else address
        for number, at in enumerate(line):
            series = self.begin(at, place, now)
            fresh = self.note(series, place, Target(key, port, end, False), below=number + start > 0)
            if fresh and not series.told:
                series.told = True
                for above_it in line[number + 1 :]:
                    if (above_it, place) in self.series:
                        for target in series.targets:
                            self.series[above_it, place].remove(target.address, target.port)
                outcomes = Counter(target.outcome for target in series.targets)
                return (
                    at,
                    "medium" if place == "loopback" else "high",
                    {
                        "targets": len(series.targets),
                        "addresses": len({target.address for target in series.targets}),
                        "ports_of_one": series.ports,
                        "by_descendants": series.below,
                        "seconds": round((series.last - series.since) / 1e9, 3),
                        **{outcome: outcomes[outcome] for outcome in ("refused", "unanswered", "unused")},
                    },
                )
            if series.told:
                return None
        return None

    def line(self, who: int) -> list[int]:
        """The process and those above it that live, as far as it matters."""
        found = [who]
        above = self.parent[who]
        while len(found) < LEVELS and above is not None:
            if above in self.alive:
                found.append(above)
            above = self.parent[above]
        return found

    def place(self, address: str, port: int) -> str | None:
        found = ipaddress.ip_address(address)
        if found.is_loopback:
            return "loopback" if port < self.limits["own_ports_below"] else None
        return "inside" if any(found in network for network in INSIDE) else None

    def begin(self, who: int, place: str, now: int) -> Series:
        window = self.limits["window_s"] * SECOND
        series = self.series.get((who, place))
        if series is None or series.last + window < now:
            series = self.series[who, place] = Series(since=now)
        elif series.since + window < now:
            shapes, told = series.shapes, series.told
            series = self.series[who, place] = Series(since=now, shapes=shapes, told=told)
        series.last = now
        return series

    def note(self, series: Series, place: str, target: Target, *, below: bool) -> set[str]:
        """Which shapes it has since now."""
        same = [t for t in series.targets if t.address == target.address]
        if any(t.port == target.port for t in same):
            return set()
        limit = self.limits["own_ports" if place == "loopback" else "ports"]
        if len(same) >= limit:
            return set()
        target.first = not same
        if len(series.targets) < TARGETS_MAX:
            series.targets.append(target)
        else:
            spare = [n for n, t in enumerate(series.targets) if not t.first and t.address != target.address]
            if not spare:
                return set()
            series.targets[spare[-1]] = target
        series.ports = max(series.ports, len(same) + 1)
        series.below |= below
        reached = set()
        if place == "loopback":
            if len(same) + 1 >= limit:
                reached.add("itself")
        else:
            if len({t.address for t in series.targets}) >= self.limits["addresses"]:
                reached.add("addresses")
            if len(same) + 1 >= limit:
                reached.add("ports")
            if len(series.targets) >= self.limits["targets"]:
                reached.add("block")
        fresh = reached - series.shapes
        series.shapes |= reached
        return fresh
