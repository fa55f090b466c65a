# SPDX-License-Identifier: Apache-2.0
"""From an exec or a connect to its line in a reader's hands; idle, and with every core compiling."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from bench.beside.field import Field, times_file
from bench.beside.lines import arrivals, first_seen, latencies
from bench.beside.tools import BrokenToolError, Tool
from bench.latency import every_core_compiling

ROUNDS, EVENTS, PAUSE_US = 4, 500, 2000
SHARES = (50, 90, 99, 99.9, 100)
KINDS = ("exec", "connect")
IDLE, BUSY = "idle", "every core compiling"


def one_turn(field: Field, tool: Tool, kind: str) -> tuple[list[float], int]:
    """µs of each event of one turn, and how many were not told of."""
    work = {"exec": "chain", "connect": "connect"}[kind]
    with times_file(field) as times:
        outcome = field.turn(tool, tool.watch, [work, str(EVENTS), str(PAUSE_US), str(times)])
        began = np.fromfile(times, np.uint64).astype(np.int64).tolist()
    seen = first_seen(
        arrivals(outcome.chunks), getattr(tool, kind), ports=kind == "connect", hexadecimal=tool.hex
    )
    return latencies(seen, began)


def measure(field: Field, rounds: int = ROUNDS) -> dict[str, Any]:
    """By load, kind and contender: percentiles in µs, and what was missed."""
    figures: dict[str, Any] = {}
    for load in (IDLE, BUSY):
        taken: dict[tuple[str, str], list[float]] = {}
        missed: dict[tuple[str, str], int] = {}
        with every_core_compiling(900) if load == BUSY else nullcontext():
            for number in range(rounds):
                for tool in field.rotated(number):
                    for kind in KINDS:
                        if tool is None or not getattr(tool, kind):
                            continue
                        key = (kind, tool.title)
                        try:
                            values, without = one_turn(field, tool, kind)
                        except BrokenToolError as why:
                            field.absent[f"{tool.title}, {load}"] = str(why)
                            continue
                        taken.setdefault(key, []).extend(values)
                        missed[key] = missed.get(key, 0) + without
        figures[load] = {
            f"{kind}: {title}": {
                "n": len(values),
                "missed": missed[kind, title],
                **{f"p{share:g}": float(np.percentile(values, share)) for share in SHARES if values},
            }
            for (kind, title), values in sorted(taken.items())
        }
    return figures
