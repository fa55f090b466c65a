# SPDX-License-Identifier: Apache-2.0
"""The checksums inside wallet addresses: they tell an address from any other string of its shape."""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.jit import allocating, inline, njit

BASE58 = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def digits(alphabet: bytes) -> Ints:
    """A table of 256: each byte's place in ``alphabet``, -1 for bytes that are not in it."""
    places = np.full(256, -1, np.int64)
    places[list(alphabet)] = np.arange(len(alphabet))
    return places


BASE58_DIGITS = digits(BASE58)
BECH32_DIGITS = digits(BECH32)
_BASE64URL_DIGITS = digits(_BASE64URL)

_WORD = 0xFFFFFFFF


def _fractions_of_roots(count: int, power: int) -> Ints:
    """The first 32 bits after the point of the ``power``-th roots of the first ``count`` primes."""
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % prime for prime in primes):
            primes.append(candidate)
        candidate += 1
    roots = []
    for prime in primes:
        scaled = prime << 32 * power
        root = round(scaled ** (1 / power))  # near enough to be put right in a few steps
        while root**power > scaled:
            root -= 1
        while (root + 1) ** power <= scaled:
            root += 1
        roots.append(root & _WORD)
    return np.array(roots, np.int64)


SHA256_START = _fractions_of_roots(8, 2)
_SHA256_ROUND = _fractions_of_roots(64, 3)


@njit
def _schedule(w: Ints) -> None:
    """Fill the 64 words of SHA-256's message schedule from the first 16."""
    for t in range(16, 64):
        x, y = w[t - 15], w[t - 2]
        small = (x >> 7 | x << 25) ^ (x >> 18 | x << 14) ^ x >> 3
        large = (y >> 17 | y << 15) ^ (y >> 19 | y << 13) ^ y >> 10
        w[t] = (w[t - 16] + (small & _WORD) + w[t - 7] + (large & _WORD)) & _WORD


@njit
def sha256_block(w: Ints, state: Ints) -> None:
    """Take the block in ``w`` (64 words, of which the first 16 are the block) into ``state`` (8 words)."""
    _schedule(w)
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    for t in range(64):
        one = (e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7)
        two = (a >> 2 | a << 30) ^ (a >> 13 | a << 19) ^ (a >> 22 | a << 10)
        one = (one & _WORD) + h + (e & f ^ (e ^ _WORD) & g) + _SHA256_ROUND[t] + w[t]
        two = (two & _WORD) + (a & b ^ a & c ^ b & c)
        h, g, f, e = g, f, e, (d + one) & _WORD
        d, c, b, a = c, b, a, (one + two) & _WORD
    state[0] = state[0] + a & _WORD
    state[1] = state[1] + b & _WORD
    state[2] = state[2] + c & _WORD
    state[3] = state[3] + d & _WORD
    state[4] = state[4] + e & _WORD
    state[5] = state[5] + f & _WORD
    state[6] = state[6] + g & _WORD
    state[7] = state[7] + h & _WORD


@allocating
def _sha256(message: Ints, lo: int, length: int) -> Ints:
    """SHA-256 of up to 55 bytes of ``message``, one to an element, as eight 32-bit words."""
    w = np.zeros(64, np.int64)
    for at in range(length):
        w[at >> 2] |= message[lo + at] << (24 - 8 * (at & 3))
    w[length >> 2] |= 0x80 << (24 - 8 * (length & 3))
    w[15] = 8 * length
    state = SHA256_START.copy()
    sha256_block(w, state)
    return state


@allocating
def base58check(text: Bytes, lo: int, hi: int) -> int:
    """For how many bytes (at most 40) ``text[lo:hi]`` is base58, if the last four of them are the
    beginning of the double SHA-256 of the others; else 0. A random string passes once in 2^32.
    """
    limbs = np.zeros(10, np.int64)  # 32 bits each, the least first
    zeros = used = 0
    for at in range(lo, hi):
        carry = BASE58_DIGITS[text[at]]
        if carry < 0:
            return 0
        if carry == 0 and zeros == at - lo:
            zeros += 1
        for limb in range(used):
            carry += limbs[limb] * 58
            limbs[limb] = carry & _WORD
            carry >>= 32
        if carry != 0:
            if used == 10:
                return 0
            limbs[used] = carry
            used += 1
    data = np.zeros(40, np.int64)
    for at in range(40):
        data[at] = limbs[9 - (at >> 2)] >> (24 - 8 * (at & 3)) & 255
    first = 0
    while first < 40 and data[first] == 0:
        first += 1
    length = 40 - first + zeros
    if not 5 <= length <= 40:
        return 0
    once = _sha256(data, 40 - length, length - 4)
    for at in range(32):
        data[at] = once[at >> 2] >> (24 - 8 * (at & 3)) & 255
    # the last four bytes are the least limb
    return length if _sha256(data, 0, 32)[0] == limbs[0] else 0


@inline
def _bech32_step(remainder: int, value: int) -> int:
    top = remainder >> 25
    remainder = (remainder & 0x1FFFFFF) << 5 ^ value
    remainder ^= 0x3B6A57B2 if top & 1 else 0
    remainder ^= 0x26508E6D if top & 2 else 0
    remainder ^= 0x1EA119FA if top & 4 else 0
    remainder ^= 0x3D4233DD if top & 8 else 0
    return remainder ^ (0x2A1462B3 if top & 16 else 0)


@njit
def bech32(text: Bytes, lo: int, one: int, hi: int) -> bool:
    """Whether ``text[lo:hi]``, small letters, is bech32 or bech32m; its separator is at ``one``."""
    remainder = 1
    size = one - lo
    for step in range(
        2 * size + hi - one
    ):  # the high bits of the letters before it, 0, the low bits, the rest
        if step < size:
            value = byte_at(text, lo + step) >> 5
        elif step == size:
            value = 0
        elif step <= 2 * size:
            value = byte_at(text, lo + step - size - 1) & 31
        else:
            value = BECH32_DIGITS[text[one + step - 2 * size]]
        if value < 0:
            return False
        remainder = _bech32_step(remainder, value)
    return remainder in (1, 0x2BC830A3)


@njit
def ton(text: Bytes, lo: int, hi: int) -> bool:
    """Whether ``text[lo:hi]`` (48) is base64url for 36 bytes, the last two the CRC-16 of the others."""
    if hi - lo != 48:
        return False
    crc = 0
    bits = count = 0
    for at in range(lo, hi):
        digit = _BASE64URL_DIGITS[text[at]]
        if digit < 0:
            return False
        bits = bits << 6 | digit
        count += 6
        if count < 8:
            continue
        count -= 8
        crc ^= (bits >> count & 255) << 8  # over its own bytes, a CRC comes to 0
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
        bits &= (1 << count) - 1
    return crc == 0
