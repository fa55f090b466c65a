# SPDX-License-Identifier: Apache-2.0
"""What a later file of a recording begins with: the tables as they were at one moment, however late they are written."""

from __future__ import annotations

import naive_snapshot
import numpy as np
import pytest
import records
from hypothesis import given
from hypothesis import strategies as st
from recordings import EPOCH, Live, header_of, layout, replayed

from tracer.engine.engine import Engine
from tracer.engine.spans import OPEN
from tracer.kernel import schema
from tracer.record import writer as writer_module
from tracer.record.files import PartFiles
from tracer.record.reader import Recording
from tracer.record.snapshot import Snapshot
from tracer.record.writer import WriteOptions, Writer
from tracer.rules import load_rules
from tracer.rules.ruleset import Sample

PACKS = load_rules()
MINER = [b"/opt/xmrig", b"-o", b"stratum+tcp://pool.test:3333"]
PIDS = st.integers(1, 12)
TOKENS = st.integers(1, 4)


def _cut(record: bytes) -> bytes:
    """The same exec, of whose last argument the end is missing."""
    head = np.frombuffer(record, schema.EXEC, 1).copy()
    if not head[0]["args_len"]:
        return record
    head["args_len"] -= 1
    head["size"] -= 1
    return head.tobytes() + record[schema.EXEC.itemsize : -1]


def _at(record: bytes, ts: int) -> bytes:
    head = np.frombuffer(record, schema.HEAD, 1).copy()
    head["ts"] = ts
    return head.tobytes() + record[schema.HEAD.itemsize :]


def _name(owner: int, token: int) -> records.Name:
    return owner, owner * 1000, token


