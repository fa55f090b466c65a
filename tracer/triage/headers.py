# SPDX-License-Identifier: Apache-2.0
"""The headers of an ELF file as NumPy tables.

Whole tables at once, so that a file with sixty thousand sections costs as much as one with six: an object
per entry would hold the interpreter, and with it the drain loop, for as long as the file's author likes.
Format: elf(5), <elf.h>.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tracer.triage.bounded import Reader

Table = NDArray[np.void]

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
PF_X, PF_W = 1, 2
SHT_SYMTAB, SHT_NOBITS, SHT_DYNSYM = 2, 8, 11
ET_EXEC, ET_DYN = 2, 3
EM_CUDA = 190

#: e_machine → as ``uname -m`` says it
MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390", 40: "arm", 62: "x86_64",
    183: "aarch64", EM_CUDA: "cuda", 224: "amdgpu", 243: "riscv", 258: "loongarch64",
}  # fmt: skip

_HEADER = [
    ("type", "u2"), ("machine", "u2"), ("version", "u4"), ("entry", "w"), ("phoff", "w"), ("shoff", "w"),
    ("flags", "u4"), ("ehsize", "u2"), ("phentsize", "u2"), ("phnum", "u2"), ("shentsize", "u2"),
    ("shnum", "u2"), ("shstrndx", "u2"),
]  # fmt: skip
_SEGMENT = {
    32: [("type", "u4"), ("offset", "u4"), ("vaddr", "u4"), ("paddr", "u4"), ("filesz", "u4"),
         ("memsz", "u4"), ("flags", "u4"), ("align", "u4")],
    64: [("type", "u4"), ("flags", "u4"), ("offset", "u8"), ("vaddr", "u8"), ("paddr", "u8"),
         ("filesz", "u8"), ("memsz", "u8"), ("align", "u8")],
}  # fmt: skip
_SECTION = [
    ("name", "u4"), ("type", "u4"), ("flags", "w"), ("addr", "w"), ("offset", "w"), ("size", "w"),
    ("link", "u4"), ("info", "u4"), ("addralign", "w"), ("entsize", "w"),
]  # fmt: skip
_SYMBOL = {
    32: [("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1"), ("other", "u1"), ("shndx", "u2")],
    64: [("name", "u4"), ("info", "u1"), ("other", "u1"), ("shndx", "u2"), ("value", "u8"), ("size", "u8")],
}
_DYNAMIC = [("tag", "w"), ("value", "w")]


def _dtype(fields: list[tuple[str, str]], bits: int, order: str) -> np.dtype[np.void]:
    wide = f"u{bits // 8}"
    return np.dtype([(name, order + (wide if kind == "w" else kind)) for name, kind in fields])


@dataclass(slots=True)
class Headers:
    """What the headers of one ELF file say, as far as it could be read."""

    bits: int
    order: Literal["<", ">"]
    #: where in the file the ELF file begins: GPU code is an ELF file within another one
    base: int
    size: int
    type: int
    machine: int
    entry: int
    segments: Table
    sections: Table
    #: by section
    names: list[str]
    #: the file says that it has section headers
    has_sections: bool

    def section(self, name: str) -> Any | None:
        """The first section of that name."""
        return self.sections[self.names.index(name)] if name in self.names else None

    def loaded(self) -> Table:
        """The segments that the kernel maps."""
        return self.segments[self.segments["type"] == PT_LOAD]

    def offset_of(self, address: int) -> int | None:
        """Where in the file the byte is that is loaded at ``address``."""
        for segment in self.loaded():
            start = int(segment["vaddr"])
            if start <= address < start + int(segment["filesz"]):
                return self.base + int(segment["offset"]) + address - start
        return None

    def symbols(self, data: bytes) -> Table:
        """``data`` as entries of a symbol table."""
        return _entries(data, _dtype(_SYMBOL[self.bits], self.bits, self.order))

    def dynamic(self, data: bytes) -> Table:
        """``data`` as entries of the dynamic section."""
        return _entries(data, _dtype(_DYNAMIC, self.bits, self.order))


def _entries(data: bytes, kind: np.dtype[np.void]) -> Table:
    return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], dtype=kind)


def string_at(strings: bytes, at: int, limit: int = 4096) -> bytes:
    """The NUL-terminated string at ``at``; empty if that is outside."""
    if not 0 <= at < len(strings):
        return b""
    end = strings.find(b"\0", at, at + limit)
    return strings[at : end if end >= 0 else at + limit]


def read_headers(file: Reader, base: int = 0, size: int | None = None) -> Headers | None:
    """The headers of the ELF file at ``base``; None if there is none that can be made sense of."""
    size = file.size - base if size is None else size
    head = file.read(base, 64)
    if len(head) < 20 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    bits, order = 32 * head[4], "<" if head[5] == 1 else ">"
    kind = _dtype(_HEADER, bits, order)
    if len(head) < 16 + kind.itemsize:
        file.problem("the ELF header is cut off")
        head = head.ljust(64, b"\0")
    header = np.frombuffer(head, dtype=kind, count=1, offset=16)[0]
    number = {name: int(header[name]) for name in kind.names or ()}

    found = Headers(
        bits=bits,
        order="<" if order == "<" else ">",
        base=base,
        size=size,
        type=number["type"],
        machine=number["machine"],
        entry=number["entry"],
        segments=np.empty(0, _dtype(_SEGMENT[bits], bits, order)),
        sections=np.empty(0, _dtype(_SECTION, bits, order)),
        names=[],
        has_sections=number["shoff"] != 0,
    )
    if number["phnum"]:
        found.segments = _table(
            file,
            found,
            number["phoff"],
            number["phnum"],
            number["phentsize"],
            found.segments.dtype,
            "program",
        )
    if number["shoff"]:
        _read_sections(file, found, number)
    return found


def _table(
    file: Reader, elf: Headers, at: int, count: int, step: int, kind: np.dtype[np.void], what: str
) -> Table:
    limit = file.limits.segments if what == "program" else file.limits.sections
    if step != kind.itemsize:
        file.problem(f"{what} headers of {step} bytes each")
        return np.empty(0, kind)
    if count > limit:
        file.left_out(f"{count} {what} headers, only the first {limit} were read")
        count = limit
    if at + count * step > elf.size:
        file.problem(f"{what} headers: end beyond the end of the file")
        count = max(0, (elf.size - at) // step)
    return _entries(file.read(elf.base + at, count * step), kind)


def _read_sections(file: Reader, elf: Headers, number: dict[str, int]) -> None:
    kind = elf.sections.dtype
    count, names_at = number["shnum"], number["shstrndx"]
    if count == 0 or names_at == 0xFFFF:  # too many to say so in the header: the first entry does
        first = _table(file, elf, number["shoff"], 1, number["shentsize"], kind, "section")
        if first.size:
            count = count or int(first[0]["size"])
            names_at = int(first[0]["link"]) if names_at == 0xFFFF else names_at
    elf.sections = _table(file, elf, number["shoff"], count, number["shentsize"], kind, "section")
    strings = b""
    if 0 < names_at < elf.sections.size:
        row = elf.sections[names_at]
        strings = file.table(elf.base + int(row["offset"]), int(row["size"]), "section names")
    elif elf.sections.size:
        file.problem("the sections' names are missing")
    # a name is cut at 256 bytes: a megabyte of name per section would be another way to keep us busy
    elf.names = [string_at(strings, at, 256).decode("latin-1") for at in elf.sections["name"].tolist()]
