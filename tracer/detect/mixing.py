# SPDX-License-Identifier: Apache-2.0
"""One hash for tables that the engine looks things up in.

All of it is unsigned. Numba marks products of int64 as never overflowing (``nsw``); where LLVM knows that a factor
is small, as a port is, it concludes that the product with a large constant can only be that of 0, and puts all into one
place.
"""

from __future__ import annotations

import numpy as np

from tracer.jit import inline

# splitmix64's (Steele, Lea, Flood: Fast splittable pseudorandom number generators)
_ONE, _TWO = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_SHIFT, _REST = np.uint64(30), np.uint64(20)


@inline
def mixed(high: int, low: int) -> int:
    """44 bits of both, never negative."""
    value = np.uint64(high) ^ np.uint64(low) * _ONE
    value = (value ^ value >> _SHIFT) * _TWO
    return np.int64(value >> _REST)  # type: ignore[return-value]
