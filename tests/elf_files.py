# SPDX-License-Identifier: Apache-2.0
"""Files for the examination of files: ELF files byte by byte, and descriptors without names."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tracer.triage.bounded import Limits
from tracer.triage.elf import ElfFacts, read_elf
from tracer.triage.names import FILE_FACTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATIENT = Limits(seconds=600)
NAMES = {name for name, _ in FILE_FACTS}
#: What Go's linker writes into a program, with the marks around it.
MODULES = (
    b"0w\xaf\x0c\x92t\x08\x02A\xe1\xc1\x07\xe6\xd6\x18\xe6path\texample.org/a/cmd/a\nmod\texample.org/a\tv1.2.3\th1:x=\n"
    b"dep\texample.org/b\tv0.1.0\th1:y=\nbuild\tCGO_ENABLED=0\n\xf92C1\x86\x18 r\x00\x82B\x10A\x16\xd8\xf2"
)

BASE = 0x400000
LOAD, DYNAMIC, INTERP = 1, 2, 3
R, W, X = 4, 2, 1


@contextmanager
def file_of(data: bytes, *, size: int | None = None) -> Iterator[int]:
    """A descriptor of a file in memory; ``size`` makes it longer than its data, by a hole."""
    fd = os.memfd_create("test")
    try:
        os.write(fd, data)
        if size is not None:
            os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)


def facts_of(data: bytes, limits: Limits = PATIENT) -> ElfFacts:
    """What is found out about a file of these bytes."""
    with file_of(data) as fd:
        found = read_elf(fd, limits=limits)
    assert found.facts <= NAMES
    return found


def section_table(sections: Sequence[tuple[str, int, bytes, int]], start: int) -> tuple[bytes, bytes]:
    """The sections' contents, to stand at ``start``, and the table that follows them.

    Each section: name, type, content, and the number of the section that it refers to.
    """
    names = b"\0"
    body = b""
    rows = [bytes(64)]
    for name, kind, content, link in [*sections, (".shstrtab", 3, b"", 0)]:
        at = len(names)
        names += name.encode() + b"\0"
        data = names if name == ".shstrtab" else content
        body += bytes(-len(body) % 16)
        rows.append(struct.pack("<IIQQQQIIQQ", at, kind, 2, 0, start + len(body), len(data), link, 0, 16, 0))
        body += data
    body += bytes(-len(body) % 16)
    return body, b"".join(rows)


def elf_file(
    sections: Sequence[tuple[str, int, bytes, int]] = (),
    segments: Sequence[tuple[int, int, bytes]] = (),
    *,
    entry: int | None = None,
    kind: int = 2,
    machine: int = 62,
    headers: bool = True,
) -> bytes:
    """An executable for x86-64. Each segment: type, flags, content; loaded where it lies, after ``BASE``."""
    contents = [bytes(16), *(content for _, _, content in segments)] if segments else [b""]
    at = 64 + 56 * len(segments)
    table = b""
    body = b""
    for (type_, flags, content), _ in zip(segments, contents[1:], strict=True):
        body += bytes(-(at + len(body)) % 16)
        offset = at + len(body)
        table += struct.pack(
            "<IIQQQQQQ", type_, flags, offset, BASE + offset, BASE + offset, len(content), len(content), 16
        )
        body += content
    body += bytes(-(at + len(body)) % 16)
    start = at + len(body)
    data, rows = section_table(sections, start) if headers else (b"", b"")
    count = len(rows) // 64
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        BASE + at if entry is None else entry,
        64 if segments else 0,
        start + len(data) if headers else 0,
        0,
        64,
        56,
        len(segments),
        64 if count else 0,
        count,
        max(0, count - 1),
    )
    return head + table + body + data + rows


def symbol(name: int, section: int) -> bytes:
    """A symbol, defined in ``section`` (0: imported)."""
    return struct.pack("<IBBHQQ", name, 0x12, 0, section, 0, 0)


def fatbin(*entries: tuple[int, int, bytes]) -> bytes:
    """A container of GPU code. Each entry: kind (1 PTX, 2 machine code), flags, code."""
    body = b""
    for kind, flags, code in entries:
        padded = code + bytes(-len(code) % 8)
        body += struct.pack(
            "<HHIQIIHHIIIQQQ", kind, 0x101, 64, len(padded), 0, 0, 0, 9, 90, 0, 0, flags, 0, 0
        )
        body += padded
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def cubin(*kernels: str) -> bytes:
    """Machine code for a GPU, as far as its kernels have names."""
    return elf_file([(f".text.{name}", 1, b"\0" * 16, 0) for name in kernels], kind=2, machine=190)


def compiled(folder: Path, source: str, *options: str) -> Path:
    """A program made from C by the host's compiler; skips where there is none."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    code, program = folder / "program.c", folder / "program"
    code.write_text(source)
    made = subprocess.run([compiler, "-o", program, code, *options], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"the compiler can't: {made.stderr[-200:]!r}")
    return program
