# SPDX-License-Identifier: Apache-2.0
"""Who certainly may not use the GPU, as probes are told it: never somebody whom user space would let."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.facts import FIRST_GROUP, WORD_BITS
from tracer.rules import RuleSet, Sample
from tracer.rules.hidden import GPU_USER_GROUP_ID, hidden_groups, users_known
from tracer.rules.model import Terms

LETTERS = "ab/.-"
PATHS = st.text(LETTERS, min_size=1, max_size=12).map(lambda text: "/" + text)
GLOBS = st.text(LETTERS + "*?", min_size=1, max_size=8)


def may_be_listed(users: tuple[str, ...], path: str, args: list[str]) -> bool:
    """What the probe asks: its executors are compared elsewhere, so user space's stands for both."""
    rules = RuleSet((), (), terms=Terms(gpu_users=users))
    (place,) = [n for n, group in enumerate(hidden_groups(rules.terms)) if group.id == GPU_USER_GROUP_ID]
    sample = Sample(path=path.encode(), args=b"".join(arg.encode() + b"\0" for arg in args))
    word, bit = divmod(FIRST_GROUP + place, WORD_BITS)
    return bool(int(rules.signals(sample)[word]) >> bit & 1)


@settings(max_examples=400, deadline=None)
@given(st.lists(GLOBS, max_size=4), PATHS, st.lists(PATHS, max_size=3))
def test_who_is_listed_is_never_barred(globs, path, args):
    users = tuple(globs)
    listed = any(
        fnmatchcase(text, glob) or fnmatchcase(text.rpartition("/")[2], glob)
        for glob in users
        for text in (path, *args)
    )
    if users_known(Terms(gpu_users=users)):
        assert may_be_listed(users, path, args) or not listed
    else:
        assert any(not glob.strip("*?") for glob in users)


@pytest.mark.parametrize(
    ("users", "known"),
    [(None, False), ((), True), (("train.py",), True), (("*",), False), (("train.py", "?*"), False)],
)
def test_what_can_be_known(users, known):
    assert users_known(Terms(gpu_users=users)) == known


def test_a_long_glob_is_cut_between_characters():
    terms = Terms(gpu_users=("é" * 40 + "x",))
    (group,) = [group for group in hidden_groups(terms) if group.id == GPU_USER_GROUP_ID]
    assert group.values == ("é" * 32,)
