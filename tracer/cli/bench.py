# SPDX-License-Identifier: Apache-2.0
"""``vigiles bench``"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from tracer.errors import VigilesError


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def bench(names: tuple[str, ...]) -> None:
    """Measure what it costs and how fast it is here, beside what else is installed.

    Without a NAME: list them. Figures are kept in bench/results, as JSON.
    """
    source = Path(__file__).resolve().parents[2]
    if not (source / "bench" / "__main__.py").is_file():
        raise VigilesError(
            "benchmarks come with the source, not with the package",
            hint="clone the repository, `make build` there, and call its .venv/bin/vigiles",
        )
    sys.path.insert(0, str(source))
    benches = importlib.import_module("bench.__main__")
    if unknown := [name for name in names if name not in benches.BENCHES]:
        raise VigilesError(f"there is no bench {unknown[0]!r}", hint="`vigiles bench` lists them")
    if names:
        benches.run(names)
    else:
        benches.show()
