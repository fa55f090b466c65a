# SPDX-License-Identifier: Apache-2.0
"""Clients of a GPU, each as it sets itself up: orders and arguments of real ones, on a stand-in or on a driver's nodes.

    gpu_orders.py cuda --device /dev/full               every node is this device, which refuses each call
    gpu_orders.py nvml --nodes /dev --strict             nvidiactl, nvidia0, nvidia-uvm there, which must take them

Orders: libcuda's as in geohot/cuda_ioctl_sniffer and tinygrad's runtime/ops_nv.py; which objects graphics, video, gauges,
MPS and profilers make: gvisor pkg/abi/nvgpu/classes.go and pkg/sentry/devices/nvproxy/version.go; include/uapi/linux/kfd_ioctl.h
and include/uapi/drm for the others. ``--library`` maps an empty file of that name, as the real client has its driver's.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import socket
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # not there under python -I
from gpu_client import (
    CARD_STEPS,
    CHANNEL,
    CHANNEL_HANDLE,
    CLIENT,
    CLIENT_STEPS,
    COMPUTE,
    DEVICE_HANDLE,
    REGISTER_FD,
    RM_ALLOC,
    RM_CONTROL,
    SUBDEVICE_HANDLE,
    Step,
    compute_steps,
    escape,
    ioc,
    kfd_steps,
    nvml_steps,
    rm_alloc,
    rm_control,
    uvm,
    xfer,
)

GIB = 1 << 30
#: Where the status of what the driver did lies, by number and size of the argument.
STATUS = {(RM_ALLOC, 32): 28, (RM_ALLOC, 40): 36, (RM_ALLOC, 48): 40, (RM_CONTROL, 32): 28}
UVM_STATUS = {0x30000001: 8, 25: 28, 27: 48, 37: 36, 73: 16, 33: 9260, 34: 16, 75: 4}
NODES = {
    "ctl": "nvidiactl",
    "card": "nvidia0",
    "card1": "nvidia1",
    "uvm": "nvidia-uvm",
    "uvm-mm": "nvidia-uvm",
}


@dataclass(frozen=True, slots=True)
class Nested(Step):
    """A step whose argument points to more: at these offsets, to these bytes (which may point on)."""

    behind: tuple[tuple[int, object], ...] = ()


def nested(step: Step, *behind: tuple[int, object]) -> Nested:
    return Nested(step.node, step.cmd, step.argument, step.nr, step.code, step.wrapped, behind)


def vram(size: int) -> Nested:
    """RM_ALLOC of the card's memory, and what unified memory does with it."""
    parameters = bytearray(128)
    parameters[64:72] = size.to_bytes(8, "little")
    return nested(rm_alloc(0x40, parent=DEVICE_HANDLE), (16, bytes(parameters)))


def heap(size: int) -> Step:
    """RM_VID_HEAP_CONTROL, ALLOC_SIZE: how graphics asks for memory."""
    argument = bytearray(184)
    argument[0:12] = struct.pack("<3I", CLIENT, DEVICE_HANDLE, 2)
    argument[88:96] = size.to_bytes(8, "little")
    return escape(0x4A, bytes(argument), code=2)


def cuda() -> list[Step]:
    return [*compute_steps(), vram(2 * GIB), uvm(73, 24), uvm(33, 9264), vram(GIB)]


def raw() -> list[Step]:
    """A driver in user space (tinygrad's): the same objects, hardly a question."""
    asked = {0x00800201, 0xC36F0108, 0xA06C0101}
    return [s for s in compute_steps() if s.nr != RM_CONTROL or s.code in asked] + [vram(GIB)]


def nvml() -> list[Step]:
    objects = [rm_alloc(c, parent=SUBDEVICE_HANDLE) for c in (0x2081, 0x208F, 0x90E7)]
    return [*CLIENT_STEPS, *CARD_STEPS, *objects, *nvml_steps()[len(CLIENT_STEPS) + len(CARD_STEPS) :]]


def vulkan() -> list[Step]:
    classes = (0x90F1, 0xA06C)
    engines = (0xCB97, COMPUTE, 0xC8B5, 0x902D)
    return [
        *CLIENT_STEPS,
        *CARD_STEPS,
        *(rm_alloc(c, parent=DEVICE_HANDLE) for c in classes),
        heap(512 << 20),
        escape(0x57, bytes(64)),
        rm_alloc(CHANNEL, parent=DEVICE_HANDLE, new=CHANNEL_HANDLE),
        *(rm_alloc(c, parent=CHANNEL_HANDLE) for c in engines),
        rm_alloc(0xDA, parent=SUBDEVICE_HANDLE),
        rm_control(0xA06C0101),
    ]


