# SPDX-License-Identifier: Apache-2.0
"""The same work untraced and traced in different ways, in turn: A B C, B C A, …

All contenders share one worker process in one cgroup. Probes are loaded once and attached for a turn
only, so that "untraced" means that nothing at all hangs anywhere. Nobody reads the rings meanwhile: the
worker's own time is what counts here, and the reader's is on another core (see ``bench engine``). The wake-up
that an exec or a connect sends is in it: on a virtual machine that is most of what tracing costs.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from bench import allowance
from tracer.engine.ring import BUSY, DISCARDED, HEADER_BYTES, LENGTH_MASK, Ring
from tracer.kernel import cgroup, libbpf, schema
from tracer.kernel.hooks import HOOKS
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.respond.orders import Orders

WORKER = Path(__file__).parent / "worker.py"
#: After probes have come or gone: the kernel patches code and waits for grace periods in the background.
SETTLE_S = 0.02
BULK_BYTES = 64 << 20
#: What is attached for a turn.
PLACES = ("kernel", "modules", "cgroup")
#: Where run_time_ns and run_cnt lie in struct bpf_prog_info (include/uapi/linux/bpf.h).
_RUN_TIME, _INFO_BYTES = 192, 256
_BPF_STATS_RUN_TIME = 0


class Worker:
    """A process that does tasks and says how long they took."""

    def __init__(self, enter: Callable[[], None] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=enter,  # noqa: PLW1509 - there are no threads yet
        )
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)

    def do(self, *task: object) -> np.ndarray:
        """Nanoseconds of each operation."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return np.array(json.loads(self._process.stdout.readline()), np.float64)

    def close(self) -> None:
        self._process.communicate()
        os.close(self.pidfd)


class _Reader:
    """Records of one ring, taken out in plain Python between turns."""

    def __init__(self, probes: Probes, name: str) -> None:
        found = probes.map(name)
        self._ring = Ring(found.fd, found.max_entries)
        self._consumer, self._rest = self._ring._consumer, self._ring._rest
        self._page = len(self._consumer)

    def take(self) -> Iterator[bytes]:
        at, end = (struct.unpack_from("<Q", part)[0] for part in (self._consumer, self._rest))
        while at < end:
            place = self._page + (at & (self._ring.size - 1))
            (header,) = struct.unpack_from("<I", self._rest, place)
            assert not header & BUSY
            length = header & LENGTH_MASK
            if not header & DISCARDED:
                yield self._rest[place + HEADER_BYTES : place + HEADER_BYTES + length]
            at += (length + HEADER_BYTES + 7) & ~7
        struct.pack_into("<Q", self._consumer, 0, at)


class Contender:
    """One way of being traced: with these options, and without the hooks in ``without``. ``enforce``: verdicts
    are carried out.
    """

    def __init__(
        self,
        name: str,
        options: ProbeOptions | None,
        without: tuple[str, ...] = (),
        *,
        enforce: bool = False,
    ) -> None:
        self.name = name
        self.without = without
        self.probes = Probes(options) if options else None
        self._readers = [_Reader(self.probes, n) for n in ("ring_critical", "ring_bulk")] if options else []
        if self.probes and enforce:
            orders = Orders(self.probes.map("control").fd, self.probes.map("cuts").fd)
            orders.enforce = True
            orders.close()

    @contextmanager
    def attached(self, folder: Path) -> Iterator[None]:
        """For one turn."""
        probes = self.probes
        if probes is None:
            yield
            return
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for hook in HOOKS:
                if (
                    hook.place in PLACES
                    and hook.program in probes.loaded
                    and hook.program not in self.without
                ):
                    probes._attach(hook, fd if hook.place == "cgroup" else None)
            assert not probes.missing, probes.missing
            yield
        finally:
            os.close(fd)
            links = probes._loaded._links
            while links:
                links.pop().close()
            probes.attached.clear()

    def records(self) -> list[bytes]:
        """What has been sent since the last call."""
        return [record for reader in self._readers for record in reader.take()]

    def close(self) -> None:
        for reader in self._readers:
            reader._ring.close()
        if self.probes:
            self.probes.close()


@dataclass
class Turns:
    """What came of a task: by contender a figure a round, and the records of those that are traced."""

    rounds: dict[str, list[float]]
    records: dict[str, list[bytes]]

    def figures(self, against: str) -> dict[str, dict[str, float]]:
        """Each contender by itself and against another one of the same rounds."""
        base = np.array(self.rounds[against])
        return {
            name: {
                "ns": spread(values),
                "difference_ns": spread(np.array(values) - base),
                "ratio": spread(np.array(values) / base),
            }
            for name, values in self.rounds.items()
        }


