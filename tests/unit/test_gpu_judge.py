# SPDX-License-Identifier: Apache-2.0
"""The GPU detector against its twin, through the engine, for any batching of the same events."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from naive_gpu import Client, Judge

from bench import synthetic
from tracer.detect.gpu import glob_matches
from tracer.detect.program import classify
from tracer.engine.engine import Engine
from tracer.kernel import schema
from tracer.rules import load_rules
from tracer.rules.model import Terms

RULES = load_rules([])
#: What a process may execute: (path, arguments, what the twin is told)
PROGRAMS = {
    "sh": (b"/usr/bin/dash", [b"sh", b"-c", b"x"], {"shell": True}),
    "train": (b"/usr/bin/python3.11", [b"python3", b"train.py"], {"interpreter": True, "script": "train.py"}),
    "other": (b"/usr/bin/python3.11", [b"python3", b"-u", b"other.py"], {"interpreter": True, "script": "other.py"}),
    "engine": (
        b"/usr/bin/python3.11", [b"python3", b"-m", b"engine"],
        {"interpreter": True, "script": "engine", "module": True},
    ),
    "worker": (
        b"/usr/bin/python3.11",
        [b"python3", b"-c", b"from multiprocessing.spawn import spawn_main; spawn_main(5)", b"--multiprocessing-fork"],
        {"interpreter": True, "worker": True},
    ),
    "binary": (b"/opt/app/infer", [b"infer"], {}),
}  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fork", "exec", "compute", "hold"]),
        st.integers(0, 6),
        st.sampled_from(sorted(PROGRAMS)),
    ),
    max_size=40,
)


def compute(tgid: int, ts: int) -> bytes:
    row = np.frombuffer(synthetic.gpu_ioctl(tgid, ts, 0xC86F), schema.GPU_IOCTL).copy()
    row["flags"] = schema.GPU_FLAG["GPU_COMPUTE"]
    return row.tobytes()


def hold(tgid: int, ts: int) -> bytes:
    row = synthetic._head(schema.GPU_OPEN, "EVENT_GPU_OPEN", tgid, ts)
    row["family"], row["open_flags"] = schema.GPU_FAMILY["GPU_KFD"], schema.GPU_OPEN_FLAG["GPU_HELD"]
    return row.tobytes()


def play(steps, users):
    """(records, what the twin says fired: (record number, fact))."""
    judge = Judge(users)
    first = Client(None, "/usr/bin/dash", shell=True)
    clients = [first]
    records = [synthetic.execute(100, 1, 1, [b"sh", b"job"], b"/usr/bin/dash")]
    said = []
    for what, who, program in steps:
        number = who % len(clients)
        client = clients[number]
        ts = len(records) + 1
        if what == "fork":
            clients.append(
                Client(
                    client,
                    client.exe,
                    client.script,
                    client.shell,
                    client.interpreter,
                    client.worker,
                    client.module,
                )
            )
            records.append(synthetic.fork(100 + len(clients) - 1, 100 + number, ts))
        elif what == "exec":
            path, argv, facts = PROGRAMS[program]
            records.append(synthetic.execute(100 + number, 1, ts, argv, path))
            fresh = {
                "script": "",
                "shell": False,
                "interpreter": False,
                "worker": False,
                "module": False,
                **facts,
            }
            if fresh["worker"]:
                fresh["script"] = client.parent.script if client.parent else ""
            for key, value in {**fresh, "exe": path.decode(), "judged": False}.items():
                setattr(client, key, value)
        else:
            fact = judge(client) if what == "compute" else judge.holder(client)
            if fact:
                said.append((len(records), fact))
            records.append((compute if what == "compute" else hold)(100 + number, ts))
    return records, said


def fix_inode(records: list[bytes]) -> list[bytes]:
    """An exec record's inode from its path, so that files differ as they would."""
    out = []
    for record in records:
        if record[schema.HEAD.fields["kind"][1]] == schema.KIND["EVENT_EXEC"]:
            row = np.frombuffer(record[: schema.EXEC.itemsize], schema.EXEC).copy()
            path = record[schema.EXEC.itemsize :][: int(row["path_len"][0])]
            row["ino"] = sum(path)
            out.append(row.tobytes() + record[schema.EXEC.itemsize :])
        else:
            out.append(record)
    return out


FACT_SEVERITY = {"gpu-not-listed": "high", "gpu-other-executable": "high", "gpu-other-script": "medium"}


def told(engine: Engine, batches: list[list[bytes]]) -> list[tuple[int, str, str]]:
    return [
        (fired.time_ns - 1, rule.id, severity)
        for batch in batches
        for fired in engine.feed(batch)
        for rule, severity in fired.rules
        if rule.family == "gpu"
    ]


INFER = f"inode:0:0:{sum(b'/opt/app/infer')}:0:0"


@pytest.mark.parametrize(
    "users",
    [
        None,
        (),
        ("train.py",),
        ("*/infer", "eng*"),
        (INFER,),
        ("train.py below dash", "engine below train.py"),
        (f"other.py below {INFER}", f"{INFER} below python3.11"),
    ],
)
def test_agrees_with_the_twin_for_any_batching(users):
    @settings(max_examples=60, deadline=None)
    @given(STEPS, st.lists(st.integers(1, 5), max_size=20))
    def check(steps, sizes):
        records, said = play(steps, users)
        records = fix_inode(records)
        batches = []
        rest = records
        for size in sizes:
            batches.append(rest[:size])
            rest = rest[size:]
        batches.append(rest)
        expected = [(number, "gpu.unexpected-client", FACT_SEVERITY[fact]) for number, fact in said]
        assert (
            told(Engine(RULES.under(Terms(gpu_users=users)), processes=64, flows=16), [records]) == expected
        )
        assert told(Engine(RULES.under(Terms(gpu_users=users)), processes=64, flows=16), batches) == expected

    check()


@settings(max_examples=300, deadline=None)
@given(st.text("ab*?/", max_size=8), st.text("ab/", max_size=10))
def test_globs_as_fnmatch_has_them(pattern, text):
    data = np.frombuffer(bytearray(pattern.encode() + b"\0"), np.uint8)
    subject = np.frombuffer(bytearray(text.encode() + b"\0"), np.uint8)
    assert glob_matches(data, 0, len(pattern), subject, 0, len(text)) == fnmatchcase(text, pattern)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\0", b"")), max_size=6), st.integers(0, 80))
def test_classify_survives_anything(argv, cut):
    args = b"".join(a + b"\0" for a in [b"python3", *argv])[:cut]
    path = b"/usr/bin/python3"
    data = np.frombuffer(bytearray(path + args), np.uint8)
    bits, script = classify(data, 0, len(path), len(path), len(data))
    assert bits >= 0
    assert script >= 0


@pytest.mark.parametrize(
    ("argv", "same_as"),
    [
        (["python3", "-u", "train.py"], ["python3", "train.py", "--x"]),
        (["python3", "-W", "ignore", "train.py"], ["python3.11", "train.py"]),
        (["python3", "-X", "dev", "-Om", "engine"], ["python3", "-m", "engine", "-v"]),
        (["python3", "-Bcprint()"], ["python3", "-c", "print()"]),
    ],
)
def test_a_script_is_known_whatever_options_come_first(argv, same_as):
    def script(words):
        args = b"".join(w.encode() + b"\0" for w in words)
        path = b"/usr/bin/python3"
        data = np.frombuffer(bytearray(path + args), np.uint8)
        return classify(data, 0, len(path), len(path), len(data))

    assert script(argv)[1] == script(same_as)[1] != 0
