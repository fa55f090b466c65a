# SPDX-License-Identifier: Apache-2.0
"""Programs for tests to watch: each does a known thing a known number of times. Runs by itself."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path


def _reap(pid: int) -> None:
    os.waitpid(pid, 0)


def forks(count: str) -> None:
    for _ in range(int(count)):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        _reap(pid)


def execs(count: str, path: str = "/bin/true") -> None:
    for number in range(int(count)):
        _reap(os.posix_spawn(path, [path, str(number)], {}))


def execs_of(listing: str, path: str = "/bin/true") -> None:
    """Run ``path`` with each of the argument lists in the JSON file ``listing``, one after the other."""
    for arguments in json.loads(Path(listing).read_text()):
        _reap(os.posix_spawn(path, [path, *arguments], {}))


def programs(listing: str) -> None:
    """Run those of the JSON file ``listing``, one after the other: path, how (plain, memfd, deleted,
    renamed), arguments.
    """
    for path, how, *arguments in json.loads(Path(listing).read_text()):
        pid = os.fork()
        if pid == 0:
            if how in ("plain", "renamed"):
                os.execv(path, ["program", *arguments])
            fd = os.memfd_create("program") if how == "memfd" else os.open(path, os.O_RDONLY)
            if how == "memfd":
                os.write(fd, Path(path).read_bytes())
            else:
                os.unlink(path)
            os.execve(fd, ["program", *arguments], {})
        if how == "renamed":
            while os.readlink(f"/proc/{pid}/exe") != path:
                time.sleep(0.001)
            os.rename(path, path + "-elsewhere")
        _reap(pid)


def threads(count: str) -> None:
    for _ in range(int(count)):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()


def _server(family: int, address: str) -> socket.socket:
    server = socket.socket(family)
    server.bind((address, 0))
    server.listen(512)
    return server


def connects(count: str, address: str = "127.0.0.1", payload: str = "0", answer: str = "0") -> None:
    """Connect, send ``payload`` bytes, get ``answer`` bytes, close; the server is in this process."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = _server(family, address)
    for _ in range(int(count)):
        client = socket.socket(family)
        client.connect(server.getsockname())
        far, _ = server.accept()
        if int(payload):
            client.sendall(b"x" * int(payload))
            left = int(payload)
            while left:
                left -= len(far.recv(left))
        if int(answer):
            far.sendall(b"y" * int(answer))
            left = int(answer)
            while left:
                left -= len(client.recv(left))
        client.close()
        while far.recv(1):
            pass
        far.close()


def refused(count: str, address: str = "127.0.0.1") -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = _server(family, address)
    target = server.getsockname()
    server.close()
    for _ in range(int(count)):
        with socket.socket(family) as client:
            assert client.connect_ex(target) == errno.ECONNREFUSED


def datagrams(count: str, address: str = "127.0.0.1") -> None:
    """Send to ``count`` different ports, each twice, from one unconnected socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        for number in range(int(count)):
            for _ in range(2):
                out.sendto(b"x", (address, 20000 + number))


def crossfire(count: str) -> None:
    """Two processes, each with one unconnected socket: every other datagram of ``count`` is for the other."""
    ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for end in (ours, theirs):
        end.bind(("127.0.0.1", 0))
    child = os.fork()
    out, other = (theirs, ours) if child == 0 else (ours, theirs)
    for number in range(int(count)):
        out.sendto(b"x", other.getsockname() if number % 2 else ("127.0.0.1", 20000 + number % 8))
    if child == 0:
        os._exit(0)
    _reap(child)


def serve_datagrams(address: str = "127.0.0.1") -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))


def ioctls(device: str, count: str, command: str, data: str = "", threads: str = "1") -> None:
    """``count`` ioctls of one kind; ``data``: the argument as hex."""

    def loop(number: int) -> None:
        with open(device, "r+b", buffering=0) as file:
            argument = bytearray.fromhex(data) if data else 0
            for _ in range(number):
                try:
                    fcntl.ioctl(file, int(command, 0), argument)
                except OSError:
                    pass

    workers = [threading.Thread(target=loop, args=(int(count),)) for _ in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def kinds_of_ioctl(device: str, count: str) -> None:
    """RM_CONTROL with ``count`` different control codes."""
    with open(device, "r+b", buffering=0) as file:
        for code in range(int(count)):
            try:
                fcntl.ioctl(file, 0xC020462A, bytearray(struct.pack("<4IQ2I", 1, 2, code, 0, 0, 0, 0)))
            except OSError:
                pass


def wrapped_ioctl(device: str) -> None:
    """RM_ALLOC of a Hopper channel inside NVIDIA's XFER_CMD."""
    inner = ctypes.create_string_buffer(struct.pack("<4I4Q", 1, 2, 3, 0xC86F, 0, 0, 0, 0))
    outer = bytearray(struct.pack("<IIQ", 0x2B, 48, ctypes.addressof(inner)))
    with open(device, "r+b", buffering=0) as file:
        try:
            fcntl.ioctl(file, 0xC01046D3, outer)
        except OSError:
            pass


