# SPDX-License-Identifier: Apache-2.0
"""Instructions an event, by kind, as valgrind counts them: the same on a busy machine as on a quiet one.

A bound for each stands in ``bounds.toml``; more than that is a regression, and the exit status is 1. The engine
is compiled for a generic processor, so that the code is the same everywhere; another version of Numba makes other
code, so bounds hold for one.

    python -m bench instructions            # and say what is beyond its bound
    python -m bench.instructions --write    # after a change that is worth it
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from bench import machine
from tracer.jit import prefer_linked

BOUNDS = Path(__file__).parent / "bounds.toml"
#: What may be between two counts of the same thing: the C library copies memory by what the processor has.
SLACK = 1.10
EVENTS = 6_000
#: Counts of each stream, of which the last is taken.
PASSES = 2
_GENERIC = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONHASHSEED": "0"}


_MARKS = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_ZERO_STATS; }
void end(void) { CALLGRIND_DUMP_STATS; }
"""


def _child(marks: str) -> None:
    """Under callgrind: each stream three times, twice between marks: Python's first call of these costs millions."""
    prefer_linked()
    from bench import engine as streams
    from bench.synthetic import MemoryRing
    from tracer.jit import linked

    assert linked() is not None, "the engine is not linked: is there a linker?"
    streams.MEMORY_EVENTS = EVENTS
    kinds = streams._kinds()
    empty = MemoryRing([])
    engine = streams.judging_engine()
    streams._drain_memory(engine, MemoryRing(kinds.pop("alive")), empty)
    begin, end = (ctypes.CDLL(marks)[name] for name in ("begin", "end"))
    for name, records in kinds.items():
        ring = MemoryRing(records)
        streams._drain_memory(engine, ring, empty)
        for _ in range(PASSES):
            begin()
            streams._drain_memory(engine, ring, empty)
            end()
        print(f"{name}\t{ring.count}", flush=True)


def measure() -> dict[str, float]:
    """Instructions an event by stream."""
    if shutil.which("valgrind") is None:
        sys.exit("bench instructions needs valgrind")
    subprocess.run(
        [sys.executable, "-c", "from tracer.entry import main; main()", "warm"],
        env=os.environ | _GENERIC, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source, marks = Path(folder) / "marks.c", Path(folder) / "marks.so"
        source.write_text(_MARKS)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(marks), str(source)], check=True)
        run = subprocess.run(
            [
                "valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out",
                sys.executable, "-m", "bench.instructions", "--child", str(marks),
            ],
            env=os.environ | _GENERIC, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            sys.exit(f"valgrind ended with status {run.returncode}: {run.stderr.strip().splitlines()[-1:]}")
        counts = [line.split("\t") for line in run.stdout.splitlines()]
        figures = {}
        for number, (name, events) in enumerate(counts, 1):
            text = (Path(folder) / f"out.{number * PASSES}").read_text()
            (total,) = re.findall(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[-1:]
            figures[name] = int(total) / int(events)
    return figures


def read_bounds() -> tuple[str, dict[str, float]]:
    """The version of Numba, and the bounds that hold for its code."""
    with BOUNDS.open("rb") as text:
        found = tomllib.load(text)
    return found["numba"], found["instructions"]


def beyond(figures: dict[str, float], bounds: dict[str, float]) -> list[str]:
    """What costs more than it may, and what has no bound."""
    return [
        f"{name}: {count:.0f} instructions, the bound is {bounds[name]:.0f}"
        if name in bounds
        else f"{name}: no bound"
        for name, count in figures.items()
        if count > bounds.get(name, 0) * SLACK
    ]


def _write(figures: dict[str, float]) -> None:
    import numba

    lines = [f'"{name}" = {count:.0f}' for name, count in figures.items()]
    head = (
        "# SPDX-License-Identifier: Apache-2.0\n# Instructions an event: python -m bench.instructions --write\n"
        f'numba = "{numba.__version__}"\n\n[instructions]\n'
    )
    BOUNDS.write_text(head + "\n".join(lines) + "\n")


def main() -> None:
    """Print, keep and judge."""
    import numba

    figures = measure()
    version, bounds = read_bounds() if BOUNDS.exists() else (numba.__version__, {})
    print(f"{'':<32} {'instructions':>12} {'bound':>8}")
    for name, count in figures.items():
        print(f"{name:<32} {count:12.0f} {bounds.get(name, 0):8.0f}")
    print(f"kept in {machine.keep('instructions', {'instructions': figures})}")
    if "--write" in sys.argv:
        _write(figures)
    elif version != numba.__version__:
        print(f"not judged: the bounds are of Numba {version}, this is {numba.__version__}")
    elif found := beyond(figures, bounds):
        sys.exit("more than before:\n  " + "\n  ".join(found))


if __name__ == "__main__":
    if "--child" in sys.argv:
        _child(sys.argv[-1])
    else:
        main()
