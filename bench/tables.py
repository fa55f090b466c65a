# SPDX-License-Identifier: Apache-2.0
"""Figures of contenders, for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

WIDTH = 130
QUARTILES, EXTREMES = ("q1", "q3"), ("min", "max")


def contender_table(
    title: str, rows: dict[str, dict[str, Any]], unit: str = "µs", ends: tuple[str, str] = QUARTILES
) -> Table:
    """By task and contender: time, difference, ratio; ``ends``: between which most, or all, rounds lie; and
    between what the median of all rounds that there could be does.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    table.add_column("contender")
    low, high = ends
    between = "quartiles" if ends == QUARTILES else f"{low} … {high}"
    for column in (unit, f"more, {unit} ({between})", f"ratio ({between})", "its median, 95 %"):
        table.add_column(column, justify="right")
    for task, contenders in rows.items():
        for name, t in contenders.items():
            more, ratio = t["difference_ns"], t["ratio"]
            table.add_row(
                task,
                name,
                f"{t['ns']['median'] / 1e3:.1f}",
                f"{more['median'] / 1e3:+.1f} ({more[low] / 1e3:+.1f} … {more[high] / 1e3:+.1f})",
                f"{ratio['median']:.3f} ({ratio[low]:.3f} … {ratio[high]:.3f})",
                f"{ratio['low']:.3f} … {ratio['high']:.3f}",
            )
    return table


def verdict_table(rows: dict[str, dict[str, float] | None]) -> Table:
    """What verdicts took, from the hook's beginning."""
    table = Table(title="from hook to verdict, µs", title_justify="left")
    for column in ("", "n", "p50", "p99", "max"):
        table.add_column(column, justify="right" if column else "left")
    for name, t in rows.items():
        if t:
            table.add_row(name, str(t["n"]), *(f"{t[k] / 1e3:.1f}" for k in ("p50", "p99", "max")))
    return table


def program_table(cases: dict[str, dict[str, Any]]) -> Table:
    """What a run of each program took, by the kernel's own count."""
    table = Table(title="programs, ns a run (the kernel's count)", title_justify="left")
    for column in ("while", "program", "runs", "ns"):
        table.add_column(column, justify="right" if column in ("runs", "ns") else "left")
    for case, programs in cases.items():
        if "error" in programs:
            table.add_row(case, programs["error"])
            continue
        for name, t in programs.items():
            table.add_row(case, name, f"{t['runs']:,}", f"{t['ns']:,.0f}")
    return table
