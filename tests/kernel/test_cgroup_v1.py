# SPDX-License-Identifier: Apache-2.0
"""Hosts that know cgroup version 1 alone: what is said there, and that the remedy is one."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tracer.kernel import host

ROOT = Path(__file__).resolve().parents[2]
VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
POOL = "stratum+tcp://pool.example.com:3333"


def without_v2(*lines: str) -> subprocess.CompletedProcess:
    """Run these lines of sh where version 2 is not mounted, if it is at all."""
    mounted = host.find_mount("cgroup2")
    script = ["mount -t tmpfs none /run", *([f"umount -l {shlex.quote(str(mounted))}"] if mounted else [])]
    return subprocess.run(
        ["unshare", "-m", "sh", "-euc", "\n".join([*script, *lines])],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def vigiles(*words: object) -> str:
    return shlex.join([*VIGILES, *map(str, words)])


def test_doctor_says_what_is_missing_and_what_is_not():
    """In a guest it is asked anyway: tests/vm."""
    done = without_v2(vigiles("doctor", "--json"))
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    (cgroup,) = [f for f in findings if f["name"] == "cgroup" and f["section"] == "host"]
    assert (cgroup["state"], cgroup["text"].partition(";")[0]) == ("no", "cgroup v2 is not mounted")
    state = {f["name"]: f["state"] for f in findings if f["section"] in ("needed", "hook")}
    assert {state[name] for name in ("fork", "exec", "exit", "task", "tcp_state", "gpu ioctls")} == {"ok"}
    assert {state[name] for name in ("connect4", "sendmsg6", "egress", "ingress", "span", "device")} == {"no"}


@pytest.mark.guest
def test_what_is_said_to_do_is_all_that_a_watch_takes(tmp_path):
    miner = tmp_path / "xmrig"
    shutil.copy(shutil.which("true"), miner)
    refused = without_v2(vigiles("run", "--", "true"))
    assert refused.returncode == 125
    assert "cgroup v2 is not mounted" in refused.stderr
    (remedy,) = re.findall("mkdir .* cgroup2 .*", refused.stderr)
    mine = f"{miner} -o {POOL} & wait; true"
    done = without_v2(remedy, vigiles("run", "--enforce", "--json", "--", "/bin/sh", "-c", mine))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    told = {line["rule"]: line["action"] for line in lines if "rule" in line}
    assert told["miner.command"] == "killed"
    assert lines[-1]["summary"]["missing_hooks"] == {}
