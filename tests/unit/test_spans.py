# SPDX-License-Identifier: Apache-2.0
"""Spans in the engine: its table against the plain twin, what an alert says, who can't hide what."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.alerts import AlertBuilder, Origin
from tracer.engine import processes as procs
from tracer.engine import reconcile
from tracer.engine import spans as table
from tracer.engine.engine import Engine
from tracer.kernel import schema
from tracer.rules import load_rules
from tracer.sinks.terminal import format_alert

sys.path.insert(0, str(Path(__file__).parent.parent))
import records
from naive_spans import NaiveSpans
from records import connect, execute, first, fork, leave, span_begin, span_end

PACKS = load_rules()
MINER = [b"xmrig", b"-o", b"stratum+tcp://pool.example:3333"]
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
TRAINER, TOOL, LATER = 10, 11, 12


def feed(engine: Engine, *records: bytes):
    """The alerts of these records."""
    builder = AlertBuilder(engine, Origin("t", "h", lambda _: ""), 0)
    return [alert for fired in engine.feed(records) for alert in builder.build(fired, 0)]


def miner(engine: Engine, pid: int, **more):
    (alert, *_) = feed(engine, execute(MINER, b"/tmp/xmrig", tgid=pid, **more))
    return alert


@pytest.fixture
def engine() -> Engine:
    engine = Engine(PACKS, processes=64, flows=16)
    feed(engine, execute([b"python3", b"train.py"], b"/usr/bin/python3", tgid=TRAINER))
    return engine


IDS = st.integers(1, 5)
NAMES = st.tuples(IDS, st.integers(1, 6))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fork"), IDS, IDS, st.none() | NAMES),
        st.tuples(st.just("exec"), IDS, st.none(), st.none() | NAMES),
        st.tuples(st.just("exit"), IDS, st.none(), st.none()),
        st.tuples(st.just("begin"), NAMES, st.none() | NAMES, st.binary(max_size=20)),
        st.tuples(st.just("end"), NAMES, st.none(), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(STEPS, st.sampled_from([1, 4, 8]))
def test_agrees_with_the_twin(steps, room):
    engine = Engine(PACKS, processes=63, flows=4)  # so few that nobody who has ended stays
    engine.state = engine.state._replace(
        processes=engine.state.processes._replace(spans=table.make_spans(room))
    )
    engine._lay_out()
    naive = NaiveSpans(room)
    starts = dict.fromkeys(range(1, 6), 0)

    def whole(name):
        return None if name is None else (name[0], starts[name[0]] * 1000 + name[0], name[1])

    for time, (what, one, two, more) in enumerate(steps, 1):
        if what == "fork" and naive.members.get(one) is None:
            starts[one] = time
            parent = naive.members.get(two)
            start = starts[one] * 1000 + one
            records = [fork(one, start, two, parent.start if parent else 0, whole(more), ts=time)]
            naive.fork(one, start, parent, whole(more))
        elif what == "exec" and (member := naive.members.get(one)):
            records = [execute([b"x"], b"/x", tgid=one, ts=time, start=member.start, **span_of(whole(more)))]
            if more:
                naive.put(member, whole(more))
        elif what == "exit" and (member := naive.members.get(one)):
            records = [leave(one, member.start, ts=time)]
            naive.exit(member)
        elif what == "begin":
            records = [span_begin(whole(one), more, above=whole(two), ts=time)]
            naive.begin(whole(one), whole(two), more)
        elif what == "end":
            records = [span_end(whole(one), ts=time)]
            naive.end(whole(one))
        else:
            continue
        assert list(engine.feed(records)) == []
        p = engine.state.processes
        for member in naive.members.values():
            entry = procs.find_exact(p, member.tgid, member.start)
            path = [((s.pid, s.start_ns, s.token), s.text, s.known) for s in engine.spans_of(entry)]
            wanted = member.span.path() if member.span else []
            assert path == [(s.name, s.text, s.known) for s in wanted]
        state = p.spans.state
        assert (int(state[table.S_FULL]), int(state[table.S_UNKNOWN]), int(state[table.S_REPEATED])) == (
            naive.full, naive.unknown, naive.repeated,
        )  # fmt: skip
        assert int(state[table.S_BUSY]) == len(naive.spans) - len(naive.idle)
    for member in list(naive.members.values()):
        list(engine.feed([leave(member.tgid, member.start, ts=1000)]))
        naive.exit(member)
    assert int(engine.state.processes.spans.state[table.S_BUSY]) == len(naive.spans) - len(naive.idle)


def span_of(name) -> dict[str, int]:
    return dict(zip(("span_tgid", "span_start", "span_token"), name, strict=True)) if name else {}


def test_an_alert_names_the_tool_call(engine):
    step, call = (TRAINER, 10_000, 1), (TRAINER, 10_000, 2)
    feed(
        engine,
        span_begin(step, b"step=412\0episode=a91f\0", ts=5),
        span_begin(call, b"tool=bash\0note=x\0", above=step, ts=6),
        fork(TOOL, 11_000, TRAINER, 10_000, call, ts=7),
    )
    alert = miner(engine, TOOL, traceparent=trace(TRACE))
    said = alert.to_json()["span"]
    assert json.loads(json.dumps(said)) == said
    opened = {"pid": TRAINER, "exe": "/usr/bin/python3"}
    assert said == {
        "id": "10.10000.2",
        "tool": "bash",
        "step": 412,
        "episode": "a91f",
        "attributes": {"tool": "bash", "note": "x"},
        "opened_by": opened,
        "path": [
            {"id": "10.10000.2", "attributes": {"tool": "bash", "note": "x"}, "opened_by": opened},
            {"id": "10.10000.1", "attributes": {"step": 412, "episode": "a91f"}, "opened_by": opened},
        ],
        "traceparent": TRACE.decode(),
    }
    assert "in bash, step 412, episode a91f" in format_alert(alert, colour=False)


def trace(text: bytes) -> np.ndarray:
    return np.frombuffer(text.ljust(56, b"\0"), np.uint64)


def test_what_is_in_no_span_has_none(engine):
    feed(engine, fork(TOOL, 11_000, TRAINER, 10_000, ts=7))
    alert = miner(engine, TOOL)
    assert alert.to_json()["span"] is None
    assert " in " not in format_alert(alert, colour=False)


def test_an_end_does_not_take_it_from_those_inside(engine):
    call = (TRAINER, 10_000, 2)
    feed(
        engine,
        span_begin(call, b"tool=bash\0"),
        fork(TOOL, 11_000, TRAINER, 10_000, call),
        span_end(call),
        fork(LATER, 12_000, TRAINER, 10_000),
    )
    assert miner(engine, TOOL).span.said("tool") == "bash"
    assert miner(engine, LATER).span is None


def test_a_tool_can_not_hide_the_span_that_it_is_in(engine):
    """It opens its own, says that it is in one that was never opened, and tries the trainer's number."""
    call = (TRAINER, 10_000, 2)
    own, never = (TOOL, 11_000, 2), (TOOL, 11_000, 77)
    feed(
        engine,
        span_begin(call, b"tool=bash\0step=1\0"),
        fork(TOOL, 11_000, TRAINER, 10_000, call),
        span_begin(own, b"tool=innocent\0step=2\0mine=yes\0", above=call, tgid=TOOL),
        span_end(own, tgid=TOOL),
        fork(LATER, 12_000, TOOL, 11_000, own),
        fork(13, 13_000, TOOL, 11_000, never),
    )
    alert = miner(engine, LATER)
    assert [(s.pid, s.token) for s in alert.span.path] == [(TOOL, 2), (TRAINER, 2)]
    assert (alert.span.said("tool"), alert.span.said("step"), alert.span.said("mine")) == ("bash", 1, "yes")
    alert = miner(engine, 13)
    assert [(s.pid, s.token, s.known) for s in alert.span.path] == [(TOOL, 77, False), (TRAINER, 2, True)]
    assert alert.to_json()["span"]["path"][0]["unknown"] is True
    assert engine.table_losses()["spans-unknown"] == 1
    # and what it says a second time of one that it has opened counts for nothing
    feed(engine, span_begin(own, b"tool=other\0", above=call, tgid=TOOL))
    assert engine.table_losses()["spans-repeated"] == 1
    assert alert.span.path[1].text == b"tool=bash\0step=1\0"


