# SPDX-License-Identifier: Apache-2.0
"""The processes of a tree, and the spans that they are in, as records: what a file of a recording begins with when there were files before it.

The tables are copied at once, in columns; records are made of that piece by piece, while events go on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tracer.engine import processes as procs
from tracer.engine import spans as span_table
from tracer.engine.arena import BLOCK
from tracer.engine.engine import Engine
from tracer.engine.processes import NONE, TRACE_WORDS, Processes
from tracer.engine.spans import Spans
from tracer.engine.tap import lay_out
from tracer.kernel import schema

#: So many processes become records at once: well under a millisecond's work.
PIECE = 64

_CUT, _BY_CHILD = schema.SPAN_FLAG["SPAN_CUT"], schema.SPAN_FLAG["SPAN_BY_CHILD"]
_LENGTHS = ("path_len", "name_len", "cwd_len", "args_len")
_OF_PROCESS = ("tgid", "start", "uid", "gid", "cgroup")
_OF_IMAGE = (*_LENGTHS, "args_total", "flags")
_NO_TRACE = np.zeros(TRACE_WORDS, np.int64)
_OF_SPAN = ("tgid", "start", "token", "above", "known", "began", "opener", "flags", "length")

Numbers = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]
#: Columns of a table, by name; whatever else stands in a row need not be copied.
Columns = dict[str, Numbers]


class Snapshot:
    """Live processes as they are now, whatever becomes of them before all records are made."""

    def __init__(self, engine: Engine) -> None:
        p = engine.state.processes
        table = p.table[: max(int(p.state[procs.P_USED]), 1)]
        live = np.flatnonzero(table["state"] == procs.LIVE)
        self._rows = _columns(table, _OF_PROCESS, live)
        parents = table["parent"][live]
        self._parents = _columns(table, ("tgid", "start"), parents)
        for column in self._parents.values():
            column[parents == NONE] = 0
        self._programs = _Programs(p, table["image"][live])
        self._spans = _Spans(p.spans, table["span"][live])

    def pieces(self) -> Iterator[bytes]:
        """Parents first, each a fork, and an exec where the program is known; laid out as a tap has them.

        Their times are those of their start, which no rule judges again.
        """
        order = np.argsort(self._rows["start"], kind="stable")
        for at in range(0, len(order), PIECE):
            yield lay_out(self._records(order[at : at + PIECE]))

    def _records(self, some: Numbers) -> Iterator[bytes]:
        fresh = self._spans.not_told(self._spans.of[some])
        spans = iter(self._spans.records([span for path in fresh for span in path]))
        for path, fork, program in zip(fresh, self._forks(some), self._execs(some), strict=True):
            for _ in path:
                yield next(spans)
            yield fork
            if program:
                yield program

    def _forks(self, some: Numbers) -> list[bytes]:
        rows, parents, spans = _some(self._rows, some), _some(self._parents, some), self._spans.of[some]
        records = _begun(schema.FORK, "EVENT_FORK", rows)
        records["parent_tgid"], records["parent_start"] = parents["tgid"], parents["start"]
        _name(records, "span", _some(self._spans.table, spans), spans != NONE)
        return _each(records)

    def _execs(self, some: Numbers) -> list[bytes]:
        """Empty where the program is not known."""
        rows, numbers = _some(self._rows, some), self._programs.of[some]
        images = _some(self._programs.images, numbers)
        known = (numbers != NONE) & (images["path_len"] > 0)
        programs = [
            self._programs.strings(number) if there else (b"", 0, 0)
            for number, there in zip(numbers.tolist(), known.tolist(), strict=True)
        ]
        strings, arguments, lengths = zip(*programs, strict=True)
        records = _begun(schema.EXEC, "EVENT_EXEC", rows)
        records["uid"] = records["euid"] = rows["uid"]
        records["gid"] = records["egid"] = rows["gid"]
        records["cgroup"], records["flags"] = rows["cgroup"], images["flags"]
        records["traceparent"] = [self._programs.traces.get(number, _NO_TRACE) for number in numbers.tolist()]
        for name in _LENGTHS[:3]:
            records[name] = images[name]
        records["argc"], records["args_len"] = arguments, lengths
        records["args_total"] = lengths + (images["args_total"] > images["args_len"])
        records["size"] += np.array([len(tail) for tail in strings], np.uint16)
        return [record + tail if tail else b"" for record, tail in zip(_each(records), strings, strict=True)]


class _Programs:
    """What they run, each once. ``of`` int64[n]: where in ``images`` the n-th one's is; ``traces`` by that, where there are any."""

    def __init__(self, p: Processes, rows: Numbers) -> None:
        named = np.zeros(int(p.state[procs.I_USED]) + 1, bool)
        named[rows] = True
        chosen, place = _placed(named)
        self.of: Numbers = place[rows]
        self.images = _columns(p.images, _OF_IMAGE, chosen)
        traced = np.flatnonzero(p.images["trace"][:, 0][chosen])
        self.traces = dict(zip(traced.tolist(), p.images["trace"][chosen[traced]], strict=True))
        path, name, cwd, args = (self.images[name] for name in _LENGTHS)
        self._args = path + name + cwd
        self._ends = self._args + args
        count = (self._ends + BLOCK - 1) // BLOCK
        first = np.cumsum(count) - count
        chains = np.zeros(int(count.sum()), np.int64)
        going, link = np.flatnonzero(count), 0
        block = p.images["block"][chosen[going]]
        while len(going):
            chains[first[going] + link] = block
            link += 1
            on = count[going] > link
            going, block = going[on], p.arena.following[block[on]].astype(np.int64) - 1
        self._bytes = p.arena.blocks.take(chains, axis=0).reshape(-1)
        self._first = first * BLOCK

    def strings(self, number: int) -> tuple[bytes, int, int]:
        """Path, name, folder and arguments of one, back to back; how many arguments, and how long they are."""
        at, args = int(self._first[number]), int(self._args[number])
        found = self._bytes[at : at + int(self._ends[number])].tobytes()
        if len(found) > args and found[-1]:  # the last one is cut
            found += b"\0"
        return found, found.count(b"\0", args), len(found) - args


