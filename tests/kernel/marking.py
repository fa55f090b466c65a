# SPDX-License-Identifier: Apache-2.0
"""Programs for tests of spans: agents that mark what they do, and tools that say what isn't so."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from fcntl import ioctl
from pathlib import Path

from workloads import BY_WORKER, _io_uring, connects_locally

import tracer
from tracer.marks.api import MARKS
from tracer.marks.channel import BEGIN, CALL, END, LEVEL, SWITCH

HERE = [sys.executable, __file__]
SPAN = [sys.executable, "-c", "from tracer.entry import main; main()", "span"]


def call(op: int, token: int, above: int = 0, *, up: int = 0, secret: int = 0, text: bytes = b"") -> int:
    """The errno of the system call by itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        try:
            own.setsockopt(LEVEL, op, CALL.pack(secret, token, above, 0, up) + text)
        except OSError as error:
            return error.errno or 0
    return 0


def true(word: str) -> None:
    subprocess.run(["/bin/true", word], check=True)


def nested() -> None:
    """Spans in spans, by processes of processes; one goes on behind the end of its span."""
    true("none")
    with tracer.span(tool="outer", step=1, note="a=b"):
        true("outer")
        with tracer.span(tool="inner"):
            subprocess.run(["/bin/sh", "-c", "/bin/sh -c '/bin/true inner; :'; :"], check=True)
            late = subprocess.Popen(["/bin/sh", "-c", "read x; /bin/true inner"], stdin=subprocess.PIPE)
        true("outer")
    true("none")
    late.communicate(b"\n")
    assert late.returncode == 0
    with tracer.span(tool="other"):
        pid = os.fork()
        if not pid:
            true("other")
            with tracer.span(tool="child's"):
                true("child's")
            os.execv("/bin/true", ["true", "other"])
        os.waitpid(pid, 0)
    assert (MARKS.failures, MARKS.channel.failures) == (0, 0)


def rollouts(count: str) -> None:
    """So many at once in one thread; each starts a process when the others have begun."""

    async def rollout(number: int, begun: asyncio.Barrier) -> None:
        async with tracer.span(step=number):
            await begun.wait()
            process = await asyncio.create_subprocess_exec("/bin/true", str(number))
            await process.wait()

    async def all_of_them() -> None:
        begun = asyncio.Barrier(int(count))
        await asyncio.gather(*(rollout(number, begun) for number in range(int(count))))

    asyncio.run(all_of_them())
    assert MARKS.failures == 0


def threads() -> None:
    """Threads are in the span that they are started in; workers of a pool in that of what they work on."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with tracer.span(tool="first"):
            pool.submit(true, "none").result()
            thread = threading.Thread(target=true, args=("first",))
            thread.start()
            thread.join()

        @tracer.span(tool="worker")
        def work() -> None:
            true("worker")

        with tracer.span(tool="second"):
            pool.submit(work).result()
            pool.submit(true, "none").result()
            true("second")


def threads_at_once(count: str, turns: str) -> None:
    """Each in spans of its own, all the time."""

    def work(number: int) -> None:
        for turn in range(int(turns)):
            with tracer.span(thread=number), tracer.span(tool=f"{number}-{turn}"):
                true(f"{number}-{turn}")

    every = [threading.Thread(target=work, args=(number,)) for number in range(int(count))]
    for thread in every:
        thread.start()
    for thread in every:
        thread.join()
    assert (MARKS.failures, MARKS.channel.failures) == (0, 0)


def executed_by_a_thread() -> None:
    """The new program is in the span of the thread that executed it."""

    def execute() -> None:
        with tracer.span(tool="thread"):
            os.execv("/bin/sh", ["sh", "-c", "/bin/true thread; :"])

    with tracer.span(tool="main"):
        thread = threading.Thread(target=execute)
        thread.start()
        thread.join()


def forged() -> None:
    """A tool takes its trainer's span for its own, ends it, opens one for its parent."""
    with tracer.span(tool="trainer's"):
        token = MARKS._thread.token
        assert token
        subprocess.run([*HERE, "forge", str(token)], check=True)
        true("trainer's")


