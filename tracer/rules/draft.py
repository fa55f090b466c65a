# SPDX-License-Identifier: Apache-2.0
"""What one rule file says, before it is joined with the others.

A draft may be partial (``extend = true`` adds to what another file says) and may refer to what is in another
file. It remembers where each reference was written, so that one that leads nowhere can be told by line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer.errors import RuleError
    from tracer.rules.model import Remark


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of a group, or ``@fact``, and where it was written."""

    name: str
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """One alternative of a rule, references not looked up yet."""

    all: tuple[Reference, ...]
    any: tuple[Reference, ...]
    at_least: int
    none: tuple[Reference, ...]
    severity: str | None
    line: int


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """What one file says about an indicator group; None where it says nothing."""

    id: str
    source: str
    line: int
    extend: bool
    where: tuple[str, ...] | None
    match: str | None
    case: bool | None
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """What one file says about a rule; None where it says nothing."""

    id: str
    source: str
    line: int
    extend: bool
    enabled: bool | None
    title: str | None
    on: str | None
    severity: str | None
    attack: tuple[str, ...] | None
    remedy: str | None
    action: str | None
    none: tuple[Reference, ...]
    alternatives: tuple[Conditions, ...]


@dataclass(slots=True)
class Draft:
    """One file, as far as it makes sense."""

    source: str
    groups: list[GroupDraft] = field(default_factory=list)
    rules: list[RuleDraft] = field(default_factory=list)
    thresholds: dict[tuple[str, str], int] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    errors: list[RuleError] = field(default_factory=list)
