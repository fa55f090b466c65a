# SPDX-License-Identifier: Apache-2.0
"""How much processes compute, by the scheduler's own counters: threads, forks, those that have ended, new files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tracer.kernel import schema
from tracer.kernel.probes import ProbeOptions, Probes

pytestmark = pytest.mark.alone

NEW_FILE = schema.EFFORT_FLAG["EFFORT_NEW_FILE"]
#: Computes; argv[1]: one thread after the other, or with a read between every two steps.
BUSY = """
import sys, threading, time

def count(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
if sys.argv[1] == "threads":
    while True:
        thread = threading.Thread(target=count, args=(0.3,))
        thread.start()
        thread.join()
elif sys.argv[1] == "reads":
    with open("/dev/zero", "rb", buffering=0) as zero:
        while True:
            zero.read(1)
count(1000)
"""


@pytest.fixture
def probes() -> Iterator[Probes]:
    made = Probes(ProbeOptions(by_lineage=True))
    made.attach_kernel()
    yield made
    made.close()


def passes(probes: Probes, argv: list[str], count: int = 4, pause: float = 0.7) -> list[np.void]:
    """Runs it as the only process of the tree; what is told of it in so many passes."""
    child = subprocess.Popen(argv)
    try:
        fd = os.pidfd_open(child.pid)
        probes.track(fd)
        os.close(fd)
        told = []
        for _ in range(count):
            rows = [np.frombuffer(raw, schema.EFFORT)[0] for raw in probes.efforts()]
            assert [int(row["tgid"]) for row in rows].index(0) == len(rows) - 1
            assert all(int(row["tgid"]) == child.pid for row in rows[:-1])
            told += rows[:-1]
            time.sleep(pause)
    finally:
        child.kill()
        child.wait()
    return told


def busy(*how: str) -> list[str]:
    return [sys.executable, "-I", "-c", BUSY, *how]


@pytest.mark.guest
@pytest.mark.parametrize("how", ["alone", "threads"])
def test_who_computes_is_told_however_often_its_threads_change(probes: Probes, how: str):
    rows = passes(probes, busy(how))
    assert len(rows) == 2, "the first two passes have nothing to compare"
    for row in rows:
        share = (int(row["ran_ns"]) + int(row["waited_ns"])) / int(row["wall_ns"])
        assert 0.15 < share < 2  # what an ended thread has waited is not kept: a busy host takes from it
        assert 0 < int(row["ran_ns"]) < 1.2 * int(row["wall_ns"])
        assert int(row["cores"]) == 1000 * len(os.sched_getaffinity(0))
        assert not int(row["effort_flags"]) & NEW_FILE
        assert int(row["huge_pages"]) == 0


def test_reads_are_counted(probes: Probes):
    rows = passes(probes, busy("reads"))
    assert rows
    assert all(int(row["calls"]) > 1000 for row in rows)


def test_who_rests_is_not_told(probes: Probes):
    assert passes(probes, ["sleep", "100"], pause=0.3) == []


def test_fewer_processors_are_known(probes: Probes):
    rows = passes(probes, ["taskset", "-c", str(min(os.sched_getaffinity(0))), *busy("alone")])
    assert rows
    assert {int(row["cores"]) for row in rows} == {1000}


@pytest.mark.guest
@pytest.mark.parametrize("how", ["copied", "touched back", "removed"])
def test_a_file_of_this_watch_is_known(probes: Probes, tmp_path: Path, how: str):
    time.sleep(0.05)  # files' times are those of the last tick
    copy = tmp_path / "program"
    shutil.copy(os.path.realpath("/bin/sh"), copy)
    if how == "touched back":
        os.utime(copy, (0, 0))
    script = f"rm {copy}; while :; do :; done" if how == "removed" else "while :; do :; done"
    rows = passes(probes, [str(copy), "-c", script])
    assert rows
    assert all(int(row["effort_flags"]) & NEW_FILE for row in rows)


def test_a_file_that_was_there_is_not(tmp_path: Path):
    copy = tmp_path / "program"
    shutil.copy(os.path.realpath("/bin/sh"), copy)
    time.sleep(0.05)
    made = Probes(ProbeOptions(by_lineage=True))
    try:
        made.attach_kernel()
        rows = passes(made, [str(copy), "-c", "while :; do :; done"])
    finally:
        made.close()
    assert rows
    assert not any(int(row["effort_flags"]) & NEW_FILE for row in rows)
