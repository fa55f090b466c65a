# SPDX-License-Identifier: Apache-2.0
"""What a policy says, once it has been read. Plain data, and the questions that a watch asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from tracer.policy.places import Place
from tracer.policy.programs import Program
from tracer.rules.model import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

T = TypeVar("T")

MODES = ("observe", "enforce")


def utc_today() -> date:
    """The day by which exceptions end."""
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Selector:
    """Rules by id, or by a glob over ids."""

    pattern: str
    line: int

    def takes(self, rule: str) -> bool:
        """Is the rule of this id meant?"""
        return fnmatchcase(rule, self.pattern)

    @property
    def exact(self) -> bool:
        """Is it the id of one rule?"""
        return not any(letter in self.pattern for letter in "*?")

    @property
    def weight(self) -> tuple[bool, int]:
        """Orders selectors: a rule's id, then globs by how many letters they give."""
        return self.exact, sum(letter not in "*?" for letter in self.pattern)


@dataclass(frozen=True, slots=True)
class Choice:
    """An action, and where it was chosen."""

    action: str
    line: int


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """What is allowed, or what is denied; and what becomes of the others (None: not said)."""

    entries: tuple[T, ...]
    line: int
    choice: Choice | None = None


class Reach(NamedTuple):
    """Networks, in CIDR, that can be reached on ``ports``; None: on any, over any protocol."""

    networks: tuple[str, ...]
    ports: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Exemption:
    """One of ``[[exceptions]]``: alerts of ``rule`` that meet every condition are excused, through the day
    ``until`` (UTC). ``args`` is a part of the command line.
    """

    rule: Selector
    exe: Program | None
    args: str | None
    remote: Place | None
    reason: str
    until: date
    line: int

    def holds_on(self, today: date) -> bool:
        """Has it not ended yet?"""
        return today <= self.until

    def excuses(
        self,
        rule: str,
        exe: str,
        argv: Sequence[str],
        remote_address: str | None,
        remote_port: int | None,
        remote_name: str | None,
    ) -> bool:
        """Does an alert meet it, whatever the date? What the alert doesn't have meets no condition."""
        return (
            self.rule.takes(rule)
            and (self.exe is None or self.exe.covers(exe))
            and (self.args is None or self.args in " ".join(argv))
            and (self.remote is None or self.remote.covers(remote_address, remote_port, remote_name))
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file.

    ``gpu_users``: as written, see :mod:`tracer.rules.users` and :mod:`.files`; None if it says nothing, () for
    nobody. ``digest``: of the file's bytes. ``rule_files``:
    joined to the policy's folder. What follows it is for :func:`tracer.policy.compile.apply`; in the lists
    None means that the file doesn't have them, which allows everything.
    """

    name: str
    mode: str
    act_from: str
    gpu_users: tuple[str, ...] | None
    own_networks: tuple[str, ...]
    quarantine: tuple[Reach, ...]
    quarantine_line: int
    exceptions: tuple[Exemption, ...]
    source: str
    digest: str
    rule_files: tuple[Path, ...]

    connect: Listed[Place] | None
    listen: Listed[Place] | None
    allow: Listed[Program] | None
    deny: Listed[Program] | None
    gpu_choice: Choice | None
    actions: tuple[tuple[Selector, str], ...]
    off: tuple[Selector, ...]
    gpu_users_line: int = 0

    def acts_at(self, severity: str) -> bool:
        """Does an alternative of this severity do more than alert?"""
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.act_from)

    def excused(
        self,
        rule: str,
        exe: str,
        argv: Sequence[str],
        remote_address: str | None = None,
        remote_port: int | None = None,
        remote_name: str | None = None,
        today: date | None = None,
    ) -> Exemption | None:
        """The first exception that a finished alert meets; ``today`` is in UTC.

        ``exe`` as the kernel resolved it, ``remote_name`` as DNS answers have it.
        """
        if not self.exceptions:
            return None
        return next(
            (
                found
                for found in self.exceptions_on(today)
                if found.excuses(rule, exe, argv, remote_address, remote_port, remote_name)
            ),
            None,
        )

    def exceptions_on(self, today: date | None = None) -> tuple[Exemption, ...]:
        """Those that have not ended; ``today`` is in UTC."""
        today = today or utc_today()
        return tuple(found for found in self.exceptions if found.holds_on(today))
