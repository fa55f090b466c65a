# SPDX-License-Identifier: Apache-2.0
"""Who is busy for long, in plain Python: keeps all that was told and sums it up anew each time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

SECOND = 1_000_000_000
RANKS = {"low": 1, "medium": 2, "high": 3}


@dataclass
class Message:
    at: int
    sent: int
    received: int


@dataclass
class Flow:
    tgid: int
    outside: bool
    accepted: bool
    messages: list[Message] = field(default_factory=list)


@dataclass
class Effort:
    tgid: int
    wall_ns: int
    ran_ns: int
    waited_ns: int
    switches: int
    calls: int
    huge_pages: int
    cores: int
    effort_flags: int

    @property
    def wanted(self):
        return self.ran_ns + self.waited_ns


class NaiveEfforts:
    """``crew_of``: the head of each process's crew; ``interpreters``: processes that run one."""

    def __init__(self, limits, crew_of, interpreters):
        self.limits, self.crew_of, self.interpreters = limits, crew_of, interpreters
        self.flows = {}
        self.dead = set()
        self.now = []  # of this pass
        self.passes = defaultdict(list)  # by head: when, what its processes did
        self.ranks = {}
        self.told = []

    def carry(self, cookie, tgid, outside, accepted, sent, received, now):
        flow = self.flows.setdefault(cookie, Flow(tgid, outside, accepted))
        flow.messages.append(Message(now, sent, received))

    def measure(self, effort):
        self.now.append(effort)

    def busy(self, efforts):
        wall, cores = max(e.wall_ns for e in efforts), max(e.cores for e in efforts)
        wanted = sum(e.wanted for e in efforts)
        return wanted // 1000 * 100_000 >= wall // 1000 * cores * self.limits["cores_percent"]

    def since(self, head):
        """Passes since it is busy, and when that began."""
        run = []
        for when, efforts in self.passes[head]:
            if not self.busy(efforts):
                continue
            if run and run[-1][0] + self.limits["pause_s"] * SECOND < when:
                run = []
            run.append((when, efforts))
        return run, run[0][0] - max(e.wall_ns for e in run[0][1])

    def thin(self, flow):
        """Since when, and the exchanges since then."""
        limit = self.limits["minute_bytes"]
        level = 0
        begin, last = flow.messages[0].at, None
        out = back = 0
        for message in flow.messages:
            if last is not None:
                passed = (message.at - last) // 1_000_000
                level = max(level - passed * limit // 60_000, 0)
            last = message.at
            level += message.sent + message.received
            if level > limit:
                level, begin, out, back = limit, message.at, 0, 0
            else:
                out, back = out + (message.sent > 0), back + (message.received > 0)
        return begin, min(out, back), last

    def facts(self, head, efforts, run, since, now):
        seconds = self.limits["seconds"] * SECOND
        found = {"new-file"} if any(e.effort_flags for e in efforts) else set()
        told = [e for _, rows in run for e in rows]
        cpu = max(sum(e.ran_ns for e in told) // SECOND, 1)
        if (
            sum(e.calls for e in told) <= cpu * self.limits["calls"]
            and sum(e.switches for e in told) <= cpu * self.limits["switches"]
        ):
            found.add("few-calls")
        if any(e.huge_pages for e in efforts):
            found.add("huge-pages")
        if max(efforts, key=lambda e: e.wanted).tgid in self.interpreters:
            found.add("by-interpreter")
        for flow in self.flows.values():
            if flow.accepted or flow.tgid in self.dead or self.crew_of[flow.tgid] != head:
                continue
            begin, exchanges, last = self.thin(flow)
            if (
                now - begin >= seconds
                and now - last <= seconds
                and exchanges >= self.limits["exchanges"]
                and last >= since
            ):
                found.add("thin-flow" if flow.outside else "thin-flow-inside")
        return found

    def severity(self, facts):
        machine = "by-interpreter" not in facts
        if {"new-file", "few-calls", "thin-flow"} <= facts and machine:
            return "high"
        if {"new-file", "thin-flow"} <= facts or {"huge-pages", "few-calls", "thin-flow"} <= facts:
            return "medium"
        if {"new-file", "few-calls", "thin-flow-inside"} <= facts and machine:
            return "medium"
        return "low" if {"few-calls", "thin-flow"} <= facts else None

    def end_pass(self, now):
        crews = {}
        for effort in self.now:
            crews.setdefault(self.crew_of[effort.tgid], []).append(effort)
        self.now = []
        for head, efforts in crews.items():
            self.passes[head].append((now, efforts))
        for head, efforts in reversed(crews.items()):
            if not self.busy(efforts):
                continue
            run, since = self.since(head)
            if now - since < self.limits["seconds"] * SECOND:
                continue
            severity = self.severity(self.facts(head, efforts, run, since, now))
            if severity and self.ranks.get(head, 0) < RANKS[severity]:
                self.ranks[head] = RANKS[severity]
                who = max(efforts, key=lambda e: e.wanted).tgid if head in self.dead else head
                self.told.append((now, who, severity))
                break
