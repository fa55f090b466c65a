# SPDX-License-Identifier: Apache-2.0
"""The files of a recording as they are made: one after the other, the oldest given up when they are too many."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from tracer.errors import VigilesError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o640
#: Names that are taken are passed over, but not for ever.
_TRIES = 1000


class PartFiles:
    """``path``, then ``path.2``, ``path.3``, …; all made in the folder that ``path`` was in at first.

    ``group`` may read them. ``keep_bytes``: of all finished files together, or 0: all are kept.
    """

    def __init__(self, path: Path, *, group: int | None = None, keep_bytes: int = 0) -> None:
        self.path = path
        self._name = path.name
        self._group = group
        self._keep = keep_bytes
        self._finished: deque[tuple[str, int]] = deque()
        #: finished files that were removed
        self.removed = 0
        try:
            self._folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise VigilesError(f"can't write to {path.parent}: {error.strerror}") from None
        self.fd = -1
        self.part = 0
        try:
            self._open(self._name)
        except FileExistsError:
            os.close(self._folder)
            raise VigilesError(
                f"{path} is there already", hint="a recording is never overwritten: name another file"
            ) from None
        except OSError as error:
            os.close(self._folder)
            raise VigilesError(f"can't write {path}: {error.strerror}") from None

    def _open(self, name: str) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=self._folder)
        try:
            if self._group is not None:
                os.fchown(fd, -1, self._group)
            os.fchmod(fd, _MODE)
        except OSError:
            os.close(fd)
            os.unlink(name, dir_fd=self._folder)
            raise
        self.fd, self._current, self.size = fd, name, 0
        self.part += 1

    def next(self, begin: bytes) -> None:
        """Finish this file and begin another with these bytes. Raises OSError; then this one goes on."""
        before, name, size = self.fd, self._current, self.size
        for number in range(self.part + 1, self.part + 1 + _TRIES):
            try:
                self._open(f"{self._name}.{number}")
                break
            except FileExistsError:
                continue
        else:
            raise FileExistsError(f"{self._name}.{self.part + 1} and all after it are there already")
        try:
            self.append(begin)
        except OSError:
            with suppress(OSError):
                os.unlink(self._current, dir_fd=self._folder)
            os.close(self.fd)
            self.fd, self._current, self.size = before, name, size
            self.part -= 1
            raise
        os.close(before)
        self._finished.append((name, size))
        while self._keep and self._finished and sum(s for _, s in self._finished) > self._keep:
            with suppress(FileNotFoundError):
                os.unlink(self._finished[0][0], dir_fd=self._folder)
            self._finished.popleft()
            self.removed += 1

    def append(self, data: bytes) -> None:
        """Write all of ``data``, or nothing. Raises OSError."""
        view = memoryview(data)
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self.fd, view[done:], self.size + done)
        except OSError:
            self.cut(self.size)
            raise
        self.size += done

    def cut(self, size: int) -> None:
        """Take back what was appended beyond ``size``."""
        with suppress(OSError):
            os.ftruncate(self.fd, size)
        self.size = size

    def sync(self) -> None:
        """Have it on the disk."""
        os.fdatasync(self.fd)

    def close(self) -> None:
        """Give the descriptors back; a file that nothing was written to goes. May be called again."""
        if self.fd >= 0 and not self.size:
            with suppress(OSError):
                os.unlink(self._current, dir_fd=self._folder)
        for fd in (self.fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self.fd = self._folder = -1
