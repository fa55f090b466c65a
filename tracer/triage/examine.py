# SPDX-License-Identifier: Apache-2.0
"""One file, examined from its first byte to its last."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tracer.triage import symbols
from tracer.triage.bounded import Deadline, Limits, regular_file
from tracer.triage.elf import read_elf
from tracer.triage.filescan import FileScanner
from tracer.triage.report import FileReport, Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.model import Group


def identity_of(status: os.stat_result) -> Identity:
    """What tells this content from others."""
    return Identity(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns)


class Examination:
    """How files are examined: with which rules, within which limits. For one thread."""

    def __init__(self, groups: Sequence[Group], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._scanner = FileScanner(groups)
        self._deadline = Deadline(0)
        self._cancelled = False

    def warm(self) -> None:
        """Compile now what would be compiled at the first file."""
        symbols.warm()
        self._scanner.warm()

    def cancel(self) -> None:
        """End what is going on, and all that follows, as if the time were over. From any thread."""
        self._cancelled = True
        self._deadline.expire()

    def examine(self, fd: int, path: bytes = b"") -> FileReport:
        """Examine the file behind ``fd``, which has been opened for reading.

        Raises :class:`.bounded.NotRegularError`, or OSError if it can't even be asked for its size.
        """
        began = time.monotonic()
        before = regular_file(fd)
        self._deadline = deadline = Deadline(0 if self._cancelled else self.limits.seconds)
        elf = read_elf(fd, before.st_size, self.limits, deadline)
        scan = self._scanner.scan(fd, before.st_size, self.limits, deadline)
        facts = set(elf.facts)
        if scan.unread_bytes:
            facts.add("unread")
        # not the time of change: a link made or removed meanwhile changes that as well
        same = identity_of(os.fstat(fd))._replace(changed_ns=0) == identity_of(before)._replace(changed_ns=0)
        if scan.cut_short or not same:
            facts.add("changed")
        return FileReport(
            identity=identity_of(before),
            path=path,
            facts=frozenset(facts),
            elf=elf,
            scan=scan,
            seconds=time.monotonic() - began,
        )
