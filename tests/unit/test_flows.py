# SPDX-License-Identifier: Apache-2.0
"""The flow table against a dictionary."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.engine import flows

COOKIES = st.integers(1, 40) | st.integers(1, 2**62)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), COOKIES), max_size=120))
def test_agrees_with_a_dictionary(steps):
    f = flows.make_flows(16)
    naive: set[int] = set()
    full = 0
    for opened, cookie in steps:
        if not opened:
            flows.close_flow(f, cookie)
            naive.discard(cookie)
        elif flows.open_flow(f, cookie) == flows.NONE:
            full += 1
            assert len(naive) == 16 and cookie not in naive
        else:
            naive.add(cookie)
        assert int(f.state[flows.F_LIVE]) == len(naive)
    assert int(f.state[flows.F_FULL]) == full
    for cookie in naive:
        entry = flows.find_flow(f, cookie)
        assert int(f.table[entry]["cookie"]) == cookie
        flows.close_flow(f, cookie)
    assert not f.slots.any()


def test_a_full_table_forgets_nobody():
    f = flows.make_flows(4)
    assert all(flows.open_flow(f, cookie) != flows.NONE for cookie in range(1, 5))
    assert flows.open_flow(f, 99) == flows.NONE
    assert all(flows.find_flow(f, cookie) != flows.NONE for cookie in range(1, 5))
