# SPDX-License-Identifier: Apache-2.0
"""The cgroup of a traced tree: made, filled, watched for emptiness, removed.

Its name carries who made it (``vigiles-PID-START-COUNT``), so that a later start can tell a cgroup whose
tracer was killed and remove it once it is empty.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE, S_IWUSR

from tracer.errors import HostError
from tracer.kernel import host

_PREFIX = "vigiles-"
#: The name of a tree of ours: who made it, by pid and start in ticks.
OURS = re.compile(rf"{_PREFIX}(?P<pid>[0-9]+)-(?P<start>[0-9]+)-[0-9]+")
_made = itertools.count()


def process_start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, or None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def of_process(pid: int | str = "self") -> Path:
    """The cgroup v2 directory that a process is in."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, _, rest = line.partition(":")
        if number == "0":
            return host.cgroup2_root() / rest.partition(":")[2].lstrip("/")
    raise HostError(f"process {pid} is in no cgroup of the v2 hierarchy")


def identity(path: Path) -> int:
    """The id that probes see for a cgroup: the inode number of its directory."""
    return path.stat().st_ino


_AT_HANDLE = struct.Struct("<IiQ")
_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h


def path_of(number: int) -> str:
    """The path below the hierarchy's root of the cgroup with this id; empty if it is gone.

    The kernel's own look-up by id (open_by_handle_at), so nothing has to be searched.
    """
    root = host.cgroup2_root()
    libc = ctypes.CDLL(None, use_errno=True)
    mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        handle = _AT_HANDLE.pack(8, _FILEID_KERNFS, number)
        fd = libc.open_by_handle_at(mount, handle, os.O_RDONLY | os.O_CLOEXEC)
        if fd < 0:
            return ""
        try:
            return "/" + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), root).removeprefix(".")
        finally:
            os.close(fd)
    finally:
        os.close(mount)


def level(path: Path) -> int:
    """Depth below the root of the hierarchy: the root is 0."""
    return len(path.relative_to(host.cgroup2_root()).parts)


def is_empty(path: Path) -> bool:
    """True when no process is in the cgroup or below it, or it is gone."""
    try:
        return "populated 0" in (path / "cgroup.events").read_text()
    except OSError:
        return True


def processes(path: Path) -> set[int]:
    """Process ids in the cgroup and below it."""
    found: set[int] = set()
    for file in [path / "cgroup.procs", *path.rglob("cgroup.procs")]:
        try:
            found.update(int(line) for line in file.read_text().split())
        except OSError:
            continue  # removed meanwhile
    return found


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Let its owner write to a directory for a moment.

    The kernel makes the top of the hierarchy with mode 555, so that even root needs CAP_DAC_OVERRIDE there,
    which a running watch has given up. That its owner may change the mode needs none.
    """
    mode = S_IMODE(path.stat().st_mode)
    if mode & S_IWUSR:
        yield
        return
    path.chmod(mode | S_IWUSR)
    try:
        yield
    finally:
        path.chmod(mode)


class TreeCgroup:
    """A cgroup of our own, below the caller's: the caller's limits go on to hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls) -> TreeCgroup:
        """Make one; falls back to the top of the hierarchy when the caller's refuses children."""
        # The count tells two trees of one process apart, of which the first may not be empty yet.
        name = f"{_PREFIX}{os.getpid()}-{process_start_ticks(os.getpid())}-{next(_made)}"
        failure: OSError | None = None
        for parent in dict.fromkeys((of_process(), host.cgroup2_root())):
            try:
                (parent / name).mkdir(mode=0o755)
                return cls(parent / name)
            except OSError as error:
                failure = error
        raise HostError(f"can't make a cgroup for the tree: {failure}")

    def add(self, pid: int) -> None:
        """Move a process in; what it forks follows."""
        try:
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise HostError(f"can't move process {pid} into {self.path}: {error.strerror}") from None

    def remove(self, patience: float = 0.5) -> bool:
        """Remove it; false when processes are still in it. An exiting task stays a moment."""
        deadline = time.monotonic() + patience
        while True:
            try:
                for child in sorted(self.path.rglob("*"), key=lambda p: -len(p.parts)):
                    if child.is_dir():
                        child.rmdir()
                with _writable(self.path.parent):
                    self.path.rmdir()
            except FileNotFoundError:
                return True
            except OSError as error:
                # EACCES: another watch that ends has just taken the permission back
                if error.errno not in {errno.EBUSY, errno.EACCES} or not is_empty(self.path):
                    return False
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.005)
            else:
                return True


def remove_stale() -> list[Path]:
    """Remove the empty cgroups of tracers that are no more; returns those removed."""
    removed = []
    places = {of_process(), host.cgroup2_root()}
    for path in {p for place in places for p in place.glob(f"{_PREFIX}*-*")}:
        if (found := OURS.fullmatch(path.name)) is None:
            continue
        pid, start = int(found["pid"]), int(found["start"])
        if process_start_ticks(pid) != start and is_empty(path) and TreeCgroup(path).remove(0):
            removed.append(path)
    return removed
