# SPDX-License-Identifier: Apache-2.0
"""Whether bytes look as if they were encrypted from the first one on."""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, letters
from tracer.jit import kernel

SIZE_MIN = 48
_ONES = np.array([byte.bit_count() for byte in range(256)], np.int64)
_PRINTABLE = letters(bytes(range(32, 127)) + b"\t\r\n")


# Bounds that random bytes keep to, all but one stream in some ten thousand: four standard deviations.
# Ones among 8 n fair coins spread by sqrt(2 n). 98 of 256 bytes are text: 0.383 n, spread by 0.486 sqrt(n).
_ONES_BOUND = 16 * 2
_TEXT_SHARE, _TEXT_BOUND = 383, 16 * 236_000  # in thousandths, and in millionths
_RUN_MAX = 15  # a longer one comes once in ten million bytes


@kernel
def balanced(data: Bytes, lo: int, hi: int) -> bool:
    """As many ones as zeros, and no more text than chance brings; no long run of it; no pairs of zeros,
    which lengths and numbers bring along.

    Compressed data passes, too, without the header that files of it have.
    """
    size = hi - lo
    if size < SIZE_MIN:
        return False
    ones = printable = run = longest = zeros = 0
    for at in range(lo, hi):
        byte = data[at]
        ones += _ONES[byte]
        if _PRINTABLE[byte]:
            printable += 1
            run += 1
            longest = max(longest, run)
        else:
            run = 0
        zeros += at > lo and byte == 0 and data[at - 1] == 0
    spread = ones - 4 * size
    if spread * spread > _ONES_BOUND * size or longest > _RUN_MAX or zeros > 1:
        return False
    excess = 1000 * printable - _TEXT_SHARE * size
    return excess <= 0 or excess * excess <= _TEXT_BOUND * size


@kernel
def begins_as_text(data: Bytes, lo: int) -> bool:
    """Whether the first four bytes are text, as they are of many a protocol; of random bytes one in 46 is so."""
    text_first = True
    for at in range(lo, lo + 4):
        text_first = text_first and _PRINTABLE[data[at]] != 0
    return text_first


@kernel
def looks_random(data: Bytes, lo: int, hi: int) -> bool:
    """Whether nothing but encryption is likely to look so, where nothing else is known of the bytes."""
    return balanced(data, lo, hi) and not begins_as_text(data, lo)
