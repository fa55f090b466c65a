# SPDX-License-Identifier: Apache-2.0
"""Which executables have been seen: each new one is handed out once, to be looked into.

A file is known by device, inode, time of change and size, mixed into one number. Two files that mix to
the same number are one in 10^19; when the table is full it starts afresh, and files are looked into
again, which whoever does that finds in his cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.jit import inline, njit

#: Executables that wait to be fetched by Python, at most.
WAITING = 1024
# Columns of Files.waiting
W_PID, W_START, W_DEVICE, W_INODE, W_TIME, W_PATH = range(6)
#: Of a file's path, so much is kept: a longer one is not, since a part of it leads elsewhere.
PATH_MAX = 512
# Places in Files.state
X_WAITING, X_KNOWN, X_LOST = range(3)


class Files(NamedTuple):
    """``known`` int64[2**k]: mixed identities, 0 is free; ``waiting`` int64[WAITING, 6]; ``paths``
    uint8[WAITING, PATH_MAX]: where they are, for processes that have ended before Python comes to them;
    ``state`` int64[3]: how many wait, how many are known, how many were lost because too many waited.
    """

    known: npt.NDArray[np.int64]
    waiting: npt.NDArray[np.int64]
    paths: npt.NDArray[np.uint8]
    state: npt.NDArray[np.int64]


def make_files(capacity: int = 1 << 15) -> Files:
    """None seen yet; ``capacity`` is a power of two."""
    return Files(
        np.zeros(capacity, np.int64),
        np.zeros((WAITING, W_PATH + 1), np.int64),
        np.zeros((WAITING, PATH_MAX), np.uint8),
        np.zeros(3, np.int64),
    )


@inline
def _mix(value: int) -> int:
    value = (value ^ (value >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    value = (value ^ (value >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return value ^ (value >> 31 & 0x1FFFFFFFF)


@njit
def note_file(
    f: Files,
    pid: int,
    start: int,
    device: int,
    inode: int,
    changed: int,
    size: int,
    now: int,
    data: npt.NDArray[np.uint8],
    lo: int,
    hi: int,
) -> None:
    """A process has executed the file at path data[lo:hi] at ``now``: hand it out if it is a new one."""
    key = _mix(_mix(_mix(device ^ inode << 20) ^ changed) ^ size) | 1
    mask = len(f.known) - 1
    at = key & mask
    while f.known[at] != 0:
        if f.known[at] == key:
            return
        at = (at + 1) & mask
    if f.state[X_WAITING] == len(f.waiting):
        f.state[X_LOST] += 1
        return
    if f.state[X_KNOWN] >= len(f.known) // 2:
        f.known[:] = 0
        f.state[X_KNOWN] = 0
        at = key & mask
    f.known[at] = key
    f.state[X_KNOWN] += 1
    row = f.state[X_WAITING]
    f.waiting[row, W_PID] = pid
    f.waiting[row, W_START] = start
    f.waiting[row, W_DEVICE] = device
    f.waiting[row, W_INODE] = inode
    f.waiting[row, W_TIME] = now
    f.waiting[row, W_PATH] = 0
    if hi - lo <= PATH_MAX:
        f.waiting[row, W_PATH] = hi - lo
        for i in range(hi - lo):
            f.paths[row, i] = data[lo + i]
    f.state[X_WAITING] = row + 1
