# SPDX-License-Identifier: Apache-2.0
"""The thread that examines what is executed: living, short-lived and nameless programs, and what gets lost."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elf_files import elf_file, file_of

from tracer.detect.facts import FIRST_GROUP, WORD_BITS
from tracer.kernel.cgroup import process_start_ticks
from tracer.rules.model import Group
from tracer.triage.bounded import Limits
from tracer.triage.examine import Examination
from tracer.triage.examiner import LOST, Examined, Examiner

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUPS = [
    Group("other", ("args",), "whole", False, ("x",), "test", 1),
    Group("needle", ("file",), "substring", False, ("needle-in-a-file",), "test", 1),
]
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PATIENT = Limits(seconds=60)


@contextmanager
def running(*argv: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_of(pid: int) -> int:
    ticks = process_start_ticks(pid)
    assert ticks is not None
    return ticks * TICK_NS + 12345


def collect(examiner: Examiner, count: int) -> list[Examined]:
    """So many results, each announced by the descriptor."""
    found: list[Examined] = []
    end = time.monotonic() + 60
    while len(found) < count and time.monotonic() < end:
        if select.select([examiner.ready], [], [], 1)[0]:
            found += examiner.collect()
    return found


def settled(examiner: Examiner, *reasons: str) -> None:
    """Wait until something has been lost for each of these reasons."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not all(examiner.lost[reason] for reason in reasons):
        time.sleep(0.01)
    assert set(examiner.lost) <= set(LOST)


@pytest.fixture
def examiner() -> Iterator[Examiner]:
    with Examiner(GROUPS, PATIENT) as made:
        yield made


def program_with(tmp_path: Path, tail: bytes) -> Path:
    program = tmp_path / "program"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with program.open("ab") as file:
        file.write(tail)
    return program


def test_a_running_program(examiner: Examiner, tmp_path: Path):
    program = program_with(tmp_path, b"a needle-in-a-file")
    status = program.stat()
    with running(str(program), "60") as process:
        device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
        assert examiner.submit(process.pid, start_of(process.pid), device, status.st_ino, 42)
        (found,) = collect(examiner, 1)
    assert (found.token, found.pid, found.cached, found.same_device) == (42, process.pid, False, True)
    report = found.report
    assert (report.kind, report.groups) == ("elf", {"needle"})
    assert report.path == os.fsencode(program)
    assert report.scan.indicators[0].offset == status.st_size - len("needle-in-a-file")
    assert report.identity.inode == status.st_ino
    word, bit = divmod(FIRST_GROUP + 1, WORD_BITS)
    assert report.signals()[word] == 1 << bit
    assert not examiner.lost


def test_a_program_that_has_ended_meanwhile(examiner: Examiner, tmp_path: Path):
    """And whose file is gone, too: it is enough that it was there when it was submitted."""
    program = program_with(tmp_path, b"needle-in-a-file")
    inode = program.stat().st_ino
    with running(str(program), "60") as process:
        assert examiner.submit(process.pid, start_of(process.pid), 0, inode, 1)
        process.kill()
        program.unlink()
    (found,) = collect(examiner, 1)
    assert found.report.groups == {"needle"}


def test_a_program_in_memory(examiner: Examiner):
    sleep = Path(shutil.which("sleep") or "/bin/sleep").read_bytes()
    with file_of(sleep + b"needle-in-a-file") as fd:
        inode = os.fstat(fd).st_ino
        with running(f"/proc/self/fd/{fd}", "60", pass_fds=[fd]) as process:
            assert examiner.submit(process.pid, start_of(process.pid), 0, inode, 1)
            (found,) = collect(examiner, 1)
    assert found.report.groups == {"needle"}
    assert found.report.path.startswith(b"/memfd:test")


def test_known_files_are_not_read_again(examiner: Examiner):
    with file_of(b"#!/bin/sh\nneedle-in-a-file") as fd:
        for token in range(5):
            examiner.submit_fd(os.dup(fd), token)
        found = collect(examiner, 5)
        assert [item.cached for item in found] == [False] + 4 * [True]
        assert [item.token for item in found] == list(range(5))
        assert (examiner.examined, examiner.from_cache) == (1, 4)
        os.pwrite(fd, b"N", 10)
        os.utime(fd, ns=(0, 1))
        examiner.submit_fd(os.dup(fd), 5)
        assert not collect(examiner, 1)[0].cached


def test_the_cache_is_bounded():
    with Examiner(GROUPS, PATIENT, cache_max=2) as examiner:
        descriptors = [os.memfd_create(str(number)) for number in range(3)]
        try:
            for number in (0, 1, 0, 2, 0, 1):  # 1 is the one unused for longest when 2 comes
                examiner.submit_fd(os.dup(descriptors[number]), number)
            found = collect(examiner, 6)
        finally:
            for fd in descriptors:
                os.close(fd)
    assert [item.cached for item in found] == [False, False, True, False, True, False]


def test_another_process_or_file(examiner: Examiner):
    with running("sleep", "60") as process:
        start = start_of(process.pid)
        inode = os.stat(f"/proc/{process.pid}/exe").st_ino
        assert not examiner.submit(process.pid, start - 5 * TICK_NS, 0, inode, 1)
        assert examiner.lost == {"gone": 1}
        assert examiner.submit(process.pid, start, 0, inode + 1, 2)
        settled(examiner, "other-file")
    assert not examiner.submit(process.pid, start, 0, inode, 3)
    assert examiner.lost == {"gone": 2, "other-file": 1}
    assert not examiner.collect()


