# SPDX-License-Identifier: Apache-2.0
"""Execs that are refused: which rules a probe may refuse by, and what is told of those that were."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records

from bench import synthetic
from tracer.engine.engine import Engine, Fired
from tracer.evidence import evidence_of
from tracer.kernel import schema
from tracer.policy import apply_policy
from tracer.policy.parse import parse
from tracer.respond.responder import would_do
from tracer.rules import RuleSet, load_rules
from tracer.rules.model import ON_REFUSE

PACKS = load_rules([])


def under(text: str) -> RuleSet:
    parsed = parse(text, "f.toml")
    assert not parsed.errors
    return apply_policy(parsed.policy, PACKS)


def refusable(rules: RuleSet) -> set[str]:
    rows = rules.probe_rows
    return {
        rules.alternative_rule[row][0].id
        for on, row in zip(rows.on, rows.row, strict=True)
        if on == ON_REFUSE
    }


DENY = '[exec]\ndeny = ["/opt/x", "file:/bin/sh"]\ndeny_action = "{}"\n'
ALLOW = '[exec]\nallow = ["/usr/*", "bash"]\nallow_action = "block"\n'
UNTIL = 'reason = "r"\nuntil = 2999-01-01\nexe = "/opt/x"\n'


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", set()),  # what the packs know of programs is known of their arguments, too
        (DENY.format("block"), {"exec.denied"}),
        (DENY.format("kill"), set()),
        (DENY.format("alert"), set()),
        (ALLOW, {"exec.not-allowed"}),
        (ALLOW + '[[exceptions]]\nrule = "exec.*"\n' + UNTIL, {"exec.not-allowed"}),  # but for /opt/x
        (
            ALLOW
            + '[[exceptions]]\nrule = "exec.*"\nargs = "x"\n'
            + UNTIL.replace("exe", "remote", 1).replace("/opt/x", "192.0.2.1"),
            set(),
        ),
        ('[actions]\n"*" = "block"\n', set()),
    ],
)
def test_by_which_rules(policy: str, expected: set[str]):
    assert refusable(under(policy)) == expected


def test_rows_of_a_kind_lie_together():
    rows = under(DENY.format("block") + ALLOW.removeprefix("[exec]\n")).probe_rows
    changes = sum(int(a != b) for a, b in zip(rows.on[:-1], rows.on[1:], strict=True))
    assert changes == len({int(on) for on in rows.on}) - 1


def fired(rules: RuleSet, *events: bytes) -> list[tuple[Engine, Fired]]:
    engine = Engine(rules, processes=64, flows=64)
    return [
        (engine, one) for one in engine.feed([synthetic.execute(7, 1, 1, [b"sh"], b"/usr/bin/dash"), *events])
    ]


def test_it_is_told_of_whoever_asked():
    done = 1 << schema.ACTION["ACTION_BLOCK"]
    rules = under(DENY.format("block"))
    ((engine, one),) = fired(rules, records.exec_refused(b"/opt/x", tgid=7, ts=2, done=done, took_ns=5))
    assert [rule.id for rule, _ in one.rules] == ["exec.denied"]
    assert (one.done, one.decided_ns, one.refusable) == (done, 7, False)
    program = engine.describe(one.entry)
    assert program is not None and program.exe == b"/usr/bin/dash"  # it goes on as it was
    evidence = evidence_of(engine, one, program)
    assert (evidence["refused"], evidence["program"]) == (True, "/opt/x")
    assert evidence["matched"][0]["indicator"] == "/opt/x"


def test_a_long_path_is_whole_in_the_evidence():
    path = b"/" + b"a" * 1022
    ((engine, one),) = fired(under(ALLOW), records.exec_refused(path, tgid=7, ts=2))
    assert evidence_of(engine, one, None)["program"] == path.decode()


def test_a_length_that_can_not_be_is_malformed():
    record = np.frombuffer(records.exec_refused(b"/opt/x", tgid=7), schema.EXEC_REFUSED, 1).copy()
    record["path_len"] = 7
    engine = Engine(under(ALLOW), processes=64, flows=64)
    assert not list(engine.feed([record.tobytes() + b"/opt/x"]))
    assert engine.table_losses()["malformed"] == 1


@pytest.mark.parametrize(("refusable", "would"), [(0, "killed"), (1, "blocked")])
def test_what_would_have_been(refusable: int, would: str):
    rules = under(DENY.format("block"))
    head = synthetic.execute(8, 7, 2, [b"/opt/x"], b"/opt/x")
    row = np.frombuffer(head[: schema.EXEC.itemsize], schema.EXEC).copy()
    row["refusable"] = refusable
    ((_, one),) = fired(rules, row.tobytes() + head[schema.EXEC.itemsize :])
    assert one.refusable is bool(refusable)
    assert would_do(one, [rule for rule, _ in one.rules], rules.terms) == would
