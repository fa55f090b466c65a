# SPDX-License-Identifier: Apache-2.0
"""A BPF ring buffer in this process's memory, and how to walk it in place.

Layout (kernel/bpf/ringbuf.c): one page with the consumer's position, which we may write; one page
with the producer's; then the data, mapped twice in a row, so that a record never wraps. Positions
are bytes since the beginning. Each record has an 8-byte header: the length with two flag bits, and
an offset that is the kernel's own business.
"""

from __future__ import annotations

import mmap

import numpy as np

from tracer.engine.intrinsics import address_of, load_acquire_u32
from tracer.errors import HostError
from tracer.jit import inline

HEADER_BYTES = 8
BUSY = 1 << 31  # reserved, not yet submitted: nothing behind it may be read either
DISCARDED = 1 << 30
LENGTH_MASK = DISCARDED - 1

#: What :func:`peek` says of the record at a position.
NOTHING, READY, SKIP = 0, 1, 2


class Ring:
    """The mapping of one ring; kernels get its addresses."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        try:
            self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            self._rest = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise HostError(f"can't map the ring buffer into memory: {error.strerror}") from None
        self._views = (np.frombuffer(self._consumer, np.uint8), np.frombuffer(self._rest, np.uint8))
        self.fd = fd
        self.size = size
        self.consumer = address_of(self._views[0])
        self.producer = address_of(self._views[1])
        self.data = self.producer + page

    def close(self) -> None:
        """Unmap. No kernel may run on its addresses afterwards."""
        self._views = ()  # type: ignore[assignment]
        self._consumer.close()
        self._rest.close()


@inline
def peek(data: int, mask: int, position: int, produced: int) -> tuple[int, int, int]:
    """(state, address of the record, its length) at ``position``; all int64."""
    if position >= produced:
        return NOTHING, 0, 0
    at = data + (position & mask)
    header = load_acquire_u32(at)
    if header & BUSY:
        return NOTHING, 0, 0
    length = header & LENGTH_MASK
    if header & DISCARDED:
        return SKIP, at + HEADER_BYTES, length
    return READY, at + HEADER_BYTES, length


@inline
def advance(position: int, length: int) -> int:
    """The position of the record after one of ``length`` bytes."""
    return position + ((length + HEADER_BYTES + 7) & ~7)
