# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for tunnelling tools that no package brings: what they say first, as their sources have it.

tunnel.py chisel HOST:PORT [--local PORT]    the tool; what comes after the greetings goes to that port of ours
tunnel.py chisel --serve PORT                the far side
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import socket
import struct
import sys

US, THEM = "us", "them"  # who speaks
Steps = list[tuple[str, bytes]]


def upgrade(path: str, *headers: str, verb: str = "GET", protocol: str = "websocket") -> bytes:
    """The head of a request that wants another protocol on this connection."""
    websocket = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    head = [f"{verb} {path} HTTP/1.1", "Host: far.example", f"Upgrade: {protocol}", "Connection: Upgrade"]
    return "\r\n".join([*head, *(websocket if protocol == "websocket" else []), *headers, "", ""]).encode()


def switching(*headers: str, protocol: str = "websocket") -> bytes:
    head = ["HTTP/1.1 101 Switching Protocols", f"Upgrade: {protocol}", "Connection: Upgrade"]
    if protocol == "websocket":
        head.append("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    return "\r\n".join([*head, *headers, "", ""]).encode()


def frame(payload: bytes, *, masked: bool) -> bytes:
    """A WebSocket's binary frame."""
    mask = b"\x11\x22\x33\x44"
    if not masked:
        return b"\x82" + bytes([len(payload)]) + payload
    return (
        b"\x82" + bytes([0x80 | len(payload)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    )


def frp_message(kind: bytes, body: dict) -> bytes:
    text = json.dumps(body, separators=(",", ":")).encode()
    return kind + struct.pack(">q", len(text)) + text


def yamux(kind: int, flags: int, stream: int, length: int) -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream, length)


FRP_LOGIN = frp_message(
    b"o",
    {
        "version": "0.65.0", "hostname": "", "os": "linux", "arch": "amd64", "user": "",
        "privilege_key": "0" * 32, "timestamp": 1790000000, "run_id": "", "pool_count": 1,
    },
)  # fmt: skip
FRP_ANSWER = frp_message(b"1", {"version": "0.65.0", "run_id": "0123456789abcdef", "error": ""})
JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")
    for part in (
        {"typ": "JWT", "alg": "HS256"},
        {"id": "0190", "p": {"ReverseTcp": {}}, "r": "0.0.0.0", "rp": 8080},
        {"signature": "none"},
    )
)
DERP_KEY = b"DERP\xf0\x9f\x94\x91" + bytes(32)


def dns_name(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def dns_query(kind: int, *labels: bytes) -> bytes:
    return b"\x12\x34\x01\0\0\1" + bytes(6) + dns_name(*labels) + struct.pack(">HH", kind, 1)


STEPS: dict[str, Steps] = {
    "chisel": [
        (US, upgrade("/", "Sec-WebSocket-Protocol: chisel-v3", "User-Agent: Go-http-client/1.1")),
        (THEM, switching("Sec-WebSocket-Protocol: chisel-v3")),
        (US, frame(b"SSH-chisel-v3-client\r\n", masked=True)),
        (THEM, frame(b"SSH-chisel-v3-server\r\n", masked=False)),
    ],
    "frp": [
        (US, yamux(1, 1, 1, 0) + yamux(0, 0, 1, len(FRP_LOGIN)) + FRP_LOGIN),
        (THEM, yamux(1, 2, 1, 0) + yamux(0, 0, 1, len(FRP_ANSWER)) + FRP_ANSWER),
    ],
    "frp-no-mux": [(US, FRP_LOGIN), (THEM, FRP_ANSWER)],
    "frp-v2": [(US, b"FRP\0\2\r\n" + bytes(8) + FRP_LOGIN[9:]), (THEM, b"FRP\0\2\r\n" + bytes(8))],
    "frp-websocket": [(US, upgrade("/~!frp", "Origin: http://far.example")), (THEM, switching())],
    "bore": [(US, b'{"Hello":0}\0'), (THEM, b'{"Hello":40001}\0"Heartbeat"\0')],
    "rathole": [
        (US, bytes(4) + b"\1" + hashlib.sha256(b"service").digest()),
        (THEM, bytes(4) + b"\1" + hashlib.sha256(b"nonce").digest()),
        (US, hashlib.sha256(b"token").digest()),
        (THEM, bytes(4)),
    ],
    "wstunnel": [
        (US, upgrade("/v1/events", f"Sec-WebSocket-Protocol: v1, authorization.bearer.{JWT}")),
        (THEM, switching("Sec-WebSocket-Protocol: v1")),
    ],
    "gsocket": [(US, b"\1\1\4\0" + bytes(12) + os.urandom(32) + bytes(80)), (THEM, b"\3" + bytes(31))],
    "nps": [
        (US, b"TST" + struct.pack("<i", 6) + b"0.26.0" + struct.pack("<i", 6) + b"0.26.0"),
        (THEM, hashlib.md5(b"0.26.0").hexdigest().encode()),
        (US, hashlib.md5(b"key").hexdigest().encode()),
        (THEM, b"sucs"),
        (US, b"main"),
        (THEM, b"\0"),
    ],
    "pagekite": [
        (
            US,
            b"CONNECT PageKite:1 HTTP/1.0\r\nX-PageKite-Features: AddKites\r\nX-PageKite: http:corpus:x\r\n\r\n",
        ),
        (THEM, b"HTTP/1.1 200 OK\r\nX-PageKite-SessionID: 1\r\n\r\n"),
    ],
    "tailscale": [
        (
            US,
            upgrade(
                "/ts2021", "X-Tailscale-Handshake: AAAA", verb="POST", protocol="tailscale-control-protocol"
            ),
        ),
        (THEM, switching(protocol="tailscale-control-protocol")),
    ],
    "derp": [
        (US, upgrade("/derp", protocol="DERP")),
        (THEM, switching(protocol="DERP") + b"\1" + struct.pack(">I", 40) + DERP_KEY),
    ],
    "devtunnel": [
        (
            US,
            upgrade(
                "/api/v1/Connect/x", "Sec-WebSocket-Protocol: tunnel-relay-host-v2-dev, tunnel-relay-host"
            ),
        ),
        (THEM, switching("Sec-WebSocket-Protocol: tunnel-relay-host")),
    ],
    "gost": [(US, b"\1\1" + struct.pack(">H", 20) + bytes(20)), (THEM, b"\1\0\0\0")],
}
DATAGRAMS: dict[str, Steps] = {
    "disco": [
        (US, b"TS\xf0\x9f\x92\xac" + os.urandom(32 + 24 + 62)),
        (THEM, b"TS\xf0\x9f\x92\xac" + os.urandom(96)),
    ],
    "zerotier": [(US, os.urandom(27) + b"\1\x0c" + os.urandom(118)), (THEM, os.urandom(64))],
    "dnscat2": [
        (US, dns_query(16, b"dnscat", b"1a2b00" + b"c0de" * 12)),
        (THEM, dns_query(16, b"dnscat", b"1a2b00c0de0000")),
        (US, dns_query(5, b"dnscat", b"1a2b01" + b"d0d1" * 12, b"d2d3" * 14)),
        (THEM, dns_query(5, b"dnscat", b"1a2b01c0de0000")),
    ],
}


def play(connection: socket.socket, steps: Steps, me: str) -> None:
    for who, said in steps:
        if who == me:
            connection.send(said)
        elif connection.type == socket.SOCK_DGRAM:
            assert connection.recv(65536)
        else:
            assert len(connection.recv(len(said), socket.MSG_WAITALL)) == len(said)


def serve(steps: Steps, port: int, kind: socket.SocketKind) -> None:
    if kind == socket.SOCK_DGRAM:
        with socket.socket(socket.AF_INET, kind) as here:
            here.bind(("0.0.0.0", port))
            here.connect(here.recvfrom(1, socket.MSG_PEEK)[1])
            return play(here, steps, THEM)
    with socket.create_server(("0.0.0.0", port)) as server:
        while True:
            with server.accept()[0] as caller, contextlib.suppress(OSError):
                play(caller, steps, THEM)
                caller.sendall(b"let me in")  # somebody has come to the far side's public port
                caller.recv(100)


def call(steps: Steps, to: str, kind: socket.SocketKind, local: int | None) -> None:
    host, _, port = to.rpartition(":")
    with socket.socket(socket.AF_INET, kind) as far:
        far.settimeout(10)
        far.connect((host, int(port)))
        play(far, steps, US)
        if local:
            far.recv(100)
            with socket.create_connection(("127.0.0.1", local)) as near:
                far.sendall(near.recv(100))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=sorted(STEPS | DATAGRAMS))
    parser.add_argument("to", nargs="?", metavar="HOST:PORT")
    parser.add_argument("--serve", type=int, metavar="PORT")
    parser.add_argument("--local", type=int, metavar="PORT")
    options = parser.parse_args()
    kind = socket.SOCK_DGRAM if options.tool in DATAGRAMS else socket.SOCK_STREAM
    steps = (STEPS | DATAGRAMS)[options.tool]
    if options.serve:
        return serve(steps, options.serve, kind)
    return call(steps, options.to, kind, options.local)


if __name__ == "__main__":
    sys.exit(main())
