# SPDX-License-Identifier: Apache-2.0
"""Spans under real probes: who is in which, and who can't say otherwise."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from harness import record
from test_exactness import CHANNEL, GPU, RM_ALLOC, gpu_options
from test_tamper import USR1, stand_in

from tracer.engine.spans import OPEN
from tracer.kernel import host, schema

MARKING = Path(__file__).with_name("marking.py")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def marking(*arguments: object) -> list[str]:
    """The command line of one of marking.py's programs."""
    return [sys.executable, str(MARKING), *(str(a) for a in arguments)]


def texts(run) -> dict[tuple[int, int, int], str]:
    """What was said of each span, by its name."""
    found = {}
    for e, tail in run.events:
        if e["kind"] == schema.KIND["EVENT_SPAN"] and e["what"] == schema.SPAN_WHAT["SPAN_BEGIN"]:
            found[name(e)] = tail[: int(e["len"])].decode()
    return found


def name(e) -> tuple[int, int, int]:
    return int(e["span_tgid"]), int(e["span_start"]), int(e["span_token"])


def tools(run) -> list[tuple[str, str]]:
    """Of each `/bin/true`: the word it was given, and the tool whose span it was in, as execs have it."""
    said = texts(run)
    found = []
    for e in run.execs():
        if e.path.endswith(b"/true"):
            text = said.get(name(e.fixed), "" if e.fixed["span_token"] == 0 else "tool=unknown\0")
            found.append((e.argv[1].decode(), text.partition("\0")[0].partition("=")[2]))
    return found


def all_as_they_should(run) -> list[str]:
    assert run.status == 0
    assert run.summary.lost_total == 0
    assert [word for word, _ in tools(run)] == [tool or "none" for _, tool in tools(run)]
    return [word for word, _ in tools(run)]


def test_processes_are_in_the_span_that_they_descend_from():
    run = record(marking("nested"))
    assert sorted(all_as_they_should(run)) == sorted(
        ["none", "outer", "inner", "outer", "none", "inner", "other", "child's", "other"]
    )
    ends = [e for e in run.of("span") if e["what"] == schema.SPAN_WHAT["SPAN_END"]]
    # the child forked in a span of its parent's, and executed something before that could end there
    assert len(ends) == len(texts(run)) == 4
    outer, inner = (key for key, text in texts(run).items() if text.startswith(("tool=outer", "tool=inner")))
    (begun,) = [e for e in run.of("span") if name(e) == inner and e["what"] == 1]
    assert (begun["above_tgid"], begun["above_start"], begun["above_token"]) == outer
    assert texts(run)[outer] == "tool=outer\0step=1\0note=a=b\0"
    # a process is in its span before it executes anything
    for fork in run.of("fork"):
        for e in run.execs():
            if e.pid == fork["tgid"] and e.fixed["start"] == fork["start"]:
                assert name(fork) == name(e.fixed) or b"other" in e.argv
                break


def test_two_hundred_rollouts_at_once():
    run = record(marking("rollouts", 200))
    assert run.status == 0
    found = tools(run)
    assert len(found) == 200
    assert all(number == step for number, step in found)
    assert run.summary.lost_total == 0


def test_threads_and_pools():
    assert all_as_they_should(record(marking("threads"))) == [
        "none", "first", "worker", "none", "second",
    ]  # fmt: skip


def test_many_threads_at_once():
    run = record(marking("threads_at_once", 16, 8))
    assert len(all_as_they_should(run)) == 16 * 8
    assert run.engine.table_losses()["spans-unknown"] == 0


def test_a_thread_that_executes_takes_its_span_along():
    assert all_as_they_should(record(marking("executed_by_a_thread"))) == ["thread"]


def test_nobody_can_speak_for_another():
    run = record(marking("forged"))
    assert run.status == 0
    found = tools(run)
    assert found == [(word, word) for word in ("unknown", "trainer's", "innocent", "trainer's")]
    assert run.summary.tables["spans-refused"] == 13
    # who claims a span that it never opened is still inside the one that it was born in
    (trainers,) = (key for key, text in texts(run).items() if text.startswith("tool=trainer's"))
    ends = {name(e) for e in run.of("span") if e["what"] == schema.SPAN_WHAT["SPAN_END"]}
    assert len(ends) == 2  # the trainer's own, and what the tool said of itself
    assert {end[0] for end in ends - {trainers}} != {run.root}


@pytest.mark.parametrize("path", ["/bin/dash", "/bin/bash"])
def test_shells(path):
    if not shutil.which(path):
        pytest.skip(f"there is no {path}")
    run = record(marking("shell", path))
    assert all_as_they_should(run) == [
        "none", "one", "two", "one", "three", "three", "none", "run", "none",
    ]  # fmt: skip
    flags = {text.split("\0")[0]: int(e["span_flags"]) for e, text in begun(run)}
    by_child = schema.SPAN_FLAG["SPAN_BY_CHILD"]
    assert flags == {
        "tool=one": by_child,
        "tool=tool's": by_child,
        "tool=two": by_child,
        "tool=three": by_child,
        "tool=run": 0,
    }


def begun(run):
    for e, tail in run.events:
        if e["kind"] == schema.KIND["EVENT_SPAN"] and e["what"] == schema.SPAN_WHAT["SPAN_BEGIN"]:
            yield e, tail[: int(e["len"])].decode()


def test_calls_that_are_none_of_ours(capfd):
    run = record(marking("others"))
    assert run.status == 0
    assert capfd.readouterr().out.splitlines() == ["ENOPROTOOPT", "ENOBUFS for 5264 bytes"]
    assert run.summary.tables["spans-refused"] == 0


