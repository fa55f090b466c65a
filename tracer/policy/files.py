# SPDX-License-Identifier: Apache-2.0
"""Programs that a policy names by the file itself: found out once, when the policy is read.

What stat(2) says of a file need not be what the kernel knows it by (overlayfs, btrfs), and probes see the
latter: so the inode is taken from fdinfo, and the device from the mount that the file was reached by.

What is allowed has to be the file as it is now: its size and the time of its last change belong to its name.
(The time of the inode's change can't: a hard link or a new name changes it.) What is forbidden is forbidden
whatever has been written into it since.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from tracer.policy.unfit import Unfit
from tracer.rules.users import BELOW, file_user, split_user

#: What such an entry begins with; the path follows.
PREFIX = "file:"


class FileId(NamedTuple):
    """A file by its number, ``MAJOR:MINOR:INODE``; ``content``: with what it is now, as rules have both."""

    place: str
    content: str


def path_of(text: str) -> str | None:
    """The path of an entry that names a file itself; None of any other."""
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def see_that_it_names_a_file(text: str) -> None:
    """Can there be a file of this name? Raises Unfit."""
    path = path_of(text) or ""
    if not path.startswith("/") or path.endswith("/") or "*" in path:
        raise Unfit(f"'{text}' names no file", f'"{PREFIX}/usr/bin/python3.11", one whole path')


def identify(path: str) -> FileId:
    """The file that is at ``path`` now, links followed. Raises Unfit."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise Unfit(f"'{PREFIX}{path}' is not here: {error.strerror}", "name a file of this host") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Unfit(f"'{PREFIX}{path}' is no ordinary file", "name a program")
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            said = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
    finally:
        os.close(fd)
    place = f"{_device(int(said['mnt_id']), path)}:{int(said['ino'])}"
    return FileId(place, f"{place}:{found.st_size}:{found.st_mtime_ns}")


def _device(mount: int, path: str) -> str:
    """``MAJOR:MINOR`` of the file system that is mounted there."""
    with open("/proc/self/mountinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split(" ", 3)
            if int(words[0]) == mount:
                return words[2]
    raise Unfit(f"'{PREFIX}{path}': its mount can't be seen from here", "name a file that can")


def known_user(text: str) -> str:
    """An entry of who may use the GPU, as the engine reads it: files by their numbers. Raises Unfit."""
    who, below = split_user(text)
    return _known(who) if below is None else _known(who) + BELOW + _known(below)


def _known(text: str) -> str:
    path = path_of(text)
    return text if path is None else file_user(identify(path).content)
