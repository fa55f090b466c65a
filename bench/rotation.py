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
    """Milliseconds of a processor that the longest piece takes; until it is done, whoever else has the processor meanwhile;
    all pieces.
    """
    engine = Engine(load_rules([]))
    for _ in engine.feed(_tree(processes)):
        pass
    meanwhile = [synthetic.connect(10 + n, 1, 1 + n) for n in range(MEANWHILE)]
    longest, waited, together = [], [], []
    for number in range(ROUNDS):
        recorder = recorder_of(engine, folder / f"{processes}-{number}", rotate_bytes=1)
        recorder.turn(lambda: Snapshot(engine))
        pieces: list[tuple[float, float]] = []
        more = True
        while more:
            for _ in engine.feed(meanwhile):
                pass
            began, wall = time.thread_time(), time.perf_counter()
            more = recorder.go_on()
            pieces.append((time.thread_time() - began, time.perf_counter() - wall))
        longest.append(max(spent for spent, _ in pieces))
        waited.append(max(passed for _, passed in pieces))
        together.append(sum(spent for spent, _ in pieces))
        recorder.close()
        assert recorder.sums().files == 2
        assert not recorder.sums().lost_blocks
    milliseconds = {"longest": longest, "with waiting": waited, "together": together}
    return {name: median(values) * 1e3 for name, values in milliseconds.items()}


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    schedule_promptly()  # as a watch is
    found: dict[str, dict[str, float]] = {}
    print(f"{'processes':>12}{'longest piece, ms':>20}{'with waiting':>14}{'all pieces':>12}")
    with tempfile.TemporaryDirectory(prefix="vigiles-bench-") as name:
        for processes in PROCESSES:
            row = found[str(processes)] = one(processes, Path(name))
            print(f"{processes:12,}{row['longest']:20.2f}{row['with waiting']:14.2f}{row['together']:12.0f}")
    machine.keep("rotation", {"rotation": found})


if __name__ == "__main__":
    main()
