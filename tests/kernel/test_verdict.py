# SPDX-License-Identifier: Apache-2.0
"""The probe's walk against the engine's, over the same bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from harness import Exec, record, seen_by_engine, seen_by_probe, workload

from tracer.detect.facts import FACT_BIT, PROBE_FACTS
from tracer.rules import RuleSet, Sample, load_rules

#: Indicators that overlap, contain and follow each other, of every kind of match.
ADVERSARIAL = """
[indicators.whole]
where = ["name", "path", "args"]
match = "whole"
values = ["a", "aa", "aab", "true", "-a", "/bin/true", "é"]
[indicators.option]
where = "args"
match = "option"
values = ["-a", "--aa", "--aab", "-A"]
[indicators.cased]
where = "args"
match = "option"
case = true
values = ["-A", "--Aa", "-aB", "--aAb.B"]
[indicators.value]
where = "args"
match = "value"
values = ["a", "b=a", "a.b"]
[indicators.url]
where = "args"
match = "url"
values = ["a+b://", "a://", "b://"]
[indicators.prefix]
where = ["name", "path", "args"]
match = "prefix"
values = ["aa", "ab", "/", "tr"]
[indicators.file]
where = ["path", "args"]
match = "file"
values = ["a", "bin/true", "true", "a/b"]
[indicators.word]
where = ["name", "path", "args"]
match = "word"
values = ["a", "aab", "b", "true", "usr"]
[indicators.domain]
where = "args"
match = "domain"
values = ["a.b", "b.a", "aa.bb", "a"]
[indicators.cased-substring]
where = "args"
match = "substring"
case = true
values = ["Aa", "bB", "aAaA", "éA"]
[indicators.substring]
where = ["name", "path", "args"]
match = "substring"
values = ["aaa", "aba", "ab", "ru", "é"]
[rules."exec.every"]
title = "t"
on = "exec"
severity = "low"
when = [
  { any = ["whole", "option", "cased", "value"], at_least = 3, severity = "critical" },
  { all = ["prefix", "file"], none = ["word", "@shell-command"], severity = "high" },
  { all = ["domain"], none = ["url", "@args-cut"], severity = "medium" },
  { any = ["url", "word", "domain", "cased-substring", "substring", "@wallet"] },
]
"""
PIECES = [
    "a", "b", "A", "B", "aa", "aab", "-a", "--aa", "=", "/", ".", "a.b", "b.a", "aa.bb", "a+b://", "://", "-", "_",
    "é", "true", "bin", " ", "\x03", "\n", "a" * 40, "ab" * 30, "\u7fff", "aAaA", "--aAb.B",
]  # fmt: skip


def same(rules: RuleSet, e: Exec) -> None:
    found = seen_by_probe(rules, e)
    expected = seen_by_engine(rules, e)
    facts = int(found[0])
    found[0] = 0
    assert (found == expected).all(), (e.argv, found, expected)
    assert int(e.fixed["epoch"]) == 1
    assert not facts & ~sum(1 << FACT_BIT[name] for name in PROBE_FACTS)
    # what the probe decides, the engine decides
    row = int(e.fixed["row"])
    if row:
        from tracer.detect.execfacts import facts_of

        flags = int(e.fixed["flags"]) & 0x3F
        sample = Sample(
            tuple(dict.fromkeys(item.rpartition(b"/")[2] for item in (e.path, e.name, e.argv[0]))),
            e.path,
            e.args.partition(b"\0")[2],
            facts_of(e.argv, path=e.path, flags=flags),
        )
        rule, severity = rules.alternative_rule[row - 1]
        ranked = {judged.id: rank for judged, rank in rules.judge(sample)}
        assert rule.id in ranked, (e.argv, rule.id, ranked)
        order = ["low", "medium", "high", "critical"]
        assert order.index(ranked[rule.id]) >= order.index(severity)


def run_all(tmp_path: Path, commands: list[list[str]], rules: list[Path]) -> list[Exec]:
    listing = tmp_path / "commands.json"
    listing.write_text(json.dumps(commands))
    found = record(workload("execs_of", listing), rules=rules)
    assert found.status == 0
    assert found.summary is not None
    assert found.summary.lost_total == 0
    return [e for e in found.execs() if e.path.rpartition(b"/")[2] == b"true"]


@pytest.mark.parametrize("seed", range(2))
def test_same_groups_for_the_same_bytes(tmp_path: Path, seed: int):
    rules = tmp_path / "rules.toml"
    rules.write_text(ADVERSARIAL)
    chance = random.Random(seed)
    commands = [
        [
            "".join(chance.choices(PIECES, k=chance.randrange(4)))
            for _ in range(chance.choice([1, 2, 3, 5, 9]))
        ]
        for _ in range(1500)
    ]
    commands += [["x" * 5000, "-a"], ["-a"] * 2000, [""] * 50, ["a.b." + "é" * 300]]
    known = load_rules([rules])
    execs = run_all(tmp_path, commands, [rules])
    assert len(execs) == len(commands)
    for e in execs:
        same(known, e)
    assert len({int(e.fixed["row"]) for e in execs} - {0}) >= 3


def test_same_with_the_packs(tmp_path: Path):
    """Command lines of miners and tunnels, and what looks like them."""
    known = load_rules()
    words = [value for group in known.groups for value in group.texts]
    chance = random.Random(7)
    commands = [
        chance.choices(words, k=chance.randrange(1, 6)) + chance.choices(["-c", "--", "x", "-o"], k=2)
        for _ in range(1500)
    ]
    execs = run_all(tmp_path, commands, [])
    assert len(execs) == len(commands)
    for e in execs:
        same(known, e)
    assert sum(int(e.fixed["row"]) > 0 for e in execs) > 100
