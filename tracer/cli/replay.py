# SPDX-License-Identifier: Apache-2.0
"""``vigiles replay FILE…``"""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.options import rules_option
from tracer.cli.recordings import opened
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.alerts import Alert
    from tracer.policy import Policy
    from tracer.record.player import Excuse, Player
    from tracer.record.reader import Recording
    from tracer.rules import RuleSet


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@rules_option()
@click.option("--policy", metavar="FILE", type=click.Path(path_type=Path), help="Judge under this policy.")
@click.option(
    "--speed", type=click.Choice(["max", "1x"]), default="max", show_default=True, help="1x: as it happened."
)
@click.option("--diff", is_flag=True, help="Only what differs from the alerts of then: + new, - gone.")
@click.option("--json", "as_json", is_flag=True, help="Alerts as JSON Lines.")
def replay(
    *,
    paths: tuple[Path, ...],
    rules: tuple[Path, ...],
    policy: Path | None,
    speed: str,
    diff: bool,
    as_json: bool,
) -> int:
    """Judge recordings again: by the rules built in, and those given here.

    The same engine takes in the same events in the same order, so the same rules give the same alerts; other
    rules show what they would have told. Files of one recording are put together, several recordings
    are told in the order of time. What was done then is said; nothing is done now.
    """
    from tracer.policy import load_policy, load_rules_under
    from tracer.record.player import Player

    under = load_policy(policy) if policy else None
    judged_by = load_rules_under(under, rules)
    began = time.monotonic()
    players = [Player(parts, _terms_of(judged_by, parts[0], given=under is not None), _excuse(under))
               for parts in opened(paths)]  # fmt: skip
    told = heapq.merge(*(player.alerts() for player in players), key=lambda alert: alert.wall_ns)
    alerts = _at_speed(told) if speed == "1x" else told
    count = _tell_diff(alerts, players, as_json=as_json) if diff else _tell(alerts, as_json=as_json)
    _sum_up(players, count, time.monotonic() - began)
    return 0


def _terms_of(rules: RuleSet, first: Recording, *, given: bool) -> RuleSet:
    """What the command line said then of GPU users is said again, unless a policy speaks now."""
    from dataclasses import replace

    users = first.header.judged_by.get("gpu_users")
    if given or users is None or rules.terms.gpu_users is not None:
        return rules
    return rules.under(replace(rules.terms, gpu_users=tuple(map(str, users))))


def _excuse(policy: Policy | None) -> Excuse | None:
    from tracer.policy.excuse import excuses

    return None if policy is None or not policy.exceptions else partial(excuses, policy)


def _at_speed(alerts: Iterator[Alert]) -> Iterator[Alert]:
    first: tuple[float, int] | None = None
    for alert in alerts:
        first = first or (time.monotonic(), alert.wall_ns)
        time.sleep(max(0.0, first[0] + (alert.wall_ns - first[1]) / 1e9 - time.monotonic()))
        yield alert


def _tell(alerts: Iterator[Alert], *, as_json: bool) -> int:
    from tracer.sinks.terminal import format_alert

    colour = sys.stdout.isatty()
    count = 0
    for alert in alerts:
        count += 1
        if as_json:
            print(json.dumps(alert.to_json(), separators=(",", ":")))
        else:
            print(f"{_when(alert.to_json()['time'])}  {format_alert(alert, colour=colour)}")
    return count


def _when(time_text: str) -> str:
    return time_text[:23].replace("T", " ")


def _tell_diff(alerts: Iterator[Alert], players: list[Player], *, as_json: bool) -> int:
    """Alerts are the same if rule, time and process are."""
    from tracer.record.player import key_of

    now = [alert.to_json() for alert in alerts]
    then = [said for player in players for said in player.played.alerts_then]
    there_now, there_then = {key_of(said) for said in now}, {key_of(said) for said in then}
    rows = [("+", said) for said in now if key_of(said) not in there_then]
    rows += [("-", said) for said in then if key_of(said) not in there_now]
    for sign, said in sorted(rows, key=lambda row: str(row[1]["time"])):
        if as_json:
            print(json.dumps({"diff": sign, **said}, separators=(",", ":")))
            continue
        argv = " ".join(map(str, said.get("argv") or [])) or str(said.get("exe"))
        line = f"{sign} {_when(str(said['time']))}  {said['severity']:8} {said['rule']}  pid {said['pid']} {argv}"
        print(printable(line))
    return len(now)


def _sum_up(players: list[Player], count: int, seconds: float) -> None:
    """To standard error, so that standard output holds alerts alone."""
    total = sum(player.records for player in players)

    def say(line: str) -> None:
        print(f"vigiles: {line}", file=sys.stderr)

    say(f"replayed {total:,} events in {seconds:.2f} s: {count:,} alerts")
    for player in players:
        name = printable(str(player.parts[0].path))
        if player.played.other_rules:
            say(f"{name} was recorded under other rules or another policy than these")
        for part in player.parts:
            for damage in part.damage:
                say(f"{printable(str(part.path))} is damaged: {damage}")
            if part.records_skipped:
                say(
                    f"{printable(str(part.path))}: {part.records_skipped:,} records that this version has no place for"
                )
        lost = sum(sum(row.get("kinds", {}).values()) for row in player.played.losses)
        if lost:
            say(f"{name}: {lost:,} events were lost while it was recorded")
        gap = sum(row.get("records", 0) for row in player.played.gaps)
        if player.played.gaps:
            say(f"{name}: {gap:,} events in {len(player.played.gaps)} gaps were not written")
        if player.played.end is None:
            say(f"{name} has no end: its watch was killed, or the end is in a file that was not given")
