# SPDX-License-Identifier: Apache-2.0
"""Which functions a program defines or imports, out of those that say something; and what it links to.

The string table is searched for the names, then the symbols for the strings' places: no loop over symbols,
of which there may be a million.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tracer.detect.facts import WORDS
from tracer.rules.automaton import compile_groups
from tracer.rules.model import WHERE_NAME, Group
from tracer.triage.headers import PT_DYNAMIC, PT_INTERP, SHT_DYNSYM, SHT_NOBITS, SHT_SYMTAB, string_at
from tracer.triage.window import Walk, search, walk_of
from tracer.triage.work import FUNCTIONS

if TYPE_CHECKING:
    from tracer.triage.bounded import Reader
    from tracer.triage.headers import Headers, Table

_DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 1, 5, 10
_SLICE = 1 << 14

#: Imports that tell what a program is about to do.
IMPORTS: tuple[bytes, ...] = (
    b"cuLaunchKernel", b"cuModuleLoadData", b"cuModuleLoadDataEx", b"cudaLaunchKernel", b"nvrtcCompileProgram",
    b"clBuildProgram", b"clEnqueueNDRangeKernel", b"hipLaunchKernel", b"hipModuleLaunchKernel",
    b"memfd_create", b"fexecve", b"ptrace", b"process_vm_writev", b"forkpty", b"openpty",
)  # fmt: skip


class Found(NamedTuple):
    """``stripped``: there is no table of all symbols."""

    stripped: bool
    defined: tuple[bytes, ...]
    imported: tuple[bytes, ...]


def read_symbols(file: Reader, elf: Headers) -> Found:
    """Look for the names of interest in both symbol tables."""
    defined: dict[bytes, None] = {}
    imported: dict[bytes, None] = {}
    stripped = True
    entry = 24 if elf.bits == 64 else 16
    for wanted in (SHT_SYMTAB, SHT_DYNSYM):
        for row in elf.sections[elf.sections["type"] == wanted][:2]:
            size = min(int(row["size"]), file.limits.symbols * entry)
            link = int(row["link"])
            if not 0 < link < elf.sections.size:
                file.problem("a symbol table without strings")
                continue
            strings = elf.sections[link]
            if int(strings["type"]) == SHT_NOBITS or int(row["type"]) == SHT_NOBITS:
                continue
            text = file.table(elf.base + int(strings["offset"]), int(strings["size"]), "symbol names")
            places = _places(text)
            if wanted == SHT_SYMTAB and size:
                stripped = False
            if places:
                symbols = elf.symbols(file.table(elf.base + int(row["offset"]), size, "symbols"))
                _sort_out(symbols, places, defined, imported)
    return Found(stripped, tuple(defined), tuple(imported))


@cache
def _names() -> tuple[tuple[bytes, ...], Walk]:
    """The names of interest, and how to find them: each by itself, and as the end of another string."""
    names = (*FUNCTIONS, *IMPORTS)
    whole = tuple(name.decode() for name in names)
    ends = tuple(f"{name}\0" for name in whole)
    groups = [
        Group("whole", ("name",), "whole", True, whole, "", 0),
        Group("ends", ("name",), "substring", True, ends, "", 0),
    ]
    return names, walk_of(compile_groups(groups))


def warm() -> None:
    """Compile now what would be compiled at the first file."""
    _places(b"\0")


def _places(text: bytes) -> dict[int, bytes]:
    """Where strings of interest begin."""
    names, walk = _names()
    data = np.frombuffer(bytearray(text), dtype=np.uint8)
    ends = np.full(2 * len(names), -1, dtype=np.int64)
    search(data, len(text), 0, len(text), WHERE_NAME, walk, np.zeros(WORDS, dtype=np.int64), ends, 0)
    places = {}
    for n in np.flatnonzero(ends >= 0).tolist():
        tail, number = divmod(n, len(names))
        places[int(ends[n]) - tail - len(names[number])] = names[number]
    return places


def _sort_out(
    symbols: Table, places: dict[int, bytes], defined: dict[bytes, None], imported: dict[bytes, None]
) -> None:
    """Add the names of ``places`` that symbols refer to, to one of both."""
    wanted = np.array(list(places), dtype=np.uint32)
    for start in range(0, symbols.size, _SLICE):  # NumPy holds the interpreter
        part = symbols[start : start + _SLICE]
        hits = part[np.isin(part["name"], wanted)]
        for at, section in zip(hits["name"].tolist(), hits["shndx"].tolist(), strict=True):
            (defined if section else imported)[places[at]] = None


def read_interpreter(file: Reader, elf: Headers) -> bytes | None:
    """The dynamic linker's path; None if the program needs none."""
    for segment in elf.segments[elf.segments["type"] == PT_INTERP][:1]:
        offset, size = int(segment["offset"]), int(segment["filesz"])
        return string_at(file.read(elf.base + offset, min(size, 4096)), 0)
    return None


def read_needed(file: Reader, elf: Headers) -> tuple[bytes, ...]:
    """Libraries of the dynamic section, found as the dynamic linker finds it: not by way of sections."""
    for segment in elf.segments[elf.segments["type"] == PT_DYNAMIC][:1]:
        size = min(int(segment["filesz"]), 1 << 16)
        entries = elf.dynamic(file.table(elf.base + int(segment["offset"]), size, "dynamic section"))
        tags, values = entries["tag"].tolist(), entries["value"].tolist()
        if 0 in tags:
            end = tags.index(0)
            tags, values = tags[:end], values[:end]
        pairs = dict(zip(tags, values, strict=True))
        at = elf.offset_of(pairs.get(_DT_STRTAB, 0))
        if at is None:
            return ()
        text = file.table(at, pairs.get(_DT_STRSZ, 0), "names of libraries")
        names = [string_at(text, value) for tag, value in zip(tags, values, strict=True) if tag == _DT_NEEDED]
        return tuple(names)
    return ()
