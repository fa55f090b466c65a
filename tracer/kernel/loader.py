# SPDX-License-Identifier: Apache-2.0
"""How probes get into this kernel: by its own account of its types (BTF), or by that of its headers.

``libbpf``: the kernel describes its types, and the probes for such kernels are loaded. ``bcc``: it does not, so bcc
compiles them from the kernel's headers, and the probes that ask for nothing else are loaded by that. Both are the same
sources (probes/compat.bpf.h is all that differs), loaded by the same library. Imports no NumPy: asked before the fork.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import HostError
from tracer.kernel import host

NAMES = ("auto", "libbpf", "bcc")
_MACHINES = {"x86_64": "x86", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Loader:
    """The one that was taken, and ``why``; ``types``: a file of BTF to go by instead of the kernel's."""

    name: str  # libbpf | bcc
    why: str
    types: Path | None = None

    @property
    def path(self) -> Path:
        """The compiled probes that it loads."""
        return object_path("" if self.name == "libbpf" else "plain.")


def object_path(kind: str = "") -> Path:
    """The compiled probes for this machine; ``plain.`` are those for kernels without BTF."""
    machine = platform.machine()
    if machine not in _MACHINES:
        raise HostError(f"there are no probes for {machine}: x86_64 and aarch64 are supported")
    return Path(__file__).resolve().parent.parent / "_bpf" / f"vigiles.{_MACHINES[machine]}.{kind}bpf.o"


_taken: Loader | None = None


def choose(name: str = "auto") -> Loader:
    """Take a loader for all that follows: what is asked for, or the best there is. Raises HostError."""
    global _taken  # noqa: PLW0603 - one process, one kernel
    described = host.BTF_FILE.exists()
    if name == "libbpf" or (name == "auto" and described):
        host.require_btf()
        _taken = Loader("libbpf", "the kernel has BTF" if name == "auto" else "asked for")
        return _taken
    from tracer.kernel import bcc

    try:
        types = bcc.kernel_types()
    except HostError as error:
        if name == "bcc":
            raise
        lack = f"this kernel has no BTF ({host.BTF_FILE} is missing), and {error.message}"
        raise HostError(lack, hint=error.hint, detail=error.detail) from None
    why = "asked for" if name == "bcc" else "the kernel has no BTF"
    _taken = Loader("bcc", why, types)
    return _taken


def require(name: str = "auto") -> None:
    """Everything without which no watch can begin, the most helpful complaint first. Raises HostError."""
    host.require_privileges()
    choose(name)
    host.cgroup2_root()


def taken() -> Loader:
    """The loader of this process."""
    return _taken or choose()
