# SPDX-License-Identifier: Apache-2.0
"""``vigiles top``"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from tracer.cli.options import WatchOptions, looking_options
from tracer.text import printable, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live as Screen

    from tracer.report.live import Live, Process
    from tracer.sinks.onlooker import Onlooker

_COLOUR = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bold bright_red"}
_UNITS = ("B", "kB", "MB", "GB", "TB")
#: Lines for alerts; what is left of the screen is for processes.
_ALERTS = 8
_WIDTH, _HEIGHT = 1000, 60


@click.command()
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--tree", metavar="ID", help="A tree that is being watched.")
@click.option("-p", "--pid", "pids", multiple=True, type=int, help="Root of any tree (repeatable).")
@click.option("--every", default=1.0, show_default=True, type=click.FloatRange(0.1), metavar="SECONDS")
@click.option("--once", is_flag=True, help="Print how it is now, and end.")
@looking_options
def top(
    *,
    options: WatchOptions,
    path: Path | None,
    tree: str | None,
    pids: tuple[int, ...],
    every: float,
    once: bool,
) -> int:
    """Show who is there and what they are at: in a tree that runs, or in FILE, a recording that is being written.

    Live processes with their open flows, bytes, GPU calls and, where NVML is asked, what they use of the card; those with
    alerts come first. Without FILE, --tree or --pid it is the tree that is being watched, if that is one. Ends with the tree,
    or by Ctrl-C. Bytes are those of flows that were sampled or have ended; of a tree that runs, those since you look.
    """
    if (path is not None) + (tree is not None) + bool(pids) > 1:
        raise click.UsageError("say what to look at: a recording, --tree or --pid")
    with _Screen(once=once) as screen:
        if path is not None:
            _follow(path, screen, every)
        else:
            from tracer.session.look import look_on, only_tree

            def draw(onlooker: Onlooker, name: str, lost: int, ended: bool) -> None:
                live = onlooker.look()
                live.lost = lost
                screen.show(live, name, socket.gethostname(), ended)

            look_on(
                tree or (None if pids else only_tree()), list(pids), options, draw,
                every=every, once=screen.once,
            )  # fmt: skip
    return 0


def _follow(path: Path, screen: _Screen, every: float) -> None:
    from tracer.record.follow import Follower
    from tracer.report.live import Live

    follower, live = Follower(path), Live()
    try:
        while True:
            live.take(follower)
            header = follower.recording.header
            screen.show(live, header.tree, header.host, follower.ended)
            if screen.once or follower.ended:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return
    finally:
        follower.close()


class _Screen:
    """A terminal of which all is taken, as long as it lasts, and on which the last picture stays; or one picture, printed."""

    def __init__(self, *, once: bool) -> None:
        from rich.console import Console

        tty = sys.stdout.isatty()
        self.once = once or not tty
        self._console = Console(highlight=False, width=None if tty else _WIDTH)
        self._live: Screen | None = None
        self._last: RenderableType | None = None

    def show(self, live: Live, tree: str, host: str, ended: bool) -> None:
        """Draw how it is."""
        height = _HEIGHT if self.once else self._console.height
        self._last = _drawn(live, tree, host, ended, height)
        if self.once:
            return
        if self._live is None:
            from rich.live import Live as Screen

            self._live = Screen(console=self._console, screen=True, auto_refresh=False)
            self._live.start()
        self._live.update(self._last, refresh=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._last is not None:
            self._console.print(self._last)


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


def _drawn(live: Live, tree: str, host: str, ended: bool, height: int) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    told = ", ".join(f"{live.by_severity[s]} {s}" for s in reversed(_COLOUR) if live.by_severity[s]) or "none"
    state = "ended" if ended else "going on"
    head = f"{printable(tree)} on {printable(host)}, {state} · {len(live.processes):,} of {live.seen:,} processes · alerts: {told} · lost: {live.lost:,}"
    if live.passed_over:
        head += f" · {size_text(live.passed_over)} of events passed over"
    table = Table(box=None, pad_edge=False, expand=False)
    for name, right in (
        ("pid", 1),
        ("age", 1),
        ("flows", 1),
        ("sent", 1),
        ("received", 1),
        ("GPU", 1),
        ("card", 1),
        ("", 0),
    ):
        table.add_column(
            name, justify="right" if right else "left", no_wrap=bool(right), style="dim" if right else None
        )
    for p in live.rows(max(height - _ALERTS - 4, 5)):
        age = max(live.last_ns - p.start, 0) / 1e9
        line = untrusted(p.command or "?", "bold red" if p.rules else "")
        if p.rules:
            line.append("  " + ", ".join(map(printable, p.rules)), "red")
        carried = [size_text(p.sent), size_text(p.received)] if p.sent or p.received else ["", ""]
        table.add_row(
            str(p.pid),
            f"{age:.0f} s",
            str(len(p.flows) or ""),
            *carried,
            f"{p.gpu:,}" if p.gpu else "",
            _use(p),
            line,
        )
    alerts = [_alert(alert) for alert in list(live.alerts)[-_ALERTS:]]
    return Group(untrusted(head, "bold"), table, untrusted(""), *alerts)


def _use(process: Process) -> str:
    busy = "" if process.busy is None else f"{process.busy} %"
    return ", ".join(filter(None, (busy, size_text(process.held) if process.held else "")))


def _alert(alert: dict[str, Any]) -> Any:
    command = printable(" ".join(map(str, alert["argv"])) or str(alert["exe"]))
    done = (
        alert["action"] if alert["action"] != "none" else f"would: {alert['would']}" if alert["would"] else ""
    )
    line = untrusted(f"{str(alert['time'])[11:23]} ", "dim")
    line.append(f"{alert['severity'].upper():8} ", _COLOUR[alert["severity"]])
    line.append(f"{printable(alert['rule'])}  pid {alert['pid']} {shorten(command, 90)}  {printable(done)}")
    return line
