# SPDX-License-Identifier: Apache-2.0
"""Recordings without a kernel: an engine is fed made-up records, and what it takes in is recorded."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tracer.alerts import Alert, AlertBuilder, Origin
from tracer.engine.engine import Engine
from tracer.engine.tap import lay_out
from tracer.record import layout
from tracer.record.files import PartFiles
from tracer.record.header import make_header, terms_of
from tracer.record.player import Player
from tracer.record.reader import in_order
from tracer.record.recorder import Recorder
from tracer.record.snapshot import Snapshot
from tracer.record.writer import Block, WriteOptions, Writer
from tracer.rules import RuleSet

EPOCH = 5
OFFSET_NS = 1_700_000_000 * 1_000_000_000


def header_of(engine: Engine, epoch: int = EPOCH) -> dict[str, Any]:
    judged_by = terms_of(engine.rules, None, epoch, enforce=False)
    return make_header(engine, "tree-1", judged_by, command=["sh"], missing_hooks={}, signed=False)


def written(path: Path, blocks: Iterable[Block], header: dict[str, Any], **options: Any) -> Writer:
    """A finished recording of ``blocks``."""
    keep = options.pop("keep_bytes", 0)
    writer = Writer(PartFiles(path, keep_bytes=keep), header, WriteOptions(**options))
    for block in blocks:
        while writer._waiting:
            time.sleep(0.001)
        if writer.is_due():
            writer.turn()
        writer.put(block)
    assert writer.close()
    return writer


class Live:
    """A watch without probes: the same engine, builder and recorder, in the same order.

    ``alerts_before``: how many had been told when each file began.
    """

    def __init__(self, path: Path, rules: RuleSet, **options: Any) -> None:
        self.engine = Engine(rules, processes=64, flows=64)
        header = header_of(self.engine)
        self.writer = Writer(PartFiles(path), header, WriteOptions(**options))
        self.recorder = Recorder(self.writer, lambda r, e: terms_of(r, None, e, enforce=False))
        self.engine.state.epoch[0] = EPOCH
        self.engine.journal = self.recorder
        self.builder = AlertBuilder(self.engine, Origin("tree-1", header["host"], self._cgroup), OFFSET_NS)
        self.recorder.clock(OFFSET_NS)
        self.alerts: list[dict[str, Any]] = []
        self.alerts_before = [0]

    def _cgroup(self, number: int) -> str:
        self.recorder.cgroup(number, f"/made-up/{number}")
        return f"/made-up/{number}"

    def _tell(self, alerts: list[Alert]) -> None:
        for alert in alerts:
            alert.handout_ns = alert.engine_ns = alert.hook_ns + 1000
            self.recorder.tell(alert)
            self.alerts.append(alert.to_json())

    def take(self, records: list[bytes]) -> None:
        """As if they had come through the rings."""
        self.recorder.turn(lambda: Snapshot(self.engine))
        self.engine.journal = None
        self.recorder.records(lay_out(records), len(records))
        for fired in self.engine.feed(records):
            self._tell(self.builder.build(fired, 0))
        self.engine.take_files()
        self.engine.journal = self.recorder
        held = self.recorder._holds
        self.recorder.go_on()
        if self.recorder._holds and not held:
            self.alerts_before.append(len(self.alerts))

    def feed(self, records: list[bytes]) -> None:
        for fired in self.engine.feed(records, count=False):
            self._tell(self.builder.build(fired, 0))

    def end(self) -> None:
        self.recorder.end({"summary": {}})
        self.recorder.close()
        assert not self.recorder.failed


def replayed(rules: RuleSet, *paths: Path) -> tuple[list[dict[str, Any]], Player]:
    (parts,) = in_order(list(paths))
    player = Player(parts, rules)
    return [alert.to_json() for alert in player.alerts()], player


__all__ = ["EPOCH", "Block", "Live", "header_of", "layout", "replayed", "written"]