def test_what_is_no_file(examiner: Examiner, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    assert examiner.submit_fd(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), 1)
    assert examiner.submit_fd(os.open(tmp_path, os.O_RDONLY), 2)
    settled(examiner, "not-regular")
    assert examiner.submit_fd(os.memfd_create("next"), 3)
    assert [item.token for item in collect(examiner, 1)] == [3]
    assert examiner.lost == {"not-regular": 2}


def test_what_breaks_the_examination_is_counted(examiner: Examiner, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Examination, "examine", broken)
    examiner.submit_fd(os.memfd_create("first"), 1)
    settled(examiner, "error")
    monkeypatch.undo()
    examiner.submit_fd(os.memfd_create("second"), 2)
    assert [item.token for item in collect(examiner, 1)] == [2]


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Examinations that wait until the event is set: a file system that does not answer."""
    go_on, begun = threading.Event(), threading.Event()
    real = Examination.examine

    def waiting(self: Examination, fd: int, path: bytes = b""):
        begun.set()
        go_on.wait(60)
        return real(self, fd, path)

    monkeypatch.setattr(Examination, "examine", waiting)
    try:
        yield go_on
    finally:
        go_on.set()


def test_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    before = len(os.listdir("/proc/self/fd"))
    with Examiner(GROUPS, PATIENT, queue_max=4) as examiner:
        with held_up(monkeypatch):
            taken = [examiner.submit_fd(os.memfd_create(str(number)), number) for number in range(40)]
            # the thread may have taken the first out of the queue by now, or not yet
            assert taken.count(True) in {4, 5}
            assert examiner.lost == {"queue-full": 40 - taken.count(True)}
        assert len(collect(examiner, taken.count(True))) == taken.count(True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_results_that_nobody_fetches():
    with Examiner(GROUPS, PATIENT, queue_max=2) as examiner:
        submitted = 0
        end = time.monotonic() + 60
        while not examiner.lost["uncollected"] and time.monotonic() < end:
            submitted += examiner.submit_fd(os.memfd_create("x"), 1)
        assert len(examiner.collect()) == 8


def test_a_thread_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch):
    with Examiner(GROUPS, Limits(seconds=0.01), queue_max=1) as examiner:
        with held_up(monkeypatch):
            end = time.monotonic() + 60
            while examiner.lost["stuck"] < 3 and time.monotonic() < end:
                examiner.submit_fd(os.memfd_create("x"), 1)
                time.sleep(0.01)
                with running("true") as process:
                    examiner.submit(process.pid, 0, 0, 0, 1)
            assert len(examiner._threads) == 4
        settled(examiner, "stuck")


def test_it_ends_soon(monkeypatch: pytest.MonkeyPatch):
    """What waits is given up, what is going on is cut off; nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    examiner = Examiner(GROUPS, Limits(seconds=600))
    with file_of(b"x" * (64 << 20)) as fd:
        for token in range(20):
            os.utime(fd, ns=(0, token))
            examiner.submit_fd(os.dup(fd), token)
        examiner.close()
        examiner.close()
        assert not any(thread.is_alive() for thread in examiner._threads)
        assert not examiner.submit_fd(os.dup(fd), 1)
        examiner.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_is_changed_meanwhile(monkeypatch: pytest.MonkeyPatch):
    examination = Examination(GROUPS, PATIENT)
    real = examination._scanner.scan
    with file_of(elf_file() + bytes(1000)) as fd:

        def meddled(*args: object):
            os.ftruncate(fd, 100)
            return real(*args)

        monkeypatch.setattr(examination._scanner, "scan", meddled)
        report = examination.examine(fd)
    assert "changed" in report.facts
    assert "unread" in report.facts


def test_what_changes_is_not_kept(examiner: Examiner, monkeypatch: pytest.MonkeyPatch):
    real = Examination.examine

    def meddled(self: Examination, fd: int, path: bytes = b""):
        report = real(self, fd, path)
        object.__setattr__(report, "facts", report.facts | {"changed"})
        return report

    monkeypatch.setattr(Examination, "examine", meddled)
    with file_of(b"x") as fd:
        examiner.submit_fd(os.dup(fd), 1)
        examiner.submit_fd(os.dup(fd), 2)
        assert [item.cached for item in collect(examiner, 2)] == [False, False]


def test_evidence_is_fit_for_json():
    strings = b"\0libc\xff\x1b[31m.so\0"
    data = elf_file([(".strtab", 3, strings, 0), (".rodata", 1, b"/rustc/", 0)]) + b"NEEDLE-in-a-file"
    with file_of(data) as fd:
        report = Examination(GROUPS, PATIENT).examine(fd, b"/tmp/\xff\xfe")
    said = json.loads(json.dumps(report.to_evidence()))
    assert said["path"] == r"/tmp/\xff\xfe"
    assert said["groups"] == ["needle"]
    assert said["indicators"] == [
        {"group": "needle", "literal": "needle-in-a-file", "offset": len(data) - 16}
    ]
    assert "rust-program" in said["facts"]
    assert "libraries" not in said


def test_evidence_is_bounded():
    crates = b"".join(b"/registry/src/i/%s-1.0.0/" % (b"c%03d" % n + b"x" * 40) for n in range(5000))
    with file_of(elf_file([(".rodata", 1, crates, 0)])) as fd:
        report = Examination([], PATIENT).examine(fd, b"/" + b"p" * 100_000)
    assert len(json.dumps(report.to_evidence())) < 10_000


def test_this_python(examiner: Examiner):
    pid = os.getpid()
    inode = os.stat("/proc/self/exe").st_ino
    assert examiner.submit(pid, start_of(pid), 0, inode, 1)
    (found,) = collect(examiner, 1)
    assert found.report.path == os.fsencode(os.path.realpath(sys.executable))
    assert found.report.elf.kind == "elf"
