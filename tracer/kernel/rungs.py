# SPDX-License-Identifier: Apache-2.0
"""Of several ways to see the same, the best that this kernel has: found out by trying."""

from __future__ import annotations

import functools
from typing import NamedTuple

from tracer.kernel.probes import refuses, sections, usable


class Rung(NamedTuple):
    """One way: what it is called, and its programs; the second one is not everywhere, nor needed there."""

    name: str
    programs: tuple[str, ...]


#: To see GPU ioctls, the best first. The last one costs every system call of the host.
GPU_RUNGS = (
    Rung("BPF LSM", ("on_ioctl_lsm", "on_ioctl_lsm_compat")),
    Rung("fentry", ("on_ioctl_fentry", "on_ioctl_fentry_compat")),
    Rung("kprobe", ("on_ioctl_kprobe", "on_ioctl_kprobe_compat")),
    Rung("every system call", ("on_sys_enter",)),
)


@functools.cache
def complaint_about(rung: Rung) -> str | None:
    """Why this way to see GPU ioctls is not there; None if it is."""
    if rung.programs[0] not in sections():
        return "its programs need a kernel that describes its types (BTF)"
    if rung.programs[0].startswith("on_ioctl_lsm") and not refuses():
        return "no BPF LSM"
    return usable(rung.programs[:1], attached=True)[rung.programs[0]]


@functools.cache
def gpu_rung() -> Rung:
    """The best way to see GPU ioctls that this kernel has, with those of its programs that it takes."""
    best = next((rung for rung in GPU_RUNGS[:-1] if complaint_about(rung) is None), GPU_RUNGS[-1])
    tried = usable(best.programs[1:], attached=True)
    return Rung(best.name, tuple(name for name in best.programs if tried.get(name) is None))
