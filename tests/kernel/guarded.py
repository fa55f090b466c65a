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
from contextlib import suppress
from pathlib import Path

import talkers
from workloads import _io_uring

#: A name that a rule knows.
MINER = "xmrig"
#: For what must come, on a slow machine, too: nobody waits for it who is told.
PATIENCE_S = 60.0


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


def conversation(out: str, address: str, port: str, *words: str) -> None:
    """Say the words one after the other to a server that writes down all it hears, and how it ends."""
    server = _listener(socket.AF_INET, address, int(port))
    heard, told = bytearray(), {}

    def listen() -> None:
        far, _ = server.accept()
        far.settimeout(PATIENCE_S)
        try:
            while data := far.recv(4096):
                heard.extend(data)
                far.sendall(b"ok")
        except OSError as error:
            told["far"] = str(error)
        far.close()

    thread = threading.Thread(target=listen)
    thread.start()
    with socket.create_connection((address, int(port)), source_address=(address, 0)) as client:
        client.settimeout(PATIENCE_S)
        try:
            for word in words:
                client.sendall(word.encode())
                told["answer"] = client.recv(100).decode()
                told["said"] = told.get("said", 0) + 1
        except OSError as error:
            told["near"] = type(error).__name__
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


def _opened() -> int:
    """Connections that this network namespace has begun: each is a SYN."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if "Tcp:" in line
    )
    return int(values[names.index("ActiveOpens")])


def _try_all(address: str, port: int) -> dict[str, object]:
    """Every way to begin to talk to a place: errno's name for each, and what came of it at the far end."""
    family = talkers._family(address)
    server, before, found = _listener(family, address, port), _opened(), {}
    server.settimeout(0.2)
    with socket.socket(family) as client:
        client.settimeout(5)
        found["connect"] = _name(client.connect_ex((address, port)))
    found["syn"] = _opened() - before
    try:
        server.accept()[0].close()
        found["accepted"] = 1
    except TimeoutError:
        found["accepted"] = 0
    server.close()
    with socket.socket(family, socket.SOCK_DGRAM) as far, socket.socket(family, socket.SOCK_DGRAM) as client:
        far.bind((address, port))
        far.settimeout(0.2)
        try:
            client.sendto(b"x", (address, port))
            found["sendto"] = "0"
        except OSError as error:
            found["sendto"] = _name(error.errno)
        try:
            found["heard"] = far.recv(10).decode()
        except TimeoutError:
            found["heard"] = ""
        found["datagram connect"] = _name(client.connect_ex((address, port)))
    return found


def _hear(client: socket.socket) -> None:
    """What has come, if it was let through."""
    client.settimeout(0.5)
    with suppress(OSError):
        client.recv(4096)


def named(folder: str) -> None:
    """Get the DNS answers of ``folder``/plan.json from a server, say so, wait to be told to go on, and try
    to talk to the addresses.
    """
    plan = json.loads(Path(folder, "plan.json").read_text())
    addresses = [f"ip addr add {address} dev lo nodad" for address in plan["addresses"]]
    talkers.private_network(*addresses)
    for answer in plan["udp"]:
        client, server = talkers._pair(
            plan.get("server", "127.0.0.1"), socket.SOCK_DGRAM, plan.get("port", 53)
        )
        server.send(bytes.fromhex(answer))
        _hear(client)
        client.close()
        server.close()
    for answer in plan["tcp"]:
        client, server = talkers._pair("127.0.0.1", socket.SOCK_STREAM, 53)
        for at in range(0, len(answer), 40):  # in pieces
            server.send(bytes.fromhex(answer[at : at + 40]))
            _hear(client)
        client.close()
        server.close()
    Path(folder, "asked").touch()
    end = time.monotonic() + 60
    while not Path(folder, "go").exists() and time.monotonic() < end:
        time.sleep(0.01)
    found = {address: _try_all(address, 4444) for address in plan["addresses"]}
    Path(folder, "out.json").write_text(json.dumps(found))


def datagram_servers(out: str, port: str) -> None:
    """Bind datagram sockets in every way there is; errno's name for each, and what is free afterwards."""
    talkers.private_network()
    found = {}
    for name, family, address, where in (
        ("any", socket.AF_INET, "0.0.0.0", int(port)),
        ("any6", socket.AF_INET6, "::", int(port)),
        ("loopback", socket.AF_INET, "127.0.0.1", int(port)),
        ("loopback6", socket.AF_INET6, "::1", int(port)),
        ("client", socket.AF_INET, "0.0.0.0", 0),
        ("client6", socket.AF_INET6, "::", 0),
    ):
        with socket.socket(family, socket.SOCK_DGRAM) as server:
            try:
                server.bind((address, where))
                found[name] = "0"
            except OSError as error:
                found[name] = _name(error.errno)
            found[f"{name} bound"] = server.getsockname()[1] != 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:  # never bound by itself
        client.sendto(b"x", ("127.0.0.1", int(port)))
    Path(out).write_text(json.dumps(found))


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
