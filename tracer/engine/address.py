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

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.engine.intrinsics import instruction
from tracer.jit import linked

#: (address, first, second, third: int64): call the entry there with three int64; int64.
call_at = instruction("call_at")


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


def reader_of(example: Callable[[], Any]) -> Any:
    """A kernel ``(address: int64) -> tuple`` for values of the same shape as what ``example`` makes.

    The words don't change while a kernel runs, and LLVM is told so.
    """
    if linked() is not None:
        return None
    from tracer.engine.instructions import reader, type_of

    return reader(type_of(example()))
