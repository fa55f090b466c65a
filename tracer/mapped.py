# SPDX-License-Identifier: Apache-2.0
"""What probes and engine share, mapped: both rings, and the word by which the engine says that it sleeps."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

from tracer.engine.intrinsics import address_of
from tracer.engine.ring import Ring

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.kernel.probes import Probes


class Mapped:
    """Binds ``engine`` to the rings of ``probes``."""

    def __init__(self, probes: Probes, engine: Engine) -> None:
        maps = probes.map("ring_critical"), probes.map("ring_bulk")
        critical, bulk = self._rings = [Ring(ring.fd, ring.max_entries) for ring in maps]
        self._reader = mmap.mmap(probes.map("reader").fd, mmap.PAGESIZE)
        self._reader_view = np.frombuffer(self._reader, np.uint8)
        engine.bind(critical, bulk, address_of(self._reader_view))

    @property
    def fds(self) -> list[int]:
        """Readable when a probe has woken us."""
        return [ring.fd for ring in self._rings]

    def close(self) -> None:
        """Unmap them. The probes are closed by whoever made them."""
        for ring in self._rings:
            ring.close()
        self._reader_view = np.zeros(0, np.uint8)
        self._reader.close()
