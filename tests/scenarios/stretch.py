# SPDX-License-Identifier: Apache-2.0
"""An hour made of a recorded half minute: what jobs did in each of their rounds is repeated, at other times, by other
processes over other connections.

A job is whoever opens spans outside any other: a *round* is what it and its descendants do from one to the next.
Records stay as they were recorded, but for when, who and which. What belongs to no process (the ends of passes)
is made anew, as often as a watch makes it.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from struct import pack_into, unpack_from
from typing import NamedTuple

import msgpack
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recordings import written

from tracer.engine.tap import each, lay_out
from tracer.kernel import schema
from tracer.record import layout
from tracer.record.reader import Recording
from tracer.record.writer import Block

SECOND = 1_000_000_000
SAMPLE_NS, EFFORT_NS = SECOND // 10, SECOND
FORK, SPAN = (schema.KIND[f"EVENT_{name}"] for name in ("FORK", "SPAN"))
FLOW_SAMPLE, EFFORT = schema.KIND["EVENT_FLOW_SAMPLE"], schema.KIND["EVENT_EFFORT"]
BEGIN = schema.SPAN_WHAT["SPAN_BEGIN"]
#: What names a process in records of any kind.
NAMES = ("", "parent_", "span_", "above_", "target_")
#: Records to a block.
BLOCK = 2000
#: Pids from here on are given to the processes of rounds.
FIRST_PID = 1 << 20
FIRST_COOKIE = 1 << 40

#: By kind of record, where its fields are.
PLACES = {
    kind: {name: found[1] for name, found in (row.fields or {}).items()}
    for kind, row in schema.LAYOUT.items()
}
HEAD_KIND = PLACES[FORK]["kind"]

Who = tuple[int, int]


def _get(record: bytes | bytearray, form: str, at: int) -> int:
    return int(unpack_from(form, record, at)[0])


def _add(record: bytearray, form: str, at: int, by: int) -> None:
    pack_into(form, record, at, _get(record, form, at) + by)


def _replace(record: bytearray, form: str, at: int, others: dict[int, int]) -> None:
    number = _get(record, form, at)
    pack_into(form, record, at, others.get(number, number))


@dataclass(slots=True)
class Item:
    """One record, and when the engine took it in. ``said``: what FILE block stood before it."""

    at: int
    kind: int  # type of its block
    record: bytes
    said: bytes = b""

    @property
    def row(self) -> np.ndarray:
        """The fixed part, as it lies in ``record``."""
        number = self.record[HEAD_KIND]
        return np.frombuffer(self.record, schema.LAYOUT[number], 1)


@dataclass(slots=True)
class Job:
    """``rounds``: after what came before them; the last one's end is not known, so it isn't there. ``opened``: in which
    round a connection was first heard of; 0: before all.
    """

    root: Who
    members: set[Who]
    before: list[Item] = field(default_factory=list)
    rounds: list[list[Item]] = field(default_factory=list)
    opened: dict[int, int] = field(default_factory=dict)


def items_of(recording: Recording) -> tuple[list[Block], list[Item]]:
    """What the watch began with, and all records, in the order in which the engine took them in."""
    first: list[Block] = []
    found: list[Item] = []
    now, said = 0, b""
    for block in recording.blocks():
        payload = recording.payload(block) or b""
        if block.head.type == layout.TASKS and not found:
            first.append(Block(layout.TASKS, payload, block.head.first_ns, block.head.last_ns))
        elif block.head.type in (layout.CLOCK, layout.CGROUPS):
            first.append(Block(block.head.type, payload, block.head.first_ns, block.head.last_ns))
        elif block.head.type == layout.FILE:
            said = payload
        elif block.head.type in (layout.RECORDS, layout.FED):
            for record in each(payload):
                item = Item(0, block.head.type, record, said)
                if not said:  # a file's record says when it was executed, not when it had been read
                    now = max(now, int(item.row["ts"][0]))
                item.at, said = now, b""
                found.append(item)
    return first, found


def _who(row: np.ndarray, prefix: str = "") -> Who:
    return int(row[f"{prefix}tgid"][0]), int(row[f"{prefix}start"][0])


def jobs_of(items: list[Item]) -> tuple[list[Item], list[Job]]:
    """Records of nobody's and of whoever is above all jobs, and the jobs with their rounds."""
    roots = dict.fromkeys(
        _who(i.row) for i in items if i.record[HEAD_KIND] == SPAN and not i.row["above_tgid"][0]
    )
    jobs = {root: Job(root, {root}) for root in roots}
    others: list[Item] = []
    for item in items:
        row, kind = item.row, item.record[HEAD_KIND]
        if (kind == EFFORT and not row["tgid"][0]) or (kind == FLOW_SAMPLE and not row["cookie"][0]):
            continue
        who = _who(row)
        job = next((job for job in jobs.values() if who in job.members), None)
        if kind == FORK and job is None:
            job = next((job for job in jobs.values() if _who(row, "parent_") in job.members), None)
            if job is not None:
                job.members.add(who)
        if job is None:
            others.append(item)
            continue
        if kind == SPAN and row["what"][0] == BEGIN and who == job.root:
            job.rounds.append([])
        (job.rounds[-1] if job.rounds else job.before).append(item)
        if "cookie" in (row.dtype.names or ()):
            job.opened.setdefault(int(row["cookie"][0]), len(job.rounds))
    for job in jobs.values():
        job.rounds.pop()
    return others, list(jobs.values())


