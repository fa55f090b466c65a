# SPDX-License-Identifier: Apache-2.0
"""cluster.py [WORKERS [ADDRESS]]: a job of several workers that meet at a store and then talk to each other, all to all.

The store speaks as PyTorch's does: one byte says what is wanted, lengths come before keys and values.
"""

import multiprocessing
import os
import socket
import struct
import sys
import threading
import time

WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 4
HOST = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
MASTER = (HOST, 29500)
SET, GET, ADD = b"\0", b"\2", b"\3"
MAGIC = b"\x09" + struct.pack("<I", 0x3C85F7CE)


def take(peer: socket.socket, count: int) -> bytes:
    return peer.recv(count, socket.MSG_WAITALL)


def word(peer: socket.socket) -> bytes:
    return take(peer, *struct.unpack("<Q", take(peer, 8)))


def packed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def store() -> None:
    """A dictionary for all, and a lock."""
    known: dict[bytes, bytes] = {}
    lock = threading.Lock()

    def serve(peer: socket.socket) -> None:
        take(peer, len(MAGIC))
        while wanted := take(peer, 1):
            key = word(peer)
            with lock:
                if wanted == SET:
                    known[key] = word(peer)
                elif wanted == ADD:
                    known[key] = b"%d" % (int(known.get(key, b"0")) + 1)
            if wanted == GET:
                while key not in known:
                    time.sleep(0.005)
                peer.sendall(packed(known[key]))

    with socket.create_server(MASTER) as server:
        while True:
            threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()


def work(rank: int) -> None:
    if rank == 0:
        threading.Thread(target=store, daemon=True).start()
    while True:
        try:
            peer = socket.create_connection(MASTER, 5)
            break
        except OSError:
            time.sleep(0.02)
    server = socket.create_server((HOST, 0), backlog=WORKERS)
    port = b"%d" % server.getsockname()[1]
    peer.sendall(MAGIC + SET + packed(b"rank%d" % rank) + packed(port))
    ports = []
    for other in range(WORKERS):
        peer.sendall(GET + packed(b"rank%d" % other))
        ports.append(int(word(peer)))
    out = [socket.create_connection((HOST, there)) for there in ports]
    into = [server.accept()[0] for _ in ports]
    for step in range(20):
        gradient = os.urandom(20000)
        for connection in out:
            threading.Thread(target=connection.sendall, args=[gradient]).start()
        assert all(len(take(connection, 20000)) == 20000 for connection in into), step
    peer.sendall(ADD + packed(b"done"))
    if rank == 0:  # it has the store
        done = b""
        while done != b"%d" % WORKERS:
            peer.sendall(GET + packed(b"done"))
            done = word(peer)


if __name__ == "__main__":
    workers = [multiprocessing.get_context("spawn").Process(target=work, args=[n]) for n in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    raise SystemExit(any(worker.exitcode for worker in workers))
