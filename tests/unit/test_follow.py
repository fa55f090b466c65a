# SPDX-License-Identifier: Apache-2.0
"""Recordings read while they are written: everything once, whatever was half there at a look."""

from __future__ import annotations

import pytest
import stories
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import Live

from tracer.cli import group
from tracer.record import layout
from tracer.record.follow import Follower
from tracer.record.reader import in_order
from tracer.report.live import Live as Shown
from tracer.rules import load_rules

PACKS = load_rules()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "r"
    stories.make(path, processes=12).end()
    return path.read_bytes()


def blocks_of(*paths) -> list[tuple[int, int]]:
    (parts,) = in_order(list(paths))
    kept = [(f.head.type, f.head.number) for part in parts for f in part.blocks()]
    return [block for block in kept if block[0] != layout.INDEX]


def seen(follower: Follower) -> list[tuple[int, int]]:
    return [(f.head.type, f.head.number) for f in follower.look() if f.head.type != layout.INDEX]


@settings(max_examples=60)
@given(st.data())
def test_every_block_is_seen_once(whole, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("growing") / "r"
    first = layout.PREFIX_BYTES + layout.open_head(whole[: layout.PREFIX_BYTES]).stored
    cuts = sorted(data.draw(st.lists(st.integers(first, len(whole)), max_size=8)))
    path.write_bytes(whole[:first])
    follower, found = Follower(path), []
    for cut in [*cuts, len(whole)]:
        with path.open("r+b") as file:
            file.write(whole[:cut])
        found += seen(follower)
    assert follower.ended and not follower.damaged
    assert found == blocks_of(path)[: len(found)] and found[-1][0] == layout.END
    follower.close()


def test_from_one_file_into_the_next(tmp_path):
    live = Live(tmp_path / "r", PACKS, rotate_bytes=6000)
    follower, found = Follower(tmp_path / "r"), []
    for number in range(30):
        live.take([stories.fork(100 + number, 1, number + 1)] * 20)
        while live.writer._waiting:
            pass
        found += seen(follower)
    live.end()
    found += seen(follower)
    paths = [tmp_path / "r", *sorted(tmp_path.glob("r.*"), key=lambda p: int(p.suffix[1:]))]
    assert len(paths) > 3 and found == blocks_of(*paths) and follower.ended


def test_a_next_file_that_is_being_made(tmp_path):
    """It is there before its first block is."""
    live = Live(tmp_path / "r", PACKS, rotate_bytes=6000)
    while not (tmp_path / "r.3").exists():
        live.take([stories.fork(100, 1, 1)] * 20)
    live.end()
    later = {path: path.read_bytes() for path in tmp_path.glob("r.*")}
    header = layout.PREFIX_BYTES + layout.open_head(later[tmp_path / "r.2"][: layout.PREFIX_BYTES]).stored
    for path in later:
        path.unlink()
    follower = Follower(tmp_path / "r")
    found = seen(follower)
    for size in (0, 5, header - 1):
        (tmp_path / "r.2").write_bytes(later[tmp_path / "r.2"][:size])
        assert seen(follower) == []
    for path, data in later.items():
        path.write_bytes(data)
    found += seen(follower)
    paths = [tmp_path / "r", *sorted(later, key=lambda p: int(p.suffix[1:]))]
    assert found == blocks_of(*paths) and follower.ended and not follower.damaged
    follower.close()


def test_from_a_later_file_on(tmp_path):
    """Who was there before is in it; what comes is in the next ones."""
    live = Live(tmp_path / "r", PACKS, rotate_bytes=6000)
    live.take([stories.records.execute([b"python3", b"train.py"], b"/usr/bin/python3", tgid=1, ts=1)])
    for number in range(200):
        live.take([stories.fork(100 + number, 1, number + 2), stories.finish(100 + number, number + 2)] * 20)
        while live.writer._waiting:
            pass
    live.take([stories.fork(999, 1, 500)])
    live.end()
    assert live.writer.parts > 3
    shown, follower = Shown(), Follower(tmp_path / "r.2")
    shown.take(follower)
    assert follower.ended and follower.recording.header.part == live.writer.parts
    assert sorted((p.pid, p.command) for p in shown.rows(9)) == [
        (1, "python3 train.py"),
        (999, "python3 train.py"),
    ]
    follower.close()


def test_what_is_damaged_is_passed_over(whole, tmp_path):
    starts = [i for i in range(len(whole)) if whole.startswith(layout.MARK, i)]
    broken = bytearray(whole)
    broken[starts[4] + 2] ^= 0xFF
    (tmp_path / "r").write_bytes(broken)
    follower = Follower(tmp_path / "r")
    found = seen(follower)
    assert follower.damaged == 1 and follower.ended
    (tmp_path / "whole").write_bytes(whole)
    everything = blocks_of(tmp_path / "whole")
    assert [block for block in everything if block not in found] == [everything[4]]


def test_who_is_there(tmp_path):
    live = Live(tmp_path / "r", PACKS)
    live.take(
        [
            stories.records.execute([b"python3", b"train.py"], b"/usr/bin/python3", tgid=1, ts=1),
            stories.fork(2, 1, 2),
            stories.records.execute([b"./xmrig", b"\x1b[2J"], b"/tmp/xmrig", tgid=2, ts=3),
            stories.records.connect("198.51.100.7", 3333, tgid=2, ts=4, cookie=5),
            stories.fork(3, 1, 5),
            stories.finish(3, 6),
        ]
    )
    live.recorder.before()
    while live.writer._waiting or live.writer.blocks < 3:
        pass
    shown, follower = Shown(), Follower(tmp_path / "r")
    while not shown.alerts:
        shown.take(follower)
    assert [(p.pid, p.rules, len(p.flows)) for p in shown.rows(9)] == [(2, ["miner.command"], 1), (1, [], 0)]
    assert shown.seen == 3 and shown.by_severity == {"critical": 1}
    live.take(
        [stories.records.close(5, "198.51.100.7", 3333, tgid=2, ts=9, sent=70, received=80, established=1)]
    )
    live.end()
    shown.take(follower)
    assert [(p.sent, p.received, len(p.flows)) for p in shown.rows(1)] == [(70, 80, 0)]
    result = CliRunner().invoke(group, ["top", str(tmp_path / "r")])
    assert "miner.command" in result.stdout and "\x1b[2J" not in result.stdout and "ended" in result.stdout
