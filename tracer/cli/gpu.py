# SPDX-License-Identifier: Apache-2.0
"""``vigiles gpu FILE``"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.top import size_text, untrusted
from tracer.text import printable, shorten

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tracer.record.follow import Follower
    from tracer.report.gpus import Client, Gpus

_WIDTH = 1000
_COMMAND_MAX = 120
_COLUMNS = (
    ("pid", 1), ("client", 0), ("GPU", 0), ("contexts", 1), ("channels", 1), ("memory", 1), ("in use", 1), ("busy", 1),
    ("tuning", 1), ("calls", 1), ("", 0),
)  # fmt: skip


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each client.")
@click.option("--follow", is_flag=True, help="Go on as long as the recording is being written.")
@click.option("--every", default=1.0, show_default=True, type=click.FloatRange(0.1), metavar="SECONDS")
def gpu(*, path: Path, as_json: bool, follow: bool, every: float) -> int:
    """Show who uses the GPU, from a recording, which may still be being written.

    For each process: what kind of client it is, which cards or slices of one (MIG), contexts and channels, memory that it asked for
    (whatever it gave back), attempts to change clocks, power or modes, and calls. A running CUDA program makes hardly any calls:
    they tell what was set up, not how much is computed. Where the watch has asked NVML, it is told how much memory is in use,
    and for how much of a card's time it was busy (of two cards, 200 %): the last time, and at most.
    """
    from rich.console import Console

    from tracer.record.follow import Follower
    from tracer.report.gpus import Gpus
    from tracer.report.gpus import as_json as told

    follower, gpus = Follower(path), Gpus()
    gpus.take(follower)
    tty = sys.stdout.isatty()
    console = Console(highlight=False, width=None if tty else _WIDTH)
    try:
        if follow and tty and not as_json:
            _on_screen(console, gpus, follower, every)
        while follow and not follower.ended:
            time.sleep(every)
            gpus.take(follower)
    except KeyboardInterrupt:
        pass
    if as_json:
        for client in gpus.listed():
            click.echo(json.dumps(told(client, follower.recording.header.gpu_names)))
    else:
        console.print(_drawn(gpus, follower))
    follower.close()
    return 0


def _on_screen(console: object, gpus: Gpus, follower: Follower, every: float) -> None:
    from rich.console import Console
    from rich.live import Live

    assert isinstance(console, Console)
    with Live(_drawn(gpus, follower), console=console, screen=True, auto_refresh=False) as screen:
        while not follower.ended:
            time.sleep(every)
            gpus.take(follower)
            screen.update(_drawn(gpus, follower), refresh=True)


def _drawn(gpus: Gpus, follower: Follower) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    header = follower.recording.header
    clients = gpus.listed()
    head = f"{printable(header.tree)} on {printable(header.host)}: {len(clients):,} GPU clients"
    head += f" · driver: {printable(header.gpu_driver)}" if header.gpu_driver else ""
    if gone := gpus.forgotten + gpus.not_listed:
        head += f" · {gone:,} more are not kept"
    table = Table(box=None, pad_edge=False, expand=False)
    for name, right in _COLUMNS:
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for client in clients:
        table.add_row(*_row(client, header.gpu_names))
    return Group(untrusted(head, "bold"), table)


def _row(client: Client, names: dict[str, str]) -> list[Any]:
    from tracer.report.gpus import gpus_of

    tuning = client.tuning
    line = untrusted(shorten(client.command or "?", _COMMAND_MAX), "dim" if client.ended else "")
    remarks = client.traits() + [f"{count:,} × {what}" for what, count in tuning.items()]
    remarks += [f"{len(client.heirs)} forked children share its mappings"] * bool(client.heirs)
    remarks += [f"largest {size_text(client.largest)}"] * (0 < client.largest < client.asked)
    remarks += [f"{client.unsized:,} sizes unread"] * bool(client.unsized)
    if remarks:
        line.append("  " + ", ".join(remarks), "yellow" if tuning else "cyan")
    places = ", ".join(f"{name} ({names[name]})" if name in names else name for name in gpus_of(client))
    return [
        str(client.pid),
        untrusted(client.kind or "opened only"),
        untrusted(printable(places)),
        str(client.contexts or ""),
        str(client.channels or ""),
        size_text(client.asked) if client.asked else "",
        _last_and_most(client.in_use, client.in_use_highest, size_text),
        _last_and_most(client.busy, client.busy_highest, "{} %".format),
        f"{tuning.total():,}" if tuning else "",
        f"{client.total():,}",
        line,
    ]


def _last_and_most(last: int | None, most: int | None, text: Callable[[int], str]) -> str:
    """The last number, and the highest if that was another."""
    if most is None:
        return ""
    now = "?" if last is None else text(last)
    return now if last == most else f"{now} (≤ {text(most)})"
