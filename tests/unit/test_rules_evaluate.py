# SPDX-License-Identifier: Apache-2.0
"""The compiled rules against their plain twin."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.facts import FACTS, FIRST_GROUP, WORD_BITS, WORDS
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON, SEVERITIES, Alternative, Group, Rule
from tracer.rules.table import compile_rules, signal_numbers

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_rules

GROUPS = [Group(f"g{n}", ("args",), "whole", False, (f"v{n}",), "test", 1) for n in range(4 * WORD_BITS)]
# from every word, so that a mask put into the wrong one shows
NAMES = [
    *(f"@{fact.name}" for fact in FACTS[:4]),
    *(GROUPS[number].id for number in (0, 1, 62, 63, 125, 126, 188, 189, 251)),
]
SOME = st.lists(st.sampled_from(NAMES), max_size=5, unique=True).map(tuple)


@st.composite
def alternatives(draw: st.DrawFn) -> Alternative:
    every, some = draw(SOME), draw(SOME)
    if not every and not some:
        every = (draw(st.sampled_from(NAMES)),)
    at_least = draw(st.integers(1, len(some))) if some else 0
    return Alternative(every, some, at_least, draw(SOME), draw(st.sampled_from(SEVERITIES)))


@st.composite
def rule_lists(draw: st.DrawFn) -> list[Rule]:
    return [
        Rule(
            f"exec.r{number}", "title", draw(st.sampled_from(sorted(ON))), "low", (), "", "alert",
            draw(st.booleans()), tuple(draw(st.lists(alternatives(), min_size=1, max_size=3))), "test", 1,
        )
        for number in range(draw(st.integers(1, 8)))
    ]  # fmt: skip


def fire(on: str, there: set[str], rules: list[Rule], room: int | None = None) -> list[tuple[str, str]]:
    table, meaning = compile_rules(rules, GROUPS)
    numbers = signal_numbers(GROUPS)
    signals = np.zeros(WORDS, dtype=np.int64)
    for name in there:
        signals[numbers[name] // WORD_BITS] |= 1 << numbers[name] % WORD_BITS
    fired = np.zeros(len(rules) if room is None else room, dtype=np.int64)
    count = evaluate(ON[on], signals, table, fired)
    return [(meaning[row][0].id, meaning[row][1]) for row in fired[:count].tolist()]


@given(rule_lists(), st.sets(st.sampled_from(NAMES)), st.sampled_from(sorted(ON)))
@settings(max_examples=600)
def test_same_as_the_twin(rules: list[Rule], there: set[str], on: str):
    found = fire(on, there, rules)
    expected = naive_rules.evaluate(on, there, rules)
    assert sorted(found) == sorted(expected)
    ranks = [SEVERITIES.index(severity) for _, severity in found]
    assert ranks == sorted(ranks, reverse=True)


@given(rule_lists(), st.sets(st.sampled_from(NAMES)), st.integers(0, 8))
@settings(max_examples=200)
def test_what_has_no_room_is_left_out(rules: list[Rule], there: set[str], room: int):
    assert fire("exec", there, rules, room) == fire("exec", there, rules)[:room]


def test_no_rules():
    assert fire("exec", {"@memfd"}, []) == []


def test_signal_numbers():
    numbers = signal_numbers(GROUPS)
    assert numbers["g0"] == FIRST_GROUP
    assert numbers[f"@{FACTS[0].name}"] == 0
    assert max(numbers.values()) == WORDS * WORD_BITS - 1
