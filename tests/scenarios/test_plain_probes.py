# SPDX-License-Identifier: Apache-2.0
"""The corpus once more by the probes for kernels without BTF: the same alerts, but for what these say they don't see.

With ``--loader bcc`` they go by the types that bcc has compiled, else by those that the running kernel tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from conftest import IN_CI
from test_corpus import CORPUS

from tracer.kernel import host, loader, rungs, trial
from tracer.kernel.hooks import LEFT_OUT
from tracer.kernel.loader import Loader
from tracer.rules import RuleSet, load_rules
from tracer.scenario import services
from tracer.scenario.runner import run
from tracer.scenario.spec import Scenario
from tracer.scenario.verdict import GOOD, SKIPPED

#: Emulated, all takes ten to fifty times as long.
PATIENCE_S = 400.0
#: One of each thing that is seen in a way of its own: these are run under other kernels as well; in CI only the first.
#: With VIGILES_WHOLE_CORPUS=1 all the others, too, which takes an hour.
SHORT = {"malicious/miner-argv", "malicious/miner-wire-v1", "malicious/gpu-tool-call"}
MORE = {"malicious/shell-bash", "malicious/ssh-reverse", "malicious/tamper-left-cgroup", "benign/git-ssh"}
GUEST = SHORT if IN_CI else SHORT | MORE
CHOSEN = [s for s in CORPUS if os.environ.get("VIGILES_WHOLE_CORPUS") or s.name in GUEST]
#: Kinds of event that they never tell of, and rules that have less to go by.
UNSEEN = {kind for left_out in LEFT_OUT.values() for kind in left_out.on}
IN_PART = {rule for left_out in LEFT_OUT.values() for rule in left_out.in_part}


@contextmanager
def by(taken: Loader) -> Iterator[None]:
    """Go on by another loader, and then by the one before."""
    before = loader.taken()
    found_out = (trial.needs_kin, rungs.taken, rungs.complaint_about)
    try:
        loader._taken = taken
        for found in found_out:
            found.cache_clear()
        yield
    finally:
        loader._taken = before
        for found in found_out:
            found.cache_clear()


def flagged(scenario: Scenario, rules: RuleSet) -> set[tuple[str, str]]:
    """Rules and severities of all that both kinds of probes could tell of."""
    result = run(replace(scenario, timeout=PATIENCE_S), rules)
    if result.verdict == SKIPPED:
        pytest.skip(result.reason)
    unseen = {rule.id for rule in rules.rules if rule.on in UNSEEN} | IN_PART
    excused = scenario.pending or unseen & {expected.rule for expected in scenario.alerts}
    assert result.verdict in GOOD or excused, f"{result.reason}\n{result.output}"
    return {(flag.rule, flag.severity) for flag in result.flags if flag.rule not in unseen}


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    monkeypatch.setattr(services, "PATIENCE_S", PATIENCE_S)


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load_rules([])


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=scenario.name, marks=pytest.mark.guest if scenario.name in GUEST else ())
        for scenario in CHOSEN
    ],
)
def test_the_same_alerts(scenario, rules):
    plain = loader.taken() if loader.taken().plain else Loader("bcc", "asked for", host.BTF_FILE)
    with by(Loader("libbpf", "asked for")):
        expected = flagged(scenario, rules)
    with by(plain):
        assert flagged(scenario, rules) == expected


def test_those_of_guests_are_there():
    assert {scenario.name for scenario in CORPUS} >= SHORT | MORE
