# SPDX-License-Identifier: Apache-2.0
"""Sessions that are led from outside, in plain Python: every pass is kept, and counted anew each time."""

from __future__ import annotations

from dataclasses import dataclass, field

LEVELS = 3


@dataclass(eq=False)
class Connection:
    owner: int
    watched: int
    address: str
    unresolved: bool
    shell: bool
    opening: int = 0
    #: [got, gave, ran, called, shells], a pass each
    passes: list[list[int]] = field(default_factory=list)
    a_clients: bool = False
    judged: int = 0
    told: int = -1


class NaiveSessions:
    """``parents``: who has forked whom; ``shells``: which of them are shells."""

    def __init__(self, limits, parents):
        self.limits, self.parents = limits, dict(parents)
        self.connections = {}
        self.acts = []
        self.moves = {}
        self.told = []
        self.called = {}

    def line(self, who):
        found = []
        while who is not None and len(found) < LEVELS:
            found.append(who)
            who = self.parents.get(who)
        return found

    def act(self, who, kind, address=None):
        self.acts.append((who, kind))
        if kind == "connect":
            for one in self.line(who):
                self.called[one] = address

    def connect(self, name, connection):
        self.connections[name] = connection
        self.act(connection.owner, "connect", connection.address)

    def move(self, name, got, gave):
        moved = self.moves.setdefault(name, [0, 0])
        moved[0] += got
        moved[1] += gave

    def exchanges(self, connection):
        """(passes of the exchanges, how many came to nothing)."""
        still, patience = self.limits["still"], self.limits["patience"]
        passes = connection.passes
        found, missed, at = [], 0, 0

        def at_rest(number):
            before = passes[max(0, number - still) : number]
            return len(before) == still and not any(any(row[:4]) for row in before)

        while at < len(passes):
            if not (passes[at][0] and at_rest(at)):
                at += 1
                continue
            window = range(at, min(at + patience, len(passes)))
            acted = next((n for n in window if passes[n][2] or passes[n][3]), None)
            if acted is not None:
                found.append(acted)
                at = acted + 1
            elif len(window) < patience:
                break  # it may still act
            else:
                missed += 1
                at += patience
        return found, missed

    def end_pass(self, now):
        news = []
        for name, connection in self.connections.items():
            if connection.a_clients:
                continue
            got, gave = self.moves.get(name, (0, 0))
            line = [kind for who, kind in self.acts if connection.watched in self.line(who)]
            same = self.called.get(connection.watched) == connection.address
            called = 0 if same else line.count("connect")
            connection.passes.append([got, gave, line.count("fork"), called, line.count("shell")])
            found, missed = self.exchanges(connection)
            if not found:
                said = sum(row[1] for row in connection.passes)
                connection.a_clients = said > self.limits["hello_bytes"] + connection.opening
                continue
            enough = max(connection.judged + 1, self.limits["exchanges"])
            if len(found) >= enough and missed * 100 <= len(found) * self.limits["missed_percent"]:
                news.append((connection, found, missed))
        self.moves, self.acts = {}, []
        return [self.judge(now, *one) for one in news]

    def judge(self, now, connection, found, missed):
        rows = [connection.passes[number] for number in found]
        runs = 2 * sum(row[2] > 0 for row in rows) >= len(rows)
        connects = 2 * sum(row[3] > 0 for row in rows) >= len(rows)
        shells = runs and (connection.shell or 2 * sum(row[4] > 0 for row in rows) >= len(rows))
        rank = -1
        if connects:
            rank = 1 if connection.unresolved else 0
        if runs:
            rank = max(rank, 2 if shells and connection.unresolved else 1)
        return connection, rank, len(found), missed
