# SPDX-License-Identifier: Apache-2.0
"""Alerts for the person who watches: one line each, on standard error."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

import click

from tracer.alerts import Alert
from tracer.text import command_line, shorten, shown

_COLOUR = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bright_red"}
_COMMAND_WIDTH = 72
_LINE_WIDTH = 48


def _done(alert: Alert) -> str:
    response = alert.response
    words = []
    if response.action != "none":
        words.append(response.action)
    if response.would:
        words.append(f"would: {response.would}")
    if response.error:
        words.append(f"failed: {response.error}")
    return f"  {', '.join(words)}" if words else ""


def format_alert(alert: Alert, *, colour: bool) -> str:
    """``CRITICAL miner.command  pid 71 ./xmrig -o …  ← sh ← python3  0.18 ms``."""
    severity = alert.severity.upper().ljust(8)
    program = alert.program
    if program is None:
        who = "an unknown process"
    else:
        command = command_line(program.argv) or shown(program.exe) or "?"
        who = f"pid {program.pid} {shorten(command, _COMMAND_WIDTH)}"
    names = [shown(exe.rpartition(b"/")[2]) or "?" for _, exe in alert.ancestry[1:]]
    line = " ← ".join(["", *names]).strip() if names else ""
    line = shorten(line, _LINE_WIDTH)
    span = alert.span.words() if alert.span else ""
    if span:
        line = f"{line}  {span}" if line else span
    done = _done(alert)
    if repeats := alert.evidence.get("repeats"):
        done += f"  {repeats:,} like it before"
    took = f"{alert.latency_us / 1000:.2f} ms"
    if not colour:
        return f"{severity} {alert.rule.id}  {who}  {line}{done}  {took}"
    return (
        click.style(severity, fg=_COLOUR[alert.severity], bold=True)
        + " "
        + click.style(alert.rule.id, bold=True)
        + f"  {who}  "
        + click.style(line, dim=True)
        + click.style(done, fg="green", bold=True)
        + click.style(f"  {took}", dim=True)
    )


class Terminal:
    """Writes to ``stream`` (standard error); colours only where they are seen as such.

    Past the stream's buffer, whose lock whoever is stuck in it would keep: even the end of the process would
    wait for that.
    """

    def __init__(self, stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self.target = "standard error"
        self.failed = 0
        self._colour = self._stream.isatty() if colour is None else colour

    def tell(self, alert: Alert) -> None:
        """Print one alert."""
        self.say(format_alert(alert, colour=self._colour))

    def say(self, line: str) -> None:
        """Print a line that is already safe to print."""
        try:
            data = (line + "\n").encode(self._stream.encoding or "utf-8", "backslashreplace")
            fd = self._stream.fileno()
            while data:
                data = data[os.write(fd, data) :]
        except (OSError, ValueError):
            self.failed += 1  # nobody reads any more: alerts still reach the other sinks

    def close(self) -> None:
        """Nothing to give back."""


class JsonTerminal(Terminal):
    """Alerts on standard error as JSON Lines, for a program that reads them there."""

    def tell(self, alert: Alert) -> None:
        """Print one alert."""
        self.say(json.dumps(alert.to_json(), separators=(",", ":")))
