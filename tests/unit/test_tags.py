# SPDX-License-Identifier: Apache-2.0
"""Tags of rows: they tell different ones apart, and who makes room is as without them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect import beacons
from tracer.detect.beacons import SECOND, WAYS, find_series, make_beacons
from tracer.detect.crowding import makes_room
from tracer.detect.mixing import mixed
from tracer.detect.tags import all_differ, make_tags, tag_of
from tracer.jit import njit

I = np.int64  # noqa: E741
HASHES = st.integers(0, (1 << 44) - 1)
NOW = 100 * SECOND


@njit
def _tag_of(key: int) -> int:
    return tag_of(key)


@njit
def _mixed(one: int, other: int) -> int:
    return mixed(one, other)


@njit
def _all_differ(tags, home: int, another: int) -> bool:
    return all_differ(tags, home, 16, another)


@given(HASHES)
def test_a_tag_is_one_of_a_used_row(key: int):
    tag = _tag_of(I(key))
    assert 0 < tag < 1 << 31
    assert tag == _tag_of(I(key ^ 0x1FFF))  # the place is told by these


@given(
    st.lists(st.integers(0, 20), min_size=16, max_size=16) | st.permutations(range(16)), st.integers(0, 20)
)
def test_all_differ(here, another: int):
    tags = make_tags(48)
    tags[16:32] = here
    assert _all_differ(tags, I(16), I(another)) == (len({*here, another}) == 17)


WHO = st.tuples(st.integers(1, 30), st.integers(1, 2))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(WHO, st.integers(1, 3), st.integers(1, 5)), min_size=WAYS, max_size=WAYS), WHO)
def test_who_makes_room_is_who_it_was_without_tags(rows, asker):
    b = make_beacons(2 * WAYS)
    for at, (who, visits, moved) in enumerate(rows, WAYS):
        b.series["tgid"][at], b.series["start"][at] = who
        b.owners[at] = _tag_of(_mixed(I(who[0]), I(who[1])))
        b.visits[at], b.moved[at] = visits, moved
    owner = _tag_of(_mixed(I(asker[0]), I(asker[1])))
    found = beacons._makes_room(b, I(WAYS), I(asker[0]), I(asker[1]), I(owner))
    about = (I(WAYS), I(WAYS), I(1), I(asker[0]), I(asker[1]))
    assert found == makes_room(b.series, *about, b.visits, b.moved, I(1))


def test_a_series_is_found_whatever_else_has_its_tag():
    b = make_beacons(WAYS)
    b.limits[beacons.WINDOW] = 3600
    about = [(I(tgid), I(1), I(0), I(5), I(443), I(NOW)) for tgid in range(1, WAYS + 1)]
    places = [find_series(b, *one) for one in about]
    assert sorted(places) == list(range(WAYS))
    b.tags[:] = b.tags[places[3]]
    assert find_series(b, *about[3]) == places[3]


def test_what_is_too_old_makes_room_for_its_like():
    b = make_beacons(WAYS)
    b.limits[beacons.WINDOW] = 60
    about = (I(1), I(1), I(0), I(5), I(443))
    at = find_series(b, *about, I(NOW))
    b.visits[at] = 7
    assert find_series(b, *about, I(NOW + 60 * SECOND)) == at
    assert b.visits[at] == 7
    assert find_series(b, *about, I(NOW + 61 * SECOND)) == at
    assert b.visits[at] == 0
