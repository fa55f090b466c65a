# SPDX-License-Identifier: Apache-2.0
"""What is caught, and how soon: every scenario of the corpus once, under real probes.

A scenario counts once, whatever number of alerts it caused. What is known to be missed counts as missed.
Latency is from the kernel's time of the deciding event to the hand-out of the alert.

    python -m bench detection
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from bench import allowance, machine
from tracer.rules import load_rules
from tracer.scenario.find import corpus_folder, files
from tracer.scenario.runner import run
from tracer.scenario.spec import read
from tracer.scenario.table import Score, show

WIDTH = 150


def drawn() -> Iterator[Path]:
    """The corpus, or as much as there is time for: in an order in which any part is a fair sample."""
    paths = files(corpus_folder(Path(__file__).parent))
    random.Random(len(paths)).shuffle(paths)
    return allowance.some(paths, "scenarios")


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    rules = load_rules([])
    began = time.monotonic()
    results = [run(read(path), rules) for path in drawn()]
    took = time.monotonic() - began
    show(results, Console(width=WIDTH))
    score = Score.of(results)
    latencies = [r.deciding[0].latency_us for r in results if r.scenario.kind == "malicious" and r.deciding]
    p50 = float(np.median(latencies)) if latencies else None
    worst = max(latencies, default=None)
    if p50 is not None and worst is not None:
        print(f"deciding event → alert: p50 {p50:,.0f} µs, max {worst:,.0f} µs")
    print(f"{len(results)} scenarios in {took:.0f} s")
    figures = {
        "score": asdict(score) | {"precision": score.precision, "recall": score.recall},
        "latency_us": {"n": len(latencies), "p50": p50, "max": worst},
        "seconds": took,
        "scenarios": [result.to_json() for result in results],
    }
    print(f"\nkept in {machine.keep('detection', figures)}")


if __name__ == "__main__":
    main()