def nvenc() -> list[Step]:
    return [
        *compute_steps(),
        rm_alloc(0xC9B7, parent=CHANNEL_HANDLE),
        rm_alloc(0xA0BC, parent=SUBDEVICE_HANDLE),
    ]


def mps_client() -> list[Step]:
    return [*compute_steps(), rm_alloc(0x900E, parent=DEVICE_HANDLE)]


def mps_server() -> list[Step]:
    return [*mps_client(), rm_control(0x00801108, target=DEVICE_HANDLE)]


def mig() -> list[Step]:
    """On a slice of the card: what it subscribes to before it makes anything."""
    slices = [rm_alloc(0xC637, parent=SUBDEVICE_HANDLE), rm_alloc(0xC638, parent=SUBDEVICE_HANDLE)]
    start = len(CLIENT_STEPS) + 2 + len(CARD_STEPS)
    return [*compute_steps()[:start], *slices, *compute_steps()[start:]]


def profiler() -> list[Step]:
    return [*compute_steps(), rm_alloc(0xB2CC, parent=SUBDEVICE_HANDLE)]


def tuner() -> list[Step]:
    """Clocks and the power limit: both bits of the category set."""
    return [*nvml(), rm_control(0x2080D001), rm_control(0x2080D002), rm_control(0x2080E61B)]


def hidden() -> list[Step]:
    """Everything inside of XFER_CMD."""
    return [xfer(step) if step.node == "ctl" else step for step in compute_steps()]


def two_cards() -> list[Step]:
    second = [replace(step, node="card1") if step.node == "card" else step for step in CARD_STEPS[:1]]
    return [*compute_steps(), *second]


def rocm() -> list[Step]:
    memory = struct.pack("<QQQQII", 0, 3 * GIB, 0, 0, 1, 1)  # VRAM
    return [replace(step, argument=memory) if step.nr == 0x16 else step for step in kfd_steps()]


def _drm(nr: int, argument: bytes, code: int = 0, *behind: tuple[int, object]) -> Step:
    step = Step("drm", ioc(3, "d", nr, len(argument)), argument, nr, code)
    return nested(step, *behind) if behind else step


def amdgpu(engine: int = 1) -> list[Step]:
    buffer = bytearray(32)
    buffer[20:24] = engine.to_bytes(4, "little")
    fence = (struct.pack("<IIQ", 2, 2, 0), (8, bytes(8)))
    commands = (struct.pack("<IIQ", 1, 8, 0), (8, bytes(buffer)))
    submission = _drm(
        0x44, struct.pack("<IIIIQ", 1, 0, 2, 0, 0), engine, (16, (bytes(16), (0, fence), (8, commands)))
    )
    memory = struct.pack("<QQQQ", GIB, 0, 4, 0)
    return [_drm(0x42, struct.pack("<IIII", 1, 0, 0, 0)), _drm(0x40, memory), submission]


def i915(ring: int = 1) -> list[Step]:
    return [_drm(0x6D, bytes(8)), _drm(0x69, bytes(40) + struct.pack("<QQQ", ring, 0, 0), ring)]


def xe(engine: int = 4) -> list[Step]:
    queue = struct.pack("<QHHIIIQQQ", 0, 1, 1, 1, 0, 0, 0, 0, 0)
    return [
        _drm(0x43, bytes(32)),
        _drm(0x41, struct.pack("<QQ", 0, GIB) + bytes(40)),
        _drm(0x46, queue, engine, (24, struct.pack("<HHHH", engine, 0, 0, 0))),
        _drm(0x49, bytes(64)),
    ]


ORDERS = {
    "cuda": cuda, "opencl": cuda, "raw": raw, "nvml": nvml, "vulkan": vulkan, "nvenc": nvenc, "mps-client": mps_client,
    "mps-server": mps_server, "profiler": profiler, "tuner": tuner, "hidden": hidden, "mig": mig, "two-cards": two_cards, "rocm": rocm,
    "amdgpu": amdgpu, "amdgpu-graphics": lambda: amdgpu(0), "amdgpu-video": lambda: amdgpu(7), "i915": i915,
    "i915-video": lambda: i915(2), "xe": xe, "xe-graphics": lambda: xe(0),
}  # fmt: skip
#: What the real client has mapped.
LIBRARIES = {
    "cuda": "libcuda.so.1", "opencl": "libnvidia-opencl.so.1", "vulkan": "libnvidia-glcore.so.580.105.08",
    "nvml": "libnvidia-ml.so.1", "nvenc": "libnvidia-encode.so.1", "mps-client": "libcuda.so.1", "rocm": "libhsa-runtime64.so.1",
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)


