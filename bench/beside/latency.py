# SPDX-License-Identifier: Apache-2.0
"""From an exec or a connect to its line in a reader's hands; idle, and with every core compiling."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from typing import Any

import numpy as np

from bench import allowance
from bench.beside.field import Field
from bench.beside.lines import arrivals, first_seen, latencies
from bench.beside.tools import BrokenToolError, Tool
from bench.latency import every_core_compiling

ROUNDS, EVENTS, PAUSE_US = 4, 500, 1000
SHARES = (50, 90, 99, 99.9, 100)
KINDS = ("exec", "connect")
WORKS = {"exec": "chain", "connect": "connect"}
IDLE, BUSY = "idle", "every core compiling"


def one_turn(field: Field, tool: Tool) -> dict[str, tuple[list[float], int]]:
    """By kind: µs of each event of one turn, and how many were not told of."""
    (field.folder / "go").write_text("go\n")
    files = {kind: field.folder / f"times-{kind}" for kind in KINDS if getattr(tool, kind)}
    lines = ["echo ready", "read go"]
    for kind, file in files.items():
        file.unlink(missing_ok=True)
        work = [str(field.work), WORKS[kind], str(EVENTS), str(PAUSE_US), str(file)]
        lines.append(f"{shlex.join(work)} <{shlex.quote(str(field.folder / 'go'))} >/dev/null")
    script = ["sh", "-ec", "\n".join([*lines, "echo done", "read end || true"])]
    seen_at = arrivals(field.turn(tool, tool.watch, script).chunks)
    found = {}
    for kind, file in files.items():
        began = np.fromfile(file, np.uint64).astype(np.int64).tolist()
        seen = first_seen(seen_at, getattr(tool, kind), ports=kind == "connect", hexadecimal=tool.hex)
        found[kind] = latencies(seen, began)
    return found


def measure(field: Field, rounds: int = ROUNDS) -> dict[str, Any]:
    """By load, kind and contender: percentiles in µs, and what was missed."""
    figures: dict[str, Any] = {}
    for load in allowance.parts((IDLE, BUSY)):
        taken: dict[tuple[str, str], list[float]] = {}
        missed: dict[tuple[str, str], int] = {}
        with every_core_compiling(900) if load == BUSY else nullcontext():
            for number in allowance.rounds(rounds, least=1):
                for tool in field.rotated(number):
                    if tool is None:
                        continue
                    try:
                        found = one_turn(field, tool)
                    except BrokenToolError as why:
                        field.absent[f"{tool.title}, {load}"] = str(why)
                        continue
                    for kind, (values, without) in found.items():
                        taken.setdefault((kind, tool.title), []).extend(values)
                        missed[kind, tool.title] = missed.get((kind, tool.title), 0) + without
        figures[load] = {
            f"{kind}: {title}": {
                "n": len(values),
                "missed": missed[kind, title],
                **{f"p{share:g}": float(np.percentile(values, share)) for share in SHARES if values},
            }
            for (kind, title), values in sorted(taken.items())
        }
    return figures
