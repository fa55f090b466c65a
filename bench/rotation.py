# SPDX-License-Identifier: Apache-2.0
"""How long a watch stands still while its recording goes on in another file, which begins with the processes that are there.

    python -m bench rotation

A recording is rotated with so many processes in the table, each of which has executed a program of its own; events are
drained between the pieces, as a watch does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import machine, synthetic
from bench.record import recorder_of
from tracer.engine.engine import Engine
from tracer.promptness import schedule_promptly
from tracer.record.snapshot import Snapshot
from tracer.rules import load_rules

PROCESSES = (1_000, 10_000, 100_000)
ROUNDS = 5
#: Records that come between two pieces.
MEANWHILE = 100


def _tree(count: int) -> Iterator[bytes]:
    yield synthetic.execute(1, 0, 1, [b"python3", b"train.py"], b"/usr/bin/python3.11")
    for n in range(count):
        argv = [b"python3", b"rollout.py", b"--worker", str(n).encode(), b"--model", b"/models/base"]
        yield synthetic.fork(10 + n, 1, n + 2)
        yield synthetic.execute(10 + n, 1, n + 2, argv, b"/usr/bin/python3.11")


def one(processes: int, folder: Path) -> dict[str, float]:
    """Milliseconds: until the tables are copied, the longest piece, all pieces; with as many processes."""
    engine = Engine(load_rules([]))
    for _ in engine.feed(_tree(processes)):
        pass
    meanwhile = [synthetic.connect(10 + n, 1, 1 + n) for n in range(MEANWHILE)]
    copied, longest, together = [], [], []
    for number in range(ROUNDS):
        recorder = recorder_of(engine, folder / f"{processes}-{number}", rotate_bytes=1)
        began = time.perf_counter()
        assert recorder.turn()
        recorder.begin_with(Snapshot(engine))
        copied.append(time.perf_counter() - began)
        pieces, more = [], True
        while more:
            for _ in engine.feed(meanwhile):
                pass
            began = time.perf_counter()
            more = recorder.go_on()
            pieces.append(time.perf_counter() - began)
        longest.append(max(pieces))
        together.append(sum(pieces))
        recorder.close()
        assert not recorder.sums().lost_blocks
    milliseconds = {"copied": copied, "longest piece": longest, "all pieces": together}
    return {name: median(values) * 1e3 for name, values in milliseconds.items()}


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    schedule_promptly()  # as a watch is
    found: dict[str, dict[str, float]] = {}
    print(f"{'processes':>12}{'copied, ms':>14}{'longest piece':>16}{'all pieces':>13}")
    with tempfile.TemporaryDirectory(prefix="vigiles-bench-") as name:
        for processes in PROCESSES:
            row = found[str(processes)] = one(processes, Path(name))
            print(
                f"{processes:12,}{row['copied']:14.2f}{row['longest piece']:16.2f}{row['all pieces']:13.0f}"
            )
    machine.keep("rotation", {"rotation": found})


if __name__ == "__main__":
    main()