class Player:
    """Opens each node when it is first needed; what the driver refuses is kept in ``refused``."""

    def __init__(self, device: str | None, nodes: str | None) -> None:
        self._device, self._nodes = device, nodes
        self.fds: dict[str, int] = {}
        self.refused: list[str] = []
        self._kept: list[ctypes.Array[ctypes.c_char]] = []

    def fd(self, node: str) -> int:
        if node not in self.fds:
            path = self._device or f"{self._nodes}/{NODES[node]}"
            self.fds[node] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return self.fds[node]

    def play(self, steps: list[Step]) -> None:
        for step in steps:
            self.issue(step)

    def _laid(self, data: bytes, behind: tuple[tuple[int, object], ...]) -> int:
        """The address of ``data``, with addresses of what is behind it filled in."""
        filled = bytearray(data)
        for offset, more in behind:
            inner = (more,) if isinstance(more, bytes) else more
            filled[offset : offset + 8] = self._laid(inner[0], tuple(inner[1:])).to_bytes(8, "little")
        buffer = ctypes.create_string_buffer(bytes(filled), len(filled))
        self._kept.append(buffer)
        return ctypes.addressof(buffer)

    def issue(self, step: Step) -> None:
        argument = step.argument
        if step.nr == REGISTER_FD and step.node.startswith("card"):
            argument = struct.pack("<i", self.fd("ctl"))
        elif step.node == "uvm-mm" and step.nr == 75:
            argument = struct.pack("<ii", self.fd("uvm"), 0)
        where = self._laid(argument, getattr(step, "behind", ()))
        inner = self._kept[-1]
        if step.wrapped:
            where = self._laid(struct.pack("<IIQ", step.nr, len(argument), where), ())
        failed = _libc.ioctl(self.fd(step.node), step.cmd, where) < 0
        if failed:
            self.refused.append(f"{step.node} {step.nr:#x}: {os.strerror(ctypes.get_errno())}")
            return
        places = (
            UVM_STATUS.get(step.nr) if step.node.startswith("uvm") else STATUS.get((step.nr, len(argument)))
        )
        if places is not None and (status := struct.unpack_from("<I", inner, places)[0]):
            self.refused.append(f"{step.node} {step.nr:#x} {step.code:#x}: status {status:#x}")
        if step.nr == RM_ALLOC and not struct.unpack_from("<I", inner, 8)[0]:
            self.refused.append(f"RM_ALLOC {step.code:#x}: no handle")


def map_library(folder: str, name: str) -> mmap.mmap:
    path = Path(folder, name)
    path.write_bytes(bytes(mmap.PAGESIZE))
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ)


CONTEXT = [rm_alloc(CHANNEL, parent=DEVICE_HANDLE), rm_control(0xC36F0108, target=CHANNEL_HANDLE)]


def shared(player: Player, how: str, steps: list[Step]) -> None:
    """``steps`` here, then a channel by a child: on the descriptor that it inherits, or that it is sent."""
    near, far = socket.socketpair()
    if how == "fork":
        player.play(steps)
    child = os.fork()
    if child == 0:
        fds = player.fds
        if how == "socket":
            near.close()
            _, received, _, _ = socket.recv_fds(far, 1, 1)
            fds["ctl"] = received[0]
        player.refused.clear()
        player.play(CONTEXT)
        os._exit(len(player.refused))
    if how == "socket":
        player.play(steps)
        socket.send_fds(near, [b"x"], [player.fd("ctl")])
    _, status = os.waitpid(child, 0)
    if status:
        player.refused.append(f"the child: {os.waitstatus_to_exitcode(status)} calls")


def main() -> None:
    parser = argparse.ArgumentParser(description="Stand-in clients of a GPU.")
    parser.add_argument("order", choices=ORDERS)
    parser.add_argument("--device")
    parser.add_argument("--nodes")
    parser.add_argument("--library", action="append", default=[], metavar="NAME")
    parser.add_argument("--open", action="append", default=[], metavar="PATH", help="and keep it open")
    parser.add_argument("--share", choices=["fork", "socket"])
    parser.add_argument("--loop", type=int, default=0, metavar="N", help="then so many questions more")
    parser.add_argument("--hold", type=float, default=0, metavar="SECONDS", help="stay, with all open")
    parser.add_argument("--strict", action="store_true", help="fail if the driver refuses anything")
    options = parser.parse_args()
    player = Player(options.device, options.nodes)
    steps = ORDERS[options.order]()
    with tempfile.TemporaryDirectory() as folder:
        kept = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in options.open]
        mapped = [map_library(folder, name) for name in options.library]
        if options.share:
            shared(player, options.share, steps)
        else:
            player.play(steps)
        for _ in range(options.loop):
            player.issue(rm_control(0x20802068))
        print("done", flush=True)
        time.sleep(options.hold)
        del mapped, kept
    if options.strict and player.refused:
        sys.exit("refused: " + "; ".join(player.refused))


if __name__ == "__main__":
    main()
