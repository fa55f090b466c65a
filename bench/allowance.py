# SPDX-License-Identifier: Apache-2.0
"""How long a bench may take. Alone, each does all its rounds; of twenty minutes for all of them each has its part.

What is cut short says so (:func:`remark`), since a median of fewer rounds is worth less.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

#: A median of fewer has no interval that holds it nine times of ten.
LEAST = 5

#: When the time of what is being measured is over, and of what it is a part of.
_ends = [math.inf]
_cut: list[str] = []


@contextmanager
def of(seconds: float) -> Iterator[None]:
    """All that is measured inside has so long."""
    _ends.append(min(time.monotonic() + seconds, _ends[-1]))
    _cut.clear()
    try:
        yield
    finally:
        _ends.pop()


def parts(items: Sequence[T]) -> Iterator[T]:
    """``items`` one after the other, each with an even share of the time that is left."""
    for place, item in enumerate(items):
        now = time.monotonic()
        _ends.append(now + (_ends[-1] - now) / (len(items) - place))
        try:
            yield item
        finally:
            _ends.pop()


def some(items: Sequence[T], what: str, least: int = LEAST) -> Iterator[T]:
    """``items`` as long as there is time, but ``least`` of them in any case. ``what`` they are, in the plural."""
    for place, item in enumerate(items):
        if place >= least and time.monotonic() > _ends[-1]:
            _cut.append(f"{place} of {len(items)} {what}")
            return
        yield item


def rounds(most: int, least: int = LEAST) -> Iterator[int]:
    """0, 1, … as long as there is time."""
    return some(range(most), "rounds", least)


def remark() -> str | None:
    """What was cut short since :func:`of`, if anything."""
    return f"cut short: {', '.join(dict.fromkeys(_cut))}" if _cut else None
