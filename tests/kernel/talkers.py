# SPDX-License-Identifier: Apache-2.0
"""Programs that talk over the network, for tests to watch. Runs by itself; see also workloads.py.

What is sent is ``stream(seed, length)``, so that a test knows it without being told.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

CLONE_NEWNET = 0x40000000
TCP_QUICKACK = 12


def stream(seed: object, length: int) -> bytes:
    """The bytes that are said under this seed."""
    return random.Random(str(seed)).randbytes(length)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def private_network(*commands: str) -> None:
    """Go to a network namespace of our own, where lo is up and every port is free."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", b"lo", 0x41))  # SIOCSIFFLAGS: up, running
    for command in commands:
        if os.system(command):
            sys.exit(command)


def _pair(address: str, kind: int, port: int = 0, before=lambda client: None):
    """Two connected sockets: who connected, who was connected to."""
    family = _family(address)
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    client = socket.socket(family, kind)
    before(client)
    if kind == socket.SOCK_DGRAM:
        client.bind((address, 0))
        client.connect(server.getsockname())
        server.connect(client.getsockname())
        return client, server
    server.listen(8)
    client.connect(server.getsockname())
    far, _ = server.accept()
    server.close()
    for end in (client, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, far


def _put(out: socket.socket, data: bytes, how: str) -> None:
    fd = out.fileno()
    if how == "send":
        out.sendall(data)
    elif how == "sendmsg":
        assert out.sendmsg([data[:1], data[1:3], data[3:]]) == len(data)
    elif how == "writev":
        assert os.writev(fd, [data[:7], data[7:]]) == len(data)
    elif how == "sendfile":
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            assert os.sendfile(fd, file.fileno(), 0, len(data)) == len(data)
    elif how == "splice":
        read_end, write_end = os.pipe()
        os.write(write_end, data)
        assert os.splice(read_end, fd, len(data)) == len(data)
        os.close(read_end)
        os.close(write_end)
    else:
        raise ValueError(how)


def _take(source: socket.socket, length: int) -> None:
    while length:
        piece = source.recv(length)
        if not piece:
            sys.exit("the other end has gone")
        length -= len(piece)


def converse(plan: str) -> None:
    """Conversations as the JSON file ``plan`` lists them: each a dict of address, transport, client and
    server (sizes of what is sent at once), how. The next piece is sent when the last has been read.
    """
    for number, talk in enumerate(json.loads(Path(plan).read_text())):
        kind = socket.SOCK_STREAM if talk["transport"] == "tcp" else socket.SOCK_DGRAM
        client, far = _pair(talk["address"], kind)
        for side, out, into in (("client", client, far), ("server", far, client)):
            said = stream(f"{number}{side}", sum(talk[side]))
            at = 0
            for size in talk[side]:
                _put(out, said[at : at + size], talk["how"])
                _take(into, size)
                at += size
        client.close()
        while far.type == socket.SOCK_STREAM and far.recv(1):
            pass
        far.close()


def bulk(size: str) -> None:
    """As much as that, both ways, as fast as it goes."""
    client, far = _pair("127.0.0.1", socket.SOCK_STREAM)
    for out, into in ((client, far), (far, client)):
        reader = threading.Thread(target=_take, args=(into, int(size)))
        reader.start()
        out.sendall(stream("bulk", int(size)))
        reader.join()


def again() -> None:
    """One socket connects, says a little, is disconnected (AF_UNSPEC) and does so anew."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        server = socket.socket(socket.AF_INET, kind)
        server.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            server.listen(8)
        client = socket.socket(socket.AF_INET, kind)
        for number, size in enumerate((40, 10, 600, 3)):
            client.connect(server.getsockname())
            client.send(stream(f"again{number}", size))
            if kind == socket.SOCK_STREAM:
                far, _ = server.accept()
                _take(far, size)
                far.send(stream(f"answer{number}", size))
                _take(client, size)
            if libc.connect(client.fileno(), bytes(16), 16):
                sys.exit(os.strerror(ctypes.get_errno()))


def datagrams_to(count: str, each: str) -> None:
    """From one unconnected socket to so many destinations, one after the other, so many to each."""
    sinks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(int(count))]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for number, sink in enumerate(sinks):
            sink.bind(("127.0.0.1", 0))
            for turn in range(int(each)):
                out.sendto(stream(f"{number}.{turn}", 20), sink.getsockname())


def datagrams_of(listing: str, port: str) -> None:
    """The datagrams (hex) in the JSON file ``listing``, to ``port`` on a loopback of our own."""
    private_network()
    client, far = _pair("127.0.0.1", socket.SOCK_DGRAM, int(port))
    for datagram in json.loads(Path(listing).read_text()):
        data = bytes.fromhex(datagram)
        client.send(data)
        assert far.recv(65536) == data


def streams_of(listing: str) -> None:
    """Connections with what the JSON file ``listing`` says: lists of [to the server?, hex]."""
    for talk in json.loads(Path(listing).read_text()):
        client, far = _pair("127.0.0.1", socket.SOCK_STREAM)
        for outward, datagram in talk:
            data = bytes.fromhex(datagram)
            out, into = (client, far) if outward else (far, client)
            out.sendall(data)
            _take(into, len(data))
        far.close()
        client.close()


def pings(*sizes: str) -> None:
    """Echo requests over a raw socket, by hand, one after the other."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        for number, size in enumerate(sizes):
            data = struct.pack(">BBHHH", 8, 0, 0, 7, number) + stream(f"ping{number}", int(size))
            even = data + bytes(len(data) % 2)
            total = sum(struct.unpack(f">{len(even) // 2}H", even))
            total = (total & 0xFFFF) + (total >> 16)
            total = (total & 0xFFFF) + (total >> 16)
            raw.sendto(data[:2] + struct.pack(">H", ~total & 0xFFFF) + data[4:], ("127.0.0.1", 0))
            for _ in range(2):
                raw.recv(2048)


def fast_open(count: str) -> None:
    """Connections whose first data lies in the SYN, then some more; the listener stays the same."""
    private_network("echo 0x207 > /proc/sys/net/ipv4/tcp_fastopen")
    server = socket.create_server(("127.0.0.1", 0))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
    for number in range(int(count)):
        client = socket.socket()
        said = stream(f"open{number}", 300)
        client.sendto(said[:200], socket.MSG_FASTOPEN, server.getsockname())
        far, _ = server.accept()
        _take(far, 200)
        client.send(said[200:])
        _take(far, 100)
        client.close()
        far.close()


def late_ack(count: str) -> None:
    """Connections whose handshake ends with the segment that has the first data; then some more."""
    server = socket.create_server(("127.0.0.1", 0))
    for number in range(int(count)):
        client = socket.socket()
        if number % 2:
            client.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 0)
        client.connect(server.getsockname())
        said = stream(f"late{number}", 300)
        client.send(said[:200])
        far, _ = server.accept()
        _take(far, 200)
        client.send(said[200:])
        _take(far, 100)
        client.close()
        far.close()


