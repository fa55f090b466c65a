# SPDX-License-Identifier: Apache-2.0
"""Pings that carry data, in plain Python: every one is kept, and all are looked through each time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

SECOND = 1_000_000_000
TIME, SHOWN, ASKED = 16, 64, 32
ECHOES = {1: (0, 8), 58: (128, 129)}


@dataclass(eq=False)
class Place:
    since: int
    sent: list[bytes] = field(default_factory=list)
    #: (what has come, how much had been sent by then)
    received: list[tuple[bytes, int]] = field(default_factory=list)
    told: int = -1


class NaivePings:
    def __init__(self, limits):
        self.limits = limits
        self.places = {}

    def ping(self, remote, payload, now, *, received=False, transport=1, kind=8):
        """The rank of what is told, or None."""
        if kind not in ECHOES[transport]:
            return None
        place = self.places.setdefault(remote, Place(now))
        if place.since + self.limits["window_s"] * SECOND < now:
            place.since, place.sent, place.received = now, [], []
        before = self.news(place)
        if received:
            place.received.append((payload, len(place.sent)))
        else:
            place.sent.append(payload)
        carry, answer = self.news(place)
        if (carry, answer) == before:
            return None
        ways = (carry >= self.limits["packets"]) + (answer >= self.limits["packets"])
        if ways <= max(place.told, 0):
            return None
        place.told = ways
        return ways

    def news(self, place):
        tails = [one[TIME : TIME + SHOWN] for one in place.sent]
        tails = [tail for tail in tails if len(tail) >= self.limits["changed_bytes"]]
        changed = [
            sum(a != b for a, b in zip(one, two, strict=False)) for one, two in itertools.pairwise(tails)
        ]
        answers = last = 0
        for payload, by_then in place.received:
            latest = place.sent[max(0, by_then - ASKED) : by_then]
            if any(len(one) == len(payload) and one[TIME:] == payload[TIME:] for one in latest):
                continue
            # of longer ones the time says nothing
            said = payload if len(payload) <= TIME else (len(payload), payload[TIME:])
            answers += said != last
            last = said
        return sum(count >= self.limits["changed_bytes"] for count in changed), answers
