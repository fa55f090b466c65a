# SPDX-License-Identifier: Apache-2.0
"""What marking costs: a span, a call of setsockopt(2) that has nothing to do with it, a large environment.

python -m bench spans
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench import allowance, machine
from bench.contenders import BULK_BYTES, Arena, Contender
from bench.tables import WIDTH, program_table
from tracer.kernel.probes import ProbeOptions
from tracer.rules import load_rules

UNTRACED, TRACED, WITHOUT = "untraced", "traced", "traced, without spans"
ROUNDS = 12
#: Task of the worker, its arguments, what one of it is.
TASKS: dict[str, tuple[tuple[object, ...], str]] = {
    "options": (("options", 20, 1000), "setsockopt(SO_KEEPALIVE)"),
    "marks": (("marks", 5, 1000), "begin, switch, end: the calls by themselves"),
    "python": (("marked", 5, 1000), "with tracer.span(tool=…, step=…): pass"),
    "spawn": (("spawn", 40, 0, 0), "spawn and wait, no environment"),
    "environment": (("spawn", 40, 0, 60), "spawn and wait, 60 variables, 4 KiB"),
}
STARTS = 20


def starts() -> dict[str, float]:
    """Milliseconds that a program takes from start to end, in turn."""
    script = str(Path(sys.executable).with_name("vigiles"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "vigiles span begin": [script, "span", "begin", "--tool", "bash"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(STARTS):
        for name, argv in commands.items():
            began = time.perf_counter()
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: float(np.median(taken)) for name, taken in times.items()}


def measure() -> dict[str, Any]:
    """Every task by every contender."""
    options = ProbeOptions(rules=load_rules([]), bulk_bytes=BULK_BYTES)
    contenders = [
        Contender(UNTRACED, None),
        Contender(WITHOUT, options, without=("on_span",)),
        Contender(TRACED, options),
    ]
    figures: dict[str, Any] = {}
    with Arena(contenders) as arena:
        figures["programs"] = {
            title: arena.program_costs(contenders[-1], [task])
            for task, title in TASKS.values()
            if task[0] != "marked"
        }
        for name, (task, _) in allowance.parts(list(TASKS.items())):
            turns = arena.compare(task, ROUNDS)
            figures[name] = turns.figures(UNTRACED)
            figures[name][TRACED]["against without"] = turns.figures(WITHOUT)[TRACED]
    return figures


def main() -> None:
    """Print the figures and keep them."""
    print(machine.headline())
    figures = measure()
    for name, (_, title) in TASKS.items():
        print(title)
        for contender in (UNTRACED, WITHOUT, TRACED):
            t = figures[name][contender]
            more = t["difference_ns"]
            print(
                f"  {contender:<22} {t['ns']['median']:>9,.0f} ns  {more['median']:>+8,.0f} "
                f"(quartiles {more['q1']:+,.0f} … {more['q3']:+,.0f})"
            )
        t = figures[name][TRACED]["against without"]
        print(f"  of it for spans: {t['difference_ns']['median']:+,.0f} ns, ratio {t['ratio']['median']:.3f}")
    Console(width=WIDTH).print(program_table(figures["programs"]))
    figures["start"] = starts()
    for command, milliseconds in figures["start"].items():
        print(f"{command:<22} {milliseconds:6.1f} ms")
    print(f"\nkept in {machine.keep('spans', figures)}")


if __name__ == "__main__":
    main()