def ioctl_32bit(device: str) -> None:
    """The same through int 0x80: a 32-bit system call from a 64-bit program (x86 only)."""
    import mmap

    low = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40, prot=7)  # MAP_32BIT
    address = ctypes.addressof(ctypes.c_char.from_buffer(low))
    argument = struct.pack("<4I4Q", 1, 2, 3, 0xC86F, 0, 0, 0, 0)
    low[512 : 512 + len(argument)] = argument
    with open(device, "r+b", buffering=0) as file:
        code = b"\x53"  # push rbx
        code += b"\xb8" + struct.pack("<I", 54)  # mov eax, 54 (ioctl)
        code += b"\xbb" + struct.pack("<I", file.fileno())
        code += b"\xb9" + struct.pack("<I", 0xC030462B)
        code += b"\xba" + struct.pack("<I", address + 512)
        code += b"\xcd\x80\x5b\xc3"  # int 0x80; pop rbx; ret
        low[: len(code)] = code
        ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def setsid_exec() -> None:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.execv("/bin/true", ["true", "after-setsid"])
    _reap(pid)


def double_fork_exec() -> None:
    """The grandchild executes when its parent is gone and init (or a subreaper) has taken it over."""
    read_end, write_end = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.close(write_end)
            os.setsid()
            os.read(read_end, 1)  # until the first process has reaped the middle one
            for _ in range(200):
                if os.getppid() != middle:
                    break
                time.sleep(0.005)
            os.execv("/bin/true", ["true", "after-double-fork"])
        os._exit(0)
    _reap(middle)
    os.close(write_end)
    os.close(read_end)
    time.sleep(0.3)


def thread_exec() -> None:
    threading.Thread(target=os.execv, args=("/bin/true", ["true", "from-a-thread"])).start()
    time.sleep(30)


def everything(device: str, command: str, data: str, pid: str, number: str, root: str) -> None:
    """Something of each kind that there is an event for; last of all it leaves its cgroup."""
    forks("2")
    threads("1")
    execs("1")
    for address in ("127.0.0.1", "::1"):
        connects("1", address, "100", "100")
        datagrams("1", address)
        serve_datagrams(address)
    connects_locally("/nobody/listens.sock")
    ioctls(device, "3", command, data)
    os.kill(int(pid), int(number))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:  # a span: see probes/span_call.h
        own.setsockopt(0x56494749, 1, struct.pack("=QIIII", 0, 1, 0, 0, 0) + b"tool=everything\0")
    leave_cgroup_exec(root)


def connects_locally(*names: str) -> None:
    """Ask for UNIX sockets, which need not be there; @ in front: an abstract name."""
    for name in names:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect_ex("\0" + name[1:] if name.startswith("@") else name)


