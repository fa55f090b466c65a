# SPDX-License-Identifier: Apache-2.0
"""An hour of an agent beside a training job, made of half a minute that was recorded: who watches it is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from stretch import Pace, stretch

from tracer.cli import group
from tracer.rules import load_rules
from tracer.scenario.runner import run
from tracer.scenario.spec import read
from tracer.scenario.verdict import SKIPPED

pytestmark = pytest.mark.slow
HOUR = 3600
#: The trainer goes on without a pause; the agent's model thinks for a while, and wants now this tool, now that.
PACES = [Pace(), Pace((0.5, 15), any_order=True)]


@pytest.fixture(scope="module")
def recording():
    result = run(read(Path(__file__).parent / "long" / "agent-session.toml"), load_rules([]), keep=True)
    if result.verdict == SKIPPED:
        pytest.skip(result.reason)
    assert result.passed, f"{result.verdict}: {result.reason}\n{result.output}"
    yield Path(result.folder) / "recording"
    shutil.rmtree(result.folder)


def test_an_hour_raises_one_alert_at_most_and_none_that_is_high(recording: Path, tmp_path: Path):
    hour = tmp_path / "hour"
    stretch(recording, hour, HOUR, PACES, seed=1)
    replayed = CliRunner().invoke(group, ["replay", "--json", str(hour)])
    assert replayed.exit_code == 0, replayed.output
    alerts = [json.loads(line) for line in replayed.stdout.splitlines()]
    told = [(alert["rule"], alert["severity"], alert["argv"], alert["evidence"]) for alert in alerts]
    assert not [row for row in told if row[1] in ("high", "critical")], told
    assert len(told) <= 1, told
