# SPDX-License-Identifier: Apache-2.0
"""The model of large hosts multiplies as it says; bounds on instructions are kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from bench.instructions import SLACK, beyond, read_bounds
from bench.scale import HOSTS, ROLLOUT, SHARE, Host, first_to_give_way, line, predict

NS = {"fork, exec, exit": 500.0, "connect, open, close": 200.0, "GPU ioctl": 30.0}


def test_a_line_through_points():
    assert line([(0, 3.0), (10, 23.0), (20, 43.0)]) == pytest.approx((3.0, 2.0))


def test_twice_the_rollouts_twice_the_events():
    once, twice = (predict(Host("x", 8, 0, n), NS, (10.0, 0.5)) for n in (100, 200))
    for name in ("events a second", "engine, of one core", "processes", "connections"):
        assert twice[name] == pytest.approx(2 * once[name])
    assert once["engine, of one core"] == pytest.approx(100 * sum(ROLLOUT[n] * NS[n] for n in ROLLOUT) / 1e9)


def test_passes_never_take_more_than_their_share():
    found = [predict(host, NS, (40.0, 2.0)) for host in HOSTS]
    assert all(t["passes, of one core"] <= SHARE for t in found)
    assert found[-1]["seconds between passes"] > found[0]["seconds between passes"] == 0.1


def test_the_nearest_limit_is_named():
    found = predict(Host("x", 8, 0, 100_000), NS, (0.0, 0.001))
    assert first_to_give_way(found, {"processes": 1 << 17, "connections": 1 << 20}).startswith(
        "the table of processes (305%"
    )


def test_every_stream_has_a_bound():
    _, bounds = read_bounds()
    assert beyond(bounds, bounds) == []
    name = next(iter(bounds))
    assert beyond({name: bounds[name] * SLACK + 1}, bounds)[0].startswith(f"{name}: ")
    assert beyond({"another": 1.0}, bounds) == ["another: no bound"]
