# SPDX-License-Identifier: Apache-2.0
"""The list of programs is that of the compiled probes, and whatever can be seen in several ways is on one ladder."""

from __future__ import annotations

from collections import Counter

import pytest

from tracer.kernel import doctor_hooks, libbpf, loader, rungs, trial
from tracer.kernel.hooks import GPU, HOOKS, LADDERS, LEFT_OUT, NOT_AT_ALL, Rung
from tracer.kernel.object import Object
from tracer.rules import load_rules
from tracer.rules.model import ON

#: Run once, by hand: tracer/kernel/fit.py.
NEVER_ATTACHED = {"look_at_self"}
ON_LADDERS = [name for ways in LADDERS.values() for rung in ways for name in rung.programs + rung.where_there]


def compiled(kind: str) -> set[str]:
    with Object(loader.object_path(kind)) as probes:
        return {name for name, _ in probes.programs()}


def test_every_program_is_listed_once():
    listed = [hook.program for hook in HOOKS]
    assert len(set(listed)) == len(listed)
    assert set(listed) == (compiled("") | compiled("plain.")) - NEVER_ATTACHED


def test_a_program_is_on_one_rung():
    assert max(Counter(ON_LADDERS).values()) == 1
    assert set(ON_LADDERS) <= {hook.program for hook in HOOKS}
    assert not {hook.program for hook in HOOKS if hook.needed} & set(ON_LADDERS), (
        "there is no way around these"
    )


def test_what_is_left_out_is_known():
    loadable = trial._sections(loader.object_path("plain."), False)
    assert set(LEFT_OUT) <= compiled("") - loadable.keys()
    assert {kind for left_out in LEFT_OUT.values() for kind in left_out.on} <= set(ON)
    rules = {rule.id for rule in load_rules([]).rules}
    assert {rule for left_out in LEFT_OUT.values() for rule in left_out.in_part} <= rules


@pytest.fixture
def complaints(monkeypatch) -> dict[str, str]:
    """By program; of others there are none, and all of them are there."""
    found: dict[str, str] = {}
    monkeypatch.setattr(loader, "_taken", loader.Loader("libbpf", "asked for"))
    monkeypatch.setattr(rungs.host, "asks_bpf", lambda: True)
    monkeypatch.setattr(libbpf, "takes_kind", lambda *kind: True)
    monkeypatch.setattr(
        rungs, "usable", lambda names, attached=False: {name: found.get(name) for name in names}
    )
    for cached in (rungs.taken, rungs.complaint_about):
        cached.cache_clear()
    yield found
    for cached in (rungs.taken, rungs.complaint_about):
        cached.cache_clear()


def test_the_first_that_is_there_is_taken(complaints):
    complaints |= {"on_ioctl_lsm": "no", "on_ioctl_fentry_compat": "not everywhere"}
    assert rungs.taken(GPU) == Rung("fentry", ("on_ioctl_fentry",))
    assert rungs.wanted(gpu=True) - rungs.wanted(gpu=False) == {"on_ioctl_fentry"}


def test_the_last_one_is_taken_unasked(complaints):
    complaints |= dict.fromkeys(ON_LADDERS, "no")
    assert rungs.taken(GPU).programs == ("on_sys_enter",)
    assert rungs.taken("what is refused") == NOT_AT_ALL
    assert not rungs.refuses()


@pytest.mark.parametrize(("refused", "trials"), [(set(), 1), ({"b"}, 4)])
def test_one_that_is_refused_is_found_among_those_tried_at_once(monkeypatch, refused: set[str], trials: int):
    tried = []

    def complaint(programs: list[str], *, attached: bool = False) -> str | None:
        tried.append(programs)
        return "no" if refused & set(programs) else None

    monkeypatch.setattr(trial, "_complaint", complaint)
    found = trial.usable_at_once(iter("abc"))
    assert found == {name: "no" if name in refused else None for name in "abc"}
    assert len(tried) == trials


def test_doctor_tries_together_what_is_refused_together(monkeypatch):
    tried = []
    monkeypatch.setattr(
        trial, "usable_at_once", lambda names: tried.append(set(names)) or dict.fromkeys(names)
    )
    listed = [hook.program for hook in HOOKS if hook.place != "gpu"]
    assert doctor_hooks._tried(listed).keys() == set(listed)
    on_none, *on_rungs = sorted(tried, key=len, reverse=True)
    assert on_none == set(listed) - set(ON_LADDERS)
    ways = {rung for ladder, ways in LADDERS.items() if ladder != GPU for rung in ways if rung != NOT_AT_ALL}
    assert {frozenset(group) for group in on_rungs} == {frozenset(rung.programs) for rung in ways}
