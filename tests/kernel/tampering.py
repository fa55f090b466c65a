# SPDX-License-Identifier: Apache-2.0
"""Programs for tests of tampering: each does to its watch what it is told to. Runs by itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
import time

from workloads import BY_WORKER, _io_uring

_CLONE3 = 435
_TGKILL = 234 if os.uname().machine == "x86_64" else 131
_CLONE_INTO_CGROUP = 0x200000000


def taken(pid: int) -> None:
    """Wait until no signal is pending for a process: of two that are, the second is no more than the first."""
    for _ in range(6000):
        with open(f"/proc/{pid}/status") as file:
            pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
        if not any(pending):
            return
        time.sleep(0.01)
    sys.exit(f"process {pid} takes no signal")


def kill(pid: str, *signals: str) -> None:
    for name in signals:
        os.kill(int(pid), int(name))


def in_every_way(pid: str, number: str) -> None:
    """The same signal by each call that sends one to a process, and from a thread."""
    target, sent = int(pid), int(number)
    libc = ctypes.CDLL(None, use_errno=True)
    os.kill(target, sent)
    taken(target)
    libc.sigqueue(target, sent, ctypes.c_void_p(1))
    taken(target)
    assert libc.syscall(_TGKILL, target, target, sent) == 0
    taken(target)
    signal.pidfd_send_signal(os.pidfd_open(target), sent)
    taken(target)
    # have the kernel send it: the descriptor's owner is told when there is something to read
    near, far = os.pipe()
    fcntl.fcntl(near, fcntl.F_SETOWN, target)
    fcntl.fcntl(near, 10, sent)  # F_SETSIG
    fcntl.fcntl(near, fcntl.F_SETFL, fcntl.fcntl(near, fcntl.F_GETFL) | os.O_ASYNC)
    os.write(far, b"x")
    taken(target)
    os.close(far)  # the end is something to read, too


def group(leader: str, number: str) -> None:
    """To the process group of ``leader``, by its number, and from within as scripts do it."""
    os.killpg(int(leader), int(number))
    if int(number) == signal.SIGKILL:
        return
    taken(int(leader))
    os.setpgid(0, int(leader))
    signal.signal(int(number), signal.SIG_IGN)
    os.kill(0, int(number))


def harmless(pid: str) -> None:
    """What is said to a tracer without meaning any harm, or can't be said."""
    target = int(pid)
    os.kill(target, 0)
    os.kill(target, signal.SIGCHLD)
    os.kill(target, signal.SIGWINCH)  # nobody waits for it: ignored
    subprocess.run(["/bin/sh", "-c", "kill -TERM $$"], check=False)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            os.kill(target, signal.SIGTERM)
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def terminal(leader: str, pid: str) -> None:
    """Have a terminal send ^C to its foreground group, by asking for it and by typing it."""
    fcntl.ioctl(int(leader), 0x40045436, int(signal.SIGINT))  # TIOCSIG
    taken(int(pid))
    os.write(int(leader), b"\x03")


def move(pid: str, path: str) -> None:
    with open(f"{path}/cgroup.procs", "w") as file:
        file.write(pid)


def leave(*paths: str) -> None:
    """Move to each of these cgroups, one after the other."""
    for path in paths:
        move(str(os.getpid()), path)


def below(name: str, root: str) -> None:
    """Make a cgroup below one's own, as containers do, and go there and back."""
    with open("/proc/self/cgroup") as file:
        (own,) = [line.strip().partition("::")[2] for line in file if line.startswith("0::")]
    inner = f"{root}{own}/{name}"
    os.mkdir(inner)
    leave(inner, root + own)
    os.rmdir(inner)


def born_in(path: str) -> None:
    """A child that clone3(2) makes in another cgroup."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    arguments = ctypes.create_string_buffer(
        struct.pack("<11Q", _CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, fd)
    )
    child = libc.syscall(_CLONE3, arguments, 88)
    if child == 0:
        os._exit(0)
    if child < 0:
        sys.exit(f"clone3: {os.strerror(ctypes.get_errno())}")
    os.waitpid(child, 0)


def freeze(path: str) -> None:
    for word in ("1", "0"):
        with open(f"{path}/cgroup.freeze", "w") as file:
            file.write(word)


def wait(seconds: str) -> None:
    time.sleep(float(seconds))


# what only BPF LSM shows: each says on standard output what came of it, errno or 0

_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
_PERF = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}[os.uname().machine]
_PTRACE_SEIZE, _PTRACE_DETACH = 0x4206, 17
_MS_NODEV, _MNT_DETACH = 4, 2


def _told(code: int) -> None:
    print(ctypes.get_errno() if code < 0 else 0, flush=True)


def trace(pid: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    target = int(pid)
    _told(libc.ptrace(_PTRACE_SEIZE, target, None, None))
    libc.ptrace(_PTRACE_DETACH, target, None, None)
    byte = ctypes.create_string_buffer(1)
    there = struct.pack("<QQ", 0, 1)
    here = struct.pack("<QQ", ctypes.addressof(byte), 1)
    _told(libc.process_vm_readv(target, here, 1, there, 1, 0))
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
        print(0)
    except OSError as error:
        print(error.errno)
    with open(f"/proc/{pid}/maps") as file:  # no more than looking
        file.read()


def bpf(command: str, number: str) -> None:
    """Ask for what has this id; for BPF_OBJ_GET, it is a path that leads nowhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(struct.pack("<I", int(number)) + bytes(140))
    _told(libc.syscall(_BPF, int(command), attributes, 144))


def perf(times: str) -> None:
    """Count the processor's time of this process, as profilers do."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", 1, 64, 0) + bytes(48))
    for _ in range(int(times)):
        _told(libc.syscall(_PERF, attributes, 0, -1, -1, 0))


def mount(place: str, unshare: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if unshare and (libc.unshare(0x20000) or libc.mount(None, b"/", None, 0x44000, None)):  # private
        sys.exit("unshare")
    _told(libc.mount(b"none", place.encode(), b"tmpfs", _MS_NODEV, None))
    _told(libc.umount2(place.encode(), _MNT_DETACH))


def write(path: str) -> None:
    """Write to a file of the watch, rename and remove it."""
    for act in (
        lambda: os.close(os.open(path, os.O_WRONLY)),
        lambda: os.rename(path, path + "-old"),
        lambda: os.unlink(path),
        lambda: os.close(os.open(path, os.O_RDONLY)),
    ):
        try:
            act()
            print(0)
        except OSError as error:
            print(error.errno)


def write_by_worker(path: str) -> None:
    """Open a file of the watch to write to it, and have a worker of io_uring's do so."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    entry = struct.pack("<BBHiQQIIQ", 18, BY_WORKER, 0, -100, 0, ctypes.addressof(name), 0, os.O_WRONLY, 7)
    print(max(0, -_io_uring(entry)))


def module(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _told(libc.syscall(_FINIT_MODULE, os.open(path, os.O_RDONLY), b"", 0))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
