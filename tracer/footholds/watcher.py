# SPDX-License-Identifier: Apache-2.0
"""The folders that are watched, and what is told of them.

A folder that is made later is watched from then on; what lies in it by that time was put there by whoever made
it. Everything below a home is the tree's to shape: folders are opened as what they are, never through a link, and
as few names of each are read as are needed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tracer.errors import HostError
from tracer.footholds import fanotify
from tracer.footholds.places import Folder

#: Folders that are watched, and names read of each: more are not looked at, and counted.
FOLDERS_MAX = 2048
NAMES_MAX = 1024
#: Read at once: 60 changes or so. A queue that is filled on purpose must not keep us from the rings.
_READ_BYTES = 4096
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK


class Written(NamedTuple):
    """A file was written or put in its place. ``linked``: it, or a folder above it, is a link."""

    pid: int
    what: int
    path: str
    linked: bool


class Footholds:
    """Watches ``places``; needs CAP_SYS_ADMIN to begin with. Raises HostError where there is no fanotify."""

    def __init__(self, places: Iterable[tuple[Path, Folder]]) -> None:
        self._folders: dict[fanotify.Handle, tuple[str, Folder]] = {}
        self._handles: dict[str, fanotify.Handle] = {}
        #: Why something is not told: by what, how often.
        self.lost: dict[str, int] = {}
        #: Folders that can't be watched, and why.
        self.refused: list[tuple[str, str]] = []
        try:
            self.fd = fanotify.new_group()
        except OSError as error:
            raise HostError(
                f"footholds are not watched: fanotify(7) says {error.strerror}",
                hint="it needs CAP_SYS_ADMIN and CONFIG_FANOTIFY, names of files Linux 5.9",
            ) from None
        for path, folder in places:
            # here links are followed: a home may be one, and nobody has begun to run
            self._watch(os.path.realpath(path), folder, follow=True)

    @property
    def folders(self) -> int:
        """How many are watched."""
        return len(self._folders)

    def close(self) -> None:
        """Let go of everything."""
        os.close(self.fd)

    def _count(self, why: str) -> None:
        self.lost[why] = self.lost.get(why, 0) + 1

    def _watch(self, path: str, folder: Folder, *, follow: bool = False) -> list[tuple[str, int, bool]]:
        """Watch a folder, if it is there, and those below it that matter; what is obeyed in them already."""
        if len(self._folders) >= FOLDERS_MAX:
            self._forget_gone()
        if len(self._folders) >= FOLDERS_MAX:
            self._count("folders")
            return []
        try:
            fd = os.open(path, _OPEN | (0 if follow else os.O_NOFOLLOW))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self.refused.append((path, error.strerror or str(error)))
            return []
        try:
            return self._watch_open(fd, path, folder, follow=follow)
        except OSError as error:  # a file system without handles, such as an overlay's before Linux 6.6
            self.refused.append((path, error.strerror or str(error)))
            return []
        finally:
            os.close(fd)

    def _forget_gone(self) -> None:
        """Make room: folders are made and removed faster than anybody would in earnest."""
        for path in [path for path in self._handles if not os.path.isdir(path)]:
            self._folders.pop(self._handles.pop(path), None)

    def _watch_open(self, fd: int, path: str, folder: Folder, *, follow: bool) -> list[tuple[str, int, bool]]:
        handle = fanotify.watch(self.fd, fd)
        if (old := self._handles.get(path)) is not None:  # of the same name, and gone
            self._folders.pop(old, None)
        self._handles[path] = handle
        self._folders[handle] = (path, folder)
        there = []
        names = set(folder.files) | {name for name in folder.below if name != "*"}
        if folder.any or "*" in folder.below:
            with os.scandir(fd) as entries:
                names |= {entry.name for entry in islice(entries, NAMES_MAX)}
                if next(entries, None) is not None:
                    self._count("names")
        for name in sorted(names):
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            except OSError:
                continue  # not there, or not any more
            there += self._found(f"{path.rstrip('/')}/{name}", name, folder, mode, follow=follow)
        return there

    def _found(
        self, path: str, name: str, folder: Folder, mode: int, *, follow: bool
    ) -> list[tuple[str, int, bool]]:
        """What is at ``path`` that is obeyed: itself, or what lies in it."""
        below = folder.folder(name)
        linked = stat.S_ISLNK(mode)
        if below is not None and (stat.S_ISDIR(mode) or (linked and follow)):
            return self._watch(path, below, follow=follow)
        if below is not None and linked:
            return [(path, below.first(), True)] if below.first() else []
        what = folder.what(name)
        return [(path, what, linked)] if what and not stat.S_ISDIR(mode) else []

    def take(self) -> Iterator[Written]:
        """What has been written since the last call, or a part of it: then the descriptor stays readable."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return
        for change in fanotify.changes(data):
            if change.folder is None:
                self._count("queue-full")
                continue
            known = self._folders.get(change.folder)
            if known is None:
                continue  # a folder that is gone, and one of whose parents is watched
            base, folder = known
            path = f"{base.rstrip('/')}/{change.name}"
            for where, what, linked in self._changed(path, change, folder):
                yield Written(change.pid, what, where, linked)

    def _changed(self, path: str, change: fanotify.Change, folder: Folder) -> list[tuple[str, int, bool]]:
        if change.mask & fanotify.ONDIR:
            below = folder.folder(change.name)
            return self._watch(path, below) if below is not None else []
        if not folder.what(change.name) and folder.folder(change.name) is None:
            return []
        if change.mask & fanotify.CLOSE_WRITE:
            what = folder.what(change.name)
            return [(path, what, False)] if what else []
        try:
            found = os.lstat(path)
        except OSError:
            return []  # it was there for a moment: whoever writes to it again is told of
        made = change.mask & fanotify.CREATE and not change.mask & fanotify.MOVED_TO
        if made and stat.S_ISREG(found.st_mode) and found.st_nlink < 2:
            return []  # not written yet, nor a second name of a file that is
        return self._found(path, change.name, folder, found.st_mode, follow=False)
