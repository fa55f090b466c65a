# SPDX-License-Identifier: Apache-2.0
"""The first packet of a QUIC client, opened by the book: RFC 9001, RFC 9369, FIPS 197."""

from __future__ import annotations

import hmac

SALTS = {
    1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    0x6B3343CF: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}


def multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11B
        b >>= 1
    return product


def substitute(byte: int) -> int:
    inverse = next((other for other in range(256) if multiply(byte, other) == 1), 0)
    out = 0x63
    for turn in range(5):
        out ^= (inverse << turn | inverse >> (8 - turn)) & 255
    return out


SBOX = [substitute(byte) for byte in range(256)]


def round_keys(key: bytes) -> list[bytes]:
    words = [key[at : at + 4] for at in range(0, 16, 4)]
    constant = 1
    while len(words) < 44:
        word = words[-1]
        if len(words) % 4 == 0:
            word = bytes(SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = multiply(constant, 2)
        words.append(bytes(a ^ b for a, b in zip(words[-4], word, strict=True)))
    return [b"".join(words[at : at + 4]) for at in range(0, 44, 4)]


def aes(key: bytes, block: bytes) -> bytes:
    keys = round_keys(key)
    state = [a ^ b for a, b in zip(block, keys[0], strict=True)]
    for number in range(1, 11):
        state = [SBOX[byte] for byte in state]
        state = [state[(at + 4 * (at % 4)) % 16] for at in range(16)]
        if number < 10:
            mixed = []
            for at in range(0, 16, 4):
                column = state[at : at + 4]
                for row in range(4):
                    a, b, c, d = (column[(row + i) % 4] for i in range(4))
                    mixed.append(multiply(a, 2) ^ multiply(b, 3) ^ c ^ d)
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[number], strict=True)]
    return bytes(state)


def expand(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0\1"
    return hmac.digest(secret, info, "sha256")[:length]


def keys(version: int, connection: bytes) -> tuple[bytes, bytes, bytes]:
    initial = hmac.digest(SALTS[version], connection, "sha256")
    client = expand(initial, "client in", 32)
    prefix = "quic" if version == 1 else "quicv2"
    return (
        expand(client, f"{prefix} key", 16),
        expand(client, f"{prefix} iv", 12),
        expand(client, f"{prefix} hp", 16),
    )


def ctr(key: bytes, nonce: bytes, data: bytes) -> bytes:
    stream = b"".join(
        aes(key, nonce + (2 + number).to_bytes(4, "big")) for number in range((len(data) + 15) // 16)
    )
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def seal(version: int, connection: bytes, payload: bytes, number: int = 2, size: int = 1200) -> bytes:
    """An Initial as a client sends it, with a tag that is none: nobody here checks it."""
    kind = 0xC3 if version == 1 else 0xD3
    head = bytes([kind]) + version.to_bytes(4, "big") + bytes([len(connection)]) + connection + b"\0\0"
    payload = payload.ljust(size - len(head) - 2 - 4 - 16, b"\0")
    head += (0x4000 | (4 + len(payload) + 16)).to_bytes(2, "big")
    key, iv, hp = keys(version, connection)
    nonce = bytes(a ^ b for a, b in zip(iv, number.to_bytes(12, "big"), strict=True))
    sealed = ctr(key, nonce, payload) + bytes(16)
    mask = aes(hp, sealed[:16])
    first = bytes([head[0] ^ mask[0] & 15])
    packet_number = bytes(a ^ b for a, b in zip(number.to_bytes(4, "big"), mask[1:], strict=False))
    return first + head[1:] + packet_number + sealed


def is_long(data: bytes, size: int) -> bool:
    if len(data) < 7 or not data[0] & 0x80 or data[5] > 20:
        return False
    version = int.from_bytes(data[1:5], "big")
    rest = data[6 + data[5] :]
    if not rest or rest[0] > 20 or len(rest) < 1 + rest[0]:
        return False
    if version == 0:
        left = size - (6 + data[5] + 1 + rest[0])
        return left > 0 and left % 4 == 0 and data[5] + rest[0] > 0
    known = version in SALTS or version >> 8 == 0xFF0000 or version & 0x0F0F0F0F == 0x0A0A0A0A
    return bool(data[0] & 0x40) and known


class Cut(Exception):  # noqa: N818 - no error: the capture ends
    """There is no more."""


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise Cut
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self) -> int:
        first = self.take(1)[0]
        rest = self.take((1 << (first >> 6)) - 1)
        return int.from_bytes(bytes([first & 0x3F]) + rest, "big")


def client_crypto(data: bytes) -> dict[int, int] | None:
    """The bytes of the CRYPTO frames in an Initial, by place; None if it is not one or there are none."""
    version = int.from_bytes(data[1:5], "big")
    if version not in SALTS or data[0] >> 4 & 3 != (0 if version == 1 else 1):
        return None
    connection = data[6 : 6 + data[5]]
    rest = Reader(data[6 + data[5] :])
    try:
        rest.take(rest.take(1)[0])
        token = rest.number()
        if not rest.data[token:]:
            return None
        rest.take(token)
        length = rest.number()
    except Cut:
        return None
    packet = rest.data[:length]
    if len(packet) < 20:
        return None
    key, iv, hp = keys(version, connection)
    mask = aes(hp, packet[4:20])
    size = ((data[0] ^ mask[0]) & 3) + 1
    number = bytes(a ^ b for a, b in zip(packet[:size], mask[1:], strict=False))
    nonce = bytes(a ^ b for a, b in zip(iv, number.rjust(12, b"\0"), strict=True))
    return frames(ctr(key, nonce, packet[size:][:512]))


def frames(plain: bytes) -> dict[int, int] | None:
    crypto: dict[int, int] = {}
    reader = Reader(plain)
    count = 0
    try:
        while reader.data and count < 64:
            kind = reader.take(1)[0]
            if kind in (0, 1):
                continue
            count += 1
            if kind in (2, 3):
                reader.number(), reader.number()
                ranges = min(reader.number(), 512)
                for _ in range(1 + 2 * ranges + (3 if kind == 3 else 0)):
                    reader.number()
            elif kind == 6:
                offset, size = reader.number(), reader.number()
                if size > 0x4000:
                    break
                for at, byte in enumerate(reader.data[:size]):
                    if offset + at < 512:
                        crypto[offset + at] = byte
                reader.take(size)
            else:
                break
    except Cut:
        pass
    return crypto if count else None


def reached(crypto: dict[int, int]) -> int:
    at = 0
    while at in crypto:
        at += 1
    return at


def name_anywhere(crypto: dict[int, int]) -> bytes:
    """The name in a server name extension of which all is there."""

    def number(at: int) -> int:
        return crypto.get(at, 0) << 8 | crypto.get(at + 1, 0)

    for at in range(500):
        size = number(at + 2)
        if at not in crypto or number(at) or not 8 <= size <= 258 or number(at + 4) != size - 2:
            continue
        if crypto.get(at + 6, 0) or number(at + 7) != size - 5 or at + 4 + size > 512:
            continue
        places = range(at, at + 4 + size)
        if all(place in crypto for place in places):
            name = bytes(crypto[place] for place in places[9:])
            if all(33 <= byte < 127 for byte in name):
                return name
    return b""
