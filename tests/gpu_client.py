# SPDX-License-Identifier: Apache-2.0
"""A stand-in GPU client: the ioctls of real ones, on any character device.

On /dev/null each of them fails with ENOTTY, after the tracer has seen it. Orders and arguments are those
of open-gpu-kernel-modules (src/common/sdk/nvidia/inc/nvos.h, kernel-open/common/inc/nv-ioctl.h,
kernel-open/nvidia-uvm/uvm_ioctl.h) and include/uapi/linux/kfd_ioctl.h.

    gpu_client.py --device /dev/null --profile compute

Prints ``ready`` before it opens anything and ``done`` after its last ioctl. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)

CHANNEL = 0xC86F  # HOPPER_CHANNEL_GPFIFO_A
COMPUTE = 0xCBC0  # HOPPER_COMPUTE_A

ROOT, DEVICE, SUBDEVICE = 0x41, 0x80, 0x2080
CLIENT, DEVICE_HANDLE, SUBDEVICE_HANDLE, CHANNEL_HANDLE = 0xC1D00001, 0x5C000001, 0x5C000002, 0x5C000010

RM_CONTROL, RM_ALLOC, MAP_MEMORY = 0x2A, 0x2B, 0x4E
CARD_INFO, REGISTER_FD, CHECK_VERSION_STR, XFER_CMD, SYS_PARAMS = 200, 201, 210, 211, 214


class NVOS64(ctypes.Structure):
    """RM_ALLOC, since 535."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("hRoot", "hObjectParent", "hObjectNew", "hClass")),
        *((name, ctypes.c_uint64) for name in ("pAllocParms", "pRightsRequested")),
        *((name, ctypes.c_uint32) for name in ("paramsSize", "flags", "status", "_pad")),
    )


