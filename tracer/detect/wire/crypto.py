# SPDX-License-Identifier: Apache-2.0
"""What it takes to open the first packet of QUIC, whose keys anybody can derive: HKDF with SHA-256,
AES-128. Nothing here guards a secret, so nothing is done about timing.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.checksums import SHA256_START, sha256_block
from tracer.detect.names import Bytes, Ints, byte_at
from tracer.engine.intrinsics import i64
from tracer.jit import allocating, njit

BLOCK = 64  # of SHA-256
DIGEST = 32
AES = 16  # bytes in a block, and in a key
ROUND_KEYS = 44  # words
_WORD = 0xFFFFFFFF
#: Of a message to sha256() and hmac().
MESSAGE_MAX = 256


def _sbox() -> Ints:
    """AES's substitution: the inverse in GF(2^8), its bits mixed."""
    exponents, logarithms = [0] * 256, [0] * 256
    value = 1
    for power in range(255):
        exponents[power], logarithms[value] = value, power
        value ^= (value << 1) ^ (0x11B if value & 0x80 else 0)  # times 3, a generator
        value &= 0xFF
    box = np.zeros(256, np.int64)
    for byte in range(256):
        inverse = exponents[(255 - logarithms[byte]) % 255] if byte else 0
        mixed = inverse
        for turn in range(1, 5):
            mixed ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        box[byte] = mixed ^ 0x63
    return box


def _columns(box: Ints) -> Ints:
    """For each byte, substitution and one column of MixColumns: 2s, s, s, 3s."""
    double = (box << 1) ^ np.where(box & 0x80, 0x11B, 0)
    return double << 24 | box << 16 | box << 8 | (double ^ box)


_BOX = _sbox()
_COLUMNS = _columns(_BOX)


@allocating
def sha256(message: Bytes, length: int, digest: Bytes) -> None:
    """SHA-256 of the first ``length`` (at most 256) bytes of ``message``, to ``digest`` (32)."""
    w = np.zeros(64, np.int64)
    state = SHA256_START.copy()
    blocks = (length + 8) // BLOCK + 1
    for block in range(blocks):
        for place in range(16):
            word = 0
            for at in range(block * BLOCK + 4 * place, block * BLOCK + 4 * place + 4):
                byte = byte_at(message, at) if at < length else 0
                word = word << 8 | (0x80 if at == length else byte)
            w[place] = word
        if block == blocks - 1:
            w[15] = 8 * length
        sha256_block(w, state)
    for at in range(DIGEST):
        digest[at] = state[at >> 2] >> (24 - 8 * (at & 3)) & 255


@allocating
def hmac(key: Bytes, key_length: int, message: Bytes, length: int, digest: Bytes) -> None:
    """HMAC-SHA-256 to ``digest`` (32); a key of at most 64 bytes, a message of at most 192."""
    inner = np.zeros(BLOCK + MESSAGE_MAX, np.uint8)
    outer = np.zeros(BLOCK + DIGEST, np.uint8)
    for at in range(BLOCK):
        byte = byte_at(key, at) if at < key_length else 0
        inner[at] = byte ^ 0x36
        outer[at] = byte ^ 0x5C
    for at in range(length):
        inner[BLOCK + at] = message[at]
    sha256(inner, BLOCK + length, digest)
    for at in range(DIGEST):
        outer[BLOCK + at] = digest[at]
    sha256(outer, BLOCK + DIGEST, digest)


@allocating
def expand_label(secret: Bytes, label: Bytes, length: int, digest: Bytes) -> None:
    """TLS 1.3's HKDF-Expand-Label without context; of ``digest`` (32) the first ``length`` bytes count."""
    info = np.zeros(32, np.uint8)
    size = len(label)
    info[1] = length
    info[2] = 6 + size
    info[3], info[4], info[5], info[6], info[7], info[8] = 116, 108, 115, 49, 51, 32  # "tls13 "
    for at in range(size):
        info[9 + at] = label[at]
    info[10 + size] = 1
    hmac(secret, i64(DIGEST), info, 11 + size, digest)


@njit
def _substituted(word: int) -> int:
    return int(
        _BOX[word >> 24 & 255] << 24
        | _BOX[word >> 16 & 255] << 16
        | _BOX[word >> 8 & 255] << 8
        | _BOX[word & 255]
    )


@allocating
def aes_keys(key: Bytes) -> Ints:
    """The round keys of AES-128, 44 words."""
    words = np.zeros(ROUND_KEYS, np.int64)
    for at in range(AES):
        words[at >> 2] = words[at >> 2] << 8 | byte_at(key, at)
    constant = 1
    for place in range(4, ROUND_KEYS):
        word = words[place - 1]
        if place & 3 == 0:
            word = _substituted((word << 8 | word >> 24) & _WORD) ^ constant << 24
            constant = constant << 1 ^ (0x11B if constant & 0x80 else 0)
        words[place] = words[place - 4] ^ word
    return words


@njit
def _column(a: int, b: int, c: int, d: int) -> int:
    """One column after a round: the table for each byte, turned to its row."""
    first, second, third, fourth = (
        _COLUMNS[a >> 24 & 255],
        _COLUMNS[b >> 16 & 255],
        _COLUMNS[c >> 8 & 255],
        _COLUMNS[d & 255],
    )
    turned = first ^ (second >> 8 | second << 24) ^ (third >> 16 | third << 16) ^ (fourth >> 24 | fourth << 8)
    return int(turned & _WORD)


@njit
def _last(a: int, b: int, c: int, d: int) -> int:
    return int(
        _BOX[a >> 24 & 255] << 24 | _BOX[b >> 16 & 255] << 16 | _BOX[c >> 8 & 255] << 8 | _BOX[d & 255]
    )


@njit
def aes_block(keys: Ints, block: Bytes) -> None:
    """Encrypt the first 16 bytes of ``block`` in place."""
    a = b = c = d = 0
    for at in range(4):
        a = a << 8 | byte_at(block, at)
        b = b << 8 | byte_at(block, at + 4)
        c = c << 8 | byte_at(block, at + 8)
        d = d << 8 | byte_at(block, at + 12)
    a, b, c, d = a ^ keys[0], b ^ keys[1], c ^ keys[2], d ^ keys[3]
    for place in range(4, 40, 4):
        a, b, c, d = (
            _column(a, b, c, d) ^ keys[place],
            _column(b, c, d, a) ^ keys[place + 1],
            _column(c, d, a, b) ^ keys[place + 2],
            _column(d, a, b, c) ^ keys[place + 3],
        )
    a, b, c, d = (
        _last(a, b, c, d) ^ keys[40],
        _last(b, c, d, a) ^ keys[41],
        _last(c, d, a, b) ^ keys[42],
        _last(d, a, b, c) ^ keys[43],
    )
    for at in range(4):
        shift = 24 - 8 * at
        block[at] = a >> shift & 255
        block[at + 4] = b >> shift & 255
        block[at + 8] = c >> shift & 255
        block[at + 12] = d >> shift & 255
