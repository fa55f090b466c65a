# SPDX-License-Identifier: Apache-2.0
"""What samples of first bytes are made of."""

from __future__ import annotations

import hashlib
import ssl
import struct
from dataclasses import dataclass, field

from tracer.detect.wire import spans

TCP, UDP, ICMP = spans.TCP, spans.UDP, spans.ICMP

RFC9001_INITIAL = bytes.fromhex(
    "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11"
    "d242b123dc9bd8bab936b47d92ec356c0bab7df5976d27cd449f63300099f399"
    "1c260ec4c60d17b31f8429157bb35a1282a643a8d2262cad67500cadb8e7378c"
    "8eb7539ec4d4905fed1bee1fc8aafba17c750e2c7ace01e6005f80fcb7df6212"
    "30c83711b39343fa028cea7f7fb5ff89eac2308249a02252155e2347b63d58c5"
    "457afd84d05dfffdb20392844ae812154682e9cf012f9021a6f0be17ddd0c208"
    "4dce25ff9b06cde535d0f920a2db1bf362c23e596d11a4f5a6cf3948838a3aec"
    "4e15daf8500a6ef69ec4e3feb6b1d98e610ac8b7ec3faf6ad760b7bad1db4ba3"
    "485e8a94dc250ae3fdb41ed15fb6a8e5eba0fc3dd60bc8e30c5c4287e53805db"
    "059ae0648db2f64264ed5e39be2e20d82df566da8dd5998ccabdae053060ae6c"
    "7b4378e846d29f37ed7b4ea9ec5d82e7961b7f25a9323851f681d582363aa5f8"
    "9937f5a67258bf63ad6f1a0b1d96dbd4faddfcefc5266ba6611722395c906556"
    "be52afe3f565636ad1b17d508b73d8743eeb524be22b3dcbc2c7468d54119c74"
    "68449a13d8e3b95811a198f3491de3e7fe942b330407abf82a4ed7c1b311663a"
    "c69890f4157015853d91e923037c227a33cdd5ec281ca3f79c44546b9d90ca00"
    "f064c99e3dd97911d39fe9c5d0b23a229a234cb36186c4819e8b9c5927726632"
)


@dataclass(frozen=True)
class Sample:
    """``first`` of 0: it came in one piece. ``look``: other places, by name."""

    expected: str | None
    data: bytes
    transport: int = TCP
    port: int = 40000
    received: bool = False
    first: int = 0
    traits: str = ""
    host: bytes = b""
    software: bytes = b""
    look: dict[str, int] = field(default_factory=dict)


def noise(size: int, seed: str = "noise") -> bytes:
    """Bytes that look random and are the same each time."""
    return hashlib.shake_256(seed.encode()).digest(size)


def client_hello(
    host: str | None = "example.org", alpn: list[str] | None = None, *, newest: int = 0, ciphers: str = ""
) -> bytes:
    """What Python's TLS sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if newest:
        context.maximum_version = ssl.TLSVersion(newest)
    if ciphers:
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def split_records(hello: bytes, size: int) -> bytes:
    """The same ClientHello in records of ``size`` bytes."""
    message = hello[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(hello[:3] + struct.pack(">H", len(part)) + part for part in parts)


def labels(name: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in name.split(b".")) + b"\0"


def question(name: bytes, kind: int = 1, *, edns: bool = False) -> bytes:
    more = b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if edns else b""
    head = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, int(edns))
    return head + labels(name) + struct.pack(">HH", kind, 1) + more


def record(name: bytes, kind: int, data: bytes, ttl: int = 300) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def answer(name: bytes, *records: bytes, kind: int = 1) -> bytes:
    head = struct.pack(">HHHHHH", 0x1234, 0x8180, 1, len(records), 0, 0)
    return head + labels(name) + struct.pack(">HH", kind, 1) + b"".join(records)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""]).encode()


def frame(payload: bytes, mask: bytes = b"", kind: int = 2) -> bytes:
    """A WebSocket frame."""
    size = len(payload)
    head = bytes([0x80 | kind, (0x80 if mask else 0) | min(size, 126)])
    if size > 125:
        head += struct.pack(">H", size)
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


def echo(payload: bytes, kind: int = 8) -> bytes:
    return struct.pack(">BBHHH", kind, 0, 0x1234, 7, 1) + payload


WALLET = b"4" + b"8AbCdEfGh" * 10 + b"1234"
LOGIN = (
    b'{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"' + WALLET + b'","pass":"x",'
    b'"agent":"XMRig/6.26.0 (Linux x86_64) libuv/1.51.0 gcc/13.2.1","algo":["rx/0","cn/r"]}}\n'
)
SUBSCRIBE = b'{"id": 1, "method": "mining.subscribe", "params": ["ccminer/2.3.1"]}\n'
UPGRADE = ("Host: h.example:8080", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
SSH_LINE = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
YAMUX = bytes.fromhex("000100010000000100000000")
FRP_LOGIN = b'{"version":"0.61.0","hostname":"","os":"linux","arch":"amd64","privilege_key":"00"}'
TLS_DEFAULT = client_hello(alpn=["h2", "http/1.1"])
SOCKS_GREETING = b"\5\1\0"
SOCKS_REQUEST = b"\5\1\0\3\x0epool.example.x\x0d\x05"
