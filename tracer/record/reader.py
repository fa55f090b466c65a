# SPDX-License-Identifier: Apache-2.0
"""Reads what can be read of a recording, and says what can't.

Nothing in a file is trusted: lengths are bounded before anything is read, a damaged block costs itself alone,
and whoever wants to know whether somebody has changed it asks :mod:`.verify`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from tracer.errors import VigilesError
from tracer.record import layout
from tracer.record.adapt import Adapter
from tracer.record.checksum import crc32
from tracer.record.header import Header
from tracer.record.layout import Head
from tracer.record.shapes import SHAPES

_RECORDS = (layout.RECORDS, layout.FED, layout.SNAPSHOT)


class UnbegunError(VigilesError):
    """A file that holds nothing, or only the beginning of its first block; ``said``: that, behind its name."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        why = "whoever was to write it was killed as it was made, or it was cut"
        self.said = f"holds nothing: {why}"
        what = f"it ends after {size:,} bytes, in its first block" if size else "it is empty"
        super().__init__(f"{path} is no recording: {what}", hint=f"leave it out: {why}")


class Damage(NamedTuple):
    """Bytes ``start`` to ``end`` of a file that are no whole block; ``block``: its number, if that is known."""

    start: int
    end: int
    block: int | None
    why: str

    def __str__(self) -> str:
        which = "" if self.block is None else f"block {self.block}, "
        return f"{which}bytes {self.start:,} to {self.end:,}: {self.why}"


@dataclass(frozen=True, slots=True)
class Found:
    """A whole block, and where it is. ``stored``: its payload as it lay in the file when that was looked at."""

    at: int
    head: Head
    stored: bytes | memoryview

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.at + layout.PREFIX_BYTES + self.head.stored


