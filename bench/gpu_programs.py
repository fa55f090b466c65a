# SPDX-License-Identifier: Apache-2.0
"""What bench/gpu_session.sh watches: a training loop, a second program on the same card, a reader of gauges.

With a card: PyTorch if it is there, else libcuda by ctypes. With ``--stand-in DEVICE`` the calls are played on that device.
Phases go to a file, one line each: when it began (ns of CLOCK_BOOTTIME) and its name; each begins after a pause that is longer
than the probes' between two sums, so that counts of phases don't mix.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

PAUSE_S = 1.2
SIDE = 4096
BYTES = 256 << 20


class Phases:
    """Says when each begins."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def begin(self, name: str) -> None:
        if self._path is None:
            return
        time.sleep(PAUSE_S)
        with Path(self._path).open("a") as file:
            file.write(f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)} {name}\n")


class Cuda:
    """A context by libcuda alone: what every CUDA program ends in. Raises OSError where there is none."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libcuda.so.1")

    def _call(self, name: str, *arguments: object) -> None:
        if failed := getattr(self._lib, name)(*arguments):
            raise OSError(f"{name}: CUDA error {failed}")

    def init(self) -> None:
        self._call("cuInit", 0)

    def context(self) -> None:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuCtxCreate_v2", ctypes.byref(context), 0, device)

    def memory(self) -> None:
        self._one, self._other = ctypes.c_uint64(), ctypes.c_uint64()
        for pointer in (self._one, self._other):
            self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(BYTES))

    def step(self) -> None:
        self._call("cuMemsetD32_v2", self._one, 1, ctypes.c_size_t(BYTES // 4))
        self._call("cuMemcpyDtoD_v2", self._other, self._one, ctypes.c_size_t(BYTES))
        self._call("cuCtxSynchronize")


class Torch:
    """The same by PyTorch: a product of matrices a step."""

    def __init__(self) -> None:
        import torch

        if not torch.cuda.is_available():
            raise OSError("PyTorch sees no card")
        self._torch = torch

    def init(self) -> None:
        self._torch.cuda.init()

    def context(self) -> None:
        self._torch.zeros(1, device="cuda")

    def memory(self) -> None:
        self._a = self._torch.randn(SIDE, SIDE, device="cuda")
        self._b = self._torch.randn(SIDE, SIDE, device="cuda")

    def step(self) -> None:
        self._c = self._a @ self._b
        self._torch.cuda.synchronize()


class StandIn:
    """libcuda's calls, on a device that refuses them; a step is work of the processor's."""

    def __init__(self, device: str) -> None:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
        import gpu_orders

        self._orders = gpu_orders
        self._player = gpu_orders.Player(device, None)
        self._steps = gpu_orders.cuda()
        self._channel = next(n for n, step in enumerate(self._steps) if step.code == 0x90F1)

    def init(self) -> None:
        self._player.play(self._steps[: self._channel])

    def context(self) -> None:
        self._player.play(self._steps[self._channel : -4])

    def memory(self) -> None:
        self._player.play(self._steps[-4:])

    def step(self) -> None:
        sum(range(20_000))


def driver(stand_in: str | None) -> Cuda | Torch | StandIn:
    if stand_in:
        return StandIn(stand_in)
    try:
        return Torch()
    except (ImportError, OSError):
        return Cuda()


def train(options: argparse.Namespace) -> dict[str, object]:
    """Set up, then steps; how long they took."""
    phases, card = Phases(options.phases), driver(options.stand_in)
    for name in ("init", "context", "memory"):
        phases.begin(name)
        getattr(card, name)()
    for _ in range(10):
        card.step()
    phases.begin("steps")
    took = []
    for _ in range(options.steps):
        began = time.perf_counter_ns()
        card.step()
        took.append(time.perf_counter_ns() - began)
    phases.begin("end")
    quarters = statistics.quantiles(took, n=4)
    return {
        "by": type(card).__name__,
        "steps": len(took),
        "median_ns": quarters[1],
        "quartiles_ns": [quarters[0], quarters[2]],
    }


def rogue(options: argparse.Namespace) -> dict[str, object]:
    """A context of its own, and some memory."""
    card = StandIn(options.stand_in) if options.stand_in else Cuda()
    for prepare in (card.init, card.context, card.memory, card.step):
        prepare()
    return {"by": type(card).__name__}


def gauges(options: argparse.Namespace) -> dict[str, object]:
    """As nvidia-smi and exporters do: utilisation, memory, temperature of the first card."""
    polls = 20
    if options.stand_in:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
        import gpu_orders

        player = gpu_orders.Player(options.stand_in, None)
        ask: Callable[[], object] = lambda: player.play(gpu_orders.nvml()[-7:])  # noqa: E731
        player.play(gpu_orders.nvml())
    else:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        handle, words = ctypes.c_void_p(), (ctypes.c_uint64 * 8)()
        if failed := nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
            raise OSError(f"NVML error {failed}")

        def ask() -> None:
            nvml.nvmlDeviceGetUtilizationRates(handle, words)
            nvml.nvmlDeviceGetMemoryInfo(handle, words)
            nvml.nvmlDeviceGetTemperature(handle, 0, words)

    for _ in range(polls):
        ask()
        time.sleep(0.05)
    return {"polls": polls}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("program", choices=["train", "rogue", "gauges"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--phases", metavar="FILE")
    parser.add_argument("--stand-in", metavar="DEVICE")
    parser.add_argument("--result", metavar="FILE", help="append what came of it, as JSON")
    options = parser.parse_args()
    said = {
        "program": options.program,
        **{"train": train, "rogue": rogue, "gauges": gauges}[options.program](options),
    }
    if options.result:
        with Path(options.result).open("a") as file:
            file.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
