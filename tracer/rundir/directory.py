# SPDX-License-Identifier: Apache-2.0
"""The directory: made and opened so that nobody else can have a hand in it; its files written, read, removed."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracer.errors import HostError
from tracer.rundir.record import TreeInfo, file_name, parse, to_bytes

DIRECTORY = Path("/run/vigiles")

_SUFFIX = ".json"
_FILE_MAX = 1 << 16
_FILES_MAX = 4096
#: A writer holds the lock for a moment; whoever holds it longer hangs, and is not waited for.
_LOCK_PATIENCE_S = 0.5
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def _is_ours(info: os.stat_result) -> bool:
    return info.st_uid == os.geteuid() and not info.st_mode & _OTHERS_MAY_WRITE


def _refuse(why: str | None) -> HostError:
    return HostError(
        f"{DIRECTORY} can't be used: {why}", hint=f"look at it, then remove it: rm -r {DIRECTORY}"
    )


def _open_parent() -> int:
    """A descriptor of /run, in which nobody else can exchange what is ours."""
    place = DIRECTORY.parent
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"can't open {place}: {error.strerror}", hint=f"make it: mkdir -m 755 {place}"
        ) from None
    info = os.fstat(fd)
    # with the sticky bit others may put things there, but not take ours away
    if info.st_uid not in {0, os.geteuid()} or (
        info.st_mode & _OTHERS_MAY_WRITE and not info.st_mode & stat.S_ISVTX
    ):
        os.close(fd)
        raise HostError(f"{place} belongs to somebody else or can be written by others")
    return fd


def _open(parent: int, *, make: bool) -> int | None:
    name = DIRECTORY.name
    if make:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise HostError(f"can't make {DIRECTORY}: {error.strerror}") from None
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        if make:
            raise HostError(f"{DIRECTORY} was removed the moment it was made") from None
        return None
    except NotADirectoryError:  # for a link, too
        raise _refuse("it is no directory") from None
    except PermissionError:
        raise HostError(f"{DIRECTORY} is root's alone", hint="use sudo") from None
    except OSError as error:
        raise _refuse(error.strerror) from None


@contextmanager
def opened(*, make: bool) -> Iterator[int | None]:
    """A descriptor of the directory, which is certainly ours alone; None if there is none, and none is made."""
    parent = _open_parent()
    try:
        fd = _open(parent, make=make)
    finally:
        os.close(parent)
    if fd is None:
        yield None
        return
    try:
        info = os.fstat(fd)
        if not _is_ours(info):
            raise _refuse("it belongs to somebody else or can be written by others")
        if make and info.st_mode & 0o077:
            os.fchmod(fd, 0o700)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _alone(directory: int) -> Iterator[bool]:
    """Nobody else writes meanwhile; false if somebody holds on to the lock."""
    end = time.monotonic() + _LOCK_PATIENCE_S
    locked = False
    while not locked and time.monotonic() < end:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            time.sleep(0.005)
    try:
        yield locked
    finally:
        if locked:
            fcntl.flock(directory, fcntl.LOCK_UN)


def _read(directory: int, name: str) -> TreeInfo | None:
    """One file; None unless it is a regular one of ours that makes sense."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or not _is_ours(info) or info.st_size > _FILE_MAX:
            return None
        return parse(os.read(fd, _FILE_MAX))
    except OSError:
        return None
    finally:
        os.close(fd)


def _names(directory: int) -> list[str]:
    names = [name for name in os.listdir(directory) if name.endswith(_SUFFIX) and not name.startswith(".")]
    return sorted(names)[:_FILES_MAX]


def read_all(directory: int) -> list[TreeInfo]:
    """Every file that makes sense."""
    return [info for name in _names(directory) if (info := _read(directory, name)) is not None]


def _unlink(directory: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=directory)


def _remove_stale(directory: int) -> None:
    """Under the lock: what killed tracers left. What makes no sense stays, it may be a later version's."""
    for name in os.listdir(directory):
        if name.startswith("."):  # half written: or its writer would hold the lock
            _unlink(directory, name)
    for name in _names(directory):
        found = _read(directory, name)
        if found is not None and found.stale:
            _unlink(directory, name)


def _write(directory: int, info: TreeInfo) -> str:
    name = file_name(info.tree) + _SUFFIX
    if (other := _read(directory, name)) is not None and other.alive:
        # somebody watches this tree already: a file for each
        name = f"{file_name(info.tree)}+{info.pid}-{os.urandom(4).hex()}{_SUFFIX}"
    draft = f".{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(draft, flags, 0o600, dir_fd=directory)
    try:
        data = to_bytes(info)
        while data:
            data = data[os.write(fd, data) :]
        os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _unlink(directory, draft)
        raise
    finally:
        os.close(fd)
    return name


def put(directory: int, info: TreeInfo) -> str:
    """Write a tree's file, whose name is returned, and remove what killed tracers left."""
    try:
        with _alone(directory) as alone:
            if alone:
                _remove_stale(directory)
            return _write(directory, info)
    except OSError as error:
        raise HostError(f"can't write to {DIRECTORY}: {error.strerror}") from None


def remove(directory: int, name: str, info: TreeInfo) -> None:
    """Remove what :func:`put` wrote, if it is still that."""
    with _alone(directory):
        if _read(directory, name) == info:
            _unlink(directory, name)
