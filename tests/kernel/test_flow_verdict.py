# SPDX-License-Identifier: Apache-2.0
"""The probe's walk over first bytes against the engine's, over the same bytes."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from harness import First, record, seen_by_engine, seen_by_probe, talker

from tracer.rules import RuleSet, load_rules
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_FLOW, SEVERITIES

#: Of every kind of match that fields of flows know, overlapping, in either direction or both.
ADVERSARIAL = r"""
[indicators.prefix]
where = ["sent", "received"]
match = "prefix"
values = ["a", "ab", "GET ", "é"]
[indicators.sent-prefix]
where = "sent"
match = "prefix"
case = true
values = ["AB", "aB", "Get"]
[indicators.word]
where = ["sent", "received"]
match = "word"
values = ["a", "aab", "b", "login", "mining.subscribe"]
[indicators.cased-word]
where = "received"
match = "word"
case = true
values = ["A", "aAb", "Login"]
[indicators.domain]
where = ["sent", "received"]
match = "domain"
values = ["a.b", "b.a", "aa.bb", "pool.example", "a"]
[indicators.cased-domain]
where = "sent"
match = "domain"
case = true
values = ["A.b", "Pool.Example"]
[indicators.substring]
where = ["sent", "received"]
match = "substring"
values = ["aaa", "aba", "oo", "é", "a.b.a", "\u0003aab"]
[indicators.cased-substring]
where = "received"
match = "substring"
case = true
values = ["Aa", "bB", "aAaA", "éA", "OO"]
[rules."net.every"]
title = "t"
on = "flow"
severity = "low"
when = [
  { any = ["prefix", "word", "domain", "sent-prefix"], at_least = 3, severity = "critical" },
  { all = ["cased-word", "cased-domain"], severity = "high" },
  { all = ["substring"], none = ["cased-substring", "word"], severity = "medium" },
  { any = ["cased-domain", "cased-word", "cased-substring", "substring", "prefix"] },
]
"""
PIECES = [
    b"a", b"b", b"A", b"B", b"aa", b"aab", b"aAb", b".", b"a.b", b"b.a", b"aa.bb", b"A.b", b"\x03", b"\x04pool\x07example",
    b"\x04Pool\x07Example\x00", b"pool.example", b"Pool.Example", b"\x01a\x01b\x00", b"\x02aa\x02bb", b"\x00", b" ",
    b"_", b"-", b"GET ", b"Get ", b"login", b"Login", b"mining.subscribe", "é".encode(), b"\xff", b"\x7f", b"\r\n",
    b"a" * 40, b"ab" * 300, b"aAaA", b"oo", b"OO", b'"', b"x" * 505,
]  # fmt: skip


def strongest(rules: RuleSet, signals: np.ndarray) -> int:
    """The rank of the severest rule on flows that holds for these signals alone; -1: none."""
    fired = np.empty(len(rules.rules), np.int64)
    count = evaluate(ON_FLOW, signals, rules.table, fired)
    return max((SEVERITIES.index(rules.alternative_rule[row][1]) for row in fired[:count]), default=-1)


def compare(rules: RuleSet, events: list[First]) -> Counter[int]:
    """Each record of one flow; how often which row was found."""
    so_far = np.zeros(len(events[0].fixed["signals"]), np.int64)
    rows: Counter[int] = Counter()
    for e in events:
        if e.fixed["protocol"] != 6:
            so_far[:] = 0
        so_far |= seen_by_engine(rules, e)
        assert int(e.fixed["epoch"]) == 1
        found = seen_by_probe(rules, e)
        assert (found == so_far).all(), (e.data, e.sent, found, so_far)
        row = int(e.fixed["row"])
        rows[row] += 1
        rank = strongest(rules, so_far)
        if row:
            rule, severity = rules.alternative_rule[row - 1]
            assert rule.on == "flow"
            assert SEVERITIES.index(severity) <= rank, (e.data, rule.id)
    return rows


def by_flow(events: list[First]) -> list[list[First]]:
    flows = defaultdict(list)
    for e in events:
        flows[e.cookie].append(e)
    return list(flows.values())


@pytest.fixture
def adversarial(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(ADVERSARIAL)
    return path


def some_bytes(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return rng.randbytes(rng.choice([1, 30, 700]))
    return b"".join(rng.choices(PIECES, k=rng.randrange(1, 9)))


@cache
def texts() -> list[bytes]:
    return [text.encode() for group in load_rules().groups for text in group.texts]


def words_of_packs(rng: random.Random) -> bytes:
    words = texts()
    between = [b" ", b"\0", b".", b'"', b"\n", b"", b"\x05"]
    return b"".join(
        rng.choice(words) + rng.choice(between) for _ in range(rng.randrange(1, 6))
    )  # fmt: skip


@pytest.mark.parametrize("packs", [False, True])
def test_datagrams(tmp_path: Path, adversarial: Path, packs: bool):
    rng = random.Random(3)
    one = words_of_packs if packs else some_bytes
    datagrams = [one(rng) for _ in range(2000 if not packs else 500)]
    listing = tmp_path / "datagrams.json"
    listing.write_text(json.dumps([d.hex() for d in datagrams]))
    found = record(talker("datagrams_of", listing, 53), rules=[adversarial])
    known = load_rules([adversarial])
    assert found.status == 0
    rows: Counter[int] = Counter()
    flows = by_flow(found.firsts())
    for events in flows:
        assert [e.data for e in events] == [d[:512] for d in datagrams]
        rows += compare(known, events)
    assert len(flows) == 2
    assert len(rows) >= 3


def test_streams(tmp_path: Path, adversarial: Path):
    """In pieces, both ways: what was found stays found, whatever comes behind it."""
    rng = random.Random(4)
    talks = [
        [[rng.random() < 0.5, some_bytes(rng).hex()] for _ in range(rng.randrange(1, 8))] for _ in range(300)
    ]
    listing = tmp_path / "talks.json"
    listing.write_text(json.dumps(talks))
    found = record(talker("streams_of", listing), rules=[adversarial])
    known = load_rules([adversarial])
    assert found.status == 0
    flows = by_flow(found.firsts())
    assert len(flows) == 2 * len(talks)
    rows: Counter[int] = Counter()
    for events in flows:
        rows += compare(known, events)
    assert len(rows) > 3
