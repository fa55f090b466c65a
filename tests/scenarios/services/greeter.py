# SPDX-License-Identifier: Apache-2.0
"""greeter.py PORT: what a tunnel may lead to. Says a line on loopback to whoever comes."""

import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        with server.accept()[0] as caller:
            caller.sendall(b"you have reached inside\n")
