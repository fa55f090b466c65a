# SPDX-License-Identifier: Apache-2.0
"""What a tree does to its watch is told, and whoever did it is ended where that is enforced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Recording, record, tampering, workload

from tracer.kernel import cgroup, host, schema
from tracer.kernel.hooks import HOOKS
from tracer.kernel.trial import usable
from tracer.sinks.events import format_event

USR1, KILL, STOP, TERM = signal.SIGUSR1, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM


@contextmanager
def stand_in(place: Path | None = None, group: int | None = None):
    """A process that counts as the tracer: it may be killed."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal,time; signal.signal(10, lambda *_: 0)\nprint(flush=True)\nwhile 1: time.sleep(9)",
        ],
        stdout=subprocess.PIPE,
        process_group=group,
    )
    process.stdout.readline()  # it has its handler
    if place is not None:
        (place / "cgroup.procs").write_text(str(process.pid))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def cgroup_of_its_own(name: str):
    path = host.cgroup2_root() / f"vigiles-test-{name}-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        assert cgroup.TreeCgroup(path).remove(2.0)


def tampers(run: Recording) -> list[str]:
    return [alert.rule.id for alert in run.alerts if alert.rule.family == "tamper"]


def told(run: Recording) -> list[tuple[str, str, str]]:
    return [
        (a.rule.id, a.severity, a.evidence.get("signal", a.evidence["what"]))
        for a in run.alerts
        if a.rule.family == "tamper"
    ]


def test_signals_to_the_tracer_are_told():
    with stand_in() as target:
        run = record(tampering("kill", target.pid, USR1, STOP, KILL), protect=(target.pid, 0))
        assert target.wait() == -KILL
    assert told(run) == [("tamper.signal", "high", name) for name in ("SIGUSR1", "SIGSTOP", "SIGKILL")]
    alert = run.alerts[0]
    assert alert.program.pid == run.root
    assert alert.evidence["target"]["pid"] == target.pid
    assert alert.evidence["to_group"] is False
    assert run.status == 0
    assert run.summary.sent["tamper"] == run.summary.received["tamper"] == 3
    for e, tail in run.events:
        if e["kind"] == schema.KIND["EVENT_TAMPER"]:
            assert f"signal {signal.Signals(int(e['number'])).name} pid {target.pid}" in format_event(
                e, tail, 0
            )


def test_the_tracer_is_this_process_when_nobody_says_otherwise():
    seen = []
    before = signal.signal(USR1, lambda *_: seen.append(1))
    try:
        run = record(tampering("kill", os.getpid(), USR1))
    finally:
        signal.signal(USR1, before)
    assert seen == [1]
    assert told(run) == [("tamper.signal", "high", "SIGUSR1")]


def test_every_way_to_send_one_is_seen():
    with stand_in() as target:
        run = record(tampering("in_every_way", target.pid, USR1), protect=(target.pid, 0))
        assert target.poll() is None
    assert run.status == 0
    assert told(run) == [("tamper.signal", "high", "SIGUSR1")] * 6


@pytest.mark.parametrize(("number", "severity"), [(USR1, "low"), (KILL, "high")])
def test_a_signal_to_a_whole_group_is_no_attack_unless_it_can_not_be_caught(number, severity):
    """`kill 0` ends a script's children, and hits whoever started the script."""
    with stand_in(group=0) as target:
        command = tampering("group", target.pid, int(number))
        run = record(command, protect=(target.pid, 0))
    assert told(run) == [("tamper.signal", severity, number.name)] * (1 if number == KILL else 2)
    assert run.alerts[-1].evidence["to_group"] is True


def test_what_is_no_attack_is_quiet():
    with stand_in() as target:
        run = record(tampering("harmless", target.pid), protect=(target.pid, 0))
    assert run.status == 0
    assert run.of("tamper") == []


def test_job_control_is_quiet():
    """Whoever makes it happen, the terminal sends the signals."""
    leader, follower = os.openpty()
    count = (
        "import fcntl, signal, time\n"
        "n = []\n"
        "signal.signal(2, lambda *_: n.append(1))\n"
        "fcntl.ioctl(0, 0x540E, 0)\n"  # TIOCSCTTY
        "print(flush=True)\n"
        "while len(n) < 2: time.sleep(0.01)"
    )
    target = subprocess.Popen(
        [sys.executable, "-c", count], stdin=follower, stdout=subprocess.PIPE, start_new_session=True
    )
    target.stdout.readline()  # the terminal is its own
    os.set_inheritable(leader, True)
    run = record(tampering("terminal", leader, target.pid), protect=(target.pid, 0))
    target.communicate(timeout=60)
    os.close(leader), os.close(follower)
    assert target.returncode == 0, "both have come"
    assert run.of("tamper") == []


def test_dying_children_are_quiet():
    """This process is the tracer, and the parent of the command."""
    assert record(["sh", "-c", "kill -TERM $$"]).of("tamper") == []


def test_others_may_signal_the_tracer():
    with stand_in() as target:

        def look(watch, found):
            os.kill(target.pid, USR1)

        run = record(tampering("wait", 0.3), protect=(target.pid, 0), between=look)
    assert run.of("tamper") == []


def test_enforced_the_sender_dies_at_once():
    with stand_in() as target:
        run = record(tampering("kill", target.pid, *[USR1] * 3), protect=(target.pid, 0), enforce=True)
    assert run.status == 128 + KILL
    assert told(run) == [("tamper.signal", "high", "SIGUSR1")]
    (alert,) = [a for a in run.alerts if a.rule.id == "tamper.signal"]
    assert alert.response.action == "killed"
    assert alert.hook_ns < alert.response.effect_ns < alert.engine_ns, "by the probe, before anybody else"
    assert run.summary.acted == {"kill": 1}


