# SPDX-License-Identifier: Apache-2.0
"""Which of the indicators and facts that rules ask for were there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.detect.facts import FACT_BIT, WORD_BITS

if TYPE_CHECKING:
    from tracer.engine.engine import Engine

#: Sixteen matches are enough to see why; the rest is counted.
EVIDENCE_MAX = 16


def _matched(found: list[dict[str, str]]) -> dict[str, Any]:
    if not found:
        return {}
    evidence: dict[str, Any] = {"matched": found[:EVIDENCE_MAX]}
    if len(found) > EVIDENCE_MAX:
        evidence["matched_more"] = len(found) - EVIDENCE_MAX
    return evidence


def find(engine: Engine, texts: dict[str, list[bytes]]) -> dict[str, Any]:
    """The indicators in ``texts``, by field."""
    found: list[dict[str, str]] = []
    for where, pieces in texts.items():
        for text in dict.fromkeys(pieces):
            for match in engine.rules.find(where, text):
                row = {"group": match.group, "indicator": match.literal, "in": where}
                if row not in found:
                    found.append(row)
    return _matched(found)


def facts_there(engine: Engine, known: tuple[str, ...]) -> dict[str, Any]:
    """Those of the facts ``known`` that the last event had."""
    signals = [int(word) for word in engine.state.signals[:2]]
    there = [name for name in known if signals[FACT_BIT[name] // WORD_BITS] >> FACT_BIT[name] % WORD_BITS & 1]
    return {"facts": there} if there else {}
