# SPDX-License-Identifier: Apache-2.0
"""What Numba has no word for, said to LLVM. Only what compiles imports this: :mod:`tracer.engine.intrinsics` and
:mod:`tracer.engine.address`, by whose names kernels know it, do without where the engine is linked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, typeof, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

_I64 = ir.IntType(64)


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


load_acquire_u32 = _atomic_load(32, "acquire")
load_acquire_u64 = _atomic_load(64, "acquire")
store_release_u64 = _atomic_store(64, "release")
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


bytes_at = _array_at(types.uint8)
ints_at = _array_at(types.int64)


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(_context: Any, to: Any, source: Any, count: Any) -> Any:
    """(to: int64, source: int64, count: int64): copy between two addresses that do not overlap."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        there, here = (builder.inttoptr(address, byte) for address in arguments[:2])
        cgutils.raw_memcpy(builder, there, here, arguments[2], 1)

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def address_at(_context: Any, array: Any, place: Any) -> Any:
    """(array of one dimension, place: int64) -> int64: the address of that element, which must be there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.make_array(signature.args[0])(context, builder, arguments[0])
        (stride,) = cgutils.unpack_tuple(builder, held.strides, 1)
        return builder.add(builder.ptrtoint(held.data, _I64), builder.mul(arguments[1], stride))

    return types.int64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_context: Any, address: Any) -> Any:
    """(address: int64): this will be read soon, if it is memory at all (LLVM's llvm.prefetch: never a fault)."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, in_all_caches, data = word(0), word(3), word(1)
        builder.call(function, [builder.inttoptr(arguments[0], byte), to_read, in_all_caches, data])

    return types.void(types.int64), generate


def reader_in_place(dtype: np.dtype[np.void]) -> Any:
    """A kernel ``(address: int64) -> record`` that reads a ``dtype`` in place."""
    record = from_dtype(dtype)

    @intrinsic  # type: ignore[untyped-decorator]
    def read(_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), generate

    return read


def _in_both(word: int, other: int) -> Any:
    return ir.Constant(_PAIR, [_I64(word), _I64(other)])


_PAIR = ir.VectorType(_I64, 2)
#: What moves 16 bytes by 64, and by 16, modulo CRC-32's polynomial, bits reflected (Gopal et al., Fast CRC computation for
#: generic polynomials using PCLMULQDQ, Intel 2009): x**(4*128+32), x**(4*128-32); x**(128+32), x**(128-32).
_BY_64, _BY_16 = _in_both(0x154442BD4, 0x1C6E41596), _in_both(0x1751997D0, 0x0CCAA009E)


@intrinsic  # type: ignore[untyped-decorator]
def fold_crc32(_context: Any, address: Any, blocks: Any, register: Any, to: Any) -> Any:
    """(address, blocks, register, to: int64) -> bool: see :mod:`tracer.engine.crc`."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if "+pclmul" not in context.codegen().magic_tuple()[2]:
            return cgutils.false_bit
        begin, count, first, there = arguments
        byte = ir.IntType(8)
        kind = ir.FunctionType(_PAIR, [_PAIR, _PAIR, byte])
        multiply = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.pclmulqdq")

        def load(base: Any, offset: int) -> Any:
            place = builder.inttoptr(builder.add(base, _I64(offset)), _PAIR.as_pointer())
            return builder.load(place, align=1)

        def folded(value: Any, by: Any, more: Any) -> Any:
            halves = [builder.call(multiply, [value, by, byte(which)]) for which in (0x00, 0x11)]
            return builder.xor(builder.xor(*halves), more)

        parts = [cgutils.alloca_once_value(builder, load(begin, 16 * number)) for number in range(4)]
        started = builder.insert_element(_in_both(0, 0), first, ir.IntType(32)(0))
        builder.store(builder.xor(builder.load(parts[0]), started), parts[0])
        with cgutils.for_range(builder, builder.sub(count, _I64(1))) as loop:
            base = builder.add(begin, builder.mul(builder.add(loop.index, _I64(1)), _I64(64)))
            for number, part in enumerate(parts):
                builder.store(folded(builder.load(part), _BY_64, load(base, 16 * number)), part)
        whole = builder.load(parts[0])
        for part in parts[1:]:
            whole = folded(whole, _BY_16, builder.load(part))
        builder.store(whole, builder.inttoptr(there, _PAIR.as_pointer()), align=1)
        return cgutils.true_bit

    return types.boolean(*[types.int64] * 4), generate


# By symbol, not through ctypes: a function that holds a ctypes pointer can't be cached.
clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.CPointer(types.int64)))


@intrinsic  # type: ignore[untyped-decorator]
def two_words(_context: Any) -> Any:
    """Stack memory for a struct timespec."""

    def generate(_target: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        return cgutils.alloca_once(builder, ir.IntType(64), size=2)

    return types.CPointer(types.int64)(), generate


def type_of(example: Any) -> Any:
    """Numba's type of ``example``."""
    return typeof(example)


def reader(whole: Any) -> Any:
    """A kernel ``(address: int64) -> whole`` for what :func:`tracer.engine.address.laid_out` has laid out."""

    @intrinsic  # type: ignore[untyped-decorator]
    def read(_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
            invariant = builder.module.add_metadata([])
            place = 0

            def load() -> Any:
                nonlocal place
                word = builder.load(builder.gep(pointer, [_I64(place)]))
                word.set_metadata("invariant.load", invariant)
                place += 1
                return word

            def build(kind: Any) -> Any:
                if isinstance(kind, types.Array):
                    return _array(context, builder, kind, load)
                if isinstance(kind, types.BaseTuple):
                    return context.make_tuple(builder, kind, [build(part) for part in kind.types])
                return load()

            return build(whole)

        return whole(types.int64), generate

    return read


def _array(context: Any, builder: Any, kind: Any, load: Any) -> Any:
    array = context.make_array(kind)(context, builder)
    item = context.get_data_type(kind.dtype)
    data = builder.inttoptr(load(), item.as_pointer())
    shape = [load() for _ in range(kind.ndim)]
    size = _I64(context.get_abi_sizeof(item))
    strides = [size]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    populate_array(
        array,
        data=data,
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=size,
        meminfo=None,
    )
    return array._getvalue()  # noqa: SLF001 - Numba's own name for it


@intrinsic  # type: ignore[untyped-decorator]
def call_at(_context: Any, function: Any, first: Any, second: Any, third: Any) -> Any:
    """Call the entry at an address with three int64; int64."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_I64, [_I64] * 3)
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return types.int64(*[types.int64] * 4), generate
