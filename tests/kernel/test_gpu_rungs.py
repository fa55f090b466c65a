# SPDX-License-Identifier: Apache-2.0
"""Every way to see GPU ioctls that a kernel has sees the same; all but the last cost other system calls nothing."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import kernel_lacks
from harness import record, workload
from test_exactness import CHANNEL, GPU, RM_ALLOC, gpu_options

from tracer.kernel import libbpf, schema
from tracer.kernel.hooks import GPU as IOCTLS
from tracer.kernel.hooks import LADDERS, Rung
from tracer.kernel.probes import Probes
from tracer.kernel.rungs import complaint_about, taken

pytestmark = pytest.mark.guest
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
#: Where run_cnt lies in struct bpf_prog_info (include/uapi/linux/bpf.h).
RUN_COUNT = 200
CALLS = 20_000


@pytest.fixture(params=LADDERS[IOCTLS], ids=lambda rung: rung.name.replace(" ", "-"))
def rung(request, monkeypatch) -> Rung:
    """One that is here, taken for the best."""
    if complaint_about(request.param) is not None:
        kernel_lacks(f"{request.param.name} for GPU ioctls: {complaint_about(request.param)}")
    monkeypatch.setitem(LADDERS, IOCTLS, (request.param,))
    taken.cache_clear()
    yield taken(IOCTLS)
    taken.cache_clear()


@contextmanager
def counted_runs() -> Iterator[None]:
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


def runs_of(probes: Probes, name: str) -> int:
    buffer, size = ctypes.create_string_buffer(256), ctypes.c_uint32(256)
    fd = probes._object.program_fd(name)
    assert libbpf.library().bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(size)) == 0
    return struct.unpack_from("<Q", buffer, RUN_COUNT)[0]


def test_it_sees_an_ioctl_and_a_32_bit_one(rung):
    calls = [workload("ioctls", GPU, 1, RM_ALLOC, CHANNEL)]
    if platform.machine() == "x86_64":  # int 0x80 is x86's
        calls.append(workload("ioctl_32bit", GPU))
    script = "; ".join(" ".join(f"'{word}'" for word in call) for call in calls)
    run = record(["sh", "-c", script], gpu_options())
    found = [bool(e["flags"] & schema.GPU_FLAG["GPU_COMPAT"]) for e in run.of("gpu-ioctl")]
    assert found == [False, True][: len(calls)]
    assert {(int(e["nr"]), int(e["code"])) for e in run.of("gpu-ioctl")} == {(0x2B, 0xC86F)}


def test_what_other_system_calls_pay(rung):
    """Nothing: the program does not run; but for the last one, which runs at each."""
    probes = Probes(gpu_options())
    try:
        probes.attach_kernel()
        assert set(rung.programs) <= probes.attached, probes.missing
        with counted_runs():
            before = {name: runs_of(probes, name) for name in rung.programs}
            for _ in range(CALLS):
                os.getppid()
            ran = {name: runs_of(probes, name) - before[name] for name in rung.programs}
    finally:
        probes.close()
    if rung.name == "every system call":
        assert ran["on_sys_enter"] >= CALLS
    else:
        assert max(ran.values()) < CALLS / 100, "ioctls of others, at most"