def forge(token: str) -> None:
    assert call(END, int(token)) == 0  # one of its own that has that number, which isn't there
    assert call(SWITCH, int(token)) == 0
    true("unknown")
    for up in (1, 2, 3, 4, 5):
        assert call(BEGIN, 7, up=up, secret=1, text=b"tool=forged\0") == errno.EPERM
        assert call(END, int(token), up=up, secret=1) == errno.EPERM
    assert call(SWITCH, 0) == 0
    true("trainer's")
    assert call(BEGIN, 7, text=b"tool=innocent\0step=9\0") == 0
    true("innocent")
    assert call(0, 1) == call(99, 1) == call(BEGIN, 0) == errno.EPERM


def shell(path: str) -> None:
    """A shell marks what it does; one of its tools would have it otherwise."""
    here = " ".join(HERE)
    script = f"""
    set -e
    span() {{ {SPAN[0]} -c '{SPAN[2]}' span "$@"; }}
    /bin/true none
    one=$({SPAN[0]} -c '{SPAN[2]}' span begin --tool one --step 1)
    /bin/true one
    {here} shells_tool
    two=$({SPAN[0]} -c '{SPAN[2]}' span begin --tool=two key=value)
    /bin/true two
    span end "$two"
    /bin/true one
    three=$(span begin --tool three --pid $$)
    /bin/true three
    ( /bin/true three; span end "$one" --pid $$ )
    /bin/true none
    {SPAN[0]} -c '{SPAN[2]}' span run --tool run -- /bin/true run
    /bin/true none
    """
    done = subprocess.run([path, "-c", script], check=True, stderr=subprocess.PIPE)
    assert done.stderr == b"", done.stderr


def shells_tool() -> None:
    """What any program that a shell starts can do to it: no more than open one inside, and end that."""
    assert call(END, 1, up=1, secret=1) == errno.EPERM
    assert call(SWITCH, 0, up=1, secret=1) == errno.EPERM
    assert call(BEGIN, 5, up=1, secret=5, text=b"tool=tool's\0") == 0
    assert call(BEGIN, 6, up=1, secret=5) == errno.EPERM  # it isn't in that one itself
    assert call(END, 5, up=1, secret=4) == errno.EPERM
    assert call(END, 5, up=1, secret=5) == 0


def others() -> None:
    """Calls that are none of ours go to the kernel as they were."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        try:
            one.setsockopt(0x7777, 1, b"x" * 64)
        except OSError as error:
            print(errno.errorcode[error.errno or 0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        # more than a page, and more than a probe is shown: struct group_filter with 40 sources in it
        address = b"\2\0\0\0" + bytes(124)
        group = b"\2\0\0\0\xef\1\2\3" + bytes(120)
        sources = b"".join(b"\2\0\0\0\x7f\0\0" + bytes([n + 1]) + bytes(120) for n in range(40))
        assert len(address) == 128
        data = (
            (1).to_bytes(4, "little")
            + bytes(4)
            + group
            + (1).to_bytes(4, "little")
            + (40).to_bytes(4, "little")
        )
        mreq = socket.inet_aton("239.1.2.3") + socket.inet_aton("127.0.0.1")
        one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
        try:
            one.setsockopt(socket.IPPROTO_IP, 48, data + sources)  # MCAST_MSFILTER
        except OSError as error:  # it has read it all, and found that more sources are named than it allows
            print(f"{errno.errorcode[error.errno or 0]} for {len(data + sources)} bytes")


def connects() -> None:
    """The trainer itself connects, in spans and between them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for word in ("", "one", "two", ""):
            if word:
                with tracer.span(tool=word), socket.create_connection(("127.0.0.1", port)):
                    pass
            else:
                with socket.create_connection(("127.0.0.1", port)):
                    pass