class _Spans:
    """Spans that somebody is in, and those around them. ``of`` int64[n]: where in ``table`` who is in ``rows`` is."""

    def __init__(self, spans: Spans, rows: Numbers) -> None:
        used = int(spans.state[span_table.S_USED])
        around = np.zeros(used + 1, bool)
        found = rows
        while len(found):
            fresh = np.zeros(used + 1, bool)
            fresh[found] = True
            fresh[NONE] = False
            fresh &= ~around
            around |= fresh
            found = spans.table["above"][np.flatnonzero(fresh)]
        numbers, place = _placed(around)
        self.of: Numbers = place[rows]
        self.table = _columns(spans.table, _OF_SPAN, numbers)
        self._texts = spans.texts[numbers, : int(self.table["length"].max())]
        self._above: Numbers = place[self.table["above"]]
        self._known = self.table["known"].astype(bool)
        self._told = np.zeros(len(numbers), bool)

    def not_told(self, of: Numbers) -> list[list[int]]:
        """For each who is in one of these: those around him that no record was made of, the outermost first."""
        return [self._path(span) for span in of.tolist()]

    def _path(self, span: int) -> list[int]:
        path = []
        while span != NONE and not self._told[span]:
            self._told[span] = True
            if self._known[span]:
                path.append(span)
            span = int(self._above[span])
        return path[::-1]

    def records(self, chosen: list[int]) -> list[bytes]:
        """Their beginnings."""
        rows, above = _some(self.table, chosen), self._above[chosen]
        records = np.zeros(len(chosen), schema.SPAN)
        records["kind"], records["what"] = schema.KIND["EVENT_SPAN"], schema.SPAN_WHAT["SPAN_BEGIN"]
        by_child = rows["opener"] != 0
        records["tgid"] = np.where(by_child, rows["opener"], rows["tgid"])
        records["start"], records["ts"] = rows["start"], rows["began"]
        _name(records, "span", rows, np.ones(len(chosen), bool))
        _name(records, "above", _some(self.table, above), above != NONE)
        records["span_flags"] = _BY_CHILD * by_child | rows["flags"] & _CUT
        records["len"] = rows["length"]
        records["size"] = schema.SPAN.itemsize + rows["length"]
        texts = self._texts[chosen]
        return [
            record + text[:length].tobytes()
            for record, text, length in zip(_each(records), texts, rows["length"].tolist(), strict=True)
        ]


def _columns(table: npt.NDArray[np.void], names: tuple[str, ...], rows: Numbers) -> Columns:
    return {name: table[name][rows] for name in names}


def _some(columns: Columns, rows: Numbers | list[int]) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _placed(named: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """(rows that are named, at least one; where among those each row is, or NONE). The last of ``named`` is NONE's."""
    rows = np.flatnonzero(named[:-1])
    place = np.full(len(named), NONE)
    place[rows] = np.arange(len(rows))
    return rows if len(rows) else np.zeros(1, np.int64), place


def _begun(layout: np.dtype[np.void], kind: str, rows: Columns) -> Records:
    records = np.zeros(len(rows["tgid"]), layout)
    records["kind"], records["size"] = schema.KIND[kind], layout.itemsize
    records["tgid"] = records["tid"] = rows["tgid"]
    records["ts"] = records["start"] = rows["start"]
    return records


def _name(records: Records, what: str, spans: Columns, there: npt.NDArray[np.bool_]) -> None:
    """Fill in which span, where there is one."""
    for field in ("tgid", "start", "token"):
        records[f"{what}_{field}"] = spans[field] * there


def _each(records: Records) -> list[bytes]:
    raw, size = records.tobytes(), records.dtype.itemsize
    return [raw[at : at + size] for at in range(0, len(raw), size)]
