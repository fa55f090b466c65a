# SPDX-License-Identifier: Apache-2.0
"""fanotify(7) through the C library: a group, folders in it, what happens in them.

Names come with the folder's handle (FAN_REPORT_DFID_NAME, Linux 5.9), and no file is opened for us.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
# include/uapi/linux/fanotify.h
_CLOEXEC, _NONBLOCK = 0x1, 0x2
_REPORT_DIR_FID, _REPORT_NAME = 0x400, 0x800
_MARK_ADD = 0x1
CLOSE_WRITE, MOVED_TO, CREATE = 0x8, 0x80, 0x100
Q_OVERFLOW = 0x4000
ONDIR, _ON_CHILD = 0x40000000, 0x08000000
_WANTED = CLOSE_WRITE | MOVED_TO | CREATE | ONDIR | _ON_CHILD
_INFO_DFID_NAME = 2
_METADATA = struct.Struct("<IBBHQii")  # struct fanotify_event_metadata
_INFO = struct.Struct("<BBHQIi")  # info header, fsid, and the head of struct file_handle
_AT_EMPTY_PATH = 0x1000
_HANDLE_MAX = 128

#: Names a folder wherever it is: file system, kind of handle, handle.
Handle = tuple[int, int, bytes]


class Change(NamedTuple):
    """What somebody did. ``folder`` None: some changes were lost, the queue was full."""

    mask: int
    pid: int
    folder: Handle | None
    name: str


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def new_group() -> int:
    """A descriptor from which changes are read. Raises OSError."""
    flags = _CLOEXEC | _NONBLOCK | _REPORT_DIR_FID | _REPORT_NAME
    return _checked(_libc.fanotify_init(flags, os.O_RDONLY), "fanotify_init")


def watch(group: int, folder: int) -> Handle:
    """Tell what happens in the folder that ``folder`` is open on; its handle. Raises OSError."""
    _checked(
        _libc.fanotify_mark(group, ctypes.c_uint(_MARK_ADD), ctypes.c_uint64(_WANTED), folder, None),
        "fanotify_mark",
    )
    buffer = ctypes.create_string_buffer(8 + _HANDLE_MAX)
    struct.pack_into("<I", buffer, 0, _HANDLE_MAX)
    mount = ctypes.c_int()
    _checked(
        _libc.name_to_handle_at(folder, b"", buffer, ctypes.byref(mount), _AT_EMPTY_PATH),
        "name_to_handle_at",
    )
    size, kind = struct.unpack_from("<Ii", buffer)
    return os.fstatvfs(folder).f_fsid & (1 << 64) - 1, kind, buffer.raw[8 : 8 + size]


def changes(data: bytes) -> Iterator[Change]:
    """What was read from a group, taken apart."""
    at = 0
    while at + _METADATA.size <= len(data):
        length, _, _, head, mask, _, pid = _METADATA.unpack_from(data, at)
        if length < _METADATA.size:
            return
        if mask & Q_OVERFLOW:
            yield Change(mask, 0, None, "")
        info, end = at + head, at + length
        while info + _INFO.size <= end:
            kind, _, size, file_system, handle, handle_kind = _INFO.unpack_from(data, info)
            if size < _INFO.size:
                break
            if kind == _INFO_DFID_NAME:
                name_at = info + _INFO.size + handle
                name = data[name_at : info + size].partition(b"\0")[0]
                folder = file_system, handle_kind, data[info + _INFO.size : name_at]
                yield Change(mask, pid, folder, os.fsdecode(name))
            info += size
        at += length
