# SPDX-License-Identifier: Apache-2.0
"""Is a recording as it was written, all of it? By its CRCs, its numbers and its chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.record import layout
from tracer.record.layout import chained
from tracer.record.reader import Recording, UnbegunError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True)
class Verdict:
    """What is wrong with one file. ``gaps``: what its writer says it could not write."""

    path: Path
    blocks: int = 0
    changed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False
    signed: bool = False
    key_known: bool = False

    @property
    def intact(self) -> bool:
        """Nothing was changed, damaged or taken out. A gap or a missing end is no such thing."""
        return not (self.changed or self.damaged or self.missing)


def verify(paths: Iterable[Path], key: bytes = b"") -> list[Verdict]:
    """Look at each file, the parts of one recording in the order of ``paths``. Raises VigilesError.

    Without the key of a signed recording its chain can't be followed: only CRCs and numbers speak then.
    A file that holds nothing is damaged, as one is that ends in the middle of a block; if all do, that is raised.
    """
    verdicts = []
    last: tuple[str, int, bytes, int] | None = None
    unbegun: UnbegunError | None = None
    for path in paths:
        try:
            recording = Recording(path)
        except UnbegunError as error:
            unbegun = unbegun or error
            verdicts.append(Verdict(path, damaged=[f"it {error.said}"]))
            continue
        try:
            verdict, last = _one(recording, key, last)
        finally:
            recording.close()
        verdicts.append(verdict)
    if unbegun is not None and not any(verdict.blocks for verdict in verdicts):
        raise unbegun
    return verdicts


def _one(
    recording: Recording, key: bytes, last: tuple[str, int, bytes, int] | None
) -> tuple[Verdict, tuple[str, int, bytes, int]]:
    header = recording.header
    verdict = Verdict(recording.path, signed=header.signed, key_known=bool(key))
    follow = bool(key) or not header.signed
    # a chain value that was changed itself must not make the next block look changed, nor hide that one was
    links = {header.previous}
    number: int | None = 0 if header.part == 1 else None
    if last is not None and last[:2] == (header.recording, header.part - 1):
        number = last[3]
        if header.previous != last[2]:
            verdict.changed.append("its header does not follow from the part before")
    stored = header.previous
    for found in recording.blocks():
        head = found.head
        verdict.blocks += 1
        if number is not None and head.number > number:
            verdict.missing.append(_blocks(number, head.number - 1))
            links = set()  # what was before it is not there
        elif number is not None and head.number < number:
            verdict.changed.append(f"block {head.number} stands behind block {number - 1}")
        if follow:
            values = {chained(link, head, found.stored, key) for link in links}
            if links and head.chain not in values:
                verdict.changed.append(f"block {head.number} ({layout.NAMES[head.type]}) was changed")
            links = {head.chain, *values}
        number, stored = head.number + 1, head.chain
        if head.type == layout.GAP:
            verdict.gaps.append(recording.read(found) or {})
        verdict.ended = verdict.ended or head.type == layout.END
    known = {d.block for d in recording.damage}
    verdict.damaged = [str(d) for d in recording.damage]
    verdict.missing = [m for m in verdict.missing if not (m.isdigit() and int(m) in known)]
    return verdict, (header.recording, header.part, stored, number or 0)


def _blocks(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