def test_tools_can_not_fill_the_table(engine):
    """However deep the trainer's own spans lie in one another."""
    outer = [(TRAINER, 10_000, n) for n in range(100, 105)]
    feed(engine, span_begin(outer[0], b""))
    feed(engine, *(span_begin(name, b"", above=above) for above, name in pairwise(outer)))
    call = (TRAINER, 10_000, 2)
    feed(engine, span_begin(call, b"tool=bash\0", above=outer[-1]), fork(TOOL, 11_000, TRAINER, 10_000, call))
    room = len(engine.state.processes.spans.table)
    feed(engine, *(span_begin((TOOL, 11_000, n), b"", above=call, tgid=TOOL) for n in range(1, room + 9)))
    full = engine.table_losses()["spans-not-kept"]
    assert full >= room // 4
    feed(
        engine,
        span_begin((TRAINER, 10_000, 3), b"tool=next\0", above=outer[-1]),
        fork(LATER, 12_000, TRAINER, 10_000, (TRAINER, 10_000, 3)),
    )
    assert miner(engine, LATER).span.said("tool") == "next"
    assert engine.table_losses()["spans-not-kept"] == full
    feed(engine, leave(TOOL, 11_000))  # its spans go with it
    assert int(engine.state.processes.spans.state[table.S_BUSY]) == len(outer) + 2


