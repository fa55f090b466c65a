# SPDX-License-Identifier: Apache-2.0
"""Where a session's alerts go, and what it has to say: files, the terminal, each beside the loop."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tracer.cli.options import WatchOptions
from tracer.errors import VigilesError

if TYPE_CHECKING:
    from tracer.sinks.queued import Queued
    from tracer.sinks.terminal import Terminal
    from tracer.summary import Summary
    from tracer.teller import Sink


def say(options: WatchOptions, line: str) -> None:
    """Tell whoever watches, unless that is nobody, or a program."""
    if not options.quiet and not options.as_json:
        print(f"vigiles: {line}", file=sys.stderr, flush=True)


class Outlets:
    """The sinks that ``options`` name, which ``stack`` closes. ``group`` may read the alert file.

    Threads begin with :meth:`start`: a process is forked, and privileges are given up, without any.
    """

    def __init__(self, stack: ExitStack, options: WatchOptions, group: int | None) -> None:
        from tracer.sinks.jsonl import JsonLines
        from tracer.sinks.queued import Queued
        from tracer.sinks.terminal import JsonTerminal, Terminal

        self._options = options
        self._queued: list[Queued] = []
        self._terminal: tuple[Queued, Terminal] | None = None
        if options.alerts:
            self._queued.append(Queued(JsonLines(options.alerts, group=group)))
        if options.as_json or not options.quiet:
            terminal = JsonTerminal() if options.as_json else Terminal()
            self._queued.append(Queued(terminal))
            self._terminal = self._queued[-1], terminal
        for sink in self._queued:
            stack.callback(sink.close)
        #: all that alerts are told to; others may be added before the watch begins
        self.sinks: list[Sink] = list(self._queued)

    def start(self) -> None:
        """From here on, whatever is told is written beside the loop."""
        for sink in self._queued:
            sink.start()

    def say(self, line: str) -> None:
        """Tell the person at the terminal; once the watch has begun, behind the alerts that wait for it."""
        if self._terminal is None or not self._terminal[0].started:
            say(self._options, line)
        elif not self._options.as_json:
            self._put(f"vigiles: {line}")

    def _put(self, line: str) -> None:
        """Have a line printed that is already safe to print."""
        if self._terminal is not None:
            queued, terminal = self._terminal
            queued.put(lambda: terminal.say(line))

    def complain(self, what: str, error: VigilesError) -> None:
        """Say what goes wrong, and what to do."""
        self.say(f"{what}: {error}")
        if error.hint:
            self.say(f"  {error.hint}")

    def settle(self) -> dict[str, int]:
        """Have what waits written; by sink, alerts that could not be."""
        for sink in self._queued:
            sink.settle()
        return {sink.target: sink.failed for sink in self.sinks if sink.failed}

    def tell_summary(self, summary: Summary) -> None:
        """Say what there was, to a person or a program."""
        if self._options.as_json:
            import json

            self._put(json.dumps(summary.to_json(), separators=(",", ":")))
            return
        for line in summary.lines():
            self.say(line)
