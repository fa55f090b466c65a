# SPDX-License-Identifier: Apache-2.0
"""The relay detector in plain Python: keeps everything that has moved and sums it up anew each time."""

from __future__ import annotations

from dataclasses import dataclass, field

SECOND = 1_000_000_000


@dataclass(eq=False)
class Leg:
    tgid: int
    accepted: bool
    last: int = 0
    #: bytes got and given, packets of either, by pass
    passes: dict[int, list[int]] = field(default_factory=dict)
    told: int = -1

    def of(self, number: int) -> list[int]:
        return self.passes.get(number, [0, 0, 0, 0])


@dataclass(eq=False)
class Pair:
    outer: Leg
    inner: Leg
    first: int
    #: what counts as the first pass: itself and the one before it
    start: list[list[int]] = field(default_factory=list)
    judged: bool = False


class NaiveRelays:
    """``order`` says which of two pairs is judged first; ``severity`` of (inner accepted)."""

    def __init__(self, limits, related, order):
        self.limits, self.related, self.order = limits, related, order
        self.number = 0
        self.legs = {}
        self.moved = ([], [])
        self.pairs = []
        self.told = []

    def move(self, side, key, tgid, accepted, got, gave, got_packets, gave_packets, now):
        key = side, key, tgid, accepted
        leg = self.legs.get(key)
        if leg is None or leg.last + self.limits["window_s"] * SECOND < now:
            leg = self.legs[key] = Leg(tgid, accepted)
        if self.number not in leg.passes:
            leg.passes[self.number] = [0, 0, 0, 0]
            self.moved[side].append(leg)
        row = leg.passes[self.number]
        for place, value in enumerate((got, gave, got_packets, gave_packets)):
            row[place] += value
        leg.last = now

    def rows(self, pair):
        """By pass: what came outside and went on inside, what came inside and went on outside, packets."""
        found = []
        for number in range(pair.first, self.number + 1):
            outer, inner = pair.outer.of(number), pair.inner.of(number)
            if number == pair.first:
                # a leg that stood still in this pass says nothing of the one before
                outer = [
                    a + (b if number in pair.outer.passes else 0)
                    for a, b in zip(outer, pair.outer.of(number - 1), strict=True)
                ]
                inner = [
                    a + (b if number in pair.inner.passes else 0)
                    for a, b in zip(inner, pair.inner.of(number - 1), strict=True)
                ]
            found.append(
                (
                    (outer[0], inner[1], max(outer[2], inner[3])),
                    (outer[1], inner[0], max(outer[3], inner[2])),
                )
            )
        return found

    def fits(self, pair):
        rows = self.rows(pair)
        slack = self.limits["slack_bytes"]
        for way in range(2):
            outside = sum(row[way][0] for row in rows)
            inside = sum(row[way][1] for row in rows)
            packets = sum(row[way][2] for row in rows)
            most = inside + inside * self.limits["overhead_percent"] // 100
            most += packets * self.limits["packet_bytes"] + slack
            came, went = (outside, inside) if way == 0 else (inside, outside)
            before = came - rows[-1][way][0 if way == 0 else 1]
            if way == 0 and (went > came + slack or before > most):
                return False
            if way == 1 and (went > most or before > went + slack):
                return False
        return True

    def rhythm(self, pair, way):
        together = apart = 0
        alone = None
        for row in self.rows(pair):
            outside, inside, _ = row[way]
            if outside and inside:
                together, alone = together + 1, None
                continue
            who = "inside" if inside else "outside" if outside > self.limits["slack_bytes"] else None
            if alone is not None and who not in (None, alone):
                together, alone = together + 1, None
            else:
                apart += alone is not None
                alone = who
        return together, apart

    def is_relay(self, pair):
        rows = self.rows(pair)
        if sum(row[way][1] for row in rows for way in range(2)) < self.limits["bytes"]:
            return False
        outside, inside = (sum(row[1][place] for row in rows) for place in range(2))
        if outside > inside * self.limits["back_times"]:
            return False
        for way in range(2):
            together, apart = self.rhythm(pair, way)
            if together < self.limits["exchanges"] or apart * 100 > together * self.limits["apart_percent"]:
                return False
        changes = amount = 0
        for row in rows:
            now = row[0][1] + row[1][1]
            if now:
                changes += abs(now - amount) * 10 > amount
                amount = now
        return changes >= self.limits["changes"]

    def end_pass(self, now):
        window = self.limits["window_s"] * SECOND

        def alive(pair):
            return (
                pair.outer in self.legs.values()
                and pair.inner in self.legs.values()
                and min(pair.outer.last, pair.inner.last) + window >= now
            )

        self.pairs = [pair for pair in self.pairs if alive(pair) and self.fits(pair)]
        for outer in self.moved[0]:
            for inner in self.moved[1]:
                known = any(pair.outer is outer and pair.inner is inner for pair in self.pairs)
                if known or not (outer.tgid == inner.tgid or self.related(outer.tgid, inner.tgid)):
                    continue
                o, i = outer.of(self.number), inner.of(self.number)
                if (o[0] and i[1]) or (o[1] and i[0]):
                    pair = Pair(outer, inner, self.number)
                    if self.fits(pair):
                        self.pairs.append(pair)
        for pair in sorted((p for p in self.pairs if not p.judged), key=self.order):
            if not self.is_relay(pair):
                continue
            pair.judged = True
            rank = 1 if pair.inner.accepted else 2
            if pair.outer.told < rank:
                pair.outer.told = rank
                self.told.append((now, pair.outer.tgid, rank))
                break
        self.number += 1
        self.moved = ([], [])
