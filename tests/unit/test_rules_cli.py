# SPDX-License-Identifier: Apache-2.0
"""``vigiles rules``"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from tracer.cli.rules import rules as group
from tracer.errors import RuleError, VigilesError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
[indicators.mine]
where = "args"
match = "prefix"
values = ["--mine"]

[rules."miner.mine"]
title = "Mine"
on = "exec"
any = ["mine"]
severity = "low"
"""


def call(*words: object) -> Result:
    return CliRunner().invoke(group, [str(word) for word in words])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_list():
    result = call("list")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert any(line.split()[:3] == ["miner.command", "critical", "A"] for line in lines)
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in result.output


def test_list_for_machines(good: Path):
    result = call("list", "--json", "--rules", good)
    found = {rule["id"]: rule for rule in map(json.loads, result.output.splitlines())}
    assert found["miner.mine"]["severity"] == "low"
    assert found["miner.mine"]["source"] == str(good)
    assert found["tunnel.ssh-reverse"]["family"] == "tunnel"
    assert found["tunnel.ssh-reverse"]["attack"] == ["T1572", "T1021.004", "T1090"]


def test_list_says_what_is_off(tmp_path: Path):
    path = tmp_path / "off.toml"
    path.write_text('[rules."miner.command"]\nenabled = false\n', encoding="utf-8")
    lines = call("list", "--rules", path).output.splitlines()
    assert [line.endswith("(off)") for line in lines if line.startswith("miner.command")] == [True]
    result = call("test", "--rules", path, "miner.command", "--", "xmrig")
    assert result.output.startswith("miner.command does not fire (the rule is off)")


def test_show_a_rule():
    result = call("show", "gpu.unexpected-client")
    assert result.exit_code == 0
    for text in ("T1496.001", "packs/gpu.toml:10", "--gpu-user", "(medium)", "@gpu-other-script", "one of"):
        assert text in result.output
    assert json.loads(call("show", "gpu.unexpected-client", "--json").output)["on"] == "gpu"


def test_show_a_group():
    result = call("show", "pool-encoded")
    assert "c3RyYXR1bSt0Y3A6Ly" in result.output
    assert "as written" in result.output
    assert json.loads(call("show", "pool-encoded", "--json").output)["case"] is True


@pytest.mark.parametrize("command", ["show", "test"])
def test_an_unknown_rule_is_told_with_the_nearest(command: str):
    result = call(command, "miner.comand", *(["--", "ls"] if command == "test" else []))
    assert isinstance(result.exception, VigilesError)
    assert result.exception.message == "there is no rule 'miner.comand'"
    assert result.exception.hint == "did you mean 'miner.command'?"


def test_check_says_ok(good: Path):
    result = call("check", good)
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: ")
    assert not result.stderr


def test_check_tells_every_mistake(tmp_path: Path):
    path = tmp_path / "bad.toml"
    path.write_text(GOOD.replace("prefix", "prefx").replace('"low"', '"lwo"'), encoding="utf-8")
    result = call("check", path)
    assert result.exit_code == 2
    assert not result.stdout
    assert result.stderr.splitlines() == [
        f"{path}:3: match = 'prefx' is not known",
        "  did you mean 'prefix'?",
        f"{path}:10: severity = 'lwo' is not known",
        "  did you mean 'low'?",
    ]


def test_check_warns(tmp_path: Path):
    path = tmp_path / "short.toml"
    path.write_text(GOOD.replace("prefix", "word").replace("--mine", "ab"), encoding="utf-8")
    result = call("check", path)
    assert result.exit_code == 0
    assert f"{path}:1: warning: 'ab' in group 'mine' is so short" in result.stderr


def test_check_looks_at_all_files_together(good: Path, tmp_path: Path):
    user = tmp_path / "user.toml"
    user.write_text('[rules."miner.mine"]\nextend = true\nnone = ["readers"]\n', encoding="utf-8")
    assert call("check", user).exit_code == 2
    assert call("check", good, user).exit_code == 0


def test_other_commands_leave_a_broken_file_to_main(tmp_path: Path):
    path = tmp_path / "bad.toml"
    path.write_text("[what]\n", encoding="utf-8")
    result = call("list", "--rules", path)
    assert isinstance(result.exception, RuleError)
    assert str(result.exception) == f"{path}:1: unknown key 'what'"


