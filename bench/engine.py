# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds an event, from ring to state: ours beside a Python callback on libbpf and on bcc.

Part one: records in memory, by kind, our engine alone. Part two: records that real probes have put
into a real ring (an ioctl storm), taken out by each contender in turn, A B C A B C.

    python -m bench engine
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine, synthetic
from tracer.detect.pings import ECHO, ECHO_REPLY
from tracer.engine.engine import Engine
from tracer.rules import load_rules

MEMORY_EVENTS = 200_000
ROUNDS = 7
STORM = 100_000
LIVE_ROUNDS = 5
FLOWS = "connect, open, close"
NO_RELAYS = "— no relays looked for"
ICMP, UDP = 1, 17

_PYTHON = [b"/usr/bin/python3", b"train.py", b"--epochs", b"3", b"--data", b"/data/set", b"-v"]


def _dns(tgid: int, ts: int, name: bytes, addresses: int = 0) -> bytes:
    """A question to a DNS server, or its answer with so many addresses."""
    data = synthetic.question(name, addresses)
    return synthetic.first_bytes(tgid, ts, 1 + ts % 1000, data, protocol=UDP, port=53, received=addresses > 0)


def _kinds() -> dict[str, list[bytes]]:
    """Record streams by name. Each leaves the tables as it found them."""
    n = MEMORY_EVENTS
    alive = [synthetic.fork(10 + i, 1, 1 + i) for i in range(1000)]
    pid = [10 + i % 1000 for i in range(n)]
    churn: list[bytes] = []
    for i in range(n // 3):
        churn += [
            synthetic.fork(5000 + i % 20000, 10 + i % 1000, i),
            synthetic.execute(5000 + i % 20000, 10, i, [b"sh", b"-c", b"make -j2 all"], b"/usr/bin/dash"),
            synthetic.exit_(5000 + i % 20000, i),
        ]
    flows: list[bytes] = []
    for i in range(n // 3):
        flows += [
            synthetic.connect(pid[i], i, 100 + i),
            synthetic.flow_open(pid[i], i, 100 + i),
            synthetic.flow_close(pid[i], i, 100 + i),
        ]
    spans: list[bytes] = []
    for i in range(n // 4):
        spans += [
            synthetic.span(pid[i], i, i),
            synthetic.fork(5000 + i % 20000, pid[i], i, span=i + 1),
            synthetic.exit_(5000 + i % 20000, i),
            synthetic.span(pid[i], i, i, ends=True),
        ]
    samples: list[bytes] = []  # passes over 60 connections of 20 processes
    for i in range(n // 60):
        ts = 1_000_000_000 + i * 100_000_000
        samples += [synthetic.flow_sample(10 + j % 20, ts, 1 + j, j // 20) for j in range(60)]
        samples.append(synthetic.flow_sample(0, ts, 0, 0))
    pings: list[bytes] = []  # as iputils sends them: the time, and a pattern; and the answers to them
    for i in range(n // 2):
        echo = i.to_bytes(16, "little") + bytes(range(16, 56))
        place = {"tgid": pid[i], "ts": i, "cookie": 1 + i % 1000, "data": echo, "protocol": ICMP}
        pings += [
            synthetic.first_bytes(**place, icmp=ECHO),
            synthetic.first_bytes(**place, icmp=ECHO_REPLY, received=True),
        ]
    return {
        "alive": alive,
        "exec (7 arguments)": [
            synthetic.execute(pid[i], 1, i, _PYTHON, b"/usr/bin/python3.11") for i in range(n // 4)
        ],
        "— not judged by a probe": [
            synthetic.execute(pid[i], 1, i, _PYTHON, b"/usr/bin/python3.11", judged=False)
            for i in range(n // 4)
        ],
        "fork, exec, exit": churn,
        FLOWS: flows,
        "flow samples": samples,
        "span begins, fork, exit, ends": spans,
        "pings and answers": pings,
        "DNS questions": [_dns(pid[i], i, b"host-%d.site-%d.com" % (i % 7, i % 300)) for i in range(n)],
        "DNS questions, a new domain each": [_dns(pid[i], i, b"www.site-%d.com" % i) for i in range(n)],
        "DNS answers, 4 new addresses each": [
            _dns(pid[i], i, b"www.site-%d.com" % i, 4) for i in range(n // 4)
        ],
        "connects to UNIX sockets": [
            synthetic.local_connect(pid[i], i, b"/run/user/1000/service-%d.sock" % (i % 100))
            for i in range(n)
        ],
        "GPU ioctl": [synthetic.gpu_ioctl(pid[i], i, i) for i in range(n)],
        "mix": [r for t in zip(*(s[: n // 4] for s in (churn, flows, flows[::-1])), strict=True) for r in t],
    }


def _drain_memory(engine: Engine, ring: synthetic.MemoryRing, empty: synthetic.MemoryRing) -> float:
    """Seconds to take in everything in ``ring``."""
    ring.rewind()
    for row, r in enumerate((empty, ring)):
        engine._rings[row] = (r.consumer, r.producer, r.data, r.size - 1)
    left = ring.count
    began = time.perf_counter()
    while left:
        left -= engine.drain()[1]
    return time.perf_counter() - began


def judging_engine() -> Engine:
    """One that believes what the records say of rules, as in a watch."""
    engine = Engine(load_rules([]))
    engine.judge_by(engine.rules, synthetic.EPOCH)
    engine.warm()
    return engine


def memory_figures() -> dict[str, dict[str, float]]:
    """Ns per event by stream: min, median, max over ROUNDS."""
    streams = _kinds()
    empty = synthetic.MemoryRing([])
    engine = judging_engine()
    alive = synthetic.MemoryRing(streams.pop("alive"))
    _drain_memory(engine, alive, empty)
    rings = {name: synthetic.MemoryRing(records) for name, records in streams.items()}
    plain = judging_engine()
    plain.state.relays.limits[:] = 0
    _drain_memory(plain, alive, empty)
    taken: dict[str, list[float]] = {name: [] for name in (*rings, NO_RELAYS)}
    for _ in range(ROUNDS + 1):
        for name, ring in rings.items():
            taken[name].append(_drain_memory(engine, ring, empty) / ring.count * 1e9)
        ring = rings[FLOWS]
        taken[NO_RELAYS].append(_drain_memory(plain, ring, empty) / ring.count * 1e9)
    return {
        name: {"min": min(t[1:]), "median": median(t[1:]), "max": max(t[1:])} for name, t in taken.items()
    }


class _Live:
    """Real probes with a storm of uncounted GPU ioctls waiting in the bulk ring."""

    def __init__(self) -> None:
        from tracer.gpu.devices import stand_in
        from tracer.kernel.probes import ProbeOptions, Probes

        self.probes = Probes(ProbeOptions(devices=(stand_in("/dev/full"),), bulk_bytes=64 << 20))
        self.probes.attach_kernel()

    def storm(self) -> None:
        """Fill the ring: RM_CONTROL with codes that repeat too seldom to be counted together."""
        from tracer.launch import Command

        workloads = Path(__file__).parent.parent / "tests" / "kernel" / "workloads.py"
        command = Command([sys.executable, "-I", str(workloads), "kinds_of_ioctl", "/dev/full", str(STORM)])
        self.probes.track(command.pidfd)
        command.release()
        command.wait()
        command.close()


def _numba_contender(live: _Live) -> Callable[[], int]:
    from tracer.engine.ring import Ring

    engine = Engine(load_rules([]))
    rings = [Ring(m.fd, m.max_entries) for m in map(live.probes.map, ("ring_critical", "ring_bulk"))]
    engine.bind(rings[0], rings[1], rings[0].consumer)
    engine.warm()

    def take() -> int:
        return engine.drain(1 << 30)[1]

    return take


def _callback_contender(live: _Live) -> Callable[[], int]:
    """Libbpf's own reader with a Python callback that decodes each record, as most scripts do."""
    from tracer.kernel import libbpf

    lib = libbpf.library()
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    lib.ring_buffer__new.restype = ctypes.c_void_p
    lib.ring_buffer__new.argtypes = [ctypes.c_int, kind, ctypes.c_void_p, ctypes.c_void_p]
    lib.ring_buffer__consume.argtypes = [ctypes.c_void_p]

    class Event(ctypes.Structure):
        _fields_ = [
            ("ts", ctypes.c_uint64), ("start", ctypes.c_uint64), ("seq", ctypes.c_uint64),
            ("tgid", ctypes.c_uint32), ("tid", ctypes.c_uint32), ("cpu", ctypes.c_uint16),
            ("size", ctypes.c_uint16), ("kind", ctypes.c_uint8), ("ring", ctypes.c_uint8),
            ("tree", ctypes.c_uint16), ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32),
            ("cmd", ctypes.c_uint32), ("nr", ctypes.c_uint32), ("code", ctypes.c_uint32),
        ]  # fmt: skip

    seen: dict[int, int] = {}

    def on_record(_context: int, data: int, _size: int) -> int:
        event = Event.from_address(data)
        seen[event.code] = seen.get(event.code, 0) + 1
        return 0

    callback = kind(on_record)
    ring = lib.ring_buffer__new(live.probes.map("ring_bulk").fd, callback, None, None)

    def take() -> int:
        assert callback
        return int(lib.ring_buffer__consume(ring))

    return take


def live_figures() -> dict[str, dict[str, float]]:
    """Ns per event by contender over LIVE_ROUNDS interleaved storms."""
    live = _Live()
    try:
        contenders = {
            "mmapped ring, Numba engine": _numba_contender(live),
            "libbpf, Python callback": _callback_contender(live),
        }
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(LIVE_ROUNDS + 1):
            for name, take in contenders.items():
                live.storm()
                began = time.perf_counter()
                count = take()
                taken[name].append((time.perf_counter() - began) / max(count, 1) * 1e9)
                assert count >= STORM - 128, (name, count)
    finally:
        live.probes.close()
    return {
        name: {"min": min(t[1:]), "median": median(t[1:]), "max": max(t[1:])} for name, t in taken.items()
    }


def bcc_figures() -> dict[str, Any]:
    """The same with bcc's ring-buffer callback, in the Python that has bcc; or why not."""
    script = Path(__file__).parent / "bcc_ring.py"
    run = subprocess.run(
        ["/usr/bin/python3", str(script), str(STORM), str(LIVE_ROUNDS)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if run.returncode:
        lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
        return {"error": lines[-1] if lines else "no output"}
    times = json.loads(run.stdout.splitlines()[-1])
    return {"min": min(times), "median": median(times), "max": max(times)}


def main() -> None:
    """Print the tables and keep them."""
    print(machine.headline())
    memory = memory_figures()
    print(f"\nengine alone, records in memory, ns an event (median of {ROUNDS}, min–max)")
    for name, t in memory.items():
        print(f"  {name:<33} {t['median']:7.1f}  ({t['min']:.1f}–{t['max']:.1f})")
    live: dict[str, Any] = dict(live_figures())
    live["bcc, Python callback"] = bcc_figures()
    base = live["mmapped ring, Numba engine"]["median"]
    print(f"\nreal ring, {STORM:,} records a round, ns an event (median of {LIVE_ROUNDS}, min–max)")
    for name, t in live.items():
        if "error" in t:
            print(f"  {name:<28} not measured: {t['error']}")
        else:
            print(
                f"  {name:<28} {t['median']:7.0f}  ({t['min']:.0f}–{t['max']:.0f})"
                f"  {1e3 / t['median']:6.2f} M/s  {t['median'] / base:5.1f} ×"
            )
    print(f"\nkept in {machine.keep('engine', {'memory_ns': memory, 'ring_ns': live})}")


if __name__ == "__main__":
    main()
