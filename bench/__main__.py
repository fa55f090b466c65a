# SPDX-License-Identifier: Apache-2.0
"""``python -m bench [NAME…]``: run benchmarks, all of them without a name."""

from __future__ import annotations

import importlib
import sys

from tracer.jit import prefer_linked

BENCHES = (
    "engine", "latency", "matching", "network", "samples", "overhead", "spans", "detection", "guard", "record", "footprint",
)  # fmt: skip


def main() -> None:
    """Run what was asked for."""
    wanted = sys.argv[1:] or BENCHES
    prefer_linked()  # what a watch has, where there is one
    for name in wanted:
        if name not in BENCHES:
            sys.exit(f"there is no bench {name!r}: {', '.join(BENCHES)}")
        print(f"== {name}")
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
