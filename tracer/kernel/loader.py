# SPDX-License-Identifier: Apache-2.0
"""How probes get into this kernel: by its own account of its types (BTF), or by somebody else's.

A kernel that describes its types takes the probes for such kernels, and libbpf goes by what it says. For one that does
not there are the plain ones, the same sources, which ask nothing of the kernel but that it runs BPF
(probes/compat.bpf.h is all that differs); where its fields are is told by a file of BTF (``--btf``), or by its headers,
which bcc compiles. All are loaded by the same library. Imports no NumPy: asked before the fork.
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
    def plain(self) -> bool:
        """Are the probes those that ask the kernel for no types?"""
        return self.types is not None

    @property
    def path(self) -> Path:
        """The compiled probes that it loads."""
        return object_path("plain." if self.plain else "")


def object_path(kind: str = "") -> Path:
    """The compiled probes for this machine; ``plain.`` are those for kernels without BTF."""
    machine = platform.machine()
    if machine not in _MACHINES:
        raise HostError(f"there are no probes for {machine}: x86_64 and aarch64 are supported")
    return Path(__file__).resolve().parent.parent / "_bpf" / f"vigiles.{_MACHINES[machine]}.{kind}bpf.o"


_taken: Loader | None = None


def choose(name: str = "auto", btf: Path | None = None) -> Loader:
    """Take a loader for all that follows: what is asked for, or the best there is. Raises HostError.

    ``btf``: describes the types of this kernel. If that does so itself, ``auto`` has no need of it.
    """
    global _taken  # noqa: PLW0603 - one process, one kernel
    _taken = _choose(name, btf)
    return _taken


def _choose(name: str, btf: Path | None) -> Loader:
    described = host.BTF_FILE.exists()
    if name == "bcc":
        if btf is not None:
            raise HostError(
                "--loader bcc compiles the kernel's types: it takes no --btf", hint="leave one of them out"
            )
        return Loader("bcc", "asked for", _compiled())
    if described and name == "auto":
        return Loader("libbpf", "the kernel has BTF" + (f": {btf} is not needed" if btf else ""))
    if btf is not None:
        why = "asked for" if described else "the kernel has no BTF"
        return Loader("libbpf", f"{why}, its types are taken from {btf}", _described(btf))
    if name == "libbpf":
        host.require_btf()
        return Loader("libbpf", "asked for")
    try:
        return Loader("bcc", "the kernel has no BTF", _compiled())
    except HostError as error:
        lack = f"this kernel has no BTF ({host.BTF_FILE} is missing), and {error.message}"
        hint = f"{error.hint or 'see --loader bcc'}; or --btf FILE, which has its types"
        raise HostError(lack, hint=hint, detail=error.detail) from None


def _compiled() -> Path:
    """A file of BTF that bcc has made."""
    from tracer.kernel import bcc

    return bcc.kernel_types()


def _described(btf: Path) -> Path:
    """The same file, if that is what it is."""
    from tracer.kernel import libbpf

    if not btf.is_file():
        raise HostError(f"--btf: there is no file {btf}")
    if not libbpf.describes_a_kernel(str(btf)):
        hint = f"unpack it if it is packed (.tar.xz); BTFHub has them by release: {platform.release()}"
        raise HostError(f"--btf: {btf} does not describe a kernel's types (BTF)", hint=hint)
    return btf.absolute()


def require(name: str = "auto", btf: Path | None = None) -> None:
    """Everything without which no watch can begin, the most helpful complaint first. Raises HostError."""
    host.require_privileges()
    choose(name, btf)
    host.cgroup2_root()


def taken() -> Loader:
    """The loader of this process."""
    return _taken or choose()
