# SPDX-License-Identifier: Apache-2.0
"""What tests of stateful detectors have in common: an engine with other limits, and what one rule tells."""

from __future__ import annotations

import json

from tracer.engine.engine import Engine
from tracer.evidence import evidence_of
from tracer.rules import RuleSet, load_rules

PACKS = load_rules([])
SECOND = 1_000_000_000


def engine_with(detector: str, processes: int, flows: int, **limits: int) -> Engine:
    """The packs' rules; of ``[thresholds.DETECTOR]``, these numbers in place of theirs."""
    thresholds = {detector: PACKS.thresholds[detector] | limits}
    return Engine(RuleSet(PACKS.groups, PACKS.rules, thresholds=thresholds), processes=processes, flows=flows)


def told_by(rule_id: str, e: Engine, *batches: list[bytes]) -> list[tuple[int, int, str, dict]]:
    """When the rule fired, for whom, how severe, with what evidence, as ``batches`` are taken in one by one."""
    found = []
    for batch in batches:
        for fired in e.feed(batch, count=False):
            for rule, severity in fired.rules:
                if rule.id == rule_id:
                    program = e.describe(fired.entry)
                    evidence = evidence_of(e, fired, program)
                    assert json.loads(json.dumps(evidence)) == evidence
                    found.append((fired.time_ns, program.pid if program else 0, severity, evidence))
    return found


def batched(records: list[bytes], sizes: list[int]) -> list[list[bytes]]:
    """``records`` in batches of these sizes, and one of what is left."""
    batches = []
    for size in sizes:
        batches.append(records[:size])
        records = records[size:]
    return [*batches, records]
