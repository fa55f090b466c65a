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
from behaviour import batched
from naive_gpu import Client, Judge, rules_of
from records import effort, span_begin

from bench import synthetic
from tracer.detect.clients import TABLE, TUNES, marks_of
from tracer.detect.gpu import glob_matches
from tracer.detect.program import classify
from tracer.engine.engine import Engine
from tracer.evidence import evidence_of
from tracer.gpu import tables
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
#: Between two records: after three of them a job is idle, after 25 nobody knows.
STEP_NS = 400_000_000
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["fork", "fork", "fork in a tool", "exec", "exec new", "exit", "open", "compute", "compute", "hold", "tune",
             "work", "work", "work", "counts", "busy on the card", "idle on the card"]
        ),
        st.integers(0, 6),
        st.sampled_from(sorted(PROGRAMS)),
    ),
    max_size=40,
)  # fmt: skip


def ioctl(tgid: int, ts: int, number: int, code: int, flag: str) -> bytes:
    row = np.frombuffer(synthetic.gpu_ioctl(tgid, ts, code), schema.GPU_IOCTL).copy()
    row["nr"], row["flags"] = number, schema.GPU_FLAG[flag]
    return row.tobytes()


def compute(tgid: int, ts: int) -> bytes:
    return ioctl(tgid, ts, 0x2B, 0xC86F, "GPU_COMPUTE")


def tune(tgid: int, ts: int) -> bytes:
    return ioctl(tgid, ts, 0x2A, 0x2080E61B, "GPU_FIRST")


def opens(tgid: int, ts: int, *, held: bool = False) -> bytes:
    row = synthetic._head(schema.GPU_OPEN, "EVENT_GPU_OPEN", tgid, ts)
    row["family"] = schema.GPU_FAMILY["GPU_KFD"]
    row["access"], row["open_flags"] = 6 * (not held), schema.GPU_OPEN_FLAG["GPU_HELD"] * held
    return row.tobytes()


def counts(tgid: int, ts: int) -> bytes:
    return synthetic._head(schema.GPU_COUNTS, "EVENT_GPU_COUNTS", tgid, ts).tobytes()


def uses(tgid: int, ts: int, percent: int) -> bytes:
    row = synthetic._head(schema.GPU_USE, "EVENT_GPU_USE", tgid, ts)
    row["utilisation"], row["use_flags"] = percent, schema.GPU_USE_FLAG["GPU_USE_UTILISATION"]
    return row.tobytes()


def execute(tgid: int, ts: int, program: str, *, new: bool) -> bytes:
    """The inode comes from the path, so that files differ as they would."""
    path, argv, _ = PROGRAMS[program]
    record = synthetic.execute(tgid, 1, ts, argv, path)
    row = np.frombuffer(record[: schema.EXEC.itemsize], schema.EXEC).copy()
    row["ino"] = sum(path)
    row["flags"] = schema.EXEC_FLAG["EXEC_NEW_FILE"] * new
    return row.tobytes() + record[schema.EXEC.itemsize :]


def play(steps, users):
    """(records, what the twin says is told: (time, rule, severity))."""
    judge = Judge(users, idle_s=1)
    clients = [Client(None, "/usr/bin/dash", shell=True)]
    records = [execute(100, STEP_NS, "sh", new=False)]
    said = []
    for what, who, program in steps:
        number = who % len(clients)
        client, tgid = clients[number], 100 + number
        ts = (len(records) + 1) * STEP_NS
        facts: set[str] = set()
        if client.ended:
            continue
        if what.startswith("fork"):
            in_tool = what == "fork in a tool"
            if in_tool:
                records.append(synthetic.span(tgid, ts, len(clients)))
            span = len(clients) + 1 if in_tool else 0
            records.append(synthetic.fork(100 + len(clients), tgid, ts, span=span))
            clients.append(client.fork(in_tool=in_tool))
            continue
        if what.startswith("exec"):
            path, _, traits = PROGRAMS[program]
            client.execute(path.decode(), new=what == "exec new", **traits)
            records.append(execute(tgid, ts, program, new=what == "exec new"))
        elif what == "exit":
            client.ended = True
            records.append(synthetic.exit_(tgid, ts))
        elif what == "open":
            client.opened = True
            records.append(opens(tgid, ts))
        elif what == "hold":
            facts = judge.hold(client, ts)
            records.append(opens(tgid, ts, held=True))
        elif what == "compute":
            facts = judge.compute(client, ts)
            records.append(compute(tgid, ts))
        elif what == "tune":
            facts = judge.tune(client, ts)
            records.append(tune(tgid, ts))
        elif what == "counts":
            facts = judge.work(client, ts)
            records.append(counts(tgid, ts))
        elif what.endswith("on the card"):
            busy = what.startswith("busy")
            facts = judge.work(client, ts) if busy else set()
            records.append(uses(tgid, ts, 30 * busy))
        else:
            judge.pass_told(ts)
            facts = judge.work(client, ts)
            records.append(effort(tgid, ts=ts))
        said += [(ts, *told) for told in sorted(rules_of(facts))]
    return records, said


