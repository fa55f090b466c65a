# SPDX-License-Identifier: Apache-2.0
"""What tampers with the watch is refused before it happens, where the kernel asks BPF LSM."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import replace

import pytest
from conftest import kernel_lacks
from harness import Recording, record, tampering
from test_tamper import stand_in

from tracer.kernel import held
from tracer.kernel.probes import refuses
from tracer.rules import RuleSet, load_rules

#: Guests are slow: what is refused is tried there, and one of each thing that is only told.
REFUSED = pytest.param(True, marks=pytest.mark.guest)
KILL, USR1 = signal.SIGKILL, signal.SIGUSR1
GET_MAP, GET_LINK, OBJ_GET = 14, 30, 7
TRACING = "/sys/kernel/tracing"


@pytest.fixture(scope="module", autouse=True)
def _asked():
    if not refuses():
        kernel_lacks("BPF LSM that is switched on")


@pytest.fixture(scope="module")
def gentle() -> RuleSet:
    """The packs, but who tampers is refused and not killed: to see what it is told."""
    packs = load_rules([])
    rules = tuple(
        replace(rule, action="block") if rule.action == "kill" and rule.family == "tamper" else rule
        for rule in packs.rules
    )
    return RuleSet(packs.groups, rules, packs.remarks, packs.terms, packs.thresholds)


@pytest.fixture
def said(tmp_path):
    """Run a program of tampering.py under the watch; the watch, and the numbers that the program printed."""

    def run(*words, **more) -> tuple[Recording, list[int]]:
        out = tmp_path / "out"
        command = tampering(*words)
        found = record(["sh", "-c", f'exec "$@" >{out}', "sh", *command], **more)
        return found, [int(line) for line in out.read_text().split()]

    return run


def told(run: Recording) -> list[tuple[str, str, str]]:
    return [
        (a.rule.id.removeprefix("tamper."), a.severity, a.response.action)
        for a in run.alerts
        if a.rule.family == "tamper"
    ]


@pytest.mark.guest
def test_a_signal_never_arrives(said, gentle):
    with stand_in() as target:
        run, _ = said("kill", target.pid, KILL, known=gentle, enforce=True, protect=(target.pid, 0))
        assert target.poll() is None
    assert run.status == 1  # PermissionError
    assert told(run) == [("signal", "high", "blocked")]
    (alert,) = run.alerts
    assert alert.evidence["refused"] is True
    assert alert.evidence["signal"] == "SIGKILL"


def test_and_who_sent_it_dies(said):
    with stand_in() as target:
        run, _ = said("kill", target.pid, KILL, enforce=True, protect=(target.pid, 0))
        assert target.poll() is None
    assert run.status == 128 + KILL
    assert told(run) == [("signal", "high", "killed")]


@pytest.mark.guest
def test_observed_a_signal_is_told_once(said):
    with stand_in() as target:
        run, _ = said("kill", target.pid, USR1, protect=(target.pid, 0))
        assert target.poll() is None
    assert told(run) == [("signal", "high", "none")]


@pytest.mark.parametrize("enforce", [REFUSED, False])
def test_nobody_reaches_into_the_tracer(said, gentle, enforce):
    with stand_in() as target:
        run, came = said("trace", target.pid, known=gentle, enforce=enforce, protect=(target.pid, 0))
    assert run.status == 0
    if enforce:
        assert came[0] == came[1] == errno.EPERM and came[2] in (errno.EPERM, errno.EACCES)
    else:
        assert came[0] == came[2] == 0 and came[1] == errno.EFAULT
    assert told(run) == [("tracer-memory", "high", "blocked" if enforce else "none")] * 3
    assert run.alerts[0].evidence["target"]["pid"] == target.pid


@pytest.mark.parametrize("enforce", [REFUSED, False])
def test_our_maps_are_nobody_elses(tmp_path, gentle, enforce):
    """Their ids are known only once they are there: the program is told, and waits for it."""
    number, out = tmp_path / "id", tmp_path / "out"
    commands = " ".join(tampering("bpf", GET_MAP, "$(cat ID)")).replace("ID", str(number))
    link = " ".join(tampering("bpf", GET_LINK, 1))
    script = f"while [ ! -s {number} ]; do sleep 0.1; done; {commands} >{out}; {link} >>{out}"

    def look(watch, found):
        if not number.exists():
            number.write_text(str(held.id_of(watch.probes.map("control").fd)))

    run = record(["sh", "-c", script], known=gentle, enforce=enforce, between=look)
    came = [int(line) for line in out.read_text().split()]
    assert came[0] == (errno.EPERM if enforce else 0)
    if enforce:
        assert came[1] == errno.EPERM
    assert told(run) == [("bpf", "high", "blocked" if enforce else "none")] * 2
    assert [alert.evidence["command"] for alert in run.alerts] == ["get-fd", "link-get-fd-by-id"]


def test_what_else_bpf_is_used_for_is_told(said):
    run, came = said("bpf", OBJ_GET, 0, enforce=True)
    assert came != [errno.EPERM]
    assert told(run) == [("bpf-used", "medium", "none")]


@pytest.mark.guest
def test_a_profiler_is_told_once(said):
    run, came = said("perf", 20, enforce=True)
    assert len(came) == 20 and errno.EPERM not in came
    assert told(run) == [("perf-used", "low", "none")]


@pytest.mark.parametrize("enforce", [REFUSED, False])
def test_nothing_is_mounted_where_the_watch_looks(said, gentle, enforce):
    run, came = said("mount", TRACING, known=gentle, enforce=enforce)
    assert run.status == 0
    assert came == ([errno.EPERM] * 2 if enforce else [0, 0])
    assert told(run)[0] == ("mounts", "high", "blocked" if enforce else "none")
    assert os.path.ismount(TRACING)


def test_mounts_of_its_own_are_its_own_business(said, gentle):
    run, came = said("mount", TRACING, "unshare", known=gentle, enforce=True)
    assert (run.status, came, told(run)) == (0, [0, 0], [])


@pytest.mark.parametrize("enforce", [REFUSED, False])
def test_files_of_the_watch_stay_as_they_are(said, gentle, tmp_path, enforce):
    path = tmp_path / "alerts.jsonl"
    path.write_text("x\n")
    run, came = said("write", path, known=gentle, enforce=enforce, guarded_files=(path,))
    assert run.status == 0
    assert came == ([errno.EPERM] * 3 + [0] if enforce else [0, 0, errno.ENOENT, errno.ENOENT])
    found = told(run)
    assert set(found) == {("files", "high", "blocked" if enforce else "none")}
    # what is not refused may be told again of the file system below, where there is one (overlayfs)
    assert len(found) == 3 if enforce else len(found) >= 2
    assert run.alerts[0].evidence["file"] == "alerts.jsonl"


def test_what_is_in_a_folder_of_the_watch_stays(said, gentle, tmp_path):
    folder = tmp_path / "pins"
    folder.mkdir()
    (folder / "one").touch()
    run, came = said("write", folder / "one", known=gentle, enforce=True, guarded_files=(folder,))
    assert came == [errno.EPERM] * 3 + [0]
    assert {alert.rule.id for alert in run.alerts} == {"tamper.files"}


@pytest.mark.guest
def test_no_module_is_read(said, gentle, tmp_path):
    file = tmp_path / "rootkit.ko"
    file.write_bytes(b"\x7fELF" + bytes(200))
    run, came = said("module", file, known=gentle, enforce=True)
    assert came == [errno.EPERM]
    assert told(run) == [("module", "critical", "blocked")]
    assert run.alerts[0].evidence["module"] == "rootkit.ko"


@pytest.mark.guest
def test_others_may_do_all_of_it(gentle, tmp_path):
    """Nobody outside the tree is asked twice."""
    path = tmp_path / "alerts.jsonl"
    path.touch()

    def look(watch, found):
        if path.exists():
            path.write_text("outside")
            path.unlink()
            assert held.id_of(watch.probes.map("control").fd)

    run = record(["sleep", "2"], known=gentle, enforce=True, between=look, guarded_files=(path,))
    assert (run.status, told(run), path.exists()) == (0, [], False)
