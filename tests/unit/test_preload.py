# SPDX-License-Identifier: Apache-2.0
"""Libraries that an environment puts into a program: the facts against a twin, and when they are told."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from bench import synthetic
from tracer.detect.facts import FACT_BIT
from tracer.detect.preload import preload_facts
from tracer.engine.engine import Engine
from tracer.evidence import evidence_of
from tracer.kernel import schema
from tracer.rules import load_rules

RULES = load_rules([])
NAMES = ("preloads", "preloads-memory", "preloads-temporary", "audits")
AUDIT, CUT = schema.EXEC_FLAG["EXEC_AUDIT"], schema.EXEC_FLAG["EXEC_PRELOAD_CUT"]


def twin(text: bytes, flags: int = 0) -> set[str]:
    if not text:
        return set()
    found = {"preloads"} | ({"audits"} if flags & AUDIT else set())
    if flags & CUT:
        found.add("preloads-temporary")
    for library in re.split(rb"[: \0]", text)[:-1]:
        if b"/" not in library:
            continue
        plain = library.lstrip(b"/")
        if plain.startswith((b"dev/shm/", b"run/shm/", b"proc/", b"memfd:")):
            found.add("preloads-memory")
        elif plain.startswith((b"tmp/", b"var/tmp/")) or b"//" in library or b"./" in library:
            found.add("preloads-temporary")
    return found


def compiled(text: bytes, flags: int = 0) -> set[str]:
    data = np.frombuffer(bytearray(b"x" + text + b"y"), np.uint8)
    bits = preload_facts(data, 1, 1 + len(text), flags)
    return {name for name in NAMES if bits >> FACT_BIT[name] & 1}


PIECES = st.sampled_from(
    [b"/", b"//", b"/./", b"/../", b":", b" ", b".", b"\0", b"tmp", b"var/tmp", b"dev/shm", b"run/shm", b"proc", b"memfd:",
     b"usr/lib", b"libx.so", b"x"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(b"".join), st.sampled_from([0, AUDIT, CUT, AUDIT | CUT, 1]))
def test_agrees_with_the_twin(text: bytes, flags: int):
    assert compiled(text + b"\0", flags) == twin(text + b"\0", flags)


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        (b"libfakeroot-sysv.so", None), (b"/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", None),
        (b"/opt/conda/lib/libtcmalloc.so:/usr/lib/libasan.so", None), (b"/home/me/build/libx.so", None),
        (b"/tmp/libx.so", "temporary"), (b"/usr/lib/libasan.so /var/tmp/x", "temporary"), (b"/usr/../tmp/x", "temporary"),
        (b"//tmp/x", "temporary"), (b"./x.so", "temporary"), (b"/dev/shm/x", "memory"), (b"/proc/self/fd/3", "memory"),
        (b"libasan.so:/proc/99/fd/3", "memory"), (b"/tmpfoo/x", None),
    ],
)  # fmt: skip
def test_places(text: bytes, odd: str | None):
    assert compiled(text + b"\0") == {"preloads"} | ({f"preloads-{odd}"} if odd else set())


def execute(tgid: int, ts: int, preload: bytes, flags: int = 0) -> bytes:
    record = synthetic.execute(tgid, 1, ts, [b"true"], b"/usr/bin/true")
    row = np.frombuffer(record[: schema.EXEC.itemsize], schema.EXEC).copy()
    row["preload_len"], row["flags"] = len(preload), flags
    row["size"] = len(record) + len(preload)
    return row.tobytes() + record[schema.EXEC.itemsize :] + preload


def told(*records: bytes) -> list[tuple[int, str, dict[str, str]]]:
    engine = Engine(RULES, processes=64, flows=16)
    found = []
    for fired in engine.feed(records):
        evidence = evidence_of(engine, fired, engine.describe(fired.entry))
        libraries = {name: evidence[name] for name in ("audit", "preload") if name in evidence}
        found += [(fired.time_ns, severity, libraries) for rule, severity in fired.rules]
        assert [rule.id for rule, _ in fired.rules] == ["exec.preload"]
    assert engine.table_losses()["malformed"] == 0
    return found


def test_severities():
    assert told(execute(100, 1, b"/dev/shm/a.so\0")) == [(1, "high", {"preload": "/dev/shm/a.so"})]
    assert told(execute(100, 1, b"/tmp/a.so\0")) == [(1, "medium", {"preload": "/tmp/a.so"})]
    assert told(execute(100, 1, b"/usr/lib/a.so\0", AUDIT)) == [(1, "medium", {"audit": "/usr/lib/a.so"})]
    assert told(execute(100, 1, b"/usr/lib/a.so\0")) == []
    assert told(execute(100, 1, b"/usr/lib/a.so:/usr/lib/b", CUT)) == [
        (1, "medium", {"preload": "/usr/lib/a.so:/usr/lib/b"})
    ]


def test_an_auditor_hides_no_other_library():
    both = execute(100, 1, b"/usr/lib/audit.so\0/dev/shm/a.so\0", AUDIT)
    assert told(both) == [(1, "high", {"audit": "/usr/lib/audit.so", "preload": "/dev/shm/a.so"})]


def test_what_is_handed_on_is_told_once():
    a, b = b"/tmp/a.so\0", b"/tmp/b.so\0"
    records = [execute(100, 1, a), synthetic.fork(101, 100, 2), execute(101, 3, a), execute(101, 4, a)]
    records += [execute(101, 5, b), execute(101, 6, b""), execute(101, 7, b)]
    assert [(at, libraries["preload"]) for at, _, libraries in told(*records)] == [
        (1, "/tmp/a.so"),
        (5, "/tmp/b.so"),
        (7, "/tmp/b.so"),
    ]


def test_a_record_that_is_cut_is_malformed():
    engine = Engine(RULES, processes=64, flows=16)
    record = bytearray(execute(100, 1, b"/tmp/a.so\0"))
    row = np.frombuffer(record, schema.EXEC, 1)
    row["preload_len"] = 60000
    assert list(engine.feed([bytes(record)])) == []
    assert engine.table_losses()["malformed"] == 1
