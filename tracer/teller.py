# SPDX-License-Identifier: Apache-2.0
"""From rules that fired to whoever reads alerts: excused, acted upon, told once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tracer import clock
from tracer.alerts import unexcused
from tracer.engine.processes import NONE
from tracer.repeats import Repeats

if TYPE_CHECKING:
    from tracer.alerts import Alert, AlertBuilder, Who
    from tracer.engine.engine import Engine, Fired
    from tracer.record.recorder import Recorder
    from tracer.respond.acts import Identity
    from tracer.respond.responder import Responder
    from tracer.summary import Tally
    from tracer.triage.report import FileReport


class Sink(Protocol):
    """Where alerts go."""

    @property
    def target(self) -> str:
        """What people call it."""

    @property
    def failed(self) -> int:
        """Alerts that could not be written there."""

    def tell(self, alert: Alert) -> None:
        """Take one alert; must not raise."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What a watch may do about alerts. ``cgroup``: where the tree is alone. ``excuse``: whether a policy
    excuses an alert.
    """

    enforce: bool = False
    cgroup: Path | None = None
    excuse: Callable[[Alert], bool] | None = None


OBSERVE = Guard()


class Teller:
    """What fires in ``engine`` is answered by ``responder`` and told to ``sinks``, and counted in ``tally``."""

    def __init__(
        self,
        engine: Engine,
        builder: AlertBuilder,
        responder: Responder,
        sinks: Iterable[Sink],
        tally: Tally,
        *,
        excuse: Callable[[Alert], bool] | None,
        recorder: Recorder | None,
    ) -> None:
        self._engine = engine
        self._builder = builder
        self._responder = responder
        self._sinks = list(sinks)
        self._tally = tally
        self._excuse = excuse
        self._recorder = recorder
        self._repeats = Repeats()

    def feed(self, records: list[bytes]) -> None:
        """Have records judged that came past the rings."""
        for fired in self._engine.feed(records, count=False):
            self.tell(fired)

    def tell(self, fired: Fired, report: FileReport | None = None, was: Who | None = None) -> None:
        """Answer ``fired``, while the engine still stands behind that event. ``report``: of an executed file;
        ``was``: who ran it.

        What the rules call for is done first, and evidence gathered later: unless an exception may apply,
        which only a finished alert can tell.
        """
        engine_ns = clock.boottime_ns()
        terms, alerts = self._engine.rules.terms, None
        rules = [rule for rule, _ in fired.rules]
        if self._excuse is not None and any(rule.id in terms.undecided for rule in rules):
            alerts = self._builder.build(fired, engine_ns, report, was)
            alerts = unexcused(alerts, self._excuse, done=bool(fired.done))
            self._tally.excused += len(rules) - len(alerts)
            rules = [alert.rule for alert in alerts]
        identity = self._identity(fired.entry)
        if identity is None and was is not None and was.program is not None:
            identity = was.program.pid, was.program.start_ns
        response = self._responder.respond(fired, identity, rules, terms)
        if alerts is None:
            alerts = self._builder.build(fired, engine_ns, report, was)
        for alert in alerts:
            alert.response = response
            alert.handout_ns = clock.boottime_ns()
            if self._repeats.is_news(alert):
                self._hand_out(alert)
            else:
                self._tally.repeated[alert.rule.id] += 1
                if self._recorder is not None:
                    self._recorder.repeat(alert)
        if response.would:
            self._tally.would[response.would] += 1

    def _hand_out(self, alert: Alert) -> None:
        for sink in self._sinks:
            sink.tell(alert)
        self._tally.add(alert.rule.id, alert.severity, alert.latency_us)
        self._tally.incidents.add(alert.outline())

    def _identity(self, entry: int) -> Identity | None:
        """Which process is at ``entry``."""
        if entry == NONE:
            return None
        row = self._engine.state.processes.table[entry]
        return int(row["tgid"]), int(row["start"])

    def finish(self) -> None:
        """Tell what has been held back as a repeat, the last of each."""
        for alert in self._repeats.remaining():
            self._tally.repeated[alert.rule.id] -= 1
            self._hand_out(alert)

    def failed(self) -> dict[str, int]:
        """By sink: alerts that could not be written."""
        return {sink.target: sink.failed for sink in self._sinks if sink.failed}
