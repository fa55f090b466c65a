# SPDX-License-Identifier: Apache-2.0
"""Does the file contain the program, or something that the program is made of when it runs?

A packer leaves a small loader and a big block of bytes without any pattern. No single mark is enough:
marks can be overwritten, and each of them is found in honest programs, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracer.triage.headers import PF_W, PF_X, SHT_NOBITS

if TYPE_CHECKING:
    from tracer.triage.bounded import Reader
    from tracer.triage.headers import Headers

#: Bits per byte. Machine code has 5.5 to 6.5, compressed or encrypted data more than 7.9.
RANDOM_BITS = 7.5
_SAMPLE = 16 << 10
_SAMPLES = 4
#: Below, a count of bytes says little.
_SAMPLE_MIN = 4 << 10
_APPENDED = 64 << 10
_UPX = b"UPX!"
_UPX_HEAD, _UPX_TAIL = 1024, 64


def entropy(data: bytes) -> float:
    """Bits per byte."""
    if not data:
        return 0.0
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    share = counts[counts > 0] / len(data)
    return float(-(share * np.log2(share)).sum())


def packing_facts(file: Reader, elf: Headers, *, executable: bool) -> set[str]:
    """Those of the facts that have to do with packing."""
    facts = set()
    loaded = elf.loaded()
    # as Python's integers: the sum of two offsets must not wrap around
    rows = [
        tuple(int(row[name]) for name in ("flags", "offset", "vaddr", "filesz", "memsz")) for row in loaded
    ]
    code = [row for row in rows if row[0] & PF_X]
    if not elf.sections.size and not elf.has_sections:
        facts.add("no-sections")
    if any(row[0] & PF_W for row in code):
        facts.add("writable-code")
    if executable and rows and not any(row[2] <= elf.entry < row[2] + row[4] for row in code):
        facts.add("entry-elsewhere")
    if _is_random(file, [(elf.base + row[1], row[3]) for row in code]):
        facts.add("random-code")
    if _UPX in file.read(0, _UPX_HEAD) or _UPX in file.read(max(0, file.size - _UPX_TAIL), _UPX_TAIL):
        facts.add("upx")
    in_last = bool(code) and rows[-1] in code and rows[-1][2] <= elf.entry < rows[-1][2] + rows[-1][4]
    if executable and _is_packed(facts, in_last=in_last):
        facts.add("packed")
    if not file.cut and file.size - _described(elf, rows) > _APPENDED:
        facts.add("appended")
    return facts


def _is_packed(facts: set[str], *, in_last: bool) -> bool:
    """Do enough marks come together? ``in_last``: the program begins in the last segment, as a loader would."""
    if "random-code" in facts:
        return in_last or bool(facts & {"no-sections", "writable-code", "upx"})
    return "no-sections" in facts and ("upx" in facts or ("writable-code" in facts and in_last))


def _is_random(file: Reader, parts: list[tuple[int, int]]) -> bool:
    """Are most samples of these parts of the file random?"""
    total = sum(size for _, size in parts)
    if total < _SAMPLE_MIN:
        return False
    random = seen = 0
    for offset, size in sorted(parts, key=lambda part: -part[1])[:_SAMPLES]:
        step = max(_SAMPLE, size // _SAMPLES)
        for at in range(offset, offset + min(size, _SAMPLES * step), step):
            data = file.read(at, min(_SAMPLE, offset + size - at))
            if len(data) < _SAMPLE_MIN:
                continue
            seen += 1
            # a short sample can't show all values equally often
            random += entropy(data) > RANDOM_BITS
    return seen > 0 and 2 * random > seen


def _described(elf: Headers, rows: list[tuple[int, ...]]) -> int:
    """The end of what the headers know of."""
    ends = [row[1] + row[3] for row in rows]
    filled = elf.sections[elf.sections["type"] != SHT_NOBITS]
    ends += [int(row["offset"]) + int(row["size"]) for row in filled]
    if elf.sections.size:
        # the table of sections itself is the last thing in most files, and has a size of its own
        ends.append(max(ends, default=0) + elf.sections.size * elf.sections.itemsize + 64)
    return elf.base + max((end for end in ends if end <= elf.size), default=0)
