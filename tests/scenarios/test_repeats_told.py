# SPDX-License-Identifier: Apache-2.0
"""A script that runs what no list allows three hundred times is told twice, with how often it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_commands import vigiles

SCRIPT = 'for n in $(seq 300); do /bin/true; done; touch "$0"'


@pytest.mark.parametrize("enforced", [False, True])
def test_the_first_and_the_last_are_told(tmp_path: Path, enforced: bool):
    policy, alerts = tmp_path / "job.toml", tmp_path / "alerts.jsonl"
    policy.write_text('[exec]\nallow = ["sh", "dash", "bash", "seq", "touch"]\nallow_action = "kill"\n')
    done = vigiles(
        "run", *(["--enforce"] if enforced else []), "--policy", str(policy), "--alerts", str(alerts),
        "--", "sh", "-c", SCRIPT, str(tmp_path / "ended"),
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "ended").exists()
    told = [json.loads(line) for line in alerts.read_text().splitlines()]
    assert [alert["rule"] for alert in told] == ["exec.not-allowed"] * 2
    assert [alert["evidence"].get("repeats") for alert in told] == [None, 298]
    assert {alert["action"] for alert in told} == {"killed" if enforced else "none"}
    assert told[0]["pid"] != told[1]["pid"]
    assert "vigiles: alerts: 2 exec.not-allowed (and 298 like it)" in done.stderr.splitlines()
    if enforced:
        assert "vigiles: acted: 300 kill" in done.stderr.splitlines()
    else:
        assert "would have: 300 killed" in done.stderr
