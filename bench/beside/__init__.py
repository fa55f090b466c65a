# SPDX-License-Identifier: Apache-2.0
"""Beside what people would use instead: latency, cost and loss, each contender in turn, A B C, B C A, …

Contenders stand in ``tools.toml``; one that is not installed, or that this kernel does not let work, is listed
with the reason. Everybody is asked for the same: execs with their arguments, connects with their addresses.

    python -m bench beside
"""

from __future__ import annotations

from typing import Any

from bench import allowance, machine
from bench.beside import latency, loss, overhead, tables
from bench.beside.field import Field


def measure() -> dict[str, Any]:
    """All three, of every contender that works here."""
    with Field() as field:
        figures: dict[str, Any] = {
            "commands": {tool.title: field.shown(tool) for tool in field.tools},
            "absent": field.absent,
        }
        parts = {"loss": loss, "latency_us": latency, "overhead": overhead}
        for name, part in allowance.parts(list(parts.items())):
            figures[name] = part.measure(field)
        return figures


def main() -> None:
    """Print the tables and keep them."""
    print(machine.headline())
    figures = measure()
    tables.show(figures)
    print(f"\nkept in {machine.keep('beside', figures)}")
