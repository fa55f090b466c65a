# SPDX-License-Identifier: Apache-2.0
"""What is said of why a rule of the packs holds, or does not."""

from __future__ import annotations

import pytest
from command_lines import MINERS, rows, sample
from quiet_lines import QUIET

from tracer.rules import RuleSet, load_rules


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load_rules()


@pytest.mark.parametrize(("rule", "severity", "command"), [("miner.command", *r) for r in rows(MINERS, 2)])
def test_explanations_agree_with_the_verdict(rules: RuleSet, rule: str, severity: str, command: str):
    found = rules.rule(rule)
    assert found is not None
    said = rules.explain(found, event := sample(command))
    assert (said.fires, said.severity, said.missing, said.forbidden) == (True, severity, (), ())
    for match in said.matches:
        fields = {"path": (event.path,), "args": (event.args,), "name": event.names}
        spelled = {text[match.start : match.end].lower() for text in fields[match.field]}
        assert match.literal.lower().encode() in spelled


@pytest.mark.parametrize("command", QUIET.strip().splitlines())
def test_explanations_of_what_does_not_fire(rules: RuleSet, command: str):
    for rule in rules.rules:
        said = rules.explain(rule, sample(command))
        assert not said.fires
        assert said.missing or said.forbidden or rule.on != "exec"


def test_evidence_is_not_buried(rules: RuleSet):
    """Padding with what matches often must not push out what matters."""
    found = rules.find("args", b"-a\0" * 500 + b"stratum+tcp://x\0")
    assert [match.literal for match in found if match.group == "pool-schemes"] == ["stratum+tcp://"]
    assert len([match for match in found if match.group == "algorithm-options"]) == 1
