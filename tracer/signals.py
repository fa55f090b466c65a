# SPDX-License-Identifier: Apache-2.0
"""Signals as something to wait for, with who sent them.

A Ctrl-C at the terminal reaches the traced command by itself (the kernel sends it to the whole
foreground group); one sent to the tracer alone must be passed on. Only siginfo tells the two apart,
and Python's handlers do not get it: hence signalfd(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from dataclasses import dataclass

_SIGNALFD_SIGINFO = struct.Struct("<IiiI112x")
_SI_KERNEL = 0x80
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK

#: Asks for the rule files to be read again. Not one of those that programs and schedulers send each other:
#: what comes to `vigiles run` is otherwise passed on to the command.
RELOAD = signal.SIGRTMIN
WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, RELOAD)


@dataclass(frozen=True, slots=True)
class Received:
    """A signal that came."""

    number: int
    from_terminal: bool


class SignalQueue:
    """Blocks WATCHED and hands them out through a descriptor. Make it after the command is forked."""

    def __init__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        libc = ctypes.CDLL(None, use_errno=True)
        mask = (ctypes.c_uint64 * 16)()
        mask[0] = sum(1 << (number - 1) for number in WATCHED)
        self.fd = libc.signalfd(-1, ctypes.byref(mask), _FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "signalfd")

    def take(self) -> list[Received]:
        """Signals that have come since the last call."""
        found: list[Received] = []
        while True:
            try:
                raw = os.read(self.fd, _SIGNALFD_SIGINFO.size)
            except BlockingIOError:
                return found
            number, _, code, _ = _SIGNALFD_SIGINFO.unpack(raw)
            found.append(Received(number, code == _SI_KERNEL))

    def close(self) -> None:
        """Let signals through again, but for those that are still queued."""
        self.take()
        os.close(self.fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
