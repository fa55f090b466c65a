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
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from tracer.jit import inline

CLOCK_BOOTTIME = 7


def _atomic_load(bits: int, ordering: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def load(_context: Any, address: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(bits)
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            value = builder.load_atomic(pointer, ordering, bits // 8, typ=kind)
            return value if bits == 64 else builder.zext(value, ir.IntType(64))

        return types.int64(types.int64), generate

    return load


def _atomic_store(bits: int, ordering: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def store(_context: Any, address: Any, value: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(bits)
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            builder.store_atomic(arguments[1], pointer, ordering, bits // 8)

        return types.void(types.int64, types.int64), generate

    return store


#: (address: int64) -> int64: the unsigned word there, with acquire ordering.
load_acquire_u32 = _atomic_load(32, "acquire")
load_acquire_u64 = _atomic_load(64, "acquire")
#: (address: int64, value: int64): store 64 bits with release ordering.
store_release_u64 = _atomic_store(64, "release")
#: The same, and no later load may pass it: for "I am going to sleep, is there anything?".
store_fence_u64 = _atomic_store(64, "seq_cst")


def _array_at(item: Any) -> Any:
    # Not numba.carray(): it can't be had without the runtime that counts references.
    whole = types.Array(item, 1, "C")

    @intrinsic  # type: ignore[untyped-decorator]
    def at(_context: Any, address: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            array = context.make_array(whole)(context, builder)
            kind = context.get_data_type(item)
            size = ir.IntType(64)(context.get_abi_sizeof(kind))
            populate_array(
                array,
                data=builder.inttoptr(arguments[0], kind.as_pointer()),
                shape=cgutils.pack_array(builder, [arguments[1]]),
                strides=cgutils.pack_array(builder, [size]),
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()  # noqa: SLF001 - Numba's own name for it

        return whole(types.int64, types.int64), generate

    return at


#: (address: int64, count: int64): the bytes there as uint8[::1], in place.
bytes_at = _array_at(types.uint8)
#: (address: int64, count: int64): the words there as int64[::1], in place.
ints_at = _array_at(types.int64)


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(_context: Any, to: Any, source: Any, count: Any) -> Any:
    """(to: int64, source: int64, count: int64): copy between two addresses that do not overlap."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        there, here = (builder.inttoptr(address, byte) for address in arguments[:2])
        cgutils.raw_memcpy(builder, there, here, arguments[2], 1)

    return types.void(types.int64, types.int64, types.int64), generate


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
    record = from_dtype(signed(dtype))

    @intrinsic  # type: ignore[untyped-decorator]
    def read(_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), generate

    return read


# By symbol, not through ctypes: a function that holds a ctypes pointer can't be cached.
_clock_gettime = types.ExternalFunction(
    "clock_gettime", types.int32(types.int32, types.CPointer(types.int64))
)


@intrinsic  # type: ignore[untyped-decorator]
def _two_words(_context: Any) -> Any:
    """Stack memory for a struct timespec."""

    def generate(_target: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        return cgutils.alloca_once(builder, ir.IntType(64), size=2)

    return types.CPointer(types.int64)(), generate


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