def told(engine: Engine, batches: list[list[bytes]]) -> list[tuple[int, str, str]]:
    return [
        (fired.time_ns, *one)
        for batch in batches
        for fired in engine.feed(batch)
        for one in sorted((rule.id, severity) for rule, severity in fired.rules if rule.family == "gpu")
    ]


def engine_for(users: tuple[str, ...] | None) -> Engine:
    made = Engine(RULES.under(Terms(gpu_users=users)), processes=128, flows=16)
    made.state.gpu.limits[:] = 1
    return made


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
        assert told(engine_for(users), [records]) == said
        assert told(engine_for(users), batched(records, sizes)) == said

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


# -- where clients come from


def told_of(*records: bytes, users: tuple[str, ...] | None = None) -> list[tuple[str, str, list[str]]]:
    """(rule, severity, facts in the evidence) of each alert on the GPU; /opt/train (pid 99) has computed before."""
    engine = engine_for(users)
    before = [] if users else [execute(99, 1, "train", new=False), opens(99, 2), compute(99, 3)]
    found = []
    for fired in engine.feed([*before, *records]):
        evidence = evidence_of(engine, fired, engine.describe(fired.entry))
        found += [(rule.id, severity, evidence["facts"]) for rule, severity in fired.rules]
    return [one for one in found if one[0].startswith("gpu.")]


def in_span(
    text: bytes, tgid: int = 100, *, above: tuple[int, int, int] | None = None, token: int = 1
) -> list[bytes]:
    """A span of the trainer's, and a child that is born in it."""
    name = (99, 99_000, token)
    return [span_begin(name, text, above=above, ts=4), synthetic.fork(tgid, 99, 5, span=token)]


MODULE = [execute(100, 6, "engine", new=False), opens(100, 7), compute(100, 8)]


@pytest.mark.parametrize(
    ("text", "is_tool"),
    [
        (b"tool=bash\0", True), (b"step=412\0tool=bash\0episode=a\0", True), (b"tool=\0", True), (b"tool=bash", True),
        (b"step=412\0", False), (b"", False), (b"retool=bash\0", False), (b"step=tool=bash\0", False), (b"tool\0=", False),
    ],
)  # fmt: skip
def test_what_a_tool_call_is(text: bytes, is_tool: bool):
    """A module of the trainer's interpreter, which is quiet elsewhere."""
    expected = [("gpu.tool-call", "medium", ["gpu-in-tool-call"])] if is_tool else []
    assert told_of(*in_span(text), *MODULE) == expected


def test_a_step_inside_a_tool_call_lies_in_it():
    outer = in_span(b"tool=bash\0", 200)
    inner = in_span(b"step=1\0", above=(99, 99_000, 1), token=2)
    assert [one[0] for one in told_of(*outer, *inner, *MODULE)] == ["gpu.tool-call"]


def test_the_trainers_own_script_is_quiet_in_a_tool_call():
    assert (
        told_of(
            *in_span(b"tool=judge\0"), execute(100, 6, "worker", new=False), opens(100, 7), compute(100, 8)
        )
        == []
    )


def test_a_new_program_in_a_tool_call_is_one_alert_that_says_so():
    program = [execute(100, 6, "binary", new=True), opens(100, 7), compute(100, 8), compute(100, 9)]
    assert told_of(*in_span(b"tool=bash\0"), *program) == [
        ("gpu.unexpected-client", "high", ["gpu-other-executable", "gpu-new-program", "gpu-in-tool-call"])
    ]


def test_a_name_that_is_listed_excuses_no_file_of_this_run():
    new = [execute(100, 6, "binary", new=True), opens(100, 7), compute(100, 8)]
    ((rule, severity, facts),) = told_of(*new, users=("infer",))
    assert (rule, severity) == ("gpu.new-program", "medium")
    assert facts == ["gpu-listed", "gpu-new-program"]


def test_a_job_that_has_compiled_its_trainer_is_told_low():
    engine = engine_for(None)
    job = [execute(100, 1, "binary", new=True), opens(100, 2), compute(100, 3), synthetic.fork(101, 100, 4)]
    job += [execute(101, 5, "binary", new=True), opens(101, 6), compute(101, 7)]  # another rank
    assert told(engine, [job]) == [(3, "gpu.new-program", "low")]


def test_a_context_on_another_process_s_descriptor():
    """Sent over a socket, that is: a fork has its parent's by nature."""
    other = [execute(100, 6, "engine", new=False), compute(100, 8)]
    assert told_of(synthetic.fork(100, 99, 4), *other) == [("gpu.borrowed", "medium", ["gpu-borrowed"])]
    assert told_of(synthetic.fork(100, 99, 4), compute(100, 8)) == []


