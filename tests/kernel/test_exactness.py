# SPDX-License-Identifier: Apache-2.0
"""Known workloads with prime counts are counted exactly."""

from __future__ import annotations

import numpy as np
import pytest
from harness import record, workload

from tracer.gpu.devices import stand_in
from tracer.kernel import schema
from tracer.kernel.probes import ProbeOptions

GPU = "/dev/full"
RM_ALLOC = "0xc030462b"
#: NVOS64 with class HOPPER_CHANNEL_GPFIFO_A
CHANNEL = np.array([1, 2, 3, 0xC86F, 0, 0, 0, 0, 0, 0, 0, 0], np.uint32).tobytes().hex()


def gpu_options(family: str = "nvidia") -> ProbeOptions:
    return ProbeOptions(devices=(stand_in(f"{GPU}={family}"),))


def nothing_lost(found) -> None:
    """Every record that was sent has arrived, and the sequence numbers have no gap."""
    summary = found.summary
    assert summary.lost_total == 0, (summary.lost, summary.reasons)
    assert summary.sent == summary.received
    state = found.engine.state
    assert (state.next_seq == state.got).all()


def test_forks():
    found = record(workload("forks", 1009))
    assert len(found.of("fork")) == 1009
    assert len(found.of("exit")) == 1010
    assert {int(e["parent_tgid"]) for e in found.of("fork")} == {found.root}
    nothing_lost(found)


def test_execs():
    found = record(workload("execs", 503))
    numbers = [e.argv[1] for e in found.execs() if e.path.endswith(b"/true")]
    assert numbers == [str(n).encode() for n in range(503)]
    nothing_lost(found)


def test_threads_are_tracked_but_not_sent():
    found = record(workload("threads", 211))
    assert found.of("fork") == []
    assert found.summary.threads == 211
    nothing_lost(found)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_connects(address):
    found = record(workload("connects", 251, address))
    assert len(found.of("connect")) == 251
    accepted = [e for e in found.of("flow-open") if e["flags"] & schema.FLOW_FLAG["FLOW_ACCEPTED"]]
    assert len(accepted) == 251
    assert len(found.of("flow-open")) == 502
    assert len(found.of("flow-close")) == 502
    assert len(found.of("listen")) == 1
    nothing_lost(found)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_failed_connects(address):
    found = record(workload("refused", 127, address))
    closed = found.of("flow-close")
    assert len(found.of("connect")) == len(closed) == 127
    assert {int(e["error"]) for e in closed} == {111}  # ECONNREFUSED
    assert not any(e["established"] for e in closed)
    nothing_lost(found)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_datagrams_are_told_once_a_destination(address):
    found = record(workload("datagrams", 113, address))
    ports = [int(e["remote_port"]) for e in found.of("connect")]
    assert ports == [20000 + n for n in range(113)]
    nothing_lost(found)


def total_of(found, nr: int, code: int) -> int:
    """The last count of a kind of ioctl, summed over processes."""
    last: dict[int, int] = {}
    for e, tail in found.events:
        if e["kind"] == schema.KIND["EVENT_GPU_COUNTS"]:
            kinds = np.frombuffer(tail, schema.GPU_KIND, int(e["kinds"]))
            match = kinds[(kinds["nr"] == nr) & (kinds["code"] == code) & (kinds["count"] > 0)]
            if len(match):
                last[int(e["tgid"])] = int(match["count"].sum())
    return sum(last.values())


@pytest.mark.parametrize("threads", [1, 4])
def test_ioctls(threads):
    found = record(workload("ioctls", GPU, 10007, RM_ALLOC, CHANNEL, threads), gpu_options())
    assert total_of(found, 0x2B, 0xC86F) == 10007 * threads
    (first,) = found.of("gpu-ioctl")
    assert first["flags"] == schema.GPU_FLAG["GPU_FIRST"] | schema.GPU_FLAG["GPU_COMPUTE"]
    assert (first["nr"], first["code"]) == (0x2B, 0xC86F)
    assert len(found.of("gpu-open")) == threads
    nothing_lost(found)


def test_more_kinds_of_ioctl_than_fit_are_sent_singly():
    found = record(workload("kinds_of_ioctl", GPU, 509), gpu_options())
    assert {int(e["code"]) for e in found.of("gpu-ioctl")} == set(range(509))
    uncounted = [e for e in found.of("gpu-ioctl") if e["flags"] & schema.GPU_FLAG["GPU_UNCOUNTED"]]
    assert 509 - 128 <= len(uncounted) < 509
    nothing_lost(found)


def test_received_and_lost_make_sent_when_the_rings_overflow():
    small = ProbeOptions(critical_bytes=1 << 16, bulk_bytes=1 << 16)
    found = record(workload("flood", 3000), small, pause_reader=60.0)
    summary = found.summary
    assert summary.lost["fork"] > 50
    for kind, sent in summary.sent.items():
        assert summary.received[kind] + summary.lost[kind] == sent, kind
    state = found.engine.state
    assert int((state.next_seq - state.got).sum()) <= sum(summary.lost.values())
    assert found.engine.live == 0  # repaired: nobody lives for ever because an exit was lost
