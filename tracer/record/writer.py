# SPDX-License-Identifier: Apache-2.0
"""Writes blocks, in a thread of its own: a slow or full disk costs blocks, which are counted, and never time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack

from tracer import clock
from tracer.errors import VigilesError
from tracer.promptness import schedule_patiently
from tracer.record import layout
from tracer.record.files import PartFiles
from tracer.record.layout import Head

#: So much may wait for the disk.
QUEUE_BYTES = 64 << 20
#: What a block takes besides its payload, so that many small ones are no way around that.
BLOCK_COST = 512
#: After a failure the disk is left alone so long.
RETRY_S = 0.5
#: How long the end of a watch waits for the disk.
PATIENCE_S = 10.0
#: Shorter ones hardly become smaller.
_COMPRESS_FROM = 512
#: No block, but an order: what comes next begins another file.
NEXT_FILE = 0


class Block(NamedTuple):
    """What is to be written. ``records``: how many are in it."""

    type: int
    payload: bytes
    first_ns: int = 0
    last_ns: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """``rotate_bytes``, ``rotate_s``: a new file after so much, 0: never. ``sync_s``: at most so old is what
    a power cut takes; 0: that is left to the kernel. ``key``: chains with it. ``zstd``: compress.
    """

    rotate_bytes: int = 0
    rotate_s: float = 0.0
    sync_s: float = 1.0
    key: bytes = b""
    zstd: bool = False


@dataclass(slots=True)
class Lost:
    """Blocks that were not written."""

    blocks: int = 0
    records: int = 0
    bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0
    why: set[str] = field(default_factory=set)

    def add(self, block: Block, why: str) -> None:
        """Count one."""
        self.blocks += 1
        self.records += block.records
        self.bytes += len(block.payload)
        self.first_ns = self.first_ns or block.first_ns or clock.boottime_ns()
        self.last_ns = max(self.last_ns, block.last_ns, self.first_ns)
        self.why.add(why)

    def to_msgpack(self) -> dict[str, Any]:
        """For a GAP block."""
        return {
            "blocks": self.blocks,
            "records": self.records,
            "bytes": self.bytes,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "why": sorted(self.why),
        }


class Writer:
    """Takes blocks from one thread, writes them in another, which begins with the first block.

    ``header`` is the first block of every file, but for what differs by part. The first one is written at
    once: raises VigilesError.
    """

    def __init__(self, files: PartFiles, header: dict[str, Any], options: WriteOptions) -> None:
        self._files = files
        self._header = header
        self._options = options
        self._compress = _compressor() if options.zstd else None
        self._chain = layout.NO_CHAIN
        self._number = 0
        self._index: list[tuple[int, int, int, int, int]] = []
        self._waiting: deque[Block] = deque()
        self._waiting_bytes = 0
        self._lost = Lost()  # not said in the file yet
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._retry_at = 0.0
        self._turning = False
        self._synced_at = time.monotonic()
        self._synced_bytes = 0
        #: sums of the whole watch, by now
        self.lost_blocks = 0
        self.lost_records = 0
        self.blocks = 0
        self.bytes = 0
        self.failure = ""
        #: how many files there have been
        self.parts = 1
        try:
            self._begin_file(self._files.part, self._files.append)
        except OSError as error:
            raise VigilesError(f"can't write {files.path}: {error.strerror}") from None

    def put(self, block: Block) -> None:
        """Have ``block`` written, if there is room for it to wait."""
        with self._lock:
            full = self._waiting_bytes + len(block.payload) + BLOCK_COST > QUEUE_BYTES
            if full and block.type != NEXT_FILE:
                self._count(block, "the disk was too slow")
                return
            self._waiting.append(block)
            self._waiting_bytes += len(block.payload) + BLOCK_COST
            self._lock.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vigiles-record", daemon=True)
            self._thread.start()

    def is_due(self) -> bool:
        """Is it time for another file?"""
        o = self._options
        full = o.rotate_bytes and self._files.size >= o.rotate_bytes
        old = o.rotate_s and time.monotonic() - self._file_began_at >= o.rotate_s
        return bool(full or old) and not self._turning

    def turn(self) -> None:
        """Begin another file: what is put next stands in that one."""
        self._turning = True
        self.put(Block(NEXT_FILE, b""))

    def _count(self, block: Block, why: str) -> None:
        self._lost.add(block, why)
        self.lost_blocks += 1
        self.lost_records += block.records

    def _run(self) -> None:
        schedule_patiently()
        while True:
            with self._lock:
                while not self._waiting and not self._ending:
                    if not self._lock.wait(self._until_sync()):
                        break
                block = self._waiting.popleft() if self._waiting else None
                if block is not None:
                    self._waiting_bytes -= len(block.payload) + BLOCK_COST
                elif self._ending:
                    break
            if block is not None:
                self._write(block)
            self._sync(force=False)
        self._finish()

    def _until_sync(self) -> float | None:
        if not self._options.sync_s:
            return None
        return max(self._options.sync_s - (time.monotonic() - self._synced_at), 0.05)

    def _sync(self, *, force: bool) -> None:
        now = time.monotonic()
        if not force and (not self._options.sync_s or now - self._synced_at < self._options.sync_s):
            return
        self._synced_at = now
        if self.bytes != self._synced_bytes:
            self._synced_bytes = self.bytes
            try:
                self._files.sync()
            except OSError as error:
                self.failure = error.strerror or str(error)

    def _write(self, block: Block) -> None:
        """Write one block; if that fails it is counted, and the file says so as soon as it can."""
        if time.monotonic() < self._retry_at:
            self._drop(block)
            return
        try:
            if block.type == NEXT_FILE:
                self._rotate()
                return
            self._tell_gap()
            self._append(block)
        except OSError as error:
            self.failure = error.strerror or str(error)
            self._retry_at = time.monotonic() + RETRY_S
            self._drop(block)

    def _drop(self, block: Block) -> None:
        if block.type == NEXT_FILE:
            self._turning = False  # this file goes on; the order comes again
            return
        with self._lock:
            self._count(block, self.failure)

    def _tell_gap(self) -> None:
        with self._lock:
            lost = self._lost
            if not lost.blocks:
                return
            self._lost = Lost()
        try:
            self._append(Block(layout.GAP, msgpack.packb(lost.to_msgpack()), lost.first_ns, lost.last_ns))
        except OSError:
            with self._lock:  # those that were lost meanwhile came later
                later, self._lost = self._lost, lost
                lost.blocks += later.blocks
                lost.records += later.records
                lost.bytes += later.bytes
                lost.last_ns = max(lost.last_ns, later.last_ns)
                lost.why |= later.why
            raise

    def _append(self, block: Block, write: Callable[[bytes], None] | None = None) -> None:
        """``write``: puts it where it belongs, if that is not behind what the file holds. Raises OSError."""
        payload, codec = block.payload, layout.RAW
        if self._compress is not None and block.type != layout.HEADER and len(payload) >= _COMPRESS_FROM:
            smaller = self._compress(payload)
            if len(smaller) < len(payload):
                payload, codec = smaller, layout.ZSTD
        head = Head(
            block.type, codec, self._number, block.first_ns, block.last_ns,
            len(payload), len(block.payload), 0, b"",
        )  # fmt: skip
        prefix, chain = layout.seal(head, payload, self._chain, self._options.key)
        data = prefix + payload
        (write or self._files.append)(data)
        at = self._files.size - len(data)
        self._chain = chain
        self._index.append((at, block.type, self._number, block.first_ns, block.last_ns))
        self._number += 1
        self.blocks += 1
        self.bytes += len(data)

    def _begin_file(self, part: int, write: Callable[[bytes], None]) -> None:
        """``write``: what makes a header the beginning of that file. Raises OSError; then nothing has changed."""
        now = clock.boottime_ns()
        header = self._header | {
            "part": part,
            "previous": self._chain,
            "began_ns": now,
            "wall_offset_ns": clock.wall_offset_ns(),
        }
        before, self._index = self._index, []
        try:
            self._append(Block(layout.HEADER, msgpack.packb(header), now, now), write)
        except OSError:
            self._index = before
            raise
        self._file_began_at = time.monotonic()

    def _rotate(self) -> None:
        """Raises OSError; then this file goes on as if nothing had been tried."""
        size, chain, number, listed = self._files.size, self._chain, self._number, len(self._index)
        blocks, bytes_ = self.blocks, self.bytes
        try:
            self._write_index()
            self._sync(force=True)
            self._begin_file(self._files.part + 1, self._files.next)
        except OSError:
            self._files.cut(size)
            self._chain, self._number = chain, number
            self.blocks, self.bytes = blocks, bytes_
            del self._index[listed:]
            raise
        self.parts += 1
        self._turning = False

    def _write_index(self) -> None:
        at = self._files.size
        self._append(Block(layout.INDEX, msgpack.packb(self._index)))
        self._files.append(layout.trailer(at))

    def _finish(self) -> None:
        try:
            self._tell_gap()
            self._write_index()
        except OSError as error:
            self.failure = error.strerror or str(error)
        self._sync(force=True)

    def close(self) -> bool:
        """Write what waits, end the file well. False if the disk did not take it in time. May be called again."""
        if self._thread is None:
            if self._files.fd >= 0:
                self._finish()
        else:
            with self._lock:
                self._ending = True
                self._lock.notify()
            self._thread.join(PATIENCE_S)
            if self._thread.is_alive():
                return False  # it has the descriptors; both go with the process
            self._thread = None
        self._files.close()
        return True


def _compressor() -> Any:
    try:
        import zstandard
    except ImportError:
        raise VigilesError(
            "recordings can't be compressed: zstandard is not installed", hint="pip install 'vigiles[zstd]'"
        ) from None
    return zstandard.ZstdCompressor(level=3).compress
