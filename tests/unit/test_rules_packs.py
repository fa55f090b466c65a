# SPDX-License-Identifier: Apache-2.0
"""The packs as a whole: nothing in them is useless, and whoever reads an alert is helped."""

from __future__ import annotations

import re

import pytest

from tracer.detect.facts import FACTS
from tracer.rules import RuleSet, load_rules


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load_rules()


def test_every_group_is_used(rules: RuleSet):
    used = {n for rule in rules.rules for a in rule.alternatives for n in (*a.all, *a.any, *a.none)}
    assert {group.id for group in rules.groups} <= used


def test_every_rule_can_be_acted_upon(rules: RuleSet):
    for rule in rules.rules:
        assert rule.remedy
        assert rule.attack
        # what acts, acts on what is loud: an alternative of low or medium severity may be everyday work
        loud = {"high", "critical"} & {a.severity for a in rule.alternatives}
        assert (rule.action != "alert") <= bool(loud), rule.id
        if loud and rule.id != "net.scan-below":  # which says why
            assert rule.action in ("block", "kill"), rule.id
        assert len(rule.title) < 80
        assert re.fullmatch(r"[a-z]+\.[a-z-]+", rule.id)


def test_there_is_a_rule_for_every_fact_about_forwards_and_the_gpu(rules: RuleSet):
    used = {name for rule in rules.rules for a in rule.alternatives for name in (*a.all, *a.any)}
    expected = {
        f"@{fact.name}"
        for fact in FACTS
        if "file" not in fact.on and fact.name.startswith(("ssh-", "gpu-", "memfd", "wallet"))
    }
    assert expected <= used
