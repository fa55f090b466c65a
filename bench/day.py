# SPDX-License-Identifier: Apache-2.0
"""A day of a busy tree, replayed in a minute: what the engine holds on to, hour by hour.

Two processes a second are born, run a program of a name of their own, connect, and end: more in all than the
table of processes has room for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HOURS = 24
BIRTHS_A_SECOND = 2
_BATCH = 1_200
_HOUR_NS = 3_600_000_000_000


def measure() -> dict[str, float]:
    """Resident MiB by hour, in a process of its own."""
    run = subprocess.run([sys.executable, "-m", "bench.day"], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def _resident() -> float:
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.partition("Rss:")[2].split()[0]) / 1024


def _life(pid: int) -> list[bytes]:
    from bench import synthetic

    return [
        synthetic.fork(pid, 1, 0),
        synthetic.execute(
            pid, 1, 0, [b"tool-%08d" % pid, b"--do", b"something"], b"/usr/bin/tool-%08d" % pid
        ),
        synthetic.connect(pid, 0, pid),
        synthetic.flow_open(pid, 0, pid),
        synthetic.flow_close(pid, 0, pid),
        synthetic.exit_(pid, 0),
    ]


def main() -> None:
    """Play it, by the linked engine."""
    from tracer import jit

    jit.prefer_linked()
    from bench import synthetic
    from tracer.engine.engine import Engine
    from tracer.engine.tap import lay_out
    from tracer.rules import load_rules

    assert jit.linked() is not None, "run `vigiles warm` first"
    engine = Engine(load_rules([]))
    engine.warm()
    resident = {"0": _resident()}
    for _ in engine.feed([synthetic.fork(1, 0, 0)]):
        pass
    batches = HOURS * 3600 * BIRTHS_A_SECOND // _BATCH
    step_ns = _BATCH * 1_000_000_000 // BIRTHS_A_SECOND
    pid = 2
    for number in range(batches):
        laid = bytearray()
        for _ in range(_BATCH):
            pid = pid % 4_000_000 + 2
            laid += _at(lay_out(_life(pid)), number * step_ns)
        for _ in engine.play(bytes(laid), count=True):
            pass
        hour, rest = divmod((number + 1) * step_ns, _HOUR_NS)
        if rest < step_ns:
            resident[str(hour)] = _resident()
    json.dump(resident, sys.stdout)


def _at(laid: bytes, now_ns: int) -> bytes:
    """The same records, but ``now_ns`` later: their time is the first word of each."""
    words = np.frombuffer(bytearray(laid), np.uint64)
    at = 0
    while at < len(words):
        words[at + 1] += np.uint64(now_ns)
        at += 1 + (int(words[at]) + 7) // 8
    return words.tobytes()


if __name__ == "__main__":
    main()
