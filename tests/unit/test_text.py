# SPDX-License-Identifier: Apache-2.0
"""Nothing that the tree chose may act on a terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tracer import text


@given(st.binary(max_size=200))
def test_shown_is_harmless(raw):
    for character in text.shown(raw):
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_a_command_line_is_one_line(argv):
    line = text.command_line(argv)
    assert "\n" not in line
    assert line == text.printable(line)


@given(st.text(max_size=100), st.integers(4, 80))
def test_shorten_keeps_within(words, width):
    assert len(text.shorten(words, width)) <= width
    if len(words) <= width:
        assert text.shorten(words, width) == words


def test_plain_words_stay():
    assert text.shown(b"/usr/bin/python3 -m x") == "/usr/bin/python3 -m x"
    assert text.shown("größe €".encode()) == "größe €"
    assert text.shown(b"\x1b]0;x\x07\xff") == "\\x1b]0;x\\x07\\xff"
