# SPDX-License-Identifier: Apache-2.0
"""How many connects a second a tracer keeps, of how many offered; and whether it knows what it has lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.beside.field import Field, times_file, words_of
from bench.beside.lines import count, said_lost
from bench.beside.tools import BrokenToolError, Tool

#: Offered a second; 0: as many as go.
RATES = (10_000, 30_000, 100_000, 0)
SECONDS = 1.0


def one_turn(field: Field, tool: Tool | None, rate: int) -> dict[str, float | None]:
    """What came of a storm of one second."""
    keep = tool.keep if tool else []
    with times_file(field) as times:
        outcome = field.turn(tool, keep, ["storm", str(rate), str(SECONDS), str(times)])
        offered, took_ns = np.fromfile(times, np.uint64).tolist()
    figures: dict[str, float | None] = {"offered": offered, "a second": offered / (took_ns / 1e9)}
    if tool:
        kept = count(field.kept_lines(tool), tool.connect)
        figures |= {
            "kept": kept,
            "lost": max(offered - kept, 0) / offered,
            "said lost": said_lost(words_of(outcome, tool), tool.lost) if tool.lost else None,
            "cpu of the tracer": outcome.cpu_s / outcome.wall_s,
            "resident MiB": outcome.resident_mib,
        }
    return figures


def measure(field: Field) -> dict[str, Any]:
    """By rate and contender."""
    figures: dict[str, Any] = {}
    for number, rate in enumerate(RATES):
        row = figures.setdefault(str(rate or "all that go"), {})
        for tool in field.rotated(number):
            if tool is not None and not tool.connect:
                continue
            title = tool.title if tool else "nothing"
            try:
                row[title] = one_turn(field, tool, rate)
            except BrokenToolError as why:
                field.absent[f"{title}, loss"] = str(why)
    return figures
