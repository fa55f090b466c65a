# SPDX-License-Identifier: Apache-2.0
"""Searching files window by window, against the plain twin over the whole of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracer.detect.facts import FIRST_GROUP, WORD_BITS, WORDS
from tracer.rules.automaton import compile_groups, patterns_of
from tracer.rules.model import FIELDS, MATCHES, WHERE_FILE, Group
from tracer.rules.scan import scan
from tracer.triage.bounded import Limits
from tracer.triage.filescan import FileScanner, Indicator

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_rules
from elf_files import file_of

LETTERS = "aAbB1.=-_/é"
FILE_MATCHES = sorted(name for name, kind in MATCHES.items() if "file" in kind.fields)
PATIENT = Limits(seconds=600)


def group(*values: str, match: str = "substring", case: bool = False, name: str = "g") -> Group:
    return Group(name, ("file",), match, case, values, "test", 1)


@st.composite
def some_groups(draw: st.DrawFn) -> list[Group]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        match = draw(st.sampled_from(FILE_MATCHES))
        where = draw(st.sets(st.sampled_from(MATCHES[match].fields), min_size=1))
        values = draw(st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=6))
        found.append(
            Group(f"g{number}", tuple(sorted(where)), match, draw(st.booleans()), tuple(values), "t", 1)
        )
    return found


@st.composite
def groups_and_text(draw: st.DrawFn) -> tuple[list[Group], bytes]:
    groups = draw(some_groups())
    literals = [value.encode() for _, value in patterns_of(groups)] or [b"a"]
    piece = st.one_of(
        st.sampled_from(literals),
        st.sampled_from(literals).map(bytes.swapcase),
        st.sampled_from([b"\0", b".", b"=", b"/", b"_", b"-", b" ", b"a", b"\xff", b".a"]),
        st.binary(max_size=3),
    )
    return groups, b"".join(draw(st.lists(piece, max_size=24)))


def expected(text: bytes, groups: list[Group]) -> set[tuple[str, str, int]]:
    """Each indicator of each group at its first place, by the twin."""
    patterns = patterns_of(groups)
    first: dict[int, int] = {}
    for pattern, end in sorted(
        naive_rules.find(text, 0, len(text), "file", groups), key=lambda pair: pair[1]
    ):
        first.setdefault(pattern, end)
    return {
        (patterns[pattern][0].id, patterns[pattern][1], end - len(patterns[pattern][1].encode()))
        for pattern, end in first.items()
    }


def numbers_of(signals: np.ndarray) -> set[int]:
    return {
        word * WORD_BITS + bit
        for word, value in enumerate(signals.tolist())
        for bit in range(WORD_BITS)
        if value >> bit & 1
    }


@given(groups_and_text(), st.integers(1, 40))
@example(([group("a", "ab", match="domain")], b"ab.a\0ab"), 1)
@settings(max_examples=500)
def test_same_as_the_twin_whatever_the_chunks(case: tuple[list[Group], bytes], chunk: int):
    groups, text = case
    with file_of(text) as fd:
        found = FileScanner(groups, chunk).scan(fd, len(text), PATIENT)
    everything = expected(text, groups)
    assert {(item.group, item.literal, item.offset) for item in found.indicators} == everything
    assert found.groups == {name for name, _, _ in everything}
    assert numbers_of(found.signals) == {
        FIRST_GROUP + number for number, item in enumerate(groups) if item.id in found.groups
    }
    assert (found.read_bytes, found.unread_bytes, found.cut_short) == (len(text), 0, False)


@given(groups_and_text())
@settings(max_examples=300)
def test_same_signals_as_the_plain_walk(case: tuple[list[Group], bytes]):
    groups, text = case
    plain = np.zeros(WORDS, dtype=np.int64)
    data = np.frombuffer(bytearray(text), dtype=np.uint8)
    scan(data, 0, len(text), WHERE_FILE, compile_groups(groups), plain)
    with file_of(text) as fd:
        assert (FileScanner(groups).scan(fd, len(text), PATIENT).signals == plain).all()


@pytest.mark.parametrize("match", FILE_MATCHES)
def test_across_every_boundary(match: str):
    literal = "stratum.example.org"
    scanner = FileScanner([group(literal, match=match)], chunk=64)
    for at in range(140):
        text = bytearray(b"x " * 120)
        text[at : at + len(literal) + 2] = b" " + literal.encode() + b" "
        with file_of(text) as fd:
            assert scanner.scan(fd, len(text), PATIENT).indicators == (Indicator("g", literal, at + 1),)


def test_numbers_are_those_of_the_whole_set():
    groups = [
        Group("other", ("args",), "whole", False, ("needle",), "test", 1),
        group("needle", name="mine"),
        Group("both", ("args", "file"), "substring", False, ("need",), "test", 1),
    ]
    with file_of(b"a needle") as fd:
        found = FileScanner(groups).scan(fd, 8, PATIENT)
    assert numbers_of(found.signals) == {FIRST_GROUP + 1, FIRST_GROUP + 2}
    assert compile_groups(groups[1:2], [77]).mask.tolist() == [1 << (77 - WORD_BITS)]


def test_holes_are_not_read():
    with file_of(b"needle") as fd:
        end = 1 << 40
        os.ftruncate(fd, end)
        os.pwrite(fd, b"thread", end - 6)
        found = FileScanner([group("needle"), group("thread", name="h", match="word")]).scan(fd, end, PATIENT)
    assert found.groups == {"g", "h"}
    assert found.indicators[1].offset == end - 6
    assert found.read_bytes < 1 << 20
    assert found.unread_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=40)), max_size=4))
@settings(max_examples=50)
def test_holes_are_as_good_as_zeros(pieces: list[tuple[int, bytes]]):
    groups = [group("a", "\x01", "ab", match="word"), group("a", name="h")]
    size = 41 * 4096
    plain = bytearray(size)
    with file_of(b"", size=size) as fd:
        for page, data in pieces:
            os.pwrite(fd, data, page * 4096)
            plain[page * 4096 : page * 4096 + len(data)] = data
        holes = FileScanner(groups).scan(fd, size, PATIENT)
    assert {(item.group, item.literal, item.offset) for item in holes.indicators} == expected(
        bytes(plain), groups
    )


def test_what_is_beyond_the_limit_is_said():
    text = b"x" * 5000 + b"needle"
    with file_of(text) as fd:
        found = FileScanner([group("needle")]).scan(fd, len(text), Limits(scan_bytes=5003))
        assert (found.groups, found.read_bytes, found.unread_bytes) == (set(), 5003, 3)
        found = FileScanner([group("needle")]).scan(fd, len(text), Limits(seconds=0))
        assert (found.groups, found.read_bytes, found.unread_bytes) == (set(), 0, len(text))


def test_a_file_that_is_cut_while_it_is_read():
    text = b"needle" * 100
    with file_of(text) as fd:
        found = FileScanner([group("needle")], chunk=64).scan(fd, 4000, PATIENT)
    assert found.cut_short
    assert found.read_bytes == 600
    assert found.unread_bytes == 3400
    assert found.groups == {"g"}


def test_a_descriptor_that_can_not_be_read(tmp_path: Path):
    fd = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"needle")
        found = FileScanner([group("needle")]).scan(fd, 6, PATIENT)
    finally:
        os.close(fd)
    assert found.cut_short
    assert (found.groups, found.unread_bytes) == (set(), 6)


def test_every_field_has_its_own_answer():
    """A group that is looked for elsewhere is not looked for in files."""
    for field in FIELDS:
        item = Group("g", (field,), "substring", False, ("needle",), "test", 1)
        with file_of(b"needle") as fd:
            assert FileScanner([item]).scan(fd, 6, PATIENT).groups == ({"g"} if field == "file" else set())