class Arena:
    """A worker in a cgroup, and the contenders."""

    def __init__(self, contenders: list[Contender], enter: Callable[[], None] | None = None) -> None:
        self._stack = ExitStack()
        self.contenders = contenders
        for contender in contenders:
            self._stack.callback(contender.close)
        self._tree = cgroup.TreeCgroup.create()
        self._stack.callback(self._tree.remove, 5.0)
        self.worker = Worker(enter)
        self._stack.callback(self.worker.close)
        self._tree.add(self.worker.pid)
        for contender in contenders:
            if contender.probes:
                contender.probes.track(self.worker.pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def turn(self, contender: Contender, task: tuple[object, ...]) -> np.ndarray:
        """One task of one contender."""
        with contender.attached(self._tree.path):
            time.sleep(SETTLE_S)
            return self.worker.do(*task)

    def compare(self, task: tuple[object, ...], rounds: int) -> Turns:
        """Every contender once a round, each time another one first, for so many rounds or as long as there is time.
        The first round is not counted.
        """
        found = Turns({c.name: [] for c in self.contenders}, {c.name: [] for c in self.contenders})
        for number in allowance.rounds(rounds + 1):
            first = number % len(self.contenders)
            for contender in self.contenders[first:] + self.contenders[:first]:
                taken = self.turn(contender, task)
                records = contender.records()
                if number:
                    found.rounds[contender.name].append(float(np.median(taken)))
                    found.records[contender.name] += records
        return found

    def program_costs(self, contender: Contender, tasks: list[tuple[object, ...]]) -> dict[str, Any]:
        """Runs and ns a run of each program, as the kernel counts them while ``tasks`` are done."""
        assert contender.probes
        lib = libbpf.library()
        counting = lib.bpf_enable_stats(_BPF_STATS_RUN_TIME)  # until this descriptor is closed
        if counting < 0:
            return {"error": "this kernel does not count runs of programs"}
        try:
            names = [h.program for h in HOOKS if h.place in PLACES and h.program in contender.probes.loaded]
            before = {name: _runs(contender.probes, name) for name in names}
            for task in tasks:
                self.turn(contender, task)
                contender.records()
            after = {name: _runs(contender.probes, name) for name in names}
        finally:
            os.close(counting)
        costs = {}
        for name in names:
            spent, runs = (b - a for a, b in zip(before[name], after[name], strict=True))
            if runs:
                costs[name] = {"runs": runs, "ns": spent / runs}
        return costs


def _runs(probes: Probes, name: str) -> tuple[int, int]:
    buffer = ctypes.create_string_buffer(_INFO_BYTES)
    size = ctypes.c_uint32(_INFO_BYTES)
    libbpf.library().bpf_obj_get_info_by_fd(probes._object.program_fd(name), buffer, ctypes.byref(size))
    spent, runs = struct.unpack_from("<QQ", buffer, _RUN_TIME)
    return spent, runs


def spread(values: Any) -> dict[str, float]:
    """Median, quartiles, extremes, and between what the median lies nineteen times of twenty."""
    names = ("min", "q1", "median", "q3", "max")
    found = dict(zip(names, np.percentile(values, [0, 25, 50, 75, 100]).tolist(), strict=True))
    low, high = median_interval(values)
    return found | {"n": len(values), "low": low, "high": high}


def median_interval(values: Any) -> tuple[float, float]:
    """Between which of ``values`` the median of all there could be lies, with 95 % confidence or, of fewer than
    six, as sure as their extremes are: order statistics, whatever the distribution is.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    below, place = 0.0, -1  # the chance that no more than `place` values lie below the median
    while place + 1 < count // 2 and (below := below + math.comb(count, place + 1) / 2**count) <= 0.025:
        place += 1
    return float(ordered[max(place, 0)]), float(ordered[count - 1 - max(place, 0)])


def took(records: list[bytes], kind: str) -> dict[str, float] | None:
    """What the verdicts of one kind of record say they took."""
    number = schema.KIND[kind]
    layout = schema.LAYOUT[number]
    kinds = (np.frombuffer(r, schema.HEAD, 1)[0]["kind"] for r in records)
    values = [
        int(np.frombuffer(r, layout, 1)[0]["took_ns"])
        for r, k in zip(records, kinds, strict=True)
        if k == number
    ]
    if not values:
        return None
    p50, p99 = np.percentile(values, [50, 99])
    return {"n": len(values), "p50": float(p50), "p99": float(p99), "max": max(values)}
