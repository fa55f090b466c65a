# SPDX-License-Identifier: Apache-2.0
"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
#: The same number on every architecture (include/uapi/asm-generic/unistd.h).
_PIDFD_GETFD = 438


def pidfd_getfd(pidfd: int, number: int) -> int:
    """A descriptor of our own for descriptor ``number`` of the process behind ``pidfd``. Raises OSError."""
    found = _libc.syscall(
        ctypes.c_long(_PIDFD_GETFD), ctypes.c_int(pidfd), ctypes.c_int(number), ctypes.c_uint(0)
    )
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found)


def disconnect_socket(fd: int) -> bool:
    """connect(2) to AF_UNSPEC, which Python's sockets can't say; false if the socket has no connection."""
    nowhere = ctypes.create_string_buffer(16)
    return int(_libc.connect(ctypes.c_int(fd), nowhere, ctypes.c_uint32(len(nowhere)))) == 0
