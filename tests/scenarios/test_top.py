# SPDX-License-Identifier: Apache-2.0
"""A tree that runs, shown: beside the watch that it has, which must not notice."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tracer import rundir

VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
EVIL = "\x1b]0;pwned\x07"


class Shown:
    """``vigiles top`` on a terminal of its own, and what it has drawn."""

    def __init__(self, *arguments: str) -> None:
        self._terminal, end = pty.openpty()
        os.set_blocking(self._terminal, False)
        self.process = subprocess.Popen(
            [*VIGILES, "top", *arguments],
            stdin=end,
            stdout=end,
            stderr=end,
            env=os.environ | {"COLUMNS": "150"},
        )
        os.close(end)
        self.text = ""

    def read(self) -> str:
        with suppress(OSError):  # nothing more, or nobody
            self.text += os.read(self._terminal, 1 << 16).decode()
        return self.text

    def end(self) -> int:
        wait_until(lambda: self.read() is not None and self.process.poll() is not None)
        self.read()
        os.close(self._terminal)
        return self.process.returncode


def wait_until(condition, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def watched(script: str, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A tree under watch, which runs by now; and its name."""
    command = [*VIGILES, "run", *options, "--", "sh", "-c", script]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watch:
        try:
            found: list[str] = []
            wait_until(
                lambda: found.extend(i.tree for i in rundir.trees() if i.pid == watch.pid) or bool(found)
            )
            yield watch, found[0]
        finally:
            if watch.poll() is None:
                watch.send_signal(signal.SIGTERM)
                watch.wait(60)


@pytest.fixture
def miner(tmp_path) -> Path:
    path = tmp_path / "xmrig"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
    return path


def test_two_watches_leave_each_other_alone(tmp_path, miner):
    """A span that was begun before the second came, an act of the first, a name that would draw."""
    go, alerts = tmp_path / "go", tmp_path / "alerts"
    (tmp_path / "vigiles").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from tracer.cli import main; main()" "$@"\n'
    )
    (tmp_path / "vigiles").chmod(0o755)
    script = (
        f"PATH={tmp_path}:$PATH; id=$(vigiles span begin --tool bash --step 7) || exit 9; : >{tmp_path}/begun; "
        f"while ! [ -e {go} ]; do sleep 0.05; done; {miner} 30 '{EVIL}'; sleep 1; "
        f"vigiles span end $id || exit 8; vigiles span run --tool make -- sleep 1 || exit 7; exit 5"
    )
    with watched(script, "--enforce", "--alerts", str(alerts)) as (watch, tree):
        wait_until((tmp_path / "begun").exists)
        top = Shown("--tree", tree, "--every", "0.2")
        wait_until(lambda: "going on" in top.read())
        go.touch()
        wait_until(lambda: "miner.command" in top.read())
        status = watch.wait(90)
        said = watch.stderr.read()
    assert status == 5, said
    (alert,) = map(json.loads, alerts.read_text().splitlines())
    assert (alert["action"], alert["span"]["tool"], alert["span"]["step"]) == ("killed", "bash", 7)
    assert "lost: 0" in said and "refused" not in said
    assert top.end() == 0
    assert "\x1b]0;" not in top.text and "\\x1b]0;pwned" in top.text
    assert tree in top.text and "ended" in top.text


def test_an_interrupt_ends_the_look_and_nothing_else(tmp_path):
    with watched(f"while ! [ -e {tmp_path}/go ]; do sleep 0.05; done; exit 4") as (watch, tree):
        top = Shown("--every", "0.2")
        wait_until(lambda: "going on" in top.read())
        top.process.send_signal(signal.SIGINT)
        assert top.end() == 0 and tree in top.text
        assert watch.poll() is None
        (tmp_path / "go").touch()
        assert watch.wait(60) == 4


def test_a_tree_that_nobody_watches():
    with subprocess.Popen(["sh", "-c", "sleep 60; exit"]) as root:
        done = subprocess.run(
            [*VIGILES, "top", "--pid", str(root.pid), "--once"],
            capture_output=True, text=True, timeout=90, check=True,
        )  # fmt: skip
        root.kill()
    assert "2 of 2 processes" in done.stdout and "sleep 60" in done.stdout and "lost: 0" in done.stdout


def test_misuse_is_one_clear_line(tmp_path):
    for arguments, status, said in (
        ([], 1, "no tree is being watched"),
        (["--tree", "none"], 1, "no tree none"),
        (["--pid", "4194305"], 1, "there is no process 4194305"),
        ([str(tmp_path / "r"), "--pid", "1"], 2, "a recording, --tree or --pid"),
    ):
        done = subprocess.run(
            [*VIGILES, "top", *arguments], capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr
