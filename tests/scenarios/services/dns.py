# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the world's DNS: a few names, and one answer for all others if wanted.

stand-in dns pool.example=198.51.100.20 v6.example=2001:db8::1 [--any ADDRESS] [--port 53]
"""

from __future__ import annotations

import argparse
import ipaddress
import socketserver

A, TXT, AAAA = 1, 16, 28


def question(packet: bytes) -> tuple[str, int, int]:
    """(name, type, where the question ends)."""
    at, labels = 12, []
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    return ".".join(labels), int.from_bytes(packet[at + 1 : at + 3], "big"), at + 5


class Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        packet, connection = self.request
        name, kind, end = question(packet)
        known = self.server.table.get(name, self.server.default)
        data = b""
        if known and kind in {A, AAAA}:
            address = ipaddress.ip_address(known)
            data = address.packed if (address.version == 4) == (kind == A) else b""
        elif known and kind == TXT:
            data = b"\x04text"
        flags = 0x8180 if known else 0x8183  # no such domain
        head = packet[:2] + flags.to_bytes(2, "big") + b"\0\1" + (b"\0\1" if data else b"\0\0") + bytes(4)
        record = (
            b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
        )
        connection.sendto(head + packet[12:end] + (record if data else b""), self.client_address)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME=ADDRESS")
    parser.add_argument("--any", help="the answer for names that are not listed")
    parser.add_argument("--port", type=int, default=53)
    options = parser.parse_args()
    with socketserver.UDPServer(("0.0.0.0", options.port), Answer) as server:
        server.table = dict(pair.lower().split("=", 1) for pair in options.names)
        server.default = options.any
        server.serve_forever()


if __name__ == "__main__":
    main()
