# SPDX-License-Identifier: Apache-2.0
"""Orders to the probes of one tree, through memory that both see: ``struct control`` of guard.bpf.h."""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING

import numpy as np

from tracer.kernel import libbpf, schema

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Orders:
    """The words of the map ``control`` with descriptor ``fd``; what is set holds for the next packet.

    ``cuts_fd``: of the map of flows to cut. Descriptors belong to the caller.
    """

    def __init__(self, fd: int, cuts_fd: int) -> None:
        self._memory = mmap.mmap(fd, mmap.PAGESIZE)
        self._words: NDArray[np.void] = np.frombuffer(self._memory, schema.CONTROL, 1)
        self._cuts = cuts_fd

    def _get(self, name: str) -> bool:
        return bool(self._words[name][0])

    def _set(self, name: str, value: bool) -> None:
        self._words[name][0] = value

    @property
    def enforce(self) -> bool:
        """Are verdicts carried out?"""
        return self._get("enforce")

    @enforce.setter
    def enforce(self, value: bool) -> None:
        self._set("enforce", value)

    @property
    def quarantine(self) -> bool:
        """Is all of the tree's traffic cut but what may stay?"""
        return self._get("quarantine")

    @quarantine.setter
    def quarantine(self, value: bool) -> None:
        self._set("quarantine", value)

    @property
    def doomed(self) -> bool:
        """Is whoever of the tree forks or execs killed?"""
        return self._get("doomed")

    @doomed.setter
    def doomed(self, value: bool) -> None:
        self._set("doomed", value)

    def protect(self, tracer: int, cgroup: int) -> None:
        """Tell what the tree does to process ``tracer``, which is in the cgroup with this id, and to what is
        mounted where this process is.
        """
        self._words["tracer"][0], self._words["tracer_cgroup"][0] = tracer, cgroup
        self._words["tracer_mounts"][0] = os.stat("/proc/self/ns/mnt").st_ino

    def cut(self, cookie: int) -> None:
        """Let nothing of this flow pass any more, either way. Raises OSError."""
        code = libbpf.library().bpf_map_update_elem(
            self._cuts, struct.pack("<Q", cookie), struct.pack("<I", 1), 0
        )
        if code:
            raise OSError(-code, os.strerror(-code))
        self._set("cuts", True)

    def close(self) -> None:
        """Unmap; the orders stay in force."""
        self._words = np.zeros(1, schema.CONTROL)
        self._memory.close()
