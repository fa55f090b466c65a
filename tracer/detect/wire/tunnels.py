# SPDX-License-Identifier: Apache-2.0
"""Tunnels with a protocol of their own over bare TCP.

Not here, because nothing tells them apart: ligolo-ng (TLS with nothing of its own, yamux inside),
shadowsocks and the like (random from the first byte, see randomness), localtunnel (whatever the
visitor's request is).
"""

from __future__ import annotations

from tracer.detect.names import Bytes, byte_at
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN
from tracer.detect.wire.spans import starts, u16, word, zeros
from tracer.jit import kernel

FRP, NGROK, RATHOLE, BORE, GOST, GSOCKET, NPS, SSHUTTLE, YAMUX, TAILSCALE = (
    PROTOCOL[name]
    for name in (
        "frp",
        "ngrok",
        "rathole",
        "bore",
        "gost",
        "gsocket",
        "nps",
        "sshuttle",
        "yamux",
        "tailscale",
    )
)
_FRP_V2 = word(b"FRP\0\2\r\n")
_FRP_TLS = word(b"\x17\x16\x03")
#: A window update, or a ping, that begins something.
_YAMUX_OPEN, _YAMUX_PING = word(b"\0\1\0\1"), word(b"\0\2\0\1\0\0\0\0")
_JSON = word(b'{"')
_NGROK_TYPE = word(b'{"Type":"')
_NPS_TEST = word(b"TST")
_SSHUTTLE = word(b"\0\0SSHUTTLE0001")
_DERP_KEY = word(b"DERP\xf0\x9f\x94\x91")
_BORE_WORDS = (
    word(b'{"Hello":'),
    word(b'{"Accept":"'),
    word(b'{"Authenticate":"'),
    word(b'{"Challenge":"'),
    word(b'{"Connection":"'),
    word(b'"Heartbeat"\0'),
)
_HELLO, _ACCEPT, _AUTHENTICATE, _CHALLENGE, _CONNECTION, _HEARTBEAT = _BORE_WORDS
_BORE_MAX = 256
_FEATURES_MAX = 8


@kernel
def bore(data: Bytes, lo: int, hi: int) -> bool:
    """JSON of one of bore's words, ended by a NUL."""
    if not (
        starts(data, lo, hi, _HELLO)
        or starts(data, lo, hi, _ACCEPT)
        or starts(data, lo, hi, _AUTHENTICATE)
        or starts(data, lo, hi, _CHALLENGE)
        or starts(data, lo, hi, _CONNECTION)
        or starts(data, lo, hi, _HEARTBEAT)
    ):
        return False
    stop = min(hi, lo + _BORE_MAX)
    while lo < stop and data[lo] != 0:
        lo += 1
    return lo < stop


@kernel
def _frp_message(data: Bytes, lo: int, hi: int) -> bool:
    """A letter, a length of eight bytes, a JSON object: who logs in, or opens a connection for work."""
    if hi - lo < 11 or not (data[lo] == 111 or data[lo] == 119 or data[lo] == 118 or data[lo] == 49):
        return False
    return zeros(data, lo + 1, lo + 7) and starts(data, lo + 9, hi, _JSON)


@kernel
def _yamux(data: Bytes, lo: int, hi: int) -> int:
    """YAMUX, or FRP if it carries its login; a header has 12 bytes: version, type, flags, stream, length."""
    if hi - lo < 12:
        return UNKNOWN
    if starts(data, lo, hi, _YAMUX_PING):
        return YAMUX
    if not starts(data, lo, hi, _YAMUX_OPEN) or not zeros(data, lo + 4, lo + 7):
        return UNKNOWN
    if not 1 <= data[lo + 7] <= 2 or data[lo + 8] != 0:
        return UNKNOWN
    # then data: no flags, the same stream
    at = lo + 12
    if at + 12 <= hi and zeros(data, at, at + 4) and _frp_message(data, at + 12, hi):
        return FRP
    return YAMUX


@kernel
def _rathole(data: Bytes, lo: int, hi: int, first: int) -> bool:
    """A kind of channel, the version, and 32 bytes that are a hash or a key."""
    if first != 37 or hi - lo < 37 or data[lo] > 1 or not zeros(data, lo + 1, lo + 4) or data[lo + 4] > 2:
        return False
    small = 0
    for at in range(lo + 5, lo + 37):
        small += data[at] == 0
    return small <= 2


@kernel
def _gost(data: Bytes, lo: int, hi: int, first: int) -> bool:
    """A relay's request: version 1, a command, and features whose lengths come out even."""
    if hi - lo < 8 or data[lo] != 1 or not 1 <= byte_at(data, lo + 1) & 0x0F <= 3:
        return False
    end = lo + 4 + u16(data, lo + 2)
    if end > hi or end - lo < 11 or (end - lo != first and byte_at(data, lo + 1) & 0x70):
        return False
    at = lo + 4
    for _ in range(_FEATURES_MAX):
        if at == end:
            return True
        if at + 3 > end or not 1 <= data[at] <= 4:
            return False
        at += 3 + u16(data, at + 1)
    return False


@kernel
def _gsocket(data: Bytes, lo: int, hi: int) -> bool:
    """128 bytes: listen or connect, version 1.x, flags; mostly zeros, an address of 16 bytes at 32."""
    return (
        hi - lo >= 128
        and 1 <= data[lo] <= 2
        and data[lo + 1] == 1
        and 1 <= data[lo + 2] <= 9
        and data[lo + 3] < 0x40
        and zeros(data, lo + 4, lo + 16)
        and not zeros(data, lo + 32, lo + 48)
        and zeros(data, lo + 48, lo + 128)
    )


@kernel
def _nps(data: Bytes, lo: int, hi: int) -> bool:
    """A word, then a version with its length."""
    if not starts(data, lo, hi, _NPS_TEST) or hi - lo < 10:
        return False
    size = byte_at(data, lo + 3)
    if not 3 <= size <= 20 or not zeros(data, lo + 4, lo + 7):
        return False
    for at in range(lo + 7, min(hi, lo + 7 + size)):
        if data[at] != 46 and not 48 <= data[at] <= 57:
            return False
    return True


@kernel
def _ngrok(data: Bytes, lo: int, hi: int) -> bool:
    """The first version, without its TLS: a length of eight bytes, the low one first, then JSON."""
    return hi - lo >= 17 and zeros(data, lo + 2, lo + 8) and starts(data, lo + 8, hi, _NGROK_TYPE)


@kernel
def is_derp(data: Bytes, lo: int, hi: int) -> bool:
    """A relay's first frame: type 1, a length of four bytes, a word before its key."""
    return hi - lo >= 13 and data[lo] == 1 and starts(data, lo + 5, hi, _DERP_KEY)


@kernel
def tunnel(data: Bytes, lo: int, hi: int, first: int) -> int:
    """The tunnel that ``data[lo:hi]`` begins, or UNKNOWN; ``first``: how much came in one piece."""
    if _frp_message(data, lo, hi) or starts(data, lo, hi, _FRP_V2) or starts(data, lo, hi, _FRP_TLS):
        return FRP
    mux = _yamux(data, lo, hi)
    if mux != UNKNOWN:
        return mux
    if _gsocket(data, lo, hi):
        return GSOCKET
    if _rathole(data, lo, hi, first):
        return RATHOLE
    if _gost(data, lo, hi, first):
        return GOST
    if _nps(data, lo, hi):
        return NPS
    if _ngrok(data, lo, hi):
        return NGROK
    if starts(data, lo, hi, _SSHUTTLE):
        return SSHUTTLE
    return TAILSCALE if is_derp(data, lo, hi) else UNKNOWN
