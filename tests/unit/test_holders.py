# SPDX-License-Identifier: Apache-2.0
"""Who makes room in a full flow table, against the plain twin; and what a flood must not do."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
from naive_flows import CARRIED, FOUND, IDLE, LASTING, NaiveFlows, power_of

from tracer.engine import flows
from tracer.engine.holders import H_LIVE, HOLDER_OF, RANK, RANKS, set_rank

CAPACITY = 12
PROCESSES = st.tuples(st.integers(1, 20), st.integers(1, 2)) | st.tuples(st.integers(1, 3), st.just(1))
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "open", "open", "close", "rank"]), PROCESSES, st.integers(0, 3)),
    max_size=200,
)


def owners(f) -> dict[int, tuple[int, int]]:
    """Whose the flows are, by cookie, by the hash."""
    rows = [f.table[int(slot) - 1] for slot in f.slots[f.slots != 0]]
    return {int(row["cookie"]): (int(row["tgid"]), int(row["start"])) for row in rows}


def check(f, naive: NaiveFlows) -> None:
    """Both agree in everything, counts and links included."""
    assert owners(f) == {cookie: flow.owner for cookie, flow in naive.flows.items()}
    h = f.holders
    held = Counter(flow.owner for flow in naive.flows.values())
    assert int(h.state[H_LIVE]) == len(held)
    for cookie, flow in naive.flows.items():
        entry = flows.find_flow(f, cookie)
        holder = h.table[int(h.links[entry, HOLDER_OF]) - 1]
        assert (int(holder["tgid"]), int(holder["start"])) == flow.owner
        assert int(holder["count"]) == held[flow.owner]
        assert int(h.links[entry, RANK]) == flow.rank
    assert int(f.state[flows.F_FULL]) == naive.full
    assert int(f.state[flows.F_FORGOTTEN]) == naive.forgotten


def play(f, naive: NaiveFlows, steps) -> None:
    """The steps on both. A flow is named by how many there have been, what is done to one by how many there are."""
    for number, (what, process, choice) in enumerate(steps):
        present = list(naive.flows)
        if what == "open" and (choice or not present):
            flows.open_flow(f, number + 1, *process)
            naive.open(number + 1, process)
        elif what == "open":  # passed on
            cookie = present[process[0] % len(present)]
            flows.open_flow(f, cookie, *process)
            naive.open(cookie, process)
        elif present:
            cookie = present[(process[0] * 7 + process[1]) % len(present)]
            if what == "close":
                flows.close_flow(f, cookie)
                naive.close(cookie)
            else:
                set_rank(f.holders, flows.find_flow(f, cookie), choice)
                naive.set_rank(cookie, choice)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_agrees_with_the_plain_one(steps):
    f, naive = flows.make_flows(CAPACITY), NaiveFlows(CAPACITY)
    for at in range(0, len(steps), 10):
        play(f, naive, steps[at : at + 10])
        check(f, naive)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.lists(PROCESSES, min_size=1, max_size=40))
def test_who_has_its_share_takes_nothing_from_who_has_no_more(steps, newcomers):
    f, naive = flows.make_flows(CAPACITY), NaiveFlows(CAPACITY)
    play(f, naive, steps)
    for number, process in enumerate(newcomers):
        before = owners(f)
        ranks = {cookie: flow.rank for cookie, flow in naive.flows.items()}
        held = Counter(before.values())
        share = naive.share(process)
        full = int(f.state[flows.F_FULL])
        entry = flows.open_flow(f, 1000 + number, *process)
        naive.open(1000 + number, process)
        gone = [cookie for cookie in before if cookie not in owners(f)]
        assert len(gone) + (entry == flows.NONE) == (len(before) == CAPACITY)
        assert int(f.state[flows.F_FULL]) == full + (entry == flows.NONE)
        if entry == flows.NONE:
            # never who has less than half its share; else for the sake of what was found, or of too many processes
            assert power_of(held[process]) >= power_of(share)
            mine = [ranks[c] for c, who in before.items() if who == process]
            assert min(mine or ranks.values()) >= (FOUND if mine else LASTING)
        for cookie in gone:
            loser = before[cookie]
            if loser == process:
                assert held[process] * 2 > share
                continue
            assert share == 0 or held[loser] * 2 > share  # nobody who holds half its share or less
            if held[process] > share:
                pytest.fail("took another's, with more than its share")
            # the least telling one of the loser
            assert ranks[cookie] == min(ranks[c] for c, who in before.items() if who == loser)
            assert held[loser] > held[process] or ranks[cookie] == IDLE


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([CARRIED, LASTING, FOUND]),
    st.lists(
        st.tuples(st.integers(2, CAPACITY), st.booleans(), st.integers(0, 2)), min_size=CAPACITY, max_size=300
    ),
)
def test_a_flow_that_matters_outlives_others_floods(rank, flood):
    """Of as many other processes as there is room for, whatever they carry."""
    f = flows.make_flows(CAPACITY)
    entry = flows.open_flow(f, 1, 1, 1)
    set_rank(f.holders, entry, rank)
    opened: list[int] = []
    for number, (tgid, opens, carried) in enumerate(flood):
        if opens or not opened:
            cookie = 100 + number
            at = flows.open_flow(f, cookie, tgid, 1)
            opened.append(cookie)
        else:
            at = flows.find_flow(f, opened[number % len(opened)])
        if at != flows.NONE and carried and rank > carried:
            set_rank(f.holders, at, carried)
        assert flows.find_flow(f, 1) == entry


@pytest.mark.parametrize("processes", [1, 2, 3, 100, 1000])
def test_a_newcomer_finds_room_in_any_flood(processes):
    f = flows.make_flows(1 << 10)
    for number in range(3 << 10):
        entry = flows.open_flow(f, 10 + number, 100 + number % processes, 1)
        set_rank(f.holders, entry, LASTING)
    entry = flows.open_flow(f, 1, 1, 1)
    assert entry != flows.NONE
    set_rank(f.holders, entry, CARRIED)
    for number in range(3 << 10):
        flows.open_flow(f, 10_000 + number, 100 + number % processes, 1)
        assert flows.find_flow(f, 1) != flows.NONE


def test_the_oldest_of_the_least_goes():
    f = flows.make_flows(4)
    for cookie, rank in ((1, FOUND), (2, IDLE), (3, CARRIED), (4, IDLE)):
        set_rank(f.holders, flows.open_flow(f, cookie, 1, 1), rank)
    order = []
    for cookie in range(5, 11):
        before = set(owners(f))
        assert flows.open_flow(f, cookie, 1, 1) != flows.NONE
        order += before - set(owners(f))
        set_rank(f.holders, flows.find_flow(f, cookie), LASTING)
    assert order == [2, 4, 3, 5, 6, 7]
    for cookie in (8, 9, 10):
        set_rank(f.holders, flows.find_flow(f, cookie), FOUND)
    assert flows.open_flow(f, 11, 1, 1) == flows.NONE
    assert int(f.state[flows.F_FULL]) == 1


def test_what_speaks_rises():
    f = flows.make_flows(4)
    entry = flows.open_flow(f, 1, 1, 1)
    ranks = []
    for now in (5, 6, 5 + flows.LASTS_NS, 6 + flows.LASTS_NS):
        flows.speaks(f, entry, now)
        ranks.append(int(f.holders.links[entry, RANK]))
    flows.is_found_out(f, entry)
    flows.speaks(f, entry, 7 + flows.LASTS_NS)
    ranks.append(int(f.holders.links[entry, RANK]))
    f.table[entry]["state"] = flows.ESTABLISHED
    flows.begin_anew(f, entry)
    ranks.append(int(f.holders.links[entry, RANK]))
    assert ranks == [CARRIED, CARRIED, LASTING, LASTING, FOUND, IDLE]
    assert RANKS == FOUND + 1
