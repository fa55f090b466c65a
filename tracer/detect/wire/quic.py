# SPDX-License-Identifier: Apache-2.0
"""QUIC: its first packets, and the ClientHello in those that a client sends.

The keys of Initial packets come from the connection's number, which the packet shows. Their check
lies behind what is captured, so it is not made: what decrypts to no frames is said to be unreadable.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.detect.wire.crypto import AES, DIGEST, aes_block, aes_keys, expand_label, hmac
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN
from tracer.detect.wire.spans import CAPTURE, HOST_IN, IN_TEXT, TEXT, set_host, u16, u32, word
from tracer.detect.wire.tls import TLS, client_hello, host_protocol
from tracer.engine.intrinsics import i64
from tracer.jit import allocating, kernel

QUIC = PROTOCOL["quic"]

_VERSION_1, _VERSION_2 = 0x00000001, 0x6B3343CF
_DRAFTS = 0xFF0000  # the upper 24 bits of drafts' versions
_SALT_1 = word(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"))
_SALT_2 = word(bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"))
_CLIENT = word(b"client in")
_KEY_1, _IV_1, _HP_1 = word(b"quic key"), word(b"quic iv"), word(b"quic hp")
_KEY_2, _IV_2, _HP_2 = word(b"quicv2 key"), word(b"quicv2 iv"), word(b"quicv2 hp")
_ID_MAX = 20
_FRAMES_MAX = 64
_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO = 0, 1, 2, 3, 6


@kernel
def is_long(data: Bytes, lo: int, hi: int, size: int) -> bool:
    """Whether ``data[lo:hi]`` begins with a long header of a known version, or of one that is no
    version, sent to see that the other side ignores it; or with the answer to such a one.
    """
    if hi - lo < 7 or data[lo] & 0x80 == 0:
        return False
    version = u32(data, lo + 1)
    ours = lo + 6 + byte_at(data, lo + 5)
    if data[lo + 5] > _ID_MAX or ours >= hi or data[ours] > _ID_MAX or ours + 1 + byte_at(data, ours) > hi:
        return False
    if version == 0:  # a list of versions
        rest = size - (ours + 1 + byte_at(data, ours) - lo)
        return rest > 0 and rest & 3 == 0 and data[lo + 5] + data[ours] > 0
    if data[lo] & 0x40 == 0:
        return False
    return (
        version in (_VERSION_1, _VERSION_2) or version >> 8 == _DRAFTS or version & 0x0F0F0F0F == 0x0A0A0A0A
    )


@kernel
def _number_end(data: Bytes, at: int, hi: int) -> int:
    """Where the variable-length number at ``at`` ends, or -1 if that is after ``hi``."""
    if at >= hi:
        return -1
    at += 1 << (byte_at(data, at) >> 6)
    return at if at <= hi else -1


@kernel
def _number(data: Bytes, at: int, end: int) -> int:
    value = byte_at(data, at) & 0x3F
    for place in range(at + 1, end):
        value = value << 8 | byte_at(data, place)
    return value


@allocating
def _derive(data: Bytes, lo: int, second: bool, key: Bytes, iv: Bytes, hp: Bytes) -> None:
    """The keys of what a client sends first; the connection's number is at ``lo`` + 5."""
    secret = np.zeros(DIGEST, np.uint8)
    length = byte_at(data, lo + 5)
    number = data[lo + 6 : lo + 6 + length]
    hmac(_SALT_2 if second else _SALT_1, len(_SALT_1), number, length, secret)
    client = np.zeros(DIGEST, np.uint8)
    expand_label(secret, _CLIENT, i64(32), client)
    expand_label(client, _KEY_2 if second else _KEY_1, i64(16), key)
    expand_label(client, _IV_2 if second else _IV_1, i64(12), iv)
    expand_label(client, _HP_2 if second else _HP_1, i64(16), hp)


