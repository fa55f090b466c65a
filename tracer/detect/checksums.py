# SPDX-License-Identifier: Apache-2.0
"""The checksums inside wallet addresses: they tell an address from any other string of its shape."""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.jit import inline, njit

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


_SHA256_START = _fractions_of_roots(8, 2)
_SHA256_ROUND = _fractions_of_roots(64, 3)


@inline
def _turn(word: int, by: int) -> int:
    """A 32-bit word rotated to the right."""
    return (word >> by | word << (32 - by)) & _WORD


@njit
def _sha256(message: Ints, length: int) -> Ints:
    """SHA-256 of up to 55 bytes, one to an element, as eight 32-bit words."""
    w = np.zeros(64, np.int64)
    for at in range(length):
        w[at >> 2] |= message[at] << (24 - 8 * (at & 3))
    w[length >> 2] |= 0x80 << (24 - 8 * (length & 3))
    w[15] = 8 * length
    for t in range(16, 64):
        low, high = w[t - 15], w[t - 2]
        small = _turn(low, 7) ^ _turn(low, 18) ^ low >> 3
        large = _turn(high, 17) ^ _turn(high, 19) ^ high >> 10
        w[t] = (w[t - 16] + small + w[t - 7] + large) & _WORD
    state = _SHA256_START.copy()
    a, b, c, d, e, f, g, h = state
    for t in range(64):
        one = h + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + (e & f ^ (e ^ _WORD) & g)
        one += _SHA256_ROUND[t] + w[t]
        two = (_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + (a & b ^ a & c ^ b & c)
        h, g, f, e = g, f, e, (d + one) & _WORD
        d, c, b, a = c, b, a, (one + two) & _WORD
    for at, word in enumerate((a, b, c, d, e, f, g, h)):
        state[at] = (state[at] + word) & _WORD
    return state


@njit
def base58check(text: Bytes, lo: int, hi: int, shortest: int, longest: int) -> bool:
    """Whether ``text[lo:hi]`` is base58 for so many bytes (at most 40), the last four of which are the
    beginning of the double SHA-256 of the others. A random string passes once in four thousand million.
    """
    limbs = np.zeros(10, np.int64)  # 32 bits each, the least first
    zeros = 0
    for at in range(lo, hi):
        carry = BASE58_DIGITS[text[at]]
        if carry < 0:
            return False
        if carry == 0 and zeros == at - lo:
            zeros += 1
        for limb in range(10):
            carry += limbs[limb] * 58
            limbs[limb] = carry & _WORD
            carry >>= 32
        if carry != 0:
            return False
    data = np.zeros(40, np.int64)
    for at in range(40):
        data[at] = limbs[9 - (at >> 2)] >> (24 - 8 * (at & 3)) & 255
    first = 0
    while first < 40 and data[first] == 0:
        first += 1
    length = 40 - first + zeros
    if not shortest <= length <= longest or length > 40:
        return False
    once = _sha256(data[40 - length :], length - 4)
    for at in range(32):
        data[at] = once[at >> 2] >> (24 - 8 * (at & 3)) & 255
    sum_of_rest = _sha256(data, 32)[0]
    # the address's own last bytes: the least limb, which data no longer overlaps
    return bool(sum_of_rest == limbs[0])


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
    for at in range(lo, one):
        remainder = _bech32_step(remainder, byte_at(text, at) >> 5)
    remainder = _bech32_step(remainder, 0)
    for at in range(lo, one):
        remainder = _bech32_step(remainder, byte_at(text, at) & 31)
    for at in range(one + 1, hi):
        value = BECH32_DIGITS[text[at]]
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
