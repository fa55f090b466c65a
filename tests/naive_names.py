# SPDX-License-Identifier: Apache-2.0
"""Names of addresses and executables seen, as lists and sets."""

from __future__ import annotations

from dataclasses import dataclass

from naive_crowding import WAYS, Row, makes_room

SECOND = 1_000_000_000


@dataclass(eq=False)
class Named(Row):
    """``worth``: a rule or a policy knows the name."""

    address: tuple[int, int]
    name: bytes
    end: int


class NaiveNames:
    def __init__(self) -> None:
        self.sets: dict[int, list[Named | None]] = {}
        self.seen: set[tuple[int, int]] = set()
        self.refused = self.forgotten = 0

    def learn(
        self, address: tuple[int, int], home: int, name: bytes, ttl: int, now: int, who: int, worth: int
    ) -> None:
        """``home``: the set that the address may be in."""
        rows = self.sets.setdefault(home, [None] * WAYS)
        self.seen.add(address)
        known = [at for at, row in enumerate(rows) if row and row.end > now and row.address == address]
        free = [at for at, row in enumerate(rows) if row is None or row.end <= now]
        at = next(iter(known + free), None)
        if at is None:
            at = makes_room(rows, 1, who, 0)
            row = None if at is None else rows[at]
            if row is None or (row.who == who and row.worth > worth):
                self.refused += 1
                return
            self.forgotten += 1
        rows[at] = Named(who, worth, now, address, name, now + min(max(ttl, 300), 3600) * SECOND)

    def find(self, address: tuple[int, int], now: int) -> bytes | None:
        rows = [row for rows in self.sets.values() for row in rows if row and row.address == address]
        return next((row.name for row in rows if row.end > now), None)


class NaiveFiles:
    def __init__(self, capacity: int, room: int) -> None:
        self.capacity, self.room = capacity, room
        self.known: set[tuple[int, ...]] = set()
        self.waiting: list[tuple[int, ...]] = []
        self.lost = 0

    def note(self, now: int, pid: int, start: int, *identity: int) -> None:
        """``identity``: device, inode, time of change, size."""
        if identity in self.known:
            return
        if len(self.waiting) == self.room:
            self.lost += 1
            return
        if len(self.known) >= self.capacity // 2:
            self.known.clear()
        self.known.add(identity)
        self.waiting.append((pid, start, *identity[:2], now))
