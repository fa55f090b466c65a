# SPDX-License-Identifier: Apache-2.0
"""Pings, and what is hidden in them."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN, trait
from tracer.detect.wire.spans import TRAITS, starts, u16, u32, word
from tracer.jit import kernel

ICMP = PROTOCOL["icmp"]
ICMP_TUNNEL = PROTOCOL["icmp-tunnel"]
_T_ODD, _T_LARGE = trait("icmp-odd-payload"), trait("icmp-large")

#: First four bytes of ptunnel's and of ptunnel-ng's header (28 bytes).
_PTUNNEL, _PTUNNEL_NG = 0xD5200880, 0xDEADC0DE
_TUNNEL_WORD = word(b"TUNL")
_LARGE = 128
#: Before the pattern, ping programs put the time.
_TIME = 16


@kernel
def _patterned(data: Bytes, lo: int, hi: int) -> bool:
    """Whether bytes count up, or are all the same, or go through the alphabet over and over."""
    if hi - lo < 2:
        return True
    step = byte_at(data, lo + 1) - byte_at(data, lo)
    if step != 0 and step != 1:
        return False
    for at in range(lo + 1, hi):
        before, byte = byte_at(data, at - 1), byte_at(data, at)
        if byte != before + step & 255 and not (before == 119 and byte == 97):
            return False
    return True


@kernel
def _as_ping(data: Bytes, lo: int, hi: int) -> bool:
    """Whether it is the payload of a ping program: perhaps the time, and a pattern. Time is all that
    fits in short ones.
    """
    return hi - lo <= _TIME + 8 or _patterned(data, lo, hi) or _patterned(data, lo + _TIME, hi)


@kernel
def icmp(data: Bytes, lo: int, hi: int, size: int, out: Ints) -> int:
    """ICMP or ICMP_TUNNEL, of an echo in ``data[lo:hi]`` with or without its IP header; UNKNOWN for
    other messages. Without an ICMP header it is taken for the payload. ``size``: of the whole.
    """
    if hi - lo >= 28 and byte_at(data, lo) == 0x45 and data[lo + 9] == 1:
        lo += 20
        size -= 20
    if hi - lo < 8:
        return UNKNOWN
    if (data[lo] in (0, 8, 128, 129)) and data[lo + 1] == 0:
        lo += 8
        size -= 8
    elif (data[lo] <= 43 or 130 <= data[lo] <= 161) and data[lo + 1] <= 15 and u32(data, lo) != _PTUNNEL:
        return UNKNOWN  # something else than an echo
    if hi - lo >= 28 and (u32(data, lo) == _PTUNNEL or u32(data, lo) == _PTUNNEL_NG):
        return ICMP_TUNNEL
    if starts(data, lo, hi, _TUNNEL_WORD):
        return ICMP_TUNNEL
    if hi - lo >= 20 and byte_at(data, lo) == 0x45 and u16(data, lo + 2) == size:
        return ICMP_TUNNEL  # an IP packet
    if size > _LARGE:
        out[TRAITS] |= _T_LARGE
    if not _as_ping(data, lo, hi):
        out[TRAITS] |= _T_ODD
    return ICMP
