# SPDX-License-Identifier: Apache-2.0
"""Connections to UNIX sockets: which are told, by what name, and how often."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.evidence import evidence_of
from tracer.rules import RuleSet, load_rules

RULES = load_rules([])


def told(*events: bytes, rules: RuleSet = RULES) -> list[tuple[int, str, str, str]]:
    engine = Engine(rules, processes=64, flows=64)
    stream = [synthetic.execute(7, 1, 1, [b"sh"], b"/usr/bin/dash"), synthetic.fork(8, 7, 1), *events]
    found = []
    for fired in engine.feed(stream):
        program = engine.describe(fired.entry)
        assert program is not None
        evidence = evidence_of(engine, fired, program)
        found += [(program.pid, rule.id, severity, evidence["socket"]) for rule, severity in fired.rules]
    assert engine.table_losses()["malformed"] == 0
    return found


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (b"/run/docker.sock\0", "net.runtime-socket"),
        (b"/var/run/docker.sock", "net.runtime-socket"),
        (b"docker.sock", "net.runtime-socket"),
        (b"/run/user/1000/podman/podman.sock\0rest", "net.runtime-socket"),
        (b"/run/k3s/containerd/containerd.sock", "net.runtime-socket"),
        (b"/tmp/ssh-XXXXXXu2wGq1/agent.4711", "net.ssh-agent"),
        (b"/home/me/.ssh/agent/s.Ab12.agent.Cd34", "net.ssh-agent"),
        (b"/run/user/1000/keyring/ssh", "net.ssh-agent"),
        (b"/run/user/1000/gnupg/S.gpg-agent.ssh", "net.ssh-agent"),
        (b"/run/user/1000/gnupg/S.gpg-agent", None),
        (b"/tmp/ssh-XXXXXXu2wGq1/master", None),
        (b"/tmp/agent.4711", None),
        (b"/run/systemd/private", None),
        (b"/run/dbus/system_bus_socket", None),
        (b"/run/mydocker.sock", None),
        (b"/run/docker.sock.d/x", None),
        (b"/run/docker.socks", None),
        (b"x\0/run/docker.sock", None),
        (b"", None),
        (b"a" * 108, None),
        (b"/" + b"a" * 95 + b"/docker.sock", "net.runtime-socket"),
    ],
)
def test_which_are_told(name: bytes, rule: str | None):
    assert [row[1] for row in told(records.local_connect(name, tgid=7))] == ([rule] if rule else [])


def test_an_abstract_name_is_shown_as_tools_show_it():
    assert told(records.local_connect(b"\0run/docker.sock", tgid=7)) == [
        (7, "net.runtime-socket", "medium", "@run/docker.sock")
    ]


def test_a_process_is_told_of_once_and_again_for_something_worse(tmp_path: Path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        """
[indicators.private]
where = "path"
match = "file"
values = ["systemd/private"]

[rules."net.private"]
title = "t"
on = "local"
severity = "low"
attack = ["T1543.002"]
remedy = "r"
any = ["private"]
"""
    )
    private, docker = (
        records.local_connect(n, tgid=7) for n in (b"/run/systemd/private", b"/run/docker.sock")
    )
    other = records.local_connect(b"/run/docker.sock", tgid=8)
    rules = load_rules([mine])
    assert [row[:2] for row in told(private, private, docker, private, docker, other, rules=rules)] == [
        (7, "net.private"),
        (7, "net.runtime-socket"),
        (8, "net.runtime-socket"),
    ]


def test_an_ssh_client_asks_its_agent_in_silence():
    agent = records.local_connect(b"/tmp/ssh-XXXXXXu2wGq1/agent.4711", tgid=7)
    ssh = synthetic.execute(7, 1, 2, [b"ssh", b"outside"], b"/usr/bin/ssh")
    assert told(ssh, agent) == []
    assert told(synthetic.execute(7, 1, 2, [b"ssh-add", b"-l"], b"/usr/bin/ssh-add"), agent) == [
        (7, "net.ssh-agent", "medium", "/tmp/ssh-XXXXXXu2wGq1/agent.4711")
    ]