def inherited() -> None:
    """The parent connects and accepts, its child talks."""
    client, far = _pair("127.0.0.1", socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        client.send(stream("child", 30))
        _take(far, 30)
        os._exit(0)
    os.waitpid(pid, 0)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data if len(data) % 2 == 0 else data[:-1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class _Tun:
    """The other end of an interface, who says TCP segments by hand, in any order."""

    def __init__(self) -> None:
        self.fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.fd, 0x400454CA, struct.pack("16sH22x", b"vigiles0", 0x1001))  # TUNSETIFF
        for command in ("ip addr add 10.99.0.1/24 dev vigiles0", "ip link set vigiles0 up"):
            if os.system(command):
                sys.exit(command)

    def say(self, ports: tuple[int, int], sequence: int, ack: int, flags: int, data: bytes = b"") -> None:
        here, there = socket.inet_aton("10.99.0.2"), socket.inet_aton("10.99.0.1")
        tcp = struct.pack(">HHIIBBHHH", *ports, sequence, ack, 5 << 4, flags, 65535, 0, 0) + data
        pseudo = here + there + struct.pack(">BBH", 0, 6, len(tcp))
        tcp = tcp[:16] + struct.pack(">H", _checksum(pseudo + tcp)) + tcp[18:]
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, here, there)
        ip = ip[:10] + struct.pack(">H", _checksum(ip)) + ip[12:]
        os.write(self.fd, ip + tcp)

    def hear(self) -> tuple[int, int, int]:
        """The next TCP segment: source port, sequence number, flags."""
        while True:
            packet = os.read(self.fd, 65536)
            if packet[0] >> 4 == 4 and packet[9] == 6:
                source, _, sequence, _, _, flags = struct.unpack_from(">HHIIBB", packet, 20)
                return source, sequence, flags


