# SPDX-License-Identifier: Apache-2.0
"""All rules as flat arrays of signal masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.detect.facts import FACT_BIT, WORD_BITS, WORDS
from tracer.rules.model import ON, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.model import Group, Rule

I64 = NDArray[np.int64]


class RuleTable(NamedTuple):
    """The compiled rules: one row an alternative, severest first."""

    #: kind of event: ``model.ON``
    on: I64
    #: place of the rule among the rules: an event fires a rule once
    rule: I64
    #: masks, int64[alternatives, WORDS]: every bit of this
    all_of: I64
    #: at least so many bits of this
    any_of: I64
    at_least: I64
    #: and no bit of this
    none_of: I64


def signal_numbers(groups: Sequence[Group]) -> dict[str, int]:
    """The signal number of each group, and of each fact as ``@name``."""
    numbers = {f"@{name}": bit for name, bit in FACT_BIT.items()}
    numbers |= {group.id: WORD_BITS + number for number, group in enumerate(groups)}
    return numbers


def compile_rules(rules: Sequence[Rule], groups: Sequence[Group]) -> tuple[RuleTable, list[tuple[Rule, str]]]:
    """The table, and for each of its rows the rule and the severity it stands for."""
    numbers = signal_numbers(groups)
    rows = [
        (number, alternative)
        for number, rule in enumerate(rules)
        if rule.enabled
        for alternative in rule.alternatives
    ]
    rows.sort(key=lambda row: -SEVERITIES.index(row[1].severity))

    def masks(names: Sequence[tuple[str, ...]]) -> I64:
        table = np.zeros((len(rows), WORDS), dtype=np.int64)
        for row, entries in enumerate(names):
            for name in entries:
                word, bit = divmod(numbers[name], WORD_BITS)
                table[row, word] |= 1 << bit
        return table

    table = RuleTable(
        on=np.array([ON[rules[number].on] for number, _ in rows], dtype=np.int64),
        rule=np.array([number for number, _ in rows], dtype=np.int64),
        all_of=masks([alternative.all for _, alternative in rows]),
        any_of=masks([alternative.any for _, alternative in rows]),
        at_least=np.array([alternative.at_least for _, alternative in rows], dtype=np.int64),
        none_of=masks([alternative.none for _, alternative in rows]),
    )
    return table, [(rules[number], alternative.severity) for number, alternative in rows]
