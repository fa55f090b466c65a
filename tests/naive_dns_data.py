# SPDX-License-Identifier: Apache-2.0
"""Names that carry data, in plain Python: every question is kept, and counted anew each time."""

from __future__ import annotations

from dataclasses import dataclass, field

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
class Domain:
    since: int
    #: (name, asked for as something else than an address)
    names: list[tuple[bytes, bool]] = field(default_factory=list)
    told: int = -1


class NaiveDns:
    def __init__(self, limits):
        self.limits = limits
        self.domains = {}

    def ask(self, name, kind, now):
        """The rank of what is told, or None."""
        name = name.lower()
        domain = domain_of(name)
        if not domain or domain == name:
            return None
        found = self.domains.setdefault(domain, Domain(now))
        if found.since + self.limits["window_s"] * SECOND < now:
            found.since, found.names = now, []
        if name in [one for one, _ in found.names[-LATEST:]]:
            return None
        found.names.append((name, kind in ODD))
        rank = self.judge(domain, found.names)
        if rank is None or rank <= found.told:
            return None
        found.told = rank
        return rank

    def judge(self, domain, names):
        labels = [name.removesuffix(domain).split(b".")[:-1] for name, _ in names]
        sizes = [[len(label) for label in one] for one in labels]
        long = sum(size for one in sizes for size in one if size >= self.limits["counted_from"])
        if len(names) < self.limits["names"] or long < self.limits["name_bytes"] * len(names):
            return None
        if 2 * sum(odd for _, odd in names) >= len(names):
            return 2
        longest = sum(max(one) for one in sizes)
        return 1 if longest >= self.limits["label_bytes"] * len(names) else None
