# SPDX-License-Identifier: Apache-2.0
"""Records of network events and files, as probes and the examiner would send them."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from tracer.kernel import schema

TCP, UDP = 6, 17
EPOCH = 5
#: A rule file: a flow over which "hello" was said and "welcome" heard, whatever lay between.
BOTH_WAYS = """
[indicators.said]
where = ["sent"]
match = "substring"
values = ["hello"]
[indicators.heard]
where = ["received"]
match = "substring"
values = ["welcome"]
[rules."net.both"]
title = "t"
on = "flow"
severity = "low"
all = ["said", "heard"]
"""


def _of(kind: str, layout: np.dtype[Any], tgid: int, ts: int, more: dict[str, Any]) -> np.ndarray:
    row = np.zeros((), layout)
    row["kind"], row["ts"], row["tgid"], row["start"] = schema.KIND[kind], ts, tgid, tgid * 1000
    row["size"] = layout.itemsize
    for name, value in more.items():
        row[name] = value
    return row


def _ends(row: np.ndarray, remote: str, port: int, protocol: int) -> None:
    address = ipaddress.ip_address(remote)
    row["family"] = 2 if address.version == 4 else 10
    row["remote"] = np.frombuffer(address.packed.ljust(16, b"\0"), np.uint8)
    row["remote_port"], row["local_port"], row["protocol"] = port, 50000, protocol


def connect(
    remote: str, port: int = 443, *, tgid: int = 1, ts: int = 1, cookie: int = 1, **more: Any
) -> bytes:
    row = _of("EVENT_CONNECT", schema.CONNECT, tgid, ts, more)
    row["cookie"] = cookie
    _ends(row, remote, port, more.get("protocol", TCP))
    return row.tobytes()


def close(
    cookie: int, remote: str = "198.51.100.7", port: int = 443, *, tgid: int = 1, ts: int = 1, **more: Any
) -> bytes:
    """Without more: of a flow that nobody has answered."""
    row = _of("EVENT_FLOW_CLOSE", schema.FLOW_CLOSE, tgid, ts, more)
    row["cookie"] = cookie
    _ends(row, remote, port, more.get("protocol", TCP))
    return row.tobytes()


def first(
    data: bytes,
    remote: str = "198.51.100.7",
    port: int = 3333,
    *,
    received: bool = False,
    tgid: int = 1,
    ts: int = 1,
    cookie: int = 1,
    signals: list[int] | None = None,
    **more: Any,
) -> bytes:
    """``signals``: a probe's verdict, under EPOCH unless ``epoch`` says otherwise."""
    row = _of("EVENT_FIRST_BYTES", schema.FIRST_BYTES, tgid, ts, {})
    _ends(row, remote, port, more.get("protocol", TCP))
    row["cookie"], row["direction"] = cookie, received
    row["len"], row["first"], row["segment"] = len(data), len(data), 1
    row["size"] = schema.FIRST_BYTES.itemsize + len(data)
    if signals is not None:
        row["signals"], row["epoch"] = signals, EPOCH
    for name, value in more.items():
        row[name] = value
    return row.tobytes() + data


def execute(argv: list[bytes], path: bytes, *, tgid: int = 1, ts: int = 1, **more: Any) -> bytes:
    signals = more.pop("signals", None)
    row = _of("EVENT_EXEC", schema.EXEC, tgid, ts, more)
    args = b"".join(item + b"\0" for item in argv)
    row["path_len"], row["name_len"], row["args_len"] = len(path), len(path), len(args)
    row["args_total"] = len(args)
    row["size"] = schema.EXEC.itemsize + 2 * len(path) + len(args)
    if signals is not None:
        row["signals"], row["epoch"] = signals, EPOCH
    return row.tobytes() + path + path + args


def file(signals: Any, *, epoch: int = EPOCH, tgid: int = 1, ts: int = 1) -> bytes:
    row = _of("EVENT_FILE", schema.FILE, tgid, ts, {"signals": signals, "epoch": epoch})
    return row.tobytes()