class Recording:
    """One file. ``damage`` grows as it is read.

    Raises VigilesError when it is no recording, or one of a later format; UnbegunError when it was to become one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[Damage] = []
        self._data: mmap.mmap | bytes = b""
        self._decompress: Callable[[bytes], bytes] | None = None
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size:
                    self._data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise VigilesError(f"can't read {path}: {why}") from None
        self.size = len(self._data)
        self.header = self._read_header()
        try:
            self._adapter = Adapter(self.header.events)
        except (ValueError, KeyError, TypeError):
            raise VigilesError(f"{path}: its header does not say how events are laid out") from None

    def _read_header(self) -> Header:
        if self._is_unbegun():
            raise UnbegunError(self.path, self.size)
        first = next(self._scan([]), None)
        if first is None or first.head.type != layout.HEADER or first.head.codec != layout.RAW:
            raise VigilesError(f"{self.path} is no recording", hint="vigiles run --record FILE makes one")
        header = Header.read(bytes(first.stored))
        if header is None or header.format > layout.FORMAT:
            made_by = f", which vigiles {header.vigiles} has made" if header else ""
            raise VigilesError(f"{self.path}: this version can't read its format{made_by}")
        return header

    def _is_unbegun(self) -> bool:
        """Is this what a writer leaves that is killed before its header is written?"""
        beginning = bytes(self._data[: layout.PREFIX_BYTES])
        if not beginning.startswith(layout.MARK[: self.size]) or self._data.find(layout.MARK, 1) >= 0:
            return False
        if self.size < layout.PREFIX_BYTES:
            return True
        head = layout.open_head(beginning)
        return (
            head is not None
            and (head.type, head.codec) == (layout.HEADER, layout.RAW)
            and self.size < layout.PREFIX_BYTES + head.stored
        )

    def _scan(self, damage: list[Damage]) -> Iterator[Found]:
        """Every whole block, in order; what lies between them goes to ``damage``."""
        view = memoryview(self._data)
        at, expected, index_at = 0, 0, -1
        while at < self.size:
            head = layout.open_head(bytes(view[at : at + layout.PREFIX_BYTES]))
            end = at + layout.PREFIX_BYTES + head.stored if head else 0
            if head and end <= self.size:
                payload = bytes(layout.payload_of(view, at, head))  # read once: the file may change
                if layout.is_whole(head, payload, crc32):
                    yield Found(at, head, payload)
                    index_at = at if head.type == layout.INDEX else index_at
                    at, expected = end, head.number + 1
                    continue
            if layout.open_trailer(bytes(view[at:])) == index_at:
                return
            after = self._data.find(layout.MARK, at + 1)
            if after < 0:
                after = self.size
            cut = after == self.size and (head is None or end > self.size)
            why = "the file ends in the middle of a block" if cut else "not as it was written"
            damage.append(Damage(at, after, expected if expected or head else None, why))
            at, expected = after, expected + 1

    def of_types(self, *types: int) -> Iterator[Found]:
        """The whole blocks of these types, without a look at what others hold."""
        view = memoryview(self._data)
        at = 0
        while 0 <= at < self.size:
            head = layout.open_head(bytes(view[at : at + layout.PREFIX_BYTES]))
            if head is None or at + layout.PREFIX_BYTES + head.stored > self.size:
                at = self._data.find(layout.MARK, at + 1)
                continue
            payload = layout.payload_of(view, at, head)
            if head.type in types and layout.is_whole(head, payload):
                yield Found(at, head, payload)
            at += layout.PREFIX_BYTES + head.stored

    def blocks(self) -> Iterator[Found]:
        """Every whole block, in order. What is damaged is in ``damage`` afterwards, once."""
        found: list[Damage] = []
        for block in self._scan(found):
            self._tell(found)
            yield block
        self._tell(found)

    def _tell(self, found: list[Damage]) -> None:
        self.damage += [damage for damage in found if damage not in self.damage]
        found.clear()

    def payload(self, found: Found) -> bytes | None:
        """What a block holds, with records in this version's layout; None, and damage, if it can't be had."""
        raw: bytes | None = bytes(found.stored)  # no copy, if that is what it is
        if found.head.codec == layout.ZSTD:
            raw = self._decompressed(found)
        elif found.head.codec != layout.RAW:
            raw = None
        if raw is None or len(raw) != found.head.raw:
            self._tell([Damage(found.at, found.end, found.head.number, "its payload can't be decompressed")])
            return None
        return self._adapter.convert(raw) if found.head.type in _RECORDS else raw

    def _decompressed(self, found: Found) -> bytes | None:
        if self._decompress is None:
            self._decompress = _decompressor(self.path)
        try:
            # a frame says how long it is: never make more than the head allows
            return self._decompress(bytes(found.stored))
        except Exception:  # noqa: BLE001 - zstandard's own error, which is not imported here
            return None

    def read(self, found: Found) -> Any:
        """The object in a block, see :mod:`.shapes`; None, and damage, if there is none of that shape."""
        raw = self.payload(found)
        if raw is None:
            return None
        try:
            said = msgpack.unpackb(raw, strict_map_key=False)
        except (ValueError, TypeError):  # TypeError: a map whose key is one
            said = None
        if found.head.type not in SHAPES or not SHAPES[found.head.type](said):
            why = f"it holds no {layout.NAMES[found.head.type]}"
            self._tell([Damage(found.at, found.end, found.head.number, why)])
            return None
        return said

    @property
    def records_skipped(self) -> int:
        """Records that this version has no place for."""
        return self._adapter.skipped

    def close(self) -> None:
        """Unmap it."""
        if isinstance(self._data, mmap.mmap):
            try:
                self._data.close()
            except BufferError:  # somebody still looks at a block
                self._data = b""


def _decompressor(path: Path) -> Callable[[bytes], bytes]:
    try:
        import zstandard
    except ImportError:
        raise VigilesError(
            f"{path} is compressed, and zstandard is not installed", hint="pip install 'vigiles[zstd]'"
        ) from None
    decompressor = zstandard.ZstdDecompressor()

    def decompress(stored: bytes) -> bytes:
        size = zstandard.frame_content_size(stored)
        if not 0 <= size <= layout.PAYLOAD_MAX:
            raise ValueError("too long")
        found: bytes = decompressor.decompress(stored)
        return found

    return decompress


def in_order(
    paths: list[Path], leave_out: Callable[[UnbegunError], None] | None = None
) -> list[list[Recording]]:
    """Open them all; the parts of each recording together and in order. Raises VigilesError.

    ``leave_out`` is told of files that hold nothing, which are left out as long as there are others.
    """
    together: dict[str, list[Recording]] = {}
    unbegun = []
    for path in paths:
        try:
            recording = Recording(path)
        except UnbegunError as error:
            unbegun.append(error)
            continue
        together.setdefault(recording.header.recording, []).append(recording)
    for nothing in unbegun:
        if leave_out is None or not together:
            raise nothing
        leave_out(nothing)
    for parts in together.values():
        parts.sort(key=lambda r: r.header.part)
        for one, two in pairwise(parts):
            if one.header.part == two.header.part:
                raise VigilesError(f"{one.path} and {two.path} are the same part of one recording")
    return sorted(together.values(), key=lambda parts: parts[0].header.began_ns)
