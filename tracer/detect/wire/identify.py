# SPDX-License-Identifier: Apache-2.0
"""What a flow is, by the first bytes of one of its directions.

Nothing is remembered: whoever has more of a direction asks again, and the answer may get better. What
decides is how the bytes begin, and some lengths; ports never do, they only make traits.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.detect.wire.dns import dns
from tracer.detect.wire.http import HTTP2, http, is_answer, is_preface, is_request
from tracer.detect.wire.icmp import icmp
from tracer.detect.wire.protocols import PORTS, PROTOCOL, UNKNOWN, numbers, trait
from tracer.detect.wire.quic import QUIC, is_long, quic
from tracer.detect.wire.randomness import SIZE_MIN as _RANDOM_MIN
from tracer.detect.wire.randomness import balanced, begins_as_text, looks_random
from tracer.detect.wire.services import SHELL, service, shell
from tracer.detect.wire.socks import socks4, socks5
from tracer.detect.wire.spans import (
    ACCEPTED,
    FIRST,
    ICMP,
    ICMPV6,
    INNER,
    LOCAL_PORT,
    LOOK,
    OTHER_SPOKE_FIRST,
    OUT,
    REMOTE_PORT,
    TCP,
    TEXT,
    TO_WEBSOCKET,
    TRAITS,
    TRANSPORT,
    UDP,
    UPGRADE,
    by_client,
    set_software,
)
from tracer.detect.wire.ssh import after_lines, version_line
from tracer.detect.wire.stratum import is_json, json_lines
from tracer.detect.wire.stratum_v2 import STRATUM_V2, stratum_v2, stratum_v2_plain
from tracer.detect.wire.tls import is_hello, is_tls, tls
from tracer.detect.wire.tunnels import BORE, bore, tunnel
from tracer.detect.wire.vpn import OPENVPN, datagram, openvpn_tcp
from tracer.engine.address import call_at
from tracer.engine.intrinsics import bytes_at, i64, ints_at
from tracer.jit import entry, inline_kernel, kernel

__all__ = ["LOOK", "OUT", "TEXT", "identify", "identify_at", "scratch_space"]

_T_FOREIGN, _T_UNEXPECTED, _T_SERVER_FIRST, _T_RANDOM, _T_UNMASKED, _T_REVERSED, _T_PROXIED = (
    trait(name)
    for name in (
        "protocol-on-foreign-port",
        "unexpected-on-port",
        "server-first",
        "looks-random",
        "websocket-unmasked",
        "role-reversed",
        "proxied",
    )
)
#: What says less than the proxy it goes through.
_TELLS_LITTLE = 1 | numbers("tls http http2")
#: What a port is for, of ports that hide something well.
_DNS_FAMILY = numbers("dns iodine dnscat2 dns2tcp")
_SSH = PROTOCOL["ssh"]
_YAMUX = PROTOCOL["yamux"]
_DEPTH = 4  # proxies behind one another
_SURE = 8  # bytes that are enough to say that it is not what a port is for
_FRAME_MAX = 256


# Words in front of the scratch space: where _tcp_at is, and how much came in one piece
_TCP_AT, _PIECE, _OWN = 0, 1, 2


@inline_kernel
def _laid_out(scratch: int) -> tuple[Ints, Ints, Bytes]:
    look = scratch + 8 * _OWN
    out = look + 8 * LOOK
    return ints_at(look, LOOK), ints_at(out, OUT), bytes_at(out + 8 * OUT, TEXT)


@kernel
def _binary(data: Bytes, lo: int, hi: int, first: int, look: Ints, text: Bytes, out: Ints) -> int:
    """What the stream is that begins with neither a well-known text nor JSON."""
    protocol = UNKNOWN
    if data[lo] == 5:
        protocol = socks5(data, lo, hi, first, look, out)
    elif data[lo] == 4 or data[lo] == 0:
        protocol = socks4(data, lo, hi, look, out)
    if protocol == UNKNOWN:
        protocol = tunnel(data, lo, hi, first)
    if protocol == _YAMUX and not by_client(look) and data[lo + 7] & 1:
        out[TRAITS] |= _T_REVERSED  # who was called opens streams as a client
    if protocol == UNKNOWN:
        protocol = service(data, lo, hi, first, look)
    if protocol == UNKNOWN:
        protocol = dns(data, lo, hi, i64(TCP), text, out)
    if protocol == UNKNOWN and openvpn_tcp(data, lo, hi):
        protocol = OPENVPN
    if protocol == UNKNOWN and stratum_v2_plain(data, lo, hi):
        protocol = STRATUM_V2
    if protocol == UNKNOWN and shell(data, lo, hi, first):
        protocol = SHELL
    if protocol == UNKNOWN:
        protocol = after_lines(data, lo, hi, out)
    return protocol


@inline_kernel
def _tcp(data: Bytes, lo: int, hi: int, first: int, look: Ints, text: Bytes, out: Ints) -> int:
    """What the stream is whose beginning is ``data[lo:hi]``; ``first``: how much came in one piece."""
    if is_tls(data, lo, hi):
        if is_hello(data, lo, hi) and not by_client(look):
            out[TRAITS] |= _T_REVERSED
        return tls(data, lo, hi, text, out)
    at = is_request(data, lo, hi)
    if at >= 0 or is_answer(data, lo, hi):
        return http(data, lo, at, hi, look, text, out)
    if is_preface(data, lo, hi):
        if not by_client(look):
            out[TRAITS] |= _T_REVERSED
        return HTTP2
    protocol = version_line(data, lo, hi, out)
    if protocol != UNKNOWN:
        return protocol
    if bore(data, lo, hi):
        return BORE
    at = is_json(data, lo, hi)
    if at >= 0:  # or random bytes that begin with a bracket
        protocol = json_lines(data, at, hi, look, text, out)
    else:
        protocol = _binary(data, lo, hi, first, look, text, out)
    end = lo + first if _RANDOM_MIN <= first < hi - lo else hi
    if protocol == UNKNOWN and balanced(data, lo, end):
        if stratum_v2(look):
            return STRATUM_V2
        if not begins_as_text(data, lo):
            out[TRAITS] |= _T_RANDOM
    return protocol


@entry
def _tcp_at(scratch: int, address: int, span: int) -> int:
    """:func:`_tcp`, apart from what calls it: compiled twice over it would take twice as long."""
    look, out, text = _laid_out(scratch)
    lo, hi = span >> 32, span & 0xFFFFFFFF
    return _tcp(bytes_at(address, hi), lo, hi, ints_at(scratch, _OWN)[_PIECE], look, text, out)


@kernel
def _frame(data: Bytes, at: int, hi: int, look: Ints, text: Bytes, out: Ints) -> int:
    """What the first frames of a WebSocket carry that begins at ``at``: SSH or mining, or UNKNOWN."""
    if at + 2 > hi:
        return UNKNOWN
    kind, size = byte_at(data, at) & 0x0F, byte_at(data, at + 1) & 0x7F
    if data[at] & 0x70 or (kind > 2 and not 8 <= kind <= 10):
        return UNKNOWN
    masked = data[at + 1] >= 0x80
    if not masked and by_client(look):
        out[TRAITS] |= _T_UNMASKED
    at += 2
    if size == 126:
        at += 2
    elif size == 127:
        at += 8
    protocol = UNKNOWN
    if not masked:
        protocol = version_line(data, at, hi, out)
        json = is_json(data, at, hi)
        if json >= 0:
            protocol = json_lines(data, json, hi, look, text, out)
        return protocol
    start = i64(0)
    length = min(hi - at - 4, _FRAME_MAX)
    if length <= 0:
        return UNKNOWN
    for place in range(length):
        text[place] = data[at + 4 + place] ^ data[at + (place & 3)]
    protocol = version_line(text, start, length, out)
    if protocol == UNKNOWN and is_json(text, start, length) >= 0:
        protocol = json_lines(text, is_json(text, start, length), length, look, text, out)
    set_software(out, start, start)  # that is not in data
    return protocol


@kernel
def _stream(scratch: int, address: int, lo: int, hi: int) -> int:
    """:func:`_tcp`, and what is inside of proxies and WebSockets."""
    look, out, text = _laid_out(scratch)
    data = bytes_at(address, hi)
    own = ints_at(scratch, _OWN)
    own[_PIECE] = look[FIRST]
    protocol = call_at(own[_TCP_AT], scratch, address, lo << 32 | hi)
    inner = protocol
    for _ in range(_DEPTH):
        at = out[INNER]
        if at == 0 or at >= hi:
            break
        out[INNER] = 0
        if out[UPGRADE] & TO_WEBSOCKET:
            inner = _frame(data, at, hi, look, text, out)
        else:
            own[_PIECE] = hi - at
            inner = call_at(own[_TCP_AT], scratch, address, at << 32 | hi)
        if not _TELLS_LITTLE >> inner & 1:
            protocol = inner
    return protocol


@kernel
def _udp(data: Bytes, lo: int, hi: int, look: Ints, text: Bytes, out: Ints) -> int:
    size = max(look[FIRST], hi - lo)
    protocol = datagram(data, lo, hi, size, look)
    if protocol == UNKNOWN and is_long(data, lo, hi, size):
        protocol = quic(data, lo, hi, text, out) if by_client(look) else QUIC
    if protocol == UNKNOWN:
        protocol = dns(data, lo, hi, i64(UDP), text, out)
    if protocol == UNKNOWN and looks_random(data, lo, hi):
        out[TRAITS] |= _T_RANDOM
    return protocol


@kernel
def _port_traits(protocol: int, data: Bytes, lo: int, hi: int, look: Ints) -> int:
    """What does not go together with the port that was called."""
    port = look[LOCAL_PORT] if look[ACCEPTED] else look[REMOTE_PORT]
    traits = 0
    if port != 0 and PORTS[protocol, 0] != 0:
        own = False
        for place in range(PORTS.shape[1]):
            own = own or PORTS[protocol, place] == port
        if not own:
            traits |= _T_FOREIGN
    if hi - lo < _SURE:
        return traits
    expected = True
    if port == 53:
        expected = (_DNS_FAMILY >> protocol & 1) != 0
    elif look[TRANSPORT] == TCP:
        if port == 443 or port == 8443:
            expected = is_tls(data, lo, hi)
        elif port == 80:
            expected = is_request(data, lo, hi) >= 0 or is_answer(data, lo, hi) or is_preface(data, lo, hi)
        elif port == 22:
            expected = protocol == _SSH
    return traits if expected else traits | _T_UNEXPECTED


@entry
def identify_at(scratch: int, address: int, span: int) -> int:
    """The number of the protocol (``protocols.PROTOCOL``) that ``data[lo:hi]`` begins, 0 if unknown.

    The bytes are the beginning of one direction of a TCP stream, at most 512, or one datagram; of ICMP,
    the message with or without its IP header. ``look`` (int64[LOOK]): what else is known of the flow;
    ``out`` (int64[OUT]): what is found; ``text`` (uint8[TEXT]): for what must be decoded first. Their
    places are in ``spans``. FIRST is the length of the datagram itself, if it is one.

    ``data`` lies at ``address``; ``lo`` and ``hi`` are the halves of ``span``; ``look``, ``out`` and
    ``text`` are parts of the :func:`scratch_space` at ``scratch``.
    """
    look, out, text = _laid_out(scratch)
    lo, hi = span >> 32, span & 0xFFFFFFFF
    data = bytes_at(address, hi)
    out[:OUT] = 0
    if hi <= lo:
        return UNKNOWN
    transport = look[TRANSPORT]
    if transport == ICMP or transport == ICMPV6:
        return icmp(data, lo, hi, max(look[FIRST], hi - lo), out)
    if transport == TCP:
        protocol = _stream(scratch, address, lo, hi)
        if by_client(look) == (look[OTHER_SPOKE_FIRST] != 0):
            out[TRAITS] |= _T_SERVER_FIRST
    else:
        protocol = _udp(data, lo, hi, look, text, out)
    out[TRAITS] |= _port_traits(protocol, data, lo, hi, look)
    return protocol


#: Both entries.
ENTRIES = (identify_at, _tcp_at)


def scratch_space() -> tuple[Ints, Ints, Bytes, Ints]:
    """``look``, ``out`` and ``text``, and the piece of memory they are in: int64[own + LOOK + OUT + TEXT / 8]."""
    whole = np.zeros(_OWN + LOOK + OUT + TEXT // 8, np.int64)
    whole[_TCP_AT] = _tcp_at.address
    look, out = whole[_OWN : _OWN + LOOK], whole[_OWN + LOOK : _OWN + LOOK + OUT]
    return look, out, whole[_OWN + LOOK + OUT :].view(np.uint8), whole


def identify(data: Bytes, lo: int, hi: int, look: Ints, text: Bytes, out: Ints) -> int:
    """For Python: what ``data[lo:hi]`` begins, see :func:`identify_at`."""
    given, found, decoded, whole = scratch_space()
    given[:] = look[:LOOK]
    kind = identify_at.ctypes(whole.ctypes.data, data.ctypes.data, int(lo) << 32 | int(hi))
    out[:OUT] = found
    text[:TEXT] = decoded
    return int(kind)
