# SPDX-License-Identifier: Apache-2.0
"""SOCKS: who is asked for, and where what is carried begins."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN, trait
from tracer.detect.wire.spans import (
    IN_DATA,
    INNER,
    OTHER_PROTOCOL,
    OTHER_TRAITS,
    TRAITS,
    by_client,
    set_host,
    u16,
    zeros,
)
from tracer.engine.intrinsics import i64
from tracer.jit import kernel

SOCKS4 = PROTOCOL["socks4"]
SOCKS5 = PROTOCOL["socks5"]
_T_PROXIED, _T_REVERSED = trait("proxied"), trait("role-reversed")
#: Methods a client lists, at most.
_METHODS_MAX = 8
_USER_MAX = 64


@kernel
def _address_end(data: Bytes, at: int, hi: int) -> int:
    """Where the address and port end whose type is at ``at``, or -1; it may be after ``hi``."""
    kind = data[at]
    if kind == 1:
        return at + 7
    if kind == 4:
        return at + 19
    if kind != 3:
        return -1
    return at + 4 + byte_at(data, at + 1) if at + 1 < hi else hi + 1


@kernel
def _request(data: Bytes, at: int, hi: int, out: Ints) -> None:
    """Take in the request that begins at ``at``, after the greeting."""
    if at + 4 > hi or data[at] != 5 or not 1 <= data[at + 1] <= 3 or data[at + 2] != 0:
        return
    end = _address_end(data, at + 3, hi)
    if end < 0 or end > hi:
        return
    out[TRAITS] |= _T_PROXIED
    if data[at + 3] == 3:
        set_host(out, at + 5, end - 2, i64(IN_DATA))
    out[INNER] = end


@kernel
def socks5(data: Bytes, lo: int, hi: int, first: int, look: Ints, out: Ints) -> int:
    """SOCKS5 if it is that. ``first``: how much came in one piece; a greeting comes alone."""
    if first == 2 and (look[OTHER_PROTOCOL] == SOCKS5 or look[OTHER_TRAITS] & _T_PROXIED):
        return _answers(data, lo, hi, out)
    if hi - lo < 3:
        return UNKNOWN
    count = byte_at(data, lo + 1)
    end = lo + 2 + count
    if not 1 <= count <= _METHODS_MAX or end > hi or first != 2 + count:
        return UNKNOWN
    for at in range(lo + 2, end):
        if 9 < data[at] < 0x80:
            return UNKNOWN
    if not by_client(look):
        out[TRAITS] |= _T_REVERSED
    if end + 2 < hi and data[end] == 1:  # user and password
        at = end + 2 + byte_at(data, end + 1)
        if at < hi:
            at += 1 + byte_at(data, at)
        end = at
    _request(data, end, hi, out)
    return SOCKS5


@kernel
def _answers(data: Bytes, lo: int, hi: int, out: Ints) -> int:
    """A server's: the method, perhaps that the password is right, the address it connected from."""
    if hi - lo < 2 or data[lo] != 5:
        return UNKNOWN
    at = lo + 2
    if data[lo + 1] == 2 and at + 2 <= hi and data[at] == 1:
        at += 2
    if at + 4 <= hi and data[at] == 5 and data[at + 1] == 0 and data[at + 2] == 0:
        end = _address_end(data, at + 3, hi)
        if 0 <= end < hi:
            out[INNER] = end
    return SOCKS5


@kernel
def socks4(data: Bytes, lo: int, hi: int, look: Ints, out: Ints) -> int:
    """SOCKS4 if it is that: a request, or the answer to one."""
    if data[lo] == 0:
        if look[OTHER_PROTOCOL] != SOCKS4 and not look[OTHER_TRAITS] & _T_PROXIED:
            return UNKNOWN
        if hi - lo < 8 or not 0x5A <= data[lo + 1] <= 0x5D:
            return UNKNOWN
        if hi - lo > 8:
            out[INNER] = lo + 8
        return SOCKS4
    if hi - lo < 9 or not 1 <= data[lo + 1] <= 2 or u16(data, lo + 2) == 0:
        return UNKNOWN
    at = lo + 8
    stop = min(hi, at + _USER_MAX)
    while at < stop and 32 < data[at] < 127:
        at += 1
    if at >= stop or data[at] != 0:
        return UNKNOWN
    end = at + 1
    if zeros(data, lo + 4, lo + 7):  # 4a: an address that is none, and a name
        if data[lo + 7] == 0:
            return UNKNOWN
        start = end
        while end < hi and 32 < data[end] < 127:
            end += 1
        if end == start or end >= hi or data[end] != 0:
            return UNKNOWN
        set_host(out, start, end, i64(IN_DATA))
        end += 1
    out[TRAITS] |= _T_PROXIED
    if not by_client(look):
        out[TRAITS] |= _T_REVERSED
    out[INNER] = end
    return SOCKS4
