# SPDX-License-Identifier: Apache-2.0
"""Recordings of the whole program: what a replay gives, what a death or a full disk leaves."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracer.record import layout
from tracer.record.open import read_key
from tracer.record.reader import Recording, in_order
from tracer.record.verify import verify

VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
MANY = "for n in $(seq 150); do /bin/true; done; "


def vigiles(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VIGILES, *arguments], capture_output=True, text=True, timeout=100, check=False, **more
    )


def read(path: Path, kind: int) -> list:
    recording = Recording(path)
    found = [recording.read(f) for f in recording.blocks() if f.head.type == kind]
    assert not recording.damage
    return found


def files_of(path: Path) -> list[Path]:
    return [path, *sorted(path.parent.glob(f"{path.name}.*"), key=lambda p: int(p.suffix[1:]))]


@pytest.fixture
def miner(tmp_path):
    path = tmp_path / "xmrig"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
    return path


def test_a_replay_gives_what_was_told(tmp_path, miner):
    """Also what was done about it, rules that were read again, a file that was read, and a policy's exception."""
    alerts, record, key = tmp_path / "alerts.jsonl", tmp_path / "r", tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    policy = tmp_path / "p.toml"
    policy.write_text(
        '[[exceptions]]\nrule = "miner.command"\nargs = "0.03"\nreason = "t"\nuntil = 2999-01-01\n'
    )
    script = (
        f"{miner} 0.01; {miner} 0.03; {sys.executable} -c 'import os; os.system(\"{miner} 0.02\")'; exit 5"
    )
    done = vigiles(
        "run", "--enforce", "--policy", str(policy), "--alerts", str(alerts), "--record", str(record),
        "--sign-key", str(key), "--", "sh", "-c", script,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    told = alerts.read_text()
    assert len(told.splitlines()) >= 2 and '"killed"' in told
    assert "recorded:" in done.stderr and "lost: 0" in done.stderr
    again = vigiles("replay", "--policy", str(policy), "--json", str(record))
    assert again.stdout == told, again.stderr
    assert "other rules" not in again.stderr
    assert vigiles("replay", "--policy", str(policy), "--diff", str(record)).stdout == ""
    without = vigiles("replay", "--diff", str(record))
    assert without.stdout.count("\n") == 1 and "+ " in without.stdout and " 0.03" in without.stdout
    (verdict,) = verify([record], read_key(key))
    assert verdict.intact and verdict.ended and verdict.signed
    assert record.stat().st_mode & 0o777 == 0o640


def test_repeats_are_counted_as_they_were(tmp_path):
    """Enforced: what was done about those that were not told is known all the same."""
    alerts, record, policy = tmp_path / "alerts.jsonl", tmp_path / "r", tmp_path / "p.toml"
    policy.write_text('[exec]\nallow = ["/usr/bin/dash", "/usr/bin/env"]\n')
    script = "for n in 1 2 3 4; do /bin/true || true; done; exec env true"
    vigiles(
        "run",
        "--policy",
        str(policy),
        "--alerts",
        str(alerts),
        "--record",
        str(record),
        "--",
        "sh",
        "-c",
        script,
    )
    told = alerts.read_text()
    assert '"repeats"' in told
    assert vigiles("replay", "--policy", str(policy), "--json", str(record)).stdout == told


def test_every_record_is_there(tmp_path):
    record = tmp_path / "r"
    done = vigiles("run", "--record", str(record), "--record-zstd", "--json", "--", "sh", "-c", MANY)
    assert done.returncode == 0
    live = json.loads(done.stderr.splitlines()[-1])["summary"]
    assert live["recording"]["lost_records"] == 0 == live["lost"]
    (end,) = read(record, layout.END)
    sums = {kind: n for kind, n in end["summary"]["events"]["received"].items() if n}
    assert sums["exec"] >= 151
    out = vigiles("events", "--json", str(record)).stdout
    counted: dict[str, int] = {}
    for line in out.splitlines():
        event = json.loads(line)
        if not event.get("made"):
            counted[event["kind"]] = counted.get(event["kind"], 0) + 1
    assert counted == sums


def test_a_confined_watch_begins_new_files(tmp_path):
    """In a folder of somebody else's, with nearly all privileges gone."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    record = folder / "r"
    script = f"{MANY} sleep 1.2; {MANY} sleep 1.2; {MANY}"
    done = vigiles("run", "--record", str(record), "--record-hours", str(1 / 3600), "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    paths = files_of(record)
    assert len(paths) >= 3 and f"in {len(paths)} files" in done.stderr
    verdicts = verify(paths)
    assert all(v.intact for v in verdicts) and [v.ended for v in verdicts][-1]
    (parts,) = in_order(paths)
    assert sum(f.head.type == layout.SNAPSHOT for part in parts for f in part.blocks()) >= 2
    alone = vigiles("events", "--kind", "exec", str(paths[-1]))
    assert "sh -c" in alone.stdout.splitlines()[0] and "(made)" in alone.stdout.splitlines()[0]


def test_killed_at_any_moment_it_keeps_what_it_had(tmp_path, miner):
    """Whatever was told had been recorded by then, or is within the last quarter of a second."""
    dice = random.Random(3)
    script = f"while :; do {miner} 0.01; done"
    for number in range(int(os.environ.get("VIGILES_KILLS", "4"))):
        record, alerts = tmp_path / f"r{number}", tmp_path / f"a{number}"
        tracer = subprocess.Popen(
            [
                *VIGILES,
                "run",
                "--quiet",
                "--alerts",
                str(alerts),
                "--record",
                str(record),
                "--",
                "sh",
                "-c",
                script,
            ]
        )
        deadline = time.monotonic() + 60
        while not alerts.exists() or not alerts.stat().st_size:
            assert time.monotonic() < deadline and tracer.poll() is None
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.6))
        children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
        tracer.kill()
        tracer.wait()
        for pid in children:  # the shell: its sleeps end by themselves
            os.kill(int(pid), 9)
        told = [json.loads(line) for line in alerts.read_text().splitlines() if line.endswith("}")]
        (verdict,) = verify([record])
        assert not verdict.changed and not verdict.missing and not verdict.ended
        assert len(verdict.damaged) <= 1  # the block that was being written
        recording = Recording(record)
        kept = [recording.read(f) for f in recording.blocks() if f.head.type == layout.ALERT]
        assert kept == told[: len(kept)]
        last = told[-1]["times_ns"]["hook"]
        missing = [a for a in told[len(kept) :] if last - a["times_ns"]["hook"] > 1_000_000_000]
        assert not missing
        again = vigiles("replay", "--json", str(record))
        assert [json.loads(line) for line in again.stdout.splitlines()][: len(kept)] == kept
        assert "has no end" in again.stderr
    subprocess.run([*VIGILES, "run", "--quiet", "--", "true"], check=True)  # removes the cgroups


def test_a_full_disk_is_said_and_costs_the_command_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    run = shlex.join([*VIGILES, "run", "--record", f"{disk}/r", "--", "sh", "-c", MANY * 4 + "exit 3"])
    script = f"mount -t tmpfs -o size=64k none {disk} && {{ {run}; echo $? >{tmp_path}/status; cp {disk}/r {tmp_path}/r; }}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=100, check=True
    )
    assert (tmp_path / "status").read_text() == "3\n"
    assert "No space left on device" in done.stderr and "lost: 0\n" in done.stderr
    (verdict,) = verify([tmp_path / "r"])
    assert verdict.intact and not verdict.ended and verdict.blocks > 3
    assert vigiles("replay", str(tmp_path / "r")).returncode == 0


def test_what_cannot_be_recorded_is_not_begun(tmp_path):
    (tmp_path / "there").write_text("x")
    (tmp_path / "open").write_bytes(bytes(32))
    (tmp_path / "open").chmod(0o644)
    for arguments, said in (
        (["--record", str(tmp_path / "there")], "is there already"),
        (["--record", str(tmp_path / "none" / "r")], "can't write to"),
        (["--record", str(tmp_path / "new"), "--sign-key", str(tmp_path / "open")], "can be read by others"),
    ):
        done = vigiles("run", *arguments, "--", "touch", str(tmp_path / "ran"))
        assert done.returncode == 1 and said in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["open", "there"]


def test_a_log_says_what_marks_say(tmp_path):
    """The demonstration marks its tool calls and logs them: from the log alone the same steps are found."""
    record, log = tmp_path / "r", tmp_path / "calls.jsonl"
    done = vigiles("demo", "--record", str(record), "--log", str(log))
    assert done.returncode == 0, done.stderr
    alerts = read(record, layout.ALERT)
    assert {a["rule"] for a in alerts} >= {"net.scan", "miner.command", "gpu.unexpected-client"}
    found = vigiles("correlate", str(record), "--log", str(log), "--json").stdout.splitlines()
    told = [(alert["span"]["step"], alert["rule"]) for alert in alerts]
    assert [
        (int((said := json.loads(row))["candidates"][0]["step"]), said["alert"]["rule"]) for row in found
    ] == told
    assert all(json.loads(row)["candidates"][0]["chance"] > 0.9 for row in found)
    story = json.loads(vigiles("report", "--format", "json", str(record)).stdout)
    (incident,) = story["incidents"]
    assert incident["line"].startswith("probing, then tunnel") and incident["severity"] == "critical"


def test_later_files_are_whoevers_called_sudo_as_well(tmp_path):
    """By then the watch may give nothing away to a group that is not its own."""
    record = tmp_path / "r"
    sudo = os.environ | {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"}
    storm = "for n in $(seq 4000); do /bin/true; done"
    done = vigiles("run", "--record", record, "--record-mib", "1", "--", "sh", "-c", storm, env=sudo)
    assert done.returncode == 0, done.stderr
    files = files_of(record)
    assert len(files) > 1 and f"in {len(files)} files, lost: 0" in done.stderr, done.stderr
    assert [(path.stat().st_gid, path.stat().st_mode & 0o777) for path in files] == [(65534, 0o640)] * len(
        files
    )
    assert all(verdict.intact for verdict in verify(files))
