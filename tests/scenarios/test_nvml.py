# SPDX-License-Identifier: Apache-2.0
"""The whole command with NVML, of which a stand-in says what it is told: alerts, recording, table; and what it must not hold up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from nvml_stand_in import StandIn, has_ended

from tracer.engine.tap import each
from tracer.kernel import schema
from tracer.privileges import held
from tracer.record import layout
from tracer.record.follow import Follower

pytestmark = pytest.mark.slow

VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
GIB = 1 << 30
#: Trains; says who it is, and tunes the card when it is told to.
CLIENT = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gpu_orders
from gpu_client import Client, compute_steps
folder = Path(sys.argv[2])
client = Client("/dev/full")
client.run(compute_steps())
(folder / "pid.new").write_text(str(os.getpid()))
(folder / "pid.new").rename(folder / "pid")
while not (folder / "go").exists():
    time.sleep(0.01)
client.run(gpu_orders.tuner())
"""


@pytest.fixture
def stand_in(tmp_path) -> StandIn:
    return StandIn(tmp_path)


def until(found: Callable[[], object], process: subprocess.Popen) -> object:
    """What is found, as long as the process lives."""
    while not (what := found()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return what


def begin(stand_in: StandIn, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | stand_in.environment
    return subprocess.Popen(
        [*VIGILES, "run", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def vigiles(*arguments: str) -> str:
    done = subprocess.run([*VIGILES, *arguments], capture_output=True, text=True, timeout=100, check=True)
    return done.stdout


def samples(record: Path) -> list[np.void]:
    """What the recording has of what NVML said."""
    if not record.exists() or not record.stat().st_size:
        return []
    follower = Follower(record)
    try:
        fed = [follower.recording.payload(f) or b"" for f in follower.look() if f.head.type == layout.FED]
    finally:
        follower.close()
    records = [np.frombuffer(raw, schema.HEAD, 1)[0]["kind"] for laid in fed for raw in each(laid)]
    if schema.KIND["EVENT_GPU_USE"] not in records:
        return []
    raws = [raw for laid in fed for raw in each(laid)]
    return [
        np.frombuffer(raw, schema.GPU_USE, 1)[0]
        for raw, kind in zip(raws, records, strict=True)
        if kind == schema.KIND["EVENT_GPU_USE"]
    ]


def asker_of(tracer: subprocess.Popen) -> int:
    """The process that asks NVML."""
    children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
    return next((int(c) for c in children if b"nvml_child" in Path(f"/proc/{c}/cmdline").read_bytes()), 0)


def test_what_a_process_uses_is_in_alerts_and_in_the_recording(stand_in, tmp_path):
    alerts, record, program = tmp_path / "alerts", tmp_path / "r", tmp_path / "train.py"
    program.write_text(CLIENT)
    tests = str(Path(__file__).parent.parent)
    tracer = begin(
        stand_in, "--nvml", "--gpu-device", "/dev/full", "--alerts", str(alerts), "--record", str(record), "--",
        sys.executable, str(program), tests, str(tmp_path),
    )  # fmt: skip
    until((tmp_path / "pid").exists, tracer)
    pid = int((tmp_path / "pid").read_text())
    (thread,) = held(until(lambda: asker_of(tracer), tracer))
    assert thread.permitted == 0 and thread.seccomp == 2
    stand_in.say("card", f"use {pid} {3 * GIB} 97", "use 1 5 3", "card", f"use {pid} {GIB} 50")
    until(lambda: any(e["utilisation"] == 147 for e in samples(record)), tracer)
    stand_in.say("card", f"use {pid} {GIB} 0", "card")
    until(lambda: any(e["utilisation"] == 0 for e in samples(record)), tracer)
    (tmp_path / "go").touch()
    _, said = tracer.communicate()
    assert tracer.returncode == 0, said
    assert "NVML" not in said and "nvml" not in said
    assert {int(e["tgid"]) for e in samples(record)} == {pid}

    told = alerts.read_text()
    (alert,) = map(json.loads, told.splitlines())
    assert (alert["rule"], alert["pid"]) == ("gpu.tuning", pid)
    use = {
        name: alert["evidence"][f"gpu_{name}"]
        for name in ("utilisation", "memory", "utilisation_highest", "memory_highest")
    }
    assert use == {"utilisation": 0, "memory": GIB, "utilisation_highest": 147, "memory_highest": 4 * GIB}
    assert vigiles("replay", "--json", str(record)) == told

    (client,) = map(json.loads, vigiles("gpu", "--json", str(record)).splitlines())
    assert (client["utilisation"], client["utilisation_highest"]) == (0, 147)
    assert (client["memory_in_use"], client["memory_in_use_highest"]) == (GIB, 4 * GIB)
    assert "0 % (≤ 147 %)" in vigiles("gpu", str(record))


def test_a_library_that_hangs_holds_nothing_up(stand_in):
    stand_in.say("card", "hangs")
    tracer = begin(stand_in, "--nvml", "--", "sh", "-c", "true; exit 5")
    _, said = tracer.communicate()
    assert tracer.returncode == 5, said
    assert "lost: 0" in said


def test_a_library_that_is_not_there_is_said(stand_in, tmp_path):
    (tmp_path / "libnvidia-ml.so.1").unlink()
    tracer = begin(stand_in, "--nvml", "--", "sleep", "600")
    assert "there is no libnvidia-ml.so.1" in tracer.stderr.readline()
    tracer.terminate()
    _, said = tracer.communicate()
    assert "1 nvml-failed" in said


def test_whoever_asks_ends_with_a_tracer_that_is_killed(stand_in):
    stand_in.say("card")
    tracer = begin(stand_in, "--nvml", "--", "sh", "-c", "echo $$; exec sleep 600")
    command = int(tracer.stdout.readline())
    asker = until(lambda: asker_of(tracer), tracer)
    tracer.kill()
    try:
        while not has_ended(asker):
            time.sleep(0.01)
    finally:
        os.kill(command, 9)
        tracer.communicate()


def test_without_nvml_nobody_is_asked(stand_in):
    tracer = begin(stand_in, "--no-nvml", "--", "sh", "-c", "cat /proc/$PPID/task/$PPID/children")
    out, said = tracer.communicate()
    assert tracer.returncode == 0, said
    assert len(out.split()) == 1


def test_nvml_without_its_package_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("tracer.gpu.nvml.find_spec", lambda name: None)
    from click.testing import CliRunner

    from tracer.cli import group

    result = CliRunner().invoke(group, ["run", "--nvml", "--", "true"])
    assert result.exit_code != 0
