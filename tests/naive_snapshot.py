# SPDX-License-Identifier: Apache-2.0
"""Who is there, as records, one process after the other: what tracer.record.snapshot makes in columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tracer.engine.engine import Engine, OpenedSpan
from tracer.engine.processes import NONE
from tracer.engine.spans import OPEN
from tracer.engine.tap import lay_out
from tracer.kernel import schema


def snapshot(engine: Engine) -> bytes:
    """Live processes, parents first: a fork, and an exec where the program is known; then open spans that nobody was
    born in; laid out as a tap has them.
    """
    table = engine.state.processes.table
    live = sorted(engine.live_entries(), key=lambda entry: int(table[entry]["start"]))
    told: set[tuple[int, int, int]] = set()
    processes = [record for entry in live for record in _process(engine, entry, told)]
    return lay_out([*processes, *_open(engine, told)])


def _open(engine: Engine, told: set[tuple[int, int, int]]) -> Iterator[bytes]:
    table = engine.state.processes.spans.table
    for serial in sorted(int(row["serial"]) for row in table if row["state"] == OPEN and row["known"]):
        span, *around = engine.spans_of(NONE, serial)
        if (span.pid, span.start_ns, span.token) not in told:
            yield _span(span, around[0] if around else None)


def _span(span: OpenedSpan, above: OpenedSpan | None) -> bytes:
    record = np.zeros((), schema.SPAN)
    record["kind"], record["what"] = schema.KIND["EVENT_SPAN"], schema.SPAN_WHAT["SPAN_BEGIN"]
    record["tgid"], record["start"] = span.opener or span.pid, span.start_ns
    record["ts"] = span.began_ns
    record["span_tgid"], record["span_start"], record["span_token"] = span.pid, span.start_ns, span.token
    if above is not None:
        record["above_tgid"], record["above_start"] = above.pid, above.start_ns
        record["above_token"] = above.token
    flags = schema.SPAN_FLAG
    record["span_flags"] = flags["SPAN_BY_CHILD"] * bool(span.opener) | flags["SPAN_CUT"] * span.cut
    record["len"] = len(span.text)
    record["size"] = schema.SPAN.itemsize + len(span.text)
    return record.tobytes() + span.text


def _process(engine: Engine, entry: int, told: set[tuple[int, int, int]]) -> Iterator[bytes]:
    """``told``: the spans that records were made of already."""
    table = engine.state.processes.table
    path = engine.spans_of(entry)
    around: list[OpenedSpan | None] = [*path[1:], None]
    for span, above in reversed(list(zip(path, around, strict=False))):
        name = span.pid, span.start_ns, span.token
        if name not in told and span.known:
            told.add(name)
            yield _span(span, above)
    fork = _begun(schema.FORK, "EVENT_FORK", table[entry])
    line = engine.lineage(entry)
    if len(line) > 1:
        parent = table[line[1]]
        fork["parent_tgid"], fork["parent_start"] = parent["tgid"], parent["start"]
    if path:
        fork["span_tgid"], fork["span_start"], fork["span_token"] = (
            path[0].pid,
            path[0].start_ns,
            path[0].token,
        )
    yield fork.tobytes()
    program = engine.describe(entry)
    if program is None or not program.exe:
        return
    args = b"".join(argument + b"\0" for argument in program.argv)
    record = _begun(schema.EXEC, "EVENT_EXEC", table[entry])
    record["uid"] = record["euid"] = program.uid
    record["gid"] = record["egid"] = program.gid
    record["cgroup"], record["flags"] = program.cgroup, program.flags
    trace = engine.traceparent_of(entry).ljust(record["traceparent"].nbytes, b"\0")
    record["traceparent"] = np.frombuffer(trace, np.uint64)
    record["path_len"], record["name_len"] = len(program.exe), len(program.called)
    record["cwd_len"], record["args_len"] = len(program.cwd), len(args)
    record["argc"], record["args_total"] = len(program.argv), len(args) + program.argv_cut
    tail = program.exe + program.called + program.cwd + args
    record["size"] = schema.EXEC.itemsize + len(tail)
    yield record.tobytes() + tail


def _begun(layout: np.dtype[np.void], kind: str, row: np.void) -> npt.NDArray[np.void]:
    record = np.zeros((), layout)
    record["kind"], record["size"] = schema.KIND[kind], layout.itemsize
    record["tgid"] = record["tid"] = row["tgid"]
    record["ts"] = record["start"] = row["start"]
    return record
