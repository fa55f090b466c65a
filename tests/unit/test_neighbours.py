# SPDX-License-Identifier: Apache-2.0
"""What a watch learns of another one of the same processes: maps that change while they are copied, and foreign ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tracer import rundir
from tracer.kernel import held, schema
from tracer.kernel.cgroup import process_start_ticks
from tracer.kernel.readings import SPAN_NAME
from tracer.kernel.remains import Remains
from tracer.rundir import TreeInfo
from tracer.session import neighbours

sys.path.insert(0, str(Path(__file__).parent.parent))
from records import Name, span_begin

SIZE = schema.SPAN.itemsize + schema.SPAN_TEXT


class Kept(dict):
    """A map; ``changes``: values that appear one after the other, each when the one before has been read; None: gone."""

    fd, name = 7, "spans"

    def __init__(self, *args, changes=()) -> None:
        super().__init__(*args)
        self.changes = list(changes)

    def lookup(self, key: bytes, _size: int) -> bytes | None:
        found = self.get(key)
        if self.changes:
            change = self.changes.pop(0)
            self.pop(key, None) if change is None else self.update({key: change})
        return found

    def update(self, key, value=None) -> None:
        super().update(key if value is None else {key: value})

    def add(self, key: bytes, value: bytes) -> bool:
        return self.setdefault(key, value) is value

    def delete(self, key: bytes) -> bool:
        return self.pop(key, None) is not None

    def items(self, *_sizes):
        return list(super().items())


def named(name: Name) -> bytes:
    pid, start, token = name
    return SPAN_NAME.pack(start, pid, token)


def said(name: Name, text: bytes, above: Name | None = None) -> tuple[bytes, bytes]:
    return named(name), span_begin(name, text, above=above, ts=name[2]).ljust(SIZE, b"\0")


@pytest.mark.parametrize(("changes", "left"), [([], b"a"), ([b"b", b"c", b"c"], b"c"), ([b"b", None], None)])
def test_a_thread_is_copied_as_it_is_in_the_end(changes, left):
    theirs, ours = Kept({b"k": b"a"}, changes=changes), Kept({b"k": b"old"})
    assert neighbours._copy(theirs, ours, b"k", 1) == left
    assert ours.get(b"k") == left


def test_a_thread_that_never_stands_still_is_copied_all_the_same():
    theirs = Kept({b"k": b"0"}, changes=[str(n).encode() for n in range(1000)])
    ours = Kept()
    assert neighbours._copy(theirs, ours, b"k", 1) is not None
    assert b"k" in ours


def test_only_what_concerns_the_tree_is_learnt(monkeypatch):
    """Spans of its processes, those its threads are in, and those around; not what its own probes were told of."""
    monkeypatch.setattr(held, "shape_of", lambda _: (SPAN_NAME.size, SIZE))
    mine, outer, foreign, told = (5, 50, 1), (6, 60, 2), (7, 70, 3), (5, 50, 4)
    inner, other = (6, 60, 5), (6, 60, 6)
    theirs = Kept(
        [
            said(mine, b"tool=mine\0"),
            said(outer, b"tool=outer\0"),
            said(foreign, b"tool=foreign\0"),
            said(told, b"tool=told\0"),
            said(inner, b"tool=inner\0", outer),
            said(other, b"tool=other\0", outer),
            (named((5, 50, 9)), said(mine, b"")[1]),  # given to another span while it was read
        ]
    )
    ours = Kept([said(told, b"tool=told\0", None)])
    found = sorted(neighbours._copy_said(theirs, ours, {named(inner)}, {(5, 50)}))
    texts = [np.frombuffer(record, schema.SPAN, 1)[0] for _, record in found]
    assert [(int(e["span_tgid"]), int(e["span_token"])) for e in texts] == [(5, 1), (6, 2), (6, 5)]
    assert [record[schema.SPAN.itemsize :] for _, record in found] == [
        b"tool=mine\0", b"tool=outer\0", b"tool=inner\0",
    ]  # fmt: skip
    assert set(ours) == {named(name) for name in (mine, outer, told, inner)}


@pytest.mark.parametrize("layout", ["", "another"])
def test_a_watch_of_another_version_is_named(monkeypatch, layout):
    remains = Remains({"task_spans": 3, "open_spans": 4}, {"on_span": 5}, (1, 1, 1), {}, False, layout)
    info = TreeInfo("t\x1b", os.getpid(), process_start_ticks(os.getpid()) or 0, None, "run", 1.0, remains)
    own = info._replace(remains=Remains({"task_spans": 9}, {"on_span": 5}, (1, 1, 1), {}, False, layout))
    gone = info._replace(start=1)
    monkeypatch.setattr(rundir, "trees", lambda: [own, gone, info])
    monkeypatch.setattr(held, "id_of", lambda _: 9)
    probes = SimpleNamespace(kept_maps=lambda: ("task_spans", "open_spans"), map=lambda _: Kept())
    records, (remark,) = neighbours.learn_spans(probes)
    assert records == []
    assert f"process {os.getpid()}" in remark and "another version" in remark and remark.isprintable()
