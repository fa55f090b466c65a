# SPDX-License-Identifier: Apache-2.0
"""A tuple of arrays behind one address, for kernels.

A kernel that takes the engine's state as a tuple of a hundred arrays takes seven hundred arguments: Python
needs microseconds to unpack them for every call, LLVM half a minute to compile each function they pass
through, and each call between kernels copies them. So the state's arrays are written down once as plain
words, and kernels get the address of those: what a kernel doesn't use it doesn't load.

The same makes it possible to call a large kernel by its address: then its code isn't compiled into
everything that calls it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

_I64 = ir.IntType(64)


def words_of(value: Any) -> list[int]:
    """``value`` (arrays and integers in nested tuples) as words: address and shape of each array."""
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return [value.ctypes.data, *value.shape]
    if isinstance(value, tuple):
        return [word for part in value for word in words_of(part)]
    return [int(value)]


def laid_out(value: Any) -> npt.NDArray[np.int64]:
    """The words of ``value``, where kernels can read them; whoever holds them keeps ``value`` alive."""
    return np.array(words_of(value), np.int64)


def reader_of(example: Any) -> Any:
    """A kernel ``(address: int64) -> tuple`` for values of the same shape as ``example``.

    The words don't change while a kernel runs, and LLVM is told so.
    """
    whole = numba.typeof(example)

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
