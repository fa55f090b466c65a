# SPDX-License-Identifier: Apache-2.0
"""TLS ClientHellos: whole, cut off by the capture, or cut over records by who sent them."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at, letters, lookup, table
from tracer.detect.wire.protocols import PROTOCOL, trait
from tracer.detect.wire.spans import (
    IN_DATA,
    IN_TEXT,
    TEXT,
    TRAITS,
    ends_folded,
    found,
    is_folded,
    set_host,
    starts_folded,
    u16,
    u24,
    word,
)
from tracer.engine.intrinsics import i64
from tracer.jit import kernel

TLS = PROTOCOL["tls"]
_TOR, _NGROK, _CLOUDFLARED, _FRP, _TELEPORT, _ZITI, _TAILSCALE, _DEV_TUNNEL, _GOST = (
    PROTOCOL[name]
    for name in ("tor", "ngrok", "cloudflared", "frp", "teleport", "ziti", "tailscale", "dev-tunnel", "gost")
)
_T_NO_SNI, _T_NO_ALPN, _T_HTTP, _T_TUNNEL, _T_ECH, _T_OLD, _T_SPLIT = (
    trait(f"tls-{name}")
    for name in (
        "without-sni",
        "without-alpn",
        "http-alpn",
        "tunnel-alpn",
        "ech",
        "outdated",
        "split-hello",
    )
)

_HANDSHAKE = 22

# Extensions
_SERVER_NAME, _ALPN, _VERSIONS, _ECH = 0, 16, 43, 0xFE0D
_EXTENSIONS_MAX = 128
_PROTOCOLS_MAX = 32

_HTTP = 1 << 8
_ALPNS = table(
    dict.fromkeys(b"h2 h3 http/1.1 http/1.0 http/0.9 h2c h3-29 h3-32 h3-Q050 spdy/3.1".split(), _HTTP)
    | {b"argotunnel": _CLOUDFLARED, b"frp": _FRP, b"dev-tunnels": _DEV_TUNNEL}
)
_TELEPORT_ALPN, _ZITI_ALPN, _TUNNEL_ALPN = word(b"teleport-"), word(b"ziti-"), word(b"tunnel")
_NGROK_AGENT, _NGROKD = word(b".ngrok-agent.com"), word(b"ngrokd.ngrok.com")
_NGROK_OLD, _NGROK_TUNNEL = word(b".ngrok.com"), word(b"tunnel.")
_CFTUNNEL, _ARGOTUNNEL = word(b".cftunnel.com"), word(b".argotunnel.com")
_TAILSCALE_NAME, _DERP = word(b".tailscale.com"), word(b"derp")
_DEV_TUNNELS = word(b".tunnels.api.visualstudio.com")
_WWW, _COM = word(b"www."), word(b".com")
_BASE32 = letters(b"abcdefghijklmnopqrstuvwxyz234567")
_VOWELS = letters(b"aeiou")


@kernel
def _is_made_up(data: Bytes, lo: int, hi: int, borrowed: bool) -> bool:
    """Whether a server name is www.RANDOM.com, as Tor makes it: 4 to 25 digits of base 32.

    Words of languages have vowels and no digits among them; too short a name tells nothing: some two
    thirds of Tor's are found so, all of them with the list of ciphers that it has ``borrowed``.
    """
    if not starts_folded(data, lo, hi, _WWW) or not ends_folded(data, lo, hi, _COM):
        return False
    lo += 4
    hi -= 4
    if not 4 <= hi - lo <= 25:
        return False
    vowels = digits = 0
    for at in range(lo, hi):
        if not _BASE32[data[at]]:
            return False
        vowels += _VOWELS[data[at]]
        digits += data[at] < 97
    if borrowed:
        return True
    if hi - lo < 8:
        return False
    return (digits >= 1 and 5 * vowels <= hi - lo) or (digits >= 2 and 4 * vowels <= hi - lo)


@kernel
def _is_borrowed(data: Bytes, lo: int, hi: int) -> bool:
    """Whether ``data[lo:hi]`` are Firefox's ciphers in Firefox's order, with the mark behind them that
    OpenSSL puts there and Firefox doesn't (0x00ff, RFC 5746): Tor poses as Firefox so.
    """
    return (
        hi - lo >= 8
        and u16(data, lo) == 0x1301
        and u16(data, lo + 2) == 0x1303
        and u16(data, lo + 4) == 0x1302
        and u16(data, hi - 2) == 0x00FF
    )


@kernel
def host_protocol(data: Bytes, lo: int, hi: int) -> int:
    """Whose server ``data[lo:hi]`` is, of those that do nothing but tunnels; or 0."""
    if ends_folded(data, lo, hi, _NGROK_AGENT) or is_folded(data, lo, hi, _NGROKD):
        return _NGROK
    if starts_folded(data, lo, hi, _NGROK_TUNNEL) and ends_folded(data, lo, hi, _NGROK_OLD):
        return _NGROK
    if ends_folded(data, lo, hi, _CFTUNNEL) or ends_folded(data, lo, hi, _ARGOTUNNEL):
        return _CLOUDFLARED
    if starts_folded(data, lo, hi, _DERP) and ends_folded(data, lo, hi, _TAILSCALE_NAME):
        return _TAILSCALE
    if ends_folded(data, lo, hi, _DEV_TUNNELS):
        return _DEV_TUNNEL
    return 0


@kernel
def _alpn(data: Bytes, at: int, hi: int, out: Ints) -> int:
    """Look at the names in the ALPN extension ``data[at:hi]``; a tunnel's protocol, or 0."""
    protocol = 0
    at += 2
    for _ in range(_PROTOCOLS_MAX):
        if at >= hi:
            break
        end = at + 1 + byte_at(data, at)
        if end > hi:
            break
        at += 1
        kind = lookup(_ALPNS, data, at, end)
        if kind == _HTTP:
            out[TRAITS] |= _T_HTTP
        elif kind != 0:
            protocol = kind
        elif starts_folded(data, at, end, _TELEPORT_ALPN):
            protocol = _TELEPORT
        elif starts_folded(data, at, end, _ZITI_ALPN):
            protocol = _ZITI
        elif found(data, at, end, _TUNNEL_ALPN) >= 0:
            out[TRAITS] |= _T_TUNNEL
        at = end
    if protocol != 0:
        out[TRAITS] |= _T_TUNNEL
    return protocol


