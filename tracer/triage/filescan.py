# SPDX-License-Identifier: Apache-2.0
"""The indicators that a file contains: one pass over its bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.detect.facts import FIRST_GROUP, WORDS
from tracer.rules.automaton import compile_groups, patterns_of
from tracer.rules.model import WHERE_FILE
from tracer.triage.bounded import Deadline, Limits
from tracer.triage.window import AHEAD, search, walk_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracer.rules.model import Group

CHUNK = 1 << 20
#: A file with more pieces than this is read through its holes.
_EXTENTS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Indicator:
    """``literal`` of ``group`` was found; its first byte is the file's ``offset``-th."""

    group: str
    literal: str
    offset: int


@dataclass(frozen=True, slots=True)
class FileScan:
    """``signals`` are numbered as those of the whole rule set; indicators are in the order of the file."""

    signals: NDArray[np.int64]
    groups: frozenset[str]
    indicators: tuple[Indicator, ...]
    read_bytes: int
    #: bytes of data that were not looked at; holes are not data
    unread_bytes: int
    #: the file ended before its size said so, or could not be read
    cut_short: bool


class FileScanner:
    """The groups of a rule set that are looked for in files. Not for several threads at once."""

    def __init__(self, groups: Sequence[Group], chunk: int = CHUNK) -> None:
        numbered = [(FIRST_GROUP + n, group) for n, group in enumerate(groups) if "file" in group.where]
        chosen = [group for _, group in numbered]
        self._patterns = patterns_of(chosen)
        self._walk = walk_of(compile_groups(chosen, [number for number, _ in numbered]))
        self._chunk = chunk
        self._buffer = np.zeros(self._walk.longest + AHEAD + chunk, dtype=np.uint8)

    def warm(self) -> None:
        """Compile now what would be compiled at the first file."""
        self._search(0, 0, 0, *self._nothing(), 0)

    def scan(
        self, fd: int, size: int, limits: Limits | None = None, deadline: Deadline | None = None
    ) -> FileScan:
        """Search the first ``size`` bytes of the regular file ``fd``."""
        limits = limits or Limits()
        deadline = deadline or Deadline(limits.seconds)
        signals, places = self._nothing()
        left, read, unread, short = limits.scan_bytes, 0, 0, False
        for start, end in _extents(fd, size):
            stop = min(end, start + left)
            reached = self._scan_extent(fd, start, stop, signals, places, deadline)
            short = short or (reached < stop and not deadline.passed)
            read += reached - start
            left -= reached - start
            unread += end - reached
        return self._result(signals, places, read, unread, limits, cut_short=short)

    def _nothing(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.zeros(WORDS, dtype=np.int64), np.full(len(self._patterns), -1, dtype=np.int64)

    def _search(
        self,
        size: int,
        first_end: int,
        last_end: int,
        signals: NDArray[np.int64],
        places: NDArray[np.int64],
        base: int,
    ) -> None:
        search(self._buffer, size, first_end, last_end, WHERE_FILE, self._walk, signals, places, base)

    def _scan_extent(
        self,
        fd: int,
        start: int,
        end: int,
        signals: NDArray[np.int64],
        places: NDArray[np.int64],
        deadline: Deadline,
    ) -> int:
        """Search ``[start, end)``, outside of which there are NULs; returns where it had to stop."""
        buffer = self._buffer
        view = buffer.data
        at = start
        kept = done = 0  # bytes in the buffer from before, and up to where ends have been looked at
        final = False
        while not final and not deadline.passed:
            wanted = min(self._chunk, end - at)
            try:
                got = os.preadv(fd, [view[kept : kept + wanted]], at) if wanted else 0
            except OSError:
                got = 0
            base = at - kept
            at += got
            size = kept + got
            final = at >= end or got == 0
            last_end = size if final else max(done, size - AHEAD)
            self._search(size, done, last_end, signals, places, base)
            # an indicator that ends later begins after this byte
            first = max(0, last_end - self._walk.longest)
            kept = size - first
            buffer[:kept] = buffer[first:size]
            done = last_end - first
        return at

    def _result(
        self,
        signals: NDArray[np.int64],
        places: NDArray[np.int64],
        read: int,
        unread: int,
        limits: Limits,
        *,
        cut_short: bool,
    ) -> FileScan:
        found = sorted((int(places[n]), n) for n in np.flatnonzero(places >= 0).tolist())
        indicators = [
            Indicator(group.id, literal, end - len(literal.encode()))
            for end, (group, literal) in ((end, self._patterns[n]) for end, n in found)
        ]
        groups = frozenset(item.group for item in indicators)
        return FileScan(signals, groups, tuple(indicators[: limits.strings]), read, unread, cut_short)


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The pieces of a file that hold data: all of it, unless it is sparse.

    Indicators contain no NUL, so none can reach across a hole.
    """
    if os.fstat(fd).st_blocks * 512 >= size:
        yield 0, size
        return
    at = 0
    for _ in range(_EXTENTS_MAX):
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError:  # ENXIO: no data behind this place; or the file system can't tell
            if at == 0 and size:
                yield from _unless_empty(fd, size)
            return
        if start >= size:
            return
        yield start, end
        at = end
    yield at, size


def _unless_empty(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """All of the file, if it isn't one big hole."""
    if os.fstat(fd).st_blocks:
        yield 0, size
