# SPDX-License-Identifier: Apache-2.0
"""The .BTF section of an object: its structs as NumPy dtypes, its enumerations, its options.

Format: Documentation/bpf/btf.rst of the Linux kernel.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tracer.errors import LoadError

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym, elf(5)

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT = range(9, 17)
DECL_TAG, TYPE_TAG, ENUM64 = range(17, 20)

_DATA = {INT, ARRAY, STRUCT, UNION, ENUM, ENUM64}
_MODIFIERS = {TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG}
_INT_SIGNED = 1


def _symbols_in(table: bytes, strings: bytes, section: int | None) -> dict[str, tuple[int, int]]:
    """Where each symbol of a section is, and its size. Unpacked here: a library's object for each of them takes a
    tenth of a second of every start.
    """
    found = {}
    for name, _, _, index, value, size in _SYMBOL.iter_unpack(table):
        if index == section:
            found[strings[name : strings.index(0, name)].decode()] = (value, size)
    return found


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    size_or_type: int
    extra: tuple[Any, ...]


def _read_extra(kind: int, vlen: int, data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
    """What follows the common part of a type, and the offset behind it."""
    shapes = {
        STRUCT: ("<III", vlen),
        UNION: ("<III", vlen),
        ENUM: ("<Ii", vlen),
        ENUM64: ("<III", vlen),
        FUNC_PROTO: ("<II", vlen),
        DATASEC: ("<III", vlen),
        INT: ("<I", 1),
        ARRAY: ("<III", 1),
        VAR: ("<I", 1),
        DECL_TAG: ("<i", 1),
    }
    if kind not in shapes:
        return (), at
    pattern, count = shapes[kind]
    step = struct.calcsize(pattern)
    rows = tuple(struct.unpack_from(pattern, data, at + i * step) for i in range(count))
    return rows, at + count * step


class Btf:
    """The types of one compiled object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                section = elf.get_section_by_name(".BTF")
                if section is None:
                    raise LoadError(f"{path} has no .BTF section: was it stripped with -s instead of -g?")
                data: bytes = section.data()
                symbols = elf.get_section_by_name(".symtab")
                if not isinstance(symbols, SymbolTableSection):
                    raise LoadError(f"{path} has no symbol table: was it stripped with -s instead of -g?")
                self._options = _symbols_in(
                    symbols.data(), symbols.stringtable.data(), elf.get_section_index(".rodata")
                )
        except OSError as error:
            raise LoadError(
                f"the compiled probes are missing: {error}", hint="build them: make probes"
            ) from None
        magic, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise LoadError(f"{path}: .BTF is not little-endian BTF")
        strings = data[header + str_off : header + str_off + str_len]
        self._types = [_Type("", 0, 0, ())]
        at = header + type_off
        end = at + type_len
        while at < end:
            name_off, info, size = _TYPE.unpack_from(data, at)
            kind = info >> 24 & 0x1F
            extra, at = _read_extra(kind, info & 0xFFFF, data, at + _TYPE.size)
            name = strings[name_off : strings.index(0, name_off)].decode()
            if kind in (STRUCT, UNION, ENUM, ENUM64):
                extra = tuple(
                    (strings[row[0] : strings.index(0, row[0])].decode(), *row[1:]) for row in extra
                )
            self._types.append(_Type(name, kind, size, extra))

    @cached_property
    def _structs(self) -> dict[str, _Type]:
        return {t.name: t for t in self._types if t.kind == STRUCT and t.name}

    @cached_property
    def digest(self) -> bytes:
        """Names structs and enumerations: other ones have another. What functions do is not in it, though the section
        has their very lines among its strings.
        """
        data = [t for t in self._types if t.kind in _DATA]
        return hashlib.blake2b(repr(data).encode(), digest_size=16).digest()

    @cached_property
    def struct_names(self) -> frozenset[str]:
        """Names of all structs that the object's BTF has kept."""
        return frozenset(self._structs)

    def dtype(self, name: str) -> np.dtype[np.void]:
        """The layout of ``struct name``; members that are structs are flattened into it."""
        if name not in self._structs:
            raise LoadError(f"{self.path.name}: BTF has no struct {name}; refer to it from a global")
        return self._dtype_of(self._structs[name])

    def _dtype_of(self, found: _Type) -> np.dtype[np.void]:
        names: list[str] = []
        formats: list[Any] = []
        offsets: list[int] = []
        for member, type_id, bit_offset in found.extra:
            offset = bit_offset // 8
            inner = self._resolve(type_id)
            if inner.kind == STRUCT:
                layout = self._dtype_of(inner)
                assert layout.fields is not None
                for field, (kind, at, *_) in layout.fields.items():
                    names.append(field)
                    formats.append(kind)
                    offsets.append(offset + at)
            else:
                names.append(member)
                formats.append(self._format(inner))
                offsets.append(offset)
        return np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": found.size_or_type}
        )

    def _resolve(self, type_id: int) -> _Type:
        found = self._types[type_id]
        while found.kind in _MODIFIERS:
            found = self._types[found.size_or_type]
        return found

    def _format(self, found: _Type) -> Any:
        if found.kind == INT:
            signed = found.extra[0][0] >> 24 & _INT_SIGNED
            return np.dtype(f"{'i' if signed else 'u'}{found.size_or_type}")
        if found.kind == ARRAY:
            element, _, count = found.extra[0]
            return (self._format(self._resolve(element)), (count,))
        if found.kind == STRUCT:
            return self._dtype_of(found)
        raise LoadError(f"{self.path.name}: a member of kind {found.kind} has no place in an event")

    def enum(self, name: str) -> dict[str, int]:
        """The values of ``enum name``, in order."""
        for found in self._types:
            if found.kind == ENUM and found.name == name:
                return dict(found.extra)
        raise LoadError(f"{self.path.name}: BTF has no enum {name}; refer to it from a global")

    @property
    def options(self) -> dict[str, tuple[int, int]]:
        """(offset in .rodata, size) of each ``const volatile`` global."""
        return self._options
