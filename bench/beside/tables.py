# SPDX-License-Identifier: Apache-2.0
"""The three tables, for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bench.tables import WIDTH

COSTS = {
    "exec": ("exec", 1e3, "µs"),
    "connect": ("TCP connect, close", 1e3, "µs"),
    "ask": ("1 byte there and back", 1e3, "µs"),
    "stream": ("TCP out, 64 KiB", 1e3, "µs"),
    "datagram": ("UDP out, 64 bytes", 1e3, "µs"),
    "ioctl": ("ioctl of a GPU device", 1e3, "µs"),
    "getppid": ("getppid of the tree", 1, "ns"),
    "getppid by others": ("getppid of others", 1, "ns"),
    "compile": ("compile", 1, "s"),
    "test suite": ("test suite", 1, "s"),
    "data loader": ("data loader", 1, "s"),
}


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def show(figures: dict[str, Any]) -> None:
    """Print them."""
    console = Console(width=WIDTH)
    for title, command in figures["commands"].items():
        console.print(f"{title}: [dim]{command}", highlight=False)
    for title, why in figures["absent"].items():
        console.print(f"{title}: not measured: {why}", highlight=False, markup=False)
    for load, rows in figures["latency_us"].items():
        columns = ["", "n", "missed", "p50", "p90", "p99", "p99.9", "max"]
        table = _table(f"from event to a reader's line, ms, {load}", columns)
        for name, t in rows.items():
            shares = [t.get(share) for share in ("p50", "p90", "p99", "p99.9", "p100")]
            cells = ["-" if s is None else f"{s / 1e3:.2f}" for s in shares]
            table.add_row(name, str(t["n"]), str(t["missed"]), *cells)
        console.print(table)
    costs = figures["overhead"]
    table = _table("what it costs: median ratio to nobody watching (least … most)", ["", *costs])
    for name, (title, unit, word) in COSTS.items():
        cells = []
        for contender, found in costs.items():
            t = found[name]
            if contender == "nothing":
                cells.append(f"{t['median'] / unit:.3g} {word}")
            else:
                cells.append(f"{t['ratio']:.2f} ({t['least']:.2f} … {t['most']:.2f})")
        table.add_row(title, *cells)
    for name, form in (("cpu of the tracer", "{:.0%}"), ("resident MiB", "{:.0f}")):
        table.add_row(name, *(form.format(c[name]["median"]) if name in c else "" for c in costs.values()))
    console.print(table)
    table = _table(
        "connects in one second", ["offered", "contender", "a second", "kept", "lost", "says lost", "cpu"]
    )
    for rate, contenders in figures["loss"].items():
        for title, t in contenders.items():
            cells = [f"{t['a second']:,.0f}"]
            if "kept" in t:
                said = "" if t["said lost"] is None else f"{t['said lost']:,.0f}"
                cells += [f"{t['kept']:,.0f}", f"{t['lost']:.1%}", said, f"{t['cpu of the tracer']:.0%}"]
            table.add_row(rate, title, *cells)
    console.print(table)
