# SPDX-License-Identifier: Apache-2.0
"""The process table against its plain twin."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.engine import arena as strings
from tracer.engine import processes as procs

sys.path.insert(0, str(Path(__file__).parent.parent))
from naive_tables import NaiveTree

TGIDS = st.integers(1, 12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fork"), TGIDS, TGIDS),
        st.tuples(st.just("exec"), TGIDS, st.binary(min_size=1, max_size=300)),
        st.tuples(st.just("exit"), TGIDS, st.none()),
    ),
    max_size=80,
)


def line(p, entry):
    found = np.zeros(procs.DEPTH + 8, np.int64)
    count = procs.line_of(p, entry, found)
    return [(int(p.table[e]["tgid"]), int(p.table[e]["start"])) for e in found[:count]]


def image_text(p, entry):
    image = int(p.table[entry]["image"])
    if image == procs.NONE:
        return None
    out = np.zeros(4096, np.uint8)
    count = strings.load(p.arena, int(p.images[image]["block"]), 0, 4096, out)
    return out[:count].tobytes()[: int(p.images[image]["path_len"])]


def execute(p, entry, text: bytes) -> None:
    image = procs.replace_image(p, entry)
    data = np.frombuffer(text, np.uint8)
    block, kept = strings.store(p.arena, data, 0, len(data))
    p.images[image]["block"], p.images[image]["path_len"] = block, kept


def in_use(p) -> int:
    return len(p.arena.blocks) - int(p.arena.state[strings.FREE_COUNT])


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_agrees_with_the_twin(steps):
    p = procs.make_processes(64, 256)
    naive = NaiveTree()
    for time, (what, tgid, more) in enumerate(steps, 1):
        entry = procs.find(p, tgid)
        plain = naive.live.get(tgid)
        assert (entry == procs.NONE) == (plain is None)
        if what == "fork":
            parent = procs.find(p, more)
            procs.add_process(p, tgid, time, parent, time)
            naive.fork(tgid, time, naive.live.get(more))
        elif plain is not None and what == "exec":
            execute(p, entry, more)
            plain.image = more
        elif plain is not None:
            procs.exit_process(p, entry)
            naive.exit(plain)
    assert int(p.state[procs.LIVE_COUNT]) == len(naive.live)
    assert int(p.state[procs.MISSED_EXIT]) == naive.missed_exits
    for tgid, plain in naive.live.items():
        entry = procs.find(p, tgid)
        assert line(p, entry) == naive.line(plain)
        assert image_text(p, entry) == plain.image
    for plain in list(naive.live.values()):
        procs.exit_process(p, procs.find(p, plain.tgid))
    assert in_use(p) == 0
    assert not p.slots.any()
    assert all(int(row["state"]) == procs.FREE for row in p.table)


def test_a_full_table_puts_nobody_out():
    p = procs.make_processes(8, 64)
    for tgid in range(1, 9):
        assert procs.add_process(p, tgid, tgid, procs.NONE, tgid) != procs.NONE
    assert procs.add_process(p, 100, 100, procs.NONE, 100) == procs.NONE
    assert int(p.state[procs.FULL]) == 1
    assert all(procs.find(p, tgid) != procs.NONE for tgid in range(1, 9))
    procs.exit_process(p, procs.find(p, 3))
    assert procs.add_process(p, 101, 101, procs.NONE, 101) != procs.NONE


def test_a_fork_bomb_makes_room_for_what_is_executed_after_it():
    p = procs.make_processes(256, 512)
    root = procs.add_process(p, 1, 1, procs.NONE, 1)
    execute(p, root, b"/bin/agent")
    trainer = procs.add_process(p, 2, 2, root, 2)
    execute(p, trainer, b"/bin/trainer")
    bomb = procs.add_process(p, 3, 3, root, 3)
    execute(p, bomb, b"/bin/bomb")
    connected = procs.add_process(p, 4, 4, bomb, 4)
    p.table[connected]["net"] = 1
    for number in range(5, 2000):
        assert procs.add_process(p, number, number, bomb, number) != procs.NONE
    late = procs.add_process(p, 5000, 5000, trainer, 5000)
    execute(p, late, b"/bin/miner")
    assert line(p, late) == [(5000, 5000), (2, 2), (1, 1)]
    assert image_text(p, late) == b"/bin/miner"
    for number in range(6000, 8000):
        assert procs.add_process(p, number, number, bomb, number) != procs.NONE
    for tgid, text in ((1, b"/bin/agent"), (2, b"/bin/trainer"), (3, b"/bin/bomb"), (5000, b"/bin/miner")):
        assert image_text(p, procs.find(p, tgid)) == text
    assert procs.find(p, 4) == connected
    assert int(p.state[procs.FULL]) == 0
    assert int(p.state[procs.FORGOTTEN]) == 1995 + 1 + 2000 - (256 - 4)
    assert int(p.state[procs.LIVE_COUNT]) == 256


def test_where_all_have_connected_one_of_the_crowd_makes_room_all_the_same():
    p = procs.make_processes(64, 64)
    root = procs.add_process(p, 1, 1, procs.NONE, 1)
    execute(p, root, b"/bin/bomb")
    for number in range(2, 200):
        entry = procs.add_process(p, number, number, root, number)
        assert entry != procs.NONE
        p.table[entry]["net"] = 1
    assert procs.find(p, 1) == root


def test_a_line_that_forks_and_exits_for_ever_stays_bounded():
    p = procs.make_processes(1024, 64)
    root = procs.add_process(p, 1, 1, procs.NONE, 1)
    last = root
    for number in range(2, 20_000):
        tgid = number % 30_000
        new = procs.add_process(p, tgid, number, last, number)
        assert new != procs.NONE
        if last != root:
            procs.exit_process(p, last)
        last = new
    assert len(line(p, last)) <= procs.DEPTH + 1
    assert line(p, last)[-1] == (1, 1)
    assert int(p.state[procs.COLLAPSED]) > 19_000


def test_many_short_processes_leave_nothing():
    p = procs.make_processes(256, 1024)
    procs.add_process(p, 1, 1, procs.NONE, 1)
    for number in range(2, 100_002):
        entry = procs.add_process(p, 2 + number % 32_000, number, procs.find(p, 1), number)
        if number % 3 == 0:
            execute(p, entry, b"/bin/true" * 20)
        procs.exit_process(p, entry)
    assert int(p.state[procs.P_USED]) <= 2
    assert in_use(p) == 0
    assert int(p.state[procs.LIVE_COUNT]) == 1


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 1000, 8192])
def test_arena_keeps_what_it_is_given(size):
    arena = strings.make_arena(128)
    data = np.arange(size, dtype=np.int64).astype(np.uint8)
    first, kept = strings.store(arena, data, 0, size)
    out = np.zeros(size + 10, np.uint8)
    assert kept == size
    assert strings.load(arena, first, 0, size, out) == size
    assert (out[:size] == data).all()
    assert strings.load(arena, first, size // 2, size - size // 2, out) == size - size // 2
    assert (out[: size - size // 2] == data[size // 2 :]).all()
    strings.release(arena, first)
    assert int(arena.state[strings.FREE_COUNT]) == 128


def test_arena_cuts_and_counts_when_full():
    arena = strings.make_arena(2)
    first, kept = strings.store(arena, np.ones(1000, np.uint8), 0, 1000)
    assert kept == 2 * strings.BLOCK
    assert int(arena.state[strings.CUT]) == 1
    strings.release(arena, first)
    assert strings.store(arena, np.ones(10, np.uint8), 0, 10)[1] == 10


def test_a_parent_is_adopted_but_never_in_a_circle():
    p = procs.make_processes(16, 16)
    a = procs.add_process(p, 1, 1, procs.NONE, 1)
    b = procs.add_process(p, 2, 2, a, 2)
    procs.adopt_parent(p, a, b)
    assert line(p, b) == [(2, 2), (1, 1)]
    c = procs.add_process(p, 3, 3, procs.NONE, 3)
    procs.adopt_parent(p, c, b)
    assert line(p, c) == [(3, 3), (2, 2), (1, 1)]


def test_who_has_ended_stays_until_enough_others_have():
    p = procs.make_processes(capacity=64 * 4, blocks=64)  # four stay
    assert len(p.recent) == 4
    root = procs.add_process(p, 1, 10, procs.NONE, 0)
    for number in range(2, 12):
        entry = procs.add_process(p, number, 10 * number, root, number)
        procs.end_process(p, entry, 100 + number)
        assert procs.find(p, number) == procs.NONE
        found = procs.find_recent(p, number, 0)
        assert found == entry
        assert procs.line_of(p, found, np.zeros(8, np.int64)) == 2
        procs.end_process(p, entry, 999)  # it ends but once
        assert p.state[procs.ENDED] == number - 1
    assert [procs.find_recent(p, number, 0) != procs.NONE for number in range(2, 12)] == [False] * 6 + [
        True
    ] * 4
    assert procs.find_recent(p, 11, 111) != procs.NONE
    assert procs.find_recent(p, 11, 112) == procs.NONE, "it ended before that"
    assert procs.find_recent(p, 9, 112) == procs.NONE
    assert p.state[procs.LIVE_COUNT] == 1
    assert p.table[root]["children"] == 4
    # a pid that has been given away again is whoever had it last
    again = procs.add_process(p, 11, 777, root, 200)
    procs.end_process(p, again, 201)
    assert p.table[procs.find_recent(p, 11, 0)]["start"] == 777


def test_a_small_table_has_no_room_for_who_has_ended():
    p = procs.make_processes(capacity=32, blocks=64)
    entry = procs.add_process(p, 1, 10, procs.NONE, 0)
    procs.end_process(p, entry, 1)
    assert procs.find_recent(p, 1, 0) == procs.NONE
    assert procs.add_process(p, 2, 20, procs.NONE, 0) == entry
