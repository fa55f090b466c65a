# SPDX-License-Identifier: Apache-2.0
"""What the packs make of command lines, good and bad ones."""

from __future__ import annotations

import pytest
from command_lines import HAND_OFFS, MINERS, TUNNELS, fired, rows, sample
from quiet_lines import NEGATIVES, NO_HAND_OFFS, QUIET

from tracer.detect.execfacts import facts_of
from tracer.rules import RuleSet, Sample, load_rules

FACTS_ALONE = [
    ("exec.fileless", {"memfd"}, "/memfd:x", "high"),
    ("exec.fileless", {"memfd", "deleted"}, "/memfd:x", "high"),
    ("exec.fileless", {"deleted"}, "/tmp/x", "medium"),
    ("exec.fileless", {"memfd", "deleted"}, "/memfd:runc_cloned:/proc/self/exe", "low"),
    ("exec.fileless", {"memfd"}, "/memfd:crun_cloned:/proc/self/exe", "low"),
    ("exec.fileless", {"memfd"}, "/tmp/memfd:runc_cloned:/proc/self/exe", "high"),
    ("exec.fileless", {"deleted"}, "/usr/bin/runc", "low"),
    ("exec.fileless", {"script", "setid"}, "/usr/bin/x", None),
]


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load_rules()


@pytest.mark.parametrize(("rule", "severity", "command"), rows(HAND_OFFS, 3))
def test_hand_offs(rules: RuleSet, rule: str, severity: str, command: str):
    assert fired(rules, sample(command)).get(rule) == severity


@pytest.mark.parametrize("command", NO_HAND_OFFS.strip().splitlines())
def test_what_hands_nothing_over(rules: RuleSet, command: str):
    assert fired(rules, sample(command)) == {}


@pytest.mark.parametrize(("severity", "command"), rows(MINERS, 2))
def test_miners(rules: RuleSet, severity: str, command: str):
    assert fired(rules, sample(command)).get("miner.command") == severity


@pytest.mark.parametrize(("rule", "severity", "command"), rows(TUNNELS, 3))
def test_tunnels(rules: RuleSet, rule: str, severity: str, command: str):
    assert fired(rules, sample(command)).get(rule) == severity


@pytest.mark.parametrize("command", QUIET.strip().splitlines())
def test_what_nothing_is_said_about(rules: RuleSet, command: str):
    assert fired(rules, sample(command)) == {}


@pytest.mark.parametrize(
    ("rule", "command"),
    [(rule, command) for rule, text in NEGATIVES.items() for command in text.strip().splitlines()],
)
def test_near_misses(rules: RuleSet, rule: str, command: str):
    assert rule not in fired(rules, sample(command))


def test_msr(rules: RuleSet):
    assert fired(rules, sample("/sbin/modprobe msr allow_writes=on")) == {"miner.msr-writes": "medium"}


@pytest.mark.parametrize(("rule", "facts", "path", "severity"), FACTS_ALONE)
def test_facts_alone(rules: RuleSet, rule: str, facts: set[str], path: str, severity: str | None):
    event = Sample.from_command([path.encode()], facts=frozenset(facts))
    assert fired(rules, event).get(rule) == severity


@pytest.mark.parametrize("liar", ["grep", "bash", "nohup", "git"])
def test_a_false_name_excuses_nobody(rules: RuleSet, liar: str):
    """argv[0] and the name a program is called by are the caller's to choose; the path is the kernel's."""
    event = Sample(
        names=(b"x", liar.encode()),
        path=b"/tmp/x",
        args=b"-c\0config\0-o\0stratum+tcp://pool.example:3333\0",
        facts=facts_of([liar.encode(), b"-c", b"config"], path=b"/tmp/x"),
    )
    assert fired(rules, event) == {"miner.command": "critical"}


def test_any_of_the_names_is_enough(rules: RuleSet):
    event = Sample(names=(b"a", b"b", b"xmrig"), path=b"/tmp/a", args=b"")
    assert fired(rules, event) == {"miner.command": "critical"}
