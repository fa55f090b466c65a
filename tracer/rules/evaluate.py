# SPDX-License-Identifier: Apache-2.0
"""Which rules hold for a set of signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.detect.facts import WORDS
from tracer.jit import inline, njit
from tracer.rules.table import NOTHING_ASKED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracer.rules.table import RuleTable

_ALWAYS = np.int64(NOTHING_ASKED)


@inline
def _holds(signals: NDArray[np.int64], table: RuleTable, row: int) -> bool:
    """True if alternative ``row`` holds."""
    missing = np.int64(0)
    for word in range(WORDS):
        missing |= table.all_of[row, word] & ~signals[word]
        missing |= table.none_of[row, word] & signals[word]
    if missing != 0:
        return False
    wanted = table.at_least[row]
    for word in range(WORDS):
        bits = table.any_of[row, word] & signals[word]
        while bits != 0 and wanted > 0:
            bits &= bits - 1  # takes the lowest bit away
            wanted -= 1
    return bool(wanted <= 0)


@njit
def evaluate(on: int, signals: NDArray[np.int64], table: RuleTable, fired: NDArray[np.int64]) -> int:
    """Write the alternatives that hold to ``fired``, severest first and one a rule; return how many.

    ``on`` kind of event, ``signals`` int64[WORDS], ``fired`` int64[n]: no more than n are reported, so n is
    the number of rules.
    """
    some = np.int64(0)
    for word in range(WORDS):
        some |= signals[word]
    count = 0
    if some == 0 and table.bare[on] == 0:  # most events: every alternative asks for something
        return count
    seen = some | _ALWAYS
    for row in range(table.first[on], table.first[on + 1]):
        if table.all_digest[row] & ~seen or table.any_digest[row] & seen == 0:  # true of nearly all
            continue
        if not _holds(signals, table, row):
            continue
        again = False
        for place in range(count):
            again |= table.rule[fired[place]] == table.rule[row]
        if not again:
            if count == fired.size:
                return count
            fired[count] = row
            count += 1
    return count
