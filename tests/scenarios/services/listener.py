# SPDX-License-Identifier: Apache-2.0
"""stand-in listener PORT…: takes whatever comes by TCP and UDP, and answers OK."""

import socket
import sys
import threading


def stream(server: socket.socket) -> None:
    while True:
        with server.accept()[0] as caller:
            if caller.recv(65536):
                caller.sendall(b"OK\r\n")


def datagrams(server: socket.socket) -> None:
    while True:
        _, caller = server.recvfrom(65536)
        server.sendto(b"OK\r\n", caller)


threads = []
for port in map(int, sys.argv[1:]):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", port))
    pair = (stream, socket.create_server(("0.0.0.0", port))), (datagrams, udp)
    threads += [threading.Thread(target=work, args=[there]) for work, there in pair]
for thread in threads:
    thread.start()
