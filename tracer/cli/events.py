# SPDX-License-Identifier: Apache-2.0
"""``vigiles events FILE…``"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.recordings import opened
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.record.export import Event
    from tracer.record.reader import Recording


class _Time(click.ParamType):  # type: ignore[type-arg] # generic in stubs of click 8.3 alone
    """RFC 3339, or what is left of it; without an offset it is UTC."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-03-01T12:00:00Z", param, ctx)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        return int(found.timestamp()) * 1_000_000_000 + found.microsecond * 1000


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="exec, connect, first-bytes, … (repeatable)."
)
@click.option("--pid", "pids", multiple=True, type=int, help="Of this process (repeatable).")
@click.option("--exe", metavar="TEXT", help="Of programs with TEXT in their path.")
@click.option("--since", type=_Time(), metavar="TIME", help="From 2026-03-01T12:00:00Z on.")
@click.option("--until", type=_Time(), metavar="TIME", help="Before that time.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, with all fields.")
@click.option(
    "--parquet", metavar="FILE", type=click.Path(path_type=Path), help="Write a table (needs vigiles[arrow])."
)
def events(
    *,
    paths: tuple[Path, ...],
    kinds: tuple[str, ...],
    pids: tuple[int, ...],
    exe: str | None,
    since: int | None,
    until: int | None,
    as_json: bool,
    parquet: Path | None,
) -> int:
    """Print or export the events in recordings.

    An exec that was there before the watch, or was missed, is marked as made: it was read from /proc.
    """
    from tracer.record.export import Filter
    from tracer.record.export import events as events_of

    wanted = Filter(
        kinds=_numbers(kinds) if kinds else None,
        pids=frozenset(pids) if pids else None,
        exe=exe,
        since_ns=since,
        until_ns=until,
    )
    recordings = opened(paths)
    found = (event for parts in recordings for event in events_of(parts, wanted))
    if parquet is not None:
        from tracer.record.table import write_parquet

        print(f"vigiles: {write_parquet(found, parquet):,} events", file=sys.stderr)
    else:
        for event in found:
            print(json.dumps(event.to_json(), separators=(",", ":")) if as_json else _line(event))
    _tell_damage(recordings)
    return 0


def _numbers(kinds: tuple[str, ...]) -> frozenset[int]:
    from tracer.kernel.schema import KIND_NAME, LAYOUT

    known = {KIND_NAME[number]: number for number in LAYOUT}
    if unknown := [kind for kind in kinds if kind not in known]:
        raise click.BadParameter(
            f"there is no kind {unknown[0]!r}; there are {', '.join(sorted(known))}", param_hint="--kind"
        )
    return frozenset(known[kind] for kind in kinds)


def _line(event: Event) -> str:
    from tracer import clock

    when = clock.rfc3339(event.wall_ns)[:26].replace("T", " ")
    exe = printable(event.exe.rpartition("/")[2]) or "?"
    made = " (made)" if event.made else ""
    return f"{when} {event.kind:<11} {int(event.record['tgid']):>7} {exe:<16} {event.detail()}{made}"


def _tell_damage(recordings: list[list[Recording]]) -> None:
    for parts in recordings:
        for part in parts:
            for damage in part.damage:
                print(f"vigiles: {printable(str(part.path))} is damaged: {damage}", file=sys.stderr)
