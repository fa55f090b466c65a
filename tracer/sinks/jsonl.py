# SPDX-License-Identifier: Apache-2.0
"""Alerts as JSON Lines, into a file or to standard output."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

from tracer.alerts import Alert
from tracer.errors import VigilesError


def open_for_append(path: Path, *, group: int | None = None) -> int:
    """A descriptor that appends to ``path``, safe in directories that others can write.

    A link in the last place is not followed, and a file that others could have prepared (not ours,
    or writable by them) is refused. ``group`` may read what we create.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o640)
    except OSError as error:
        raise VigilesError(f"can't write to {path}: {error.strerror}") from None
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode):
        if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            os.close(fd)
            raise VigilesError(
                f"{path} belongs to somebody else or can be written by others",
                hint="name a file that does not exist yet, or remove this one",
            )
        if group is not None and info.st_size == 0:
            os.fchown(fd, -1, group)
    os.set_blocking(fd, True)
    return fd


class JsonLines:
    """One JSON object a line; each line is written at once, so a reader never sees half of one."""

    def __init__(self, target: str, *, group: int | None = None) -> None:
        self._own = target != "-"
        self._fd = open_for_append(Path(target), group=group) if self._own else sys.stdout.fileno()
        self.target = target
        self.failed = 0
        self.failure = ""

    def tell(self, alert: Alert) -> None:
        """Write one alert; a full disk must not stop the watch, so it is counted."""
        line = json.dumps(alert.to_json(), ensure_ascii=True, separators=(",", ":")) + "\n"
        try:
            data = line.encode()
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self.failed += 1
            self.failure = error.strerror or str(error)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._own and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
