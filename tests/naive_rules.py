# SPDX-License-Identifier: Apache-2.0
"""Twins of the automaton and of the rule table, as plain as can be: every indicator at every place."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from tracer.rules.model import Group, Rule

ALNUM = (string.ascii_letters + string.digits).encode()
SEVERITIES = ["low", "medium", "high", "critical"]


def fold(data: bytes) -> bytes:
    """Small letters, ASCII only."""
    return bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in data)


WIRE = ("sent", "received")


def label_lengths(text: bytes) -> bytes:
    """On the wire a control byte stands for the dot of a name."""
    return bytes(ord(".") if 0 < byte < 32 else byte for byte in text)


def stands_alone(match: str, before: int, after: int, second: int, wire: bool) -> bool:
    """Is this what must stand beside an indicator? ``second`` is the byte behind ``after``; NUL is the end."""
    if match in {"whole", "argument"}:
        return before == 0 and after == 0
    if match == "option":
        return before == 0 and after in b"\0="
    if match == "value":
        return before in b"\0=" and after == 0
    if match == "url":
        return before in b"\0="
    if match == "prefix":
        return before == 0
    if match == "file":
        return before in b"\0/" and after == 0
    if match == "word":
        return before not in ALNUM + b"_" and after not in ALNUM + b"_"
    if match == "domain":
        host = ALNUM + b"-_"
        dot = after == ord(".") or (wire and 0 < after < 32 and after not in b"\t\n\r")
        return before not in host and after not in host and not (dot and second in ALNUM)
    assert match == "substring"
    return True


def find(text: bytes, lo: int, hi: int, field: str, groups: Sequence[Group]) -> set[tuple[int, int]]:
    """Pattern numbers and where in ``text`` they end."""
    inside = text[lo:hi]
    wire = field in WIRE
    found = set()
    number = -1
    for group in groups:
        for value in group.values:
            number += 1
            literal = value.encode()
            if field not in group.where:
                continue
            for start in range(len(inside) - len(literal) + 1):
                here = inside[start : start + len(literal)]
                read = label_lengths(here) if wire else here
                if fold(read) != fold(literal) or (group.case and here != literal):
                    continue
                around = b"\0" + inside + b"\0\0"
                after = start + 1 + len(literal)
                if stands_alone(group.match, around[start], around[after], around[after + 1], wire):
                    found.add((number, lo + start + len(literal)))
    return found


def evaluate(on: str, there: AbstractSet[str], rules: Sequence[Rule]) -> list[tuple[str, str]]:
    """Ids and severities of the rules that hold where ``there`` are the signals, severest first."""
    fired = []
    for rule in rules:
        if not rule.enabled or rule.on != on:
            continue
        severities = [
            SEVERITIES.index(alternative.severity)
            for alternative in rule.alternatives
            if all(name in there for name in alternative.all)
            and sum(name in there for name in alternative.any) >= alternative.at_least
            and not any(name in there for name in alternative.none)
        ]
        if severities:
            fired.append((rule.id, SEVERITIES[max(severities)]))
    return sorted(fired, key=lambda item: -SEVERITIES.index(item[1]))
