# SPDX-License-Identifier: Apache-2.0
"""What is traced, or not, while it is measured. Each line of input is a task, each line of output its times.

Needs nothing of ours: it runs as ``python -I worker.py``. Times are nanoseconds, one an operation.
"""

import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

TRUE = "/bin/true"
CHUNK = 256 << 10
REQUEST = b"GET /simple/numpy/ HTTP/1.1\r\nHost: pypi.example\r\nUser-Agent: pip/24.0\r\nAccept: */*\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok"
DNS = 53
_ASKED = b"\5files\14pythonhosted\7example\0\0\1\0\1"
QUESTION = b"\0\7\1\0\0\1\0\0\0\0\0\0" + _ASKED
_ALIAS = b"\11dualstack\6python\3map\7example\0"
#: An alias and four addresses, as of a package index.
NAMES = b"\0\7\x81\x80\0\1\0\5\0\0\0\0" + _ASKED
NAMES += b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0" + bytes([len(_ALIAS)]) + _ALIAS
NAMES += b"".join(b"\xc0\x38\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2" + bytes([n]) for n in range(4))
#: As long as arguments of a build are, and nothing that a rule is about.
WORD = "-DCMAKE_BUILD_TYPE=Release"
BACKLOG = 64


def spawn(count: int, size: int, variables: int = 0) -> list[int]:
    """Start /bin/true with about ``size`` bytes of arguments, and ``variables`` of environment, and wait for
    its end.
    """
    argv = [TRUE] + [WORD] * (size // (len(WORD) + 1))
    environment = {f"VARIABLE_{number}": WORD * 2 for number in range(variables)}
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        os.waitpid(os.posix_spawn(TRUE, argv, environment), 0)
        times.append(time.perf_counter_ns() - began)
    return times


def _each(rounds: int, batch: int, do: Callable[[], object]) -> list[int]:
    times = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        for _ in range(batch):
            do()
        times.append((time.perf_counter_ns() - began) // batch)
    return times


def options(rounds: int, batch: int) -> list[int]:
    """Set an option of a socket."""
    with socket.socket() as one:
        return _each(rounds, batch, lambda: one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))


def marks(rounds: int, batch: int) -> list[int]:
    """Begin a span, go over to it, end it: see probes/span_call.h. Untraced the calls fail."""
    begin = struct.pack("=QIIII", 0, 1, 0, 0, 0)
    calls = ((1, begin + b"tool=bash\0step=412\0"), (3, begin), (2, begin))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:

        def mark() -> None:
            for number, data in calls:
                try:
                    one.setsockopt(0x56494749, number, data)
                except OSError:
                    pass

        return _each(rounds, batch, mark)


def marked(rounds: int, batch: int) -> list[int]:
    """Be in a span for a moment, as Python programs are."""
    import tracer

    def mark() -> None:
        with tracer.span(tool="bash", step=412):
            pass

    time.sleep(1)  # whether somebody traces us is asked once a second
    mark()
    return _each(rounds, batch, mark)


def flow(count: int, host: str, port: int) -> list[int]:
    """Connect, ask, be answered, close."""
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        with socket.create_connection((host, port)) as client:
            client.sendall(REQUEST)
            client.recv(4096)
        times.append(time.perf_counter_ns() - began)
    return times


def connect(count: int, host: str, port: int) -> list[int]:
    """Connect and close; who is refused, here or there, just closes. The other end's own close is waited for
    between two times: it accepts more slowly than others connect, and a full queue would be measured.
    """
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        client = socket.socket()
        refused = client.connect_ex((host, port))
        if not refused:
            client.shutdown(socket.SHUT_WR)
        times.append(time.perf_counter_ns() - began)
        if not refused:
            client.recv(1)
        client.close()
    return times


def send(count: int, host: str, port: int) -> list[int]:
    """One long flow outwards, to the last byte's arrival."""
    data = bytes(CHUNK)
    with socket.create_connection((host, port)) as client:
        client.sendall(REQUEST)
        began = time.perf_counter_ns()
        for _ in range(count):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
        return [time.perf_counter_ns() - began]


def receive(count: int, host: str, port: int) -> list[int]:
    """One long flow inwards."""
    buffer = bytearray(CHUNK)
    with socket.create_connection((host, port)) as client:
        client.sendall(b"%d\n" % (count * CHUNK))
        began = time.perf_counter_ns()
        while client.recv_into(buffer):
            pass
        return [time.perf_counter_ns() - began]


def ping(count: int, host: str, port: int) -> list[int]:
    """One byte there, one byte back, on a flow whose first bytes are over."""
    times = []
    with socket.create_connection((host, port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(64):
            client.sendall(RESPONSE)
            client.recv(4096)
        for _ in range(count):
            began = time.perf_counter_ns()
            client.sendall(b"x")
            client.recv(64)
            times.append(time.perf_counter_ns() - began)
    return times


def datagrams(count: int, host: str, port: int) -> list[int]:
    """Datagrams of 64 bytes to a port where nobody reads."""
    data = b"x" * 64
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((host, port))
        client.send(data)
        began = time.perf_counter_ns()
        for _ in range(count):
            client.send(data)
        return [time.perf_counter_ns() - began]


def lookup(count: int, host: str, port: int) -> list[int]:
    """Ask for a name as resolvers do, from a new socket each time."""
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((host, port))
            client.send(QUESTION)
            client.recv(512)
        times.append(time.perf_counter_ns() - began)
    return times


def _name(server: socket.socket) -> None:
    while True:
        _, client = server.recvfrom(512)
        server.sendto(NAMES, client)


def _answer(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(RESPONSE)


def _sink(connection: socket.socket) -> None:
    buffer = bytearray(CHUNK)
    while connection.recv_into(buffer):
        pass
    connection.sendall(b".")


def _source(connection: socket.socket) -> None:
    left, data = int(connection.recv(64)), bytes(CHUNK)
    while left > 0:
        connection.sendall(data)
        left -= CHUNK


def _wait(connection: socket.socket) -> None:
    connection.recv(1)  # whoever connected closes first: the port that waits is one of theirs


def _echo(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(4096):
        connection.sendall(data)


def _serve(listener: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                talk(connection)
            except OSError:
                pass


def serve(host: str) -> None:
    """Be the other end: print a port for each task, then serve until standard input ends."""
    ports, kept = {}, []
    talks = {"flow": _answer, "send": _sink, "receive": _source, "ping": _echo, "connect": _wait}
    for name, talk in talks.items():
        listener = socket.create_server((host, 0), backlog=BACKLOG)
        ports[name] = listener.getsockname()[1]
        threading.Thread(target=_serve, args=(listener, talk), daemon=True).start()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind((host, DNS))
    threading.Thread(target=_name, args=(names,), daemon=True).start()
    ports["lookup"] = DNS
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind((host, 0))
    kept.append(silent)
    ports["datagrams"] = silent.getsockname()[1]
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


TASKS = {
    task.__name__: task
    for task in (spawn, connect, flow, send, receive, ping, datagrams, lookup, options, marks, marked)
}


def main() -> None:
    """Serve, or do one task after another."""
    if sys.argv[1:]:
        serve(sys.argv[1])
        return
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(TASKS[name](*arguments)), flush=True)


if __name__ == "__main__":
    main()