def leave_cgroup_exec(root: str) -> None:
    """Move to the root of the hierarchy, then execute and connect."""
    with open(f"{root}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    refused("1")
    execs("1")


def chain(depth: str) -> None:
    """Fork, in the child fork again, … and execute at the bottom."""
    for _ in range(int(depth)):
        pid = os.fork()
        if pid:
            _reap(pid)
            os._exit(0)
    os.execv("/bin/true", ["true", "at-the-bottom"])


def memfd() -> None:
    fd = os.memfd_create("innocent")
    with open("/bin/true", "rb") as file:
        os.write(fd, file.read())
    os.execve(fd, ["renamed"], {})


def deleted() -> None:
    with tempfile.NamedTemporaryFile(delete=False) as copy, open("/bin/true", "rb") as file:
        copy.write(file.read())
    os.chmod(copy.name, 0o755)
    fd = os.open(copy.name, os.O_RDONLY)
    os.unlink(copy.name)
    os.execve(fd, ["gone"], {})


def big_arguments(size: str) -> None:
    os.execv("/bin/true", ["true", "x" * int(size)])


def through_link(folder: str) -> None:
    os.chdir(folder)
    os.symlink("/bin/true", "link")
    os.mkdir("inner")
    os.chdir("inner")
    os.execv("/proc/self/root" + folder + "/link", ["anything"])


def run_script(folder: str) -> None:
    path = folder + "/script"
    with open(path, "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(path, 0o755)
    os.execv(path, [path, "argument"])


def flood(count: str) -> None:
    """Many processes, as fast as two generations can."""
    for _ in range(int(count) // 10):
        for pid in [os.fork() or os._exit(0) for _ in range(10)]:
            _reap(pid)


def reuse_pid() -> None:
    """Two processes with the same id, one after the other."""
    first = os.fork()
    if first == 0:
        os.execv("/bin/true", ["true", "first"])
    _reap(first)
    for _ in range(50):
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(first - 1))
        second = os.fork()
        if second == 0:
            if os.getpid() == first:
                os.execv("/bin/true", ["true", "second"])
            os._exit(0)
        _reap(second)
        if second == first:
            return
    sys.exit("the id did not come again")


#: IOSQE_ASYNC, the second byte of an entry: a worker of io_uring's does it, never whoever asks.
BY_WORKER = 16


def _io_uring(operation: bytes) -> int:
    """One operation through io_uring, by raw system calls: the first 40 bytes of its entry; its result."""
    import mmap

    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(120)
    ring = libc.syscall(425, 4, params)
    if ring < 0:
        sys.exit(f"io_uring_setup: {os.strerror(ctypes.get_errno())}")
    sq_off = struct.unpack_from("<10I", params.raw, 40)
    sq = mmap.mmap(
        ring, 4096, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=0
    )
    sqes = mmap.mmap(
        ring, 4096, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=0x10000000
    )
    sqes[:64] = operation.ljust(64, b"\0")
    struct.pack_into("<I", sq, sq_off[6], 0)  # array[0] = 0
    struct.pack_into("<I", sq, sq_off[1], 1)  # tail = 1
    done = libc.syscall(426, ring, 1, 1, 1, None, 0)
    if done != 1:
        sys.exit(f"io_uring_enter: {os.strerror(ctypes.get_errno())}")
    # struct io_uring_params: cq_off behind sq_off; cqes is its sixth word. One mapping serves both rings.
    (cqes,) = struct.unpack_from("<I", params.raw, 80 + 20)
    return int(struct.unpack_from("<i", sq, cqes + 8)[0])


def io_uring_connect() -> None:
    """connect(2) through io_uring."""
    server = _server(socket.AF_INET, "127.0.0.1")
    client = socket.socket()
    address = ctypes.create_string_buffer(
        struct.pack("<H", socket.AF_INET) + struct.pack(">H4B8x", server.getsockname()[1], 127, 0, 0, 1)
    )
    _io_uring(struct.pack("<BBHiQQIIQ", 16, 0, 0, client.fileno(), 16, ctypes.addressof(address), 0, 0, 7))
    server.accept()


def io_uring_send(size: str) -> None:
    """send(2) through io_uring."""
    server = _server(socket.AF_INET, "127.0.0.1")
    client = socket.create_connection(server.getsockname())
    far, _ = server.accept()
    data = ctypes.create_string_buffer(b"u" * int(size))
    _io_uring(
        struct.pack("<BBHiQQIIQ", 26, 0, 0, client.fileno(), 0, ctypes.addressof(data), int(size), 0, 7)
    )
    assert far.recv(int(size), socket.MSG_WAITALL) == b"u" * int(size)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
