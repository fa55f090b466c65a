# SPDX-License-Identifier: Apache-2.0
"""Where :func:`tracer.detect.wire.identify.identify` finds and leaves things, and reads of bytes that
its parts share. Who reads at a place has made sure that it lies before ``hi``.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, Ints, byte_at, lower
from tracer.jit import inline, kernel

#: At most this much of either direction is looked at.
CAPTURE = 512
#: Size of ``text``, for what has to be decoded first.
TEXT = 512

# Places in ``look`` (int64[LOOK]): what is known of the flow.
DIRECTION = 0  # 0: the bytes were sent by the tree, 1: received
TRANSPORT = 1  # IPPROTO_*
REMOTE_PORT = 2
LOCAL_PORT = 3
ACCEPTED = 4  # 1: the other side opened the flow
FIRST = 5  # length of the first segment in this direction; of the datagram itself
WHOLE = 6  # bytes seen in this direction
OTHER_PROTOCOL = 7  # what the other direction is so far
OTHER_FIRST = 8  # length of its first segment, 0 for none yet
OTHER_SPOKE_FIRST = 9  # 1: it had payload before this direction had
OTHER_TRAITS = 10
LOOK = 11

# Places in ``out`` (int64[OUT]): what is found. A span is two offsets.
TRAITS = 0  # bits, as protocols.TRAIT_BIT has them
HOST_LO = 1  # the host that is asked for
HOST_HI = 2
HOST_IN = 3  # one of those below
SOFTWARE_LO = 4  # what the speaker says it is, in data
SOFTWARE_HI = 5
INNER = 6  # where in data another protocol begins, if one is carried; for identify itself
UPGRADE = 7  # what HTTP asks to become, for identify itself
OUT = 8

TO_WEBSOCKET = 1
TO_OTHER = 2

NOWHERE = 0
IN_DATA = 1
IN_TEXT = 2

SENT = 0
RECEIVED = 1
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58


def word(text: bytes) -> Bytes:
    """Bytes that kernels compare with."""
    return np.array(list(text), np.uint8)


@inline
def by_client(look: Ints) -> bool:
    """Whether the bytes were sent by the side that opened the flow."""
    return (look[DIRECTION] == SENT) != (look[ACCEPTED] != 0)


@inline
def u16(data: Bytes, at: int) -> int:
    return byte_at(data, at) << 8 | byte_at(data, at + 1)


@inline
def u24(data: Bytes, at: int) -> int:
    return u16(data, at) << 8 | byte_at(data, at + 2)


@inline
def u32(data: Bytes, at: int) -> int:
    return u16(data, at) << 16 | u16(data, at + 2)


@kernel
def starts(data: Bytes, lo: int, hi: int, wanted: Bytes) -> bool:
    """Whether ``data[lo:hi]`` begins with ``wanted``."""
    size = len(wanted)
    if hi - lo < size:
        return False
    at = 0
    while at < size and data[lo + at] == wanted[at]:
        at += 1
    return at == size


@kernel
def starts_folded(data: Bytes, lo: int, hi: int, wanted: Bytes) -> bool:
    """As :func:`starts`; ``wanted`` is in small letters, ``data`` need not be."""
    size = len(wanted)
    if hi - lo < size:
        return False
    at = 0
    while at < size and lower(byte_at(data, lo + at)) == wanted[at]:
        at += 1
    return at == size


@kernel
def is_folded(data: Bytes, lo: int, hi: int, wanted: Bytes) -> bool:
    """Whether ``data[lo:hi]`` is ``wanted``, in letters of any size."""
    return hi - lo == len(wanted) and starts_folded(data, lo, hi, wanted)


@kernel
def ends_folded(data: Bytes, lo: int, hi: int, wanted: Bytes) -> bool:
    """Whether ``data[lo:hi]`` ends with ``wanted``, in letters of any size."""
    return hi - lo >= len(wanted) and starts_folded(data, hi - len(wanted), hi, wanted)


@kernel
def found(data: Bytes, lo: int, hi: int, wanted: Bytes) -> int:
    """Where ``wanted`` begins in ``data[lo:hi]``, or -1."""
    first = wanted[0]
    for at in range(lo, hi - len(wanted) + 1):
        if data[at] == first and starts(data, at, hi, wanted):
            return at
    return -1


@kernel
def line_end(data: Bytes, lo: int, hi: int) -> int:
    """Where the line that begins at ``lo`` has its newline, or ``hi``."""
    while lo < hi and data[lo] != 10:
        lo += 1
    return lo


@kernel
def zeros(data: Bytes, lo: int, hi: int) -> bool:
    """Whether ``data[lo:hi]`` is nothing but zero bytes."""
    while lo < hi and data[lo] == 0:
        lo += 1
    return lo >= hi


@inline
def set_host(out: Ints, lo: int, hi: int, where: int) -> None:
    """The first host that is named is the one: what a proxy was asked for."""
    if out[HOST_IN] == NOWHERE and hi > lo:
        out[HOST_LO], out[HOST_HI], out[HOST_IN] = lo, hi, where


@inline
def set_software(out: Ints, lo: int, hi: int) -> None:
    out[SOFTWARE_LO], out[SOFTWARE_HI] = lo, hi
