# SPDX-License-Identifier: Apache-2.0
"""agent_model.py PORT CERTIFICATE KEY: a model that wants one tool called after the other, over TLS that stays open."""

import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(0.3 + 0.11 * (len(asked) % 5))  # it thinks
        said = json.dumps(
            {"text": "Next:" + " so" * (17 * len(asked) % 90), "tool": len(asked) // 2}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_) -> None:
        pass


server = ThreadingHTTPServer(("", int(sys.argv[1])), Model)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[2:])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