def test_test_says_why_it_fires():
    result = call("test", "miner.command", "--", "./a", "-o", "stratum+tcp://pool.example:3333", "-p", "x")
    assert result.exit_code == 0
    assert result.output.startswith("miner.command fires: critical\n")
    assert "stratum+tcp:// in args: -o stratum+tcp://pool.example:33" in result.output


def test_test_says_what_keeps_it_from_firing():
    result = call("test", "miner.command", "--", "/usr/bin/grep", "-r", "stratum+tcp://", ".")
    assert result.output.startswith("miner.command does not fire\n")
    assert "but also  readers" in result.output
    assert "grep in path: /usr/bin/grep" in result.output


def test_test_takes_facts_from_the_command_line_and_from_options():
    command = ["ssh", "-fNR", "8080:localhost:22", "me@host"]
    assert "fires: high" in call("test", "tunnel.ssh-reverse", "--", *command).output
    assert "does not fire" in call("test", "exec.fileless", "--", "/tmp/a").output
    assert "fires: high" in call("test", "exec.fileless", "--fact", "memfd", "--", "/tmp/a").output
    result = call("test", "exec.fileless", "--fact", "memdf", "--", "/tmp/a")
    assert result.exit_code == click.UsageError.exit_code
    assert "did you mean '@memfd'" in result.output


def test_test_of_events_that_have_no_command():
    result = call("test", "gpu.unexpected-client", "--fact", "@gpu-other-script")
    assert result.output.startswith("gpu.unexpected-client fires: medium\n")


def test_test_takes_the_path_apart_from_the_name():
    name = ["test", "miner.command", "--json"]
    hidden = json.loads(call(*name, "--path", "/tmp/xmrig", "--", "python3").output)
    assert (hidden["fires"], hidden["severity"], hidden["rule"]) == (True, "critical", "miner.command")
    assert not json.loads(call(*name, "--path", "/tmp/a", "--", "python3").output)["fires"]


def test_test_wants_a_command():
    result = call("test", "miner.command")
    assert result.exit_code == 2
    assert "behind --" in result.output


def test_what_steers_terminals_is_escaped(tmp_path: Path):
    path = tmp_path / "evil.toml"
    path.write_text(GOOD.replace("--mine", "--mine\\u001B[2J\\u009b1m\\u202e"), encoding="utf-8")
    shown = call("show", "mine", "--rules", path).output
    assert "--mine\\x1b[2J\\x9b1m\\u202e" in shown
    path.write_text('"a\\u001b" = 1\n', encoding="utf-8")
    assert "unknown key 'a\\x1b'" in call("check", path).stderr
    result = call("test", "miner.command", "--", "a\x1b[31m", "stratum+tcp://\x1b[2J\x7fx\udcff:1")
    assert "fires" in result.output
    assert not any(letter in result.output for letter in "\x1b\x7f\udcff")


def test_looking_needs_no_numba(good: Path):
    """It takes longer to import than all the rest together."""
    code = (
        "import sys; from tracer.cli.rules import rules\n"
        "for words in (['list'], ['show', 'miner.command'], ['check', sys.argv[1]]):\n"
        "    rules.main(words, standalone_mode=False)\n"
        "assert not {'numba', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, good], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["miner.stratum", "--", r'{"id":1,"method":"mining.subscribe"}\n'], "miner.stratum fires: critical"),
        (["miner.stratum", "--", '{"id":1,"method":"initialize"}'], "miner.stratum does not fire"),
        (["miner.stratum", "--received", "--", '{"method":"mining.notify","params":[]}'], "fires: critical"),
        (["tunnel.ssh-wire", "--port", "443", "--fact", "external", "--", r"SSH-2.0-x\r\n"], "fires: high"),
        (["tunnel.ssh-pivot", "--fact", "ssh-pivot", "--fact", "by-ssh"], "fires: high"),
        (["tunnel.wire", "--udp", "--port", "51820", "--", r"\x01\0\0\0" + "x" * 144], "fires: high"),
        (["exec.miner-binary", "--", "/bin/sh"], "does not fire"),
    ],
)
def test_samples_of_other_events(arguments: list[str], said: str):
    result = CliRunner().invoke(group, ["test", *arguments])
    assert result.exit_code == 0, result.output
    assert said in result.output


def test_a_file_that_is_none_is_told():
    result = CliRunner().invoke(group, ["test", "exec.packed", "--", "/dev"])
    assert result.exit_code != 0
    assert "no regular file" in str(result.exception)