def test_ended_spans_make_room_for_deep_ones(engine):
    """What has ended holds on to what it lay in, but not against others."""
    for number in range(1, 3 * len(engine.state.processes.spans.table), 3):
        names = [(TRAINER, 10_000, number + n) for n in range(3)]
        feed(
            engine,
            span_begin(names[0], b""),
            span_begin(names[1], b"", above=names[0]),
            span_begin(names[2], b"", above=names[1]),
            *(span_end(name) for name in reversed(names)),
        )
    assert engine.table_losses()["spans-not-kept"] == 0


def test_a_connection_is_in_the_span_of_its_thread(engine):
    one, two = (TRAINER, 10_000, 1), (TRAINER, 10_000, 2)
    login = b'{"id":1,"method":"mining.subscribe","params":["xmrig/6.21"]}\n'
    alerts = feed(
        engine,
        span_begin(one, b"tool=one\0"),
        span_begin(two, b"tool=two\0"),
        connect("198.51.100.7", 3333, tgid=TRAINER, cookie=1, **span_of(one)),
        connect("198.51.100.8", 3333, tgid=TRAINER, cookie=2, **span_of(two)),
        first(login, tgid=TRAINER, cookie=1),
    )
    (alert,) = [alert for alert in alerts if alert.rule.id == "miner.stratum"]
    assert alert.span.said("tool") == "one"


LISTENS = """
[indicators.door]
where = "port"
values = ["tcp/4444"]
[rules."net.door"]
title = "t"
on = "listen"
severity = "low"
any = ["door"]
"""


def gpu_context(**more) -> bytes:
    flags = schema.GPU_FLAG["GPU_COMPUTE"] | schema.GPU_FLAG["GPU_FIRST"]
    more |= {"family": schema.GPU_FAMILY["GPU_NVIDIA"], "nr": 0x2B, "code": 0xC86F, "flags": flags}
    return records._of("EVENT_GPU_IOCTL", schema.GPU_IOCTL, TRAINER, 9, more).tobytes()


def listen(**more) -> bytes:
    more |= {"family": 2, "protocol": records.TCP, "local_port": 4444, "cookie": 9}
    return records._of("EVENT_LISTEN", schema.LISTEN, TRAINER, 9, more).tobytes()


@pytest.mark.parametrize(
    ("rule", "act"),
    [
        ("gpu.unexpected-client", gpu_context),
        ("net.door", listen),
        ("tamper.signal", lambda **more: records.tamper("TAMPER_SIGNAL", tgid=TRAINER, ts=9, **more)),
        (
            "net.runtime-socket",
            lambda **more: records.local_connect(b"/run/docker.sock", tgid=TRAINER, **more),
        ),
        ("miner.command", lambda **more: records.exec_refused(b"/tmp/xmrig", tgid=TRAINER, ts=9, **more)),
    ],
)
def test_whatever_a_thread_does_itself_is_in_its_span(tmp_path, rule, act):
    """Its process was born in none."""
    (tmp_path / "listens.toml").write_text(LISTENS)
    rules = load_rules([tmp_path / "listens.toml"])
    engine = Engine(rules.under(replace(rules.terms, gpu_users=("nobody",))), processes=64, flows=16)
    one, two = (TRAINER, 10_000, 1), (TRAINER, 10_000, 2)
    alerts = feed(
        engine,
        execute([b"python3", b"train.py"], b"/usr/bin/python3", tgid=TRAINER),
        span_begin(one, b"tool=one\0"),
        span_begin(two, b"tool=two\0", above=one),
        act(**span_of(two)),
    )
    (alert,) = [alert for alert in alerts if alert.rule.id == rule]
    assert [span.text for span in alert.span.path] == [b"tool=two\0", b"tool=one\0"]


