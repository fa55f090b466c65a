# SPDX-License-Identifier: Apache-2.0
"""``vigiles policy``"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tracer.cli import COMMANDS
from tracer.cli import group as program
from tracer.cli.policy import policy as group
from tracer.errors import PolicyError
from tracer.policy.advice import advice_here
from tracer.policy.model import utc_today
from tracer.policy.parse import parse

if TYPE_CHECKING:
    from pathlib import Path

TODAY = utc_today()
GOOD = f"""\
[policy]
name = "sft-run"
act_from = "high"

[gpu]
users = ["train.py"]
action = "kill"

[network]
own = ["192.0.2.0/24"]
connect = ["192.0.2.0/24", "203.0.113.7:22", "*:53", "*.example.org:443"]
connect_action = "block"
listen = ["8000-8100"]
quarantine = ["192.0.2.10:22"]

[exec]
allow = ["/no/such/folder/*", "no-such-program"]
deny = ["no-such-scanner"]
deny_action = "kill"

[actions]
"miner.*" = "kill"

[rules]
off = ["net.unexpected"]

[[exceptions]]
rule = "tunnel.ssh-local"
exe = "/usr/bin/ssh"
args = "bastion.example"
reason = "the data set"
until = {TODAY + timedelta(77)}
"""


def call(*words: object) -> Result:
    return CliRunner().invoke(group, [str(word) for word in words])


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "job.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_it_is_a_command():
    assert "policy" in COMMANDS
    result = CliRunner().invoke(program, ["policy", "--help"])
    assert result.exit_code == 0
    assert "explain" in result.output


# check


def test_check_says_ok(write):
    result = call("check", write(GOOD))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("ok: ")
    assert "4 of them the policy's own" in result.stdout
    assert result.stdout.endswith("; 1 exception\n")


def test_check_tells_every_mistake(write):
    path = write('[policy]\nmode = "enfore"\n[exec]\nallow = ["*"]\n[actions]\n"miner.comand" = "kill"\n')
    result = call("check", path)
    assert result.exit_code == 2
    assert not result.stdout
    assert result.stderr.splitlines() == [
        f"{path}:2: mode = 'enfore' is not known",
        "  did you mean 'enforce'?",
        f"{path}:4: '*' is every program",
        "  leave the list out",
        f"{path}:6: there is no rule 'miner.comand'",
        "  did you mean 'miner.command'?",
    ]


def test_check_of_what_is_no_toml(write, tmp_path: Path):
    path = write("a = = 1\n")
    assert call("check", path).stderr.startswith(f"{path}:1: not valid TOML")
    result = call("check", tmp_path / "nothing.toml")
    assert result.exit_code == 2
    assert "can't be read: No such file" in result.stderr


def test_check_of_several(write):
    good, bad = write(GOOD, "good.toml"), write("[what]\n", "bad.toml")
    result = call("check", bad, good)
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{good}: ok: ")
    assert result.stderr.startswith(f"{bad}:1: unknown key 'what'")


def test_check_tells_the_mistakes_of_rule_files(write):
    site = write("[what]\n", "site.toml")
    result = call("check", write('[policy]\nmode = "x"\n[rules]\nfiles = ["site.toml"]\n'))
    assert result.exit_code == 2
    assert f"{site}:1: unknown key 'what'" in result.stderr
    assert "job.toml:2: mode = 'x'" in result.stderr


def test_check_knows_the_rules_of_rule_files(write):
    rule = '[rules."net.mine"]\ntitle = "t"\non = "connect"\nseverity = "high"\nall = ["@external"]\n'
    site = write(rule, "site.toml")
    path = write('[actions]\n"net.mine" = "block"\n')
    assert call("check", path).exit_code == 2
    assert call("check", path, "--rules", site).exit_code == 0
    assert (
        call("check", write('[rules]\nfiles = ["site.toml"]\n[actions]\n"net.mine" = "block"\n')).exit_code
        == 0
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            '[[exceptions]]\nrule = "tunnel.*"\nexe = "x"\nreason = "r"\nuntil = 2026-01-31\n',
            1,
            "the exception for 'tunnel.*' ended on 2026-01-31",
        ),
        (
            '[[exceptions]]\nrule = "tunnel.ssh-local"\nremote = "x"\nreason = "r"\nuntil = 9999-01-31\n',
            1,
            "'remote' is never met: 'tunnel.ssh-local' is about exec events",
        ),
        ('[actions]\n"tunnel.ssh-local" = "kill"\n', 2, "'tunnel.ssh-local': kill never happens"),
        ('[policy]\nact_from = "critical"\n[gpu]\naction = "kill"\n', 4, "[gpu] action: kill never happens"),
        (
            '[network]\nconnect = []\n[rules]\noff = ["net.*"]\n',
            4,
            "'net.*' switches off what [network] connect",
        ),
        ('[network]\nconnect = ["*:53",\n"org"]\n', 3, "'org' allows every host whose name ends with .org"),
        ('[network]\nconnect = ["10.0.0.1",\n"10.0.0.1"]\n', 3, "'10.0.0.1' is there already"),
    ],
)
def test_check_warns(write, text: str, line: int, message: str):
    path = write(text)
    result = call("check", path)
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: ")
    assert f"{path}:{line}: warning: {message}" in result.stderr


def test_links_and_scripts_of_this_host_are_remarked(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "tool").write_bytes(b"\x7fELF")
    (tmp_path / "real" / "script").write_bytes(b"#! /usr/bin/env python3\n")
    real = f"{tmp_path}/real"
    entries = [f"{tmp_path}/link/tool", f"{tmp_path}/link/*", f"{real}/tool", f"{real}/script", f"{real}/*"]
    listed = ",\n".join(f'"{entry}"' for entry in entries)
    remarks = advice_here(parse(f"[exec]\nallow = [\n{listed}]\n", "f.toml").policy)
    assert [(remark.line, remark.message.partition("' ")[2]) for remark in remarks] == [
        (3, f"is {real}/tool here when it runs"),
        (4, f"is {real}/ here when it runs"),
        (6, "is a script: what runs is its interpreter, /usr/bin/env"),
    ]


def test_name_servers_of_this_host_are_remarked(tmp_path: Path):
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(
        "# one\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver\n"
        "nameserver x\nsearch example.org\n",
        encoding="ascii",
    )

    def messages(connect: str) -> list[str]:
        policy = parse(f"[network]\nconnect = [{connect}]\n", "f.toml").policy
        return [str(remark.hint) for remark in advice_here(policy, str(resolver))]

    assert messages('"a.example"') == ['add "192.0.2.53:53"', 'add "[2001:db8::53]:53"']
    assert messages('"a.example", "192.0.2.53:udp/53"') == ['add "[2001:db8::53]:53"']
    assert messages('"a.example", "*:53"') == messages('"192.0.2.1"') == []
    (tmp_path / "resolv.conf").unlink()
    assert messages('"a.example"') == []


# explain


def test_explain(write):
    result = call("explain", write(GOOD))
    assert result.exit_code == 0
    for text in (
        "sft-run (",
        "mode observe: nothing is done",
        "What is less than high is told, no more",
        "May use it: train.py. Any other client is killed (gpu.unexpected-client).",
        "Inside, besides private networks: 192.0.2.0/24.",
        "203.0.113.7 on 22",
        "anywhere on 53",
        "example.org and hosts below it on 443",
        "Whoever connects to any other place is blocked (net.not-allowed).",
        "what has no such name is cut, not refused.",
        "any port that only this host can reach; port 8000-8100.",
        "Whoever listens on any other is told, no more (net.listener).",
        "In quarantine it reaches only: this host; 192.0.2.10 on 22.",
        "May run: /no/such/folder/*; no-such-program.",
        "Any other is told, no more (exec.not-allowed).",
        "Must not run: no-such-scanner.",
        "Each of them is killed (exec.denied).",
        "miner   kill from high",
        "miner.node (never: medium at most)",
        "net     off                      net.unexpected",
        "/no/such/folder/*: every program whose path begins so",
        "tunnel.ssh-local by /usr/bin/ssh, with 'bastion.example' in the command line: the data set",
        "77 days left",
    ):
        assert " ".join(text.split()) in " ".join(result.output.split())
    assert max(map(len, result.output.splitlines()[2:])) <= 110


def test_explain_of_a_policy_that_says_little(write):
    output = call("explain", write('[policy]\nmode = "enforce"\n[gpu]\nusers = ["none"]\n')).output
    assert "mode enforce: what it says is done" in output
    assert "Nobody may use it." in output
    assert "May connect to any place that no other rule tells." in output
    assert "May listen on any port." in output
    assert "May run any program that no other rule tells." in output
    assert "Exceptions" not in output
    assert "Generalised" not in output
    assert "presumed to be the trainer" in call("explain", write("")).output


def test_explain_does_not_promise_what_never_happens(write):
    text = '[policy]\nact_from = "critical"\n[gpu]\naction = "kill"\n'
    said = "Any other client is told, no more (gpu.unexpected-client, high at most)."
    assert said in call("explain", write(text)).output
    off = text + '[rules]\noff = ["gpu.*"]\n'
    assert "is not even told: gpu.unexpected-client is off" in call("explain", write(off)).output


@pytest.mark.parametrize(
    ("days", "said"),
    [(0, "its last day"), (1, "1 day left"), (2, "2 days left"), (-1, "ended, without effect")],
)
def test_explain_counts_days(write, days: int, said: str):
    until = TODAY + timedelta(days)
    text = f'[[exceptions]]\nrule = "net.*"\nremote = "a.example:22"\nreason = "r"\nuntil = {until}\n'
    words = " ".join(call("explain", write(text)).output.split())
    assert f"net.* to a.example and hosts below it on 22: r (until {until}: {said})" in words


def test_explain_for_machines(write):
    path = write(GOOD)
    found = json.loads(call("explain", path, "--json").output)
    assert (found["name"], found["mode"], found["act_from"]) == ("sft-run", "observe", "high")
    assert found["connect"] == ["192.0.2.0/24", "203.0.113.7:22", "*:53", "*.example.org:443"]
    assert found["quarantine"] == [{"networks": ["192.0.2.10/32"], "ports": ["22"]}]
    rules = {rule["id"]: rule for rule in found["rules"]}
    assert (rules["miner.command"]["action"], rules["miner.command"]["acts_from"]) == ("kill", "high")
    assert rules["miner.node"]["acts_from"] is None
    assert not rules["net.unexpected"]["enabled"]
    assert found["exceptions"][0]["days_left"] == 77
    assert date.fromisoformat(found["exceptions"][0]["until"]) == TODAY + timedelta(77)
    assert found["undecided_rules"] == {"tunnel.ssh-local": ["policy-excused-path-whole"]}


def test_explain_leaves_a_broken_file_to_main(write):
    path = write("[what]\n")
    result = call("explain", path)
    assert isinstance(result.exception, PolicyError)
    assert str(result.exception) == f"{path}:1: unknown key 'what'"


def test_what_steers_terminals_is_escaped(write):
    path = write('[gpu]\n"a\\u001b" = 1\n')
    assert "unknown key 'a\\x1b'" in call("check", path).stderr
    path = write("", "\x1b[2J.toml")
    for command in ("check", "explain"):
        result = call(command, path, *([path] if command == "check" else []))
        assert "\x1b" not in result.output


def test_it_needs_no_numba(write):
    """It takes longer to import than all the rest together."""
    code = (
        "import sys; from tracer.cli.policy import policy\n"
        "for command in ('check', 'explain'):\n"
        "    policy.main([command, sys.argv[1]], standalone_mode=False)\n"
        "assert not {'numba', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, write(GOOD)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
