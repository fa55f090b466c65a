# SPDX-License-Identifier: Apache-2.0
"""``vigiles top FILE``"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.text import printable, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tracer.record.follow import Follower
    from tracer.report.live import Live

_COLOUR = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bold bright_red"}
_UNITS = ("B", "kB", "MB", "GB", "TB")
#: Lines for alerts; what is left of the screen is for processes.
_ALERTS = 8
_WIDTH, _HEIGHT = 1000, 60


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--every", default=1.0, show_default=True, type=click.FloatRange(0.1), metavar="SECONDS")
@click.option("--once", is_flag=True, help="Print how it is now, and end.")
def top(*, path: Path, every: float, once: bool) -> int:
    """Show who is there and what they are at, from a recording that is being written.

    Live processes with their open flows, bytes and GPU calls; those with alerts come first. Ends with the watch, or
    by Ctrl-C. Bytes are those of flows that were sampled or have ended.
    """
    from rich.console import Console
    from rich.live import Live as Screen

    from tracer.record.follow import Follower
    from tracer.report.live import Live

    follower, live = Follower(path), Live()
    live.take(follower)
    tty = sys.stdout.isatty()
    console = Console(highlight=False, width=None if tty else _WIDTH)
    if once or not tty:
        console.print(_drawn(live, follower, _HEIGHT))
        return 0
    try:
        with Screen(
            _drawn(live, follower, console.height), console=console, screen=True, auto_refresh=False
        ) as screen:
            while not follower.ended:
                time.sleep(every)
                live.take(follower)
                screen.update(_drawn(live, follower, console.height), refresh=True)
    except KeyboardInterrupt:
        pass
    console.print(_drawn(live, follower, console.height))
    follower.close()
    return 0


def size_text(count: int) -> str:
    """Bytes, as people say it."""
    at, value = 0, float(count)
    while value >= 1000 and at < len(_UNITS) - 1:
        value, at = value / 1000, at + 1
    return f"{value:.1f} {_UNITS[at]}" if at else f"{count} B"


def untrusted(said: str, style: str = "") -> Any:
    """Never markup: the tree chose it."""
    from rich.text import Text

    return Text(said, style=style, no_wrap=True, overflow="ellipsis")


def _drawn(live: Live, follower: Follower, height: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    header = follower.recording.header
    told = ", ".join(f"{live.by_severity[s]} {s}" for s in reversed(_COLOUR) if live.by_severity[s]) or "none"
    state = "ended" if follower.ended else "going on"
    head = f"{printable(header.tree)} on {printable(header.host)}, {state} · {len(live.processes):,} of {live.seen:,} processes · alerts: {told} · lost: {live.lost:,}"
    table = Table(box=None, pad_edge=False, expand=False)
    for name, right in (
        ("pid", 1),
        ("age", 1),
        ("flows", 1),
        ("sent", 1),
        ("received", 1),
        ("GPU", 1),
        ("", 0),
    ):
        table.add_column(
            name, justify="right" if right else "left", no_wrap=True, style="dim" if right else None
        )
    for p in live.rows(max(height - _ALERTS - 4, 5)):
        age = max(live.last_ns - p.start, 0) / 1e9
        line = untrusted(p.command or "?", "bold red" if p.rules else "")
        if p.rules:
            line.append("  " + ", ".join(map(printable, p.rules)), "red")
        carried = [size_text(p.sent), size_text(p.received)] if p.sent or p.received else ["", ""]
        table.add_row(
            str(p.pid), f"{age:.0f} s", str(len(p.flows) or ""), *carried, f"{p.gpu:,}" if p.gpu else "", line
        )
    alerts = [_alert(alert) for alert in list(live.alerts)[-_ALERTS:]]
    return Group(untrusted(head, "bold"), table, untrusted(""), *alerts)


def _alert(alert: dict[str, Any]) -> Any:
    command = printable(" ".join(map(str, alert["argv"])) or str(alert["exe"]))
    done = (
        alert["action"] if alert["action"] != "none" else f"would: {alert['would']}" if alert["would"] else ""
    )
    line = untrusted(f"{str(alert['time'])[11:23]} ", "dim")
    line.append(f"{alert['severity'].upper():8} ", _COLOUR[alert["severity"]])
    line.append(f"{printable(alert['rule'])}  pid {alert['pid']} {shorten(command, 90)}  {printable(done)}")
    return line
