# SPDX-License-Identifier: Apache-2.0
"""Do types that the running kernel has not told itself fit it? A program reads this very process by them.

Where they are another kernel's, every field would be read at a wrong place, and nothing would say so.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from pathlib import Path

from tracer.errors import HostError, LoadError
from tracer.kernel import libbpf, loader
from tracer.kernel.trial import opened

_PROGRAM = "look_at_self"
#: struct known of probes/fit.bpf.c: arg_start, null_fd, socket_fd, port.
_KNOWN = struct.Struct("<QIIII")
#: What its bits stand for.
_PARTS = ("tasks", "credentials", "cgroups", "memory", "files", "sockets")
#: arg_start in /proc/PID/stat (proc_pid_stat(5)), counted from behind the command's name.
_ARG_START = 48 - 3


def _misfits() -> list[str]:
    """What these types do not say as it is here. Raises LoadError."""
    stat = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with opened() as probes, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as known:
            known.bind(("", 0))
            probes.select({_PROGRAM})
            probes.load()
            values = _KNOWN.pack(int(stat[_ARG_START]), null, known.fileno(), known.getsockname()[1], 0)
            probes.map("known").update(bytes(4), values)
            found = libbpf.run_once(probes.program_fd(_PROGRAM))
    finally:
        os.close(null)
    return [name for bit, name in enumerate(_PARTS) if found >> bit & 1]


@functools.cache
def _complaint_about(types: Path) -> str | None:
    try:
        misfits = _misfits()
    except LoadError as error:
        return error.message
    return f"by it {', '.join(misfits)} lie elsewhere" if misfits else None


def require() -> None:
    """Raise HostError if the loader of this process goes by types of another kernel than the one that runs."""
    types = loader.taken().types
    if types is None:
        return
    if complaint := _complaint_about(types):
        raise HostError(
            f"{types} does not describe this kernel ({os.uname().release}): {complaint}",
            hint="each build of a kernel has its own: the same distribution, release and architecture",
        )
