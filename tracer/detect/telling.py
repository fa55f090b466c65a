# SPDX-License-Identifier: Apache-2.0
"""What was told of something that is followed for a while: of each rule once, and again when it has got worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.jit import njit
from tracer.rules.table import RuleTable

RULES_TOLD = 4
#: The field for it in whatever is followed: rule << 3 | 1 + rank of the severity, from the front.
TOLD_FIELD = ("told", "i8", (RULES_TOLD,))


@njit
def forget_told(row: Any) -> None:
    """Nothing has been told of it."""
    for place in range(RULES_TOLD):
        row.told[place] = 0


@njit
def is_news(row: Any, rule: int, rank: int) -> bool:
    """Has the rule not been told of it yet, or with less severity? From now on it has."""
    word = rule << 3 | (rank + 1)
    for place in range(RULES_TOLD):
        old = row.told[place]
        if old != 0 and old >> 3 != rule:
            continue
        if old < word:
            row.told[place] = word
        return bool(old < word)
    return True


@njit
def keep_news(row: Any, rules: RuleTable, fired: npt.NDArray[np.int64], count: int) -> int:
    """Of the ``count`` alternatives in ``fired`` leave those that are news of it; how many."""
    left = 0
    for place in range(count):
        alternative = fired[place]
        if is_news(row, rules.rule[alternative], rules.severity[alternative]):
            fired[left] = alternative
            left += 1
    return left
