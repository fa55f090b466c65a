# SPDX-License-Identifier: Apache-2.0
"""A writer that is killed while it writes: what it had on the disk by then can be read, and what is missing is said.

The whole program is killed in tests/scenarios/test_recording.py, which takes seconds each time; a writer alone can be
killed two hundred times.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tracer.record.reader import UnbegunError, in_order
from tracer.record.verify import verify

TIMES = 200
#: Forks writers and kills each at a moment of its own. A writer says after each look how many blocks were synced.
DRIVER = """
import os, random, signal, sys, time
sys.path[:0] = [{tests!r}]
from pathlib import Path
from tracer.record import layout
from tracer.record.files import PartFiles
from tracer.record.writer import Block, WriteOptions, Writer
import json

folder, header, times = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
dice = random.Random(7)

class Told(PartFiles):
    def sync(self):
        super().sync()
        os.write(self.to, self.size.to_bytes(8, "little") + self.part.to_bytes(8, "little"))

for number in range(times):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        files = Told(folder / f"r{{number}}")
        files.to = write
        options = WriteOptions(sync_s=1e-6, rotate_bytes=dice.choice((0, 20_000)), zstd=bool(number % 2))
        writer = Writer(files, header, options)
        for n in range(1, 1 << 30):
            if writer.is_due():
                writer.turn()
            payload = n.to_bytes(8, "little") * dice.randrange(1, 900)
            writer.put(Block(layout.TASKS, payload, n, n, 1))
            while len(writer._waiting) > 4:
                time.sleep(0.0001)
    os.close(write)
    last = b""
    for _ in range(dice.randrange(1, 40)):
        last = os.read(read, 16)
    time.sleep(dice.uniform(0, 0.002))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(read, 1 << 16):
        last = (last + piece)[-16:]
    os.close(read)
    print(int.from_bytes(last[:8], "little"), int.from_bytes(last[8:], "little"))
"""


@pytest.mark.slow
def test_killed_two_hundred_times(tmp_path):
    """All that was synced is there; no more than the block that was being written is damaged."""
    from recordings import header_of

    from tracer.engine.engine import Engine
    from tracer.rules import load_rules

    header = header_of(Engine(load_rules(), processes=8, flows=8))
    driver = DRIVER.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", driver, str(tmp_path), json.dumps(header), str(TIMES)],
        capture_output=True, text=True, timeout=250, check=True,
    )  # fmt: skip
    synced = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(synced) == TIMES
    cut = turned = unbegun = 0
    for number, (size, part) in enumerate(synced):
        paths = sorted(tmp_path.glob(f"r{number}.*"), key=lambda p: int(p.suffix[1:]))
        paths.insert(0, tmp_path / f"r{number}")
        left_out: list[UnbegunError] = []
        (parts,) = in_order(paths, left_out.append)
        assert [error.path for error in left_out] == paths[len(parts) :]
        numbers = [found.head.number for p in parts for found in p.blocks()]
        assert numbers == list(range(len(numbers)))  # none is missing before the end
        last = parts[-1]
        assert len(last.damage) <= 1 and not any(p.damage for p in parts[:-1])
        whole = last.damage[0].start if last.damage else last.size
        assert last.header.part > part or (last.header.part == part and whole >= size)
        verdicts = verify(paths)
        assert not any(v.changed or v.missing for v in verdicts) and not verdicts[-1].ended
        assert [bool(v.damaged) for v in verdicts] == [bool(p.damage) for p in parts] + [True] * len(left_out)
        unbegun += len(left_out)
        cut += bool(last.damage)
        turned += len(parts) > 1
    assert turned > TIMES // 10
    print(
        f"{cut} of {TIMES} ended in the middle of a block, {turned} in a later file, {unbegun} as one was made"
    )
