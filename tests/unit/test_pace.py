# SPDX-License-Identifier: Apache-2.0
"""Who is woken, and who looks by itself."""

from __future__ import annotations

from tracer.pace import LINGER_S, STORM, STORM_S, Pace


def play(spacing_s: float, records: int, seconds: float = 1.0) -> tuple[Pace, float]:
    pace, now = Pace(), 100.0
    for _ in range(int(seconds / spacing_s)):
        now += spacing_s
        pace.took(records, now)
    return pace, now


def test_a_tool_call_now_and_then_is_no_storm():
    pace, now = play(spacing_s=0.004, records=3)
    assert not pace.is_storm(now)


def test_many_records_are_a_storm_until_they_have_ceased_for_a_while():
    pace, now = play(spacing_s=0.0001, records=1)
    assert pace.is_storm(now)
    pace.took(0, now + LINGER_S / 2)
    assert pace.is_storm(now + LINGER_S / 2)
    assert not pace.is_storm(now + LINGER_S)


def test_so_are_many_at_once():
    pace = Pace()
    assert not pace.is_storm(0.0)
    pace.took(STORM, 5.0)
    assert pace.is_storm(5.0)


def test_few_records_do_not_add_up():
    pace = Pace()
    for number in range(10 * STORM):
        now = number * STORM_S * 1.1
        pace.took(STORM - 1, now)
        assert not pace.is_storm(now)