EXECS = st.builds(
    lambda pid, path, argv, trace, uid: records.execute(
        argv, path, tgid=pid, uid=uid, traceparent=np.frombuffer(trace.ljust(56, b"\0"), np.uint64)
    ),
    PIDS,
    st.sampled_from([b"", b"/bin/sh", b"/usr/" + b"x" * 300]),
    st.lists(st.binary(max_size=200).map(lambda b: b.replace(b"\0", b"")), max_size=3),
    st.sampled_from([b"", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
    st.sampled_from([0, 1000]),
)
HAPPENED = st.one_of(
    EXECS,
    EXECS.map(_cut),
    st.builds(lambda pid, above: records.fork(pid, pid * 1000, above, above * 1000), PIDS, PIDS),
    st.builds(
        lambda pid, above, token: records.fork(pid, pid * 1000, above, above * 1000, _name(above, token)),
        PIDS, PIDS, TOKENS,
    ),
    st.builds(lambda pid: records.leave(pid, pid * 1000), PIDS),
    st.builds(
        lambda pid, token, above: records.span_begin(
            _name(pid, token), b"tool=bash\0", above=_name(pid, above) if above < token else None
        ),
        PIDS, TOKENS, TOKENS,
    ),
    st.builds(lambda pid, token: records.span_end(_name(pid, token)), PIDS, TOKENS),
)  # fmt: skip


@given(st.lists(st.lists(HAPPENED, max_size=25), min_size=3, max_size=6), st.integers(1, 5))
def test_columns_say_what_one_after_the_other_says(happened, piece):
    """And say it of the moment at which they were taken, whatever had been copied before."""
    engine = Engine(PACKS, processes=16, flows=16)
    *before, last, after = happened
    taken = Snapshot(engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracer.record.snapshot.PIECE", piece)
        patch.setattr("tracer.record.snapshot.PREPARED", piece)
        for number, some in enumerate([*before, last]):
            # no program is executed twice in the same nanosecond
            list(engine.feed(_at(record, number * 100 + n) for n, record in enumerate(some)))
            if number < len(before):
                list(zip(taken.prepare(), range(piece), strict=False))
        wanted = naive_snapshot.snapshot(engine)
        taken.take()
        list(engine.feed(_at(record, 1000 + n) for n, record in enumerate(after)))
        assert b"".join(taken.pieces()) == wanted


def test_a_tree_of_nobody_is_an_empty_one():
    assert list(Snapshot(Engine(PACKS, processes=16, flows=16)).take().pieces()) == []


def _types(path) -> list[int]:
    return [found.head.type for found in Recording(path).blocks()]


def _turn(live: Live) -> None:
    """What is taken from now on stands in another file."""
    live.writer._options = WriteOptions(rotate_bytes=1)
    while len(live.alerts_before) < 2:
        live.take([])
    live.writer._options = WriteOptions()


def test_what_comes_meanwhile_comes_behind(tmp_path, monkeypatch):
    """A snapshot of several pieces; events, an alert, an end come before it is done."""
    monkeypatch.setattr("tracer.record.snapshot.PIECE", 1)
    live = Live(tmp_path / "r", PACKS)
    live.take([records.execute([b"sh"], b"/bin/sh", tgid=1), records.fork(2, 2000, 1, 1000)])
    _turn(live)
    live.take([records.execute(MINER, b"/opt/xmrig", tgid=2, ts=5, cgroup=7)])
    live.take([records.leave(2, 2000, ts=6)])
    live.end()
    assert _types(tmp_path / "r.2") == [
        layout.HEADER, layout.CLOCK, layout.SNAPSHOT, layout.SNAPSHOT,
        layout.RECORDS, layout.CGROUPS, layout.ALERT, layout.RECORDS, layout.END, layout.INDEX,
    ]  # fmt: skip
    assert len(live.alerts) == 1
    assert (
        replayed(PACKS, tmp_path / "r.2")[0]
        == live.alerts
        == replayed(PACKS, tmp_path / "r", tmp_path / "r.2")[0]
    )


def test_too_much_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("tracer.record.snapshot.PIECE", 1)
    monkeypatch.setattr("tracer.record.recorder.HELD_BYTES", 0)
    live = Live(tmp_path / "r", PACKS)
    live.take([records.execute([b"sh"], b"/bin/sh", tgid=1), records.fork(2, 2000, 1, 1000)])
    _turn(live)
    live.take([records.leave(2, 2000, ts=6)])
    assert not live.recorder.go_on()
    live.end()
    assert _types(tmp_path / "r.2")[2:5] == [layout.SNAPSHOT, layout.SNAPSHOT, layout.RECORDS]


def test_a_later_file_alone_knows_rules_clock_and_names(tmp_path):
    """They were told in a file that may be gone."""
    live = Live(tmp_path / "r", PACKS)
    live.engine.judge_by(PACKS, EPOCH + 1)
    live.builder.wall_offset_ns += 3_600_000_000_000
    live.recorder.clock(live.builder.wall_offset_ns)
    live.recorder.cgroup(7, "/made-up/7")
    _turn(live)
    signals = PACKS.signals(Sample.from_command(MINER, path=b"/opt/xmrig"))
    live.take(
        [records.execute(MINER, b"/opt/xmrig", tgid=2, ts=5, cgroup=7, signals=signals, epoch=EPOCH + 1)]
    )
    live.end()
    assert [alert["cgroup"] for alert in live.alerts] == ["/made-up/7"]
    again, player = replayed(PACKS, tmp_path / "r.2")
    assert again == live.alerts
    assert player.engine.state.epoch[0] == EPOCH + 1


def test_a_later_file_alone_knows_what_threads_are_in(tmp_path):
    """No process was born in these spans, of which one has ended by then."""
    outer, inner, ended = _name(1, 1), _name(1, 2), _name(1, 3)
    live = Live(tmp_path / "r", PACKS)
    live.take(
        [
            records.execute([b"python3", b"train.py"], b"/usr/bin/python3", tgid=1),
            records.span_begin(outer, b"episode=a\0", ts=2),
            records.span_begin(ended, b"tool=other\0", above=outer, ts=3),
            records.span_begin(inner, b"tool=bash\0", above=outer, ts=4),
            records.span_end(ended, ts=5),
        ]
    )
    _turn(live)
    thread = dict(zip(("span_tgid", "span_start", "span_token"), inner, strict=True))
    live.take([records.tamper("TAMPER_SIGNAL", tgid=1, ts=9, **thread)])
    live.end()
    assert [alert["span"]["tool"] for alert in live.alerts] == ["bash"]
    again, player = replayed(PACKS, tmp_path / "r.2")
    assert again == live.alerts
    spans = player.engine.state.processes.spans.table
    assert sorted(bytes(text[:9]) for text in player.engine.state.processes.spans.texts[spans["state"] == OPEN]) == [
        b"episode=a", b"tool=bash",
    ]  # fmt: skip


def test_another_file_begins_however_much_waits(tmp_path, monkeypatch):
    """Else none ever would: the order is given once."""
    monkeypatch.setattr(writer_module, "QUEUE_BYTES", 0)
    engine = Engine(PACKS, processes=16, flows=16)
    writer = Writer(PartFiles(tmp_path / "r"), header_of(engine), WriteOptions(rotate_bytes=1))
    assert writer.is_due()
    writer.turn()
    assert writer.close() and writer.parts == 2 and not writer.lost_blocks
