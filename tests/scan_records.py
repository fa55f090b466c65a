# SPDX-License-Identifier: Apache-2.0
"""Records of processes that connect, and what the scans' rule says of them."""

from __future__ import annotations

import json

import records

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.evidence import evidence_of
from tracer.rules import RuleSet, load_rules

PACKS = load_rules([])
SECOND = 1_000_000_000
ENDS = {
    "refused": {"error": 111},
    "unanswered": {"error": 110},
    "unused": {"established": 1},
    "used": {"established": 1, "sent": 9},
}


def engine(**limits: int) -> Engine:
    rules = PACKS
    if limits:
        rules = RuleSet(PACKS.groups, PACKS.rules, thresholds={"scan": PACKS.thresholds["scan"] | limits})
    return Engine(rules, processes=64, flows=64)


def told(e: Engine, *batches: list[bytes]) -> list[tuple[int, int, str, dict]]:
    """Time, process, severity and evidence of what the scans' rule says."""
    found = []
    for batch in batches:
        for fired in e.feed(batch):
            for rule, severity in fired.rules:
                if rule.id == "net.scan":
                    program = e.describe(fired.entry)
                    assert program is not None
                    evidence = evidence_of(e, fired, program)
                    assert json.loads(json.dumps(evidence)) == evidence
                    found.append((fired.time_ns, program.pid, severity, evidence))
    return found


class Tree:
    """Records of processes that connect."""

    def __init__(self) -> None:
        self.records = [synthetic.execute(100, 1, 1, [b"sh"], b"/usr/bin/dash")]
        self.now = 1
        self.cookie = 0

    def fork(self, child: int, parent: int = 100) -> None:
        self.records.append(synthetic.fork(child, parent, self.now))

    def exit(self, who: int) -> None:
        self.records.append(synthetic.exit_(who, self.now))

    def connect(self, who: int, address: str, port: int) -> int:
        self.cookie += 1
        self.records.append(records.connect(address, port, tgid=who, ts=self.now, cookie=self.cookie))
        return self.cookie

    def close(self, who: int, cookie: int, address: str, port: int, end: str, **more: int) -> None:
        more = ENDS[end] | more
        self.records.append(records.close(cookie, address, port, tgid=who, ts=self.now, **more))

    def attempt(self, address: str, port: int, end: str = "refused", *, who: int = 100, **more: int) -> None:
        self.now += 1000
        self.close(who, self.connect(who, address, port), address, port, end, **more)
