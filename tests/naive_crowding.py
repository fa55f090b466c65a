# SPDX-License-Identifier: Apache-2.0
"""Who makes room in a full set of places, in plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

WAYS = 16


@dataclass(eq=False)
class Row:
    """``who``: any value that names a process."""

    who: object
    worth: int
    heard: int


def crowding(rows, share, asker):
    """Whose rows make room; None: nobody's in particular."""
    has = Counter(row.who for row in rows)
    has[asker] += asker in has
    most = max(
        has, key=lambda who: (has[who], who == asker)
    )  # of those that have as many, whose row comes first
    return most if has[most] > share else None


def makes_room(rows, share, asker, nothing=None):
    """The place of the row; None: no row makes room. ``nothing``: None, or what a row may be worth that anybody takes."""
    blamed = crowding(rows, share, asker)
    found = [
        at
        for at, row in enumerate(rows)
        if (row.who == blamed if blamed is not None else nothing is None or row.worth <= nothing)
    ]
    return min(found, key=lambda at: (rows[at].worth, rows[at].heard, at), default=None)
