# SPDX-License-Identifier: Apache-2.0
"""What fanotify tells of files that are obeyed later, in homes of our own making; who wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from bench import synthetic
from tracer.engine.engine import Engine
from tracer.footholds import watcher
from tracer.footholds.packaged import by_packages
from tracer.footholds.places import CRON, HOME, KEYS, SERVICE, STARTUP, SYSTEM, everywhere
from tracer.footholds.records import FootholdRecords
from tracer.footholds.watcher import Footholds
from tracer.kernel import cgroup, schema
from tracer.rules import load_rules


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    footholds = Footholds([(home, HOME)])
    footholds.close()
    if not footholds.refused:
        yield home
        return
    # an overlay, as guests have: a file system in memory has handles
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", home], check=True)
    yield home
    subprocess.run(["umount", home], check=True)


def watched(home: Path, folder=HOME) -> Footholds:
    footholds = Footholds([(home, folder)])
    assert not footholds.refused
    return footholds


def run(script: str, home: Path) -> int:
    """The pid of a shell that has run it, and ended."""
    process = subprocess.Popen(["sh", "-euc", script], cwd=home)
    assert process.wait() == 0
    return process.pid


def told(footholds: Footholds, home: Path) -> list[tuple[int, str, bool]]:
    found = []
    while batch := list(footholds.take()):
        found += [(w.what, os.path.relpath(w.path, home), w.linked) for w in batch]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo x >>.bashrc", [(STARTUP, ".bashrc", False)]),
        ("mkdir .ssh; echo x >.ssh/authorized_keys", [(KEYS, ".ssh/authorized_keys", False)]),
        ("mkdir -p .config/systemd/user; echo x >.config/systemd/user/a.service", [(SERVICE, ".config/systemd/user/a.service", False)]),
        ("mkdir -p .config/systemd/user/default.target.wants; ln -s /x .config/systemd/user/default.target.wants/a.service",
         [(SERVICE, ".config/systemd/user/default.target.wants/a.service", True)]),
        ("echo x >new; mv new .profile", [(STARTUP, ".profile", False)]),
        ("echo x >new; ln new .profile", [(STARTUP, ".profile", False)]),
        ("ln -s new .profile", [(STARTUP, ".profile", True)]),
        ("mkdir other; echo x >other/authorized_keys; mv other .ssh", [(KEYS, ".ssh/authorized_keys", False)]),
        ("mkdir other; ln -s other .ssh", [(KEYS, ".ssh", True)]),
        ("mkdir -p a/systemd/user; echo x >a/systemd/user/b.timer; mv a .config", [(SERVICE, ".config/systemd/user/b.timer", False)]),
        ("mkdir .ssh; echo x >.ssh/known_hosts; echo x >.ssh/config; echo x >notes; mkdir src; cat /dev/null", []),
        ("mkdir .ssh; rmdir .ssh; mkdir .ssh; echo x >.ssh/rc", [(KEYS, ".ssh/rc", False)]),
    ],
)  # fmt: skip
def test_what_is_put_where_it_is_obeyed_is_told(home: Path, script: str, expected: list):
    footholds = watched(home)
    # step by step, as it happens: folders that are made are watched while their maker goes on
    for step in script.split("; "):
        run(step, home)
        found = told(footholds, home)
        assert all(row in expected for row in found), step
        expected = [row for row in expected if row not in found]
    assert expected == []
    footholds.close()


@pytest.mark.guest
def test_what_lies_in_a_folder_by_the_time_it_is_seen_is_told(home: Path):
    footholds = watched(home)
    pid = run(
        "mkdir -p .config/systemd/user .ssh; echo x >.config/systemd/user/a.service; echo y >.ssh/authorized_keys",
        home,
    )
    found = {row[:2] for row in told(footholds, home)}
    assert found == {(SERVICE, ".config/systemd/user/a.service"), (KEYS, ".ssh/authorized_keys")}
    footholds.close()
    assert pid


def test_the_systems_own_places(tmp_path: Path):
    root = tmp_path / "root"
    for folder in ("etc/cron.d", "var/spool", "etc/systemd/system"):
        (root / folder).mkdir(parents=True)
    footholds = watched(root, SYSTEM)
    run(
        "echo x >etc/cron.d/job; mkdir -p var/spool/cron/crontabs; echo x >var/spool/cron/crontabs/root", root
    )
    run(
        "mkdir etc/systemd/system/a.service.d; echo x >etc/systemd/system/a.service.d/b.conf; echo >etc/hosts",
        root,
    )
    found = {row[:2] for row in told(footholds, root)}
    assert found == {
        (CRON, "etc/cron.d/job"),
        (CRON, "var/spool/cron/crontabs/root"),
        (SERVICE, "etc/systemd/system/a.service.d/b.conf"),
    }
    footholds.close()


def test_folders_that_come_and_go_use_up_no_room(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watcher, "FOLDERS_MAX", 8)
    footholds = watched(home)
    base = home / ".config/systemd/user"
    base.mkdir(parents=True)
    told(footholds, home)
    for number in range(30):
        (base / f"{number}.wants").mkdir()
        told(footholds, home)
        (base / f"{number}.wants").rmdir()
    (home / ".ssh").mkdir()
    told(footholds, home)
    (home / ".ssh/authorized_keys").write_text("x")
    assert told(footholds, home) == [(KEYS, ".ssh/authorized_keys", False)]
    assert footholds.lost == {}
    footholds.close()


def test_what_is_too_much_is_counted(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watcher, "FOLDERS_MAX", 4)
    footholds = watched(home)
    (home / ".config/systemd/user/a.wants").mkdir(parents=True)
    (home / ".ssh").mkdir()
    told(footholds, home)
    assert footholds.lost["folders"] > 0
    footholds.close()


def engine_with(pid: int, uid: int = 0, *, ended: bool = False, parent: bytes = b"/usr/bin/dash") -> Engine:
    engine = Engine(load_rules([]), processes=256, flows=64)
    start = cgroup.process_start_ticks(pid)
    fork, execute = synthetic.fork(pid, 7, 2), synthetic.execute(pid, 7, 3, [b"sh"], b"/usr/bin/dash")
    if start is not None:  # the records are to be of this very process
        ns = (start * 10_000_000).to_bytes(8, "little")
        fork, execute = fork[:8] + ns + fork[16:], execute[:8] + ns + execute[16:]
    stream = [synthetic.execute(7, 1, 1, [parent], parent), fork, execute]
    if ended:
        from tracer import clock

        stream.append(synthetic.exit_(pid, clock.boottime_ns()))
    for _ in engine.feed(stream):
        pass
    for entry in engine.live_entries():
        engine.state.processes.table[entry]["uid"] = uid
    for row in engine.state.processes.table[:2]:
        row["uid"] = uid
    return engine


def fired(engine: Engine, footholds: Footholds) -> list[tuple[str, str]]:
    source = FootholdRecords(footholds, engine)
    return [
        (rule.id, severity) for one in engine.feed(source.take(), count=False) for rule, severity in one.rules
    ]


def test_whoever_has_ended_by_then_is_known(home: Path):
    footholds = watched(home)
    (home / ".ssh").mkdir()
    told(footholds, home)
    pid = run("echo x >>.ssh/authorized_keys", home)
    engine = engine_with(pid, ended=True)
    assert engine.live == 1
    assert fired(engine, footholds) == [("foothold.ssh-keys", "high")]
    footholds.close()


def test_outsiders_are_not_the_trees(home: Path):
    footholds = watched(home)
    (home / ".bashrc").write_text("x")
    engine = engine_with(99999)
    source = FootholdRecords(footholds, engine)
    assert source.take() == []
    assert source.lost() == {}  # we live, and are not in the tree
    run("echo x >>.profile", home)
    assert source.take() == []
    assert source.lost()["writer-gone"] > 0
    footholds.close()


def test_a_process_is_told_of_once_for_each_kind(home: Path):
    footholds = watched(home)
    engine = engine_with(os.getpid())
    source = FootholdRecords(footholds, engine)
    for name in (".bashrc", ".profile", ".bashrc"):
        (home / name).write_text("x")
    (home / ".ssh").mkdir()
    records = source.take()
    (home / ".ssh/rc").write_text("x")
    records += source.take()
    kinds = [int.from_bytes(r[42:43], "little") for r in records]
    assert kinds == [STARTUP, KEYS]
    assert records[0].endswith(b"/.bashrc")
    footholds.close()


@pytest.mark.parametrize(("parent", "uid", "severity"), [
    (b"/usr/bin/dpkg", 0, "low"), (b"/usr/bin/dpkg", 1000, "high"), (b"/tmp/dpkg", 0, "high"), (b"/usr/bin/make", 0, "high"),
])  # fmt: skip
def test_package_managers_set_up_services(home: Path, parent: bytes, uid: int, severity: str):
    (home / ".config/systemd/user").mkdir(parents=True)
    footholds = watched(home)
    (home / ".config/systemd/user/a.service").write_text("x")
    assert fired(engine_with(os.getpid(), uid, parent=parent), footholds) == [("foothold.service", severity)]
    footholds.close()


def test_scripts_that_are_package_managers():
    assert by_packages([(b"/usr/bin/python3.11", (b"/usr/bin/python3", b"/usr/bin/dnf", b"install"))])
    assert not by_packages([(b"/usr/bin/python3.11", (b"python3", b"/home/a/usr/bin/dnf"))])
    assert not by_packages([(b"/home/a/usr/bin/apt", (b"apt",))])


def test_this_host_can_be_watched():
    footholds = Footholds(everywhere())
    assert footholds.folders > 3
    footholds.close()
    assert schema.FOOTHOLD.itemsize == 48
