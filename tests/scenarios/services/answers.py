# SPDX-License-Identifier: Apache-2.0
"""answers.py PORT: what a tunnel may lead to. Answers each line on loopback, at varying length."""

import socketserver
import sys


class Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.strip() + b" a" * (40 * (len(line) % 7)) + b"\n")


socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Lines).serve_forever()
