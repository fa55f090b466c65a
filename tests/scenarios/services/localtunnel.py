# SPDX-License-Identifier: Apache-2.0
"""stand-in localtunnel PORT DATA-PORT FILE: the far side of localtunnel's client.

At PORT it gives out a place to connect to; whoever connects there is asked for a page, as if somebody had
come to the tunnel's public address. What comes back is written to FILE.
"""

import json
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

port, data_port, target = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


class Desk(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        place = {
            "id": "corpus",
            "port": data_port,
            "max_conn_count": 2,
            "url": f"http://corpus.example:{port}",
        }
        text = json.dumps(place).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def visit() -> None:
    with socket.create_server(("0.0.0.0", data_port)) as server:
        with server.accept()[0] as tunnel:
            tunnel.sendall(b"GET / HTTP/1.1\r\nHost: corpus.example\r\n\r\n")
            answer = tunnel.recv(1000)
        with open(f"{target}.part", "wb") as file:
            file.write(answer)
        os.rename(f"{target}.part", target)


threading.Thread(target=visit, daemon=True).start()
HTTPServer(("0.0.0.0", port), Desk).serve_forever()
