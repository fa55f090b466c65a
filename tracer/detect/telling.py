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
def _told_at(row: Any, rule: int) -> int:
    """The place where what was told of the rule stands, or where there is room for it; -1: nowhere."""
    for place in range(RULES_TOLD):
        if row.told[place] == 0 or row.told[place] >> 3 == rule:
            return place
    return -1


@njit
def gravest_news(row: Any, rules: RuleTable, fired: npt.NDArray[np.int64], count: int) -> int:
    """1 + the rank of the severest of the ``count`` alternatives in ``fired`` that is news of it; 0: none is.

    ``fired``: severest first, as :func:`tracer.rules.evaluate.evaluate` leaves it.
    """
    for at in range(count):
        rule, grade = rules.rule[fired[at]], rules.severity[fired[at]] + 1
        place = _told_at(row, rule)
        if place < 0 or row.told[place] < (rule << 3 | grade):
            return grade
    return 0


@njit
def keep_news(row: Any, rules: RuleTable, fired: npt.NDArray[np.int64], count: int) -> int:
    """Of the ``count`` alternatives in ``fired`` leave those that are news of it, which from now on they aren't; how
    many.
    """
    left = 0
    for at in range(count):
        alternative = fired[at]
        rule = rules.rule[alternative]
        word = rule << 3 | (rules.severity[alternative] + 1)
        place = _told_at(row, rule)
        if place >= 0:
            if row.told[place] >= word:
                continue
            row.told[place] = word
        fired[left] = alternative
        left += 1
    return left