@allocating
def _decrypt(data: Bytes, lo: int, hi: int, second: bool, plain: Bytes) -> int:
    """Write the payload of the Initial at ``lo`` to ``plain``, as much as there is; its length or -1."""
    at = lo + 6 + byte_at(data, lo + 5)
    at += 1 + byte_at(data, at)
    end = _number_end(data, at, hi)
    if end < 0:
        return -1
    at = end + _number(data, at, end)  # over the token
    if not lo < at < hi:
        return -1
    end = _number_end(data, at, hi)
    if end < 0:
        return -1
    stop = min(hi, end + _number(data, at, end))
    at = end  # of the packet's number
    if at + 4 + AES > stop:
        return -1
    key, iv, hp = np.zeros(DIGEST, np.uint8), np.zeros(DIGEST, np.uint8), np.zeros(DIGEST, np.uint8)
    _derive(data, lo, second, key, iv, hp)
    block = np.zeros(AES, np.uint8)
    for place in range(AES):
        block[place] = data[at + 4 + place]
    aes_block(aes_keys(hp), block)
    size = ((byte_at(data, lo) ^ byte_at(block, 0)) & 3) + 1
    for place in range(size):
        iv[12 - size + place] ^= data[at + place] ^ block[1 + place]
    at += size
    keys = aes_keys(key)
    length = min(stop - at, CAPTURE)
    for begin in range(0, length, AES):
        for place in range(12):
            block[place] = iv[place]
        counter = 2 + begin // AES
        block[12], block[13], block[14], block[15] = 0, 0, counter >> 8, counter & 255
        aes_block(keys, block)
        for place in range(min(AES, length - begin)):
            plain[begin + place] = data[at + begin + place] ^ block[place]
    return length


@kernel
def _skip_ack(data: Bytes, at: int, hi: int, ecn: bool) -> int:
    """Where the ACK frame ends whose fields begin at ``at``, or -1."""
    fields = 4
    ranges = 0
    place = 0
    while place < fields + 2 * ranges + (3 if ecn else 0):
        end = _number_end(data, at, hi)
        if end < 0:
            return -1
        if place == 2:
            ranges = min(_number(data, at, end), CAPTURE)
        at = end
        place += 1
    return at


@kernel
def _crypto(plain: Bytes, length: int, text: Bytes, known: Bytes) -> int:
    """Put the CRYPTO frames of ``plain`` together in ``text``, and mark in ``known`` what is there; how
    much of it is there from the start, or -1 if there are no such frames.
    """
    at = 0
    frames = 0
    while at < length and frames < _FRAMES_MAX:
        kind = plain[at]
        at += 1
        if kind == _PADDING or kind == _PING:
            continue
        frames += 1
        if kind == _ACK or kind == _ACK_ECN:
            at = _skip_ack(plain, at, length, kind == _ACK_ECN)
            if at < 0:
                break
            continue
        if kind != _CRYPTO:
            break
        middle = _number_end(plain, at, length)
        end = _number_end(plain, middle, length) if middle > 0 else -1
        if end < 0:
            break
        offset, size = _number(plain, at, middle), _number(plain, middle, end)
        if size > 0x4000:
            break
        for place in range(min(size, length - end)):
            if offset + place >= TEXT:
                break
            text[offset + place] = plain[end + place]
            known[offset + place] = 1
        at = end + size
    if frames == 0:
        return -1
    reached = 0
    while reached < TEXT and known[reached]:
        reached += 1
    return reached


@kernel
def _name_anywhere(text: Bytes, known: Bytes, out: Ints) -> int:
    """The server name in pieces of a ClientHello that lack its beginning: its three lengths fit."""
    for at in range(TEXT - 12):
        if not known[at] or u16(text, at) != 0:
            continue
        size = u16(text, at + 2)
        if size < 8 or size > 258 or u16(text, at + 4) != size - 2 or text[at + 6] != 0:
            continue
        lo, hi = at + 9, at + 4 + size
        if hi > TEXT or u16(text, at + 7) != hi - lo:
            continue
        whole = True
        for place in range(at, hi):
            whole = whole and known[place] != 0 and (place < lo or 33 <= text[place] < 127)
        if whole:
            set_host(out, lo, hi, i64(IN_TEXT))
            return host_protocol(text, lo, hi)
    return UNKNOWN


@allocating
def quic(data: Bytes, lo: int, hi: int, text: Bytes, out: Ints) -> int:
    """The protocol of what :func:`is_long`: QUIC, or one that shows in the ClientHello of an Initial that
    a client sent. Its server name goes to ``text``.
    """
    version = u32(data, lo + 1)
    second = version == _VERSION_2
    if (version != _VERSION_1 and not second) or byte_at(data, lo) >> 4 & 3 != (1 if second else 0):
        return QUIC
    plain = np.zeros(CAPTURE, np.uint8)
    length = _decrypt(data, lo, hi, second, plain)
    if length <= 0:
        return QUIC
    known = np.zeros(TEXT, np.uint8)
    reached = _crypto(plain, length, text, known)
    if reached < 0:
        return QUIC
    found = UNKNOWN
    if reached > 4 and text[0] == 1:
        found = client_hello(text, i64(0), reached, i64(IN_TEXT), out)
    if found == UNKNOWN or (found == TLS and out[HOST_IN] == 0):
        found = max(found, _name_anywhere(text, known, out))
    return found if found > TLS else QUIC
