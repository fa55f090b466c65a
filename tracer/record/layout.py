# SPDX-License-Identifier: Apache-2.0
"""What a recording looks like on disk.

A msgpack stream of pairs, one a block: ``[head, payload]``, both binary. A head has a fixed size, so a block
begins with the same bytes everywhere, and a reader that has lost its way finds the next one.

    0x92  array of two
    0xc4  binary, 8-bit length, then HEAD and the chain
    0xc6  binary, 32-bit length, then the payload, compressed or not

The CRC is over head (itself as 0) and payload. The chain is BLAKE2b over the chain of the block before and
all of this one; with a key nobody else can make it. A file begins with a HEADER and, if its watch ended well,
ends with END, INDEX and TRAILER. Parts of one recording go on counting and chaining.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

#: Readers take this version and all before it.
FORMAT = 1

MAGIC = b"\xf5VGLBLK\n"  # 0xf5 is in no UTF-8 text
#: magic, type, codec, zero, number, first and last time (CLOCK_BOOTTIME ns), stored and raw length, CRC
HEAD = struct.Struct("<8sBBHQQQIII")
CHAIN_BYTES = 32
_BEFORE_HEAD = bytes((0x92, 0xC4, HEAD.size + CHAIN_BYTES))
#: Where a block begins, whatever is in it.
MARK = _BEFORE_HEAD + MAGIC
_BEFORE_PAYLOAD = struct.Struct(">BI")
_BIN32 = 0xC6
#: From the beginning of a block to its payload.
PREFIX_BYTES = len(_BEFORE_HEAD) + HEAD.size + CHAIN_BYTES + _BEFORE_PAYLOAD.size
NO_CHAIN = bytes(CHAIN_BYTES)

#: No block holds more; a longer one is none.
PAYLOAD_MAX = 1 << 26

#: The last thing in a file that ended well: an array of a name and where the INDEX block begins.
TRAILER = struct.Struct("<3s8s2sQ")
_TRAILER_NAME = b"VGLINDEX"

# Types of blocks, and what their payload is; msgpack unless it says otherwise
HEADER = 1  # who was watched, where, with what: see header.py
RECORDS = 2  # from the rings, laid out as a tap has them (raw)
FED = 3  # made in user space, counted nowhere, laid out likewise (raw)
TASKS = 4  # the kernel's list of the tree's processes (raw: TASK[n])
UNSEEN = 5  # who was born before this time and is not on that list has ended
RULES = 6  # what is judged by from here on
FILE = 7  # what was found in an executed file: about the FED block that follows
ALERT = 8  # as it was told
LOSS = 9  # losses since the block before, by kind and reason
CLOCK = 10  # where the wall clock stands
CGROUPS = 11  # names of cgroups, by number
GAP = 12  # blocks that could not be written
SNAPSHOT = 13  # the processes there are where a part begins (raw, as FED)
INDEX = 14
END = 15  # the sums
REPEAT = 16  # what was done about an alert that was counted, not told

NAMES = {
    HEADER: "header", RECORDS: "records", FED: "fed", TASKS: "tasks", UNSEEN: "unseen", RULES: "rules",
    FILE: "file", ALERT: "alert", LOSS: "loss", CLOCK: "clock", CGROUPS: "cgroups", GAP: "gap",
    SNAPSHOT: "snapshot", INDEX: "index", END: "end", REPEAT: "repeat",
}  # fmt: skip

# Codecs
RAW, ZSTD = 0, 1


Crc32: TypeAlias = Callable[[bytes | memoryview, int], int]


class Head(NamedTuple):
    """The fixed part of a block."""

    type: int
    codec: int
    number: int
    first_ns: int
    last_ns: int
    stored: int
    raw: int
    crc: int
    chain: bytes


def _crc(head: Head, payload: bytes | memoryview, crc32: Crc32 = zlib.crc32) -> int:
    return crc32(payload, zlib.crc32(_pack(head._replace(crc=0))))


def _pack(head: Head) -> bytes:
    return HEAD.pack(MAGIC, head.type, head.codec, 0, *head[2:8])


def chained(before: bytes, head: Head, payload: bytes | memoryview, key: bytes) -> bytes:
    """The chain value of a block whose head has its CRC."""
    digest = hashlib.blake2b(before, digest_size=CHAIN_BYTES, key=key)
    digest.update(_pack(head))
    digest.update(payload)
    return digest.digest()


def seal(head: Head, payload: bytes, before: bytes, key: bytes) -> tuple[bytes, bytes]:
    """(all bytes of a block but its payload, its chain value)."""
    head = head._replace(crc=_crc(head, payload))
    chain = chained(before, head, payload, key)
    return b"".join((_BEFORE_HEAD, _pack(head), chain, _BEFORE_PAYLOAD.pack(_BIN32, len(payload)))), chain


def open_head(data: bytes) -> Head | None:
    """The head in the first PREFIX_BYTES of a block; None if that is no block."""
    if len(data) < PREFIX_BYTES or not data.startswith(MARK):
        return None
    at = len(_BEFORE_HEAD)
    _, kind, codec, zero, number, first_ns, last_ns, stored, raw, crc = HEAD.unpack_from(data, at)
    chain = data[at + HEAD.size : at + HEAD.size + CHAIN_BYTES]
    head = Head(kind, codec, number, first_ns, last_ns, stored, raw, crc, chain)
    if zero or head.stored > PAYLOAD_MAX or head.raw > PAYLOAD_MAX or head.type not in NAMES:
        return None
    if _BEFORE_PAYLOAD.unpack_from(data, at + HEAD.size + CHAIN_BYTES) != (_BIN32, head.stored):
        return None
    return head


def is_whole(head: Head, payload: bytes | memoryview, crc32: Crc32 = zlib.crc32) -> bool:
    """Is the block as it was written, by its CRC? ``crc32``: zlib's, or one that says the same."""
    return len(payload) == head.stored and _crc(head, payload, crc32) == head.crc


def trailer(index_at: int) -> bytes:
    """What ends a file whose INDEX block begins at ``index_at``."""
    return TRAILER.pack(b"\x92\xc4\x08", _TRAILER_NAME, b"\xc4\x08", index_at)


def payload_of(data: memoryview, at: int, head: Head) -> memoryview:
    """The payload, as it is stored, of the block at ``at``; shorter where the data ends."""
    return data[at + PREFIX_BYTES : at + PREFIX_BYTES + head.stored]


def open_trailer(data: bytes) -> int | None:
    """Where the INDEX block begins, by the last bytes of a file; None if they are no trailer."""
    if len(data) != TRAILER.size:
        return None
    one, name, two, at = TRAILER.unpack(data)
    return at if (one, name, two) == (b"\x92\xc4\x08", _TRAILER_NAME, b"\xc4\x08") else None
