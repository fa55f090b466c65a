# SPDX-License-Identifier: Apache-2.0
"""``python -m bench [NAME…]``, ``vigiles bench NAME…``: run benchmarks; without a name, all of them, for a while each."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence

from bench import allowance
from tracer.jit import prefer_linked

#: Name, and what it is about. ``scale`` and ``plots`` come last: they take what the others have found.
BENCHES = {
    "engine": "ns an event, from ring to state, beside Python callbacks",
    "growth": "memory and ns an event as processes and connections grow",
    "latency": "from hook to hand-out",
    "matching": "judging an exec, loading rules, looking into files",
    "network": "what looking at first bytes costs",
    "samples": "reading what connections carry",
    "efforts": "looking at who computes",
    "overhead": "observed and enforced beside untraced",
    "spans": "marking tool calls",
    "footprint": "memory, start, attaching, a day of work",
    "detection": "the corpus: what is caught, and how soon",
    "guard": "the corpus enforced: what is stopped, and how soon",
    "record": "recording, replaying, reporting",
    "rotation": "how long a watch stands still when a recording goes on in another file",
    "correlate": "how often the right line of an RL log is found",
    "beside": "latency, cost and loss beside strace, perf, bpftrace, auditd",
    "instructions": "instructions an event, against their bounds: compiles the engine for no processor in particular",
    "scale": "on paper: what a large host would cost, from what was measured",
    "plots": "pictures of the last results",
}
#: Of all of them together: less than twenty minutes.
ALL_S = 18 * 60
#: The part of it that each has. First those that end latest, since a scenario of each family, or one round of all
#: contenders, is the least: what they are late those after them make up for with fewer rounds. What is not here has bounds of
#: its own to be held against, and a command (``make bench-bounds``).
SHARES = {
    "detection": 120,
    "guard": 100,
    "beside": 150,
    "engine": 60,
    "growth": 80,
    "latency": 70,
    "matching": 65,
    "network": 75,
    "samples": 40,
    "efforts": 40,
    "overhead": 80,
    "spans": 40,
    "footprint": 95,
    "record": 50,
    "rotation": 20,
    "correlate": 20,
    "scale": 5,
    "plots": 5,
}


def run_all() -> None:
    """Each for its share of the time that those before it have left: most end a little late."""
    end, shares = time.monotonic() + ALL_S, sum(SHARES.values())
    for name, share in SHARES.items():
        with allowance.of((end - time.monotonic()) * share / shares):
            run([name])
            if remark := allowance.remark():
                print(f"{remark}: `python -m bench {name}` does all")
        shares -= share


def run(names: Sequence[str]) -> None:
    """One after the other."""
    for name in names:
        if name not in BENCHES:
            sys.exit(f"there is no bench {name!r}: {', '.join(BENCHES)}")
    prefer_linked()  # what a watch has, where there is one
    for name in names:
        print(f"== {name}")
        importlib.import_module(f"bench.{name}").main()


def show() -> None:
    """What there is."""
    for name, about in BENCHES.items():
        print(f"{name:<14} {about}")


if __name__ == "__main__":
    if sys.argv[1:]:
        run(sys.argv[1:])
    else:
        run_all()
