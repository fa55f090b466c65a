# SPDX-License-Identifier: Apache-2.0
"""What a Go program says about its own making: module paths and versions.

The linker writes it behind a magic string, in one of two forms: since Go 1.18 the two texts themselves, each
behind its length; before, the addresses of two string headers. Format: Go's ``debug/buildinfo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tracer.triage.headers import PF_W

if TYPE_CHECKING:
    from tracer.triage.bounded import Reader
    from tracer.triage.headers import Headers

Order = Literal["little", "big"]

_MAGIC = b"\xff Go buildinf:"
_ALIGN = 16
_HEADER = 32
_FLAG_BIG_ENDIAN, _FLAG_INLINE = 1, 2
#: The module lists of the biggest programs take some 100 KiB.
_TEXT_MAX = 1 << 18
_LINES_MAX = 4096
#: Where there are no sections, the magic lies at the beginning of the data.
_SEARCH = 1 << 20
#: Sections that only Go's linker makes.
_SECTIONS = (".go.buildinfo", ".gopclntab", ".note.go.buildid", ".data.rel.ro.gopclntab")


@dataclass(frozen=True, slots=True)
class GoBuild:
    """``path`` is the main package, ``module`` the one it belongs to, ``dependencies`` with versions."""

    version: bytes = b""
    path: bytes = b""
    module: bytes = b""
    dependencies: tuple[bytes, ...] = ()

    @property
    def anonymous(self) -> bool:
        """Is nothing said about where it came from?"""
        return not self.path and not self.module


def read_go(file: Reader, elf: Headers) -> GoBuild | None:
    """The build information; empty if it has been removed, None if this is no Go program."""
    named = any(name in elf.names for name in _SECTIONS)
    at, data = _find(file, elf)
    if data is None:
        return GoBuild() if named else None
    flags = data[15]
    if flags & _FLAG_INLINE:
        version, at = _inline(file, at + _HEADER)
        text, _ = _inline(file, at)
    else:
        order: Order = "big" if flags & _FLAG_BIG_ENDIAN else "little"
        width = data[14]
        if width not in (4, 8):
            file.problem(f"Go build information with pointers of {width} bytes")
            return GoBuild()
        first, second = (int.from_bytes(data[16 + n * width : 16 + (n + 1) * width], order) for n in (0, 1))
        version, text = (_pointed(file, elf, address, width, order) for address in (first, second))
    return _parse(version, text)


def _find(file: Reader, elf: Headers) -> tuple[int, bytes | None]:
    """Where the magic is, and the 32 bytes that begin there."""
    places = []
    section = elf.section(".go.buildinfo")
    if section is not None:
        places.append((elf.base + int(section["offset"]), min(int(section["size"]), _SEARCH)))
    places += [
        (elf.base + int(segment["offset"]), min(int(segment["filesz"]), _SEARCH))
        for segment in elf.loaded()
        if int(segment["flags"]) & PF_W
    ]
    for offset, size in places[:4]:
        data = file.read(offset, size)
        at = data.find(_MAGIC)
        while at >= 0 and (offset + at) % _ALIGN:
            at = data.find(_MAGIC, at + 1)
        if at >= 0 and len(data) >= at + _HEADER:
            return offset + at, data[at : at + _HEADER]
    return 0, None


def _inline(file: Reader, at: int) -> tuple[bytes, int]:
    """A text behind its length (7 bits a byte, the lowest first), and what lies behind it."""
    head = file.read(at, 10)
    length = 0
    for place, byte in enumerate(head):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            text = file.read(at + place + 1, min(length, _TEXT_MAX))
            if length > _TEXT_MAX:
                file.left_out(f"Go build information of {length} bytes")
            elif len(text) < length:
                file.problem("Go build information is cut off")
            return text, at + place + 1 + length
    return b"", at


def _pointed(file: Reader, elf: Headers, address: int, width: int, order: Order) -> bytes:
    """The text of the string header (address, length) at ``address``."""
    at = elf.offset_of(address)
    header = b"" if at is None else file.read(at, 2 * width)
    start = elf.offset_of(int.from_bytes(header[:width], order)) if len(header) == 2 * width else None
    if start is None:
        return b""
    return file.read(start, min(int.from_bytes(header[width:], order), _TEXT_MAX))


def _parse(version: bytes, text: bytes) -> GoBuild:
    # sixteen bytes on either side, for Go's own use
    if len(text) >= 33 and text[-17:-16] == b"\n":
        text = text[16:-16]
    path = module = b""
    dependencies = []
    for line in text.split(b"\n", _LINES_MAX)[:_LINES_MAX]:
        key, _, rest = line.partition(b"\t")
        fields = rest.split(b"\t")
        if key == b"path":
            path = rest
        elif key == b"mod":
            module = b" ".join(fields[:2])
        elif key in (b"dep", b"=>"):
            dependencies.append(b" ".join(fields[:2]))
    return GoBuild(version, path, module, tuple(dependencies))
