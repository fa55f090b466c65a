# SPDX-License-Identifier: Apache-2.0
"""What can be done to processes and their sockets from user space. Each raises OSError if it can't."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tracer.kernel.libc import disconnect_socket, pidfd_getfd

#: Of a process's descriptors, so many are looked at to find one socket.
#: A process that holds many is not to keep the watch from others: what is cut stays cut, reset or not.
_DESCRIPTORS_MAX = 4096
#: Of /proc's times, in ns.
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_SO_COOKIE = 57
#: How long a tree that is to end may take; a fork bomb is over in a few rounds.
KILL_PATIENCE_S = 1.0

#: A process as the kernel knows it: pid, start in ns of CLOCK_BOOTTIME.
Identity = tuple[int, int]


def start_ticks(pid: int) -> int | None:
    """When it started, in ticks since boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def open_process(identity: Identity) -> int:
    """A descriptor of just this process, never of another that got its number. ESRCH if it has ended."""
    pid, start_ns = identity
    fd = os.pidfd_open(pid)
    # It holds the number now. If it had held it for a shorter time, this would be another's start.
    if start_ticks(pid) != start_ns // TICK_NS:
        os.close(fd)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return fd


def send(identity: Identity, number: int) -> None:
    """Send a signal to just this process."""
    fd = open_process(identity)
    try:
        signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def kill(identity: Identity) -> None:
    """End it; ESRCH if it has ended."""
    send(identity, signal.SIGKILL)


def kill_all(tasks: Callable[[], Iterable[Identity]], cgroup: Path | None) -> int:
    """End every process that ``tasks`` lists, until it lists none; how many were met.

    Those in ``cgroup`` end at once, whatever they do. TimeoutError when some are left.
    """
    met = set(tasks())
    deadline = time.monotonic() + KILL_PATIENCE_S
    if cgroup is not None:
        with suppress(OSError):  # a kernel before 5.14 has no such file: then one by one
            (cgroup / "cgroup.kill").write_text("1")
    while True:
        living = list(tasks())
        if not living:
            return len(met)
        for identity in living:
            met.add(identity)
            with suppress(ProcessLookupError):
                kill(identity)
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"{len(living)} processes are left")
        time.sleep(0.0005)


def freeze(tasks: Callable[[], Iterable[Identity]], cgroup: Path | None, *, thaw: bool = False) -> None:
    """Stop a tree, or let it go on. Those outside ``cgroup``, or all without one, by signals."""
    inside: set[int] = set()
    if cgroup is not None:
        (cgroup / "cgroup.freeze").write_text("0" if thaw else "1")
        inside = {int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()}
    seen: set[Identity] = set()
    while fresh := {t for t in tasks() if t[0] not in inside} - seen:
        seen |= fresh
        for identity in fresh:
            with suppress(ProcessLookupError):
                send(identity, signal.SIGCONT if thaw else signal.SIGSTOP)


def shut_socket(identity: Identity, cookie: int) -> bool:
    """End one of a process's connections, so that neither side waits for it; false if not found.

    The descriptor is told by the socket's cookie, so one that was closed and used anew is left alone.
    """
    process = open_process(identity)
    try:
        with os.scandir(f"/proc/{identity[0]}/fd") as entries:
            for count, entry in enumerate(entries):
                if count >= _DESCRIPTORS_MAX:
                    break
                with suppress(OSError):
                    if not os.readlink(entry.path).startswith("socket:"):
                        continue
                    if _shut(process, int(entry.name), cookie):
                        return True
    finally:
        os.close(process)
    return False


def _shut(process: int, number: int, cookie: int) -> bool:
    with socket.socket(fileno=pidfd_getfd(process, number)) as taken:
        if taken.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        (found,) = struct.unpack("<Q", taken.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8))
        if found != cookie:
            return False
        if taken.type != socket.SOCK_STREAM:
            return True  # whoever sends a datagram is told by the call itself
        # tcp_disconnect() in net/ipv4/tcp.c sends a reset and leaves ECONNRESET to whoever waits. Linux
        # 6.5 and 6.6 refuse it while somebody does.
        if not disconnect_socket(taken.fileno()):
            with suppress(OSError):  # not connected any more
                taken.shutdown(socket.SHUT_RDWR)
        return True
