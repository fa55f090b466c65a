# SPDX-License-Identifier: Apache-2.0
"""All indicators as one Aho-Corasick automaton in flat arrays.

A state is known by its *row*, the place in ``next`` where its transitions begin, so that a byte costs two
look-ups and an addition: ``row = next[row + classes[byte]]``. States at which an indicator ends come last,
so that a match costs one comparison to notice: ``row >= first_output``. No pointers, no Python objects: the
same arrays are walked by compiled code here and, through maps, by a probe in the kernel.

NumPy alone builds it, level by level: the probes need it before any compiled code has been loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.detect.facts import FIRST_GROUP, WORD_BITS
from tracer.rules.model import (
    BIT_ALNUM,
    BIT_DOT,
    EDGE_ANY,
    EDGE_FILE,
    EDGE_HOST,
    EDGE_NUL,
    EDGE_VALUE,
    EDGE_WORD,
    MATCHES,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.model import Group

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_FOLD = np.arange(256, dtype=np.uint8)
_FOLD[ord("A") : ord("Z") + 1] += 32


class Automaton(NamedTuple):
    """The compiled indicators. A *pattern* is one indicator of one group; its arrays are parallel."""

    #: byte → class, letters of both cases alike: uint8[256]
    classes: U8
    #: byte → what it may stand beside, one bit per ``EDGE_*``: uint8[256]
    edges: U8
    #: the same two for bytes on the wire, where a control byte reads as a dot: that is how a name stands
    #: in a DNS message, a length before each of its labels (RFC 1035, 3.1)
    wire_classes: U8
    wire_edges: U8
    #: row + class → row: int32[states * class_count]
    next: I32
    #: by (row - first_output) / class_count: where in ``outputs`` the patterns that end here begin
    output_start: I32
    #: and how many they are
    output_count: I32
    #: pattern numbers
    outputs: I32
    #: signal word and bit mask of the pattern's group
    word: I64
    mask: I64
    #: fields it is looked for in, as bits
    where: I64
    #: bytes
    length: I64
    #: what must stand before and behind: ``EDGE_*``
    left: I64
    right: I64
    #: where in ``literals`` its exact bytes begin, -1 if case doesn't matter
    exact: I64
    #: bytes of the case-sensitive patterns
    literals: U8
    class_count: int
    #: the first row at which a pattern ends
    first_output: int


def edges() -> U8:
    """For each byte, as bits, which edges it makes."""
    table = np.full(256, 1 << EDGE_ANY, dtype=np.uint8)
    alnum = np.zeros(256, dtype=bool)
    for first, last in ("09", "AZ", "az"):
        alnum[ord(first) : ord(last) + 1] = True
    word, host = alnum.copy(), alnum.copy()
    word[ord("_")] = True
    host[[ord("-"), ord("_")]] = True
    table[alnum] |= 1 << BIT_ALNUM
    table[~word] |= 1 << EDGE_WORD
    table[~host] |= 1 << EDGE_HOST
    table[0] |= 1 << EDGE_NUL | 1 << EDGE_VALUE | 1 << EDGE_FILE
    table[ord("=")] |= 1 << EDGE_VALUE
    table[ord("/")] |= 1 << EDGE_FILE
    table[ord(".")] |= 1 << BIT_DOT
    return table


#: Control bytes that end a line or a word of text more often than they are the length of a label: what
#: stands before them is not taken to go on behind them.
_ENDS_OF_LINES = (ord("\t"), ord("\n"), ord("\r"))


def wire_edges() -> U8:
    """The same for bytes on the wire."""
    table = edges()
    table[1:32] |= 1 << BIT_DOT
    table[list(_ENDS_OF_LINES)] &= 0xFF ^ 1 << BIT_DOT
    return table


def patterns_of(groups: Sequence[Group]) -> list[tuple[Group, str]]:
    """What the automaton's pattern numbers stand for."""
    return [(group, value) for group in groups for value in group.texts]


