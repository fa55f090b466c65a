# SPDX-License-Identifier: Apache-2.0
"""Names of addresses and executables seen, as dictionaries."""

from __future__ import annotations

WAYS = 16
SECOND = 1_000_000_000


class NaiveNames:
    """``room``: in which of the table's rows an address may be; what decides who is refused."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], tuple[bytes, int, int]] = {}  # name, end, home
        self.refused = 0

    def learn(self, address: tuple[int, int], home: int, name: bytes, ttl: int, now: int) -> None:
        at_home = [key for key, (_, end, where) in self.kept.items() if where == home and end > now]
        if address not in at_home and len(at_home) >= WAYS:
            self.refused += 1
            return
        end = now + min(max(ttl, 300), 3600) * SECOND
        self.kept[address] = name, end, home

    def find(self, address: tuple[int, int], now: int) -> bytes | None:
        name, end, _ = self.kept.get(address, (b"", 0, 0))
        return name if end > now else None


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
