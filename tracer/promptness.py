# SPDX-License-Identifier: Apache-2.0
"""Make the reader run as soon as it is woken, without taking the machine from anybody."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import struct
from contextlib import suppress

_SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
#: struct sched_attr, first version (include/uapi/linux/sched/types.h)
_SCHED_ATTR = struct.Struct("<IIQiIQQQ")
_SCHED_OTHER = 0
_NICE = -10
_SLICE_NS = 100_000


def schedule_promptly() -> None:
    """Ask for a short time slice: since Linux 6.12 that is how a woken task gets the CPU at once.

    Without it the reader is woken on the CPU of the very program that it should tell about, and waits
    until that one has used up its slice or exits. A real-time class would do as well, but a storm of
    events would then take a core from the job. Older kernels ignore the slice and preempt on wake-up
    by niceness. A refusal costs promptness only.
    """
    number = _SYS_SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, _SCHED_OTHER, 0, _NICE, 0, _SLICE_NS, 0, 0)
    if ctypes.CDLL(None).syscall(number, 0, attributes, 0):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def settle_memory() -> None:
    """Put everything made so far out of the garbage collector's sight: it lives until the end."""
    gc.collect()
    gc.freeze()
