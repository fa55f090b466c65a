# SPDX-License-Identifier: Apache-2.0
"""The automaton over a text that is never in memory as a whole.

A text is walked window by window; the windows overlap by as much as an indicator and what must stand beside
it can take, so that the answer is that of :func:`tracer.rules.scan.scan` over the whole text.

Nearly all bytes of a program begin no indicator. The walk notices when it has nothing in hand but the last
byte, and then looks only for two bytes that some indicator begins with: these look-ups do not depend on each
other, as those of the automaton do, which makes it several times faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.jit import njit
from tracer.rules.scan import holds

if TYPE_CHECKING:
    from tracer.rules.automaton import Automaton

#: Bytes behind an indicator that decide whether it counts: see ``scan.holds``.
AHEAD = 2


class Walk(NamedTuple):
    """An automaton, and what the fast walk needs beside it."""

    automaton: Automaton
    #: two bytes that an indicator begins with: bool[65536], by first * 256 + second
    begins: NDArray[np.bool_]
    #: the last row with at most one byte in hand at which no indicator ends
    shallow: int
    #: bytes of the longest indicator
    longest: int


def walk_of(automaton: Automaton) -> Walk:
    """Prepare the fast walk."""
    count = automaton.class_count
    classes = automaton.classes.astype(np.int64)
    first = automaton.next[:count].astype(np.int64)  # rows, by class, after one byte
    # by the classes of two bytes: has the second led deeper than it would have from the root?
    deeper = automaton.next[first[:, None] + np.arange(count)] != first[None, :]
    # an indicator of one byte ends there, whatever follows
    deeper |= (first >= automaton.first_output)[:, None]
    deeper[0, :] = False
    # states are numbered by depth, those without outputs first
    quiet = first[(first < automaton.first_output) & (first > 0)]
    return Walk(
        automaton=automaton,
        begins=deeper[classes[:, None], classes[None, :]].reshape(-1),
        shallow=int(quiet.max(initial=0)),
        longest=int(automaton.length.max(initial=0)),
    )


@njit
def _note(
    text: NDArray[np.uint8],
    size: int,
    end: int,
    first_end: int,
    where: int,
    walk: Walk,
    row: int,
    signals: NDArray[np.int64],
    places: NDArray[np.int64],
    base: int,
) -> None:
    """Note the indicators of ``row`` that end before ``end``."""
    if end <= first_end:
        return
    automaton = walk.automaton
    state = (row - automaton.first_output) // automaton.class_count
    first = np.int64(automaton.output_start[state])
    for place in range(first, first + automaton.output_count[state]):
        pattern = int(automaton.outputs[place])
        if places[pattern] < 0 and holds(text, 0, size, end, where, automaton.edges, automaton, pattern):
            places[pattern] = base + end
            signals[automaton.word[pattern]] |= automaton.mask[pattern]


@njit
def search(
    text: NDArray[np.uint8],
    size: int,
    first_end: int,
    last_end: int,
    where: int,
    walk: Walk,
    signals: NDArray[np.int64],
    places: NDArray[np.int64],
    base: int,
) -> None:
    """Note the indicators in ``text[:size]`` that end after ``first_end`` and not after ``last_end``.

    ``text`` uint8[::1], ``where`` a bit of ``FIELDS``, ``signals`` int64[n] receives the groups' signals,
    ``places`` int64[patterns] each indicator's first end plus ``base``, where there is -1.
    """
    automaton = walk.automaton
    begins = walk.begins
    size = min(size, text.size)
    last_end = min(last_end, size)
    at = np.int64(0)
    row = np.int64(0)
    while at < last_end:
        if row <= walk.shallow:
            # the last byte alone decides how to go on: go back to it, and look at it with the next
            if row > 0:
                at -= 1
            row = np.int64(0)
            stop = last_end - 1
            while at + 4 <= stop:  # four at a time: none waits for the one before
                a, b, c = np.int64(text[at]), np.int64(text[at + 1]), np.int64(text[at + 2])
                d, e = np.int64(text[at + 3]), np.int64(text[at + 4])
                if (
                    begins[np.uint64(a << 8 | b)]
                    | begins[np.uint64(b << 8 | c)]
                    | begins[np.uint64(c << 8 | d)]
                    | begins[np.uint64(d << 8 | e)]
                ):
                    break
                at += 4
            while at < stop and not begins[np.uint64(np.int64(text[at]) << 8 | np.int64(text[at + 1]))]:
                at += 1
            if at < stop:  # both bytes of the beginning at once: the row is deeper now, or back again
                row = np.int64(automaton.next[np.uint64(row + automaton.classes[text[at]])])
                at += 1
                if row >= automaton.first_output:
                    _note(text, size, int(at), first_end, where, walk, int(row), signals, places, base)
        row = np.int64(automaton.next[np.uint64(row + automaton.classes[text[at]])])
        at += 1
        if row >= automaton.first_output:
            _note(text, size, int(at), first_end, where, walk, int(row), signals, places, base)
