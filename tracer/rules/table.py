# SPDX-License-Identifier: Apache-2.0
"""All rules as flat arrays of signal masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.detect.facts import FACT_BIT, FIRST_GROUP, WORD_BITS, WORDS
from tracer.rules.model import ON, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.model import Alternative, Group, Rule

I64 = NDArray[np.int64]

#: A bit that no signal has (63 a word) and that is always taken for there.
NOTHING_ASKED = -1 << 63


class RuleTable(NamedTuple):
    """The compiled rules: one row an alternative; those on one kind of event together, severest first."""

    #: by kind of event (``model.ON``), where its rows begin: they end where the next kind's begin
    first: I64
    #: place of the rule among the rules: an event fires a rule once
    rule: I64
    #: place in ``SEVERITIES``
    severity: I64
    #: all words of ``all_of`` and of ``any_of`` in one each; the latter ``NOTHING_ASKED`` if none need be there
    all_digest: I64
    any_digest: I64
    #: masks, int64[alternatives, WORDS]: every bit of this
    all_of: I64
    #: at least so many bits of this
    any_of: I64
    at_least: I64
    #: and no bit of this
    none_of: I64
    #: by kind of event: does any alternative ask for nothing to be there?
    bare: I64


def signal_numbers(groups: Sequence[Group]) -> dict[str, int]:
    """The signal number of each group, and of each fact as ``@name``."""
    numbers = {f"@{name}": bit for name, bit in FACT_BIT.items()}
    numbers |= {group.id: FIRST_GROUP + number for number, group in enumerate(groups)}
    return numbers


def rows_of(rules: Sequence[Rule]) -> list[tuple[int, Alternative]]:
    """The rows of the table: the place of a rule among ``rules``, and one of its alternatives."""
    rows = [
        (number, alternative)
        for number, rule in enumerate(rules)
        if rule.enabled
        for alternative in rule.alternatives
    ]
    rows.sort(key=lambda row: (ON[rules[row[0]].on], -SEVERITIES.index(row[1].severity)))
    return rows


def masks_of(names: Sequence[Sequence[str]], numbers: dict[str, int]) -> I64:
    """A row of signal words for each list of names: int64[len(names), WORDS]."""
    table = np.zeros((len(names), WORDS), dtype=np.int64)
    for row, entries in enumerate(names):
        for name in entries:
            word, bit = divmod(numbers[name], WORD_BITS)
            table[row, word] |= 1 << bit
    return table


def compile_rules(rules: Sequence[Rule], groups: Sequence[Group]) -> tuple[RuleTable, list[tuple[Rule, str]]]:
    """The table, and for each of its rows the rule and the severity it stands for."""
    numbers = signal_numbers(groups)
    rows = rows_of(rules)
    kinds = [ON[rules[number].on] for number, _ in rows]
    all_of = masks_of([alternative.all for _, alternative in rows], numbers)
    any_of = masks_of([alternative.any for _, alternative in rows], numbers)
    at_least = np.array([alternative.at_least for _, alternative in rows], dtype=np.int64)
    table = RuleTable(
        first=np.searchsorted(kinds, range(max(ON.values()) + 2)).astype(np.int64),
        rule=np.array([number for number, _ in rows], dtype=np.int64),
        severity=np.array(
            [SEVERITIES.index(alternative.severity) for _, alternative in rows], dtype=np.int64
        ),
        all_digest=np.bitwise_or.reduce(all_of, axis=1),
        any_digest=np.where(at_least > 0, np.bitwise_or.reduce(any_of, axis=1), NOTHING_ASKED),
        all_of=all_of,
        any_of=any_of,
        at_least=at_least,
        none_of=masks_of([alternative.none for _, alternative in rows], numbers),
        bare=np.array(
            [
                any(
                    on == kind and not a.all and a.at_least == 0
                    for on, (_, a) in zip(kinds, rows, strict=True)
                )
                for kind in range(max(ON.values()) + 1)
            ],
            dtype=np.int64,
        ),
    )
    return table, [(rules[number], alternative.severity) for number, alternative in rows]
