# SPDX-License-Identifier: Apache-2.0
"""Entries of a policy that is being written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    """One entry, and the comment behind it."""

    text: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Learned:
    """A list, and comments before it: what could not be put into it, and what it leaves open."""

    entries: list[Entry]
    notes: list[str] = field(default_factory=list)


def counted(number: int, what: str) -> str:
    """``1 program``, ``2 programs``, ``2 addresses``."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"
