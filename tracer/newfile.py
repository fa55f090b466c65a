# SPDX-License-Identifier: Apache-2.0
"""A file of root's that is made now and written later, in a folder where others may write."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from tracer.errors import VigilesError

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Others could have prepared what is read as root's word, so nobody else may write it.
_MODE = 0o640
#: What is in there until it is written: no TOML, nor anything else that could be mistaken for the whole.
UNFINISHED = b"=== not finished ===\n"


class NewFile:
    """A new file at ``path``, for ``group`` to read. All that needs privileges is done at once.

    ``replace``: what is there, other than a folder, gives way to it. Leaving the block without having written
    removes it, if that is still allowed; else it stays unfinished, and no reader takes it for more.
    """

    def __init__(self, path: Path, *, group: int | None = None, replace: bool = False) -> None:
        self.path = path
        self._written = False
        try:
            if replace:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            self._fd = os.open(path, _NEW, 0o600)
        except FileExistsError:
            raise VigilesError(f"{path} is there already", hint="--force replaces it") from None
        except OSError as error:
            raise VigilesError(f"can't write {path}: {error.strerror}") from None
        if group is not None:
            os.fchown(self._fd, -1, group)
        os.fchmod(self._fd, _MODE)
        self._put(UNFINISHED, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._written and self.is_in_place():
            with suppress(OSError):
                os.unlink(self.path)
        os.close(self._fd)

    def _put(self, data: bytes, at: int) -> None:
        while data:
            count = os.pwrite(self._fd, data, at)
            data, at = data[count:], at + count

    def write(self, data: bytes) -> None:
        """Put ``data`` there. Its first byte comes last, so that it is never half of a file."""
        try:
            self._put(data[1:], 1)
            os.ftruncate(self._fd, len(data))
            self._put(data[:1], 0)
        except OSError as error:
            raise VigilesError(f"can't write {self.path}: {error.strerror}") from None
        self._written = True

    def read(self) -> bytes:
        """What is in it."""
        return os.pread(self._fd, os.fstat(self._fd).st_size, 0)

    def is_in_place(self) -> bool:
        """Is it still what is found at its path?"""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._fd))
        except OSError:
            return False
