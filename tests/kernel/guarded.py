# SPDX-License-Identifier: Apache-2.0
"""Programs for tests of the guard: each tries what is to be stopped, and writes down what came of it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from workloads import _io_uring

#: A name that a rule knows.
MINER = "xmrig"


def _plain(path: str) -> None:
    os.execv(path, [path])


def _at(path: str) -> None:
    """execveat(2) on a descriptor."""
    os.execve(os.open(path, os.O_RDONLY), ["work"], {})


def _memfd(path: str) -> None:
    fd = os.memfd_create("work")
    os.write(fd, Path(path).read_bytes())
    os.execve(fd, [MINER], {})


def _script(path: str) -> None:
    script = path + "-script"
    os.execv(script, [script])


def _thread(path: str) -> None:
    threading.Thread(target=os.execv, args=(path, [path])).start()
    time.sleep(10)


def _vfork(path: str) -> int:
    return os.posix_spawn(path, [path], {})


def _forked(function, path: str) -> int:
    pid = os.fork()
    if pid == 0:
        function(path)
    return pid


def executions(folder: str, how: str, count: str) -> None:
    """Run the miner in ``folder``, which makes a file at once, in one way of all; how its processes ended."""
    os.chdir(folder)
    path = f"{folder}/{MINER}"
    ends: Counter[str] = Counter()
    for _ in range(int(count)):
        pid = _vfork(path) if how == "vfork" else _forked(globals()[f"_{how}"], path)
        ends[str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))] += 1
    Path("ends.json").write_text(json.dumps(ends))


def at_once(folder: str, count: str) -> None:
    """So many miners started without waiting for any."""
    os.chdir(folder)
    pids = [os.posix_spawn(f"{folder}/{MINER}", [MINER], {}) for _ in range(int(count))]
    ends = Counter(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])) for pid in pids)
    Path("ends.json").write_text(json.dumps(ends))


def _listener(family: int, address: str, port: int) -> socket.socket:
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(64)
    return server


def _name(number: int) -> str:
    return errno.errorcode.get(number, str(number))


def connections(out: str, port: str) -> None:
    """Connect to a port in every way there is; errno's name for each."""
    found = {}
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = _listener(family, address, int(port))
        with socket.socket(family) as client:
            found[f"connect {address}"] = _name(client.connect_ex((address, int(port))))
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            try:
                client.sendto(b"x", (address, int(port)))
                found[f"sendto {address}"] = "0"
            except OSError as error:
                found[f"sendto {address}"] = _name(error.errno)
            found[f"datagram connect {address}"] = _name(client.connect_ex((address, int(port))))
        server.close()
    client = socket.socket()
    target = ctypes.create_string_buffer(
        struct.pack("<H", socket.AF_INET) + struct.pack(">H4B8x", int(port), 127, 0, 0, 1)
    )
    result = _io_uring(
        struct.pack("<BBHiQQIIQ", 16, 0, 0, client.fileno(), 16, ctypes.addressof(target), 0, 0, 7)
    )
    found["io_uring"] = _name(-result)
    Path(out).write_text(json.dumps(found))


def conversation(out: str, port: str, *words: str) -> None:
    """Say the words one after the other to a server that writes down all it hears, and how it ends."""
    server = _listener(socket.AF_INET, "127.0.0.1", int(port))
    heard, told = bytearray(), {}

    def listen() -> None:
        far, _ = server.accept()
        far.settimeout(1.0)
        try:
            while data := far.recv(4096):
                heard.extend(data)
                far.sendall(b"ok")
        except OSError as error:
            told["far"] = str(error)
        far.close()

    thread = threading.Thread(target=listen)
    thread.start()
    with socket.create_connection(("127.0.0.1", int(port))) as client:
        client.settimeout(3.0)
        began = time.monotonic()
        try:
            for word in words:
                client.sendall(word.encode())
                told["answer"] = client.recv(100).decode()
                told["said"] = told.get("said", 0) + 1
        except OSError as error:
            told["near"] = type(error).__name__
        told["after"] = time.monotonic() - began
    thread.join()
    told["heard"] = heard.decode()
    Path(out).write_text(json.dumps(told))


def datagrams(out: str, port: str, *words: str) -> None:
    """The same in datagrams from one connected socket."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", int(port)))
    server.settimeout(0.3)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.1", int(port)))
    sent, heard = [], []
    for word in words:
        try:
            client.send(word.encode())
            sent.append("0")
        except OSError as error:
            sent.append(_name(error.errno))
        try:
            heard.append(server.recv(4096).decode())
        except TimeoutError:
            heard.append(None)
    Path(out).write_text(json.dumps({"sent": sent, "heard": heard}))


def listening(out: str, port: str) -> None:
    """Listen on every address; can this host's loopback reach it?"""
    server = _listener(socket.AF_INET, "0.0.0.0", int(port))
    client = socket.socket()
    client.settimeout(0.7)
    try:
        client.connect(("127.0.0.1", int(port)))
        told = "reached"
    except OSError as error:
        told = type(error).__name__
    server.close()
    Path(out).write_text(json.dumps(told))


def bomb(depth: str) -> None:
    """Processes that fork without end, each generation twice as many, up to a bound."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    end = time.monotonic() + 5
    for _ in range(int(depth)):
        os.fork()
        if time.monotonic() > end:
            os._exit(0)
    while time.monotonic() < end:
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)


def spin(seconds: str) -> None:
    """Use the processor."""
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        pass


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
