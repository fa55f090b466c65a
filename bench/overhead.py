# SPDX-License-Identifier: Apache-2.0
"""What enforcing costs a job: the same work untraced, observed, under a policy, and with the policy enforced.

Over a veth between network namespaces, as in ``bench network``. The policy is of the size that a run of a
training job comes to; what is measured is allowed by it, but for the connects that are refused.

    python -m bench overhead
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench import allowance, machine
from bench.contenders import BULK_BYTES, Arena, Contender, Turns
from bench.network import server
from bench.tables import EXTREMES, WIDTH, contender_table
from bench.worker import CHUNK, TRUE
from tracer.kernel import schema
from tracer.kernel.probes import ProbeOptions
from tracer.policy import load_policy, load_rules_under
from tracer.rules import RuleSet, load_rules
from tracer.rules.model import ACTIONS
from tracer.scenario.world import World

UNTRACED, OBSERVED, UNDER, ENFORCED = "untraced", "observed", "under a policy, observed", "enforced"
#: Task: rounds, and how much of it a turn.
TASKS = {"spawn": (24, 40), "connect": (24, 200), "refused": (24, 200), "flow": (24, 100), "send": (24, 400)}
TITLES = {
    "spawn": "spawn and wait",
    "connect": "TCP connect, close",
    "refused": "TCP connect to a place not allowed",
    "flow": "connect, ask, answer, close",
    "send": f"TCP out, {CHUNK >> 10} KiB",
}
PLACES, PROGRAMS = 30, 40
#: Nobody listens there, and no policy here allows it.
CLOSED = 9


def policy_text(address: str) -> str:
    """PLACES destinations, of which ``address`` is one, and PROGRAMS programs, to be enforced."""
    nets = [f"192.0.2.{16 * number}/28:443" for number in range(12)]
    nets += [
        f"203.0.113.{number}:{port}" for number, port in enumerate((22, 53, 80, 5000, 8080, 9000, 29500), 1)
    ]
    hosts = [f"c{number}.registry{number}.example:443" for number in range(PLACES - len(nets) - 1)]
    programs = [str(Path(TRUE).resolve()), "/usr/lib/gcc/*", "/opt/job/bin/*", "/usr/bin/python*"]
    programs += [f"/usr/bin/tool-{number}x" for number in range(PROGRAMS - len(programs))]
    return "\n".join([
        '[policy]\nmode = "enforce"',
        f"[network]\nconnect = {[*nets, *hosts, address]}\nconnect_action = 'block'\nlisten = ['8000-8100']",
        f"[exec]\nallow = {programs}\nallow_action = 'kill'",
    ])  # fmt: skip


def policy_rules(folder: Path, address: str) -> RuleSet:
    """The packs under that policy."""
    file = folder / "policy.toml"
    file.write_text(policy_text(address))
    policy = load_policy(file)
    assert policy.connect
    assert policy.allow
    assert (len(policy.connect.entries), len(policy.allow.entries)) == (PLACES, PROGRAMS)
    return load_rules_under(policy)


def stopped(records: list[bytes]) -> int:
    """How many connects the probe has refused."""
    connects = [
        np.frombuffer(record, schema.CONNECT, 1)[0]
        for record in records
        if np.frombuffer(record, schema.HEAD, 1)[0]["kind"] == schema.KIND["EVENT_CONNECT"]
    ]
    return sum(bool(int(e["done"]) >> ACTIONS.index("block") & 1) for e in connects)


def see_that_it_enforces(task: str, turns: Turns) -> None:
    """A figure for what was not done would be a good one: all refused where that is meant, nothing elsewhere."""
    _, count = TASKS[task]
    for name, records in turns.records.items():
        wanted = len(turns.rounds[name]) * count if (task, name) == ("refused", ENFORCED) else 0
        assert stopped(records) == wanted, (task, name, stopped(records))


def measure() -> dict[str, Any]:
    """Every task by every contender."""
    figures: dict[str, Any] = {}
    hosts = ("inside", "outside", "third")
    with tempfile.TemporaryDirectory() as folder, World(Path(folder), hosts) as world:
        address, other = world.hosts["outside"].address, world.hosts["third"].address
        options = ProbeOptions(rules=load_rules([]), bulk_bytes=BULK_BYTES)
        under = replace(options, rules=policy_rules(Path(folder), address))
        with server(world) as ports:
            tasks: dict[str, tuple[object, ...]] = {
                "spawn": ("spawn", TASKS["spawn"][1], 0),
                "refused": ("connect", TASKS["refused"][1], other, CLOSED),
            }
            contenders = [
                Contender(UNTRACED, None),
                Contender(OBSERVED, options),
                Contender(UNDER, under),
                Contender(ENFORCED, under, enforce=True),
            ]
            with Arena(contenders, lambda: world.enter("inside")) as arena:
                for task, (rounds, count) in allowance.parts(list(TASKS.items())):
                    turns = arena.compare(tasks.get(task, (task, count, address, ports.get(task))), rounds)
                    see_that_it_enforces(task, turns)
                    if task == "send":
                        for values in turns.rounds.values():
                            values[:] = [value / count for value in values]
                    figures[task] = turns.figures(UNTRACED)
                    figures[task][ENFORCED]["against observed"] = turns.figures(OBSERVED)[ENFORCED]["ratio"]
    return figures


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    figures = measure()
    title = f"medians of rounds, {PLACES} places and {PROGRAMS} programs allowed"
    rows = {TITLES[task]: figures[task] for task in TASKS}
    Console(width=WIDTH).print(contender_table(title, rows, ends=EXTREMES))
    for task in TASKS:
        ratio = figures[task][ENFORCED]["against observed"]
        words = f"{ratio['median']:.3f} ({ratio['min']:.3f} … {ratio['max']:.3f})"
        print(f"{TITLES[task]}: enforced / observed {words}")
    for name, t in figures["send"].items():
        print(f"{TITLES['send']}: {CHUNK / t['ns']['median']:.2f} GB/s {name}")
    print(f"\nkept in {machine.keep('overhead', figures)}")


if __name__ == "__main__":
    main()
