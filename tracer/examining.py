# SPDX-License-Identifier: Apache-2.0
"""The executables that a tree runs for the first time: handed to the examiner, and judged when it has an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tracer.alerts import AlertBuilder, Who
from tracer.engine.engine import Engine, Program
from tracer.engine.processes import find_exact
from tracer.kernel import schema
from tracer.rules import RuleSet
from tracer.triage.examiner import Examiner
from tracer.triage.report import FileReport


class Examined(NamedTuple):
    """An answer: ``record`` is what the engine takes in, ``who`` has executed the file."""

    record: bytes
    report: FileReport
    who: Who


def ended(pid: int, start_ns: int) -> Program:
    """A process of which no more is known than that it was there."""
    return Program(pid, start_ns, b"", b"", b"", (), False, 0, 0, 0, 0, False)


class Examining:
    """Begins to examine by ``rules`` at once. An executable whose process has ended is still told of it."""

    def __init__(self, engine: Engine, builder: AlertBuilder, rules: RuleSet) -> None:
        self._engine = engine
        self._builder = builder
        self._examiner = Examiner(rules.groups)
        self._token = 1
        self._waiting: dict[int, tuple[Program, Who, int]] = {}
        self._refused = 0  # those that the examiner counts as lost, but never had

    @property
    def ready(self) -> int:
        """A descriptor that is readable when there are answers."""
        return self._examiner.ready

    @property
    def unanswered(self) -> int:
        """Files that the examiner has taken and said nothing of: neither a report nor that it is lost."""
        return len(self._waiting) - (self._examiner.lost.total() - self._refused)

    def submit(self) -> None:
        """Have the executables looked into that the engine has seen for the first time."""
        for pid, start, device, inode, when, path in self._engine.take_files():
            # it may have ended when its file has been read: remember who it was
            who = self._builder.who(find_exact(self._engine.state.processes, pid, start))
            self._waiting[self._token] = (who.program or ended(pid, start), who, when)
            if not self._examiner.submit(pid, start, device, inode, self._token, path):
                del self._waiting[self._token]
                self._refused += 1
            self._token += 1

    def answers(self) -> Iterator[Examined]:
        """What has been found out since the last call."""
        for found in self._examiner.collect():
            was = self._waiting.pop(found.token, None)
            if was is None:
                continue
            program, who, when = was
            if not program.exe:
                program = replace(program, exe=found.report.path)
            record = np.zeros((), schema.FILE)
            record["kind"], record["size"] = schema.KIND["EVENT_FILE"], schema.FILE.itemsize
            record["ts"], record["tgid"] = when, program.pid
            record["start"] = program.start_ns
            record["epoch"] = self._engine.state.epoch[0]
            record["signals"] = found.report.signals()
            yield Examined(record.tobytes(), found.report, who._replace(program=program))

    def close(self) -> Counter[str]:
        """End; files that were lost, by why. May be called again."""
        self._examiner.close()
        lost = Counter(self._examiner.lost)
        lost["unfinished"] += max(self.unanswered, 0)
        self._waiting.clear()
        self._refused = self._examiner.lost.total()
        return lost