@kernel
def _newest(data: Bytes, at: int, hi: int) -> int:
    """The newest version in the extension ``data[at:hi]``; made-up ones (GREASE) do not count."""
    newest = 0
    at += 1
    while at + 2 <= hi:
        version = u16(data, at)
        if version & 0x0F0F != 0x0A0A:
            newest = max(newest, version)
        at += 2
    return newest


@kernel
def client_hello(data: Bytes, lo: int, hi: int, where: int, out: Ints) -> int:
    """The protocol of a ClientHello that begins at ``lo``: TLS, or one that only TLS shows.

    What lies after ``hi`` is missing: then nothing is said to be lacking unless the lengths say that
    there is no room for it. ``where``: IN_DATA or IN_TEXT.
    """
    at = lo + 38
    if at >= hi:
        return TLS
    newest = u16(data, lo + 4)
    at += 1 + byte_at(data, at)
    if at + 2 > hi:
        return TLS
    ciphers = at + 2
    at = ciphers + u16(data, at)
    if at >= hi:
        return TLS
    borrowed = _is_borrowed(data, ciphers, at)
    at += 1 + byte_at(data, at)
    message_end = lo + 4 + u24(data, lo + 1)
    end = message_end
    if at + 2 <= min(hi, message_end):
        end = min(message_end, at + 2 + u16(data, at))
        at += 2
    elif at + 2 <= message_end:
        return TLS  # the lengths are missing
    protocol = 0
    host = host_end = i64(0)
    named = alpn = False
    for _ in range(_EXTENSIONS_MAX):
        if at + 4 > min(hi, end):
            break
        kind = u16(data, at)
        at += 4
        stop = at + u16(data, at - 2)
        seen = min(stop, hi, end)
        if kind == _SERVER_NAME and not named and at + 5 <= seen and data[at + 2] == 0:
            name_end = at + 5 + u16(data, at + 3)
            named = name_end <= stop
            if name_end <= seen:
                host, host_end = at + 5, name_end
        elif kind == _ALPN:
            alpn = True
            protocol = max(protocol, _alpn(data, at, seen, out))
        elif kind == _VERSIONS:
            newest = max(newest, _newest(data, at, seen))
        elif kind == _ECH:
            out[TRAITS] |= _T_ECH
        at = stop
    whole = at + 4 > end  # no room for another one
    if host_end > host:
        set_host(out, host, host_end, where)
        if protocol == 0:
            protocol = host_protocol(data, host, host_end)
    elif not named and whole:
        out[TRAITS] |= _T_NO_SNI
    if not alpn and whole:
        out[TRAITS] |= _T_NO_ALPN
        if protocol == 0 and host_end > host and _is_made_up(data, host, host_end, borrowed):
            protocol = _TOR
    if whole and newest < 0x0303:
        out[TRAITS] |= _T_OLD
    return protocol if protocol != 0 else TLS


@kernel
def is_tls(data: Bytes, lo: int, hi: int) -> bool:
    """Whether ``data[lo:hi]`` begins with a record: of a handshake, or later ones of a stream that is
    older than the watch.
    """
    return hi - lo >= 3 and 20 <= data[lo] <= 23 and data[lo + 1] == 3 and data[lo + 2] <= 4


@kernel
def is_hello(data: Bytes, lo: int, hi: int) -> bool:
    """Whether the stream that :func:`is_tls` begins with a ClientHello."""
    return hi - lo >= 6 and data[lo] == _HANDSHAKE and data[lo + 5] == 1


@kernel
def tls(data: Bytes, lo: int, hi: int, text: Bytes, out: Ints) -> int:
    """The protocol of a stream that :func:`is_tls`."""
    if not is_hello(data, lo, hi):
        return TLS
    size = u16(data, lo + 3)
    next_record = lo + 5 + size
    whole = size >= 4 and (hi - lo < 9 or u24(data, lo + 6) + 4 <= size)
    if whole or next_record + 5 > hi or data[next_record] != _HANDSHAKE:
        return client_hello(data, lo + 5, min(hi, next_record), i64(IN_DATA), out)
    out[TRAITS] |= _T_SPLIT
    length = 0
    at = lo
    while at + 5 < hi and data[at] == _HANDSHAKE:
        stop = min(hi, at + 5 + u16(data, at + 3))
        at += 5
        if stop == at:
            continue
        while at < stop and length < TEXT:
            text[length] = data[at]
            length += 1
            at += 1
        if length == TEXT:
            break
    return client_hello(text, i64(0), length, i64(IN_TEXT), out)
