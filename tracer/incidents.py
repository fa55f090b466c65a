# SPDX-License-Identifier: Apache-2.0
"""From alerts to incidents: what belongs to one story is told as one, and repeats are counted.

Alerts of one tree belong together as long as they follow each other within GAP_S. An incident is as grave as
its gravest alert, and one step graver if alerts of several families are in it: a scan, then a tunnel, then a
miner are no three accidents. Nothing is left out: whatever comes later can only make it graver.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tracer.rules.model import SEVERITIES

#: An agent that goes about something does not pause for longer; two separate stories rarely follow so closely.
GAP_S = 900
#: Different things in one incident that are kept.
PARTS_MAX = 1000
#: Incidents that a watch keeps, which may go on for months.
INCIDENTS_MAX = 100
#: Families of less than this do not make a story graver.
_COUNTS = SEVERITIES.index("medium")
_STORY = {
    "net": "probing", "tunnel": "tunnel", "shell": "remote shell", "miner": "miner", "gpu": "GPU use",
    "exec": "suspicious program", "foothold": "foothold", "tamper": "tampering with the watch",
}  # fmt: skip


@dataclass(slots=True)
class Part:
    """One kind of thing that happened, ``count`` times: the same rule of the same program with the same evidence
    of where to. ``alert`` is the first.
    """

    alert: dict[str, Any]
    count: int = 1
    last_ns: int = 0
    actions: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Incident:
    """Alerts that tell one story. ``left_out``: those for whose part there was no room; they count all the same."""

    parts: list[Part] = field(default_factory=list)
    #: of rules, in the order of the first alert of each
    families: list[str] = field(default_factory=list)
    ranks: set[tuple[str, int]] = field(default_factory=set)
    left_out: int = 0
    severity: str = "low"
    first_ns: int = 0
    last_ns: int = 0
    count: int = 0

    @property
    def line(self) -> str:
        """The story in a few words: what, in the order in which it began."""
        words = [_STORY.get(family, family) for family in self.families]
        return ", then ".join(words)


class Incidents:
    """Joins alerts (as JSON) as they come, in order of time, of one tree or several. ``most`` are kept."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        #: in the order in which they began
        self.all: list[Incident] = []
        #: incidents that have ended and were let go, so that there is room
        self.forgotten = 0
        self._going_on: dict[str, tuple[Incident, dict[tuple[Any, ...], Part]]] = {}

    def add(self, alert: dict[str, Any]) -> None:
        """Take one alert."""
        when, tree = alert["times_ns"]["hook"], alert["tree"]
        incident, parts = self._going_on.get(tree, (None, {}))
        if incident is None or when - incident.last_ns > GAP_S * 1_000_000_000:
            incident, parts = Incident(first_ns=when), {}
            self.all.append(incident)
            self._going_on[tree] = incident, parts
            if self._most is not None and len(self.all) > self._most:
                # the least grave of those that are over: what matters stays
                over = [i for i in self.all if all(i is not going for going, _ in self._going_on.values())]
                least = min(over or self.all[:1], key=lambda i: SEVERITIES.index(i.severity))
                self.all.remove(least)
                self.forgotten += 1
        _add(incident, parts, alert, when)
        incident.severity = _severity(incident)


def join(alerts: Iterable[dict[str, Any]]) -> list[Incident]:
    """Incidents of ``alerts``, which are in order of time."""
    incidents = Incidents()
    for alert in alerts:
        incidents.add(alert)
    return incidents.all


def _add(incident: Incident, parts: dict[tuple[Any, ...], Part], alert: dict[str, Any], when: int) -> None:
    key = (alert["rule"], alert["severity"], alert["exe"], alert["evidence"].get("remote"))
    family = alert["rule"].partition(".")[0]
    incident.ranks.add((family, SEVERITIES.index(alert["severity"])))
    if family not in incident.families:
        incident.families.append(family)
    incident.last_ns = max(incident.last_ns, when)
    incident.count += 1
    part = parts.get(key)
    if part is None:
        if len(parts) >= PARTS_MAX:
            incident.left_out += 1
            return
        part = parts[key] = Part(alert, 0)
        incident.parts.append(part)
    part.count += 1
    part.last_ns = max(part.last_ns, when)
    action = (
        alert["action"]
        if alert["action"] != "none"
        else f"would: {alert['would']}"
        if alert["would"]
        else "none"
    )
    part.actions[action] = part.actions.get(action, 0) + 1


def _severity(incident: Incident) -> str:
    gravest = max(rank for _, rank in incident.ranks)
    families = {family for family, rank in incident.ranks if rank >= _COUNTS}
    return SEVERITIES[min(gravest + (len(families) > 1), len(SEVERITIES) - 1)]
