# SPDX-License-Identifier: Apache-2.0
"""What a policy does not allow is done again and again: tell the first, count the others.

A shell script that runs a program which no list has runs it a thousand times; the thousandth line says
nothing that the first did not. An alert repeats another if it is of the same rule, by the same program below
the same programs, about the same place, with the same thing done about it. What is done about each is not
decided here: that has happened.

Rules that packs bring are told every time: they say what happened, not what is missing in a list, and are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracer.policy.compile import ALLOW_RULE, CONNECT_RULE, DENY_RULE, LISTEN_RULE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracer.alerts import Alert

#: Rules whose repeats are counted.
COUNTED = frozenset({ALLOW_RULE, DENY_RULE, CONNECT_RULE, LISTEN_RULE})
#: After so long the next one is told again, with how many there have been: a job that goes on for days goes
#: on saying so, once a minute at most.
WINDOW_NS = 60_000_000_000
#: Different ones that are remembered. What finds no room is told.
KEPT_MAX = 4096

#: What makes two alerts the same, out of their evidence. ``program``: what was refused to whoever asked for it.
_ABOUT = ("program", "remote_address", "remote_port", "local_address", "local_port", "transport")


@dataclass(slots=True)
class _Told:
    until_ns: int
    repeats: int = 0
    last: Alert | None = None


class Repeats:
    """Decides of each alert whether it is news. One that is told has ``repeats`` in its evidence: how many
    like it have come since the one before, and were not told.
    """

    def __init__(self) -> None:
        self._told: dict[object, _Told] = {}

    def is_news(self, alert: Alert) -> bool:
        """Is it to be told? If not, it is counted here."""
        if alert.rule.id not in COUNTED:
            return True
        key = _key(alert)
        known = self._told.get(key)
        if known is not None and alert.hook_ns < known.until_ns:
            known.repeats += 1
            known.last = alert
            return False
        if known is not None and known.repeats:
            alert.evidence["repeats"] = known.repeats
        elif known is None and not self._room(alert.hook_ns):
            return True
        self._told[key] = _Told(alert.hook_ns + WINDOW_NS)
        return True

    def _room(self, now_ns: int) -> bool:
        """Is there room for one more? What has nothing to say any more makes some."""
        if len(self._told) >= KEPT_MAX:
            silent = [key for key, told in self._told.items() if not told.repeats and told.until_ns <= now_ns]
            for key in silent:
                del self._told[key]
        return len(self._told) < KEPT_MAX

    def remaining(self) -> Iterator[Alert]:
        """At the end: of all that was repeated and not told again, the last."""
        for told in self._told.values():
            if told.last is not None:
                if told.repeats > 1:
                    told.last.evidence["repeats"] = told.repeats - 1
                yield told.last
        self._told.clear()


def _key(alert: Alert) -> object:
    program = alert.program
    about = tuple(alert.evidence.get(name) for name in _ABOUT)
    line = tuple(exe for _, exe in alert.ancestry)
    uid = program.uid if program else None
    return alert.rule.id, line, uid, about, alert.response.action, alert.response.would