def test_a_scan_is_in_the_span_of_the_connect_that_completes_it(engine):
    one, two = (TRAINER, 10_000, 1), (TRAINER, 10_000, 2)
    alerts = feed(engine, span_begin(one, b"tool=one\0"), span_begin(two, b"tool=two\0"))
    for number in range(1, 40):
        place, span = f"10.0.0.{number}", span_of(one if number % 2 else two)
        alerts += feed(
            engine,
            connect(place, 22, tgid=TRAINER, cookie=number, ts=number, **span),
            records.close(number, place, 22, tgid=TRAINER, ts=number, error=111),
        )
    scans = [alert for alert in alerts if alert.rule.id == "net.scan"]
    assert [alert.span.said("tool") for alert in scans] == [("one" if scans[0].hook_ns % 2 else "two")]


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_accepted_is_in_the_span_that_was_listened_in(engine, ended):
    call = (TRAINER, 10_000, 1)
    more = {"cookie": 1, "family": 2, "protocol": records.TCP, "flags": schema.FLOW_FLAG["FLOW_ACCEPTED"]}
    accepted = records._of("EVENT_FLOW_OPEN", schema.FLOW_OPEN, TRAINER, 9, more | span_of(call))
    alerts = feed(
        engine,
        span_begin(call, b"tool=one\0"),
        *([span_end(call)] if ended else []),
        accepted.tobytes(),
        first(b'{"id":1,"method":"mining.subscribe","params":["xmrig/6.21"]}\n', tgid=TRAINER, cookie=1),
    )
    assert {alert.span.said("tool") for alert in alerts} == {"one"}
    # of one that nobody has told of, an accepted connection makes none
    stray = accepted.copy()
    stray["cookie"], stray["span_token"] = 2, 99
    feed(engine, stray.tobytes())
    assert engine.table_losses()["spans-unknown"] == 0


def test_traces_along_the_line(engine):
    """A tool may say what it wants: what was said above it is shown as well."""
    feed(
        engine,
        fork(TOOL, 11_000, TRAINER, 10_000),
        execute([b"sh"], b"/bin/sh", tgid=TOOL, traceparent=trace(TRACE)),
        fork(LATER, 12_000, TOOL, 11_000),
    )
    said = miner(engine, LATER, traceparent=trace(OTHER_TRACE)).to_json()["span"]
    assert said["id"] is None
    assert said["path"] == []
    assert said["traceparent"] == OTHER_TRACE.decode()
    assert said["traceparents"] == [OTHER_TRACE.decode(), TRACE.decode()]
    feed(engine, fork(13, 13_000, TRAINER, 10_000))
    assert miner(engine, 13, traceparent=trace(b"00-" + b"\x1b" * 52)).to_json()["span"] is None


def test_the_trace_of_a_process_that_was_there_before():
    with subprocess.Popen(
        ["sleep", "60"], env={"OTHER": "TRACEPARENT=x", "TRACEPARENT": TRACE.decode()}
    ) as job:
        try:
            engine = Engine(PACKS, processes=8, flows=4)
            entry = procs.add_process(engine.state.processes, job.pid, 5, procs.NONE, 5)
            list(reconcile.fill_in(engine, reconcile.nameless(engine)))
            assert engine.traceparent_of(entry) == TRACE
        finally:
            job.kill()


def test_an_environment_that_is_too_long_is_counted(engine):
    feed(engine, execute([b"x"], b"/x", tgid=TRAINER, flags=schema.EXEC_FLAG["EXEC_ENV_CUT"]))
    assert engine.table_losses()["environments-cut"] == 1


@settings(max_examples=200)
@given(st.binary(max_size=512))
def test_whatever_is_said_can_be_shown(text):
    engine = Engine(PACKS, processes=8, flows=4)
    call = (TRAINER, 10_000, 1)
    feed(engine, execute([b"p"], b"/p", tgid=TRAINER), span_begin(call, b"tool=" + text[:500]))
    feed(engine, fork(TOOL, 11_000, TRAINER, 10_000, call))
    alert = miner(engine, TOOL)
    json.dumps(alert.to_json())
    line = format_alert(alert, colour=False)
    assert line.isprintable()
    assert len(alert.span.words()) < 120


def test_a_deep_path_is_cut_in_the_middle(engine):
    names = [(TRAINER, 10_000, n) for n in range(1, 41)]
    feed(engine, span_begin(names[0], b"tool=outermost\0"))
    for above, name in pairwise(names):
        feed(engine, span_begin(name, b"", above=above))
    feed(engine, fork(TOOL, 11_000, TRAINER, 10_000, names[table.DEPTH - 1]))
    said = miner(engine, TOOL).to_json()["span"]
    assert len(said["path"]) == 16
    assert said["path_left_out"] == table.DEPTH - 16
    assert said["tool"] == "outermost"
    assert said["path"][-1]["attributes"] == {"tool": "outermost"}


def test_malformed_records_are_refused(engine):
    record = bytearray(span_begin((TRAINER, 10_000, 1), b"tool=x\0"))
    offset = schema.SPAN.fields["len"][1]
    for length in (8, 600, 65535):
        record[offset : offset + 2] = length.to_bytes(2, "little")
        feed(engine, bytes(record))
    assert engine.table_losses()["malformed"] == 3