def test_gauges_are_read_in_silence_wherever_they_are():
    controls = (0x2080A618, 0x2080A61A, 0x20809009, 0x2080852E, 0x20802068, 0x2080200A)
    read = [ioctl(100, 7, 0x2A, control, "GPU_FIRST") for control in controls]
    assert told_of(*in_span(b"tool=bash\0"), execute(100, 6, "binary", new=True), *read) == []


@pytest.mark.parametrize(("text", "severity"), [(b"tool=bash\0", "medium"), (b"step=1\0", "low")])
def test_tuning_is_told_once_a_program(text: bytes, severity: str):
    tuner = [execute(100, 6, "binary", new=False), opens(100, 7), tune(100, 8), tune(100, 9)]
    assert [one[:2] for one in told_of(*in_span(text), *tuner)] == [("gpu.tuning", severity)]


def test_the_table_knows_what_tunes():
    codes = [0x20800000 | category << 8 | 7 for category in tables.TUNING_CATEGORIES]
    codes += [code for code, entry in tables.CONTROLS.items() if entry.kind == "tuning"]
    for code in codes:
        assert marks_of(TABLE, schema.GPU_FAMILY["GPU_NVIDIA"], 0x2A, code) & TUNES, hex(code)
    for code, entry in tables.CONTROLS.items():
        if entry.kind != "tuning":
            assert not marks_of(TABLE, schema.GPU_FAMILY["GPU_NVIDIA"], 0x2A, code) & TUNES, entry.name


SECOND = 1_000_000_000


def worked(tgid: int, *seconds: float) -> list[bytes]:
    return [effort(tgid, ts=int(at * SECOND)) for at in seconds]


def test_what_works_on_when_the_job_has_stopped():
    rogue = [synthetic.fork(100, 99, 4), execute(100, 6, "binary", new=False), opens(100, 7), compute(100, 8)]
    both = [one for at in (1, 2, 3) for pid in (99, 100) for one in worked(pid, at)]
    found = told_of(*rogue, *both, *worked(100, 3.5, 4.5, 5.5, 6.5))
    assert found[1:] == [("gpu.goes-on", "medium", ["gpu-job-idle"])]


def test_a_job_that_only_its_card_is_busy_for_does_not_rest():
    rogue = [synthetic.fork(100, 99, 4), execute(100, 6, "binary", new=False), opens(100, 7), compute(100, 8)]
    seconds = [n / 2 for n in range(2, 14)]
    asleep = [one for at in seconds for one in (uses(99, int(at * SECOND) - 1, 80), *worked(100, at))]
    assert len(told_of(*rogue, *worked(99, 1), *asleep)) == 1
    idle = [one for at in seconds for one in (uses(99, int(at * SECOND) - 1, 0), *worked(100, at))]
    assert [one[0] for one in told_of(*rogue, *worked(99, 1), *idle)[1:]] == ["gpu.goes-on"]


def test_the_evidence_has_what_nvml_says_of_who_goes_on():
    engine = engine_for(None)
    job = [execute(99, 1, "train", new=False), opens(99, 2), compute(99, 3)]
    rogue = [synthetic.fork(100, 99, 4), execute(100, 6, "binary", new=False), opens(100, 7), compute(100, 8)]
    said = [one for at in (1, 2, 3) for one in (*worked(200, at), uses(100, int(at * SECOND) + 1, 70 + at))]
    found = [
        (rule.id, evidence_of(engine, fired, None))
        for fired in engine.feed([*job, *rogue, *worked(99, 1), *said])
        for rule, _ in fired.rules
    ]
    rule, evidence = found[-1]
    assert rule == "gpu.goes-on"
    assert evidence["gpu_utilisation"] == evidence["gpu_utilisation_highest"] > 70
    assert "gpu_memory" not in evidence
    assert "gpu_utilisation" not in found[0][1]


def test_a_pause_of_the_watch_is_none_of_the_jobs():
    rogue = [synthetic.fork(100, 99, 4), execute(100, 6, "binary", new=False), opens(100, 7), compute(100, 8)]
    assert len(told_of(*rogue, *worked(99, 1), *worked(100, 100, 100.5))) == 1


def test_a_fork_that_outlives_its_client_is_told_when_nothing_else_works():
    fork, end = synthetic.fork(100, 99, SECOND), synthetic.exit_(99, 2 * SECOND)
    found = told_of(*worked(99, 0.5), fork, *worked(100, 1.5, 1.9), end, *worked(100, 2.5, 3.5, 4.5))
    assert found == [("gpu.goes-on", "medium", ["gpu-forked-on"])]
    assert told_of(*worked(99, 0.5), fork, *worked(100, 1.5, 2.5, 3.5, 4.5, 5.5)) == []
