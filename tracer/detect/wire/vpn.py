# SPDX-License-Identifier: Apache-2.0
"""Private networks over datagrams (OpenVPN over TCP, too), and what is met beside them on UDP."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN
from tracer.detect.wire.spans import LOCAL_PORT, REMOTE_PORT, starts, u16, u32, word, zeros
from tracer.jit import kernel

WIREGUARD, OPENVPN, TAILSCALE, ZEROTIER, NEBULA, STUN, NTP, DTLS, IODINE = (
    PROTOCOL[name]
    for name in ("wireguard", "openvpn", "tailscale", "zerotier", "nebula", "stun", "ntp", "dtls", "iodine")
)
_DISCO = word(b"TS\xf0\x9f\x92\xac")
_IODINE_RAW = word(b"\x10\xd1\x9e")
_STUN_COOKIE = 0x2112A442

# First bytes of OpenVPN: what a message is, shifted by three bits of key number 0.
_CLIENT_V2, _SERVER_V2, _CLIENT_V3 = 7 << 3, 8 << 3, 10 << 3


@kernel
def _is_wireguard(data: Bytes, lo: int, hi: int, size: int) -> bool:
    if hi - lo < 16 or not zeros(data, lo + 1, lo + 4):
        return False
    kind = data[lo]
    if kind == 1:
        return size == 148
    if kind == 2:
        return size == 92
    if kind == 3:
        return size == 64
    # data: its counter has not come far
    return kind == 4 and size >= 32 and size & 15 == 0 and zeros(data, lo + 13, lo + 16)


@kernel
def _is_first(data: Bytes, at: int) -> bool:
    """Whether a control packet has the number 1; with the bits that a newer client sets."""
    number = u32(data, at)
    return number == 1 or number == 0x0F000001


@kernel
def is_openvpn(data: Bytes, lo: int, hi: int, size: int) -> bool:
    """Whether ``data[lo:hi]`` is how OpenVPN begins; ``size``: of the packet.

    A reset, which has a session number, no or one acknowledgement, and the number 0. In front of the
    latter two may be a checksum, a number and the time (tls-auth), or the number, the time, a checksum,
    and all else encrypted (tls-crypt).
    """
    if hi - lo < 14 or zeros(data, lo + 1, lo + 9):
        return False
    kind = data[lo]
    if kind == _CLIENT_V3:
        return size >= 200 and _is_first(data, lo + 9)
    if kind == _CLIENT_V2:
        body = 5
    elif kind == _SERVER_V2:
        body = 17
    else:
        return False
    server = 1 if kind == _SERVER_V2 else 0
    if size == 9 + body:
        return data[lo + 9] == server and zeros(data, lo + 10, min(hi, lo + 14))
    if size == 49 + body and _is_first(data, lo + 9):
        return True
    checksum = size - 17 - body
    if (
        checksum != 16
        and checksum != 20
        and checksum != 28
        and checksum != 32
        and checksum != 48
        and checksum != 64
    ):
        return False
    at = lo + 9 + checksum
    return at + 8 + body <= hi and _is_first(data, at) and data[at + 8] == server


@kernel
def openvpn_tcp(data: Bytes, lo: int, hi: int) -> bool:
    """The same over TCP: each packet has its length before it."""
    if hi - lo < 16:
        return False
    size = u16(data, lo)
    return 14 <= size <= 1500 and is_openvpn(data, lo + 2, min(hi, lo + 2 + size), size)


@kernel
def _is_zerotier(data: Bytes, lo: int, hi: int) -> bool:
    """A HELLO: verb 1, not encrypted; in it the sender's address a second time."""
    if hi - lo < 47 or data[lo + 27] & 0x1F != 1 or data[lo + 46] != 0 or not 4 <= data[lo + 28] <= 32:
        return False
    at = 0
    while at < 5 and data[lo + 13 + at] == data[lo + 41 + at]:
        at += 1
    return at == 5


@kernel
def _is_nebula(data: Bytes, lo: int, hi: int, size: int) -> bool:
    """The first message of a handshake: version 1, number 1; to nobody yet, or an answer."""
    return (
        size >= 64
        and hi - lo >= 16
        and data[lo] == 0x10
        and data[lo + 1] <= 1
        and zeros(data, lo + 2, lo + 4)
        and zeros(data, lo + 8, lo + 15)
        and 1 <= data[lo + 15] <= 2
        and (data[lo + 15] == 2 or zeros(data, lo + 4, lo + 8))
    )


@kernel
def _is_stun(data: Bytes, lo: int, hi: int, size: int) -> bool:
    if hi - lo < 20 or data[lo] > 3 or u32(data, lo + 4) != _STUN_COOKIE:
        return False
    return u16(data, lo + 2) & 3 == 0 and 20 + u16(data, lo + 2) <= size


@kernel
def datagram(data: Bytes, lo: int, hi: int, size: int, look: Ints) -> int:
    """What a datagram of ``size`` bytes is, of those that are told by their header."""
    if _is_wireguard(data, lo, hi, size):
        return WIREGUARD
    if starts(data, lo, hi, _DISCO) and hi - lo > 6:
        return TAILSCALE
    if _is_stun(data, lo, hi, size):
        return STUN
    if _is_zerotier(data, lo, hi):
        return ZEROTIER
    if is_openvpn(data, lo, hi, size):
        return OPENVPN
    if _is_nebula(data, lo, hi, size):
        return NEBULA
    if starts(data, lo, hi, _IODINE_RAW) and hi - lo >= 4 and byte_at(data, lo + 3) >> 4 in (1, 2, 3):
        return IODINE
    if hi - lo >= 13 and 20 <= data[lo] <= 25 and data[lo + 1] == 0xFE and data[lo + 2] >= 0xFC:
        return DTLS
    if size == 48 and (look[REMOTE_PORT] == 123 or look[LOCAL_PORT] == 123):
        version, mode = byte_at(data, lo) >> 3 & 7, byte_at(data, lo) & 7
        if 1 <= version <= 4 and 1 <= mode <= 5:
            return NTP
    return UNKNOWN
