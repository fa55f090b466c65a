# SPDX-License-Identifier: Apache-2.0
"""A recording as it is being written: what has come since the last look, from one file into the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tracer.record import layout
from tracer.record.reader import Found, Recording, UnbegunError

#: Of one look; the rest comes with the next.
_READ_MAX = 64 << 20


class Follower:
    """Begins at the beginning of ``path``, which may be a later file. Raises VigilesError where that is no recording.

    ``recording`` is the file that was read last: it turns what is found into what it holds. ``ended``: the watch is
    over, and all of it has been read. ``damaged``: places that no whole block began at.
    """

    def __init__(self, path: Path) -> None:
        self._open(path)
        part = self.recording.header.part
        name = path.name.removesuffix(f".{part}") if part > 1 else path.name
        self._first = path.with_name(name)
        self.ended = False
        self.damaged = 0

    def _open(self, path: Path) -> None:
        self.recording = Recording(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._at = 0

    def look(self) -> Iterator[Found]:
        """The whole blocks that have been written since the last call."""
        while not self.ended:
            data = os.pread(self._fd, _READ_MAX, self._at)
            at = 0
            for found in self._blocks(data):
                at = found.end
                self.ended |= found.head.type == layout.END
                yield Found(self._at + found.at, found.head, found.stored)
            self._at += at
            rest = data[at:]
            if layout.open_trailer(rest) is not None and not self.ended:
                if not self._next_file():
                    return
            elif not at and not self._skip(rest):
                return

    def _blocks(self, data: bytes) -> Iterator[Found]:
        view, at = memoryview(data), 0
        while head := layout.open_head(data[at : at + layout.PREFIX_BYTES]):
            payload = layout.payload_of(view, at, head)
            if not layout.is_whole(head, payload):
                return  # the rest of it is still to come, or never will
            found = Found(at, head, payload)
            yield found
            at = found.end

    def _skip(self, rest: bytes) -> bool:
        """Is this no block, but another one behind it? Then go on there."""
        after = rest.find(layout.MARK, 1)
        if after < 0:
            return False
        self.damaged += 1
        self._at += after
        return True

    def _next_file(self) -> bool:
        number = self.recording.header.part + 1
        path = self._first.with_name(f"{self._first.name}.{number}")
        if not path.exists():
            return False
        before, fd = self.recording, self._fd
        try:
            self._open(path)
        except UnbegunError:
            return False  # it is being made
        before.close()
        os.close(fd)
        return True

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._fd)
        self.recording.close()
