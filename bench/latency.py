# SPDX-License-Identifier: Apache-2.0
"""From hook to hand-out: exec → alert; connect, first bytes and GPU ioctl → record in the reader's hands.

Idle, and with every core compiling (a busy loop of the C compiler's kind: fork, exec, compute). Every
sample is a real exec or connect of a real tree under real probes; times are the alerts' own.

    python -m bench latency
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from tracer import clock
from tracer.alerts import Alert
from tracer.engine.engine import Engine
from tracer.gpu.devices import stand_in
from tracer.kernel import cgroup, schema
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.launch import Command
from tracer.rules import load_rules
from tracer.sinks.events import records
from tracer.watch import Watch

SAMPLES = 1000
PAUSE_S = 0.003

RECORDS = {
    "connect → reader": schema.KIND["EVENT_CONNECT"],
    "first bytes → reader": schema.KIND["EVENT_FIRST_BYTES"],
    "GPU ioctl → reader": schema.KIND["EVENT_GPU_IOCTL"],
}

_LOOP = """
import fcntl, os, socket, sys, time
miner, count, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(16)
gpu = os.open("/dev/full", os.O_RDWR)
for number in range(count):
    os.waitpid(os.posix_spawn(miner, [miner], {}), 0)
    time.sleep(pause)
    client = socket.socket(); client.connect(server.getsockname())
    client.send(b"hello %d" % number); server.accept()[0].close(); client.close()
    time.sleep(pause)
    try:
        fcntl.ioctl(gpu, 0xC0204600 + number % 100)
    except OSError:
        pass
    time.sleep(pause)
"""

_COMPILE = """
import os, sys, time
source = "x = [" + ", ".join(f"lambda a: a * {n} + (a if a > {n} else -a)" for n in range(400)) + "]"
while time.time() < float(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        compile(source, "<busy>", "exec")
        os.execv("/bin/true", ["true"])
    os.waitpid(pid, 0)
"""


class _Times:
    """A sink that keeps latencies in µs."""

    def __init__(self) -> None:
        self.target, self.failed = "bench", 0
        self.alerts: list[float] = []
        self.records: dict[int, list[float]] = {number: [] for number in RECORDS.values()}

    def tell(self, alert: Alert) -> None:
        self.alerts.append((clock.boottime_ns() - alert.hook_ns) / 1000)

    def close(self) -> None:
        pass

    def take(self, tap: bytes) -> None:
        now = clock.boottime_ns()
        for e, _ in records(tap):
            if e["kind"] in self.records:
                self.records[int(e["kind"])].append((now - int(e["ts"])) / 1000)


@contextmanager
def every_core_compiling(seconds: float) -> Iterator[None]:
    """One endless compiler a core, for a bounded time."""
    until = str(time.time() + seconds)
    workers = [
        subprocess.Popen([sys.executable, "-I", "-c", _COMPILE, until]) for _ in range(os.cpu_count() or 1)
    ]
    try:
        time.sleep(0.5)
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def measure() -> dict[str, dict[str, float]]:
    """Latencies of SAMPLES execs of a "miner" and as many connects."""
    times = _Times()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        miner = folder / "xmrig"
        shutil.copy("/bin/true", miner)
        command = Command([sys.executable, "-I", "-c", _LOOP, str(miner), str(SAMPLES), str(PAUSE_S)])
        stack.callback(command.close)
        tree = cgroup.TreeCgroup.create()
        stack.callback(tree.remove)
        rules = load_rules([])
        probes = Probes(ProbeOptions(rules=rules, devices=(stand_in("/dev/full"),)))
        stack.callback(probes.close)
        tree.add(command.pid)
        probes.attach_kernel()
        probes.attach_cgroup(tree.path)
        probes.track(command.pidfd)
        engine = Engine(rules)
        engine.warm()
        watch = Watch(probes, engine, [times], tree="bench", on_records=times.take)
        stack.callback(watch.close)
        watch.repair()
        watch.wait_for(command.pidfd)
        command.release()
        while command.poll() is None:
            watch.step()
        summary = watch.finish()
        assert summary.lost_total == 0, summary.lost
    rows = {name: _percentiles(times.records[number]) for name, number in RECORDS.items()}
    return {"exec → alert": _percentiles(times.alerts)} | rows


SHARES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}


def _percentiles(values: list[float]) -> dict[str, float]:
    return {"n": len(values)} | {name: float(np.percentile(values, at)) for name, at in SHARES.items()}


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    figures: dict[str, Any] = {"idle": measure()}
    with every_core_compiling(SAMPLES * PAUSE_S * 20 + 30):
        figures["every core compiling"] = measure()
    print(f"\n{'':<22} {'':<21} {'n':>6} " + " ".join(f"{name:>8}" for name in SHARES) + "   µs")
    for load, rows in figures.items():
        for what, t in rows.items():
            print(f"{load:<22} {what:<21} {t['n']:6} " + " ".join(f"{t[name]:8.0f}" for name in SHARES))
    print(f"\nkept in {machine.keep('latency', {'us': figures})}")


if __name__ == "__main__":
    main()
