# SPDX-License-Identifier: Apache-2.0
"""Recorded events as plain objects: for JSON Lines, for tables."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracer import clock
from tracer.engine.tap import each
from tracer.kernel import schema
from tracer.record import layout
from tracer.record.reader import Recording
from tracer.sinks.events import describe_event
from tracer.spans import attributes
from tracer.text import decode

_EXEC = schema.KIND["EVENT_EXEC"]
_FORK = schema.KIND["EVENT_FORK"]
_EXIT = schema.KIND["EVENT_EXIT"]
_FIRST = schema.KIND["EVENT_FIRST_BYTES"]
_FLOW_CLOSE = schema.KIND["EVENT_FLOW_CLOSE"]
#: With these a socket's conversation begins, perhaps not its first.
_BEGINS = frozenset({schema.KIND["EVENT_CONNECT"], schema.KIND["EVENT_LISTEN"]})
_GPU_COUNTS = schema.KIND["EVENT_GPU_COUNTS"]
_SPAN = schema.KIND["EVENT_SPAN"]
_INET = 2
#: What is said of so many spans is remembered; of older ones the name is left. In which spans so many flows are, too.
_SPANS_MAX = 100_000

Key = tuple[int, int]
SpanName = tuple[int, int, int]
#: Of the head and of verdicts: what only machines want.
_HIDDEN = frozenset({"ts", "seq", "size", "ring", "tree", "kind", "signals", "epoch", "row", "took_ns"})
_ADDRESSES = ("local", "remote")


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted; None: all of it. ``exe`` is part of a path, times are wall clock ns."""

    kinds: frozenset[int] | None = None
    pids: frozenset[int] | None = None
    exe: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One recorded event. ``made``: in user space, of what was there already. ``span``: the innermost around it."""

    wall_ns: int
    record: np.void
    tail: bytes
    exe: str
    made: bool
    span: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """As people call it."""
        return schema.KIND_NAME[int(self.record["kind"])]

    def detail(self) -> str:
        """What `-v` says of it."""
        return describe_event(self.record, self.tail)

    def to_json(self) -> dict[str, Any]:
        """All of its fields."""
        e = self.record
        said: dict[str, Any] = {
            "time": clock.rfc3339(self.wall_ns),
            "kind": self.kind,
            "pid": int(e["tgid"]),
            "tid": int(e["tid"]),
            "start_ns": int(e["start"]),
            "exe": self.exe or None,
        }
        for name in e.dtype.names or ():
            if name not in _HIDDEN and not name.startswith("_") and name not in {"tgid", "tid", "start"}:
                said[name] = _value(e, name)
        said |= _strings(e, self.tail)
        said["span"] = self.span
        if self.made:
            said["made"] = True
        return said


def _value(e: np.void, name: str) -> Any:
    value = e[name]
    if name in _ADDRESSES and "family" in (e.dtype.names or ()):
        raw = value.tobytes()
        address = ipaddress.IPv4Address(raw[:4]) if int(e["family"]) == _INET else ipaddress.IPv6Address(raw)
        return str(address)
    if name == "name" and value.ndim:
        return decode(value.tobytes().partition(b"\0")[0])
    return value.tolist()


def _strings(e: np.void, tail: bytes) -> dict[str, Any]:
    kind = int(e["kind"])
    if kind == _EXEC:
        at, said = 0, {}
        for name in ("path", "name", "cwd", "args"):
            raw = tail[at : at + int(e[f"{name}_len"])]
            at += len(raw)
            said[name] = raw
        argv = said.pop("args").removesuffix(b"\0").split(b"\0")
        return {name: decode(raw) for name, raw in said.items()} | {"argv": [decode(a) for a in argv]}
    if kind == _FIRST:
        return {"bytes": tail[: int(e["len"])].hex()}
    if kind == _GPU_COUNTS:
        kinds = np.frombuffer(
            tail, schema.GPU_KIND, min(int(e["kinds"]), len(tail) // schema.GPU_KIND.itemsize)
        )
        return {"kinds": [{n: int(k[n]) for n in ("family", "nr", "code", "flags", "count")} for k in kinds]}
    return {}


class _Processes:
    """What each process runs, by the execs so far, and which span it is in; forgotten when it ends."""

    def __init__(self) -> None:
        self._exe: dict[Key, str] = {}
        self._span: dict[Key, SpanName] = {}
        self._flow: dict[int, SpanName] = {}
        self._said: dict[SpanName, dict[str, Any]] = {}

    def see(self, e: np.void, tail: bytes) -> tuple[str, dict[str, Any] | None]:
        """The program behind an event, which may change it, and the span around it."""
        kind, who = int(e["kind"]), (int(e["tgid"]), int(e["start"]))
        if kind == _SPAN:
            self._open(e, tail)
        elif kind == _EXEC:
            self._exe[who] = decode(tail[: int(e["path_len"])])
        elif kind == _FORK:
            self._exe[who] = self._exe.get((int(e["parent_tgid"]), int(e["parent_start"])), "")
            if named := _span_named(e):
                self._span[who] = named
        name = self._of_flow(e) or self._span.get(who)
        span = self._said.get(name) or {"id": ".".join(map(str, name))} if name else None
        exe = self._exe.get(who, "")
        if kind == _EXIT:
            self._exe.pop(who, None)
            self._span.pop(who, None)
        return exe, span

    def _of_flow(self, e: np.void) -> SpanName | None:
        """The span that an event names; if it says none, the one that its flow was opened in."""
        name = _span_named(e)
        if "cookie" not in (e.dtype.names or ()):
            return name
        cookie, kind = int(e["cookie"]), int(e["kind"])
        if kind in _BEGINS:
            self._flow.pop(cookie, None)
        if name is not None:
            if len(self._flow) >= _SPANS_MAX:
                del self._flow[next(iter(self._flow))]
            self._flow[cookie] = name
            return name
        return self._flow.pop(cookie, None) if kind == _FLOW_CLOSE else self._flow.get(cookie)

    def _open(self, e: np.void, tail: bytes) -> None:
        name = _span_named(e)
        if name is None or e["what"] != schema.SPAN_WHAT["SPAN_BEGIN"] or name in self._said:
            return
        if len(self._said) >= _SPANS_MAX:
            del self._said[next(iter(self._said))]
        self._said[name] = {
            "id": ".".join(map(str, name)),
            "attributes": attributes(tail[: int(e["len"])]),
        }


def _span_named(e: np.void) -> SpanName | None:
    """The span that an event names: owner and number; of a SPAN record, itself."""
    if "span_token" not in (e.dtype.names or ()) or not e["span_token"]:
        return None
    return int(e["span_tgid"]), int(e["span_start"]), int(e["span_token"])


def events(parts: list[Recording], wanted: Filter = Filter()) -> Iterator[Event]:
    """The events of one recording that are wanted, in the order in which they were taken in."""
    processes = _Processes()
    for number, part in enumerate(parts):
        offset = part.header.wall_offset_ns
        known = number > 0 and part.header.part == parts[number - 1].header.part + 1
        for found in part.blocks():
            kind = found.head.type
            if kind == layout.CLOCK:
                said = part.read(found)
                offset = offset if said is None else said
            if kind not in (layout.RECORDS, layout.FED, layout.SNAPSHOT) or (
                kind == layout.SNAPSHOT and known
            ):
                continue
            known |= kind == layout.RECORDS
            for record, tail in _records(part.payload(found) or b""):
                exe, span = processes.see(record, tail)
                event = Event(int(record["ts"]) + offset, record, tail, exe, kind != layout.RECORDS, span)
                if _is_wanted(event, wanted):
                    yield event


def _records(laid: bytes) -> Iterator[tuple[np.void, bytes]]:
    """Whole records of known kinds; their strings may still lie about their lengths."""
    for raw in each(laid):
        if len(raw) < schema.HEAD.itemsize:
            continue
        kind = schema.LAYOUT.get(int(np.frombuffer(raw, schema.HEAD, 1)[0]["kind"]))
        if kind is not None and len(raw) >= kind.itemsize:
            yield np.frombuffer(raw, kind, 1)[0], raw[kind.itemsize :]


def _is_wanted(event: Event, wanted: Filter) -> bool:
    return not (
        (wanted.kinds is not None and int(event.record["kind"]) not in wanted.kinds)
        or (wanted.pids is not None and int(event.record["tgid"]) not in wanted.pids)
        or (wanted.exe is not None and wanted.exe not in event.exe)
        or (wanted.since_ns is not None and event.wall_ns < wanted.since_ns)
        or (wanted.until_ns is not None and event.wall_ns >= wanted.until_ns)
    )
