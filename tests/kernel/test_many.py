# SPDX-License-Identifier: Apache-2.0
"""Many processes, one after the other, through real probes."""

from __future__ import annotations

import resource

import pytest
from harness import record, workload

from tracer.engine import processes as procs


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_100_000_short_processes_do_not_grow_memory():
    record(workload("forks", 1000))  # whatever is allocated once, is by now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = record(workload("flood", 100_000), keep_events=False)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert found.summary.received["fork"] == found.summary.sent["fork"] == 100_000
    assert found.summary.lost_total == 0
    assert found.engine.live == 0
    # those that have ended last stay a while, for what is told of them a moment late
    assert int(found.engine.state.processes.state[procs.P_USED]) < procs.RECENT + 100
    assert grown_mib < 30, grown_mib
