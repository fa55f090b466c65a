# SPDX-License-Identifier: Apache-2.0
"""What the plain twin of the wire kernels is told and finds, and a few words its parts share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

RECORD = rb"[\x14-\x17]\x03[\0-\x04]"
SPACE = b" \t\n\v\f\r"


class Verdict(NamedTuple):
    protocol: str | None
    traits: frozenset[str]
    host: bytes
    software: bytes


@dataclass
class Flow:
    """The arguments by name, and what has been found."""

    received: bool
    transport: int
    remote: int
    local: int
    accepted: bool
    first: int
    other: str | None
    other_first: int
    other_spoke: bool
    other_proxied: bool
    traits: set[str] = field(default_factory=set)
    host: bytes = b""
    software: bytes = b""
    inner: bytes = b""
    websocket: bool = False

    @property
    def client(self) -> bool:
        return self.received == self.accepted

    def name(self, host: bytes) -> None:
        self.host = self.host or host


def has(data: bytes, pattern: bytes) -> bool:
    return re.match(pattern, data, re.DOTALL) is not None


def big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def key(name: bytes) -> tuple[int, ...]:
    """Names are compared as numbers of seven bytes: zero bytes before each do not count."""
    return (big(name[:7]), big(name[7:14]), big(name[14:21]), len(name) > 21)


def one_of(name: bytes, words: str) -> bool:
    return key(name) in {key(word.encode()) for word in words.split()}
