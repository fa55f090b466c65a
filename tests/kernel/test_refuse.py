# SPDX-License-Identifier: Apache-2.0
"""What tampers with the watch is refused before it happens, where the kernel asks BPF LSM."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import kernel_lacks
from harness import Recording, record, tampering
from test_tamper import stand_in

from tracer.kernel import held
from tracer.kernel.rungs import refuses
from tracer.policy import apply_policy
from tracer.policy.parse import parse
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


@pytest.mark.guest
def test_a_worker_of_io_uring_may_do_no_more(said, gentle, tmp_path):
    path = tmp_path / "alerts.jsonl"
    path.write_text("x\n")
    run, came = said("write_by_worker", path, known=gentle, enforce=True, guarded_files=(path,))
    assert came == [errno.EPERM]
    assert set(told(run)) == {("files", "high", "blocked")}


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


#: Run each, say what errno came of it (0: it ran).
RUN = """
import os, sys
for path in sys.argv[2:]:
    pid = os.fork()
    if not pid:
        try: os.execv(path, [path, "argument"])
        except OSError as error: os._exit(error.errno)
    end = os.waitpid(pid, 0)[1]
    print(os.waitstatus_to_exitcode(end), file=open(sys.argv[1], "a"))
"""


def tried(
    tmp_path, policy: str, *paths, enforce=True
) -> tuple[list[int], list[tuple[str, str, str | None]], Recording]:
    """What came of running ``paths`` under ``policy``, and what was told of it."""
    parsed = parse(policy, "f.toml")
    assert not parsed.errors
    out = tmp_path / "out"
    run = record(
        [sys.executable, "-I", "-c", RUN, str(out), *map(str, paths)],
        known=apply_policy(parsed.policy, load_rules([])),
        enforce=enforce,
    )
    alerts = [(a.rule.id, a.response.action, a.response.would) for a in run.alerts if a.rule.family == "exec"]
    return [int(line) for line in out.read_text().split()], alerts, run


@pytest.fixture
def tool(tmp_path):
    return shutil.copy("/bin/true", tmp_path / "tool")


@pytest.mark.guest
def test_a_program_is_refused_by_its_path_or_its_file(tmp_path, tool):
    """Told once, as refused; its interpreter's script likewise, and others run."""
    script = tmp_path / "script"
    script.write_text(f"#!{tool}\n")
    script.chmod(0o755)
    link = tmp_path / "link"
    os.link(tool, link)
    deny = f'[exec]\ndeny = ["file:{tool}", "{tmp_path}/by-path"]\ndeny_action = "block"\n'
    other = shutil.copy("/bin/true", tmp_path / "by-path")
    came, told_, run = tried(tmp_path, deny, tool, "/bin/true", link, script, other)
    assert came == [errno.EPERM, 0, errno.EPERM, errno.EPERM, errno.EPERM]
    assert told_ == [("exec.denied", "blocked", None)] * 4
    programs = [alert.evidence["program"] for alert in run.alerts if alert.rule.family == "exec"]
    # the script's interpreter is the first one again: that is counted, and told at the end
    assert programs == [str(tool), str(link), str(other), str(tool)]
    assert all(alert.hook_ns < alert.response.effect_ns < alert.engine_ns for alert in run.alerts)
    assert len(run.of("exec-refused")) == 4
    assert run.summary.acted == {"block": 4}
    assert not [e for e in run.execs() if e.path in (str(tool).encode(), str(link).encode())]


def test_what_is_not_allowed_is_refused(tmp_path, tool):
    python = Path(sys.executable).resolve()
    allow = f'[exec]\nallow = ["/usr/*", "{python}"]\nallow_action = "block"\n'
    came, told_, _ = tried(tmp_path, allow, tool, "/bin/true")
    assert (came, told_) == ([errno.EPERM, 0], [("exec.not-allowed", "blocked", None)])


def test_observed_a_program_runs(tmp_path, tool):
    deny = f'[exec]\ndeny = ["file:{tool}"]\ndeny_action = "block"\n'
    came, told_, run = tried(tmp_path, deny, tool, enforce=False)
    assert (came, told_) == ([0], [("exec.denied", "none", "blocked")])
    assert not run.of("exec-refused")


@pytest.mark.guest
def test_what_is_to_be_killed_is_and_arguments_come_too_late(tmp_path, tool):
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[indicators.word]\nwhere = "args"\nmatch = "argument"\nvalues = ["argument"]\n'
        '[rules."exec.word"]\ntitle = "t"\non = "exec"\nseverity = "high"\naction = "block"\nany = ["word"]\n'
    )
    out = tmp_path / "out"
    run = record([sys.executable, "-I", "-c", RUN, str(out), "/bin/true"], rules=[rules], enforce=True)
    assert out.read_text().split() == ["-9"]
    assert [(a.rule.id, a.response.action) for a in run.alerts] == [("exec.word", "killed")]
    out.unlink()
    came, told_, _ = tried(tmp_path, f'[exec]\ndeny = ["file:{tool}"]\ndeny_action = "kill"\n', tool)
    assert (came, told_) == ([-9], [("exec.denied", "killed", None)])