class Pace(NamedTuple):
    """How a job's rounds follow each other: between which seconds the pause lies; ``any_order``: not as recorded."""

    pause: tuple[float, float] = (0, 0)
    any_order: bool = False


class Ids(NamedTuple):
    """Pids (and numbers of spans), and cookies of sockets, that nobody has had."""

    pids: Iterator[int]
    cookies: Iterator[int]


class _Again:
    """One more time a round."""

    def __init__(self, job: Job, number: int, at: int, ids: Ids) -> None:
        items = job.rounds[number]
        self.by = at - items[0].at
        rows = [(item.record[HEAD_KIND], item.row) for item in items]
        self.processes = {_who(row): next(ids.pids) for kind, row in rows if kind == FORK}
        self.tokens: dict[int, int] = {
            int(row["span_token"][0]): next(ids.pids)
            for kind, row in rows
            if kind == SPAN and row["what"][0] == BEGIN and _who(row, "span_") == job.root
        }
        self.cookies = {
            cookie: next(ids.cookies) for cookie, first in job.opened.items() if first == number + 1
        }
        self.root = job.root

    def __call__(self, item: Item) -> Item:
        record = bytearray(item.record)
        places = PLACES[record[HEAD_KIND]]
        _add(record, "<Q", places["ts"], self.by)
        for prefix in NAMES:
            if f"{prefix}start" not in places:
                continue
            pid, start = places[f"{prefix}tgid"], places[f"{prefix}start"]
            who = _get(record, "<I", pid), _get(record, "<Q", start)
            if who == self.root and prefix in ("span_", "above_"):
                _replace(record, "<I", places[f"{prefix}token"], self.tokens)
            if who in self.processes:
                if not prefix:
                    _add(record, "<I", places["tid"], self.processes[who] - who[0])
                pack_into("<I", record, pid, self.processes[who])
                _add(record, "<Q", start, self.by)
        if "cookie" in places:
            _replace(record, "<Q", places["cookie"], self.cookies)
        return Item(item.at + self.by, item.kind, bytes(record), item.said)


def _played(job: Job, until: int, pace: Pace, ids: Ids, chance: random.Random) -> Iterator[Item]:
    """A job's rounds until then."""
    lasts = [after[0].at - before[0].at for before, after in pairwise(job.rounds)]
    lasts.append(max(lasts))
    yield from job.before
    now = job.rounds[0][0].at
    for turn in count():
        if now >= until:
            return
        number = chance.randrange(len(job.rounds)) if pace.any_order else turn % len(job.rounds)
        again = _Again(job, number, now, ids)
        yield from (again(item) for item in job.rounds[number])
        now += lasts[number] + int(chance.uniform(*pace.pause) * SECOND)


def _passes(begin: int, until: int, kind: str, every: int) -> Iterator[Item]:
    row = np.zeros((), getattr(schema, kind))
    row["kind"], row["size"] = schema.KIND[f"EVENT_{kind}"], row.dtype.itemsize
    for now in range(begin, until, every):
        row["ts"] = now
        yield Item(now, layout.FED, row.tobytes())


def _blocks(items: Iterator[Item]) -> Iterator[Block]:
    """Blocks of records of one kind; those from rings numbered as if one CPU had sent them all."""
    waiting: list[bytes] = []
    kind = first = last = 0
    numbers = [count(), count()]

    def block() -> Block:
        return Block(kind, lay_out(waiting), first, last, len(waiting) if kind == layout.RECORDS else 0)

    for item in items:
        if waiting and (item.kind != kind or item.said or len(waiting) == BLOCK):
            yield block()
            waiting = []
        if item.said:
            yield Block(layout.FILE, item.said, item.at, item.at)
        record = bytearray(item.record)
        if item.kind == layout.RECORDS:
            ring = record[PLACES[FORK]["ring"]]
            pack_into("<H", record, PLACES[FORK]["cpu"], 0)
            pack_into("<Q", record, PLACES[FORK]["seq"], next(numbers[ring]))
        kind, last = item.kind, item.at
        first = first if waiting else item.at
        waiting.append(bytes(record))
        if item.said:
            yield block()
            waiting = []
    if waiting:
        yield block()


def stretch(source: Path, target: Path, seconds: int, paces: list[Pace], seed: int) -> None:
    """Make of the recording ``source`` another one of so many seconds; ``paces`` of the jobs, by who begins first."""
    recording = Recording(source)
    first, items = items_of(recording)
    others, jobs = jobs_of(items)
    begin = items[0].at
    until = begin + seconds * SECOND
    ids, chance = Ids(count(FIRST_PID), count(FIRST_COOKIE)), random.Random(seed)
    streams = [_played(job, until, pace, ids, chance) for job, pace in zip(jobs, paces, strict=True)]
    ends = [_passes(begin, until, "FLOW_SAMPLE", SAMPLE_NS), _passes(begin, until, "EFFORT", EFFORT_NS)]
    began = [item for item in others if item.at <= jobs[-1].rounds[0][0].at]
    merged = heapq.merge(began, *streams, *ends, key=lambda item: item.at)
    header = msgpack.unpackb(next(recording.of_types(layout.HEADER)).stored)
    written(target, (*first, *_blocks(merged)), header)
