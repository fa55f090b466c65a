# SPDX-License-Identifier: Apache-2.0
"""What is told about one executed file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tracer.detect.facts import FACT_BIT, WORD_BITS
from tracer.text import decode, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracer.triage.elf import ElfFacts
    from tracer.triage.filescan import FileScan

#: Strings of one kind in the evidence, and the characters of one.
_STRINGS = 16
_WIDTH = 160


class Examined(Protocol):
    """What an alert wants to know of an executed file."""

    def to_evidence(self) -> dict[str, object]:
        """For JSON."""


class Identity(NamedTuple):
    """Which content of which file: another one has the same only if somebody turned back the clock."""

    device: int
    inode: int
    modified_ns: int
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """The outcome of an examination; the same for all who execute the file."""

    identity: Identity
    #: as the kernel spells it for us: bytes of the tree
    path: bytes
    #: names out of ``FILE_FACTS``
    facts: frozenset[str]
    elf: ElfFacts
    scan: FileScan
    seconds: float

    @property
    def kind(self) -> str:
        """elf, script, other or empty."""
        return self.elf.kind

    @property
    def groups(self) -> frozenset[str]:
        """Ids of the indicator groups that were found."""
        return self.scan.groups

    def signals(self) -> NDArray[np.int64]:
        """Groups and facts as the rules on "file" want them."""
        signals = self.scan.signals.copy()
        for fact in self.facts:
            word, bit = divmod(FACT_BIT[fact], WORD_BITS)
            signals[word] |= 1 << bit
        return signals

    def to_evidence(self) -> dict[str, object]:
        """For JSON. Everything that the file's author chose is escaped and cut."""
        elf, go = self.elf, self.elf.go
        said: dict[str, object] = {
            "path": _text(self.path),
            "device": self.identity.device,
            "inode": self.identity.inode,
            "size": self.identity.size,
            "kind": elf.kind,
            "facts": sorted(self.facts),
            "groups": sorted(self.groups),
            "indicators": [
                {"group": found.group, "literal": found.literal, "offset": found.offset}
                for found in self.scan.indicators[:_STRINGS]
            ],
            "machine": elf.machine,
            "bits": elf.bits,
            "type": elf.type,
            "interpreter": _text(elf.interpreter),
            "libraries": _texts(elf.needed),
            "crates": _texts(elf.crates),
            "functions": _texts(elf.defined),
            "imports": _texts(elf.imported),
            "kernels": _texts(elf.gpu.kernels if elf.gpu else ()),
            "problems": list(elf.problems[:_STRINGS]),
            "unread_bytes": self.scan.unread_bytes,
        }
        if go is not None:
            said["go"] = {
                "version": _text(go.version),
                "path": _text(go.path),
                "module": _text(go.module),
                "dependencies": _texts(go.dependencies),
            }
        return {key: value for key, value in said.items() if value not in ("", [], 0)}


def _text(raw: bytes) -> str:
    return shorten(decode(raw[: 4 * _WIDTH]), _WIDTH)


def _texts(items: Iterable[bytes]) -> list[str]:
    return [_text(item) for item in tuple(items)[:_STRINGS]]
