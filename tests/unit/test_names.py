# SPDX-License-Identifier: Apache-2.0
"""Names that addresses were looked up by, and executables seen, against their twins."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.engine import files, names

sys.path.insert(0, str(Path(__file__).parent.parent))
from naive_names import SECOND, NaiveFiles, NaiveNames

I = np.int64  # noqa: E741


def learn(
    table, address: tuple[int, int], name: bytes, ttl: int, now: int, who: int = 1, worth: int = 0
) -> None:
    text = np.frombuffer(bytearray(name or b"\0"), np.uint8)
    about = (I(who), I(10 * who), I(address[0]), I(address[1]), text, I(len(name)), I(worth), I(ttl), I(now))
    names.learn_name(table, *about)


def find(table, address: tuple[int, int], now: int) -> bytes | None:
    row = names.find_name(table, I(address[0]), I(address[1]), I(now))
    return table.texts[row, : table.lengths[row]].tobytes() if row >= 0 else None


def home_of(address: tuple[int, int], capacity: int) -> int:
    """Where the address goes: seen by having an empty table learn it."""
    table = names.make_names(capacity)
    learn(table, address, b"x", 300, 0)
    (row,) = np.flatnonzero(table.keys[:, 2])
    return int(row) // names.WAYS


WORD = st.integers(-(1 << 63), (1 << 63) - 1)
V4 = st.integers(0, 60).map(lambda n: (0, 0xFFFF << 32 | 0x0A000000 | n))
ADDRESSES = V4 | st.tuples(WORD, WORD)
HOMES: dict[tuple[int, int], int] = {}


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            ADDRESSES,
            st.binary(max_size=140),
            st.sampled_from([0, 1, 299, 300, 301, 3599, 3600, 3601, -1, 2**31 - 1]),
            st.sampled_from([0, 0, 0, 0, 0, 1, 299, 300, 301, 4000]),
            st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5]),
            st.sampled_from([0, 0, 1]),
        ),
        max_size=120,
    )
)
def test_agrees_with_the_twin(steps):
    table, naive, now = names.make_names(32), NaiveNames(), 1
    for address, name, ttl, passed, who, worth in steps:
        now += passed * SECOND + 1
        home = HOMES.setdefault(address, home_of(address, 32))
        learn(table, address, name, ttl, now, who, worth)
        naive.learn(address, home, name, ttl, now, who, worth)
        assert int(table.state[names.N_FULL]) == naive.refused
        assert int(table.state[names.N_FORGOTTEN]) == naive.forgotten
        for known in naive.seen:
            assert find(table, known, now) == naive.find(known, now)


def full(whose: list[tuple[int, int]]):
    """One set of places: who was told each name, and what it is worth."""
    table = names.make_names(names.WAYS)
    for number, (who, worth) in enumerate(whose):
        learn(table, (0, number), b"host%d" % number, 3600, 5 + number, who, worth)
    return table


def left(table, now: int = 100) -> list[int]:
    return [n for n in range(names.WAYS) if find(table, (0, n), now) == b"host%d" % n]


def test_whoever_has_most_forgets_what_he_looked_up_longest_ago():
    table = full([(1, 0)] * 10 + [(2, 0)] * 6)
    learn(table, (0, 1), b"host1", 3600, 50)  # again
    learn(table, (0, 99), b"new", 3600, 60, who=2)
    assert (find(table, (0, 99), 60), left(table)) == (b"new", [1, *range(2, 16)])
    assert int(table.state[names.N_FORGOTTEN]) == 1
    assert int(table.state[names.N_FULL]) == 0


def test_what_a_rule_knows_is_not_forgotten_for_what_none_knows():
    table = full([(1, 1)] * names.WAYS)
    learn(table, (0, 99), b"new", 3600, 60)
    assert (find(table, (0, 99), 60), left(table)) == (None, [*range(16)])
    assert int(table.state[names.N_FULL]) == 1
    learn(table, (0, 99), b"known", 3600, 60, worth=1)
    assert (find(table, (0, 99), 60), left(table)) == (b"known", [*range(1, 16)])
    # nor does anybody keep another one's out by that
    learn(table, (0, 98), b"new", 3600, 60, who=2)
    assert (find(table, (0, 98), 60), left(table)) == (b"new", [*range(2, 16)])


def test_many_push_out_what_none_knows_and_nothing_else():
    table = full([(who, who % 2) for who in range(names.WAYS)])
    for who in range(100, 108):
        learn(table, (0, who), b"new", 3600, 60, who=who, worth=1)
    assert left(table) == [1, 3, 5, 7, 9, 11, 13, 15]
    learn(table, (0, 99), b"new", 3600, 60, who=99)
    assert find(table, (0, 99), 60) is None
    assert int(table.state[names.N_FULL]) == 1


def test_a_name_ends_and_can_be_given_anew():
    table = full([(1, 0)] * names.WAYS)
    learn(table, (0, 3), b"other", 3600, 5)
    assert find(table, (0, 3), 5) == b"other"
    end = 5 + 3600 * SECOND
    assert find(table, (0, 3), end - 1) == b"other"
    assert find(table, (0, 3), end) is None
    learn(table, (0, 99), b"new", 300, end)
    assert find(table, (0, 99), end) == b"new"
    assert int(table.state[names.N_FORGOTTEN]) == 0


@pytest.mark.parametrize(("ttl", "kept"), [(0, 300), (-5, 300), (300, 300), (1000, 1000), (1 << 31, 3600)])
def test_time_to_live_is_clamped(ttl: int, kept: int):
    table = names.make_names(64)
    learn(table, (1, 2), b"a.example", ttl, 7)
    assert find(table, (1, 2), 7 + kept * SECOND - 1) == b"a.example"
    assert find(table, (1, 2), 7 + kept * SECOND) is None


def test_a_long_name_is_kept_and_forgotten():
    table = names.make_names(64)
    name = b"x" * 240 + b".pool.example\0" + b"y" * 200 + b".alias.example"
    learn(table, (1, 2), name, 300, 0)
    assert find(table, (1, 2), 1) == name
    learn(table, (1, 2), b"short", 300, 0)
    assert find(table, (1, 2), 1) == b"short"


def test_addresses_spread_over_the_table():
    table = names.make_names()
    for number in range(len(table.keys) // 2):
        learn(table, (0, 0xFFFF << 32 | 0x0A000000 | number), b"x", 300, 0)
    assert int(table.state[names.N_FORGOTTEN]) < 100


# Executables

FEW = st.integers(0, 3)
NUMBER = FEW | WORD


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), NUMBER, NUMBER, NUMBER, NUMBER) | st.none(),
        max_size=60,
    )
)
def test_each_file_is_handed_out_once(steps):
    """None: somebody fetches those that wait."""
    f, naive = files.make_files(32), NaiveFiles(32, 8)
    f = f._replace(waiting=np.zeros((8, files.W_PATH + 1), np.int64))
    for now, step in enumerate(steps):
        if step is None:
            f.state[files.X_WAITING] = 0
            naive.waiting.clear()
            continue
        pid, device, inode, changed, size = step
        text = np.frombuffer(b"--/some/path--", np.uint8)
        about = (I(pid), I(pid * 7), I(device), I(inode), I(changed), I(size), I(now))
        files.note_file(f, *about, text, I(2), I(2 + pid))
        naive.note(now, pid, pid * 7, device, inode, changed, size)
        waiting = f.waiting[: f.state[files.X_WAITING]].tolist()
        assert [row[: files.W_PATH] for row in waiting] == [list(row) for row in naive.waiting]
        assert [row[files.W_PATH] for row in waiting] == [row[files.W_PID] for row in waiting]
        for row, path in zip(waiting, f.paths, strict=False):
            assert path[: row[files.W_PATH]].tobytes() == b"/some/path"[: row[files.W_PID]]
        assert int(f.state[files.X_LOST]) == naive.lost
        assert int(f.state[files.X_KNOWN]) == len(naive.known) == np.count_nonzero(f.known)


def note(f, inode: int, changed: int = 1, size: int = 1) -> None:
    nothing = np.zeros(files.PATH_MAX + 1, np.uint8)
    files.note_file(f, I(1), I(1), I(8), I(inode), I(changed), I(size), I(0), nothing, I(0), I(len(nothing)))


def test_a_path_that_is_too_long_is_none():
    f = files.make_files(64)
    note(f, 5)
    assert int(f.waiting[0, files.W_PATH]) == 0


def test_what_has_changed_is_new():
    f = files.make_files(64)
    for changed, size in ((1, 1), (1, 1), (2, 1), (2, 2), (1, 1)):
        note(f, 5, changed, size)
    assert int(f.state[files.X_WAITING]) == 3


def test_what_was_lost_is_offered_again():
    f = files.make_files(1 << 12)
    for inode in range(files.WAITING + 3):
        note(f, inode)
    assert int(f.state[files.X_LOST]) == 3
    f.state[files.X_WAITING] = 0
    for inode in range(files.WAITING + 3):
        note(f, inode)
    assert int(f.state[files.X_WAITING]) == 3


def test_a_half_full_table_starts_afresh():
    f = files.make_files(16)
    for inode in range(9):
        note(f, inode)
    assert int(f.state[files.X_KNOWN]) == 1
    note(f, 0)
    assert int(f.state[files.X_WAITING]) == 10
