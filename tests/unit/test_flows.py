# SPDX-License-Identifier: Apache-2.0
"""The flow table against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.facts import WORDS
from tracer.engine import first, flows, holders
from tracer.rules.model import Alternative, Rule
from tracer.rules.table import compile_rules

COOKIES = st.integers(1, 40) | st.integers(1, 2**62)


PROCESS = (1, 10)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), COOKIES), max_size=120))
def test_agrees_with_a_dictionary(steps):
    f = flows.make_flows(16)
    naive: dict[int, None] = {}
    forgotten = 0
    for opened, cookie in steps:
        if not opened:
            flows.close_flow(f, cookie)
            naive.pop(cookie, None)
        else:
            if cookie not in naive and len(naive) == 16:  # one process: its oldest goes
                del naive[next(iter(naive))]
                forgotten += 1
            assert flows.open_flow(f, cookie, *PROCESS) != flows.NONE
            naive[cookie] = None
        assert int(f.state[flows.F_LIVE]) == len(naive)
    assert int(f.state[flows.F_FULL]) == 0
    assert int(f.state[flows.F_FORGOTTEN]) == forgotten
    for cookie in naive:
        entry = flows.find_flow(f, cookie)
        assert int(f.table[entry]["cookie"]) == cookie
        flows.close_flow(f, cookie)
    assert not f.slots.any()
    assert not f.holders.slots.any()
    assert not f.holders.lists.any()
    assert int(f.holders.state[holders.H_LIVE]) == 0


# What is remembered of a flow

SEVERITIES = ("low", "medium", "high", "critical")
RULES = [
    Rule(f"net.r{n}", "t", "flow", "low", (), "", "alert", True,
         tuple(Alternative(("@tls",), (), 0, (), severity) for severity in SEVERITIES), "test", 1)
    for n in range(flows.RULES_TOLD + 2)
]  # fmt: skip
TABLE, MEANING = compile_rules(RULES, ())
ROW = {(rule.id, severity): row for row, (rule, severity) in enumerate(MEANING)}

CLEAN = ("is", "first", "traits", "spoke", "epoch", "told")


def write(f, entry: int, number: int) -> None:
    """Something in all that must not be left to the next flow."""
    row = f.table[entry]
    for name in CLEAN:
        row[name] = number
    f.signals[entry] = number


def read(f, entry: int) -> set[int]:
    found = {int(value) for name in CLEAN for value in np.ravel(f.table[entry][name])}
    return found | {int(value) for value in f.signals[entry]}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "close", "write", "forget"]), st.integers(1, 9), st.integers(1, 99)
        ),
        max_size=80,
    )
)
def test_a_new_flow_inherits_nothing(steps):
    f = flows.make_flows(6)
    naive: dict[int, int] = {}
    for what, cookie, number in steps:
        if what == "open":
            process = cookie % 3, 1
            held = {known for known in naive if flows.find_flow(f, known) != flows.NONE}
            assert held == naive.keys()
            assert flows.open_flow(f, cookie, *process) != flows.NONE
            naive = {
                known: value for known, value in naive.items() if flows.find_flow(f, known) != flows.NONE
            }
            assert len(held - naive.keys()) == (cookie not in held and len(held) == 6)
            naive.setdefault(cookie, 0)
        elif what == "close":
            flows.close_flow(f, cookie)
            naive.pop(cookie, None)
        elif cookie in naive:
            entry = flows.find_flow(f, cookie)
            if what == "write":
                write(f, entry, number)
            else:
                flows.forget(f, entry)
            naive[cookie] = number if what == "write" else 0
        for known, value in naive.items():
            entry = flows.find_flow(f, known)
            assert 0 <= entry < 6  # never the spare row
            assert read(f, entry) == {value}


def test_forgetting_rules_keeps_what_the_bytes_are():
    f = flows.make_flows(4)
    entry = flows.open_flow(f, 7, *PROCESS)
    write(f, entry, 5)
    flows.forget_rules(f, entry)
    row = f.table[entry]
    assert row["is"].tolist() == row["first"].tolist() == row["traits"].tolist() == [5, 5]
    assert int(row["spoke"]) == 5
    assert int(row["epoch"]) == 0
    assert not row["told"].any()
    assert not f.signals[entry].any()
    assert f.signals.shape == (5, WORDS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.integers(0, 3) | st.integers(flows.RULES_TOLD - 1, flows.RULES_TOLD + 1),
            st.sampled_from(SEVERITIES),
            max_size=4,
        ),
        max_size=12,
    )
)
def test_a_rule_is_told_again_only_when_it_is_worse(events):
    f = flows.make_flows(4)
    entry, other = flows.open_flow(f, 7, *PROCESS), flows.open_flow(f, 8, *PROCESS)
    told: dict[int, int] = {}
    for event in events:
        rows = [ROW[f"net.r{rule}", severity] for rule, severity in event.items()]
        fired = np.array([*rows, -1], np.int64)
        count = first.only_news(f, entry, TABLE, fired, len(rows))
        expected = []
        for rule, severity in event.items():
            rank = SEVERITIES.index(severity)
            if rule < flows.RULES_TOLD:
                if told.get(rule, -1) >= rank:
                    continue
                told[rule] = rank
            expected.append(ROW[f"net.r{rule}", severity])
        assert fired[:count].tolist() == expected
    assert not f.table[other]["told"].any()
