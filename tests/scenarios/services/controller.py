# SPDX-License-Identifier: Apache-2.0
"""controller.py PORT [CERTIFICATE KEY]: whom a reverse shell calls. Tells it to leave a trace, and to go."""

import socket
import ssl
import sys

with socket.create_server(("", int(sys.argv[1]))) as server:
    shell = server.accept()[0]
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[2:])
        shell = context.wrap_socket(shell, server_side=True)
    with shell:
        shell.sendall(b"echo $((6 * 7)) >trace.part\nmv trace.part trace\nexit\n")
        while shell.recv(4096):
            pass
