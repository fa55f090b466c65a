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
    """Alerts that tell one story."""

    parts: list[Part] = field(default_factory=list)
    severity: str = "low"
    first_ns: int = 0
    last_ns: int = 0
    count: int = 0

    @property
    def line(self) -> str:
        """The story in a few words: what, in the order in which it began."""
        words = [_STORY.get(family, family) for family in self.families]
        return ", then ".join(words)

    @property
    def families(self) -> list[str]:
        """Of rules, in the order of the first alert of each."""
        return list(dict.fromkeys(part.alert["rule"].partition(".")[0] for part in self.parts))


def join(alerts: Iterable[dict[str, Any]]) -> list[Incident]:
    """Incidents of ``alerts`` (as JSON), which are in order of time and may be of several trees."""
    done: list[Incident] = []
    going_on: dict[str, tuple[Incident, dict[tuple[Any, ...], Part]]] = {}
    for alert in alerts:
        when = alert["times_ns"]["hook"]
        tree = alert["tree"]
        incident, parts = going_on.get(tree, (None, {}))
        if incident is None or when - incident.last_ns > GAP_S * 1_000_000_000:
            incident, parts = Incident(first_ns=when), {}
            done.append(incident)
            going_on[tree] = incident, parts
        _add(incident, parts, alert, when)
    for incident in done:
        incident.severity = _severity(incident)
    return done


def _add(incident: Incident, parts: dict[tuple[Any, ...], Part], alert: dict[str, Any], when: int) -> None:
    key = (alert["rule"], alert["severity"], alert["exe"], alert["evidence"].get("remote"))
    part = parts.get(key)
    if part is None:
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
    incident.last_ns = max(incident.last_ns, when)
    incident.count += 1


def _severity(incident: Incident) -> str:
    ranks = {
        (part.alert["rule"].partition(".")[0], SEVERITIES.index(part.alert["severity"]))
        for part in incident.parts
    }
    gravest = max(rank for _, rank in ranks)
    families = {family for family, rank in ranks if rank >= _COUNTS}
    return SEVERITIES[min(gravest + (len(families) > 1), len(SEVERITIES) - 1)]
