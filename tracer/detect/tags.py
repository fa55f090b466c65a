# SPDX-License-Identifier: Apache-2.0
"""Which of a few places has the row that is looked for, without a look at each of them.

A row is as long as three lines of a processor's cache, and where a table is larger than that cache a line takes as
long to come as a hundred instructions. So each row has a *tag*: bits of its hash, which lie apart, those of sixteen
places in one line or two. Tags decide nothing: rows whose tags are equal are compared.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tracer.engine.intrinsics import address_at, prefetch
from tracer.jit import inline

#: By row; 0: it was never used.
Tags: TypeAlias = npt.NDArray[np.int32]

_LINE = 64


def make_tags(rows: int) -> Tags:
    """Of a table in which no row is used."""
    return np.zeros(rows, np.int32)


@inline
def tag_of(key: int) -> int:
    """The tag that goes with a hash by ``mixed`` whose low bits, up to 14 of them, say the place; never 0."""
    return key >> 13 & 0x7FFFFFFE | 1


@inline
def all_differ(tags: Tags, home: int, ways: int, another: int) -> bool:
    """Are tags[home:home + ways] and ``another`` all different? Then so is what they were made of."""
    here = tags[home : home + ways]
    equal = 0
    for one in range(ways):
        equal += here[one] == another
        for other in range(ways):
            equal += here[one] == here[other]
    return bool(equal == ways)  # each to itself


@inline
def expect_tagged(rows: npt.NDArray[np.void], size: int, tags: Tags, home: int, ways: int, tag: int) -> None:
    """Rows of ``size`` bytes in rows[home:home + ways] that have this tag will be looked at soon."""
    for at in range(home, home + ways):
        if tags[at] == tag:
            address = address_at(rows, at)
            for line in range(0, size, _LINE):
                prefetch(address + line)
            prefetch(address + size - 1)
