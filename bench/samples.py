# SPDX-License-Identifier: Apache-2.0
"""What a pass over all connections of a tree costs us, ten times a second. A packet pays nothing for it.

python -m bench samples
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench import allowance, machine
from tracer.engine.engine import Engine
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.rules import load_rules

ROUNDS = 30
FLOWS = (10, 100, 1000, 5000)

#: Connects argv[2] times to the port argv[1]; then says so much over each connection for each line it reads.
_TALKER = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
port, count = map(int, sys.argv[1:3])
flows = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
for flow in flows:
    flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print("ready", flush=True)
for line in sys.stdin:
    for flow in flows:
        flow.send(b"x" * 100)
    print("said", flush=True)
"""
_SINK = """
import resource, selectors, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
server = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(server.getsockname()[1], flush=True)
ready = selectors.DefaultSelector()
ready.register(server, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        if key.fileobj is server:
            ready.register(server.accept()[0], selectors.EVENT_READ)
        elif not key.fileobj.recv(65536):
            ready.unregister(key.fileobj)
            key.fileobj.close()
"""


def _microseconds(what: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter_ns()
    found = what()
    return (time.perf_counter_ns() - began) / 1000, found


def measure(count: int) -> dict[str, float]:
    """Medians in µs: a pass over connections that are still, one over those that all have moved, taking it in."""
    from tracer.kernel import cgroup

    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    sink = subprocess.Popen([sys.executable, "-I", "-c", _SINK], **pipes)
    assert sink.stdout
    port = int(sink.stdout.readline())
    tree = cgroup.TreeCgroup.create()
    rules = load_rules([])
    probes = Probes(ProbeOptions(own_cgroup=tree.path, rules=rules, bulk_bytes=64 << 20))
    engine = Engine(rules)
    engine.warm()
    talker = None
    try:
        probes.attach_kernel()
        probes.attach_cgroup(tree.path)
        talker = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-c",
                f"import sys; sys.stdin.readline()\n{_TALKER}",
                str(port),
                str(count),
            ],
            **pipes,
        )
        assert talker.stdin
        assert talker.stdout
        tree.add(talker.pid)
        talker.stdin.write("go\n")
        talker.stdin.flush()
        talker.stdout.readline()
        still, moved, taken = [], [], []
        for _ in allowance.rounds(ROUNDS):
            talker.stdin.write("say\n")
            talker.stdin.flush()
            talker.stdout.readline()
            took, found = _microseconds(probes.samples)
            assert len(found) == count + 1, (len(found), count)  # and the end of the pass
            moved.append(took)
            taken.append(_microseconds(lambda found=found: list(engine.feed(found, count=False)))[0])
            still.append(_microseconds(probes.samples)[0])
        return {"still": median(still), "moved": median(moved), "taken in": median(taken)}
    finally:
        for process in (talker, sink):
            if process is not None:
                process.kill()
                process.wait()
        tree.remove(2.0)
        probes.close()


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    figures = {count: measure(count) for count in allowance.parts(FLOWS)}
    print(f"\na pass, µs (median of {ROUNDS})")
    print(f"  {'connections':>11} {'none moved':>12} {'all moved':>12} {'taken in':>12}")
    for count, t in figures.items():
        print(f"  {count:>11,} {t['still']:12,.0f} {t['moved']:12,.0f} {t['taken in']:12,.0f}")
    print(f"\nkept in {machine.keep('samples', {str(count): t for count, t in figures.items()})}")


if __name__ == "__main__":
    main()
