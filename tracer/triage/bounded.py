# SPDX-License-Identifier: Apache-2.0
"""Reading a hostile file: so many bytes, so much time, and never past what is there."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """What one examination may cost."""

    #: wall time of everything together
    seconds: float = 2.0
    #: bytes read to understand the headers and tables
    structure_bytes: int = 64 << 20
    #: bytes searched for indicators
    scan_bytes: int = 256 << 20
    sections: int = 4096
    segments: int = 256
    symbols: int = 1 << 20
    #: one table or string table
    table_bytes: int = 16 << 20
    #: GPU code: containers' entries looked at
    gpu_entries: int = 1024
    #: strings of evidence of one kind, and the length of one
    strings: int = 32
    string_bytes: int = 160


class OutOfBudgetError(Exception):
    """No more may be read of this file. Never leaves this package."""


class Deadline:
    """When an examination has to end."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def expire(self) -> None:
        """Have it over now."""
        self._end = 0.0

    @property
    def passed(self) -> bool:
        """Is it over?"""
        return time.monotonic() >= self._end


class NotRegularError(Exception):
    """A directory, pipe, device or socket: these are not read."""


def regular_file(fd: int) -> os.stat_result:
    """The status of the file behind ``fd``, if it is a regular one."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(stat.filemode(status.st_mode)[0])
    return status


@dataclass(slots=True)
class Reader:
    """The first ``size`` bytes of ``fd``, by offset, within the budget.

    Two of them may share a file, never its position: only ``pread`` is used.
    """

    fd: int
    size: int
    limits: Limits
    deadline: Deadline
    #: what is wrong with the file, and what was left out
    problems: list[str] = field(default_factory=list)
    hostile: bool = False
    cut: bool = False
    _left: int = field(init=False)

    def __post_init__(self) -> None:
        self._left = self.limits.structure_bytes

    def read(self, offset: int, length: int) -> bytes:
        """What is there of ``length`` bytes at ``offset``: less, or nothing, where the file ends."""
        if offset < 0 or length <= 0 or offset >= self.size:
            return b""
        length = min(length, self.size - offset)
        if length > self._left or self.deadline.passed:
            raise OutOfBudgetError
        parts = []
        while length > 0:  # a file cut short meanwhile ends the loop, too
            try:
                part = os.pread(self.fd, min(length, 1 << 20), offset)
            except OSError as error:
                self.problem(f"can't be read at {offset}: {error.strerror}")
                break
            if not part:
                break
            parts.append(part)
            self._left -= len(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def table(self, offset: int, length: int, what: str) -> bytes:
        """A table that a header names; says so if it lies beyond the end or is too big."""
        if length > self.limits.table_bytes:
            self.left_out(f"{what}: {length} bytes, only the first {self.limits.table_bytes} were read")
            length = self.limits.table_bytes
        if offset + length > self.size:
            self.problem(f"{what}: ends beyond the end of the file")
        return self.read(offset, length)

    def problem(self, text: str) -> None:
        """Note what is wrong with the file."""
        self.hostile = True
        self._note(text)

    def left_out(self, text: str) -> None:
        """Note what was not looked at, though it may be in order."""
        self.cut = True
        self._note(text)

    def _note(self, text: str) -> None:
        if text not in self.problems and len(self.problems) < self.limits.strings:
            self.problems.append(text)
