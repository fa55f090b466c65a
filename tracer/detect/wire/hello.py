# SPDX-License-Identifier: Apache-2.0
"""ClientHellos taken apart in plain Python, and JA4, which names the program that makes such ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

_SNI, _SIGNATURES, _ALPN, _VERSIONS = 0, 13, 16, 43
_VERSION_NAMES = {0x0304: "1.3", 0x0303: "1.2", 0x0302: "1.1", 0x0301: "1.0", 0x0300: "SSL 3.0"}
_JA4_VERSIONS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}


@dataclass
class Hello:
    """``whole``: nothing was cut off; if something was, lists are shorter than they were."""

    version: int = 0
    whole: bool = False
    quic: bool = False
    ciphers: list[int] = field(default_factory=list)
    extensions: list[int] = field(default_factory=list)
    signatures: list[int] = field(default_factory=list)
    alpn: list[bytes] = field(default_factory=list)

    @property
    def version_name(self) -> str:
        return _VERSION_NAMES.get(self.version, f"{self.version:#06x}")

    def ja4(self) -> str:
        """JA4 as its authors describe it: what is offered, sorted where clients shuffle it."""
        ciphers = sorted(f"{cipher:04x}" for cipher in self.ciphers)
        extensions = sorted(f"{kind:04x}" for kind in self.extensions if kind not in (_SNI, _ALPN))
        offered = ",".join(extensions)
        if self.signatures:
            offered += "_" + ",".join(f"{signature:04x}" for signature in self.signatures)
        head = (
            ("q" if self.quic else "t")
            + _JA4_VERSIONS.get(self.version, "00")
            + ("d" if _SNI in self.extensions else "i")
            + f"{min(len(self.ciphers), 99):02}{min(len(self.extensions), 99):02}"
            + _ends(self.alpn[0] if self.alpn else b"")
        )
        return f"{head}_{_short(','.join(ciphers))}_{_short(offered if extensions else '')}"


def _ends(name: bytes) -> str:
    """The first and the last letter of a protocol's name, or of its hex digits."""
    if not name:
        return "00"
    ends = bytes([name[0], name[-1]])
    return ends.decode() if ends.isalnum() else name.hex()[0] + name.hex()[-1]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def _is_grease(value: int) -> bool:
    """Made up, so that the other side learns to ignore what it does not know."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


class _Reader:
    """Reads forward; what is asked for beyond the end is cut short, and noted."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.cut = False

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            self.cut = True
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Bytes after their length, a number of ``size`` bytes."""
        return self.take(self.number(size))


def _numbers(data: bytes) -> list[int]:
    values = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]
    return [value for value in values if not _is_grease(value)]


def _records(stream: bytes) -> bytes:
    """What handshake records carry."""
    reader = _Reader(stream)
    carried = b""
    while reader.data[:2] == b"\x16\x03":
        reader.take(3)
        carried += reader.vector(2)
    return carried


def parse_hello(stream: bytes) -> Hello | None:
    """The ClientHello that a TCP stream begins with, if it does."""
    return parse_message(_records(stream))


def parse_message(data: bytes, *, quic: bool = False) -> Hello | None:
    """The ClientHello in the handshake message ``data``."""
    if data[:1] != b"\1" or len(data) < 6:
        return None
    outer = _Reader(data[1:])
    reader = _Reader(outer.vector(3))
    hello = Hello(version=reader.number(2), quic=quic)
    reader.take(32)
    reader.vector(1)
    hello.ciphers = _numbers(reader.vector(2))
    reader.vector(1)
    extensions = _Reader(reader.vector(2))
    while extensions.data:
        kind = extensions.number(2)
        body = extensions.vector(2)
        if _is_grease(kind):
            continue
        hello.extensions.append(kind)
        if kind == _SIGNATURES:
            hello.signatures = _numbers(body[2:])
        elif kind == _VERSIONS:
            hello.version = max([hello.version, *_numbers(body[1:])])
        elif kind == _ALPN:
            names = _Reader(body[2:])
            while names.data:
                hello.alpn.append(names.vector(1))
    hello.whole = not (outer.cut or reader.cut or extensions.cut)
    return hello
