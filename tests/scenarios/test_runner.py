# SPDX-License-Identifier: Apache-2.0
"""The runner itself: what a scenario can reach, what goes wrong in it, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tracer.kernel import host
from tracer.rules import load_rules
from tracer.scenario.runner import run
from tracer.scenario.spec import parse
from tracer.scenario.verdict import BROKEN, CAUGHT, QUIET, SKIPPED

HERE = Path(__file__).parent
VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]


@pytest.fixture(scope="module")
def rules():
    return load_rules([])


@pytest.fixture
def act(rules):
    """Run a script as a benign scenario, with more of the file given as text."""

    def run_it(script: str, top: str = "", more: str = "", expect: str = ""):
        text = f"title = 'T'\nkind = 'benign'\n{top}\n{more}\n[run]\nscript = '''\n{script}\n'''\n[expect]\n{expect}\n"
        return run(parse(text, HERE / "benign" / "made-up.toml"), rules)

    return run_it


def leftovers() -> set[str]:
    places = [
        *Path(tempfile.gettempdir()).glob("vigiles-scenario-*"),
        *host.cgroup2_root().glob("**/vigiles-*"),
    ]
    return {str(path) for path in places if "-kept-" not in path.name}


def holders() -> list[int]:
    """Processes that hold the hosts of a scenario that we, or a child of ours, have started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            line = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"unshare\0--net\0--mount\0--pid\0"):
            found.append(int(stat.parent.name))
    return found


def test_hosts_reach_each_other_and_nothing_else(act):
    result = act(
        "test $(ip -o link | wc -l) = 2\n"
        'test -z "$(ip route | grep default)" && test -z "$(ip -6 route | grep default)"\n'
        "getent hosts outside.example | grep 2001:db8:51::20\n"
        "getent ahostsv4 pool.example | grep $PROXY\n"
        "! getent hosts example.org\n"
        "for to in TCP4:$OUTSIDE TCP6:[$OUTSIDE6]; do socat -u $to:7000 - | grep hello; done\n",
        "names = { 'pool.example' = 'proxy' }",
        "[[services]]\nrun = 'socat TCP6-LISTEN:7000,fork,reuseaddr SYSTEM:\"echo hello\"'\nready = 'tcp:7000'\n",
    )
    assert result.verdict == QUIET, result.reason + result.output


def test_home_and_processes_are_its_own(act):
    result = act(
        '! test -e ~/.ssh\ntouch ~/mark\ntest "$(ps -e -o comm= | grep -c pytest)" = 0\ntest -d /proc/$$\n'
    )
    assert result.verdict == QUIET, result.reason + result.output
    assert not Path("~root/mark").expanduser().exists()


def test_another_user(act):
    text = "title = 'T'\nkind = 'benign'\n[run]\nuser = 'nobody'\nscript = '''\ntest $(id -un) = nobody; touch x\n'''\n"
    result = run(parse(text, HERE / "benign" / "made-up.toml"), load_rules([]))
    assert result.verdict == QUIET, result.reason + result.output


def test_an_alert_is_kept(rules):
    text = (
        "title = 'T'\nkind = 'malicious'\n[run]\nscript = 'cp /bin/true xmrig; ./xmrig'\n"
        "[expect]\nalerts = [{ rule = 'miner.command', severity = 'high' }]\n"
    )
    result = run(parse(text, HERE / "malicious" / "made-up.toml"), rules)
    assert result.verdict == CAUGHT
    (flag,) = result.flags
    assert flag.exe.endswith("/xmrig") and flag.latency_us > 0 and flag.evidence["matched"]
    assert result.to_json()["alerts"][0]["rule"] == "miner.command"


@pytest.mark.parametrize(
    ("script", "top", "more", "words"),
    [
        ("false", "", "", "status 1"),
        ("sleep 30", "timeout = 0.5", "", "did not end within 0.5 s"),
        ("true", "", "[[services]]\nrun = 'echo no; exit 3'\nready = 'tcp:1'\n", "ended with status 3"),
    ],
)
def test_what_goes_wrong_is_no_verdict_on_the_watch(act, script, top, more, words):
    before = leftovers()
    result = act(script, top, more)
    assert result.verdict == BROKEN and words in result.reason
    assert not result.passed
    assert leftovers() <= before


def test_what_is_not_installed_is_skipped(act):
    result = act("true", "needs = ['no-such-program', 'python:no_such_module', 'file:/no/such', 'sh']")
    assert result.verdict == SKIPPED
    assert "no-such-program, python:no_such_module, file:/no/such" in result.reason


def test_what_goes_to_the_background_is_ended(act):
    before = leftovers()
    assert act("setsid -f sleep 30; sleep 30 &").verdict == QUIET
    assert leftovers() <= before


def test_nothing_is_left_of_a_killed_run(tmp_path):
    folder = tmp_path / "benign"
    folder.mkdir()
    (folder / "long.toml").write_text(
        "title = 'T'\nkind = 'benign'\n[[services]]\nrun = 'sleep 61'\n"
        "[run]\nscript = 'touch begun; sleep 60 & sleep 60'\n"
    )
    mine = {"TMPDIR": str(tmp_path)}
    runner = subprocess.Popen([*VIGILES, "scenario", str(folder / "long.toml")], env=os.environ | mine)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("vigiles-scenario-*/begun")):
        assert runner.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    held = [pid for pid in holders() if str(tmp_path) in Path(f"/proc/{pid}/environ").read_text()]
    assert len(held) == 2
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    deadline = time.monotonic() + 10
    while set(held) & set(holders()):
        assert time.monotonic() < deadline, "hosts outlive the runner"
        time.sleep(0.05)
    assert list(tmp_path.glob("vigiles-scenario-*"))
    again = subprocess.run(
        [*VIGILES, "scenario", "--dir", str(HERE), "port-check"], env=os.environ | mine, check=False
    )
    assert again.returncode == 0
    assert list(tmp_path.glob("vigiles-scenario-*")) == []


def test_the_command_lists_runs_and_fails(tmp_path):
    folder = tmp_path / "benign"
    folder.mkdir()
    (folder / "bad.toml").write_text("title = 'Bad work'\nkind = 'benign'\n[run]\nscript = 'exit 7'\n")

    def vigiles(*words: str):
        return subprocess.run(
            [*VIGILES, "scenario", *words, "--dir", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )

    assert "benign/bad" in vigiles().stdout
    done = vigiles("--all")
    assert done.returncode == 1 and "broken" in done.stdout and "status 7" in done.stdout
    (folder / "bad.toml").write_text("title = 'Bad work'\nkind = 'good'\n")
    done = vigiles("--all")
    assert done.returncode == 2 and "bad.toml:2: kind = 'good'" in done.stderr
