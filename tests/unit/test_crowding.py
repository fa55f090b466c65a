# SPDX-License-Identifier: Apache-2.0
"""Who makes room in a full set of places: against the twin, and what that is good for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_crowding
from naive_crowding import Row

from tracer.detect.crowding import ANYTHING, makes_room

WAYS = naive_crowding.WAYS
SHARE = WAYS // 2
TABLE = np.dtype([("tgid", "i8"), ("start", "i8"), ("worth", "i8"), ("heard", "i8")])
I = np.int64  # noqa: E741


def place(rows: list[Row], asker: tuple[int, int], share: int, nothing: int) -> int:
    """In the second set of a table; the first is somebody else's."""
    table = np.zeros(2 * WAYS, TABLE)
    for at, row in enumerate(rows, WAYS):
        table[at] = (*row.who, row.worth, row.heard)
    about = (I(WAYS), I(WAYS), I(share), I(asker[0]), I(asker[1]))
    found = makes_room(table, *about, table["worth"], table["heard"], I(nothing))
    return found - WAYS if found >= 0 else found


WHO = st.tuples(st.integers(1, 4), st.integers(1, 2))
ROWS = st.lists(
    st.builds(Row, WHO, st.integers(0, 3), st.integers(0, 5)) | st.builds(Row, st.just((9, 9)), st.just(1), st.just(1)),
    min_size=WAYS,
    max_size=WAYS,
)  # fmt: skip
SINGLE = st.permutations([(number, 1) for number in range(1, WAYS + 1)]).flatmap(
    lambda order: st.tuples(*(st.builds(Row, st.just(who), st.integers(0, 3), st.integers(0, 5)) for who in order))
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(ROWS | SINGLE, WHO | st.just((77, 1)), st.sampled_from([1, SHARE]), st.sampled_from([0, 1, ANYTHING]))
def test_agrees_with_the_twin(rows, asker, share, nothing):
    expected = naive_crowding.makes_room(rows, share, asker, None if nothing == ANYTHING else nothing)
    assert place(list(rows), asker, share, nothing) == (-1 if expected is None else expected)


@pytest.mark.parametrize(("has", "blamed"), [(8, False), (9, True)])
def test_nobody_is_blamed_for_his_share(has: int, blamed: bool):
    """Whose rows are worth most of all."""
    rows = [Row((1, 1) if at < has else (10 + at, 1), 9 if at < has else 1, at) for at in range(WAYS)]
    assert (place(rows, (2, 1), SHARE, ANYTHING) < has) == blamed


class Inheriting:
    """A set as tables of what gathers keep it. ``kept``: what each key has gathered since it came in."""

    def __init__(self) -> None:
        self.keys: list[object] = [None] * WAYS
        self.rows = [Row((0, at), 0, 0) for at in range(WAYS)]
        self.kept: dict[object, int] = {}
        self.now = 0

    def gather(self, key: object, who: tuple[int, int], amount: int) -> None:
        self.now += 1
        if key not in self.keys:
            at = naive_crowding.makes_room(self.rows, SHARE, who)
            self.kept.pop(self.keys[at], None)
            self.keys[at], self.rows[at] = key, Row(who, self.rows[at].worth, self.now)
            self.kept[key] = 0
        row = self.rows[self.keys.index(key)]
        row.worth, row.heard = row.worth + amount, self.now
        self.kept[key] += amount


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["its own", "another's", "one each"]).flatmap(
        lambda whose: st.tuples(
            st.just(whose), st.integers(1, {"its own": 6, "another's": 60, "one each": 13}[whose])
        )
    ),
    st.integers(0, 40),
    st.integers(1, 3),
)
def test_what_gathers_more_than_its_share_stays(flooding, before: int, names: int):
    """Its own process must gather seven times as much below new ones to have it forgotten; many, fifteen times; another
    one never can.
    """
    whose, rivals = flooding
    one = Inheriting()
    turn = 0

    def flood(count: int) -> None:
        nonlocal turn
        for _ in range(count):
            turn += 1
            who = {"its own": (1, 1), "another's": (2, 1), "one each": (3, turn)}[whose]
            for _ in range(names):
                one.gather(f"flood {turn}", who, 60)

    flood(before)
    for _ in range(60):
        one.gather("tunnel", (1, 1), 60 * names)
        flood(rivals)
    assert one.kept["tunnel"] >= 32 * 60 * names
