# SPDX-License-Identifier: Apache-2.0
"""The processes of a tree, by the kernel's word: ours, or another tracer's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tracer.errors import LoadError
from tracer.kernel import libbpf, pins, schema
from tracer.kernel.object import iterate


class Iterates(Protocol):
    """What can run the iterator programs."""

    def iterate(self, name: str) -> AbstractContextManager[int]:
        """A descriptor from which the output of the program ``name`` can be read."""


class Tree:
    """A tree, by the probes that follow it."""

    def __init__(self, probes: Iterates) -> None:
        self._probes = probes

    def tasks(self) -> npt.NDArray[np.void]:
        """The processes right now, TASK[n]; also draws in threads and children that were missed."""
        while True:
            told = self._told()
            if len(told) % schema.TASK.itemsize:
                raise LoadError("these probes are of another version of vigiles")
            found = np.frombuffer(told, schema.TASK)
            if not found["fresh"].any():
                return found[found["tgid"] == found["tid"]]

    def _told(self) -> bytes:
        parts = []
        with self._probes.iterate("on_task") as fd:
            while chunk := os.read(fd, 1 << 20):
                parts.append(chunk)
        return b"".join(parts)

    def is_empty(self) -> bool:
        """Is there nobody? Asked without knowing how probes of other versions describe a task."""
        return not self._told()

    def identities(self) -> list[tuple[int, int]]:
        """Their pids and starts, in ns of CLOCK_BOOTTIME."""
        tasks = self.tasks()
        return list(zip(tasks["tgid"].tolist(), tasks["start"].tolist(), strict=True))


class _Pinned:
    """An iterator program by its pin."""

    def __init__(self, path: Path) -> None:
        self._fd = libbpf.library().bpf_obj_get(os.fsencode(path))
        if self._fd < 0:
            raise libbpf.failure(f"can't open {path}", self._fd)

    @contextmanager
    def iterate(self, name: str) -> Iterator[int]:
        with iterate(name, self._fd) as fd:
            yield fd

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def pinned_tree(folder: Path) -> Iterator[Tree]:
    """The tree whose pins are in ``folder``. Raises LoadError when they are not all there."""
    pinned = _Pinned(folder / pins.TELLS)
    try:
        yield Tree(pinned)
    finally:
        pinned.close()
