# SPDX-License-Identifier: Apache-2.0
"""Benches share out their time, say what was cut short, and how sure a median is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import __main__ as benches
from bench import allowance
from bench.contenders import median_interval, spread


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(allowance.time, "monotonic", lambda: now[0])
    return now


def test_alone_a_bench_does_everything(clock):
    clock[0] += 1e9
    assert list(allowance.rounds(7)) == list(range(7))
    assert allowance.remark() is None


def test_rounds_end_with_the_time_but_never_before_the_least(clock):
    with allowance.of(10):
        done = 0
        for _ in allowance.rounds(24):
            clock[0] += 1
            done += 1
        assert done == 11
        assert list(allowance.rounds(24, least=3)) == [0, 1, 2]
        assert allowance.remark() == "cut short: 11 of 24 rounds, 3 of 24 rounds"
    with allowance.of(10):
        assert allowance.remark() is None


def test_what_one_part_leaves_is_for_the_others(clock):
    taken = []
    with allowance.of(12):
        for quick in allowance.parts([True, False, False]):
            began = clock[0]
            for _ in allowance.rounds(2 if quick else 100, least=1):
                clock[0] += 0.5
            taken.append(clock[0] - began)
    assert taken == [1.0, 6.0, 5.5]


@pytest.mark.parametrize("late_s", [0, 8])
def test_all_of_them_take_less_than_twenty_minutes_though_each_ends_late(clock, monkeypatch, late_s: int):
    began, ran = clock[0], []

    def take(names: list[str]) -> None:
        ran.extend(names)
        for _ in allowance.rounds(10_000, least=1):
            clock[0] += 1
        clock[0] += late_s

    monkeypatch.setattr(benches, "run", take)
    benches.run_all()
    assert ran == list(benches.SHARES)
    assert 17 * 60 < clock[0] - began < 20 * 60
    assert ran[-2:] == ["scale", "plots"]  # which take what the others have found


def test_the_counted_one_is_not_among_those_that_share():
    assert benches.BENCHES.keys() - benches.SHARES.keys() == {"instructions"}


def test_the_interval_of_a_median():
    # of 24 values, those at places 7 and 18: the chance of six or fewer below the median is 1.1 %
    assert median_interval(range(1, 25)) == (7, 18)
    assert median_interval([3, 1, 2]) == (1, 3)
    assert median_interval([5]) == (5, 5)


@given(st.lists(st.integers(0, 50), min_size=6, max_size=200))
def test_it_is_as_narrow_as_it_may_be(values: list[int]):
    low, high = median_interval(values)
    ordered = sorted(values)
    assert low <= ordered[len(values) // 2] <= high
    # an interval from the k-th to the k-th from the end misses the median in 2 P(fewer than k below it)
    places = [k for k in range(1, len(values) // 2 + 1) if 2 * _fewer(k, len(values)) <= 0.05]
    assert (low, high) == (ordered[places[-1] - 1], ordered[-places[-1]])


def _fewer(k: int, count: int) -> float:
    return sum(math.comb(count, number) for number in range(k)) / 2**count


def test_a_spread_says_of_how_many():
    assert spread([1.0, 2.0, 3.0])["n"] == 3
