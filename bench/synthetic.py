# SPDX-License-Identifier: Apache-2.0
"""Records as the probes would send them, and a ring in plain memory to read them from."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from tracer.engine.intrinsics import address_of
from tracer.engine.ring import HEADER_BYTES
from tracer.kernel import schema

KIND = schema.KIND
#: What engines are to judge by (``judge_by``), to believe the verdicts in these records as they do a probe's.
EPOCH = 1
_RECENT = 1_000_000_000


def _head(layout: np.dtype[np.void], kind: str, tgid: int, ts: int) -> np.ndarray:
    row = np.zeros((), layout)
    row["kind"] = KIND[kind]
    row["ts"] = ts
    row["tgid"] = row["tid"] = tgid
    row["start"] = tgid * 1000
    row["size"] = layout.itemsize
    if "epoch" in (layout.names or ()):
        row["epoch"] = EPOCH
    row["ring"] = int(kind not in ("EVENT_FORK", "EVENT_EXEC", "EVENT_EXIT"))
    return row


def fork(tgid: int, parent: int, ts: int, *, span: int = 0) -> bytes:
    """``span``: the parent's number for the span that the child is born in."""
    row = _head(schema.FORK, "EVENT_FORK", tgid, ts)
    row["parent_tgid"], row["parent_start"] = parent, parent * 1000
    if span:
        row["span_tgid"], row["span_start"], row["span_token"] = parent, parent * 1000, span
    return row.tobytes()


def span(owner: int, ts: int, number: int, *, ends: bool = False) -> bytes:
    row = _head(schema.SPAN, "EVENT_SPAN", owner, ts)
    row["span_tgid"], row["span_start"], row["span_token"] = owner, owner * 1000, number + 1
    row["what"] = schema.SPAN_WHAT["SPAN_END" if ends else "SPAN_BEGIN"]
    text = b"" if ends else b"tool=bash\0step=412\0episode=a91f\0"
    row["len"], row["size"] = len(text), schema.SPAN.itemsize + len(text)
    return row.tobytes() + text


def exit_(tgid: int, ts: int) -> bytes:
    return _head(schema.EXIT, "EVENT_EXIT", tgid, ts).tobytes()


def execute(tgid: int, parent: int, ts: int, argv: list[bytes], path: bytes, *, judged: bool = True) -> bytes:
    """``judged``: a probe has looked for indicators, and found none."""
    row = _head(schema.EXEC, "EVENT_EXEC", tgid, ts)
    row["epoch"] = EPOCH if judged else 0
    args = b"".join(a + b"\0" for a in argv)
    cwd = b"/home/agent/work"
    row["parent_tgid"], row["parent_start"] = parent, parent * 1000
    row["path_len"], row["name_len"], row["cwd_len"], row["args_len"] = (
        len(path),
        len(path),
        len(cwd),
        len(args),
    )
    row["args_total"] = len(args)
    row["size"] = schema.EXEC.itemsize + 2 * len(path) + len(cwd) + len(args)
    return row.tobytes() + path + path + cwd + args


def connect(tgid: int, ts: int, cookie: int) -> bytes:
    row = _head(schema.CONNECT, "EVENT_CONNECT", tgid, ts)
    row["cookie"], row["family"], row["protocol"], row["remote_port"] = cookie, 2, 6, 443
    return row.tobytes()


def flow_open(tgid: int, ts: int, cookie: int) -> bytes:
    row = _head(schema.FLOW_OPEN, "EVENT_FLOW_OPEN", tgid, ts)
    row["cookie"], row["family"], row["protocol"], row["remote_port"] = cookie, 2, 6, 443
    return row.tobytes()


def flow_close(tgid: int, ts: int, cookie: int) -> bytes:
    row = _head(schema.FLOW_CLOSE, "EVENT_FLOW_CLOSE", tgid, ts)
    row["cookie"], row["family"], row["protocol"], row["remote_port"] = cookie, 2, 6, 443
    row["established"], row["sent"], row["received"] = 1, 100, 400
    row["sent_last"], row["received_last"] = 100, 400  # too short for a sample
    return row.tobytes()