def compile_groups(groups: Sequence[Group], numbers: Sequence[int] | None = None) -> Automaton:
    """Build the automaton. The n-th group has signal number FIRST_GROUP + n, if ``numbers`` says nothing else.

    The limits (states, outputs, groups) have been checked by :mod:`.load`.
    """
    patterns = patterns_of(groups)
    numbers = range(FIRST_GROUP, FIRST_GROUP + len(groups)) if numbers is None else numbers
    data = [value.encode() for _, value in patterns]
    kinds = [MATCHES[group.match] for group, _ in patterns]
    signal = np.array(
        [n for n, group in zip(numbers, groups, strict=True) for _ in group.texts], dtype=np.int64
    )
    length = np.array([len(item) for item in data], dtype=np.int64)
    sensitive = np.array([group.case for group, _ in patterns], dtype=bool)
    exact = np.where(sensitive, np.cumsum(length * sensitive) - length, -1)

    text = _FOLD[np.frombuffer(b"".join(data), dtype=np.uint8)]
    classes, class_count = _classes(text)
    wire_classes = classes.copy()
    wire_classes[1:32] = classes[ord(".")]
    next_state, fail, ends = _trie(classes[text], length, class_count)
    start, count, outputs, output_of = _outputs(fail, ends)
    # those with outputs go last, each half stays in breadth-first order: the busy rows lie together
    order = np.argsort(output_of >= 0, kind="stable")
    row = np.empty(len(order), dtype=np.int32)
    row[order] = np.arange(len(order), dtype=np.int32) * class_count
    quiet = int(np.count_nonzero(output_of < 0))
    return Automaton(
        classes=classes,
        edges=edges(),
        wire_classes=wire_classes,
        wire_edges=wire_edges(),
        next=row[next_state[order]].reshape(-1),
        output_start=start[output_of[order[quiet:]]],
        output_count=count[output_of[order[quiet:]]],
        outputs=outputs,
        word=signal // WORD_BITS,
        mask=np.int64(1) << signal % WORD_BITS,
        where=np.array([group.fields for group, _ in patterns], dtype=np.int64),
        length=length,
        left=np.array([kind.left for kind in kinds], dtype=np.int64),
        right=np.array([kind.right for kind in kinds], dtype=np.int64),
        exact=exact,
        literals=np.frombuffer(
            bytearray(b"".join(item for item, keep in zip(data, sensitive, strict=True) if keep) or b"\0"),
            dtype=np.uint8,
        ),
        class_count=class_count,
        first_output=quiet * class_count,
    )


def _classes(text: U8) -> tuple[U8, int]:
    """A class for each byte that occurs, 0 for all others; and how many classes that makes."""
    used = np.unique(text)
    classes = np.zeros(256, dtype=np.uint8)
    classes[used] = np.arange(1, len(used) + 1)
    upper = np.arange(ord("A"), ord("Z") + 1)
    classes[upper] = classes[upper + 32]
    return classes, len(used) + 1


def _trie(text: U8, length: I64, class_count: int) -> tuple[I32, I64, I64]:
    """Transitions by state and class, the failure link of each state, the end state of each pattern.

    States are numbered breadth first, the root is 0.
    """
    offset = np.cumsum(length) - length
    state = np.zeros(len(length), dtype=np.int64)
    levels: list[tuple[I64, I64]] = []  # parents and classes of the states of each depth
    states = 1
    for depth in range(int(length.max(initial=0))):
        alive = np.flatnonzero(length > depth)
        keys = state[alive] * class_count + text[offset[alive] + depth]
        fresh, place = np.unique(keys, return_inverse=True)
        state[alive] = states + place
        levels.append((fresh // class_count, fresh % class_count))
        states += len(fresh)

    following: I32 = np.zeros((states, class_count), dtype=np.int32)
    fail = np.zeros(states, dtype=np.int64)
    first = 1
    for depth, (parents, classes) in enumerate(levels):
        here = np.arange(first, first + len(parents))
        if depth:
            # the parent's failure link is shallower than its children: its row is finished
            fail[here] = following[fail[parents], classes]
        following[parents, classes] = here
        first += len(parents)
        # a row starts as its failure link's; the next round puts the children in
        following[here] = following[fail[here]]
    return following, fail, state


def _outputs(fail: I64, ends: I64) -> tuple[I32, I32, I32, I64]:
    """Lists of patterns that end together, and which list each state has (-1: none).

    A state at which no pattern of its own ends shares the list of its failure link.
    """
    own: dict[int, list[int]] = {}
    for pattern, state in enumerate(ends.tolist()):
        own.setdefault(state, []).append(pattern)
    output_of = np.full(len(fail), -1, dtype=np.int64)
    links = fail.tolist()
    shared = [-1] * len(links)
    lists: list[list[int]] = []
    for state in range(1, len(links)):
        shared[state] = shared[links[state]]
        if state in own:
            longer = lists[shared[state]] if shared[state] >= 0 else []
            shared[state] = len(lists)
            lists.append(own[state] + longer)
    output_of[:] = shared
    count = np.array([len(item) for item in lists], dtype=np.int32)
    start = (np.cumsum(count) - count).astype(np.int32)
    outputs = np.array([pattern for item in lists for pattern in item], dtype=np.int32)
    return start, count, outputs, output_of
