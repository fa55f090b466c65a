# SPDX-License-Identifier: Apache-2.0
"""The whole command with hardly any privileges left: it still sees, reads, judges, reloads and tidies up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tracer import rundir
from tracer.kernel import cgroup, host
from tracer.privileges import held
from tracer.privileges.capabilities import NEEDED, mask_of

VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
NOBODY = 65534
RULES = """
[indicators.marker]
where = "file"
match = "substring"
values = ["vigiles-test-marker"]
[rules."miner.marked"]
title = "t"
on = "file"
any = ["marker"]
severity = "high"
[indicators.word]
where = "args"
match = "whole"
values = ["{word}"]
[rules."miner.word"]
title = "{word}"
on = "exec"
any = ["word"]
severity = "low"
"""
#: Runs each program as another user, in all the ways that hide it; says so, then waits to be told the next.
STRANGER = """
import os, sys
folder, user = sys.argv[1], int(sys.argv[2])
def act(how):
    pid = os.fork()
    if pid == 0:
        os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
        program = os.path.join(folder, how)
        if how == "memfd":
            fd = os.memfd_create("hidden", os.MFD_CLOEXEC)
            with open(program, "rb") as file:
                os.write(fd, file.read())
            program = fd
        os.execve(program, [how, "0.7"], {})
    return pid
print("ready", flush=True)
for line in sys.stdin:
    pids = [act(how) for how in line.split()]
    print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids), flush=True)
os.execv("/bin/sh", ["sh", "-c", "/bin/true before; /bin/true after; exit 7"])
"""


@pytest.fixture
def folder():
    """A place that other users can come to, unlike tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="vigiles-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert not [info for info in rundir.trees() if not info.alive]
    ours = [info.tree for info in rundir.trees()]
    places = host.cgroup2_root().glob("**/vigiles-*-*")
    assert not [
        p
        for p in places
        if p.name not in ours and cgroup.process_start_ticks(int(p.name.split("-")[1])) is None
    ]


def marked(folder: Path, how: str, mode: int, owner: int) -> None:
    path = folder / how
    path.write_bytes(Path("/bin/sleep").read_bytes() + b"vigiles-test-marker")
    os.chown(path, owner, owner)
    path.chmod(mode)


def confined(pid: int, sinks: int) -> None:
    wanted = 2 + sinks  # the loop, the one that examines files, one that writes for each sink
    until = time.monotonic() + 30
    while (
        len(threads := held(pid)) != wanted and time.monotonic() < until
    ):  # the one before may not have ended yet
        time.sleep(0.05)
    assert len(threads) == wanted
    for thread in threads:
        assert thread.permitted == thread.effective
        assert thread.effective & ~mask_of(NEEDED) == 0
        assert thread.bounding == thread.ambient == thread.inheritable == 0
        assert thread.no_new_privs and thread.seccomp == 2


