# SPDX-License-Identifier: Apache-2.0
"""Walk the automaton over a field's bytes: which indicator groups are in it, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.jit import inline, njit
from tracer.rules.model import BIT_ALNUM, BIT_DOT, EDGE_HOST, WHERE_WIRE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracer.rules.automaton import Automaton


@inline
def holds(
    text: NDArray[np.uint8],
    lo: int,
    hi: int,
    end: int,
    where: int,
    edges: NDArray[np.uint8],
    automaton: Automaton,
    pattern: int,
) -> bool:
    """True if what ends before ``end`` is looked for in this field and stands between the right edges.

    Whatever is outside [lo, hi) counts as NUL.
    """
    if automaton.where[pattern] & where == 0:
        return False
    start = end - automaton.length[pattern]
    before = np.int64(text[start - 1]) if start > lo else np.int64(0)
    if (np.int64(edges[before]) >> automaton.left[pattern]) & 1 == 0:
        return False
    after = np.int64(text[end]) if end < hi else np.int64(0)
    right = automaton.right[pattern]
    if (np.int64(edges[after]) >> right) & 1 == 0:
        return False
    # a dot ends a sentence, but not a host name that goes on
    dot = right == EDGE_HOST and end + 1 < hi and (np.int64(edges[after]) >> BIT_DOT) & 1 != 0
    if dot and (np.int64(edges[text[end + 1]]) >> BIT_ALNUM) & 1:
        return False
    exact = automaton.exact[pattern]
    if exact >= 0:
        for offset in range(automaton.length[pattern]):
            if text[start + offset] != automaton.literals[exact + offset]:
                return False
    return True


@njit
def scan(
    text: NDArray[np.uint8],
    lo: int,
    hi: int,
    where: int,
    automaton: Automaton,
    signals: NDArray[np.int64],
) -> None:
    """Set the signal of every group found in ``text[lo:hi]``; reads nothing outside.

    ``text`` uint8[::1], ``where`` one bit of ``FIELDS``, ``signals`` int64[WORDS].
    """
    lo, hi = max(lo, 0), min(hi, text.size)
    wire = where & WHERE_WIRE != 0
    classes = automaton.wire_classes if wire else automaton.classes
    edges = automaton.wire_edges if wire else automaton.edges
    row = np.int64(0)
    for at in range(lo, hi):
        # unsigned, or Numba would look for negative indices at every byte
        row = np.int64(automaton.next[np.uint64(row + classes[text[at]])])
        if row >= automaton.first_output:
            state = (row - automaton.first_output) // automaton.class_count
            first = np.int64(automaton.output_start[state])
            for place in range(first, first + automaton.output_count[state]):
                pattern = int(automaton.outputs[place])
                word = automaton.word[pattern]
                mask = automaton.mask[pattern]
                if signals[word] & mask == 0 and holds(
                    text, lo, hi, at + 1, where, edges, automaton, pattern
                ):
                    signals[word] |= mask


@njit
def matches(
    text: NDArray[np.uint8],
    lo: int,
    hi: int,
    where: int,
    automaton: Automaton,
    found: NDArray[np.int64],
) -> int:
    """As :func:`scan`, but list what was found, for evidence.

    ``found`` int64[n, 2] receives pattern numbers and end offsets in the order of their ends. Returns how
    many there are, at most n: the rest is left out.
    """
    count = 0
    lo, hi = max(lo, 0), min(hi, text.size)
    wire = where & WHERE_WIRE != 0
    classes = automaton.wire_classes if wire else automaton.classes
    edges = automaton.wire_edges if wire else automaton.edges
    row = np.int64(0)
    for at in range(lo, hi):
        row = np.int64(automaton.next[np.uint64(row + classes[text[at]])])
        if row >= automaton.first_output:
            state = (row - automaton.first_output) // automaton.class_count
            first = np.int64(automaton.output_start[state])
            for place in range(first, first + automaton.output_count[state]):
                pattern = int(automaton.outputs[place])
                if holds(text, lo, hi, at + 1, where, edges, automaton, pattern):
                    if count == found.shape[0]:
                        return count
                    found[count, 0] = pattern
                    found[count, 1] = at + 1
                    count += 1
    return count