def tamper(what: str, *flags: str, tgid: int = 1, ts: int = 1, **more: Any) -> bytes:
    """``what`` and ``flags`` as events.h names them; ``signals``: a probe's verdict, under EPOCH."""
    signals = more.pop("signals", None)
    row = _of("EVENT_TAMPER", schema.TAMPER, tgid, ts, more)
    row["what"] = schema.TAMPER_WHAT[what]
    row["tamper_flags"] = sum(schema.TAMPER_FLAG[flag] for flag in flags)
    if signals is not None:
        row["signals"], row["epoch"] = signals, more.get("epoch", EPOCH)
    return row.tobytes()


Name = tuple[int, int, int]


def _in_span(row: np.ndarray, name: Name | None, prefix: str = "span") -> None:
    """``name``: pid and start of a span's owner, and its number."""
    if name is not None:
        row[f"{prefix}_tgid"], row[f"{prefix}_start"], row[f"{prefix}_token"] = name


def fork(
    tgid: int, start: int, parent: int, parent_start: int, span: Name | None = None, *, ts: int = 1
) -> bytes:
    row = _of("EVENT_FORK", schema.FORK, tgid, ts, {"parent_tgid": parent, "parent_start": parent_start})
    row["start"] = start
    _in_span(row, span)
    return row.tobytes()


def leave(tgid: int, start: int, *, ts: int = 1) -> bytes:
    """A process ends."""
    return _of("EVENT_EXIT", schema.EXIT, tgid, ts, {"start": start}).tobytes()


def span_begin(name: Name, text: bytes, *, above: Name | None = None, ts: int = 1, **more: Any) -> bytes:
    tgid = more.pop("tgid", name[0])
    row = _of("EVENT_SPAN", schema.SPAN, tgid, ts, {"what": schema.SPAN_WHAT["SPAN_BEGIN"], **more})
    _in_span(row, name)
    _in_span(row, above, "above")
    row["len"], row["size"] = len(text), schema.SPAN.itemsize + len(text)
    return row.tobytes() + text


def span_end(name: Name, *, ts: int = 1, **more: Any) -> bytes:
    tgid = more.pop("tgid", name[0])
    row = _of("EVENT_SPAN", schema.SPAN, tgid, ts, {"what": schema.SPAN_WHAT["SPAN_END"], **more})
    _in_span(row, name)
    return row.tobytes()


def sample(
    cookie: int, remote: str = "198.51.100.7", port: int = 443, *, tgid: int = 1, ts: int = 1, **more: Any
) -> bytes:
    """Without more: nothing has been carried. Cookie 0: the pass is over."""
    row = _of("EVENT_FLOW_SAMPLE", schema.FLOW_SAMPLE, tgid, ts, more)
    row["cookie"] = cookie
    _ends(row, remote, port, TCP)
    if "local_port" in more:
        row["local_port"] = more["local_port"]
    return row.tobytes()


def effort(tgid: int, *, ts: int = 1, **more: Any) -> bytes:
    """Without more: nothing was done. Of process 0: the pass is over."""
    return _of("EVENT_EFFORT", schema.EFFORT, tgid, ts, more).tobytes()


def foothold(what: str, path: bytes, *, tgid: int = 1, ts: int = 1, **more: Any) -> bytes:
    row = _of("EVENT_FOOTHOLD", schema.FOOTHOLD, tgid, ts, more)
    row["what"], row["path_len"] = schema.FOOTHOLD_WHAT[f"FOOTHOLD_{what}"], len(path)
    row["size"] = schema.FOOTHOLD.itemsize + len(path)
    return row.tobytes() + path


def local_connect(name: bytes, *, tgid: int = 1, ts: int = 1, **more: Any) -> bytes:
    """A leading NUL: an abstract name."""
    row = _of("EVENT_LOCAL_CONNECT", schema.LOCAL_CONNECT, tgid, ts, more)
    row["path"][: len(name)] = np.frombuffer(name, np.uint8)
    row["path_len"], row["abstract"] = len(name), name[:1] == b"\0"
    return row.tobytes()


def exec_refused(path: bytes, *, tgid: int = 1, ts: int = 1, **more: Any) -> bytes:
    row = _of("EVENT_EXEC_REFUSED", schema.EXEC_REFUSED, tgid, ts, more)
    row["path_len"] = len(path)
    row["size"] = schema.EXEC_REFUSED.itemsize + len(path)
    return row.tobytes() + path
