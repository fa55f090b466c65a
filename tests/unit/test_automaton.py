# SPDX-License-Identifier: Apache-2.0
"""The automaton against its plain twin, over texts made to fool it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracer.detect.facts import FIRST_GROUP, WORD_BITS, WORDS
from tracer.rules.automaton import compile_groups, patterns_of
from tracer.rules.model import FIELDS, MATCHES, Group
from tracer.rules.scan import matches, scan

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_rules

# few letters, so that indicators overlap, contain and follow each other
LETTERS = "aAbB1.=-_/é"
LITERALS = st.text(LETTERS, min_size=1, max_size=6)


@st.composite
def some_groups(draw: st.DrawFn) -> list[Group]:
    found = []
    for number in range(draw(st.integers(1, 6))):
        match = draw(st.sampled_from(sorted(set(MATCHES) - {"range"})))
        where = draw(st.sets(st.sampled_from(MATCHES[match].fields), min_size=1))
        values = draw(st.lists(LITERALS, min_size=1, max_size=6))
        case = draw(st.booleans())
        found.append(Group(f"g{number}", tuple(sorted(where)), match, case, tuple(values), "test", 1))
    return found


@st.composite
def groups_and_text(draw: st.DrawFn) -> tuple[list[Group], bytes]:
    groups = draw(some_groups())
    literals = [value.encode() for _, value in patterns_of(groups)]
    piece = st.one_of(
        st.sampled_from(literals),
        st.sampled_from(literals).map(bytes.swapcase),
        st.sampled_from([b"\0", b".", b"\x03", b"\n", b"=", b"/", b"_", b"-", b" ", b"a", b"\xff", b".a"]),
        st.binary(max_size=3),
    )
    return groups, b"".join(draw(st.lists(piece, max_size=24)))


def group(match: str, *values: str, where: str = "args", case: bool = False, name: str = "g") -> Group:
    return Group(name, (where,), match, case, values, "test", 1)


def found_in(text: bytes, field: str, groups: list[Group], lo: int = 0, hi: int | None = None):
    """What the compiled code finds: (pattern, end) pairs and the numbers of the signals set."""
    data = np.frombuffer(bytearray(text), dtype=np.uint8)
    hi = len(text) if hi is None else hi
    automaton = compile_groups(groups)
    rows = np.full((4096, 2), -1, dtype=np.int64)
    count = matches(data, lo, hi, FIELDS[field], automaton, rows)
    signals = np.zeros(WORDS, dtype=np.int64)
    scan(data, lo, hi, FIELDS[field], automaton, signals)
    numbers = {
        word * WORD_BITS + bit
        for word, value in enumerate(signals.tolist())
        for bit in range(WORD_BITS)
        if value >> bit & 1
    }
    pairs = [(int(pattern), int(end)) for pattern, end in rows[:count]]
    assert len(pairs) == len(set(pairs))
    return set(pairs), numbers


@given(groups_and_text(), st.sampled_from(sorted(FIELDS)), st.data())
@settings(max_examples=600)
def test_same_as_the_twin(case: tuple[list[Group], bytes], field: str, data: st.DataObject):
    groups, text = case
    lo = data.draw(st.integers(0, len(text)))
    hi = data.draw(st.integers(lo, len(text)))
    pairs, numbers = found_in(text, field, groups, lo, hi)
    assert pairs == naive_rules.find(text, lo, hi, field, groups)
    patterns = patterns_of(groups)
    assert numbers == {FIRST_GROUP + groups.index(patterns[pattern][0]) for pattern, _ in pairs}


@given(groups_and_text(), st.sampled_from(sorted(FIELDS)))
@settings(max_examples=200)
def test_what_lies_outside_makes_no_difference(case: tuple[list[Group], bytes], field: str):
    groups, text = case
    bare, signals = found_in(text, field, groups)
    for fence in (b"a", b".", b"=", b"\0", b"/a.="):
        pairs, numbers = found_in(fence + text + fence, field, groups, len(fence), len(fence) + len(text))
        assert {(pattern, end - len(fence)) for pattern, end in pairs} == bare
        assert numbers == signals


@given(some_groups())
@settings(max_examples=200)
def test_shape(groups: list[Group]):
    automaton = compile_groups(groups)
    states = automaton.next.size // automaton.class_count
    assert automaton.classes.shape == (256,)
    assert automaton.classes.max() < automaton.class_count
    assert automaton.next.dtype == np.int32
    assert automaton.next.size == states * automaton.class_count
    assert (automaton.next % automaton.class_count == 0).all()
    assert automaton.next.min() >= 0
    assert automaton.next.max() < automaton.next.size
    folded = {naive_rules.fold(value.encode()) for _, value in patterns_of(groups)}
    beginnings = {literal[:end] for literal in folded for end in range(1, len(literal) + 1)}
    assert states == len(beginnings) + 1
    with_outputs = states - automaton.first_output // automaton.class_count
    assert len(automaton.output_start) == len(automaton.output_count) == with_outputs
    assert (automaton.output_start + automaton.output_count).max() <= len(automaton.outputs)
    assert (automaton.output_count > 0).all()
    # what compiled code is given must have one type each, or it would be compiled again
    for array in automaton[:-2]:
        assert array.flags.c_contiguous
        assert array.flags.writeable


def test_no_groups():
    assert found_in(b"anything", "args", []) == (set(), set())


@pytest.mark.parametrize(
    ("match", "literal", "text", "holds"),
    [
        ("whole", "-o", b"a\0-o\0b\0", True),
        ("whole", "-o", b"-o", True),
        ("whole", "-o", b"-o=1\0", False),
        ("whole", "-o", b"x-o\0", False),
        ("argument", "tunnel", b"tunnel\0", True),
        ("argument", "tunnel", b"tunnels\0", False),
        ("option", "--coin", b"--coin\0monero\0", True),
        ("option", "--coin", b"--coin=monero\0", True),
        ("option", "--coin", b"--coins\0", False),
        ("option", "--coin", b"x--coin\0", False),
        ("value", "rx/0", b"-a\0rx/0\0", True),
        ("value", "rx/0", b"--algo=rx/0\0", True),
        ("value", "rx/0", b"--algo=rx/01\0", False),
        ("url", "stratum+tcp://", b"-o\0stratum+tcp://pool\0", True),
        ("url", "stratum+tcp://", b"--url=STRATUM+tcp://pool\0", True),
        ("url", "stratum+tcp://", b"see stratum+tcp://pool\0", False),
        ("prefix", "-R", b"-R8080:x:1\0", True),
        ("prefix", "-R", b"a-R\0", False),
        ("file", "xmrig", b"/opt/xmrig\0", True),
        ("file", "xmrig", b"xmrig\0", True),
        ("file", "xmrig", b"/opt/xmrig/\0", False),
        ("file", "xmrig", b"/opt/notxmrig\0", False),
        ("file", "bin/rg", b"/x/bin/rg\0", True),
        ("word", "vllm", b"/opt/vllm/bin", True),
        ("word", "vllm", b"vllm", True),
        ("word", "vllm", b"vllm_miner", False),
        ("word", "vllm", b"xvllm", False),
        ("word", "vllm", b"\xc3vllm\xc3", True),
        ("domain", "pool.com", b"pool.com", True),
        ("domain", "pool.com", b"eu.pool.com:3333", True),
        ("domain", "pool.com", b"https://pool.com/x", True),
        ("domain", "pool.com", b"user@POOL.COM", True),
        ("domain", "pool.com", b"I read pool.com. Then", True),
        ("domain", "pool.com", b"pool.com.", True),
        ("domain", "pool.com", b"pool.com.evil.org", False),
        ("domain", "pool.com", b"whirlpool.com", False),
        ("domain", "pool.com", b"pool.community", False),
        ("domain", "pool.com", b"my-pool.com", False),
        ("domain", "pool.com", b"pool.com-x", False),
        ("substring", "LS1", b"xxLS1xx", True),
        ("substring", "LS1", b"xxls1xx", True),
    ],
)
def test_edges(match: str, literal: str, text: bytes, holds: bool):
    pairs, numbers = found_in(text, "args", [group(match, literal)])
    assert bool(pairs) is holds
    assert numbers == ({FIRST_GROUP} if holds else set())


def test_case_is_kept_where_asked():
    both = [group("substring", "LS1kb", case=True), group("substring", "ls1KB", name="h")]
    assert found_in(b"ls1kb", "args", both)[1] == {FIRST_GROUP + 1}
    assert found_in(b"LS1kb", "args", both)[1] == {FIRST_GROUP, FIRST_GROUP + 1}


def test_fields_are_kept_apart():
    groups = [group("whole", "xmrig", where="name"), group("whole", "xmrig", where="path", name="h")]
    assert found_in(b"xmrig", "name", groups)[1] == {FIRST_GROUP}
    assert found_in(b"xmrig", "path", groups)[1] == {FIRST_GROUP + 1}
    assert found_in(b"xmrig", "args", groups)[1] == set()


def test_signals_reach_the_last_word():
    groups = [
        group("whole", f"v{number}", name=f"g{number}") for number in range(WORDS * WORD_BITS - FIRST_GROUP)
    ]
    last = len(groups) - 1
    assert found_in(f"v{last}".encode(), "args", groups)[1] == {FIRST_GROUP + last}
    assert found_in(b"v62\0v63", "args", groups)[1] == {FIRST_GROUP + 62, FIRST_GROUP + 63}


@pytest.mark.parametrize(("lo", "hi"), [(-5, 4), (0, 900), (-1, 900), (5, 2), (900, 901)])
def test_limits_beyond_the_text_are_cut(lo: int, hi: int):
    pairs, _ = found_in(b"abab", "args", [group("substring", "ab")], lo, hi)
    assert all(0 <= end <= 4 for _, end in pairs)


def test_list_of_matches_is_bounded():
    automaton = compile_groups([group("substring", "a")])
    rows = np.zeros((3, 2), dtype=np.int64)
    text = np.frombuffer(bytearray(b"a" * 100), dtype=np.uint8)
    assert matches(text, 0, 100, FIELDS["args"], automaton, rows) == 3
    assert rows[:, 1].tolist() == [1, 2, 3]
    assert matches(text, 0, 100, FIELDS["args"], automaton, np.zeros((0, 2), dtype=np.int64)) == 0


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=30))
@example([b"a" * 12, b"a" * 11, b"a"])
@settings(max_examples=50)
def test_many_that_end_alike(pieces: list[bytes]):
    """Suffix links that chain: each indicator is the end of another one."""
    tail = b"".join(pieces)[-20:].hex()
    groups = [group("substring", *[tail[start:] for start in range(min(len(tail), 30))])]
    text = (tail * 2).encode()
    assert found_in(text, "args", groups)[0] == naive_rules.find(text, 0, len(text), "args", groups)


def test_ten_times_as_many_indicators_take_no_hundred_times_as_long():
    """What grows with their square would be noticed by whoever has ten thousand."""

    def seconds(rows: int) -> float:
        groups = [
            group(
                "domain",
                *[f"pool{number * 7919:x}.example{row}.net" for number in range(100)],
                name=f"g{row}",
            )
            for row in range(rows)
        ]
        start = time.process_time()
        automaton = compile_groups(groups)
        assert len(automaton.word) == 100 * rows
        return time.process_time() - start

    few = min(seconds(10) for _ in range(3))
    assert min(seconds(100) for _ in range(2)) < 40 * few
