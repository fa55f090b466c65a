# SPDX-License-Identifier: Apache-2.0
"""One table of what was found, for a page: a row a contender."""

from __future__ import annotations

from typing import Any

from bench.beside.latency import BUSY, IDLE

NONE = "–"
#: Heading, and which operation's ratio.
COSTS = {
    "exec": "exec",
    "connect": "connect",
    "1 byte there and back": "ask",
    "compile": "compile",
    "getppid of others": "getppid by others",
}


def table(figures: dict[str, Any]) -> str:
    """Markdown. Times in ms; costs as ratios to nobody watching; a contender that lacks a figure has a dash."""
    storm = list(figures["loss"])[-1]
    head = [
        "",
        *(f"{kind} → line, {load}: p50, p99" for kind in ("exec", "connect") for load in ("idle", "busy")),
        *COSTS,
        "its own CPU",
        "MiB",
        f"lost of {figures['loss'][storm]['nothing']['a second']:,.0f} connects/s",
    ]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for title in figures["commands"]:
        if any(absent.startswith(title) for absent in figures["absent"]):
            continue
        rows.append([title, *_row(figures, title, storm)])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _row(figures: dict[str, Any], title: str, storm: str) -> list[str]:
    cells = []
    for kind in ("exec", "connect"):
        for load in (IDLE, BUSY):
            t = figures["latency_us"][load].get(f"{kind}: {title}", {})
            cells.append(f"{t['p50'] / 1e3:.2f}, {t['p99'] / 1e3:.1f}" if "p50" in t else NONE)
    costs = figures["overhead"].get(title, {})
    for name in COSTS.values():
        t = costs.get(name)
        cells.append(f"×{t['ratio']:.2f} ({t['least']:.2f}–{t['most']:.2f})" if t else NONE)
    cells.append(f"{costs['cpu of the tracer']['median']:.0%}" if costs else NONE)
    cells.append(f"{costs['resident MiB']['median']:.0f}" if costs else NONE)
    t = figures["loss"][storm].get(title)
    cells.append(f"{t['lost']:.0%} of its {t['a second']:,.0f}" if t else NONE)
    return cells
