# SPDX-License-Identifier: Apache-2.0
"""checkin.py PORT TIMES FILE [CERTIFICATE KEY]: whom a beacon asks for work. There is none; asked so many TIMES, it makes
FILE.
"""

import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Nothing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Nothing.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        if Nothing.asked >= int(sys.argv[2]):
            Path(sys.argv[3]).touch()

    def log_message(self, *_) -> None:
        pass


server = ThreadingHTTPServer(("", int(sys.argv[1])), Nothing)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[4:])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
