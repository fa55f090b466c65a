# SPDX-License-Identifier: Apache-2.0
"""What probes leave to user space, since an exception may apply to it.

Probes know what is run and where a connection leads, and not all that an exception may ask for. So of each
exception they are given one condition that they can tell. Where it is met, user space judges, a millisecond
later and by all of them; where it isn't, the exception does not apply, and the probe decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracer.policy.places import EVERYWHERE
from tracer.rules.model import POLICY_PREFIX, Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tracer.policy.model import Exemption
    from tracer.rules.model import Rule

_WITH_A_PLACE = ("connect", "listen", "flow")


class _Condition(NamedTuple):
    """As groups have it."""

    where: str
    match: str
    values: tuple[str, ...]

    @property
    def group(self) -> str:
        """One for all exceptions, however many there are: there is room for so many groups only."""
        return f"{POLICY_PREFIX}excused-{self.where}-{self.match}"


class Undecided(NamedTuple):
    """``groups`` to be added to the others, and what :attr:`tracer.rules.model.Terms.undecided` has."""

    groups: tuple[Group, ...]
    unless: Mapping[str, tuple[str, ...] | None]


def undecided(exceptions: Sequence[Exemption], rules: Iterable[Rule], source: str) -> Undecided:
    """Of ``rules``, those that one of ``exceptions`` takes."""
    values: dict[_Condition, list[str]] = {}
    unless: dict[str, tuple[str, ...] | None] = {}
    for rule in rules:
        taken = [_condition(item, rule.on) for item in exceptions if item.rule.takes(rule.id)]
        if not taken:
            continue
        known = [condition for condition in taken if condition is not None]
        if len(known) < len(taken):
            unless[rule.id] = None
            continue
        unless[rule.id] = tuple(dict.fromkeys(condition.group for condition in known))
        for condition in known:
            values.setdefault(condition._replace(values=()), []).extend(condition.values)
    line = min((item.line for item in exceptions), default=0)
    groups = tuple(
        Group(
            key.group, (key.where,), key.match, key.where == "path", tuple(dict.fromkeys(texts)), source, line
        )
        for key, texts in values.items()
    )
    return Undecided(groups, unless)


def _condition(item: Exemption, on: str) -> _Condition | None:
    """What a probe can tell of an exception for a rule on this kind of event, if it can."""
    if on == "exec" and item.exe is not None:
        return _Condition("path", item.exe.match, (item.exe.literal,))
    if on in _WITH_A_PLACE and item.remote is not None:
        if item.remote.networks and not set(EVERYWHERE) <= set(item.remote.networks):
            return _Condition("network", "range", item.remote.networks)
        if item.remote.ports is not None:
            return _Condition("port", "range", (item.remote.ports,))
    return None
