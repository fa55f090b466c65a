# SPDX-License-Identifier: Apache-2.0
"""``vigiles correlate RECORDING… --log FILE``"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.recordings import opened
from tracer.text import printable, shorten

if TYPE_CHECKING:
    from tracer.correlate.match import Candidate, Offset

_WIDTH = 100
#: Beside the likeliest, those that might be it; --json has all.
_WORTH_TELLING = 0.02


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "--log",
    "log_paths",
    required=True,
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Tool calls, one a line, or several (repeatable).",
)
@click.option(
    "--map",
    "map_name",
    default="rollout",
    show_default=True,
    metavar="NAME|FILE",
    help="How its lines are to be read: openai, otel-genai, roll, rollout, text, verl, or a TOML file.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines, with all candidates.")
def correlate(*, paths: tuple[Path, ...], log_paths: tuple[Path, ...], map_name: str, as_json: bool) -> int:
    """Find the tool calls in a log that alerts of a recording came of.

    For runs whose tool calls were not marked. Clocks are compared by commands that stand in both. Each alert gets
    its candidates, the likeliest first, with how sure that is and why; what is not told apart is not guessed.
    """
    from tracer.correlate.lines import Lines
    from tracer.correlate.logs import Log, load_map, read_log, read_time
    from tracer.correlate.match import Matcher, compare_clocks
    from tracer.record import layout

    how, log = load_map(map_name), Log()
    for log_path in log_paths:
        log.add(read_log(log_path, how))
    for parts in opened(paths):
        lines = Lines(parts)
        offset = compare_clocks(log.calls, lines.all())
        _say_clocks(offset, len(log.calls), log.skipped)
        matcher = Matcher(log.calls, offset, parts[0].header.host)
        for part in parts:
            for found in part.of_types(layout.ALERT):
                alert = part.read(found)
                if alert is None:
                    continue
                when = read_time(alert["time"]) or 0
                candidates = matcher.candidates(when, lines.line(alert["pid"], alert["start_ns"]))
                _tell(alert, candidates, as_json=as_json, several=len(log_paths) > 1)
    return 0


def _say_clocks(offset: Offset, calls: int, skipped: dict[str, int]) -> None:
    def say(line: str) -> None:
        print(f"vigiles: {line}", file=sys.stderr)

    rest = "".join(f", {n:,} lines skipped: {why}" for why, n in sorted(skipped.items()))
    say(f"{calls:,} tool calls in the log{rest}")
    if not offset.support:
        say("no command stands in both: clocks could not be compared, times are taken as they are")
    else:
        say(
            f"the recording's clock is {offset.seconds:+.3f} s ahead of the log's "
            f"(±{offset.spread:.3f} s, by {offset.support:,} commands that stand in both)"
        )


def _tell(alert: dict[str, Any], candidates: list[Candidate], *, as_json: bool, several: bool) -> None:
    if as_json:
        rows = [
            {
                "chance": round(c.chance, 4),
                "why": c.why,
                **{n: getattr(c.call, n) for n in c.call.__dataclass_fields__},
            }
            for c in candidates
        ]
        names = ("time", "rule", "severity", "pid", "exe", "argv")
        print(json.dumps({"alert": {n: alert[n] for n in names}, "candidates": rows}, separators=(",", ":")))
        return
    command = " ".join(map(str, alert["argv"])) or str(alert["exe"])
    print(
        printable(
            f"{alert['severity'].upper():8} {alert['rule']}  pid {alert['pid']} {shorten(command, _WIDTH)}"
        )
    )
    if not candidates:
        print("  no line of the log is near")
    for candidate in candidates[:1] + [c for c in candidates[1:3] if c.chance >= _WORTH_TELLING]:
        call = candidate.call
        where = ", ".join(
            f"{name} {value}" for name, value in (("step", call.step), ("episode", call.episode)) if value
        )
        which = f"{call.log} line" if several else "line"
        head = f"  {candidate.chance:4.0%}  {which} {call.line}: {call.tool or 'tool call'} {shorten(call.command, _WIDTH)!r}"
        print(printable(f"{head}{f'  ({where})' if where else ''}"))
        print(printable(f"        {'; '.join(candidate.why)}"))
