# SPDX-License-Identifier: Apache-2.0
"""The processes of a tree, the spans that they are in and those that are open, as records: what a file of a recording begins with when there were files before it.

Strings are copied beforehand, piece by piece, since they don't change; the rest at once; and records are made of that piece by
piece again, in columns. Meanwhile events go on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tracer.engine import processes as procs
from tracer.engine import spans as span_table
from tracer.engine.arena import BLOCK
from tracer.engine.engine import Engine
from tracer.engine.processes import NONE, Processes
from tracer.engine.spans import Spans
from tracer.engine.tap import lay_out
from tracer.kernel import schema

#: So many processes become records at once: well under a millisecond's work.
PIECE = 64
#: And so much is prepared at once: rows, or strings of programs.
PREPARED = 1024

_CUT, _BY_CHILD = schema.SPAN_FLAG["SPAN_CUT"], schema.SPAN_FLAG["SPAN_BY_CHILD"]
_LENGTHS = ("path_len", "name_len", "cwd_len", "args_len")
_OF_SPAN = ("tgid", "start", "token", "above", "known", "began", "opener", "flags", "length")

Numbers = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]
#: Columns of a table, by name; whatever else stands in a row need not be copied.
Columns = dict[str, Numbers]


class Snapshot:
    """Live processes as they are when :meth:`take` is called, whatever becomes of them before all records are made."""

    def __init__(self, engine: Engine) -> None:
        self._p = engine.state.processes
        self._kept = _Rows(self._p.table, engine.live)
        self._strings = _Strings(self._p)

    def prepare(self) -> Iterator[None]:
        """Do what can be done before, piece by piece: it is most of all."""
        yield from self._kept.touch()
        yield from self._strings.prepare()

    def take(self) -> Snapshot:
        """Copy the tables as they are now."""
        p = self._p
        table = p.table[: max(int(p.state[procs.P_USED]), 1)]
        self._rows = self._kept.take(np.flatnonzero(table["state"] == procs.LIVE))
        parents = self._rows["parent"]
        self._parents = _columns(table, ("tgid", "start"), parents)
        for column in self._parents.values():
            column[parents == NONE] = 0
        self._programs = _Programs(p, self._rows["image"], self._strings)
        self._spans = _Spans(p.spans, self._rows["span"])
        return self

    def pieces(self) -> Iterator[bytes]:
        """Parents first, each a fork, and an exec where the program is known; then the spans that are open and that no
        process was born in, but perhaps a thread is in; laid out as a tap has them.

        Their times are those of their start, which no rule judges again.
        """
        order = np.argsort(self._rows["start"], kind="stable")
        for at in range(0, len(order), PIECE):
            yield lay_out(self._records(order[at : at + PIECE]))
        opened = self._spans.opened
        for at in range(0, len(opened), PIECE):
            if fresh := self._spans.untold(opened[at : at + PIECE]):
                yield lay_out(self._spans.records(fresh))

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
        rows, parents, spans = self._rows[some], _some(self._parents, some), self._spans.of[some]
        records = _begun(schema.FORK, "EVENT_FORK", rows)
        records["parent_tgid"], records["parent_start"] = parents["tgid"], parents["start"]
        _name(records, "span", _some(self._spans.table, spans), spans != NONE)
        return _each(records)

    def _execs(self, some: Numbers) -> list[bytes]:
        """Empty where the program is not known."""
        rows, numbers = self._rows[some], self._programs.of[some]
        images = self._programs.images[numbers]
        known = (numbers != NONE) & (images["path_len"] > 0)
        which = numbers, _length(images), images["args_len"], known
        programs = [
            self._programs.strings(number, length, args) if there else (b"", 0, 0)
            for number, length, args, there in zip(*(c.tolist() for c in which), strict=True)
        ]
        strings, arguments, lengths = zip(*programs, strict=True)
        records = _begun(schema.EXEC, "EVENT_EXEC", rows)
        records["uid"] = records["euid"] = rows["uid"]
        records["gid"] = records["egid"] = rows["gid"]
        records["cgroup"], records["flags"] = rows["cgroup"], images["flags"]
        records["traceparent"] = images["trace"]
        for name in _LENGTHS[:3]:
            records[name] = images[name]
        records["argc"], records["args_len"] = arguments, lengths
        records["args_total"] = lengths + (images["args_total"] > images["args_len"])
        records["size"] += np.array([len(tail) for tail in strings], np.uint16)
        return [record + tail if tail else b"" for record, tail in zip(_each(records), strings, strict=True)]


class _Rows:
    """Rows of a table, all of whose fields are int64. Pages are touched before, which takes most of the time that a copy takes."""

    def __init__(self, table: Records, count: int) -> None:
        self._table = table
        self._words = table.view(np.int64).reshape(len(table), -1)
        self._memory = self._some_memory(count + count // 8)

    def _some_memory(self, count: int) -> Numbers:
        return np.empty((count, self._words.shape[1]), np.int64)

    def touch(self) -> Iterator[None]:
        """Piece by piece."""
        for at in range(0, len(self._memory), PREPARED):
            self._memory[at : at + PREPARED] = 0
            yield

    def take(self, rows: Numbers) -> Records:
        """A copy."""
        if len(rows) > len(self._memory):
            self._memory = self._some_memory(len(rows))
        out = self._memory[: len(rows)]
        return self._words.take(rows, axis=0, out=out, mode="wrap").view(self._table.dtype).reshape(-1)


class _Strings:
    """Path, name, folder and arguments of programs: as long as one is run, they stay what and where they are."""

    def __init__(self, p: Processes) -> None:
        self._p = p
        count = len(p.images)
        self._since = np.zeros(count, np.int64)  # + 1, of what was copied
        self._copy, self._at = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._copies: list[npt.NDArray[np.uint8]] = []
        self.images = _Rows(p.images, int(p.state[procs.I_USED]))

    def prepare(self) -> Iterator[None]:
        """Copy those of all programs, piece by piece."""
        yield from self.images.touch()
        for at in range(0, int(self._p.state[procs.I_USED]), PREPARED):
            numbers = at + np.flatnonzero(self._p.images["users"][at : at + PREPARED])
            self.copy(numbers, self._p.images[numbers])
            yield

    def copy(self, numbers: Numbers, images: Records) -> None:
        """Copy those of ``images`` that have not been copied, or have become another program's."""
        since = images["since"] + 1
        fresh = np.flatnonzero(since != self._since[numbers])
        numbers, images = numbers[fresh], images[fresh]
        self._since[numbers] = since[fresh]
        links = (_length(images) + BLOCK - 1) // BLOCK
        first = np.cumsum(links) - links
        chains = np.zeros(int(links.sum()), np.int64)
        going, link, block = np.flatnonzero(links), 0, images["block"].copy()
        while len(going):
            chains[first[going] + link] = block[going]
            link += 1
            going = going[links[going] > link]
            block[going] = self._p.arena.following[block[going]].astype(np.int64) - 1
        self._copy[numbers], self._at[numbers] = len(self._copies), first * BLOCK
        self._copies.append(self._p.arena.blocks.take(chains, axis=0).reshape(-1))

    def of(self, image: int, length: int) -> bytes:
        """All of one, back to back."""
        at = int(self._at[image])
        return self._copies[self._copy[image]][at : at + length].tobytes()