def flow_sample(tgid: int, ts: int, cookie: int, place: int) -> bytes:
    """Cookie 0: the pass is over. Every other place is on loopback."""
    row = _head(schema.FLOW_SAMPLE, "EVENT_FLOW_SAMPLE", tgid, ts)
    row["cookie"], row["family"], row["protocol"], row["remote_port"] = cookie, 2, 6, 443
    row["remote"][:4] = (127, 0, 0, 1 + place % 200) if place % 2 else (203, 0, 113, 1 + place % 200)
    row["sent"], row["received"], row["sent_packets"], row["received_packets"] = 90 + ts % 70, 400, 1, 1
    return row.tobytes()


def first_bytes(
    tgid: int, ts: int, cookie: int, data: bytes, *, protocol: int, port: int = 0, received: bool = False, icmp: int = 0
) -> bytes:  # fmt: skip
    """What a datagram carries to or from 10.0.0.53; ``icmp``: the message's type."""
    row = _head(schema.FIRST_BYTES, "EVENT_FIRST_BYTES", tgid, ts)
    row["cookie"], row["family"], row["protocol"], row["remote_port"] = cookie, 2, protocol, port
    row["remote"][:4] = (10, 0, 0, 53)
    row["direction"], row["icmp_type"], row["segment"] = received, icmp, 1
    row["len"] = row["first"] = len(data)
    row["size"] = schema.FIRST_BYTES.itemsize + len(data)
    return row.tobytes() + data


def question(name: bytes, addresses: int = 0) -> bytes:
    """The address of a name is asked for over DNS; with ``addresses``: the answer, with so many that nobody else has."""
    head = struct.pack(">HHHHHH", 1, 0x8180 if addresses else 0x0100, 1, addresses, 0, 0)
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    records = b"".join(
        struct.pack(">HHHIHI", 0xC00C, 1, 1, 300, 4, (zlib.crc32(name) + number) % (1 << 32))
        for number in range(addresses)
    )
    return head + labels + b"\0" + struct.pack(">HH", 1, 1) + records


def local_connect(tgid: int, ts: int, path: bytes) -> bytes:
    row = _head(schema.LOCAL_CONNECT, "EVENT_LOCAL_CONNECT", tgid, ts)
    row["path"][: len(path)] = np.frombuffer(path, np.uint8)
    row["path_len"] = len(path)
    return row.tobytes()


def gpu_ioctl(tgid: int, ts: int, code: int) -> bytes:
    row = _head(schema.GPU_IOCTL, "EVENT_GPU_IOCTL", tgid, ts)
    row["family"], row["nr"], row["code"] = schema.GPU_FAMILY["GPU_NVIDIA"], 0x2A, code
    return row.tobytes()


class MemoryRing:
    """The layout of a ring buffer in ordinary memory, filled once."""

    def __init__(self, records: list[bytes]) -> None:
        parts = []
        for record in records:
            parts.append(len(record).to_bytes(4, "little") + bytes(4) + record)
            parts[-1] += bytes(-len(parts[-1]) % 8)
        data = b"".join(parts)
        self.count = len(records)
        self.bytes = len(data)
        self.size = 1 << max(12, (len(data) - 1).bit_length())
        self._data = np.zeros(self.size, np.uint8)
        self._data[: len(data)] = np.frombuffer(data, np.uint8)
        self._positions: npt.NDArray[np.int64] = np.zeros(2, np.int64)
        self.consumer = address_of(self._positions)
        self.producer = self.consumer + 8
        self.data = address_of(self._data)
        self.rewind()

    def rewind(self) -> None:
        """Offer everything again."""
        self._positions[:] = (0, self.bytes)
        assert HEADER_BYTES == 8
