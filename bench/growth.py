# SPDX-License-Identifier: Apache-2.0
"""What the engine's state takes as it grows: memory and nanoseconds an event, up to a hundred thousand processes and
a million connections offered. The table of connections has 65,536 places; what comes then finds room by pushing
others out.

    python -m bench growth

Each size is a Python of its own, so that none has what another left behind; a size is offered in pieces, and what
making up the records takes is not counted.
"""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np

from bench import allowance, machine, synthetic
from bench.engine import judging_engine
from tracer.engine.engine import Engine
from tracer.kernel import schema

PIECE = 20_000
ROUNDS = 3
PROCESSES = (10, 1_000, 10_000, 100_000)
FLOWS = (10, 1_000, 10_000, 65_000, 200_000, 1_000_000)
#: Whose connections: one process's, as many as a large node has rollouts, one process for each.
HOLDERS = (1, 1_000, 100_000)
_FIRST_PID = 10
_PAGE = resource.getpagesize()
#: Arrays that have pages of their own.
_LARGE = 1 << 17
_LIBC = ctypes.CDLL(None, use_errno=True)
_CHILD = """
import sys
from tracer.jit import prefer_linked
prefer_linked()
from bench import growth
growth.print_one(*map(int, sys.argv[1:]))
"""


def _rows(kind: str, like: bytes, tgids: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> list[bytes]:
    """Records like that one, of these processes at these times."""
    layout = getattr(schema, kind)
    rows = np.repeat(np.frombuffer(like, layout, 1), len(numbers))
    rows["tgid"] = rows["tid"] = tgids
    rows["start"] = tgids * 1000
    rows["ts"] = 1 + numbers
    if "cookie" in (layout.names or ()):
        rows["cookie"] = 1 + numbers
    return [row.tobytes() for row in rows]


def _pieces(count: int) -> Iterator[np.ndarray[Any, Any]]:
    for begin in range(0, count, PIECE):
        yield np.arange(begin, min(count, begin + PIECE), dtype=np.int64)


def _processes(count: int) -> Iterator[list[bytes]]:
    """All are forked by one, and run what it runs."""
    like = synthetic.fork(2, 1, 1)
    for numbers in _pieces(count):
        records = _rows("FORK", like, _FIRST_PID + numbers, numbers)
        if numbers[0] == 0:
            argv = [b"/usr/bin/python3", b"train.py"]
            records.insert(0, synthetic.execute(1, 0, 1, argv, b"/usr/bin/python3.11"))
        yield records


def _flows(count: int, holders: int) -> Iterator[list[bytes]]:
    """They connect, are answered, and stay."""
    connect, opened = synthetic.connect(1, 1, 1), synthetic.flow_open(1, 1, 1)
    for numbers in _pieces(count):
        tgids = _FIRST_PID + numbers % holders
        both = zip(
            _rows("CONNECT", connect, tgids, numbers), _rows("FLOW_OPEN", opened, tgids, numbers), strict=True
        )
        yield [record for pair in both for record in pair]


def _churn(processes: int, flows: int, holders: int) -> list[bytes]:
    """What goes on among as many: short connections of any of them, and short processes."""
    numbers = np.arange(PIECE, dtype=np.int64) + 10_000_000
    whose = max(processes, holders if flows else 1)
    tgids = _FIRST_PID + numbers * 7919 % whose
    if flows:
        kinds = [
            ("CONNECT", synthetic.connect(1, 1, 1)),
            ("FLOW_OPEN", synthetic.flow_open(1, 1, 1)),
            ("FLOW_CLOSE", synthetic.flow_close(1, 1, 1)),
        ]
    else:
        tgids = 1_000_000 + numbers % 1000
        kinds = [("FORK", synthetic.fork(2, 1, 1)), ("EXIT", synthetic.exit_(2, 1))]
    streams = [_rows(kind, like, tgids, numbers) for kind, like in kinds]
    return [record for together in zip(*streams, strict=True) for record in together]


def _resident(value: Any) -> int:
    """Bytes of the pages that arrays in nested tuples have come to hold."""
    if isinstance(value, tuple):
        return sum(map(_resident, value))
    if not isinstance(value, np.ndarray) or value.nbytes < _LARGE:
        return 0
    first = value.ctypes.data // _PAGE * _PAGE
    pages = (value.ctypes.data + value.nbytes - first + _PAGE - 1) // _PAGE
    there = np.zeros(pages, np.uint8)
    if _LIBC.mincore(
        ctypes.c_void_p(first), ctypes.c_size_t(pages * _PAGE), ctypes.c_void_p(there.ctypes.data)
    ):
        raise OSError(ctypes.get_errno(), "mincore")
    return int((there & 1).sum()) * _PAGE


def _take(engine: Engine, records: list[bytes]) -> float:
    """Nanoseconds for all of them."""
    ring, empty = synthetic.MemoryRing(records), synthetic.MemoryRing([])
    for row, r in enumerate((empty, ring)):
        engine._rings[row] = (r.consumer, r.producer, r.data, r.size - 1)
    left = ring.count
    began = time.perf_counter()
    while left:
        left -= engine.drain()[1]
    return (time.perf_counter() - began) * 1e9


def one(processes: int, flows: int, holders: int) -> dict[str, float]:
    """In this Python: MiB that the tables have come to hold, ns an event as they filled and once they are full."""
    engine = judging_engine()
    before = _resident(engine.state)
    _take(engine, _churn(1, 0, 0))  # code and caches are warm then
    spent, events, last = 0.0, 0, 0.0
    for records in _flows(flows, holders) if flows else _processes(processes):
        last = _take(engine, records)
        spent += last
        events += len(records)
        last /= len(records)
    grown = (_resident(engine.state) - before) / (1 << 20)
    churn = _churn(processes, flows, holders)
    went_on = [_take(engine, churn) / len(churn) for _ in range(5)]
    losses = engine.table_losses()
    return {
        "MiB": grown,
        "ns as they come": spent / events,
        "ns of the last": last,
        "ns among them": median(went_on),
        "processes": float(engine.live),
        "flows": float(engine.live_flows),
        "forgotten": float(losses["flows-forgotten"]),
        "refused": float(losses["flow-table-full"] + losses["process-table-full"]),
    }


def print_one(processes: int, flows: int, holders: int) -> None:
    """For whoever started this Python."""
    print(json.dumps(one(processes, flows, holders)))


def _in_its_own(*arguments: int) -> dict[str, float]:
    command = [sys.executable, "-c", _CHILD, *map(str, arguments)]
    rounds = []
    for _ in allowance.rounds(ROUNDS, least=1):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rounds.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: median(row[name] for row in rounds) for name in rounds[0]}


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    found: dict[str, dict[str, float]] = {}
    print(
        f"\n{'':<44}{'MiB':>8}{'ns: fill':>10}{'last':>7}{'among':>7}{'kept':>10}{'forgotten':>11}{'refused':>9}"
    )
    sizes = [(f"{count:,} processes", (count, 0, 0)) for count in PROCESSES]
    sizes += [
        (f"{count:,} connections of {min(count, holders):,}", (0, count, holders))
        for holders in HOLDERS
        for count in FLOWS
        if count >= holders or holders == HOLDERS[1]
    ]
    for name, size in allowance.parts(sizes):
        t = found[name] = _in_its_own(*size)
        kept = t["flows"] if size[1] else t["processes"]
        print(
            f"  {name:<42}{t['MiB']:8.1f}{t['ns as they come']:10.0f}{t['ns of the last']:7.0f}"
            f"{t['ns among them']:7.0f}{kept:10,.0f}{t['forgotten']:11,.0f}{t['refused']:9,.0f}"
        )
    print(f"\nkept in {machine.keep('growth', found)}")


if __name__ == "__main__":
    main()
