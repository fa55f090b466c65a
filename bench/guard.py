# SPDX-License-Identifier: Apache-2.0
"""What is stopped, by whom and how soon: every scenario of the corpus once, enforced.

From the deciding event, by the kernel's clock, to the first thing that was done about it: by the probe, before
the program's first instruction or the packet's departure; else by the responder, in user space.

    python -m bench guard
"""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
from rich.console import Console

from bench import machine
from bench.detection import WIDTH, drawn
from tracer.rules import load_rules
from tracer.scenario.runner import run
from tracer.scenario.spec import read
from tracer.scenario.table import Score, show
from tracer.scenario.verdict import Result

SHARES = (50, 90, 99, 100)


def first_effects(results: list[Result]) -> dict[str, list[float]]:
    """µs from event to effect, one for each scenario that was stopped, by who did it."""
    found: dict[str, list[float]] = {"probe": [], "responder": []}
    for result in results:
        flags = [flag for flag in result.deciding if flag.effect_us is not None]
        if result.scenario.kind == "malicious" and flags:
            first = min(flags, key=lambda flag: flag.effect_us or 0.0)
            found["probe" if first.by_probe else "responder"].append(first.effect_us or 0.0)
    return found


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    rules = load_rules([])
    began = time.monotonic()
    results = [run(read(path), rules, enforce=True) for path in drawn()]
    took = time.monotonic() - began
    show(results, Console(width=WIDTH))
    shares = {}
    for who, effects in first_effects(results).items():
        if effects:
            shares[who] = dict(zip(map(str, SHARES), np.percentile(effects, SHARES).tolist(), strict=True))
            line = ", ".join(f"p{share} {value / 1000:.3f}" for share, value in shares[who].items())
            print(f"stopped by the {who}: {len(effects)}; event → effect in ms: {line}")
    print(f"{len(results)} scenarios in {took:.0f} s")
    figures = {
        "score": asdict(Score.of(results)),
        "effect_us": shares,
        "seconds": took,
        "scenarios": [result.to_json() for result in results],
    }
    print(f"\nkept in {machine.keep('guard', figures)}")


if __name__ == "__main__":
    main()
