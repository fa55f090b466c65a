# SPDX-License-Identifier: Apache-2.0
"""The corpus: every attack is flagged, no everyday work is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer.rules import load_rules
from tracer.scenario.find import files
from tracer.scenario.runner import run
from tracer.scenario.spec import read
from tracer.scenario.verdict import GOOD, SKIPPED

pytestmark = pytest.mark.slow
CORPUS = [read(path) for path in files(Path(__file__).parent)]


@pytest.fixture(scope="module")
def rules():
    return load_rules([])


@pytest.mark.parametrize("enforce", [False, True], ids=["observe", "enforce"])
@pytest.mark.parametrize("scenario", CORPUS, ids=lambda scenario: scenario.name)
def test_scenario(scenario, rules, enforce):
    """Enforced, what is loud is stopped, and everyday work is not harmed."""
    result = run(scenario, rules, enforce=enforce)
    if result.verdict == SKIPPED:
        pytest.skip(result.reason)
    flags = "".join(f"\n  {flag.rule} ({flag.severity}) {flag.exe}: {flag.action}" for flag in result.flags)
    assert result.passed, f"{result.verdict}: {result.reason}{flags}\n{result.output}"
    if result.verdict not in GOOD:
        pytest.xfail(f"{result.reason} ({scenario.pending})")
