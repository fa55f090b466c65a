# SPDX-License-Identifier: Apache-2.0
"""What a look at how much each process computes costs us, once a second. The tree pays nothing for it.

python -m bench efforts
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median

from bench import allowance, machine
from tracer.kernel.probes import ProbeOptions, Probes

ROUNDS = 10
THREADS = (1, 100, 1000, 10_000)

#: Has argv[1] threads that rest, and then one that doesn't.
_BUSY = """
import sys, threading, time
threading.stack_size(65536)
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
print("ready", flush=True)
while True:
    pass
"""


def measure(count: int) -> dict[str, float]:
    """Medians in ms of our own processor time, by pass: nobody of this host is in the tree; ``count`` threads are."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _BUSY, str(count)], stdout=subprocess.PIPE, text=True
    )
    probes = Probes(ProbeOptions(by_lineage=True))
    try:
        assert child.stdout
        child.stdout.readline()
        strangers = [_pass(probes)[0] for _ in allowance.rounds(ROUNDS)]
        probes.attach_kernel()
        fd = os.pidfd_open(child.pid)
        probes.track(fd)
        os.close(fd)
        probes.tasks()
        for _ in range(2):
            _pass(probes)
        ours, most = [], 0
        for _ in allowance.rounds(ROUNDS):
            time.sleep(0.2)
            took, records = _pass(probes)
            most = max(most, records)
            ours.append(took)
        assert most == 2, most  # the busy one, where the host lets it, and the end of the pass
        return {"strangers": median(strangers), "ours": median(ours)}
    finally:
        child.kill()
        child.wait()
        probes.close()


def _pass(probes: Probes) -> tuple[float, int]:
    began = time.process_time_ns()
    found = probes.efforts()
    return (time.process_time_ns() - began) / 1e6, len(found)


def main() -> None:
    """Print the table and keep it."""
    print(machine.headline())
    figures = {count: measure(count) for count in allowance.parts(THREADS)}
    print(f"\na pass, ms of a processor (median of {ROUNDS})")
    print(f"  {'threads':>9} {'not in the tree':>16} {'in the tree':>12}")
    for count, t in figures.items():
        print(f"  {count:>9,} {t['strangers']:16.2f} {t['ours']:12.2f}")
    print(f"\nkept in {machine.keep('efforts', {str(count): t for count, t in figures.items()})}")


if __name__ == "__main__":
    main()
