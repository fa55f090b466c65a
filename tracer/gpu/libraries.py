# SPDX-License-Identifier: Apache-2.0
"""Which driver libraries the clients of a GPU have mapped, as records for the engine.

A client is looked at when it begins to compute: by then the library that makes the calls is there. Names of files are
the tree's own word, and a table of mappings can be as long as the tree likes: so much of it is read and no more, and
looking takes no more than a share of our time.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tracer import clock
from tracer.duties import Duty
from tracer.kernel import cgroup, schema

if TYPE_CHECKING:
    from tracer.engine.engine import Engine

#: Of /proc/PID/maps; ten thousand mappings, about.
READ_MAX = 1 << 20
_CHUNK = 1 << 16
#: Of our time.
SHARE = 0.05
#: That wait; more are counted by the engine, which hands out no more than this at once.
WAITING_MAX = 64

_BITS = schema.GPU_LIBRARY
#: What the names of files begin with.
NAMES: dict[bytes, int] = {
    b"libcuda.so": _BITS["GPU_LIB_CUDA"],
    b"libnvidia-opencl.so": _BITS["GPU_LIB_OPENCL"],
    b"libOpenCL.so": _BITS["GPU_LIB_OPENCL"],
    b"libvulkan.so": _BITS["GPU_LIB_VULKAN"],
    b"libGLX_nvidia.so": _BITS["GPU_LIB_VULKAN"],
    b"libEGL_nvidia.so": _BITS["GPU_LIB_VULKAN"],
    b"libnvidia-glcore.so": _BITS["GPU_LIB_VULKAN"],
    b"libnvidia-eglcore.so": _BITS["GPU_LIB_VULKAN"],
    b"libnvidia-ml.so": _BITS["GPU_LIB_NVML"],
    b"libnvidia-encode.so": _BITS["GPU_LIB_VIDEO"],
    b"libnvcuvid.so": _BITS["GPU_LIB_VIDEO"],
    b"libhsa-runtime64.so": _BITS["GPU_LIB_ROCM"],
    b"libamdhip64.so": _BITS["GPU_LIB_ROCM"],
}
_NS_A_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def libraries_in(maps: bytes) -> int:
    """Bits of enum gpu_library for what /proc/PID/maps says."""
    found = 0
    for name, bit in NAMES.items():
        if b"/" + name in maps:
            found |= bit
    return found


def libraries_of(pid: int, start_ns: int) -> int | None:
    """The same for a process; None if it is no more, or may not be looked at."""
    try:
        fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts, size = [], 0
        while size < READ_MAX and (chunk := os.read(fd, _CHUNK)):
            parts.append(chunk)
            size += len(chunk)
    except OSError:
        return None
    finally:
        os.close(fd)
    ticks = cgroup.process_start_ticks(pid)
    if ticks is None or ticks != start_ns // _NS_A_TICK:
        return None  # the number is somebody else's by now
    return libraries_in(b"".join(parts)) | (_BITS["GPU_LIB_CUT"] if size >= READ_MAX else 0)


class GpuClients(Duty):
    """Looks at those that ``engine`` asks about."""

    name = "gpu-clients"
    follows = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[tuple[int, int]] = deque()
        self._next = 0.0
        self._missed = 0

    def lost(self) -> Counter[str]:
        """Clients that had ended, or could not be looked at, or had no room to wait."""
        return Counter({"gone-unseen": self._missed})

    def take(self) -> list[bytes]:
        """GPU_LIBRARIES records of those that can be looked at within our share of the time."""
        return self._look_at(lambda: time.monotonic() >= self._next)

    def settle(self) -> list[bytes]:
        """The same, of all."""
        return self._look_at(lambda: True)

    def _look_at(self, there_is_time: Callable[[], bool]) -> list[bytes]:
        for asked in self._engine.take_gpu_clients():
            if len(self._waiting) < WAITING_MAX:
                self._waiting.append(asked)
            else:
                self._missed += 1
        found = []
        while self._waiting and there_is_time():
            began = time.monotonic()
            pid, start_ns = self._waiting.popleft()
            bits = libraries_of(pid, start_ns)
            if bits is None:
                self._missed += 1
            else:
                found.append(_record(pid, start_ns, bits))
            ended = time.monotonic()
            self._next = ended + (ended - began) / SHARE
        return found


def _record(pid: int, start_ns: int, bits: int) -> bytes:
    row = np.zeros(1, schema.GPU_LIBRARIES)
    row["ts"], row["start"], row["tgid"], row["tid"] = clock.boottime_ns(), start_ns, pid, pid
    row["size"], row["kind"] = row.itemsize, schema.KIND["EVENT_GPU_LIBRARIES"]
    row["libraries"] = bits
    return row.tobytes()
