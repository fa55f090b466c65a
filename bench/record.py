# SPDX-License-Identifier: Apache-2.0
"""What recording costs an event, how large recordings are, and how fast they are replayed.

Recording: records in memory are drained by the engine, alone, tapped, and tapped and recorded, in turn. Replay:
files of the same mix, a thousand to as many events as --events says.

    python -m bench record
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench import allowance, machine, synthetic
from bench.engine import judging_engine
from tracer.engine.engine import Engine
from tracer.record.files import PartFiles
from tracer.record.header import make_header, terms_of
from tracer.record.player import Player
from tracer.record.reader import in_order
from tracer.record.recorder import BLOCK_BYTES, Recorder
from tracer.record.writer import WriteOptions, Writer
from tracer.rules import load_rules

EVENTS = 300_000
ROUNDS = 7
SIZES = (1_000_000, 10_000_000, int(os.environ.get("BENCH_EVENTS", "30000000")))


def _mix(n: int) -> list[bytes]:
    """What a busy tree does: tools come and go, flows open and close, GPU calls of a new kind now and then."""
    found = []
    for i in range(n // 7):
        pid = 5000 + i % 20000
        found += [
            synthetic.fork(pid, 10, i),
            synthetic.execute(pid, 10, i, [b"sh", b"-c", b"make -j2 all"], b"/usr/bin/dash"),
            synthetic.connect(pid, i, 100 + i),
            synthetic.flow_open(pid, i, 100 + i),
            synthetic.flow_close(pid, i, 100 + i),
            synthetic.gpu_ioctl(pid, i, i),
            synthetic.exit_(pid, i),
        ]
    return found


def recorder_of(engine: Engine, path: Path, **options: Any) -> Recorder:
    """What writes a recording of ``engine``; ``options``: of WriteOptions."""
    judged_by = terms_of(engine.rules, None, synthetic.EPOCH, enforce=False)
    header = make_header(engine, "bench", judged_by, command=None, missing_hooks={}, signed=False)
    return Recorder(Writer(PartFiles(path), header, WriteOptions(**options)), lambda *_: judged_by)


def _drain(engine: Engine, ring: synthetic.MemoryRing, recorder: Recorder | None) -> float:
    """Seconds to take all in; the writer's thread works meanwhile, as in a watch."""
    empty = synthetic.MemoryRing([])
    ring.rewind()
    for row, r in enumerate((empty, ring)):
        engine._rings[row] = (r.consumer, r.producer, r.data, r.size - 1)
    left, began = ring.count, time.perf_counter()
    while left:
        left -= engine.drain(1 << 12)[1]
        if engine.tapped >= BLOCK_BYTES:
            laid, count = engine.take_tap()
            if recorder is not None:
                recorder.records(laid, count)
    return time.perf_counter() - began


def recording_figures(folder: Path) -> dict[str, Any]:
    """Ns an event, by contender; MB for a million events."""
    ring = synthetic.MemoryRing(_mix(EVENTS))
    plain, tapped = judging_engine(), judging_engine()
    recorded = {zstd: judging_engine() for zstd in (False, True)}
    for engine in (tapped, *recorded.values()):
        engine.tap_into(1 << 22)
    took: dict[str, list[float]] = {"not recorded": [], "tapped": [], "recorded": [], "recorded, zstd": []}
    sizes: dict[str, float] = {}
    lost = 0
    for number in range(ROUNDS + 1):
        took["not recorded"].append(_drain(plain, ring, None))
        took["tapped"].append(_drain(tapped, ring, None))
        for zstd, engine in recorded.items():
            name = "recorded, zstd" if zstd else "recorded"
            path = folder / f"{number}-{zstd}"
            recorder = recorder_of(engine, path, zstd=zstd)
            took[name].append(_drain(engine, ring, recorder))
            recorder.close()
            lost += recorder.sums().lost_blocks
            sizes[name] = path.stat().st_size / ring.count
            path.unlink()
    nanoseconds = {name: [t / ring.count * 1e9 for t in found[1:]] for name, found in took.items()}
    return {
        "ns": {n: {"min": min(t), "median": median(t), "max": max(t)} for n, t in nanoseconds.items()},
        "mb_per_million": sizes,
        "blocks_lost": lost,
    }


def replay_figures(folder: Path) -> list[dict[str, float]]:
    """Events a second, by size of the recording."""
    rules = load_rules([])
    rows = []
    ring = synthetic.MemoryRing(_mix(EVENTS))
    for size in allowance.some(SIZES, "sizes of recordings", least=1):
        engine = judging_engine()
        engine.tap_into(1 << 22)
        path = folder / f"replay-{size}"
        recorder = recorder_of(engine, path, zstd=False)
        done = 0
        while done < size:
            _drain(engine, ring, recorder)
            done += ring.count
            while recorder._writer._waiting:  # faster than any watch: the disk must not lose it
                time.sleep(0.001)
        recorder.records(*engine.take_tap())
        recorder.close()
        assert not recorder.sums().lost_blocks
        (parts,) = in_order([path])
        player = Player(parts, rules)
        began = time.perf_counter()
        alerts = sum(1 for _ in player.alerts())
        took = time.perf_counter() - began
        rows.append(
            {
                "events": player.records,
                "megabytes": path.stat().st_size / 1e6,
                "seconds": took,
                "events_per_s": player.records / took,
                "alerts": alerts,
            }
        )
        path.unlink()
    return rows


def main() -> None:
    """Measure, print, keep."""
    with tempfile.TemporaryDirectory(prefix="vigiles-bench-") as name:
        folder = Path(name)
        recording = recording_figures(folder)
        replay = replay_figures(folder)
    base = recording["ns"]["not recorded"]["median"]
    print(f"{'engine':<18}{'ns/event':>10}{'min':>8}{'max':>8}{'more':>8}{'MB/1e6':>9}")
    for contender, t in recording["ns"].items():
        size = recording["mb_per_million"].get(contender)
        more = f"{t['median'] - base:8.1f}"
        print(
            f"{contender:<18}{t['median']:10.1f}{t['min']:8.1f}{t['max']:8.1f}{more}"
            f"{f'{size:9.1f}' if size else '':>9}"
        )
    print(f"blocks lost: {recording['blocks_lost']}")
    print(f"\n{'replayed':>14}{'MB':>9}{'s':>8}{'million/s':>11}")
    for row in replay:
        print(
            f"{row['events']:14,.0f}{row['megabytes']:9,.0f}{row['seconds']:8.2f}{row['events_per_s'] / 1e6:11.2f}"
        )
    machine.keep("record", {"recording": recording, "replay": replay})


if __name__ == "__main__":
    main()
