# SPDX-License-Identifier: Apache-2.0
"""Code for NVIDIA GPUs inside a program: which kernels does it contain?

The compiler leaves it in sections of its own: containers of entries, each the code for one generation of
GPUs, either machine code (an ELF file) or PTX (text), either as it is or compressed (LZ4, later Zstandard:
neither is in Python's library, so these names stay unread). The host's half of the program names its
kernels, too, in order to register them: that is for the indicators, which see the whole file.

The format is not published; this is what nvcc of CUDA 13 and ``cuobjdump`` show.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracer.triage.headers import read_headers
from tracer.triage.work import is_work_kernel

if TYPE_CHECKING:
    from tracer.triage.bounded import Reader
    from tracer.triage.headers import Headers

#: ``.nvFatBinSegment`` only points to the others; a program of device code linked later has __nv_relfatbin.
CONTAINERS = (".nv_fatbin", "__nv_relfatbin")
SECTIONS = (*CONTAINERS, ".nvFatBinSegment")

_MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")
#: kind, version, size of this header, size of the code, its size before padding if compressed
_ENTRY = struct.Struct("<HHIQI")
_PTX, _CUBIN = 1, 2
_FLAGS_AT, _FLAGS = 40, struct.Struct("<Q")
_COMPRESSED = 0x2000 | 0x8000  # LZ4, Zstandard
_PTX_ENTRY = re.compile(rb"\.entry\s+([A-Za-z_$%][\w$]*)")
_PTX_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class GpuCode:
    """``unread``: how many entries are compressed."""

    kernels: tuple[bytes, ...]
    entries: int
    unread: int


def read_gpu_code(file: Reader, elf: Headers) -> GpuCode | None:
    """The GPU code; None if there is none."""
    if not any(name in elf.names for name in SECTIONS):
        return None
    kernels: dict[bytes, None] = {}
    entries = unread = 0
    for name in CONTAINERS:
        section = elf.section(name)
        if section is None:
            continue
        at = elf.base + int(section["offset"])
        end = min(at + int(section["size"]), file.size)
        while at < end and entries < file.limits.gpu_entries:
            head = file.read(at, _CONTAINER.size)
            if len(head) < _CONTAINER.size:
                break
            magic, _, header, size = _CONTAINER.unpack(head)
            if magic != _MAGIC:
                at += 8  # padding between containers
                if not any(head[:8]):
                    continue
                file.problem("GPU code of unknown form")
                break
            stop = min(at + header + size, end)
            at += max(header, _CONTAINER.size)
            while at < stop and entries < file.limits.gpu_entries:
                step, compressed = _entry(file, at, stop, kernels)
                if step == 0:
                    break
                entries += 1
                unread += compressed
                at += step
            at = max(at, stop)
    if entries >= file.limits.gpu_entries:
        file.left_out(f"more than {entries} pieces of GPU code")
        unread += 1
    # those that matter first: not all may be kept
    return GpuCode(tuple(sorted(kernels, key=is_work_kernel, reverse=True)), entries, unread)


def _entry(file: Reader, at: int, stop: int, kernels: dict[bytes, None]) -> tuple[int, bool]:
    """Add the kernels of one entry; its size (0: nonsense) and whether it is compressed."""
    head = file.read(at, 64)
    if len(head) < 64:
        return 0, False
    kind, _, header, size, _ = _ENTRY.unpack_from(head)
    (flags,) = _FLAGS.unpack_from(head, _FLAGS_AT)
    if header < 64 or size == 0 or at + header + size > stop:
        file.problem("GPU code: an entry that ends beyond its container")
        return 0, False
    if flags & _COMPRESSED:
        return header + size, True
    if kind == _CUBIN:
        names = _kernels_of_cubin(file, at + header, size)
    elif kind == _PTX:
        names = _PTX_ENTRY.findall(file.read(at + header, min(size, _PTX_MAX)))
    else:
        names = []
    for name in names[: file.limits.gpu_entries]:
        if len(kernels) < file.limits.gpu_entries:
            kernels[name] = None
    return header + size, False


def _kernels_of_cubin(file: Reader, at: int, size: int) -> list[bytes]:
    """Each kernel has a section of its own, named after it."""
    code = read_headers(file, at, size)
    if code is None:
        file.problem("GPU code: not an ELF file")
        return []
    return [name.removeprefix(".text.").encode("latin-1") for name in code.names if name.startswith(".text.")]
