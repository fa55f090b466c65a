# SPDX-License-Identifier: Apache-2.0
"""The types of a kernel that does not describe them (BTF): compiled by bcc from the kernel's headers.

bcc comes from the distribution (python3-bpfcc, python3-bcc), never from PyPI, where that name is another project's,
and lies where the distribution's own interpreter looks. It is in plain Python, so any interpreter can use it.
What it has compiled is kept: it takes clang seconds, and only another kernel or another version of us asks anew.

The probes themselves are not handed to it: its clang parses for the host's processor, where it knows nothing of the
attributes by which libbpf places fields (CO-RE), and no verifier would have seen what another version of it makes of
them. Types are all that differs between kernels.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tracer import jit
from tracer.errors import HostError

SOURCE = Path(__file__).with_name("kernel_types.c")
_CHILD = Path(__file__).with_name("bcc_child.py")
#: Where distributions put it.
FOLDERS = (
    "usr/lib/python3/dist-packages",
    "usr/lib/python3*/site-packages",
    "usr/lib64/python3*/site-packages",
)
MINIMUM = (0, 18)
#: What a project of the same name does not have.
_OURS = Path("bcc", "libbcc.py")
_VERSION = re.compile(r"""__version__ = ['"](\d+)\.(\d+)""")
_INSTALL = "apt-get install python3-bpfcc (Debian, Ubuntu), dnf install python3-bcc (Fedora, RHEL)"
_LINES_TOLD = 12
#: Kept for as long as we run where nothing can be kept for longer.
_unkept: list[tempfile.TemporaryDirectory[str]] = []


def _places() -> Iterator[Path]:
    for pattern in FOLDERS:
        yield from sorted(Path("/").glob(pattern), reverse=True)


def find() -> tuple[Path, tuple[int, int]]:
    """The folder that the distribution's bcc is imported from, and its version. Raises HostError."""
    for place in _places():
        if not (place / _OURS).exists():
            continue
        version = place / "bcc" / "version.py"
        match = _VERSION.search(version.read_text(encoding="utf-8")) if version.exists() else None
        found = (int(match[1]), int(match[2])) if match else (0, 0)
        if found < MINIMUM:
            raise HostError(
                f"bcc {found[0]}.{found[1]} in {place} is too old: {MINIMUM[0]}.{MINIMUM[1]} or later is needed"
            )
        return place, found
    raise HostError("the package bcc of this distribution is not installed", hint=_INSTALL)


def _folder() -> Path:
    if kept := jit.cache_directory():
        return kept
    _unkept.append(tempfile.TemporaryDirectory(prefix="vigiles-"))
    return Path(_unkept[-1].name)


def kernel_types() -> Path:
    """A file with the BTF of the running kernel's types, made now if it is not there yet. Raises HostError."""
    from elftools.elf.elffile import ELFFile

    place, version = find()
    kernel = os.uname()
    about = repr((kernel.release, kernel.version, kernel.machine, version, SOURCE.read_bytes()))
    folder = _folder()
    target = folder / f"types-{hashlib.blake2b(about.encode(), digest_size=8).hexdigest()}.btf"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix="types-") as work:
        made = Path(work, "types.o")
        _compile(place, made)
        with made.open("rb") as file:
            section = ELFFile(file).get_section_by_name(".BTF")
            if section is None:
                raise HostError("bcc has compiled the kernel's types, but not described them (no .BTF)")
            described = Path(work, "types.btf")
            described.write_bytes(section.data())
        described.replace(target)
    return target


def _compile(place: Path, made: Path) -> None:
    """Have bcc compile our source, in a process of its own."""
    command: list[str | Path] = [sys.executable, "-I", _CHILD, place, SOURCE, made]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = (done.stdout + done.stderr).strip().splitlines()
    headers = any("kernel headers" in line for line in said)
    raise HostError(
        f"bcc can't compile against the headers of this kernel ({os.uname().release})",
        hint=f"install them: apt-get install linux-headers-{os.uname().release} (Debian, Ubuntu), dnf install kernel-devel"
        if headers
        else None,
        detail="\n".join(said[-_LINES_TOLD:]),
    )