def acts(device: str, command: str, data: str, pid: str, number: str, root: str) -> None:
    """Threads that have been there before, each in a span of its own by and by, do one thing each; their process
    goes on in another. What has been listened for is met when all that is over. At last it leaves its cgroup.
    """
    doors: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))

    def gpu() -> None:
        with open(device, "r+b", buffering=0) as file, contextlib.suppress(OSError):
            ioctl(file, int(command, 0), bytearray.fromhex(data))

    def listen() -> None:
        doors.append(socket.create_server(("127.0.0.1", 0)))

    def datagrams() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind(("127.0.0.1", 15353))

    def io_uring(flags: int) -> None:
        where = struct.pack("<H", socket.AF_INET) + struct.pack(
            ">H4B8x", server.getsockname()[1], 127, 0, 0, 1
        )
        address = ctypes.create_string_buffer(where)
        with socket.socket() as one:
            target = ctypes.addressof(address)
            _io_uring(struct.pack("<BBHiQQIIQ", 16, flags, 0, one.fileno(), 16, target, 0, 0, 7))

    def scan() -> None:
        for port in range(20001, 20041):
            with socket.socket() as one:
                one.connect_ex(("127.0.0.1", port))

    def outside() -> None:
        Path(root, "cgroup.procs").write_text(str(os.getpid()))
        with socket.create_connection(server.getsockname()):
            pass

    steps = {
        "gpu": gpu,
        "listen": listen,
        "datagrams": datagrams,
        "local": lambda: connects_locally("/nobody/docker.sock"),
        "signal": lambda: os.kill(int(pid), int(number)),
        "io_uring": lambda: io_uring(0),
        "worker": lambda: io_uring(BY_WORKER),
        "scan": scan,
        "outside": outside,
    }
    ready = threading.Barrier(len(steps) + 1)
    turn = {word: threading.Event() for word in steps}

    def work(word: str) -> None:
        ready.wait()
        turn[word].wait()
        with tracer.span(tool=word):
            steps[word]()

    with tracer.span(tool="main"):
        every = {word: threading.Thread(target=work, args=(word,)) for word in steps}
        for thread in every.values():
            thread.start()
        ready.wait()
        for word in list(steps)[:-1]:
            turn[word].set()
            every[word].join()
        with socket.create_connection(doors[0].getsockname()) as near, doors[0].accept()[0] as far:
            near.sendall(b"knock")
            far.recv(5)
        turn["outside"].set()
        every["outside"].join()


def traced(trace: str) -> None:
    """With TRACEPARENT in a large environment, and with what only looks like it."""
    many = {f"VARIABLE_{n}": "x" * (n % 7 * 100) for n in range(60)}
    subprocess.run(["/bin/true", "traced"], env={**many, "TRACEPARENT": trace, "Z": "z"}, check=True)
    subprocess.run(
        ["/bin/true", "not"], env={"NOT": f"x TRACEPARENT={trace}", "L": "TRACEPARENT=" * 60}, check=True
    )
    subprocess.run(["/bin/true", "none"], env={}, check=True)
    subprocess.run(["/bin/true", "long"], env={f"V{n}": "x" * 2000 for n in range(100)}, check=True)


def all_in_one(trace: str) -> None:
    forged()
    others()
    traced(trace)


def storm(count: str) -> None:
    """So many spans, one in the other, of which none ends."""
    for number in range(1, int(count) + 1):
        assert call(BEGIN, number, number - 1, text=b"x" * 600) == 0


def leaves_nothing(path: str) -> None:
    """Threads and processes that have been in spans, and are gone; what they were is written to a file."""
    gone: list[int] = []
    with tracer.span(tool="x"):
        for _ in range(10):
            process = subprocess.Popen(["/bin/true", "x"])
            gone.append(process.pid)
            process.wait()
            thread = threading.Thread(target=lambda: gone.append(threading.get_native_id()))
            thread.start()
            thread.join()
        with open(path + ".new", "w") as file:
            file.write(" ".join(map(str, gone)))
        os.rename(path + ".new", path)
        while os.path.exists(path):
            time.sleep(0.01)


if __name__ == "__main__":
    ctypes.CDLL(None)
    globals()[sys.argv[1]](*sys.argv[2:])