def test_observed_it_is_said_what_would_have_been_done():
    with stand_in() as target:
        run = record(tampering("kill", target.pid, USR1), protect=(target.pid, 0))
    (alert,) = [a for a in run.alerts if a.rule.id == "tamper.signal"]
    assert (alert.response.action, alert.response.would) == ("none", "killed")


# the tree's cgroup


def test_leaving_the_cgroup_is_told_once():
    with cgroup_of_its_own("a") as place:
        root = host.cgroup2_root()
        run = record(tampering("leave", root, place, root))
    assert told(run) == [("tamper.left-cgroup", "high", "left")]
    evidence = run.alerts[0].evidence
    assert evidence["cgroup_to"] == "/"
    assert evidence["cgroup"].rpartition("/")[2].startswith("vigiles-")
    assert evidence["target"]["pid"] == run.root
    assert "by" not in evidence
    assert run.alerts[0].cgroup in ("/", "") or run.alerts[0].cgroup == evidence["cgroup_to"]


def test_what_it_starts_out_there_is_not_told_again():
    run = record(workload("leave_cgroup_exec", host.cgroup2_root()))
    assert told(run) == [("tamper.left-cgroup", "high", "left")]


def test_another_member_is_moved_out():
    script = (
        "import os, sys\npid = os.fork()\nif not pid: os.read(os.pipe()[0], 1)\n"
        "open(sys.argv[1] + '/cgroup.procs', 'w').write(str(pid))\nos.kill(pid, 9)"
    )
    run = record([sys.executable, "-c", script, str(host.cgroup2_root())])
    assert told(run) == [("tamper.left-cgroup", "high", "left")]
    (alert,) = run.alerts
    assert alert.program.pid == run.root
    assert alert.evidence["target"]["pid"] != run.root


def test_somebody_else_moves_it_out():
    moved = []

    def look(watch, found):
        if not moved:
            (host.cgroup2_root() / "cgroup.procs").write_text(str(found.root))
            moved.append(found.root)

    # the tracer itself is not told from the rest of the world: it never does this
    run = record(tampering("wait", 0.5), between=look, protect=(0, 0))
    assert told(run) == [("tamper.left-cgroup", "high", "left")]
    (alert,) = run.alerts
    assert alert.program.pid == run.root
    assert alert.evidence["by"] == os.getpid()


def test_born_elsewhere():
    with cgroup_of_its_own("b") as place:
        run = record(tampering("born_in", place))
    assert run.status == 0
    assert told(run) == [("tamper.left-cgroup", "high", "left")]
    (alert,) = run.alerts
    (fork,) = [e for e in run.of("fork") if e["parent_tgid"] == run.root]
    assert alert.evidence["target"]["pid"] == int(fork["tgid"])


def test_cgroups_below_the_trees_own_are_its_own_business():
    run = record(tampering("below", "inner", host.cgroup2_root()))
    assert run.status == 0
    assert run.of("tamper") == []


def test_a_tree_without_a_cgroup_of_its_own_can_not_leave_it():
    run = record(tampering("leave", host.cgroup2_root()), own_cgroup=False)
    assert run.of("tamper") == []


def test_enforced_whoever_leaves_dies():
    run = record(tampering("leave", host.cgroup2_root()), enforce=True)
    assert run.status == 128 + KILL
    assert run.alerts[0].response.action == "killed"


def test_enforced_whoever_was_moved_by_others_dies():
    def look(watch, found):
        if not found.alerts:
            (host.cgroup2_root() / "cgroup.procs").write_text(str(found.root))

    run = record(tampering("wait", 5), between=look, enforce=True, protect=(0, 0))
    assert run.status == 128 + KILL
    assert run.alerts[0].response.action == "killed"


# the tracer's cgroup


@pytest.mark.guest
def test_moving_and_freezing_the_tracer_are_told():
    with cgroup_of_its_own("c") as first, cgroup_of_its_own("d") as second, stand_in(first) as target:
        script = tampering("move", target.pid, second)
        line = " ".join(script) + "; " + " ".join(tampering("freeze", second))
        run = record(["sh", "-c", line], protect=(target.pid, cgroup.identity(first)))
    assert run.status == 0
    assert told(run) == [("tamper.tracer-cgroup", "high", what) for what in ("moved", "froze")]
    assert [a.evidence["cgroup"].rpartition("/")[2] for a in run.alerts] == [first.name, second.name]


def test_freezing_what_is_above_the_tracer_freezes_it():
    with cgroup_of_its_own("e") as place:
        (place / "inner").mkdir()
        with stand_in(place / "inner") as target:
            run = record(tampering("freeze", place), protect=(target.pid, cgroup.identity(place / "inner")))
    assert told(run) == [("tamper.tracer-cgroup", "high", "froze")]


def test_other_cgroups_may_be_frozen():
    with cgroup_of_its_own("f") as place, stand_in() as target:
        run = record(tampering("freeze", place), protect=(target.pid, cgroup.identity(cgroup.of_process())))
    assert run.of("tamper") == []


# modules


def test_the_kernel_takes_the_probe_of_modules():
    """No more than that can be tested where no module can be loaded."""
    assert usable(["on_module"]) == {"on_module": None}
    assert Counter(hook.place for hook in HOOKS)["modules"] == 1
