# SPDX-License-Identifier: Apache-2.0
"""What benchmarks have in common still fits the probes. No figure is looked at."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from bench import overhead
from bench.contenders import Arena, Contender, took
from bench.worker import TRUE
from tracer.kernel.probes import ProbeOptions
from tracer.rules import load_rules
from tracer.scenario.world import World


def test_contenders_take_turns(tmp_path: Path):
    rules = overhead.policy_rules(tmp_path, "198.51.100.20")
    (tmp_path / "world").mkdir()
    contenders = [
        Contender("untraced", None),
        Contender("observed", ProbeOptions(rules=load_rules([]))),
        Contender("enforced", ProbeOptions(rules=rules), enforce=True),
    ]
    with (
        World(tmp_path / "world", ("outside",)) as world,
        Arena(contenders, lambda: world.enter("outside")) as arena,
    ):
        turns = arena.compare(("spawn", 3, 0), 2)
        refused = arena.compare(("connect", 3, world.hosts["outside"].address, overhead.CLOSED), 1)
        costs = arena.program_costs(contenders[1], [("spawn", 3, 0)])
    for name in ("observed", "enforced"):
        assert took(turns.records[name], "EVENT_EXEC")["n"] == 6, name
        assert overhead.stopped(refused.records[name]) == (3 if name == "enforced" else 0)
    assert turns.records["untraced"] == []
    assert turns.figures("untraced")["observed"]["ratio"]["min"] > 0
    assert "error" in costs or costs["on_exec"]["runs"] >= 3


def test_the_policy_allows_what_is_measured(tmp_path: Path):
    rules = overhead.policy_rules(tmp_path, "198.51.100.20")
    assert any(str(Path(TRUE).resolve()) in group.values for group in rules.groups)
