# SPDX-License-Identifier: Apache-2.0
"""Shells that are started by whoever has a connection outside, and told nothing to do yet."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records

from bench import synthetic
from tracer.detect.program import IS_BARE, classify
from tracer.engine.engine import Engine
from tracer.kernel import schema
from tracer.rules import load_rules

RULES = load_rules([])
STDIO = schema.EXEC.fields["stdio"][1]
PIPE, TTY, FILE, NULL, SOCKET = (schema.FD_KIND[f"FD_{k}"] for k in ("PIPE", "TTY", "FILE", "NULL", "SOCKET"))


def naive_bare(argv: list[str]) -> bool:
    for word in argv[1:]:
        if word[:1] not in ("-", "+"):
            return False
        if word.startswith("--c") or (not word.startswith("--") and "c" in word[1:]):
            return False
    return True


WORDS = st.sampled_from(
    ["-i", "-l", "-li", "-c", "-lc", "+m", "--", "-", "--norc", "--command=x", "x", "", "/x", "-s"]
)


@given(st.lists(WORDS, max_size=5))
def test_which_shells_are_told_nothing(words: list[str]):
    argv = ["sh", *words]
    path, args = b"/usr/bin/dash", b"".join(word.encode() + b"\0" for word in argv)
    data = np.frombuffer(path + args, np.uint8)
    bits, _ = classify(data, 0, len(path), len(path), len(data))
    assert bool(bits & IS_BARE) == naive_bare(argv)


def execute(who: int, parent: int, argv: list[bytes], path: bytes, stdin: int = TTY) -> bytes:
    record = bytearray(synthetic.execute(who, parent, 5, argv, path))
    record[STDIO] = stdin
    return bytes(record)


HELPER = (b"/home/a/sync", [b"sync"])
SH = (b"/usr/bin/bash", [b"bash", b"-i"])


@pytest.mark.parametrize(
    ("helper", "shell", "stdin", "remote", "levels", "told"),
    [
        (HELPER, SH, TTY, "203.0.113.1", 0, True),
        (HELPER, SH, PIPE, "203.0.113.1", 0, True),
        (HELPER, SH, SOCKET, "203.0.113.1", 0, True),
        (HELPER, SH, FILE, "203.0.113.1", 0, False),
        (HELPER, SH, NULL, "203.0.113.1", 0, False),
        (HELPER, SH, TTY, "10.0.0.1", 0, False),
        (HELPER, SH, TTY, "127.0.0.1", 0, False),
        (HELPER, SH, TTY, None, 0, False),
        (HELPER, SH, TTY, "203.0.113.1", 1, True),
        (HELPER, SH, TTY, "203.0.113.1", 2, True),
        (HELPER, SH, TTY, "203.0.113.1", 3, False),
        (HELPER, (b"/usr/bin/bash", [b"bash", b"-lc", b"ls"]), TTY, "203.0.113.1", 0, False),
        (HELPER, (b"/usr/bin/bash", [b"bash", b"setup.sh"]), TTY, "203.0.113.1", 0, False),
        (HELPER, (b"/usr/bin/ls", [b"ls"]), TTY, "203.0.113.1", 0, False),
        ((b"/usr/bin/python3.11", [b"python3", b"agent.py"]), SH, TTY, "203.0.113.1", 0, False),
        ((b"/usr/bin/node", [b"node", b"agent.js"]), SH, PIPE, "203.0.113.1", 0, False),
        ((b"/usr/bin/bash", [b"bash", b"run.sh"]), SH, TTY, "203.0.113.1", 0, False),
    ],
)  # fmt: skip
def test_who_starts_it_decides(helper, shell, stdin, remote, levels, told):
    engine = Engine(RULES, processes=64, flows=64)
    stream = [execute(7, 1, helper[1], helper[0])]
    if remote:
        stream.append(records.connect(remote, 443, tgid=7, ts=2, cookie=1))
    parent = 7
    for level in range(levels):
        stream.append(synthetic.fork(20 + level, parent, 3))
        parent = 20 + level
    stream += [synthetic.fork(8, parent, 4), execute(8, parent, shell[1], shell[0], stdin)]
    found = [rule.id for fired in engine.feed(stream) for rule, _ in fired.rules]
    assert ("shell.behind" in found) == told


def test_a_connection_that_is_older_than_the_watch_counts():
    engine = Engine(RULES, processes=64, flows=64)
    late = np.zeros((), schema.FLOW_OPEN)
    late["kind"], late["size"] = schema.KIND["EVENT_FLOW_OPEN"], schema.FLOW_OPEN.itemsize
    late["tgid"], late["start"], late["cookie"] = 7, 7000, 1
    late["family"], late["protocol"], late["remote_port"] = 2, 6, 443
    late["remote"][:4] = (203, 0, 113, 9)
    late["flags"] = schema.FLOW_FLAG["FLOW_LATE"]
    stream = [
        execute(7, 1, HELPER[1], HELPER[0]),
        late.tobytes(),
        synthetic.fork(8, 7, 4),
        execute(8, 7, SH[1], SH[0]),
    ]
    assert [rule.id for fired in engine.feed(stream) for rule, _ in fired.rules] == ["shell.behind"]
