# SPDX-License-Identifier: Apache-2.0
"""asker.py PORT FILE [CERTIFICATE KEY]: whom a tunnel leads to. Asks through it what inside answers, then makes FILE."""

import socket
import ssl
import sys
import time
from pathlib import Path

ROUNDS = 12


def ask(tunnel: socket.socket, number: int) -> None:
    """One question, and all of its answer."""
    tunnel.sendall(b"%d " % number + b"q" * (60 + 41 * (number * 7 % 5)) + b"\n")
    while not (piece := tunnel.recv(65536)).endswith(b"\n"):
        if not piece:
            raise SystemExit("the tunnel was closed")


with socket.create_server(("", int(sys.argv[1]))) as server:
    tunnel = server.accept()[0]
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[3:])
        tunnel = context.wrap_socket(tunnel, server_side=True)
    with tunnel:
        for number in range(ROUNDS):
            ask(tunnel, number)
            time.sleep(0.13)
        Path(sys.argv[2]).touch()
