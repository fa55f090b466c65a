# SPDX-License-Identifier: Apache-2.0
"""Many processes, one after the other, through real probes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from harness import record, workload

from tracer.engine import processes as procs
from tracer.kernel import schema
from tracer.kernel.probes import ProbeOptions

COUNT = 40_000
#: They go round it several times.
RING = 1 << 20


def resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_short_processes_by_the_thousand_do_not_grow_memory():
    resident: list[float] = []
    steps = itertools.count()

    def look(watch, _found):
        # by then the rings have been gone round, and whatever is allocated once is there
        if next(steps) % 10 == 0 and watch.engine.received()[schema.KIND["EVENT_FORK"]] >= COUNT // 3:
            resident[1:] = [resident_mib()]

    found = record(
        workload("flood", COUNT), ProbeOptions(critical_bytes=RING), keep_events=False, between=look
    )
    grown_mib = resident[-1] - resident[0]
    assert found.summary.received["fork"] == found.summary.sent["fork"] == COUNT
    assert found.summary.lost_total == 0
    assert found.engine.live == 0
    # those that have ended last stay a while, for what is told of them a moment late
    assert int(found.engine.state.processes.state[procs.P_USED]) < procs.RECENT + 100
    assert grown_mib < 30, grown_mib
