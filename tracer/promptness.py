# SPDX-License-Identifier: Apache-2.0
"""Make the reader run as soon as it is woken, without taking the machine from anybody."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import struct
import threading
from contextlib import suppress

_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
#: struct sched_attr, first version (include/uapi/linux/sched/types.h)
_SCHED_ATTR = struct.Struct("<IIQiIQQQ")
_SCHED_OTHER = 0
_NICE = -10
_PATIENT_NICE = 10
_SLICE_NS = 100_000


def _schedule(nice: int, slice_ns: int) -> None:
    """Set niceness and time slice of the calling thread; 0 is the kernel's own slice. A refusal is ignored."""
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, _SCHED_OTHER, 0, nice, 0, slice_ns, 0, 0)
    if number is None or ctypes.CDLL(None).syscall(number, 0, attributes, 0):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def schedule_promptly() -> None:
    """Ask for a short time slice: since Linux 6.12 that is how a woken task gets the CPU at once.

    Without it the reader is woken on the CPU of the very program that it should tell about, and waits
    until that one has used up its slice or exits. A real-time class would do as well, but a storm of
    events would then take a core from the job. Older kernels ignore the slice and preempt on wake-up
    by niceness. A refusal costs promptness only.
    """
    _schedule(_NICE, _SLICE_NS)


def schedule_patiently() -> None:
    """Let everybody else go first: for a thread, which has inherited the promptness of who started it."""
    _schedule(_PATIENT_NICE, 0)


def settle_memory() -> None:
    """Put everything made so far out of the garbage collector's sight: it lives until the watch ends."""
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """It has ended: whoever begins another one in this process has what it held collected then."""
    gc.unfreeze()
