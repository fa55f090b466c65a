# SPDX-License-Identifier: Apache-2.0
"""Most of a CRC-32, where the processor multiplies without carries: see :mod:`tracer.record.checksum`."""

from __future__ import annotations

from tracer.engine.intrinsics import i64, instruction
from tracer.jit import njit

#: Bytes of a block, and of what many of them are folded into.
BLOCK, FOLDED = 64, 16

_fold = instruction("fold_crc32")


@njit
def fold(address: int, blocks: int, register: int, to: int) -> int:
    """Fold so many BLOCKs (one at least) at an address into FOLDED bytes at another: whose CRC-32, begun with a register
    of 0, is that of the blocks, begun with ``register``. 0 where the processor that this is compiled for can't: then
    nothing is done.
    """
    return i64(_fold(address, blocks, register, to))
