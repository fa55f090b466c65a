# SPDX-License-Identifier: Apache-2.0
"""Repeats of what a policy does not allow are counted, and none of them gets lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer import repeats
from tracer.alerts import Alert
from tracer.engine.engine import Program
from tracer.policy.compile import ALLOW_RULE, CONNECT_RULE
from tracer.repeats import WINDOW_NS, Repeats
from tracer.respond.responder import Response
from tracer.rules.model import Rule


def alert(
    at: int = 0, rule: str = ALLOW_RULE, exe: bytes = b"/bin/x", action: str = "none", **evidence
) -> Alert:
    program = Program(7, 1, exe, exe, b"/", (exe,), False, 0, 0, 0, 0, True)
    made = Rule(rule, "t", "exec", "medium", (), "", "alert", True, (), "policy", 1)
    line = [(7, exe), (6, b"/bin/sh"), (1, b"/job")]
    return Alert(
        made, "medium", program, line, evidence, at, at, "tree", "host", "", response=Response(action)
    )


def test_the_first_is_told_and_the_others_are_counted():
    seen = Repeats()
    assert seen.is_news(alert(1))
    assert not any(seen.is_news(alert(at)) for at in range(2, 6))
    again = alert(1 + WINDOW_NS)
    assert seen.is_news(again)
    assert again.evidence["repeats"] == 4
    assert not list(seen.remaining()), "nothing has come since"
    last = [alert(at) for at in (1, 2, 3, 4)]
    assert [seen.is_news(one) for one in last] == [True, False, False, False]
    assert list(seen.remaining()) == [last[-1]]
    assert last[-1].evidence["repeats"] == 2, "the first and this one are told"


@pytest.mark.parametrize(
    "other",
    [
        {"exe": b"/bin/y"},
        {"rule": CONNECT_RULE},
        {"action": "killed"},
        {"remote_address": "192.0.2.1"},
        {"remote_port": 4},
        {"local_port": 4},
    ],
)
def test_what_differs_is_news(other):
    seen = Repeats()
    assert seen.is_news(alert(1))
    assert seen.is_news(alert(2, **other))
    assert not seen.is_news(alert(3, **other))


def test_another_parent_is_news():
    seen = Repeats()
    assert seen.is_news(alert(1))
    assert seen.is_news(replace(alert(2), ancestry=[(7, b"/bin/x"), (1, b"/job")]))


def test_rules_of_packs_are_told_every_time():
    seen = Repeats()
    assert all(seen.is_news(alert(at, rule="miner.command")) for at in range(1000))
    assert not list(seen.remaining())


def test_whoever_makes_many_different_ones_is_told_of_all(monkeypatch):
    monkeypatch.setattr(repeats, "KEPT_MAX", 8)
    seen = Repeats()
    assert all(seen.is_news(alert(1, remote_port=port)) for port in range(20))
    assert not seen.is_news(alert(2, remote_port=0)), "those that are remembered stay so"
    assert all(seen.is_news(alert(2, remote_port=19)) for _ in range(3))
    # when their time is over, those that have not come again make room; what has come again is not forgotten
    later = 2 + 2 * WINDOW_NS
    assert seen.is_news(alert(later, remote_port=19))
    assert not seen.is_news(alert(later, remote_port=19))
    again = alert(later, remote_port=0)
    assert seen.is_news(again)
    assert again.evidence["repeats"] == 1


@given(st.lists(st.tuples(st.integers(0, WINDOW_NS), st.integers(0, 3)), max_size=60))
def test_every_one_is_told_or_counted(steps):
    seen, now, told, made = Repeats(), 0, [], Counter()
    for passed, port in steps:
        now += passed
        one = alert(now, remote_port=port)
        made[port] += 1
        if seen.is_news(one):
            told.append(one)
    told += seen.remaining()
    counted = Counter()
    for one in told:
        counted[one.evidence["remote_port"]] += 1 + one.evidence.get("repeats", 0)
    assert counted == made
