# SPDX-License-Identifier: Apache-2.0
"""What Numba has no word for: ordered memory access, records at an address, the kernel's clock.

The ring's positions are shared with the kernel: the reader must load them with acquire and store
them with release ordering (kernel/bpf/ringbuf.c pairs smp_load_acquire with smp_store_release).
x86 forgives plain loads, arm64 does not.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from tracer.jit import inline, linked


def instruction(name: str) -> Any:
    """What :mod:`tracer.engine.instructions` calls so; where the engine is linked nothing calls it, and it is None."""
    if linked() is not None:
        return None
    from tracer.engine import instructions

    return getattr(instructions, name)


#: (address: int64) -> int64: the unsigned word there, with acquire ordering.
load_acquire_u32 = instruction("load_acquire_u32")
load_acquire_u64 = instruction("load_acquire_u64")
#: (address: int64, value: int64): store 64 bits with release ordering.
store_release_u64 = instruction("store_release_u64")
#: The same, and no later load may pass it: for "I am going to sleep, is there anything?".
store_fence_u64 = instruction("store_fence_u64")
#: (address: int64, count: int64): the bytes there as uint8[::1], in place.
bytes_at = instruction("bytes_at")
#: (address: int64, count: int64): the words there as int64[::1], in place.
ints_at = instruction("ints_at")
#: (to: int64, source: int64, count: int64): copy between two addresses that do not overlap.
copy_bytes = instruction("copy_bytes")
#: (array of one dimension, place: int64) -> int64: the address of that element.
address_at = instruction("address_at")
#: (address: int64): this will be read soon; it may be no memory of ours.
prefetch = instruction("prefetch")
_clock_gettime = instruction("clock_gettime")
_two_words = instruction("two_words")

CLOCK_BOOTTIME = 7


@inline
def i64(number: int) -> int:
    """Any integer as int64. (``int()`` would leave it as it is.)"""
    return np.int64(number)  # type: ignore[return-value]


def signed(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    """The same layout with 64-bit fields read as int64: nothing we compare or subtract needs bit 63."""
    assert dtype.fields is not None
    fields = [(name, *dtype.fields[name][:2]) for name in dtype.fields]
    return np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [np.dtype("i8") if kind == np.dtype("u8") else kind for _, kind, _ in fields],
            "offsets": [offset for _, _, offset in fields],
            "itemsize": dtype.itemsize,
        }
    )


def record_reader(dtype: np.dtype[np.void]) -> Any:
    """A kernel ``(address: int64) -> record`` that reads a ``dtype`` in place."""
    if linked() is not None:
        return None
    from tracer.engine.instructions import reader_in_place

    return reader_in_place(signed(dtype))


@inline
def boottime_ns() -> int:
    """Now, in nanoseconds of CLOCK_BOOTTIME: the clock that events carry."""
    words = _two_words()
    _clock_gettime(CLOCK_BOOTTIME, words)
    return int(words[0] * 1_000_000_000 + words[1])


def address_of(array: np.ndarray[Any, Any]) -> int:
    """The address of an array's first byte, for kernels that take addresses."""
    return int(array.ctypes.data)


assert ctypes.sizeof(ctypes.c_void_p) == 8, "64-bit hosts only"
