# SPDX-License-Identifier: Apache-2.0
"""What a rule file says, once it has been read: indicator groups, rules, and the words they use.

Plain data. :mod:`.parse` makes it from TOML, :mod:`.automaton` and :mod:`.table` make flat arrays of it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: In rising order: the place is the rank.
SEVERITIES = ("low", "medium", "high", "critical")
FAMILIES = ("miner", "tunnel", "shell", "gpu", "exec", "tamper", "net")
ACTIONS = ("alert", "block", "kill", "freeze", "quarantine")

#: Kinds of event that rules judge, with the number that compiled code knows them by.
ON = {"exec": 0, "gpu": 1}
ON_EXEC = ON["exec"]
ON_GPU = ON["gpu"]

#: Fields of an exec that are scanned, with their bit.
FIELDS = {"name": 1, "path": 2, "args": 4}
WHERE_NAME = FIELDS["name"]
WHERE_PATH = FIELDS["path"]
WHERE_ARGS = FIELDS["args"]

#: What a byte next to an indicator must be: a bit number in ``Automaton.edges``.
EDGE_ANY, EDGE_NUL, EDGE_WORD, EDGE_HOST, EDGE_VALUE, EDGE_FILE = range(6)
#: Not an edge: says which bytes make ``.x`` go on with a host name.
BIT_ALNUM = 6


class MatchKind(NamedTuple):
    """One way of matching: the fields it makes sense in, and what must stand on either side."""

    fields: tuple[str, ...]
    left: int
    right: int
    meaning: str


MATCHES: dict[str, MatchKind] = {
    "whole": MatchKind(("name", "path", "args"), EDGE_NUL, EDGE_NUL, "the entire name, path or argument"),
    "argument": MatchKind(("args",), EDGE_NUL, EDGE_NUL, "an entire argument"),
    "option": MatchKind(("args",), EDGE_NUL, EDGE_VALUE, "an argument, alone or with '=value' behind it"),
    "value": MatchKind(("args",), EDGE_VALUE, EDGE_NUL, "an entire argument, or all that follows its '='"),
    "url": MatchKind(("args",), EDGE_VALUE, EDGE_ANY, "how an argument begins, or what follows its '='"),
    "prefix": MatchKind(("name", "path", "args"), EDGE_NUL, EDGE_ANY, "how a name, path or argument begins"),
    "file": MatchKind(("path", "args"), EDGE_FILE, EDGE_NUL, "the last part or parts of a path"),
    "word": MatchKind(
        ("name", "path", "args"), EDGE_WORD, EDGE_WORD, "a word: no letter, digit or _ beside it"
    ),
    "domain": MatchKind(("name", "path", "args"), EDGE_HOST, EDGE_HOST, "a domain, or any host below it"),
    "substring": MatchKind(("name", "path", "args"), EDGE_ANY, EDGE_ANY, "anywhere"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """Indicators that mean the same thing: one signal, set when any of them is found."""

    id: str
    where: tuple[str, ...]
    match: str
    case: bool
    values: tuple[str, ...]
    source: str
    line: int

    @property
    def fields(self) -> int:
        """The fields to look in, as bits."""
        return sum(FIELDS[field] for field in self.where)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way for a rule to hold: ``all`` of these, ``at_least`` so many of ``any``, ``none`` of those."""

    all: tuple[str, ...]
    any: tuple[str, ...]
    at_least: int
    none: tuple[str, ...]
    severity: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, as users see it."""

    id: str
    title: str
    on: str
    severity: str
    attack: tuple[str, ...]
    remedy: str
    action: str
    enabled: bool
    alternatives: tuple[Alternative, ...]
    source: str
    line: int

    @property
    def family(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something in a rule file that is allowed, but hardly meant."""

    source: str
    line: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.message}"


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint for a word that is not among ``choices``."""
    known = sorted(choices)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"one of: {', '.join(known)}" if known else "there are none"
