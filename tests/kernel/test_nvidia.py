# SPDX-License-Identifier: Apache-2.0
"""Clients on a character device with the real driver's numbers and calls: the stand-in of tests/vm/nvidia, in a guest.

What the driver has read of each call is compared with what the probes have read of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import kernel_lacks
from harness import record

from tracer.gpu.devices import discover, names_of_cards
from tracer.kernel import host, schema
from tracer.kernel.probes import ProbeOptions
from tracer.report.gpus import as_json

sys.path.insert(0, str(Path(__file__).parent.parent))
import gpu_orders
from test_gpu_clients import ORDERS, bits_of, kind_in, table_of

from tracer.detect.gpu import BORROWED

pytestmark = pytest.mark.guest

MODULE = "VIGILES_NVIDIA_MODULE"
SEEN = Path("/proc/driver/nvidia/seen")
NODES = {"nvidiactl": 255, "nvidia0": 0, "nvidia1": 1}
FAMILY, FLAG = schema.GPU_FAMILY, schema.GPU_FLAG


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The driver is loaded, and its nodes are in this folder."""
    if not host.takes_modules():
        kernel_lacks("modules")
    module = os.environ.get(MODULE)
    if module is None:
        kernel_lacks(f"stand-in for NVIDIA's driver ({MODULE} says where it is)")
    subprocess.run(["insmod", module], check=True)
    folder = Path("/dev")  # no file systems with devices elsewhere
    majors = dict(
        line.split()[::-1]
        for line in Path("/proc/devices").read_text().splitlines()
        if len(line.split()) == 2
    )
    wanted = [(name, 195, minor) for name, minor in NODES.items()]
    wanted += [("nvidia-uvm", int(majors["nvidia-uvm"]), 0), ("nvidia-cap12", int(majors["nvidia-caps"]), 12)]
    for name, major, minor in wanted:
        os.mknod(folder / name, 0o020666, os.makedev(major, minor))
    yield folder
    for name, _, _ in wanted:
        (folder / name).unlink()
    subprocess.run(["rmmod", "nvidia"], check=True)


def run(nodes: Path, order: str, *options: str):
    library = gpu_orders.LIBRARIES.get(order)
    named = ["--library", library] if library else []
    command = [
        sys.executable,
        "-I",
        str(ORDERS),
        order,
        "--nodes",
        str(nodes),
        "--strict",
        "--hold",
        "1",
        *named,
        *options,
    ]
    before = len(SEEN.read_text().splitlines())
    found = record(command, ProbeOptions(devices=discover()))
    assert found.status == 0
    return found, SEEN.read_text().splitlines()[before:]


def by_driver(lines: list[str]) -> Counter[tuple[int, int, int, int, bool]]:
    """(process, family, number, code, wrapped) as the driver has read them."""
    found: Counter[tuple[int, int, int, int, bool]] = Counter()
    for line in lines:
        pid, node, nr, code, wrapped, _ = line.split()
        family = FAMILY["GPU_NVIDIA_UVM" if node == "uvm" else "GPU_NVIDIA"]
        found[int(pid), family, int(nr), int(code), wrapped == "1"] += 1
    return found


def by_probe(found) -> Counter[tuple[int, int, int, int, bool]]:
    sums: Counter[tuple[int, int, int, int, bool]] = Counter()
    for client in table_of(found).listed():
        for call, count in client.calls.items():
            assert not call.flags & FLAG["GPU_ARG_UNREADABLE"], call
            code = 0 if call.nr == 0x4A else call.code  # the driver has none there
            sums[client.pid, call.family, call.nr, code, bool(call.flags & FLAG["GPU_WRAPPED"])] += count
    return sums


def test_the_driver_is_found(nodes):
    labels = {device.label for device in discover()}
    assert "NVIDIA driver, 2 cards" in labels
    assert "NVIDIA unified memory" in labels
    assert names_of_cards()["nvidia-cap12"] == "gpu0/gi1"


@pytest.mark.parametrize(
    ("order", "kind"),
    [("cuda", "CUDA"), ("hidden", "raw driver"), ("nvml", "NVML"), ("vulkan", "Vulkan or GL")],
)
def test_probes_read_what_the_driver_reads(nodes, order, kind):
    found, lines = run(nodes, order)
    assert by_probe(found) == by_driver(lines)
    assert {line.split()[-1] for line in lines} == {"0"}  # and it has taken all of it
    assert kind_in(found, found.root) == kind


def test_which_cards(nodes):
    found, _ = run(nodes, "two-cards")
    (client,) = table_of(found).listed()
    assert {minor for major, minor in client.devices if major == 195} == {0, 1, 255}


def test_which_slice(nodes):
    found, lines = run(nodes, "mig", "--open", "/dev/nvidia-cap12")
    assert by_probe(found) == by_driver(lines)
    (client,) = table_of(found).listed()
    said = as_json(client, names_of_cards())
    assert "MIG slice" in said["traits"]
    assert said["names"]["nvidia-cap12"] == "gpu0/gi1"


@pytest.mark.parametrize("how", ["fork", "socket"])
def test_a_client_belongs_to_its_descriptor(nodes, how):
    """The driver takes calls from whoever has it, and so do we: inherited, or received."""
    found, lines = run(nodes, "cuda", "--share", how)
    assert by_probe(found) == by_driver(lines)
    pids = {int(line.split()[0]) for line in lines}
    (other,) = pids - {found.root}
    assert bits_of(found, other) & BORROWED
    assert not bits_of(found, found.root) & BORROWED
