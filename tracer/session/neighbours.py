# SPDX-License-Identifier: Apache-2.0
"""Other watches of the same processes: what those know of tool calls that had begun before this one came.

Each watch is told of every span from when its probes are attached, by the same call. What was open by then only
those know that were there: their probes remember which thread is in which span, and what was said of it. That is
copied, so that both go on from the same and neither refuses what the other takes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing, suppress

from tracer import rundir
from tracer.errors import HostError, LoadError
from tracer.kernel import held, schema
from tracer.kernel.held import Held
from tracer.kernel.object import Map
from tracer.kernel.probes import Probes
from tracer.kernel.readings import SPAN_NAME, begun, is_whole, name_above
from tracer.rundir import TreeInfo
from tracer.text import printable

_TID = struct.Struct("=I")
_TREE, _SAID = "task_spans", "open_spans"
#: In struct task_span of span.bpf.h, behind the thread's start: the span that it is in, and the one it was born in.
_OF_THREAD = slice(8, 8 + 2 * SPAN_NAME.size)
#: Threads may be born while others are being copied: those of a parent that has been are in its span already.
_PASSES = 8
#: A thread that goes from span to span is copied until it has stood still for a moment.
_TRIES = 64


class _Other:
    """The maps of another watch. Raises LoadError where they are gone, or hold something else."""

    def __init__(self, info: TreeInfo, probes: Probes) -> None:
        assert info.remains is not None
        if info.remains.layout != schema.fingerprint():
            raise LoadError("it is of another version of vigiles")
        wanted = {name: info.remains.maps[name] for name in (_TREE, _SAID)}
        self._held = Held(wanted, {})
        self.threads, self.said = (self._held.map(name) for name in wanted)
        for theirs in (self.threads, self.said):
            if held.shape_of(theirs.fd) != held.shape_of(probes.map(theirs.name).fd):
                self.close()
                raise LoadError("it is of another version of vigiles")

    def close(self) -> None:
        self._held.close()


def learn_spans(probes: Probes) -> tuple[list[bytes], list[str]]:
    """Put the threads of the tree into the spans that other watches have them in; what was said of spans that concern
    them, as SPAN records, in the order of their beginnings. And, for a person, of whom nothing could be learnt.
    """
    if _SAID not in probes.kept_maps():
        return [], []
    records: list[tuple[int, bytes]] = []
    remarks: list[str] = []
    known: set[int] = set()
    for info in _others(probes):
        try:
            other = _Other(info, probes)
        except (LoadError, KeyError) as error:
            why = error.message if isinstance(error, LoadError) else "it keeps nothing of the kind"
            remarks.append(
                f"process {info.pid} watches tree {printable(info.tree)}; if that is this one, the tool calls that had"
                f" begun before are not known: {why}"
            )
            continue
        with closing(other):
            fresh, named = _copy_threads(other.threads, probes, known)
            known |= fresh
            owners = set(probes.tree.identities())
            records += _copy_said(other.said, probes.map(_SAID), named, owners)
    return [record for _, record in sorted(records)], remarks


def _others(probes: Probes) -> Iterator[TreeInfo]:
    """Those that are listed, the oldest first, which know the most."""
    own = held.id_of(probes.map(_TREE).fd)
    with suppress(HostError):  # register() says what is wrong with the directory
        for info in rundir.trees():
            if info.alive and info.remains is not None and info.remains.maps.get(_TREE) != own:
                yield info


def _threads(probes: Probes) -> set[int]:
    found: set[int] = set()
    for pid in probes.tasks()["tgid"].tolist():
        with suppress(OSError, ValueError):
            found.update(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    return found


def _copy_threads(theirs: Map, probes: Probes, known: set[int]) -> tuple[set[int], set[bytes]]:
    """Those of the tree that the other watch has in a span, but for ``known`` ones; and the names of these spans."""
    ours, (_, size) = probes.map(_TREE), held.shape_of(theirs.fd)
    looked_at, found, named = set(known), set(), set()
    for _ in range(_PASSES):
        fresh = _threads(probes) - looked_at
        if not fresh:
            break
        looked_at |= fresh
        for tid in fresh:
            if (value := _copy(theirs, ours, _TID.pack(tid), size)) is not None:
                found.add(tid)
                named |= {SPAN_NAME.pack(*where) for where in SPAN_NAME.iter_unpack(value[_OF_THREAD])}
    return found, named


def _copy(theirs: Map, ours: Map, key: bytes, size: int) -> bytes | None:
    """One value, though it may change meanwhile; None if there is none. Our own probes write there, too: they know
    of what has changed since, the other's of everything, so the other's is right.
    """
    value = theirs.lookup(key, size)
    for _ in range(_TRIES):
        if value is None:
            break
        ours.update(key, value)
        after = theirs.lookup(key, size)
        if after == value:
            break
        if after is None:
            ours.delete(key)  # it has ended
        value = after
    return value


def _copy_said(
    theirs: Map, ours: Map, named: set[bytes], owners: set[tuple[int, int]]
) -> Iterator[tuple[int, bytes]]:
    """What was said, and when, of the spans ``named``, of those of ``owners`` (pid and start), and of those around
    them; but not of those that our own probes have been told of: that the ring tells.
    """
    found = {k: v for k, v in theirs.items(SPAN_NAME.size, held.shape_of(theirs.fd)[1]) if is_whole(k, v)}
    wanted = list(named)
    for key in found:
        start, pid, _ = SPAN_NAME.unpack(key)
        if (pid, start) in owners:
            wanted.append(key)
    while wanted:
        key = wanted.pop()
        value = found.pop(key, None)
        if value is None:
            continue
        if ours.add(key, value):
            yield begun(value)
        wanted.append(name_above(value))
