# SPDX-License-Identifier: Apache-2.0
"""Have the probes of a tree go on without the tracer: their links, pinned in a directory that is root's alone."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tracer.errors import HostError, VigilesError
from tracer.kernel import host, libbpf

_NAME = "vigiles"
_DEFAULT = Path("/sys/fs/bpf")
#: The program that lists the processes of the tree.
TELLS = "on_task"
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


def _mount() -> Path:
    """Mount a BPF file system where it belongs, as bpftool does when it is to pin something."""
    if not _DEFAULT.is_dir():
        raise HostError(f"{_DEFAULT} is missing", hint="is /sys mounted?")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(_DEFAULT), b"bpf", ctypes.c_ulong(0), b"mode=0700"):
        why = os.strerror(ctypes.get_errno())
        raise HostError(f"can't mount a BPF file system at {_DEFAULT}: {why}")
    return _DEFAULT


def folder_of(tree: str) -> Path:
    """Where the pins of a tree are, if it has any. A dot means something to this file system: it has none."""
    return (host.find_mount("bpf") or _DEFAULT) / _NAME / _UNFIT.sub("_", tree)


class Pins:
    """The pins of one tree, as a context: left with an error of ours, they go on to hold.

    Left in order, or with an error that is told to the user, they are removed.
    """

    #: What else than an orderly end lets go of them.
    _ends: tuple[type[BaseException], ...] = (VigilesError, KeyboardInterrupt, SystemExit)

    def __init__(self, tree: str) -> None:
        root = host.find_mount("bpf") or _mount()
        self.folder = folder_of(tree)
        if self.folder.exists():
            raise HostError(
                f"{self.folder} is there already: a tree of this name is guarded",
                hint=f"go on with it: vigiles attach --tree {tree}; or let it go: vigiles contain --tree {tree} release",
            )
        try:
            for place in (root / _NAME, self.folder):
                with suppress(FileExistsError):
                    place.mkdir(0o700)
                if place.is_symlink() or place.stat().st_uid != os.geteuid():
                    raise HostError(f"{place} belongs to somebody else", hint="look at it, then remove it")
        except OSError as error:
            raise HostError(f"can't make {self.folder}: {error.strerror}") from None

    @classmethod
    def taken_over(cls, tree: str) -> Pins:
        """Those of a tracer that is gone: from here on they are ours to remove, in order only."""
        made = cls.__new__(cls)
        made.folder = folder_of(tree)
        made._ends = (KeyboardInterrupt, SystemExit)  # noqa: SLF001 - its own
        return made

    def pin(self, fd: int, name: str) -> None:
        """Keep the link or program behind a descriptor."""
        path = self.folder / _UNFIT.sub("_", name)
        if code := libbpf.library().bpf_obj_pin(fd, os.fsencode(path)):
            raise libbpf.failure(f"can't pin {path}", code)

    def remove(self) -> None:
        """Let go of everything: what nobody else holds is detached."""
        remove(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, self._ends):
            self.remove()


def remove(folder: Path) -> None:
    """Remove the pins in a folder of :func:`folder_of`, and what is empty then. What tells whether the tree
    has a process left goes last: whoever comes after a removal that was interrupted needs it.
    """
    with suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda path: path.name == TELLS):
            path.unlink()
        folder.rmdir()
    with suppress(OSError):  # others have theirs in it
        folder.parent.rmdir()


def folders() -> list[Path]:
    """Those of all trees."""
    root = host.find_mount("bpf")
    with suppress(OSError):
        return sorted((root / _NAME).iterdir()) if root else []
    return []


def exist(tree: str) -> bool:
    """Do the probes of this tree go on without a tracer?"""
    return folder_of(tree).is_dir()