class _Programs:
    """What they run, each once. ``of`` int64[n]: where in ``images`` the n-th one's is."""

    def __init__(self, p: Processes, rows: Numbers, strings: _Strings) -> None:
        named = np.zeros(int(p.state[procs.I_USED]) + 1, bool)
        named[rows] = True
        self._numbers, place = _placed(named)
        self.of: Numbers = place[rows]
        self.images = strings.images.take(self._numbers)
        self._strings = strings
        if named[:-1].any():
            strings.copy(self._numbers, self.images)

    def strings(self, number: int, length: int, args: int) -> tuple[bytes, int, int]:
        """Path, name, folder and ``args`` bytes of arguments, back to back; how many arguments, and how long they are."""
        found = self._strings.of(int(self._numbers[number]), length)
        if args and found[-1]:  # the last one is cut
            found += b"\0"
            args += 1
        return found, found.count(b"\0", len(found) - args), args


class _Spans:
    """Spans that somebody is in, or that are open, and those around them. ``of`` int64[n]: where in ``table`` who is
    in ``rows`` is; ``opened`` int64[n]: where those are that are open, in the order of their beginnings.
    """

    def __init__(self, spans: Spans, rows: Numbers) -> None:
        used = int(spans.state[span_table.S_USED])
        around = np.zeros(used + 1, bool)
        opened = np.flatnonzero(spans.table["state"][:used] == span_table.OPEN)
        opened = opened[np.argsort(spans.table["serial"][opened])]
        found = np.concatenate((rows, opened))
        while len(found):
            fresh = np.zeros(used + 1, bool)
            fresh[found] = True
            fresh[NONE] = False
            fresh &= ~around
            around |= fresh
            found = spans.table["above"][np.flatnonzero(fresh)]
        numbers, place = _placed(around)
        self.of: Numbers = place[rows]
        self.opened: Numbers = place[opened]
        self.table = _columns(spans.table, _OF_SPAN, numbers)
        self._texts = spans.texts[numbers, : int(self.table["length"].max())]
        self._above: Numbers = place[self.table["above"]]
        self._known = self.table["known"].astype(bool)
        self._told = np.zeros(len(numbers), bool)

    def not_told(self, of: Numbers) -> list[list[int]]:
        """For each who is in one of these: those around him that no record was made of, the outermost first."""
        return [self._path(span) for span in of.tolist()]

    def untold(self, some: Numbers) -> list[int]:
        """Those of ``some`` that no record was made of."""
        fresh = [span for span in some.tolist() if self._known[span] and not self._told[span]]
        self._told[fresh] = True
        return fresh

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


def _length(images: Records) -> Numbers:
    path, name, cwd, args = (images[field] for field in _LENGTHS)
    total: Numbers = path + name + cwd + args
    return total


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


def _begun(layout: np.dtype[np.void], kind: str, rows: Records) -> Records:
    records = np.zeros(len(rows), layout)
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
