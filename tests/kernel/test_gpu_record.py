# SPDX-License-Identifier: Apache-2.0
"""What the records of GPU devices say; /dev/full stands in for a GPU and refuses every ioctl."""

from __future__ import annotations

import platform

import pytest
from harness import record, workload
from test_exactness import CHANNEL, GPU, RM_ALLOC, gpu_options

from tracer.kernel import schema

FLAG = schema.GPU_FLAG


def one(found):
    (event,) = found.of("gpu-ioctl")
    return event


def test_without_a_gpu_nothing_is_sent():
    found = record(workload("ioctls", GPU, 10, RM_ALLOC, CHANNEL))
    assert found.of("gpu-ioctl") == found.of("gpu-open") == []


def test_device_is_known_by_number(tmp_path):
    import os

    node = tmp_path / "innocent"
    os.mknod(node, 0o666 | 0o020000, os.makedev(1, 7))
    found = record(workload("ioctls", node, 1, RM_ALLOC, CHANNEL), gpu_options())
    assert (one(found)["major"], one(found)["minor"]) == (1, 7)


@pytest.mark.parametrize("command", [RM_ALLOC, "0xc0304f2b", "0x2b"])
def test_magic_and_direction_do_not_matter(command):
    event = one(record(workload("ioctls", GPU, 1, command, CHANNEL), gpu_options("nvidia")))
    if command == "0x2b":  # for a stand-in, a bare number is UVM's
        assert event["family"] == schema.GPU_FAMILY["GPU_NVIDIA_UVM"]
    else:
        assert (event["nr"], event["code"]) == (0x2B, 0xC86F)


def test_xfer_is_unwrapped():
    event = one(record(workload("wrapped_ioctl", GPU), gpu_options()))
    assert (event["nr"], event["code"]) == (0x2B, 0xC86F)
    assert event["flags"] & FLAG["GPU_WRAPPED"] and event["flags"] & FLAG["GPU_COMPUTE"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is x86's")
def test_32_bit_call():
    event = one(record(workload("ioctl_32bit", GPU), gpu_options()))
    assert (event["nr"], event["code"]) == (0x2B, 0xC86F)
    assert event["flags"] & FLAG["GPU_COMPAT"]


def test_unreadable_argument_is_said():
    event = one(record(workload("ioctls", GPU, 1, RM_ALLOC), gpu_options()))
    assert event["flags"] & FLAG["GPU_ARG_UNREADABLE"]


@pytest.mark.parametrize(
    ("family", "command", "compute"),
    [
        ("uvm", "27", True),
        ("uvm", "37", False),
        ("kfd", "0xc0604b02", True),
        ("kfd", "0x80084b01", False),
        ("amdgpu", "0xc0186444", True),
        ("i915", "0x40406469", True),
        ("xe", "0x40386449", True),
        ("drm", "0xc0186444", False),
        ("accel", "0xc0186442", True),
    ],
)
def test_families(family, command, compute):
    event = one(record(workload("ioctls", GPU, 1, command, "00" * 96), gpu_options(family)))
    assert bool(event["flags"] & FLAG["GPU_COMPUTE"]) is compute


def test_counts_come_once_a_second(tmp_path):
    found = record(workload("ioctls", GPU, 2_000_000, "0xc0104629", "00" * 16), gpu_options())
    counts = found.of("gpu-counts")
    assert counts[-1]["final"] == 1
    seconds = (int(counts[-1]["ts"]) - int(counts[0]["ts"])) / 1e9
    assert abs(len(counts) - 1 - seconds) <= 1.5
