# SPDX-License-Identifier: Apache-2.0
"""What looking at first bytes costs a flow, and what it leaves of throughput and latency.

Over a veth between two network namespaces (the bridge and links of scenarios); the other end is not traced.

    python -m bench network
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import allowance, machine
from bench.contenders import BULK_BYTES, WORKER, Arena, Contender, took
from bench.tables import WIDTH, contender_table, program_table, verdict_table
from bench.worker import CHUNK
from tracer.kernel.probes import ProbeOptions
from tracer.rules import RuleSet, load_rules
from tracer.scenario.world import World

UNTRACED, BLIND, SEEING = "untraced", "traced, not looking at bytes", "traced"
NAMELESS = "traced, no rule asks for names"
FIRST_HOOKS = ("on_egress", "on_ingress")
#: Task: rounds, and how much of it a turn.
TASKS = {
    "flow": (24, 60),
    "ping": (24, 600),
    "send": (24, 600),
    "receive": (24, 600),
    "datagrams": (24, 10_000),
    "lookup": (24, 200),
}
#: Tasks whose time is for all of a turn, and what one part of it is.
WHOLE = ("send", "receive", "datagrams")


@contextmanager
def server(world: World) -> Iterator[dict[str, int]]:
    """The other end; its ports by task."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(WORKER), world.hosts["outside"].address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: world.enter("outside"),  # noqa: PLW1509 - there are no threads yet
    )
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate()


def without_names(rules: RuleSet) -> RuleSet:
    """The same, but for rules on connects that ask for names: answers of DNS need not be read."""
    named = {group.id for group in rules.groups if "host" in group.where}
    kept = tuple(
        rule
        for rule in rules.rules
        if rule.on != "connect" or not any(named & {*a.all, *a.any} for a in rule.alternatives)
    )
    return RuleSet(rules.groups, kept)


def measure() -> dict[str, Any]:
    """Every task by every contender."""
    rules = load_rules([])
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, World(Path(folder), ("inside", "outside")) as world:
        address = world.hosts["outside"].address
        options = ProbeOptions(rules=rules, bulk_bytes=BULK_BYTES)
        with server(world) as ports:
            contenders = [
                Contender(UNTRACED, None),
                Contender(BLIND, options, FIRST_HOOKS),
                Contender(NAMELESS, replace(options, rules=without_names(rules))),
                Contender(SEEING, options),
            ]
            with Arena(contenders, lambda: world.enter("inside")) as arena:
                for task, (rounds, count) in allowance.parts(list(TASKS.items())):
                    turns = arena.compare((task, count, address, ports[task]), rounds)
                    if task in WHOLE:
                        for values in turns.rounds.values():
                            values[:] = [value / count for value in values]
                    figures[task] = {
                        "contenders": turns.figures(UNTRACED),
                        "took_ns": took(turns.records[SEEING], "EVENT_FIRST_BYTES"),
                    }
                for task, (_, count) in TASKS.items():
                    figures[task]["programs"] = arena.program_costs(
                        contenders[-1], [(task, count, address, ports[task])]
                    )
    return figures


TITLES = {
    "flow": "connect, ask, answer, close",
    "ping": "1 byte there and back",
    "send": f"TCP out, {CHUNK >> 10} KiB",
    "receive": f"TCP in, {CHUNK >> 10} KiB",
    "datagrams": "UDP out, 64 bytes",
    "lookup": "a name asked for in DNS",
}


def main() -> None:
    """Print the tables and keep them."""
    print(machine.headline())
    console = Console(width=WIDTH)
    figures = measure()
    console.print(
        contender_table(
            "over a veth, medians of rounds", {TITLES[t]: figures[t]["contenders"] for t in TASKS}
        )
    )
    for task in ("send", "receive"):
        for name, t in figures[task]["contenders"].items():
            print(f"{TITLES[task]}: {CHUNK / t['ns']['median']:.2f} GB/s {name}")
    for name, t in figures["datagrams"]["contenders"].items():
        print(f"{TITLES['datagrams']}: {1e6 / t['ns']['median']:,.0f} thousand/s {name}")
    console.print(verdict_table({TITLES["flow"]: figures["flow"]["took_ns"]}))
    console.print(program_table({TITLES[t]: figures[t]["programs"] for t in TASKS}))
    print(f"\nkept in {machine.keep('network', figures)}")


if __name__ == "__main__":
    main()