def test_all_that_a_watch_does(folder):
    ways = {
        "private": (0o700, NOBODY),
        "memfd": (0o700, NOBODY),
        "setuid": (0o4711, 0),
        "unreadable": (0o711, 0),  # which makes its process one that may not be looked into
    }
    for how, (mode, owner) in ways.items():
        marked(folder, how, mode, owner)
    rules, alerts = folder / "rules.toml", folder / "alerts.jsonl"
    rules.write_text(RULES.format(word="before"))
    rules.chmod(0o600)
    os.chown(rules, NOBODY, NOBODY)
    command = [sys.executable, "-c", STRANGER, str(folder), str(NOBODY)]
    arguments = ["run", "--rules", str(rules), "--alerts", str(alerts), "--", *command]
    with subprocess.Popen(
        [*VIGILES, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as watch:  # fmt: skip
        assert watch.stdout.readline() == "ready\n"
        confined(watch.pid, 2)
        (info,) = [info for info in rundir.trees() if info.pid == watch.pid]
        assert rundir.find(info.tree[:-1]) == info and info.alive and info.mode == "run"
        assert str(watch.pid) not in (info.cgroup / "cgroup.procs").read_text().split()
        print(*ways, file=watch.stdin, flush=True)
        assert watch.stdout.readline().split() == ["0"] * 4
        rules.write_text(RULES.format(word="after"))
        watch.send_signal(signal.SIGRTMIN)
        while "rules reloaded" not in (line := watch.stderr.readline()):
            assert line
        confined(watch.pid, 2)  # the thread that examines files is another one now
        _, rest = watch.communicate(timeout=60)
    assert watch.returncode == 7, rest
    assert "lost: 0" in rest
    told = [json.loads(line) for line in alerts.read_text().splitlines()]
    files = {alert["argv"][0]: alert for alert in told if alert["rule"] == "miner.marked"}
    assert set(files) == set(ways)
    assert files["memfd"]["evidence"]["file"]["path"].startswith("/memfd:hidden")
    assert files["private"]["uid"] == NOBODY
    assert [alert["title"] for alert in told if alert["rule"] == "miner.word"] == ["after"]
    assert all(alert["cgroup"].endswith(info.tree) for alert in told)
    assert not info.cgroup.exists() and not [i for i in rundir.trees() if i.pid == watch.pid]


def test_signals_reach_a_command_of_another_user():
    script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*VIGILES, "run", "--user", str(NOBODY), "--", "sh", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as watch:  # fmt: skip
        assert watch.stdout.readline() == "ready\n"
        watch.send_signal(signal.SIGTERM)
        out, err = watch.communicate(timeout=60)
    assert (out, watch.returncode) == ("asked\n", 9), err


def test_attach_is_confined_and_listed():
    with subprocess.Popen(["sleep", "60"], user=NOBODY, group=NOBODY, extra_groups=[]) as root:
        with subprocess.Popen(
            [*VIGILES, "attach", "--pid", str(root.pid)], stderr=subprocess.PIPE, text=True
        ) as watch:
            while "watching" not in watch.stderr.readline():
                assert watch.poll() is None
            confined(watch.pid, 1)
            info = rundir.find(f"pid-{root.pid}")
            assert (info.pid, info.cgroup, info.mode) == (watch.pid, None, "attach")
            watch.send_signal(signal.SIGINT)
            watch.communicate(timeout=60)
        root.kill()
    assert watch.returncode == 0


def test_the_command_is_not_confined():
    """It was forked before: what it is given is what its user has."""
    done = subprocess.run(
        [*VIGILES, "run", "--quiet", "--", "grep", "-E", "^(CapEff|CapBnd|NoNewPrivs|Seccomp):", "/proc/self/status"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    mine = Path("/proc/self/status").read_text().splitlines()
    assert [line for line in done.stdout.splitlines() if line not in mine] == []


def test_a_listing_that_cannot_be_is_said_and_no_reason_to_stop(folder):
    """In a mount namespace where /run/vigiles is somebody else's link."""
    script = (
        f"mount -t tmpfs -o mode=755 none /run && ln -s {folder} /run/vigiles && "
        f"exec {sys.executable} -c 'from tracer.cli import main; main()' run -- sh -c 'exit 3'"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "other commands won't find this watch: /run/vigiles can't be used" in done.stderr
    assert list(folder.iterdir()) == []


def test_in_process_it_is_a_choice():
    """Whoever calls the session's functions and has more to do keeps what it has."""
    code = """
import functools, subprocess
from tracer.session import run
from tracer.cli import group
from tracer.privileges import held
run.run_command = functools.partial(run.run_command, keep_privileges=True)
for _ in range(2):
    assert group.main(["run", "--quiet", "--", "true"], standalone_mode=False) == 0
assert not held()[0].seccomp and held()[0].bounding
subprocess.run(["true"], check=True)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_doctor_says_what_is_kept():
    done = subprocess.run([*VIGILES, "doctor"], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "a watch keeps" in line]
    assert all(name in line for name in NEEDED) and "system calls are refused" in line
