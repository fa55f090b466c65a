# SPDX-License-Identifier: Apache-2.0
"""The command line from outside: alerts, exit status, signals, errors, and nothing left behind."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracer.kernel import cgroup, host, libbpf

VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
SCHEMA = {
    "time", "rule", "title", "severity", "attack", "pid", "start_ns", "exe", "argv", "cwd", "uid", "cgroup",
    "container", "ancestry", "span", "evidence", "action", "latency_us", "tree", "host",
}  # fmt: skip


def vigiles(*arguments: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VIGILES, *arguments], capture_output=True, text=True, timeout=100, check=False, **more
    )


def loaded_programs() -> dict[int, str]:
    """Names of all BPF programs in the kernel, by id (struct bpf_prog_info: the name is at 64)."""
    lib = libbpf.library()
    found, number = {}, ctypes.c_uint32(0)
    while lib.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        fd = lib.bpf_prog_get_fd_by_id(number)
        if fd < 0:
            continue  # gone meanwhile
        info = ctypes.create_string_buffer(256)
        lib.bpf_obj_get_info_by_fd(fd, info, ctypes.byref(ctypes.c_uint32(256)))
        os.close(fd)
        found[number.value] = info.raw[64:80].rstrip(b"\0").decode()
    return found


def held_programs() -> set[int]:
    """Ids of the programs that some living process has open."""
    held = set()
    for file in Path("/proc").glob("[0-9]*/fdinfo/*"):
        with contextlib.suppress(OSError):
            held.update(int(n) for n in re.findall(r"^prog_id:\s*(\d+)", file.read_text(), re.MULTILINE))
    return held


def leftovers() -> list[str]:
    """Programs and cgroups of ours whose tracer is no more."""
    ours = {number: name for number, name in loaded_programs().items() if name.startswith("on_")}
    held = held_programs() if ours else set()
    programs = [name for number, name in ours.items() if number not in held]
    orphans = [
        str(path)
        for path in host.cgroup2_root().glob("**/vigiles-*-*")
        if cgroup.process_start_ticks(int(path.name.split("-")[1])) is None
    ]
    return programs + orphans


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def clean():
    yield
    cgroup.remove_stale()
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not leftovers(), 5)  # the kernel frees programs a moment later
    assert not leftovers()


@pytest.fixture
def alerts(tmp_path):
    """(path for --alerts, function that reads what is in it)."""
    path = tmp_path / "alerts.jsonl"
    return str(path), lambda: [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def miner(tmp_path):
    path = tmp_path / "xmrig"
    shutil.copy("/bin/true", path)
    return path


def test_an_alert_has_the_schema(alerts, miner):
    done = vigiles(
        "run", "--alerts", alerts[0], "--", "sh", "-c", f"{miner} -o stratum+tcp://a.example:1; exit 3"
    )
    assert done.returncode == 3
    (alert,) = alerts[1]()
    assert set(alert) >= SCHEMA
    assert alert["rule"] == "miner.command"
    assert alert["severity"] == "critical"
    assert alert["exe"] == str(miner)
    assert alert["argv"] == [str(miner), "-o", "stratum+tcp://a.example:1"]
    assert alert["cwd"] == os.getcwd()
    assert [Path(p["exe"]).name for p in alert["ancestry"]] == ["xmrig", Path("/bin/sh").resolve().name]
    assert alert["evidence"]["matched"]
    assert alert["action"] == "none" and alert["span"] is None
    assert 0 < alert["latency_us"] < 5e6
    assert alert["time"].endswith("Z") and len(alert["time"]) == 30
    assert os.stat(alerts[0]).st_mode & 0o777 == 0o640


def test_the_command_keeps_its_streams():
    done = vigiles("run", "--", "sh", "-c", "cat; echo out; echo err >&2", input="in\n")
    assert done.stdout == "in\nout\n"
    assert "err\n" in done.stderr
    assert "lost: 0" in done.stderr


def test_quiet_says_nothing():
    done = vigiles("run", "--quiet", "--", "true")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_json_on_standard_error(miner):
    done = vigiles("run", "--json", "--", "sh", "-c", f"{miner}; true")
    alert, summary = (json.loads(line) for line in done.stderr.splitlines())
    assert alert["rule"] == "miner.command"
    assert summary["summary"]["lost"] == 0
    assert summary["summary"]["events"]["received"]["exec"] == 2
    assert summary["summary"]["alert_latency_us"]["p99"] > 0


def test_alerts_on_standard_output(miner):
    done = vigiles("run", "--quiet", "--alerts", "-", "--", str(miner))
    assert json.loads(done.stdout)["rule"] == "miner.command"


def test_verbose_prints_events():
    done = vigiles("run", "-v", "--", "sh", "-c", "true; printf '\\033]0;x\\007' >/dev/null")
    assert " exec " in done.stderr and " exit " in done.stderr
    assert "\033" not in done.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["/no/such/file"], 127),
        (["no-such-command-anywhere"], 127),
        (["/etc/passwd"], 126),
        (["/"], 126),
    ],
)
def test_exit_status(command, status):
    assert vigiles("run", "--", *command).returncode == status


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run"], 2, "Missing argument"),
        (["run", "--no-such-option", "--", "true"], 2, "No such option"),
        (["attach"], 2, "--pid, --cgroup or --tree"),
        (["attach", "--pid", "4194305"], 1, "there is no process 4194305"),
        (["attach", "--cgroup", "/tmp"], 1, "no cgroup"),
        (["run", "--user", "nobody-at-all", "--", "true"], 1, "no user"),
        (["run", "--gpu-device", "/no/device", "--", "true"], 1, "/no/device"),
        (["run", "--gpu-device", "/etc/passwd", "--", "true"], 1, "character device"),
        (["run", "--gpu-user", "none", "--gpu-user", "x", "--", "true"], 2, "none"),
        (["run", "--bulk-mib", "3", "--", "true"], 2, "power of two"),
        (["run", "--alerts", "/no/such/folder/a", "--", "true"], 1, "/no/such/folder/a"),
        (["no-such-command"], 2, "No such command"),
    ],
)
def test_misuse_is_one_clear_line(arguments, status, words):
    done = vigiles(*arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_rule_file(tmp_path):
    rules = tmp_path / "mine.toml"
    rules.write_text(
        '[rules."miner.mine"]\ntitle = "t"\non = "exec"\nseverity = "grave"\nany = ["readers"]\n'
    )
    done = vigiles("run", "--rules", str(rules), "--", "true")
    assert done.returncode == 2
    assert f"{rules}:4:" in done.stderr


def test_without_root():
    code = (
        "import os, sys, tracer.cli, tracer.session.run, tracer.cli.run\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "sys.argv = ['vigiles', 'run', '--', 'true']; tracer.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 125, done.stderr
    assert "needs root" in done.stderr and "sudo" in done.stderr


def test_the_command_runs_as_whoever_called_sudo():
    environment = {**os.environ, "SUDO_UID": "65534", "SUDO_GID": "65534"}
    done = vigiles("run", "--quiet", "--", "sh", "-c", "id -u; id -g; id -G", env=environment)
    uid, gid, groups = done.stdout.splitlines()
    assert (uid, gid) == ("65534", "65534")
    assert "0" not in groups.split()


def test_alerts_are_not_written_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    done = vigiles("run", "--alerts", str(tmp_path / "link"), "--", "true")
    assert done.returncode == 1
    assert not (tmp_path / "target").exists()


def test_alerts_are_not_written_to_what_others_can_write(tmp_path):
    path = tmp_path / "a"
    path.touch()
    path.chmod(0o666)
    assert vigiles("run", "--alerts", str(path), "--", "true").returncode == 1


def test_an_interrupt_goes_to_the_command_and_the_watch_sums_up():
    script = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [*VIGILES, "run", "--", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout.readline() == "ready\n"
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=60)
    assert out == "interrupted\n"
    assert watch.returncode == 5
    assert "lost: 0" in err


def test_the_watch_lasts_as_long_as_the_tree(alerts, miner):
    script = f"(sleep 1; {miner}) >/dev/null 2>&1 & exit 4"
    assert vigiles("run", "--alerts", alerts[0], "--", "sh", "-c", script).returncode == 4
    assert len(alerts[1]()) == 1


def test_detach_on_exit():
    """It has ended, and what the command has left behind goes on."""
    done = vigiles("run", "--detach-on-exit", "--", "sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!")
    left = int(done.stdout)
    assert runs_sleep(left)
    os.kill(left, signal.SIGKILL)
    wait_until(lambda: not runs_sleep(left))


@pytest.mark.parametrize("moment", ["held", "running"])
def test_a_killed_tracer_leaves_nothing_that_the_next_start_does_not_remove(moment):
    command = ["sleep", "300"] if moment == "running" else ["sleep", "301"]
    with subprocess.Popen([*VIGILES, "run", "--", *command], stderr=subprocess.DEVNULL) as watch:
        if moment == "running":
            # a held child still has our own command line, in which "sleep" stands as well
            wait_until(lambda: children(watch.pid) and runs_sleep(children(watch.pid)[0]))
        else:
            wait_until(lambda: bool(children(watch.pid)))
        (child,) = children(watch.pid)
        programs = loaded_programs().values()
        watch.kill()
        watch.wait()
    if moment == "running":
        assert "on_exec" in programs  # or the check below could not fail
    if runs_sleep(child):
        os.kill(child, signal.SIGKILL)
    wait_until(
        lambda: not Path(f"/proc/{child}").exists() or b"Z" in Path(f"/proc/{child}/stat").read_bytes()
    )
    wait_until(lambda: cgroup.remove_stale() or not leftovers())


def children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def runs_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0")
    except OSError:
        return False


def _attached(arguments: list[str], go) -> tuple[str, int]:
    with subprocess.Popen([*VIGILES, "attach", *arguments], stderr=subprocess.PIPE, text=True) as watch:
        line = ""
        while "watching" not in line:
            line += watch.stderr.readline()
            assert watch.poll() is None, line
        go()
        time.sleep(0.2)
        watch.send_signal(signal.SIGINT)
        rest = watch.communicate(timeout=60)[1]
    return line + rest, watch.returncode


def test_attach_to_a_running_tree(alerts, miner):
    script = f"exec 3<&0; (while read x <&3; do {miner} $x; done)"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE) as root:
        time.sleep(0.2)

        def go() -> None:
            root.stdin.write(b"now\n")
            root.stdin.flush()
            wait_until(alerts[1])

        text, status = _attached(["--pid", str(root.pid), "--alerts", alerts[0]], go)
        root.stdin.close()
    assert status == 0, text
    (alert,) = alerts[1]()
    assert alert["argv"] == [str(miner), "now"]
    assert alert["ancestry"][-1]["pid"] == root.pid
    assert root.poll() == 0  # left alone


@pytest.mark.guest
def test_attach_sees_connections_of_the_tree_and_of_nobody_else(tmp_path):
    """The cgroup is shared with the whole host here: lineage decides whose events these are."""
    code = (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen();"
        "socket.socket().connect(s.getsockname());"
        "socket.socket(2, 2).sendto(b'x', ('127.0.0.1', 9)); open('/dev/full').close()"
    )
    script = tmp_path / "connects.py"
    script.write_text(code)
    loop = f"exec 3<&0; (while read x <&3; do {sys.executable} {script}; : >{tmp_path}/done; done)"
    with subprocess.Popen(["sh", "-c", loop], stdin=subprocess.PIPE) as root:
        time.sleep(0.2)

        def go() -> None:
            root.stdin.write(b"now\n")
            root.stdin.flush()
            subprocess.run([sys.executable, str(script)], check=True)  # outside the tree
            wait_until((tmp_path / "done").exists)

        text, _ = _attached(["--pid", str(root.pid), "--gpu-device", "/dev/full"], go)
        root.stdin.close()
    assert " 2 connect, 1 listen, 2 flow-open, 2 flow-close, 1 gpu-open" in text


@pytest.mark.guest
def test_attach_looks_into_flows_that_are_there(alerts):
    """A flow older than the watch: what it carries from now on is judged, and marked as not its beginning."""
    code = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.sendall(b'hello');"
        'sys.stdin.readline(); s.sendall(b\'{"id":4,"method":"mining.submit","params":[]}\\n\');'
        "sys.stdin.readline()"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", code, str(server.getsockname()[1])]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as root, server.accept()[0] as other:
            other.recv(5)

            def go() -> None:
                root.stdin.write(b"now\n")
                root.stdin.flush()
                wait_until(alerts[1])

            text, _ = _attached(["--pid", str(root.pid), "--alerts", alerts[0]], go)
            root.stdin.close()
    assert "1 of their flows" in text
    (alert,) = [alert for alert in alerts[1]() if alert["rule"] == "miner.stratum"]
    assert alert["pid"] == root.pid
    assert "late" in alert["evidence"]["facts"]


def test_rules_are_read_again_on_request(alerts, tmp_path):
    rules = tmp_path / "rules.toml"
    group = '[indicators.mine]\nwhere = "args"\nmatch = "whole"\nvalues = ["{word}"]\n'
    rule = '[rules."exec.mine"]\ntitle = "{word}"\non = "exec"\nseverity = "low"\nany = ["mine"]\n'
    rules.write_text((group + rule).format(word="first"))
    script = "exec 3<&0; (while read x <&3; do /bin/true first second; done)"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE) as root:
        with subprocess.Popen(
            [*VIGILES, "attach", "--pid", str(root.pid), "--rules", rules, "--alerts", alerts[0]],
            stderr=subprocess.PIPE,
            text=True,
        ) as watch:

            def wait_for(word: str) -> None:
                while word not in watch.stderr.readline():
                    assert watch.poll() is None

            def go() -> None:
                root.stdin.write(b"now\n")
                root.stdin.flush()
                wait_for("exec.mine")

            wait_for("watching")
            go()
            rules.write_text((group + rule).format(word="second"))
            watch.send_signal(signal.SIGRTMIN)
            wait_for("reloaded")
            go()
            rules.write_text("nonsense")
            watch.send_signal(signal.SIGRTMIN)
            wait_for(f"{rules}:1")
            go()
            watch.send_signal(signal.SIGINT)
            watch.communicate(timeout=60)
        root.stdin.close()
    found = [(a["title"], a["evidence"]["matched"][0]["indicator"]) for a in alerts[1]()]
    assert found == [("first", "first"), ("second", "second"), ("second", "second")]


def test_attach_sees_what_runs_already(alerts, tmp_path):
    miner = tmp_path / "xmrig"
    shutil.copy("/bin/sleep", miner)
    with subprocess.Popen(["sh", "-c", f"{miner} 30; true"]) as root:
        wait_until(lambda: children(root.pid))
        (child,) = children(root.pid)
        _attached(["--pid", str(root.pid), "--alerts", alerts[0]], lambda: None)
        os.kill(child, signal.SIGKILL)
    (alert,) = alerts[1]()
    assert alert["pid"] == child
    assert [p["pid"] for p in alert["ancestry"]] == [child, root.pid]


def test_attach_to_a_cgroup(alerts, miner):
    own = cgroup.TreeCgroup.create()
    try:

        def go() -> None:
            subprocess.run(["sh", "-c", f"echo $$ > {own.path}/cgroup.procs; {miner}; true"], check=True)

        _attached(["--cgroup", str(own.path), "--alerts", alerts[0]], go)
        assert [a["rule"] for a in alerts[1]()] == ["miner.command"]
    finally:
        assert own.remove(2)


def test_doctor():
    done = vigiles("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["able"]
    hooks = {f["name"]: f["state"] for f in report["findings"] if f["section"] in ("needed", "hook")}
    assert hooks["exec"] == hooks["connect4"] == "ok"
    assert "A watch can begin here." in vigiles("doctor").stdout


def test_hostile_arguments_reach_the_terminal_escaped(tmp_path):
    miner = tmp_path / "xmrig"
    shutil.copy("/bin/true", miner)
    code = f"import os; os.execv({str(miner)!r}, ['xmrig', '\\x1b]0;owned\\x07', '\\u202e', b'\\xff\\xfe'])"
    done = vigiles("run", "--", sys.executable, "-c", code)
    assert "miner.command" in done.stderr
    assert "\x1b" not in done.stderr and "\u202e" not in done.stderr
