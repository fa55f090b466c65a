# SPDX-License-Identifier: Apache-2.0
"""ways.py WAY HOST PORT: logs in at a pool, by calls that not everybody looks at, and waits for its answer.

mapped      IPv4 by an IPv6 socket           io-uring    connect and send by io_uring
sendmmsg    several messages in one call     mptcp       a socket of Multipath TCP
fast-open   data with the SYN: no connect    handed      another process, to which the socket is handed, speaks
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kernel"))
from workloads import _io_uring

LOGIN = (
    b'{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"corpus-wallet","pass":"rig1",'
    b'"agent":"XMRig/6.26.0 (Linux x86_64) libuv/1.51.0 gcc/13.3.0","algo":["rx/0","rx/wow"]}}\n'
)
IPPROTO_MPTCP = 262
CONNECT, SEND = 16, 26  # IORING_OP_*
libc = ctypes.CDLL(None, use_errno=True)


class IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("size", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("name_size", ctypes.c_uint32), ("vector", ctypes.POINTER(IoVec)),
        ("count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_size_t), ("sent", ctypes.c_size_t),
    )  # fmt: skip


def mapped(host: str, port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET6)
    client.connect((f"::ffff:{host}", port))
    client.sendall(LOGIN)
    return client


def mptcp(host: str, port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    client.connect((host, port))
    client.sendall(LOGIN)
    return client


def fast_open(host: str, port: int) -> socket.socket:
    client = socket.socket()
    client.sendto(LOGIN, socket.MSG_FASTOPEN, (host, port))
    return client


def io_uring(host: str, port: int) -> socket.socket:
    client = socket.socket()
    place = struct.pack("<H", socket.AF_INET) + struct.pack(">H4s8x", port, socket.inet_aton(host))
    address, said = ctypes.create_string_buffer(place), ctypes.create_string_buffer(LOGIN)
    at, to = ctypes.addressof(address), ctypes.addressof(said)
    if _io_uring(struct.pack("<BBHiQQIIQ", CONNECT, 0, 0, client.fileno(), 16, at, 0, 0, 1)):
        sys.exit("connect")
    sent = _io_uring(struct.pack("<BBHiQQIIQ", SEND, 0, 0, client.fileno(), 0, to, len(LOGIN), 0, 2))
    assert sent == len(LOGIN)
    return client


def sendmmsg(host: str, port: int) -> socket.socket:
    client = socket.create_connection((host, port))
    pieces = (LOGIN[:30], LOGIN[30:])
    vectors = [IoVec(piece, len(piece)) for piece in pieces]
    messages = (Message * 2)(*(Message(vector=ctypes.pointer(v), count=1) for v in vectors))
    assert libc.sendmmsg(client.fileno(), messages, 2, 0) == 2, os.strerror(ctypes.get_errno())
    return client


def handed(host: str, port: int) -> socket.socket:
    """The one that connects never says a word, and has ended when the other one does."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.fork() == 0:
        client = socket.create_connection((host, port))
        rights = array.array("i", [client.fileno()])
        there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os._exit(0)
    os.wait()
    _, [(_, _, data)], _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
    client = socket.socket(fileno=array.array("i", data)[0])
    client.sendall(LOGIN)
    return client


if __name__ == "__main__":
    way = globals()[sys.argv[1].replace("-", "_")]
    with way(sys.argv[2], int(sys.argv[3])) as talk:
        assert b"result" in talk.recv(4096)
