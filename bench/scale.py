# SPDX-License-Identifier: Apache-2.0
"""Scale on paper: what a large host would cost, from the slopes that were measured, and what gives way first.

A model of a few multiplications, so that anybody can put other numbers in: rates of a rollout times what an event
costs. It is held against two measurements that it is not made of: what the tracer used of a core in the storms of
``bench beside``, and a pass over 1,000 connections in ``bench samples``.

    python -m bench engine samples beside scale
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from bench.machine import RESULTS

#: Events a second of one rollout: an agent that runs a shell command every five seconds, each of some processes.
ROLLOUT = {"fork, exec, exit": 3 * 0.8, "connect, open, close": 3 * 0.3}
#: Ioctls a second of one busy GPU, as events: most are counted in the probe and told once a second.
GPU_EVENTS = 50.0
#: A pass over connections is made ten times a second, and may take this share of our time.
PASS_S, SHARE = 0.1, 0.05


@dataclass(frozen=True)
class Host:
    """A host to be imagined."""

    title: str
    cores: int
    gpus: int
    rollouts: int
    connections_each: float = 2.0
    processes_each: float = 4.0


HOSTS = (
    Host("a workstation", 16, 1, 16),
    Host("a node", 128, 8, 1_000),
    Host("a large node", 256, 8, 10_000),
)


def _results(name: str) -> dict[str, Any]:
    file = RESULTS / f"{name}.json"
    if not file.exists():
        sys.exit(f"bench scale needs {file}: python -m bench {name}")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """(what it is at nothing, slope) of the straight line through points, by least squares."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    over = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / over
    return mean_y - slope * mean_x, slope


def predict(host: Host, ns: dict[str, float], passes: tuple[float, float]) -> dict[str, float]:
    """By the model: events a second, shares of a core, seconds between passes, rows in tables."""
    events = {name: rate * host.rollouts for name, rate in ROLLOUT.items()} | {
        "GPU ioctl": GPU_EVENTS * host.gpus
    }
    connections = host.connections_each * host.rollouts
    a_pass = (passes[0] + passes[1] * connections) / 1e6
    between = max(PASS_S, a_pass / SHARE)
    return {
        "events a second": sum(events.values()),
        "engine, of one core": sum(rate * ns[name] for name, rate in events.items()) / 1e9,
        "passes, of one core": a_pass / (between + a_pass),
        "seconds between passes": between,
        "processes": host.processes_each * host.rollouts,
        "connections": connections,
    }


def first_to_give_way(found: dict[str, float], tables: dict[str, int]) -> str:
    """Which limit is nearest."""
    near = {
        "the engine's one core": found["engine, of one core"],
        "the table of processes": found["processes"] / tables["processes"],
        "the table of connections": found["connections"] / tables["connections"],
        # a relay is looked for by ten passes a second: at a tenth of that it is no longer seen
        "passes over connections": found["seconds between passes"] / (10 * PASS_S),
    }
    name = max(near, key=near.__getitem__)
    return f"{name} ({near[name]:.0%} of what it bears)"


def main() -> None:
    """Print the model beside what was measured, and what it says of hosts that are not here."""
    from tracer.engine.engine import Engine
    from tracer.rules import load_rules

    state = Engine(load_rules([])).state
    tables = {"processes": len(state.processes.table), "connections": len(state.flows.table) - 1}
    ns = {name: t["median"] for name, t in _results("engine")["memory_ns"].items()}
    samples = {int(n): t for n, t in _results("samples").items() if n.isdigit()}
    ends = [n for n in samples if n != 1000]
    passes = line([(n, samples[n]["moved"]) for n in ends])
    print(f"a pass over 1,000 connections: {passes[0] + passes[1] * 1000:.0f} µs by the line through the others;"
          f" measured: {samples[1000]['moved']:.0f} µs")  # fmt: skip
    for offered, contenders in _results("beside")["loss"].items():
        if ours := contenders.get("vigiles"):
            said = ours["a second"] * ns["connect, open, close"] / 1e9
            measured = ours["cpu of the tracer"]
            print(f"a storm of {offered} connects a second: {said:.1%} of a core for the engine; all of the"
                  f" tracer, recording: {measured:.1%}")  # fmt: skip
    for host in HOSTS:
        found = predict(host, ns, passes)
        print(f"\n{host.title}: {host.cores} cores, {host.gpus} GPUs, {host.rollouts:,} rollouts")
        for name, value in found.items():
            shown = f"{value:.2%}" if "core" in name else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
            print(f"  {name:<24} {shown}")
        print(
            f"  of the host's cores      {(found['engine, of one core'] + found['passes, of one core']) / host.cores:.4%}"
        )
        print(f"  first to give way        {first_to_give_way(found, tables)}")


if __name__ == "__main__":
    main()
