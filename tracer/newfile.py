# SPDX-License-Identifier: Apache-2.0
"""A file of root's that appears as a whole, in a folder where others may write."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from tracer.errors import VigilesError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Others could have prepared what is read as root's word, so nobody else may write it.
_MODE = 0o640


class NewFile:
    """The place for a file that is written later, looked at now: whether it is free, and can be written.

    ``replace``: what is there, other than a folder, gives way to it.
    """

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        self.path = path
        self._replace = replace
        try:
            self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(error) from None
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def _failed(self, error: OSError) -> VigilesError:
        return VigilesError(f"can't write {self.path}: {error.strerror}")

    def _look(self) -> None:
        if not self.path.name:
            raise VigilesError(f"{self.path} is no name of a file")
        if not os.access(".", os.W_OK, dir_fd=self._folder):
            raise VigilesError(f"can't write {self.path}: its folder can't be written")
        try:
            there = os.stat(self.path.name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed(error) from None
        if stat.S_ISDIR(there.st_mode):
            raise VigilesError(f"{self.path} is a folder")
        if not self._replace:
            raise VigilesError(f"{self.path} is there already", hint="--force replaces it")

    def write(self, data: bytes, *, group: int | None = None) -> Path:
        """Put it there, for ``group`` to read; where it is now.

        That is another name beside it if somebody has made the file meanwhile: what took a run to find
        out must not be lost.
        """
        aside = f"{self.path.name}.{secrets.token_hex(4)}"
        try:
            if self._replace:
                self._create(aside, data, group)
                os.replace(aside, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                return self.path
            try:
                self._create(self.path.name, data, group)
            except FileExistsError:
                self._create(aside, data, group)
                return self.path.with_name(aside)
        except OSError as error:
            raise self._failed(error) from None
        return self.path

    def _create(self, name: str, data: bytes, group: int | None) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=self._folder)
        try:
            if group is not None:
                os.fchown(fd, -1, group)
            os.fchmod(fd, _MODE)
            while data:
                data = data[os.write(fd, data) :]
        except BaseException:
            os.unlink(name, dir_fd=self._folder)
            raise
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the folder back."""
        os.close(self._folder)
