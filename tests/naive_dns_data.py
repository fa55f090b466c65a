# SPDX-License-Identifier: Apache-2.0
"""Names that carry data, in plain Python: every question is kept, and counted anew each time."""

from __future__ import annotations

from dataclasses import dataclass, field

from naive_crowding import WAYS, Row, makes_room

SECOND = 1_000_000_000
LATEST = 64
ODD = {16, 10, 5, 15, 33, *range(65280, 65536)}


def domain_of(name: bytes) -> bytes:
    """What somebody has registered, of a name in small letters; nothing if that is not to be seen."""
    labels = name.split(b".")
    if len(labels) < 2 or labels[-1] == b"arpa":
        return b""
    country = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return b".".join(labels[-3 if country else -2 :])


@dataclass(eq=False)
class Domain(Row):
    """``worth`` and ``heard``: as those who crowd a set are compared."""

    name: bytes
    since: int
    #: (name, asked for as something else than an address)
    names: list[tuple[bytes, bool]] = field(default_factory=list)
    told: int = -1


class NaiveDns:
    """``homes``: the set that a domain may be in; without it each has one of its own."""

    def __init__(self, limits, homes=None):
        self.limits = limits
        self.homes = homes
        self.sets = {}
        self.dropped = self.forgotten = 0

    def long(self, labels):
        return sum(len(label) for label in labels if len(label) >= self.limits["counted_from"])

    def find(self, domain, size, who, now):
        home = self.homes(domain) if self.homes else domain
        rows = self.sets.setdefault(home, [None] * WAYS)
        window = self.limits["window_s"] * SECOND
        there = next((at for at, row in enumerate(rows) if row and row.name == domain), None)
        if there is not None:
            row = rows[there]
            if row.since + window < now:
                row.since, row.names, row.worth, row.who = now, [], 0, who
            return row
        at = next((at for at, row in enumerate(rows) if row is None or row.heard + window < now), None)
        worth = 0
        if at is None:
            at = makes_room(rows, WAYS // 2, who)
            worth = rows[at].worth
            if worth and not size:
                self.dropped += 1
                return None
            self.forgotten += 1
        rows[at] = Domain(who, worth, now, domain, now)
        return rows[at]

    def ask(self, name, kind, now, who=100):
        """The rank of what is told, or None."""
        name = name.lower()
        domain = domain_of(name)
        if not domain or domain == name:
            return None
        size = self.long(name.removesuffix(domain).split(b".")[:-1])
        found = self.find(domain, size, who, now)
        if found is None:
            return None
        found.heard = now
        if name in [one for one, _ in found.names[-LATEST:]]:
            return None
        found.names.append((name, kind in ODD))
        found.worth += size
        rank = self.judge(domain, found.names)
        if rank is None or rank <= found.told:
            return None
        found.told = rank
        return rank

    def judge(self, domain, names):
        labels = [name.removesuffix(domain).split(b".")[:-1] for name, _ in names]
        long = sum(map(self.long, labels))
        if len(names) < self.limits["names"] or long < self.limits["name_bytes"] * len(names):
            return None
        if 2 * sum(odd for _, odd in names) >= len(names):
            return 2
        longest = sum(max(map(len, one)) for one in labels)
        return 1 if longest >= self.limits["label_bytes"] * len(names) else None
