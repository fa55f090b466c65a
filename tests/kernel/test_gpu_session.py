# SPDX-License-Identifier: Apache-2.0
"""The session that is prepared for a host with a card, on the stand-in: all of its results are there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.timeout(600)
def test_dry_run(tmp_path: Path):
    command = [ROOT / "bench/gpu_session.sh", "--dry-run", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    phases = json.loads((tmp_path / "phases.json").read_text())
    assert phases["context"]["RM_ALLOC HOPPER_COMPUTE_A"] == 1
    assert phases["memory"]["RM_ALLOC NV01_MEMORY_LOCAL_USER"] == 2
    assert "RM_ALLOC HOPPER_COMPUTE_A" not in phases["memory"]
    assert "steps" not in phases  # a step makes no call
    coverage = json.loads((tmp_path / "coverage.json").read_text())
    assert coverage["unknown"] == []
    assert coverage["calls"] == coverage["calls_named"] > 50
    clients = {one["command"].split()[2]: one for one in json.loads((tmp_path / "clients.json").read_text())}
    assert clients["gauges"]["client"] == "NVML"
    assert clients["train"]["client"] == "raw driver"  # a confined tracer can see that nothing is mapped
    assert clients["train"]["memory_asked"] == clients["rogue"]["memory_asked"] == 3 << 30
    alerts = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    (told,) = [alert for alert in alerts if alert["rule"] == "gpu.unexpected-client"]
    assert (told["severity"], told["argv"][2]) == ("high", "rogue")
    steps = json.loads((tmp_path / "steps.json").read_text())
    assert steps["ratio"] > 0
    assert (tmp_path / "sequence.txt").read_text().count("RM_ALLOC HOPPER_CHANNEL_GPFIFO_A") == 2