class NVOS54(ctypes.Structure):
    """RM_CONTROL."""

    _fields_ = (
        ("hClient", ctypes.c_uint32),
        ("hObject", ctypes.c_uint32),
        ("cmd", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("params", ctypes.c_uint64),
        ("paramsSize", ctypes.c_uint32),
        ("status", ctypes.c_uint32),
    )


class NvXfer(ctypes.Structure):
    """XFER_CMD; ``cmd`` is the bare number of what it carries."""

    _fields_ = (("cmd", ctypes.c_uint32), ("size", ctypes.c_uint32), ("ptr", ctypes.c_uint64))


class UvmRegisterChannel(ctypes.Structure):
    """UVM_REGISTER_CHANNEL."""

    _fields_ = (
        ("gpuUuid", ctypes.c_uint8 * 16),
        ("rmCtrlFd", ctypes.c_int32),
        ("hClient", ctypes.c_uint32),
        ("hChannel", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("base", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("rmStatus", ctypes.c_uint32),
        ("_pad2", ctypes.c_uint32),
    )


class KfdCreateQueue(ctypes.Structure):
    """AMDKFD_IOC_CREATE_QUEUE, 1.17."""

    _fields_ = (
        ("ring_base_address", ctypes.c_uint64),
        ("write_pointer_address", ctypes.c_uint64),
        ("read_pointer_address", ctypes.c_uint64),
        ("doorbell_offset", ctypes.c_uint64),
        ("ring_size", ctypes.c_uint32),
        ("gpu_id", ctypes.c_uint32),
        ("queue_type", ctypes.c_uint32),
        ("queue_percentage", ctypes.c_uint32),
        ("queue_priority", ctypes.c_uint32),
        ("queue_id", ctypes.c_uint32),
        ("eop_buffer_address", ctypes.c_uint64),
        ("eop_buffer_size", ctypes.c_uint64),
        ("ctx_save_restore_address", ctypes.c_uint64),
        ("ctx_save_restore_size", ctypes.c_uint32),
        ("ctl_stack_size", ctypes.c_uint32),
        ("sdma_engine_id", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One ioctl, and what a tracer should make of it."""

    node: str  #: which of the client's descriptors: ctl, card, uvm, uvm-mm, kfd
    cmd: int
    argument: bytes
    nr: int
    code: int = 0
    wrapped: bool = False


def ioc(direction: int, magic: str, nr: int, size: int) -> int:
    """_IOC() of include/uapi/asm-generic/ioctl.h; ``direction``: 1 write, 2 read."""
    return direction << 30 | size << 16 | ord(magic) << 8 | nr


def escape(nr: int, argument: bytes, *, node: str = "ctl", code: int = 0) -> Step:
    return Step(node, ioc(3, "F", nr, len(argument)), argument, nr, code)


def rm_alloc(class_: int, *, parent: int = CLIENT, new: int = 0) -> Step:
    return escape(RM_ALLOC, bytes(NVOS64(CLIENT, parent, new, class_)), code=class_)


def rm_control(code: int, *, target: int = SUBDEVICE_HANDLE) -> Step:
    return escape(RM_CONTROL, bytes(NVOS54(CLIENT, target, code)), code=code)


def xfer(step: Step) -> Step:
    """``step`` carried by NVIDIA's XFER_CMD."""
    cmd = ioc(3, "F", XFER_CMD, ctypes.sizeof(NvXfer))
    return Step(step.node, cmd, step.argument, step.nr, step.code, wrapped=True)


def uvm(nr: int, size: int, *, node: str = "uvm") -> Step:
    return Step(node, nr, bytes(size), nr)


def kfd(direction: int, nr: int, argument: bytes, code: int = 0) -> Step:
    return Step("kfd", ioc(direction, "K", nr, len(argument)), argument, nr, code)


def kfd_create_queue(queue_type: int) -> Step:
    return kfd(3, 0x02, bytes(KfdCreateQueue(ring_size=4096, queue_type=queue_type)), queue_type)


# What every user of the driver begins with: a client, …
CLIENT_STEPS = [
    escape(CHECK_VERSION_STR, bytes(72)),
    escape(SYS_PARAMS, bytes(8)),
    rm_alloc(ROOT, parent=0, new=CLIENT),
    escape(CARD_INFO, bytes(0x900)),
]
# … and a card.
CARD_STEPS = [
    escape(REGISTER_FD, bytes(4), node="card"),
    rm_alloc(DEVICE, new=DEVICE_HANDLE),
    rm_alloc(SUBDEVICE, parent=DEVICE_HANDLE, new=SUBDEVICE_HANDLE),
]


def compute_steps() -> list[Step]:
    """A CUDA context, in the order in which libcuda makes it."""
    channel = UvmRegisterChannel(rmCtrlFd=-1, hClient=CLIENT, hChannel=CHANNEL_HANDLE)
    return [
        *CLIENT_STEPS,
        uvm(0x30000001, 16),  # INITIALIZE
        uvm(75, 8, node="uvm-mm"),  # MM_INITIALIZE
        *CARD_STEPS,
        rm_control(0x00800201, target=DEVICE_HANDLE),  # GPU_GET_CLASSLIST
        rm_control(0x2080014A),  # GPU_GET_GID_INFO
        rm_alloc(0xC661, parent=SUBDEVICE_HANDLE),  # HOPPER_USERMODE_A
        escape(MAP_MEMORY, bytes(56)),
        rm_alloc(0x90F1, parent=DEVICE_HANDLE),  # FERMI_VASPACE_A
        uvm(37, 40),  # REGISTER_GPU
        uvm(25, 32),  # REGISTER_GPU_VASPACE
        rm_control(0x20800145),  # GPU_ACQUIRE_COMPUTE_MODE_RESERVATION
        rm_alloc(0xA06C, parent=DEVICE_HANDLE),  # KEPLER_CHANNEL_GROUP_A
        rm_alloc(0x9067, parent=DEVICE_HANDLE),  # FERMI_CONTEXT_SHARE_A
        rm_alloc(CHANNEL, parent=DEVICE_HANDLE, new=CHANNEL_HANDLE),
        rm_alloc(COMPUTE, parent=CHANNEL_HANDLE),
        rm_alloc(0xC8B5, parent=CHANNEL_HANDLE),  # HOPPER_DMA_COPY_A
        rm_control(0xC36F0108, target=CHANNEL_HANDLE),  # GPFIFO_GET_WORK_SUBMIT_TOKEN
        Step("uvm", 27, bytes(channel), 27),  # REGISTER_CHANNEL
        rm_control(0xA06C0101),  # GPFIFO_SCHEDULE
    ]


def nvml_steps() -> list[Step]:
    """nvidia-smi: reads, and makes nothing that could compute."""
    controls = (0x20800110, 0x2080018D, 0x20802068, 0x20801303, 0x20801819, 0x2080012F, 0x20802096)
    return [*CLIENT_STEPS, *CARD_STEPS, *(rm_control(code) for code in controls)]


def uvm_steps() -> list[Step]:
    """What unified memory sees of a compute context, with a first allocation."""
    return [
        *(step for step in compute_steps() if step.node.startswith("uvm")),
        uvm(73, 24),  # CREATE_EXTERNAL_RANGE
        uvm(33, 9264),  # MAP_EXTERNAL_ALLOCATION
        uvm(34, 24),  # FREE
    ]


def kfd_steps() -> list[Step]:
    """A ROCm context: an address space, memory, a compute queue and a copy queue."""
    return [
        kfd(2, 0x01, bytes(8)),  # GET_VERSION
        kfd(1, 0x15, bytes(8)),  # ACQUIRE_VM
        kfd(3, 0x16, bytes(40)),  # ALLOC_MEMORY_OF_GPU
        kfd(3, 0x18, bytes(24)),  # MAP_MEMORY_TO_GPU
        kfd_create_queue(0),
        kfd_create_queue(1),
    ]


def xfer_steps() -> list[Step]:
    """A channel and a compute engine, hidden one level deeper."""
    return [
        xfer(rm_alloc(CHANNEL, parent=DEVICE_HANDLE, new=CHANNEL_HANDLE)),
        xfer(rm_alloc(COMPUTE, parent=CHANNEL_HANDLE)),
    ]


def flood_steps() -> list[Step]:
    """One ioctl of a training loop, to be repeated."""
    return [rm_control(0x2080014A)]


PROFILES: dict[str, Callable[[], list[Step]]] = {
    "compute": compute_steps,
    "nvml": nvml_steps,
    "uvm": uvm_steps,
    "kfd": kfd_steps,
    "xfer": xfer_steps,
    "flood": flood_steps,
}


def issue(fd: int, step: Step, count: int = 1) -> int:
    """Issue ``step`` exactly ``count`` times on ``fd``; the errno of the last, or 0."""
    buffer = ctypes.create_string_buffer(step.argument, max(len(step.argument), 1))
    argument: ctypes.c_void_p = ctypes.cast(buffer, ctypes.c_void_p)
    if step.wrapped:
        outer = NvXfer(step.nr, len(step.argument), argument.value)
        argument = ctypes.cast(ctypes.pointer(outer), ctypes.c_void_p)
    call, cmd, result = _libc.ioctl, step.cmd, 0
    for _ in range(count):
        result = call(fd, cmd, argument)
    return ctypes.get_errno() if result < 0 else 0


class Client:
    """Opens the device once for each node that the steps need, in order of first use; keeps all open."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._fds: dict[str, int] = {}

    def run(self, steps: list[Step], count: int = 1) -> None:
        for step in steps:
            if step.node not in self._fds:
                self._fds[step.node] = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
            issue(self._fds[step.node], step, count)

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in GPU client.")
    parser.add_argument("--device", default="/dev/null")
    parser.add_argument("--profile", choices=PROFILES, default="compute")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="issue each ioctl so often")
    parser.add_argument("--hold", type=float, default=0, metavar="SECONDS", help="stay, with all open")
    parser.add_argument("--wait-stdin", action="store_true", help="after ready, wait for a line")
    options = parser.parse_args()
    client = Client(options.device)
    print("ready", flush=True)
    if options.wait_stdin:
        sys.stdin.readline()
    client.run(PROFILES[options.profile](), options.count)
    print("done", flush=True)
    time.sleep(options.hold)
    client.close()


if __name__ == "__main__":
    main()
