# SPDX-License-Identifier: Apache-2.0
"""stand-in rpc PORT [--lines]: JSON-RPC that has an answer to everything, over HTTP or a line each."""

import json
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(text: bytes) -> bytes:
    asked = json.loads(text)
    many = asked if isinstance(asked, list) else [asked]
    found = [{"jsonrpc": "2.0", "id": one.get("id"), "result": "0x1b4"} for one in many]
    return json.dumps(found if isinstance(asked, list) else found[0]).encode()


class Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(answer(line) + b"\n")


class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = answer(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    where = ("0.0.0.0", int(sys.argv[1]))
    ThreadingHTTPServer.allow_reuse_address = True
    server = (
        socketserver.ThreadingTCPServer(where, Lines)
        if "--lines" in sys.argv
        else ThreadingHTTPServer(where, Web)
    )
    server.serve_forever()
