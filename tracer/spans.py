# SPDX-License-Identifier: Apache-2.0
"""The span of an alert: which tool call did it, in whose words.

All that is said of a span is the word of whoever opened it, and a tool may open spans of its own inside
the one that it runs in. So an alert has the whole path, and what is shown first is the word of the
outermost one who said anything of the kind: nobody further in can say otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tracer.engine.engine import Engine, OpenedSpan
from tracer.text import decode, printable, shorten

#: Of a longer path the middle is left out, and counted.
PATH_MAX = 16
#: Different traces named along a line of ancestors.
TRACES_MAX = 8
#: What has a place of its own.
NAMED = ("tool", "step", "episode")

_NUMBER = re.compile(rb"-?[0-9]{1,15}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_WORD_WIDTH = 32


@dataclass(frozen=True, slots=True)
class Span:
    """Where an alert belongs: the spans around it, innermost first, and the traces named along its line."""

    path: tuple[OpenedSpan, ...]
    exes: tuple[bytes, ...]
    traces: tuple[bytes, ...]

    def said(self, key: str) -> str | int | None:
        """What the outermost one that says something of ``key`` says, or a deeper span of the same process."""
        found, owner = None, None
        for span in reversed(self.path):
            value = attributes(span.text).get(key)
            if value is not None and owner in (None, (span.pid, span.start_ns)):
                found, owner = value, (span.pid, span.start_ns)
        return found

    def to_json(self) -> dict[str, Any]:
        """As an alert's contract has it."""
        path = [_to_json(span, exe) for span, exe in zip(self.path, self.exes, strict=True)]
        left_out = len(path) - PATH_MAX
        if left_out > 0:
            del path[PATH_MAX // 2 : PATH_MAX // 2 + left_out]
        innermost: dict[str, Any] = path[0] if path else {"id": None, "attributes": {}, "opened_by": None}
        return {
            "id": innermost["id"],
            **{key: self.said(key) for key in NAMED},
            "attributes": innermost["attributes"],
            "opened_by": innermost["opened_by"],
            "path": path,
            **({"path_left_out": left_out} if left_out > 0 else {}),
            "traceparent": decode(self.traces[0]) if self.traces else None,
            **({"traceparents": [decode(t) for t in self.traces]} if len(self.traces) > 1 else {}),
        }

    def words(self) -> str:
        """``in bash, step 412``, for a line on the terminal; empty if nothing is said."""
        tool, step, episode = (self.said(key) for key in NAMED)
        words = [] if tool is None else [_word(tool)]
        words += [] if step is None else [f"step {_word(step)}"]
        words += [] if episode is None else [f"episode {_word(episode)}"]
        if not words and self.path:
            words = [f"a span of pid {self.path[0].pid}"]
        return f"in {', '.join(words)}" if words else ""


def _word(value: str | int) -> str:
    return shorten(printable(str(value)), _WORD_WIDTH)


def attributes(text: bytes) -> dict[str, str | int]:
    """What was said of a span; of what was said twice, the first. Whole numbers are numbers."""
    found: dict[str, str | int] = {}
    for pair in text.split(b"\0"):
        key, there, value = pair.partition(b"=")
        if there and key and (name := decode(key)) not in found:
            found[name] = int(value) if _NUMBER.fullmatch(value) else decode(value)
    return found


def _to_json(span: OpenedSpan, exe: bytes) -> dict[str, Any]:
    said = attributes(span.text)
    return {
        "id": f"{span.pid}.{span.start_ns}.{span.token}",
        "attributes": said,
        "opened_by": {
            "pid": span.pid,
            "exe": decode(exe) or None,
            **({"through": span.opener} if span.opener else {}),
        },
        **({"cut": True} if span.cut else {}),
        # it was there before the watch, or the record of its beginning was lost
        **({} if span.known else {"unknown": True}),
    }


def span_of(engine: Engine, entry: int, serial: int, line: list[int]) -> Span | None:
    """The span around what the process at ``entry`` has done, whose ``line`` of ancestors this is."""
    path = engine.spans_of(entry, serial)
    traces: list[bytes] = []
    for ancestor in line:
        trace = engine.traceparent_of(ancestor)
        if trace not in traces and _TRACEPARENT.fullmatch(trace) and len(traces) < TRACES_MAX:
            traces.append(trace)
    if not path and not traces:
        return None
    table = engine.state.processes.table
    owners = {(int(table[e]["tgid"]), int(table[e]["start"])): e for e in line}
    exes = []
    for span in path:
        owner = owners.get((span.pid, span.start_ns))
        exes.append(engine.exe_of(owner)[1] if owner is not None else b"")
    return Span(tuple(path), tuple(exes), tuple(traces))
