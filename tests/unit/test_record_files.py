# SPDX-License-Identifier: Apache-2.0
"""What is on disk: any part of it can be read, and nothing in it can be changed unseen."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import Block, header_of, layout, written

from tracer.engine.engine import Engine
from tracer.errors import VigilesError
from tracer.record import writer as writer_module
from tracer.record.files import PartFiles
from tracer.record.open import read_key
from tracer.record.reader import Recording, UnbegunError, in_order
from tracer.record.verify import verify
from tracer.record.writer import WriteOptions, Writer
from tracer.rules import load_rules

HEADER = header_of(Engine(load_rules(), processes=4, flows=4))
BLOCKS = [
    Block(layout.CLOCK, msgpack.packb(7), 1, 1),
    Block(layout.ALERT, msgpack.packb({"rule": "x" * 40}), 5, 9),
    Block(layout.LOSS, msgpack.packb({"kinds": {}}), 9, 9),
]
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "r"
    written(path, BLOCKS, HEADER)
    return path.read_bytes()


def contents(path: Path) -> list[tuple[int, bytes]]:
    recording = Recording(path)
    return [(f.head.type, bytes(f.stored)) for f in recording.blocks()]


def ends(data: bytes) -> list[int]:
    """Where blocks end."""
    found, at = [], 0
    while head := layout.open_head(data[at : at + layout.PREFIX_BYTES]):
        at += layout.PREFIX_BYTES + head.stored
        found.append(at)
    return found


def test_it_is_msgpack(whole):
    unpacker = msgpack.Unpacker()
    unpacker.feed(whole)
    rows = list(unpacker)
    assert len(rows) == 1 + len(BLOCKS) + 1 + 1  # header, index, trailer
    assert msgpack.unpackb(rows[0][1])["tree"] == "tree-1"
    assert [row[1] for row in rows[1:4]] == [block.payload for block in BLOCKS]
    index = msgpack.unpackb(rows[4][1])
    assert [row[0] for row in index] == [0, *ends(whole)[:3]]
    assert layout.open_trailer(whole[-layout.TRAILER.size :]) == ends(whole)[3]


@settings(max_examples=150)
@given(st.data())
def test_any_beginning_can_be_read(whole, tmp_path_factory, data):
    size = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(whole[:size])
    intact = [end for end in ends(whole) if end <= size]
    if not intact:
        with pytest.raises(VigilesError, match="no recording"):
            Recording(path)
        return
    recording = Recording(path)
    assert [f.end for f in recording.blocks()] == intact
    rest = size - intact[-1]
    at_end = size == len(whole) or not rest
    assert [(d.start, d.end) for d in recording.damage] == ([] if at_end else [(intact[-1], size)])


@settings(max_examples=150)
@given(st.data())
def test_any_changed_byte_is_found(whole, tmp_path_factory, data):
    at = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "flipped"
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        (verdict,) = verify([path])
    except VigilesError:
        assert at < ends(whole)[0]
        return
    assert not verdict.intact
    if at < ends(whole)[-1]:
        block = next(n for n, end in enumerate(ends(whole)) if at < end)
        told = " ".join((*verdict.changed, *verdict.damaged, *verdict.missing))
        assert f"block {block}" in told
    others = {bytes(b.payload) for b in BLOCKS}
    assert len(others - {stored for _, stored in contents(path)}) <= 1


@settings(max_examples=100)
@given(st.data())
def test_garbage_between_blocks_costs_no_block(whole, tmp_path_factory, data):
    at = data.draw(st.sampled_from(ends(whole)[:-1]))
    garbage = data.draw(st.binary(min_size=1, max_size=300))
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(whole[:at] + garbage + whole[at:])
    recording = Recording(path)
    assert len(list(recording.blocks())) == len(ends(whole))
    assert recording.damage[0].start == at


def rechained(data: bytes, number: int, payload: bytes, key: bytes = b"") -> bytes:
    """Block ``number`` with another payload, its CRC and all chain values made anew."""
    starts = [0, *ends(data)]
    out, chain = b"", layout.NO_CHAIN
    for n in range(len(starts) - 1):
        head = layout.open_head(data[starts[n] : starts[n] + layout.PREFIX_BYTES])
        here = data[starts[n] + layout.PREFIX_BYTES : starts[n + 1]] if n != number else payload
        prefix, chain = layout.seal(head._replace(stored=len(here), raw=len(here)), here, chain, key)
        out += prefix + here
    return out + data[starts[-1] :]


def test_a_block_with_another_crc_is_named(whole, tmp_path):
    path = tmp_path / "r"
    starts = [0, *ends(whole)]
    head = layout.open_head(whole[starts[2] : starts[2] + layout.PREFIX_BYTES])
    payload = msgpack.packb({"rule": "y" * 40})
    forged = rechained(whole, 2, payload)
    new = forged[starts[2] : starts[3]].replace(
        layout.open_head(forged[starts[2] : starts[2] + layout.PREFIX_BYTES]).chain, head.chain
    )
    path.write_bytes(whole[: starts[2]] + new + whole[starts[3] :])
    (verdict,) = verify([path])
    assert verdict.changed == ["block 2 (alert) was changed"] and not verdict.damaged


def test_only_a_key_keeps_others_from_chaining_anew(tmp_path):
    signed = tmp_path / "signed"
    written(signed, BLOCKS, HEADER | {"signed": True}, key=KEY)
    assert verify([signed], KEY)[0].intact
    assert not verify([signed])[0].key_known
    forged = tmp_path / "forged"
    forged.write_bytes(rechained(signed.read_bytes(), 2, msgpack.packb({"rule": "harmless"})))
    assert not verify([forged], KEY)[0].intact
    assert any("block 0" in line for line in verify([forged], KEY)[0].changed)


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_block_taken_out_is_missed(whole, tmp_path, gone):
    starts = [0, *ends(whole)]
    path = tmp_path / "r"
    path.write_bytes(whole[: starts[gone]] + whole[starts[gone + 1] :])
    (verdict,) = verify([path])
    assert verdict.missing == [str(gone)] and not verdict.intact


@pytest.mark.parametrize("zstd", [False, True])
def test_parts_go_on_where_the_one_before_ended(tmp_path, zstd):
    blocks = [
        Block(layout.ALERT, msgpack.packb({"n": n, "x": random.randbytes(2000)}), n, n) for n in range(40)
    ]
    writer = written(tmp_path / "r", blocks, HEADER, rotate_bytes=8192, zstd=zstd)
    paths = [tmp_path / "r", *sorted(tmp_path.glob("r.*"), key=lambda p: int(p.suffix[1:]))]
    assert writer.parts == len(paths) > 1
    (parts,) = in_order(list(reversed(paths)))
    assert [r.header.part for r in parts] == list(range(1, len(paths) + 1))
    payloads = [r.payload(f) for r in parts for f in r.blocks() if f.head.type == layout.ALERT]
    read = [msgpack.unpackb(payload)["n"] for payload in payloads]
    assert read == list(range(40))
    assert all(v.intact for v in verify(paths))
    other_order = verify([paths[0], *paths[2:]])
    assert all(v.intact for v in other_order)  # a part that was not given is no damage
    with pytest.raises(VigilesError, match="same part"):
        in_order([paths[0], paths[0]])


def test_old_parts_make_room(tmp_path):
    blocks = [Block(layout.ALERT, bytes(4000), n, n) for n in range(60)]
    writer = written(tmp_path / "r", blocks, HEADER, rotate_bytes=8192, keep_bytes=40_000)
    left = sorted(tmp_path.iterdir())
    assert sum(p.stat().st_size for p in left) < 40_000 + 20_000
    assert writer.parts > len(left) > 2
    assert not (tmp_path / "r").exists()


def test_a_recording_is_never_overwritten(tmp_path):
    (tmp_path / "r").write_text("there")
    with pytest.raises(VigilesError, match="is there already"):
        PartFiles(tmp_path / "r")
    (tmp_path / "l").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VigilesError):
        PartFiles(tmp_path / "l")
    assert not (tmp_path / "elsewhere").exists()
    files = PartFiles(tmp_path / "empty")
    files.close()
    assert not (tmp_path / "empty").exists()  # nothing is left of a watch that did not begin
    assert PartFiles(tmp_path / "new").fd >= 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_a_disk_that_was_full_leaves_a_gap(tmp_path, monkeypatch):
    """Half of a block must not stay either: what comes next begins where it would have."""
    monkeypatch.setattr(writer_module, "RETRY_S", 0.0)
    full = threading.Event()
    really = os.pwrite

    def pwrite(fd, data, at):
        if full.is_set():
            if len(data) > 10:
                return really(fd, data[:10], at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    writer = Writer(PartFiles(tmp_path / "r"), HEADER, WriteOptions())
    passed = threading.Event()

    def put(block: Block) -> None:
        writer.put(block)
        while writer._waiting:
            passed.wait(0.001)

    put(BLOCKS[0])
    full.set()
    for n in range(3):
        put(Block(layout.RECORDS, b"lost", 10 + n, 20 + n, 5))
    while writer.lost_blocks < 3:
        passed.wait(0.001)
    full.clear()
    put(BLOCKS[1])
    assert writer.close()
    assert (writer.lost_blocks, writer.lost_records) == (3, 15)
    assert writer.failure == os.strerror(errno.ENOSPC)
    recording = Recording(tmp_path / "r")
    found = list(recording.blocks())
    kinds = [layout.NAMES[f.head.type] for f in found]
    assert kinds == ["header", "clock", "gap", "alert", "index"] and not recording.damage
    gap = recording.read(found[2])
    assert (gap["blocks"], gap["records"], gap["first_ns"], gap["last_ns"]) == (3, 15, 10, 22)
    assert gap["why"] == [os.strerror(errno.ENOSPC)]
    (verdict,) = verify([tmp_path / "r"])
    assert verdict.intact and verdict.gaps == [gap]


@pytest.mark.parametrize("fails", ["index", "trailer", "header", "open"])
def test_a_next_file_that_can_not_be_made_leaves_the_one_before_as_it_was(tmp_path, monkeypatch, fails: str):
    """And it is made when it can be: no block is lost, and no file is left that nobody can read."""
    monkeypatch.setattr(writer_module, "RETRY_S", 0.0)
    writer = Writer(PartFiles(tmp_path / "r"), HEADER, WriteOptions())
    writer._write(BLOCKS[0])
    good = ["index", "trailer", "header"].index(fails) if fails != "open" else 99
    really, opens = os.pwrite, os.open

    def pwrite(fd, data, at):
        nonlocal good
        good -= 1
        if good < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(fd, data, at)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        if fails == "open":
            patch.setattr(os, "open", refuse)
        writer._turning = True
        writer._write(Block(writer_module.NEXT_FILE, b""))
        assert not writer._turning and writer.failure and writer.parts == 1
    assert os.open is opens
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    writer._write(BLOCKS[1])
    writer._write(Block(writer_module.NEXT_FILE, b""))
    writer._write(BLOCKS[2])
    assert writer.close() and writer.parts == 2 and writer.lost_blocks == 0
    paths = [tmp_path / "r", tmp_path / "r.2"]
    kinds = [[layout.NAMES[f.head.type] for f in Recording(path).blocks()] for path in paths]
    assert kinds[0] == ["header", *(layout.NAMES[b.type] for b in BLOCKS[:2]), "index"]
    assert kinds[1] == ["header", layout.NAMES[BLOCKS[2].type], "index"]
    assert writer.blocks == sum(map(len, kinds)) and writer.bytes + 2 * layout.TRAILER.size == sum(
        path.stat().st_size for path in paths
    )
    assert all(verdict.intact for verdict in verify(paths))


def test_a_next_file_that_may_not_be_given_away_is_none(tmp_path, monkeypatch):
    files = PartFiles(tmp_path / "r")
    files.append(b"here")

    def refuse(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    held = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="not permitted"):
            files.next(b"there")
    assert len(os.listdir("/proc/self/fd")) == held
    files.append(b", still")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert (tmp_path / "r").read_bytes() == b"here, still"
    files.close()


def test_a_slow_disk_costs_blocks_and_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "QUEUE_BYTES", 10 * (1000 + writer_module.BLOCK_COST))
    slow, go_on = threading.Event(), threading.Event()
    really = PartFiles.append

    def append(self, data):
        if slow.is_set():
            go_on.wait(30)
        really(self, data)

    monkeypatch.setattr(PartFiles, "append", append)
    writer = Writer(PartFiles(tmp_path / "r"), HEADER, WriteOptions())
    slow.set()
    for n in range(40):
        writer.put(Block(layout.RECORDS, bytes(1000), n, n, 2))
    lost = writer.lost_blocks
    assert 28 <= lost <= 30  # ten wait, one is being written
    go_on.set()
    assert writer.close()
    recording = Recording(tmp_path / "r")
    gaps = [recording.read(f) for f in recording.blocks() if f.head.type == layout.GAP]
    assert sum(gap["blocks"] for gap in gaps) == lost
    assert sum(gap["records"] for gap in gaps) == 2 * lost
    kept = [f for f in recording.blocks() if f.head.type == layout.RECORDS]
    assert len(kept) == 40 - lost


def test_it_can_be_read_while_it_is_written(tmp_path):
    writer = Writer(PartFiles(tmp_path / "r"), HEADER, WriteOptions())
    assert contents(tmp_path / "r")[0][0] == layout.HEADER
    writer.put(BLOCKS[0])
    while writer.blocks < 2:
        threading.Event().wait(0.001)
    assert [kind for kind, _ in contents(tmp_path / "r")] == [layout.HEADER, layout.CLOCK]
    assert not verify([tmp_path / "r"])[0].ended and verify([tmp_path / "r"])[0].intact
    assert writer.close()


def test_keys(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o644)
    with pytest.raises(VigilesError, match="others"):
        read_key(key)
    key.chmod(0o600)
    assert len(read_key(key)) == 32 != hashlib.blake2b(b"k" * 32, digest_size=32).digest()
    key.write_bytes(b"short")
    with pytest.raises(VigilesError, match="no key"):
        read_key(key)
    with pytest.raises(VigilesError, match="can't read"):
        read_key(tmp_path / "none")


def test_what_is_no_recording(tmp_path):
    for said in (b"", b"hello", bytes(1000), layout.MARK + bytes(200)):
        (tmp_path / "r").write_bytes(said)
        with pytest.raises(VigilesError, match="no recording"):
            Recording(tmp_path / "r")
    (tmp_path / "r").write_bytes(b"")
    with pytest.raises(UnbegunError, match="empty") as empty:
        Recording(tmp_path / "r")
    assert empty.value.hint is not None and "leave it out" in empty.value.hint
    with pytest.raises(VigilesError, match="can't read"):
        Recording(tmp_path / "none")


def why_not(path: Path) -> type[VigilesError] | None:
    try:
        Recording(path).close()
    except VigilesError as error:
        return type(error)
    return None


def test_every_beginning_of_a_header_holds_nothing(whole, tmp_path):
    (tmp_path / "r").write_bytes(whole)
    for size in reversed(range(ends(whole)[0])):
        os.truncate(tmp_path / "r", size)
        assert why_not(tmp_path / "r") is UnbegunError


@settings(max_examples=40)
@given(st.data())
def test_a_file_that_holds_nothing_is_left_out(whole, tmp_path_factory, data):
    """As long as there are others, and somebody is told."""
    path = tmp_path_factory.getbasetemp() / "begun"
    (other := path.with_name("other")).write_bytes(whole)
    path.write_bytes(whole[: data.draw(st.integers(0, ends(whole)[0] - 1))])
    left_out: list[UnbegunError] = []
    for paths in ([other, path], [path, other]):
        ((part,),) = in_order(paths, left_out.append)
        assert part.path == other
    assert [error.path for error in left_out] == [path, path]
    first, second = verify([other, path])
    assert first.intact and not second.intact
    assert second.damaged == [f"it {left_out[0].said}"] and not (second.changed or second.missing)
    with pytest.raises(UnbegunError, match="begun is no recording"):
        in_order([path, path], left_out.append)
    with pytest.raises(UnbegunError, match="begun is no recording"):
        verify([path, path])
    with pytest.raises(UnbegunError):  # nobody would be told
        in_order([other, path])


@settings(max_examples=150)
@given(st.data())
def test_what_is_something_else_is_not_left_out(whole, tmp_path_factory, data):
    """A damaged header is no beginning of one, and a cut one is none with blocks behind it."""
    header = ends(whole)[0]
    size, rest = data.draw(st.integers(0, header - 1)), whole[header:]
    changed = bytearray(whole[:header])
    changed[data.draw(st.integers(0, header - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "else"
    for said in (whole[:size] + rest, bytes(changed) + rest, b"x" + whole[:size], b"a text"):
        path.write_bytes(said)
        assert why_not(path) is not UnbegunError


def test_a_later_format_is_refused(tmp_path):
    written(tmp_path / "r", [], HEADER | {"format": layout.FORMAT + 1, "vigiles": "9.9"})
    with pytest.raises(VigilesError, match=r"vigiles 9\.9"):
        Recording(tmp_path / "r")


def test_a_payload_that_lies_about_its_length(tmp_path):
    """A few bytes that would become gigabytes are not decompressed."""
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(layout.PAYLOAD_MAX + 1))
    head = layout.Head(layout.RECORDS, layout.ZSTD, 1, 0, 0, len(bomb), layout.PAYLOAD_MAX, 0, b"")
    written(tmp_path / "r", [], HEADER)
    data = (tmp_path / "r").read_bytes()
    at = ends(data)[0]
    prefix, _ = layout.seal(head, bomb, layout.NO_CHAIN, b"")
    (tmp_path / "r").write_bytes(data[:at] + prefix + bomb)
    recording = Recording(tmp_path / "r")
    *_, found = recording.blocks()
    assert recording.payload(found) is None
    assert "decompressed" in recording.damage[0].why
