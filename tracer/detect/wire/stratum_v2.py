# SPDX-License-Identifier: Apache-2.0
"""Stratum V2: all that shows of it once it is encrypted is how long the first messages are."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.detect.wire.protocols import PROTOCOL
from tracer.detect.wire.spans import FIRST, OTHER_FIRST, by_client, u16, zeros
from tracer.jit import kernel

STRATUM_V2 = PROTOCOL["stratum-v2"]


@kernel
def stratum_v2(look: Ints) -> bool:
    """Whether bytes that look random are Stratum V2: a key of 64 bytes, answered by 234.

    Older drafts answer with 170.
    """
    if by_client(look):
        return look[FIRST] == 64 and (look[OTHER_FIRST] == 234 or look[OTHER_FIRST] == 170)
    return look[OTHER_FIRST] == 64 and (look[FIRST] == 234 or look[FIRST] == 170)


@kernel
def stratum_v2_plain(data: Bytes, lo: int, hi: int) -> bool:
    """Whether it is Stratum V2 that is not encrypted, as inside of a host: SetupConnection.

    No extension, message 0, 24 bits of length; then the protocol, versions 2 to 2, flags, the host.
    """
    if hi - lo < 20 or not zeros(data, lo, lo + 3) or data[lo + 5] != 0:
        return False
    length = byte_at(data, lo + 3) | byte_at(data, lo + 4) << 8
    host = byte_at(data, lo + 15)
    return (
        17 <= length <= 1400
        and data[lo + 6] <= 2
        and u16(data, lo + 7) == 0x0200
        and u16(data, lo + 9) == 0x0200
        and 16 + host <= length
    )