@pytest.mark.guest
def test_what_a_kernel_may_refuse(capfd):
    """The three before and the one behind in one go, for guests."""
    run = record(marking("all_in_one", TRACE))
    assert run.status == 0
    assert capfd.readouterr().out.splitlines() == ["ENOPROTOOPT", "ENOBUFS for 5264 bytes"]
    found = tools(run)
    assert found[:4] == [(word, word) for word in ("unknown", "trainer's", "innocent", "trainer's")]
    assert run.summary.tables["spans-refused"] == 13
    traced = [e.fixed["traceparent"].tobytes()[:55] for e in run.execs() if e.argv[1:] == [b"traced"]]
    assert traced == [TRACE.encode()]
    assert run.summary.lost_total == 0


def test_a_program_that_connects_in_its_own_span():
    run = record(marking("connects"))
    assert run.status == 0
    said = texts(run)
    assert [said.get(name(e), "") for e in run.of("connect")] == ["", "tool=one\0", "tool=two\0", ""]


DOOR = """
[indicators.doors]
where = "port"
values = ["tcp/1-65535"]
[rules."net.door"]
title = "t"
on = "listen"
severity = "low"
any = ["doors"]
"""


def in_which(run, kind: str, **more: int) -> list[str]:
    """The tools whose spans the records of a kind are in that say so."""
    said = texts(run)
    found = [e for e in run.of(kind) if all(e[field] == value for field, value in more.items())]
    return [said.get(name(e), "").partition("\0")[0].partition("=")[2] for e in found]


@pytest.mark.guest
def test_whatever_a_thread_does_itself_is_in_its_span(tmp_path):
    (tmp_path / "door.toml").write_text(DOOR)
    attached = set()
    with stand_in() as target:
        run = record(
            marking("acts", GPU, RM_ALLOC, CHANNEL, target.pid, int(USR1), host.cgroup2_root()),
            gpu_options(),
            gpu_users=("nobody",),
            rules=[tmp_path / "door.toml"],
            protect=(target.pid, 0),
            between=lambda watch, found: attached.update(watch.probes.attached),
        )
    assert run.status == 0
    tcp, udp = 6, 17
    assert set(in_which(run, "gpu-open")) == set(in_which(run, "gpu-ioctl")) == {"gpu"}
    assert in_which(run, "listen", protocol=tcp) == ["", "listen"]
    assert in_which(run, "listen", protocol=udp) == ["datagrams"]
    assert in_which(run, "local-connect") == (["local"] if "on_connect_local" in attached else [])
    what = schema.TAMPER_WHAT
    assert in_which(run, "tamper", what=what["TAMPER_SIGNAL"]) == ["signal"]
    assert in_which(run, "tamper", what=what["TAMPER_LEFT"]) == ["outside"]
    assert in_which(run, "connect", protocol=tcp) == ["io_uring", "worker", *["scan"] * 40, "main", "outside"]
    accepted = [e for e in run.of("flow-open") if e["flags"] & schema.FLOW_FLAG["FLOW_ACCEPTED"]]
    (door,) = (e["local_port"] for e in run.of("listen") if e["protocol"] == tcp and e["span_token"])
    assert [texts(run).get(name(e)) for e in accepted if e["local_port"] == door] == ["tool=listen\0"]
    told = {alert.rule.id: alert.span.said("tool") if alert.span else None for alert in run.alerts}
    assert told.items() >= {
        "gpu.unexpected-client": "gpu", "tamper.signal": "signal", "tamper.left-cgroup": "outside", "net.scan": "scan",
        "net.door": "listen",
    }.items()  # fmt: skip
    if "on_connect_local" in attached:
        assert told["net.runtime-socket"] == "local"
    assert run.summary.lost_total == 0


def test_traceparent_of_the_environment():
    run = record(marking("traced", TRACE))
    assert run.status == 0
    found = {
        e.argv[1]: (e.fixed["traceparent"].tobytes().partition(b"\0")[0].decode(), e.has("EXEC_ENV_CUT"))
        for e in run.execs()
        if e.path.endswith(b"/true")
    }
    assert found == {
        b"traced": (TRACE, False),
        b"not": ("", False),
        b"none": ("", False),
        b"long": ("", True),
    }


def test_a_storm_of_spans_is_bounded_and_counted():
    run = record(marking("storm", 200))
    assert run.status == 0
    assert run.summary.lost_total == 0
    assert run.summary.received["span"] == 200
    assert run.summary.tables["spans-not-kept"] > 0  # nobody lies that deep
    assert all(e["span_flags"] & schema.SPAN_FLAG["SPAN_CUT"] and len(text) == 512 for e, text in begun(run))


def test_the_kernel_forgets_who_has_ended(tmp_path):
    gone = tmp_path / "gone"
    kept = []

    def look(watch, found):
        if not gone.exists():
            return
        spans = watch.probes._object.map("task_spans")
        there = [spans.lookup(int(tid).to_bytes(4, "little"), 512) for tid in gone.read_text().split()]
        if not any(there):  # a thread that has been joined may have some way to go yet
            kept.append((len(there), spans.lookup(found.root.to_bytes(4, "little"), 512) is not None))
            gone.unlink()

    run = record(marking("leaves_nothing", gone), between=look)
    assert run.status == 0
    assert kept == [(20, True)]
    p = run.engine.state.processes
    spans = p.spans
    # those that have ended last stay a while, and know which span they were in
    last = [p.table[row - 1]["span"] for row in p.recent[:, 0] if row]
    assert spans.table["users"].sum() == sum(span >= 0 for span in last)
    assert not (spans.table["state"] == OPEN).any()
