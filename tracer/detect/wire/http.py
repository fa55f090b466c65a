# SPDX-License-Identifier: Apache-2.0
"""HTTP/1: what a request asks for, whom, and what its headers give away."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at, is_space, lookup, table
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN, numbers, trait
from tracer.detect.wire.spans import (
    IN_DATA,
    INNER,
    OTHER_PROTOCOL,
    OTHER_TRAITS,
    TO_OTHER,
    TO_WEBSOCKET,
    TRAITS,
    UPGRADE,
    by_client,
    found,
    is_folded,
    line_end,
    set_host,
    set_software,
    starts,
    starts_folded,
    word,
)
from tracer.detect.wire.stratum import is_json, json_body
from tracer.engine.intrinsics import i64
from tracer.jit import kernel

HTTP, CONNECT, WEBSOCKET, HTTP2 = (PROTOCOL[n] for n in ("http", "http-connect", "websocket", "http2"))
_MINING, _CHISEL, _FRP, _GOST, _WSTUNNEL, _PAGEKITE, _TAILSCALE, _TELEPORT, _DEV_TUNNEL = (
    PROTOCOL[name]
    for name in (
        "json-rpc-mining",
        "chisel",
        "frp",
        "gost",
        "wstunnel",
        "pagekite",
        "tailscale",
        "teleport",
        "dev-tunnel",
    )
)
#: What is HTTP at first: its answers are named after the request.
_OVER_HTTP = numbers(
    "http-connect websocket json-rpc-mining chisel frp gost wstunnel pagekite tailscale teleport dev-tunnel"
)
_T_UPGRADE, _T_PROXIED, _T_REVERSED = trait("http-upgrade"), trait("proxied"), trait("role-reversed")

_METHODS = table(
    dict.fromkeys(
        b"GET POST PUT HEAD DELETE OPTIONS PATCH TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT "
        b"SEARCH PURGE LINK UNLINK".split(),
        1,
    )
    | {b"CONNECT": 2}
)
_METHOD_CONNECT = 2
_METHOD_MAX = 10

_HOST, _AGENT, _IS_UPGRADE, _SUBPROTOCOL, _IS_MINING, _IS_TAILSCALE = range(1, 7)
_HEADERS = table(
    {
        b"host": _HOST,
        b"user-agent": _AGENT,
        b"server": _AGENT,
        b"upgrade": _IS_UPGRADE,
        b"sec-websocket-protoco": _SUBPROTOCOL,  # as much of it as a table takes
        b"x-mining-extensions": _IS_MINING,
        b"x-mining-hashrate": _IS_MINING,
        b"x-stratum": _IS_MINING,
        b"x-roll-ntime": _IS_MINING,
        b"x-tailscale-handshake": _IS_TAILSCALE,
    },
    fold=True,
)
_HEADER_MAX = 21
_HEADERS_MAX = 64

_VERSION, _ANSWER, _PREFACE = word(b" HTTP/1."), word(b"HTTP/1."), word(b"PRI * HTTP/2.0\r\n")
_GOST_HEADER, _GOST_OLD, _PAGEKITE_HEADER = word(b"gost-"), word(b"x-gost-"), word(b"x-pagekite-")
_PAGEKITE_HOST = word(b"pagekite:")
_FRP_PATH, _TS_PATH, _TELEPORT_PATH = word(b"/~!frp"), word(b"/ts2021"), word(b"/webapi/connectionupgrade")
_HTTP_SCHEME, _HTTPS_SCHEME = word(b"http://"), word(b"https://")
_WEBSOCKET_WORD, _TAILSCALE_WORD, _DERP_WORD = (
    word(b"websocket"),
    word(b"tailscale-control-protocol"),
    word(b"derp"),
)
_HTTP2_WORD = word(b"h2c")
_P_CHISEL, _P_WSTUNNEL, _P_RELAY = word(b"chisel-v"), word(b"authorization.bearer."), word(b"tunnel-relay-")

_COLON, _SLASH, _OPEN, _CLOSE, _AT = (ord(sign) for sign in ":/[]@")


@kernel
def set_authority(data: Bytes, lo: int, hi: int, out: Ints) -> None:
    """The host of ``data[lo:hi]``, user@host:port, without user, port and brackets, is asked for."""
    for at in range(lo, hi):
        if data[at] == _AT:
            lo = at + 1
    if lo < hi and data[lo] == _OPEN:
        end = lo + 1
        while end < hi and data[end] != _CLOSE:
            end += 1
        set_host(out, lo + 1, end, i64(IN_DATA))
        return
    end = lo
    while end < hi and data[end] != _COLON:
        end += 1
    set_host(out, lo, end, i64(IN_DATA))


@kernel
def is_request(data: Bytes, lo: int, hi: int) -> int:
    """Where the target of a request begins, or -1: a method, a target and, if it is there, HTTP/1."""
    stop = min(hi, lo + _METHOD_MAX)
    at = lo
    while at < stop and 65 <= data[at] <= 90:
        at += 1
    if at >= stop or at == lo or data[at] != 32:
        return -1
    method = lookup(_METHODS, data, lo, at)
    if method == 0:
        return -1
    at += 1
    end = line_end(data, at, hi)
    if end < hi:
        return at if found(data, at, end, _VERSION) >= 0 else -1
    plain = at < hi and (data[at] == _SLASH or method == _METHOD_CONNECT)
    return at if plain or starts_folded(data, at, hi, _HTTP_SCHEME) else -1


@kernel
def is_answer(data: Bytes, lo: int, hi: int) -> bool:
    return hi - lo >= 12 and starts(data, lo, hi, _ANSWER) and data[lo + 8] == 32


@kernel
def is_preface(data: Bytes, lo: int, hi: int) -> bool:
    """Whether it is how a client of HTTP/2 begins."""
    return starts(data, lo, hi, _PREFACE)


@kernel
def _header(data: Bytes, at: int, end: int, out: Ints) -> int:
    """Take in the header line ``data[at:end]``; the protocol it gives away, or 0.

    An upgrade is noted in ``out``.
    """
    colon = at
    while colon < end and data[colon] != _COLON:
        colon += 1
    if colon == end:
        return UNKNOWN
    lo = colon + 1
    while lo < end and is_space(byte_at(data, lo)):
        lo += 1
    hi = end
    while hi > lo and is_space(byte_at(data, hi - 1)):
        hi -= 1
    kind = lookup(_HEADERS, data, at, min(colon, at + _HEADER_MAX))
    if kind == _HOST:
        set_authority(data, lo, hi, out)
    elif kind == _AGENT:
        set_software(out, lo, hi)
    elif kind == _IS_MINING:
        return _MINING
    elif kind == _IS_TAILSCALE:
        return _TAILSCALE
    elif kind == _IS_UPGRADE:
        if is_folded(data, lo, hi, _WEBSOCKET_WORD):
            out[UPGRADE] |= TO_WEBSOCKET
        elif is_folded(data, lo, hi, _TAILSCALE_WORD) or is_folded(data, lo, hi, _DERP_WORD):
            out[UPGRADE] |= TO_OTHER
            return _TAILSCALE
        elif not starts_folded(data, lo, hi, _HTTP2_WORD):
            out[UPGRADE] |= TO_OTHER
    elif kind == _SUBPROTOCOL:
        if starts_folded(data, lo, hi, _P_CHISEL):
            return _CHISEL
        if found(data, lo, hi, _P_WSTUNNEL) >= 0:
            return _WSTUNNEL
        if found(data, lo, hi, _P_RELAY) >= 0:
            return _DEV_TUNNEL
    elif starts_folded(data, at, colon, _GOST_HEADER) or starts_folded(data, at, colon, _GOST_OLD):
        return _GOST
    elif starts_folded(data, at, colon, _PAGEKITE_HEADER):
        return _PAGEKITE
    return UNKNOWN


@kernel
def _target(data: Bytes, lo: int, target: int, hi: int, out: Ints) -> int:
    """Take in what a request is for; the protocol it gives away, or HTTP."""
    end = target
    while end < hi and data[end] > 32:
        end += 1
    if lookup(_METHODS, data, lo, target - 1) == _METHOD_CONNECT:
        if starts_folded(data, target, end, _PAGEKITE_HOST):
            return _PAGEKITE
        out[TRAITS] |= _T_PROXIED
        if end < hi:  # else its end is missing
            set_authority(data, target, end, out)
        return CONNECT
    authority = target
    if starts_folded(data, target, end, _HTTP_SCHEME):
        authority += len(_HTTP_SCHEME)
    elif starts_folded(data, target, end, _HTTPS_SCHEME):
        authority += len(_HTTPS_SCHEME)
    if authority > target:
        out[TRAITS] |= _T_PROXIED
        slash = authority
        while slash < end and data[slash] != _SLASH:
            slash += 1
        if slash < hi:
            set_authority(data, authority, slash, out)
    if starts(data, target, end, _FRP_PATH):
        return _FRP
    if starts(data, target, end, _TS_PATH) and end - target == len(_TS_PATH):
        return _TAILSCALE
    if starts(data, target, end, _TELEPORT_PATH):
        return _TELEPORT
    return HTTP


@kernel
def http(data: Bytes, lo: int, target: int, hi: int, look: Ints, text: Bytes, out: Ints) -> int:
    """The protocol of a request whose target begins at ``target``, or of an answer (-1)."""
    protocol = HTTP
    if target >= 0:
        protocol = _target(data, lo, target, hi, out)
        if not by_client(look):
            out[TRAITS] |= _T_REVERSED
    out[UPGRADE] = 0
    at = line_end(data, lo, hi) + 1
    body = 0
    for _ in range(_HEADERS_MAX):
        if at >= hi:
            break
        end = line_end(data, at, hi)
        if end == at or (end == at + 1 and data[at] == 13):
            body = end + 1 if end < hi else 0
            break
        if end == hi:  # cut off: a value would be, too
            break
        given = _header(data, at, end, out)
        if given != UNKNOWN and protocol <= CONNECT:
            protocol = given
        at = end + 1
    if out[UPGRADE] & TO_OTHER:
        out[TRAITS] |= _T_UPGRADE
    if out[UPGRADE] & TO_WEBSOCKET and protocol == HTTP:
        protocol = WEBSOCKET
    if target < 0:
        other = look[OTHER_PROTOCOL]
        if protocol <= CONNECT and _OVER_HTTP >> other & 1:
            protocol = other
        carries = other == CONNECT or out[UPGRADE] or (look[OTHER_TRAITS] & _T_PROXIED and other != HTTP)
        if body != 0 and carries:
            out[INNER] = body
        return protocol
    if body != 0 and body < hi:
        json = is_json(data, body, hi)
        if protocol == CONNECT or out[UPGRADE]:
            out[INNER] = body
        elif json >= 0 and protocol == HTTP:
            mining = json_body(data, json, hi, text, out)
            if mining != UNKNOWN:
                protocol = mining
    return protocol
