# SPDX-License-Identifier: Apache-2.0
"""repeat.py PORT: says back whatever it is told, to everybody."""

import socket
import sys
import threading


def answer(peer: socket.socket) -> None:
    with peer:
        while data := peer.recv(65536):
            peer.sendall(data)


with socket.create_server(("", int(sys.argv[1]))) as server:
    while True:
        threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()
