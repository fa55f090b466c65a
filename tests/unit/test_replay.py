# SPDX-License-Identifier: Apache-2.0
"""A recording through the engine again: the same alerts for the same rules, others for others."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import numpy as np
import pytest
import records
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import EPOCH, OFFSET_NS, Block, Live, header_of, layout, replayed, written
from wire_bytes import LOGIN

from tracer.cli import group
from tracer.engine import reconcile
from tracer.engine.engine import Engine
from tracer.engine.processes import find_exact
from tracer.engine.tap import each, lay_out
from tracer.errors import VigilesError
from tracer.kernel import schema
from tracer.record.adapt import Adapter
from tracer.record.export import Filter, events
from tracer.record.header import event_schema
from tracer.record.reader import Recording, in_order
from tracer.record.snapshot import Snapshot
from tracer.rules import load_rules

PACKS = load_rules()
MINER = [b"/opt/xmrig", b"-o", b"stratum+tcp://pool.test:3333"]
OTHER = """
[indicators.sleepers]
where = "name"
match = "whole"
values = ["sleep"]
[rules."exec.sleeps"]
title = "It sleeps"
on = "exec"
severity = "high"
action = "kill"
any = ["sleepers"]
"""


def fork(tgid: int, parent: int, ts: int = 1) -> bytes:
    row = records._of(
        "EVENT_FORK", schema.FORK, tgid, ts, {"parent_tgid": parent, "parent_start": parent * 1000}
    )
    return row.tobytes()


def finish(tgid: int, ts: int = 1) -> bytes:
    return records._of("EVENT_EXIT", schema.EXIT, tgid, ts, {}).tobytes()


def some_events(n: int) -> list[bytes]:
    """A tree in which now and then something is wrong."""
    found = [records.execute([b"/bin/sh"], b"/bin/sh", tgid=1, ts=1)]
    for i in range(n):
        pid, ts = 10 + i, 10 * i + 10
        found.append(fork(pid, 1, ts))
        if i % 3 == 0:
            found.append(records.execute(MINER, b"/opt/xmrig", tgid=pid, ts=ts + 1, cgroup=7))
        else:
            found.append(records.execute([b"sleep", b"1"], b"/bin/sleep", tgid=pid, ts=ts + 1))
        found.append(records.connect("198.51.100.7", 3333, tgid=pid, ts=ts + 2, cookie=i + 1))
        if i % 4 == 0:
            found.append(records.first(LOGIN, tgid=pid, ts=ts + 3, cookie=i + 1))
        found.append(finish(pid, ts + 5))
    return found


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 60), max_size=6), zstd=st.booleans(), rotate=st.booleans())
def test_batches_and_files_change_nothing(tmp_path_factory, monkeypatch, cuts, zstd, rotate):
    """Nor does when a snapshot is made of whom."""
    monkeypatch.setattr("tracer.record.snapshot.PIECE", 1)
    path = tmp_path_factory.mktemp("live") / "r"
    live = Live(path, PACKS, zstd=zstd, rotate_bytes=6000 if rotate else 0)
    found = some_events(16)
    at = 0
    for cut in [*sorted(cuts), len(found)]:
        live.take(found[at:cut])
        at = max(at, cut)
    live.end()
    files = sorted(path.parent.iterdir(), key=lambda p: int(p.suffix[1:] or 1) if p.suffix else 1)
    again, player = replayed(PACKS, *files)
    assert len(again) >= 9
    assert again == live.alerts
    assert json.dumps(again) == json.dumps(live.alerts)
    assert player.records == len(found) and not player.played.other_rules
    assert player.played.end == {"summary": {}}
    for file, before in zip(files, live.alerts_before, strict=False):
        alone, _ = replayed(PACKS, *files[files.index(file) :])
        assert alone == live.alerts[before:]


def test_verdicts_of_probes_count_only_for_their_own_rules(tmp_path):
    """The very same signals mean something else when groups have other numbers."""
    (tmp_path / "o.toml").write_text(OTHER)
    others = load_rules([tmp_path / "o.toml"])
    signals = PACKS.signals(records_sample())
    live = Live(tmp_path / "r", PACKS)
    live.take([records.execute(MINER, b"/opt/xmrig", ts=1, signals=signals, epoch=EPOCH)])
    live.take([records.execute([b"sleep"], b"/bin/sleep", tgid=2, ts=2)])
    live.end()
    same, player = replayed(PACKS, tmp_path / "r")
    assert [a["rule"] for a in same] == [a["rule"] for a in live.alerts] == ["miner.command"]
    changed, player = replayed(others, tmp_path / "r")
    assert [a["rule"] for a in changed] == ["miner.command", "exec.sleeps"]
    assert player.played.other_rules
    assert changed[1]["latency_us"] == 0 and changed[1]["would"] == "killed"


def records_sample():
    from tracer.rules.ruleset import Sample

    return Sample.from_command(MINER, path=b"/opt/xmrig")


def test_what_is_fed_comes_again_in_its_place(tmp_path):
    """Lists of processes, ends that were missed, programs read from /proc: all that is no record."""
    live = Live(tmp_path / "r", PACKS)
    tasks = np.zeros(2, schema.TASK)
    for row, pid in zip(tasks, (5, 6), strict=True):
        row["kind"], row["tgid"], row["start"] = schema.KIND["EVENT_TASK"], pid, pid * 1000
        row["parent_tgid"], row["parent_start"], row["ino"], row["uid"] = 5, 5000, 9, 33
    reconcile.take_in(live.engine, tasks)
    live.feed([records.execute(MINER, b"/opt/xmrig", tgid=6, ts=3, cgroup=3)])
    reconcile.take_in(live.engine, tasks[1:])
    reconcile.end_missing(live.engine, 100_000)
    live.take([records.execute(MINER, b"/opt/xmrig", tgid=5, ts=9)])
    live.end()
    again, player = replayed(PACKS, tmp_path / "r")
    assert again == live.alerts
    assert [(a["pid"], a["cgroup"]) for a in again] == [(6, "/made-up/3"), (5, None)]
    assert len(again[0]["ancestry"]) == 2
    assert find_exact(player.engine.state.processes, 6, 6000) >= 0
    assert player.engine.table_losses() == live.engine.table_losses()
    assert player.engine.live == live.engine.live


def test_rules_that_came_later_count_from_there(tmp_path):
    (tmp_path / "o.toml").write_text(OTHER)
    others = load_rules([tmp_path / "o.toml"])
    live = Live(tmp_path / "r", PACKS)
    live.take([records.execute([b"sleep"], b"/bin/sleep", tgid=2, ts=2)])
    live.engine.judge_by(others, EPOCH + 1)
    live.take([records.execute([b"sleep"], b"/bin/sleep", tgid=3, ts=3)])
    live.end()
    assert [a["pid"] for a in live.alerts] == [3]
    again, player = replayed(others, tmp_path / "r")
    assert [a["pid"] for a in again] == [2, 3] and player.played.other_rules
    assert again[1] == live.alerts[0]


def test_the_wall_clock_is_the_one_of_then(tmp_path):
    live = Live(tmp_path / "r", PACKS)
    live.take([records.execute(MINER, b"/opt/xmrig", ts=1)])
    live.builder.wall_offset_ns = OFFSET_NS + 3_600_000_000_000
    live.recorder.clock(live.builder.wall_offset_ns)
    live.take([records.execute(MINER, b"/opt/xmrig", tgid=2, ts=1)])
    live.end()
    again, _ = replayed(PACKS, tmp_path / "r")
    assert again == live.alerts
    assert again[0]["time"] != again[1]["time"]


def test_a_later_file_alone_begins_with_who_was_there(tmp_path):
    engine = Engine(PACKS, processes=16, flows=16)
    list(engine.feed([records.execute([b"sh", b"-c", b"x"], b"/bin/sh", tgid=1, ts=1, uid=1000), fork(2, 1)]))
    pieces = [Block(layout.SNAPSHOT, piece) for piece in Snapshot(engine).take().pieces()]
    blocks = [*pieces, Block(layout.RECORDS, lay_out(
        [records.execute(MINER, b"/opt/xmrig", tgid=2, ts=5)]), 5, 5, 1)]  # fmt: skip
    written(tmp_path / "r", blocks, header_of(engine))
    again, player = replayed(PACKS, tmp_path / "r")
    assert [row["exe"] for row in again[0]["ancestry"]] == ["/opt/xmrig", "/bin/sh"]
    found = player.engine.describe(find_exact(player.engine.state.processes, 1, 1000))
    assert found.argv == (b"sh", b"-c", b"x") and found.uid == 1000 and found.called == b"/bin/sh"


def test_spans_come_again(tmp_path):
    """In the alert of an exec, in that of a file whose process is gone, and where a later file begins."""
    live = Live(tmp_path / "r", PACKS)
    outer, inner = (1, 1000, 5), (1, 1000, 6)
    live.take(
        [
            records.execute([b"python3"], b"/usr/bin/python3", tgid=1, ts=1),
            records.span_begin(outer, b"step=4\0", ts=2),
            records.span_begin(inner, b"tool=bash\0", above=outer, ts=3),
            records.fork(2, 2000, 1, 1000, span=inner),
            records.execute(MINER, b"/opt/xmrig", tgid=2, ts=5),
        ]
    )
    live.end()
    again, player = replayed(PACKS, tmp_path / "r")
    assert again == live.alerts
    assert (again[0]["span"]["tool"], again[0]["span"]["step"]) == ("bash", 4)
    (parts,) = in_order([tmp_path / "r"])
    told = {event.kind: event.to_json()["span"] for event in events(parts)}
    assert told["exec"] == {"id": "1.1000.6", "attributes": {"tool": "bash"}} == told["fork"]
    laid = b"".join(Snapshot(player.engine).take().pieces())
    other = Engine(PACKS, processes=16, flows=16)
    list(other.play(laid, count=False))
    entry = find_exact(other.state.processes, 2, 2000)
    assert [span.text for span in other.spans_of(entry)] == [b"tool=bash\0", b"step=4\0"]


def test_records_of_an_older_version(tmp_path):
    """Fields were fewer, shorter, and stood elsewhere."""
    events_then = json.loads(json.dumps(event_schema()))
    kind = events_then[str(schema.KIND["EVENT_EXEC"])]
    gone = next(f for f in kind["fields"] if f[0] == "changed_ns")
    kind["fields"].remove(gone)
    for field in kind["fields"]:
        if field[2] > gone[2]:
            field[2] -= 8
    kind["size"] -= 8
    raw = records.execute(MINER, b"/opt/xmrig", tgid=4, ts=5, changed_ns=77)
    old = bytearray(raw[: gone[2]] + raw[gone[2] + 8 :])
    size_at = next(f for f in kind["fields"] if f[0] == "size")[2]
    old[size_at : size_at + 2] = len(old).to_bytes(2, "little")
    engine = Engine(PACKS, processes=16, flows=16)
    unknown = bytearray(finish(4))
    unknown[schema.HEAD.fields["kind"][1]] = 200
    header = header_of(engine) | {"events": events_then}
    blocks = [Block(layout.RECORDS, lay_out([bytes(old), bytes(unknown)]), 5, 5, 2)]
    written(tmp_path / "r", blocks, header)
    again, player = replayed(PACKS, tmp_path / "r")
    assert [(a["rule"], a["argv"]) for a in again] == [("miner.command", [a.decode() for a in MINER])]
    assert player.parts[0].records_skipped == 1


@pytest.mark.parametrize("form", ["O", "<f8", "99999<u8", "<U5", "|V3"])
def test_a_header_can_name_integers_alone(form):
    said = json.loads(json.dumps(event_schema()))
    said["2"]["fields"][0][1] = form
    with pytest.raises((ValueError, TypeError)):
        Adapter(said)


def cli(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(group, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return (result.return_value or result.exit_code), result.stdout, result.stderr


@pytest.fixture
def made(tmp_path):
    live = Live(tmp_path / "r", PACKS)
    live.take(some_events(6))
    live.end()
    (tmp_path / "o.toml").write_text(OTHER)
    return tmp_path, live


def test_the_commands(made):
    path, live = made
    _, out, err = cli("replay", path / "r", "--json")
    assert [json.loads(line) for line in out.splitlines()] == live.alerts
    assert f"{len(live.alerts)} alerts" in err and "other rules" not in err
    _, out, err = cli("replay", path / "r")
    assert out.count("miner.command") == 2 and "\x1b" not in out
    _, out, err = cli("replay", path / "r", "--diff")
    assert out == ""
    _, out, err = cli("replay", path / "r", "--diff", "--rules", path / "o.toml")
    assert out.count("+ ") == 4 == out.count("exec.sleeps") and "other rules" in err
    _, out, err = cli("verify", path / "r")
    assert "intact" in out
    data = bytearray((path / "r").read_bytes())
    data[-300] ^= 1
    (path / "bad").write_bytes(data)
    _, out, _ = cli("verify", path / "bad", "--json")
    assert not json.loads(out)[0]["intact"]
    _, out, err = cli("replay", path / "bad")
    assert "is damaged: block" in err


def test_the_commands_do_without_a_file_that_holds_nothing(made):
    """A writer that was killed as it made the next file has left it; which one it is, nobody has to find out."""
    path, _ = made
    (path / "log").write_text("")
    begun = path / "r.2"
    for size in (0, 5, layout.PREFIX_BYTES + 20):
        begun.write_bytes((path / "r").read_bytes()[:size])
        for command, *more in (
            ("replay", "--json"),
            ("events",),
            ("tree",),
            ("report", "--format", "json"),
            ("correlate", "--log", path / "log"),
        ):
            _, alone, _ = cli(command, path / "r", *more)
            status, out, err = cli(command, path / "r", begun, *more)
            assert (status, out) == (0, alone)
            assert f"{begun} holds nothing: whoever was to write it was killed" in err
            with pytest.raises(VigilesError, match="is no recording"):
                cli(command, begun, *more)
        assert group.main(["verify", str(path / "r"), str(begun)], standalone_mode=False) == 1
        _, out, _ = cli("verify", path / "r", begun)
        assert "r: intact" in out
        assert "r.2: NOT INTACT, 0 blocks\n  damaged: it holds nothing" in out
        _, out, _ = cli("verify", path / "r", begun, "--json")
        assert [row["intact"] for row in json.loads(out)] == [True, False]


def test_events_are_told_and_chosen(made):
    path, _ = made
    _, out, _ = cli("events", path / "r", "--kind", "exec", "--exe", "xmrig")
    assert out.count("\n") == 2 and "/opt/xmrig -o stratum+tcp://pool.test:3333" in out
    _, out, _ = cli("events", path / "r", "--json", "--pid", "10")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["kind"] for row in rows] == ["fork", "exec", "connect", "first-bytes", "exit"]
    assert rows[1]["argv"] == [a.decode() for a in MINER]
    assert rows[2]["remote"] == "198.51.100.7" and rows[2]["exe"] == "/opt/xmrig"
    assert bytes.fromhex(rows[3]["bytes"]) == LOGIN
    when = rows[4]["time"]
    _, out, _ = cli("events", path / "r", "--until", "2023-11-14T22:13:20Z")
    assert out == ""
    _, out, _ = cli("events", path / "r", "--since", "2023-11-14T22:13:20Z")
    assert len(out.splitlines()) == len(some_events(6)), when
    assert "there is no kind" in cli("events", path / "r", "--kind", "exce")[2]


def test_events_as_a_table(made):
    import pyarrow.parquet

    path, _ = made
    cli("events", path / "r", "--parquet", path / "t.parquet")
    columns = ["exe", "kind", "detail"]
    table = pyarrow.parquet.read_table(path / "t.parquet", columns=columns).to_pylist()
    assert len(table) == len(some_events(6))
    assert table[0]["exe"] == "/bin/sh" and table[0]["kind"] == "exec"
    assert json.loads(table[0]["detail"])["argv"] == ["/bin/sh"]


@settings(max_examples=60)
@given(st.data())
def test_hostile_payloads_raise_nothing(tmp_path_factory, data):
    """A recording that somebody made up, with a right CRC, is read to its end."""
    folder = tmp_path_factory.mktemp("hostile")
    kinds = st.sampled_from([k for k in layout.NAMES if k != layout.HEADER])
    raw = data.draw(
        st.lists(
            st.tuples(
                kinds,
                st.one_of(
                    st.binary(max_size=400),
                    st.builds(
                        msgpack.packb, st.recursive(st.integers(-5, 5) | st.text() | st.none(), st.lists)
                    ),
                    st.lists(st.sampled_from(some_events(3)), max_size=3).map(damaged).map(lay_out),
                ),
            ),
            max_size=5,
        )
    )
    engine = Engine(PACKS, processes=8, flows=8)
    written(folder / "r", [Block(kind, payload, 1, 1) for kind, payload in raw], header_of(engine))
    replayed(PACKS, folder / "r")
    (parts,) = in_order([folder / "r"])
    for event in events(parts, Filter()):
        json.dumps(event.to_json())
        event.detail()


def damaged(found: list[bytes]) -> list[bytes]:
    """Lengths that say more than there is."""
    out = []
    for number, record in enumerate(found):
        changed = bytearray(record)
        at = (number * 37 + 48) % len(changed)
        changed[at : at + 4] = b"\xff\xff\xff\xff"
        out.append(bytes(changed[: len(record)]))
    return out


def test_the_tap_is_laid_out_one_way():
    found = [b"a", b"12345678", b"", b"x" * 13]
    assert list(each(lay_out(found))) == found
    assert list(each(lay_out(found)[:-8])) == found[:-1]


def test_a_recording_is_closed_again(made):
    path, _ = made
    recording = Recording(path / "r")
    assert len(list(recording.blocks())) > 3
    recording.close()
