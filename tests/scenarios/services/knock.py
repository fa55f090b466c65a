# SPDX-License-Identifier: Apache-2.0
"""knock.py PORT FILE [SOCKS-TARGET-PORT]: try a loopback port until the greeter of inside answers through it.

What came is written to FILE. With a third argument the port is a SOCKS5 proxy, to be asked for that port
of its own loopback.
"""

import contextlib
import os
import socket
import sys
import time

port, target = int(sys.argv[1]), sys.argv[2]
while True:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as door:
        if len(sys.argv) > 3:
            door.sendall(b"\x05\x01\x00")
            door.recv(2)
            door.sendall(b"\x05\x01\x00\x01\x7f\0\0\1" + int(sys.argv[3]).to_bytes(2, "big"))
            door.recv(10)
        if words := door.recv(100):
            with open(f"{target}.part", "wb") as file:
                file.write(words)
            os.rename(f"{target}.part", target)
            break
    time.sleep(0.02)