def disordered(plan: str) -> None:
    """For each list of [offset, length] in the JSON file ``plan``: a connection (by turns: we open it,
    the other end does) on which the segments of a stream arrive in this order.
    """
    private_network()
    tun = _Tun()
    server = socket.create_server(("10.99.0.1", 7))
    for number, order in enumerate(json.loads(Path(plan).read_text())):
        total = max(at + size for at, size in order)
        said = stream(f"disorder{number}", total)
        theirs = 0xFFFFFF00 + number  # the numbers wrap around
        ended = theirs + 1 & 0xFFFFFFFF
        if number % 2:
            ports = (1000 + number, 7)
            tun.say(ports, theirs, 0, 2)  # SYN
            while (heard := tun.hear())[2] & 0x12 != 0x12:
                pass
            tun.say(ports, ended, heard[1] + 1, 0x10)
            end, _ = server.accept()
        else:
            end = socket.socket()
            end.setblocking(False)
            end.connect_ex(("10.99.0.2", 1000 + number))
            while (heard := tun.hear())[2] & 0x12 != 2:
                pass
            ports = (1000 + number, heard[0])
            tun.say(ports, theirs, heard[1] + 1, 0x12)
        for at, size in order:
            tun.say(ports, ended + at & 0xFFFFFFFF, heard[1] + 1, 0x18, said[at : at + size])
        end.setblocking(True)
        got = b""
        while len(got) < total:
            got += end.recv(total)
        assert got == said
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()


def busy(seconds: str, port: str) -> None:
    """Execute and connect as fast as it goes."""
    end = time.monotonic() + float(seconds)
    number = 0
    while time.monotonic() < end:
        os.waitpid(os.posix_spawn("/bin/true", ["true", "alphabeta", str(number)], {}), 0)
        with socket.create_connection(("127.0.0.1", int(port))) as client:
            client.send(b"alphabeta %d\n" % number)
        number += 1


def say(address: str, port: str, transport: str, *words: str) -> None:
    """Send each of the words, with a moment between them."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    with socket.socket(_family(address), kind) as client:
        client.connect((address, int(port)))
        for word in words:
            client.send(word.encode())
            client.recv(100)


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def look_up(table: str, *addresses: str) -> None:
    """Look the names of the JSON object ``table`` (name: address) up with a server of our own, which
    answers through an alias; then connect to these addresses and to the others.
    """
    private_network()
    known = json.loads(table)
    client, server = _pair("127.0.0.1", socket.SOCK_DGRAM, 53)
    for number, (name, address) in enumerate(known.items()):
        family = _family(address)
        kind = 1 if family == socket.AF_INET else 28
        question = _name(name) + struct.pack(">HH", kind, 1)
        client.send(struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + question)
        server.recv(512)
        alias = _name("edge.alias.test")
        raw = socket.inet_pton(family, address)
        answer = struct.pack(">6H", number, 0x8180, 1, 2, 0, 0) + question
        answer += struct.pack(">HHHIH", 0xC00C, 5, 1, 60, len(alias)) + alias
        answer += alias + struct.pack(">HHIH", kind, 1, 60, len(raw)) + raw
        server.send(answer)
        client.recv(512)
    for address in (*known.values(), *addresses):
        with socket.socket(_family(address)) as out:
            out.setblocking(False)
            out.connect_ex((address, 4444))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
