# SPDX-License-Identifier: Apache-2.0
"""Numbers that rule files give to detectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.rules import RuleSet, load_rules
from tracer.rules.load import join, read_packs
from tracer.rules.parse import parse
from tracer.rules.thresholds import THRESHOLDS, numbers_of

PACKS = load_rules([])


def test_the_packs_give_all_numbers_that_detectors_ask_for():
    assert {name: set(keys) for name, keys in THRESHOLDS.items()} == {
        name: set(keys) for name, keys in PACKS.thresholds.items()
    }
    for name, keys in THRESHOLDS.items():
        numbers = [PACKS.thresholds[name][key] for key in keys]
        assert numbers_of(PACKS.thresholds, name).tolist() == numbers
        for number, threshold in zip(numbers, keys.values(), strict=True):
            assert threshold.least <= number <= threshold.most


def test_a_later_file_replaces_one_number(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("[thresholds.scan]\naddresses = 9\n")
    found = load_rules([path])
    assert found.thresholds["scan"] == PACKS.thresholds["scan"] | {"addresses": 9}
    assert found.hash != PACKS.hash


def test_a_missing_number_switches_the_detector_off():
    assert not numbers_of({}, "scan").any()
    assert not numbers_of({"scan": {"addresses": 9}}, "scan").any()
    assert RuleSet((), ()).thresholds == {}


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("[thresholds.scam]\nports = 5", 1, "no detector 'scam'", "did you mean 'scan'?"),
        ("[thresholds.scan]\nports = 5\nadresses = 4", 3, "unknown key 'adresses'", "did you mean 'addresses'?"),
        ("[thresholds.scan]\nports = 1", 2, "ports = 1 is out of bounds", "from 2 to 32"),
        ("[thresholds.scan]\nports = 33", 2, "ports = 33 is out of bounds", "tried in vain"),
        ("[thresholds.scan]\nports = true", 2, "'ports' must be a whole number", "ports ="),
        ("[thresholds.scan]\nports = 5.0", 2, "'ports' must be a whole number", "ports ="),
        ("[thresholds]\nscan = 5", 2, "'scan' must be a table", "header"),
        ("\nthresholds = 5", 2, "'thresholds' must be a table", "header"),
    ],
)  # fmt: skip
def test_mistakes_are_told_by_line(text: str, line: int, says: str, hint: str):
    (error,) = join([*read_packs(), parse(text, "f.toml")]).errors
    assert error.line == line
    assert says in error.message
    assert hint in str(error.hint)
