# SPDX-License-Identifier: Apache-2.0
"""What kind of client a process is: by recorded arguments, in plain Python and through the engine; and the table of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import gpu_orders
from gpu_client import Step
from recordings import Live as Recorded

from bench import synthetic
from tracer.cli import group
from tracer.detect import clients
from tracer.detect.clients import KINDS, LIBRARIES_AT, LOOKED, TABLE, kind_of_client, marks_of
from tracer.engine import gpus as compiled
from tracer.engine.engine import Engine
from tracer.engine.processes import find
from tracer.engine.tap import lay_out
from tracer.gpu import tables
from tracer.gpu.devices import names_of_cards, node_name
from tracer.gpu.libraries import NAMES, libraries_in, libraries_of
from tracer.kernel import schema
from tracer.report import gpus as gpus_module
from tracer.report.gpus import Gpus, as_json
from tracer.rules import load_rules

FAMILY, FLAG = schema.GPU_FAMILY, schema.GPU_FLAG
NVIDIA, UVM = FAMILY["GPU_NVIDIA"], FAMILY["GPU_NVIDIA_UVM"]
EXPECTED = {
    "cuda": "CUDA", "opencl": "OpenCL", "raw": "raw driver", "nvml": "NVML", "vulkan": "Vulkan or GL", "nvenc": "NVENC",
    "mps-client": "MPS client", "mps-server": "MPS server", "profiler": "profiler", "tuner": "NVML", "hidden": "raw driver", "mig": "raw driver",
    "two-cards": "raw driver", "rocm": "ROCm", "amdgpu": "DRM compute", "amdgpu-graphics": "DRM graphics",
    "amdgpu-video": "DRM video", "i915": "DRM graphics", "i915-video": "DRM video", "xe": "DRM compute", "xe-graphics": "DRM graphics",
}  # fmt: skip
DRM = {"amdgpu": "GPU_DRM_AMDGPU", "i915": "GPU_DRM_I915", "xe": "GPU_DRM_XE"}
RULES = load_rules([])
PID = 100


def family_of(order: str, step: Step) -> int:
    if step.node == "drm":
        return FAMILY[DRM[order.partition("-")[0]]]
    if step.node == "kfd":
        return FAMILY["GPU_KFD"]
    return UVM if step.node.startswith("uvm") else NVIDIA


def libraries(order: str) -> int:
    name = gpu_orders.LIBRARIES.get(order, "")
    return libraries_in(f"7f00 r--p 0 00:00 0 /usr/lib/{name}\n".encode())


def is_compute(step: Step) -> bool:
    """As the probe has it."""
    if step.node == "ctl":
        return step.nr == 0x2B and step.code >= 0x9000 and step.code & 0xFF in (0x6F, 0xC0)
    return (step.node, step.nr) in {
        ("uvm", 27),
        ("kfd", 2),
        ("drm", 0x44),
        ("drm", 0x69),
        ("drm", 0x46),
        ("drm", 0x49),
    }


def ioctl(pid: int, ts: int, family: int, step: Step, minor: int = 255, asked: int = 0) -> bytes:
    row = np.frombuffer(synthetic.gpu_ioctl(pid, ts, step.code), schema.GPU_IOCTL).copy()
    row["family"], row["nr"], row["major"], row["minor"], row["asked"] = family, step.nr, 195, minor, asked
    row["flags"] = (
        FLAG["GPU_FIRST"] | FLAG["GPU_COMPUTE"] * is_compute(step) | FLAG["GPU_WRAPPED"] * step.wrapped
    )
    return row.tobytes()


def opened(pid: int, ts: int, family: int, minor: int, *, held: bool = False, access: int = 6) -> bytes:
    row = synthetic._head(schema.GPU_OPEN, "EVENT_GPU_OPEN", pid, ts)
    row["family"], row["major"], row["minor"] = family, 195, minor
    row["access"] = 0 if held else access
    row["open_flags"] = schema.GPU_OPEN_FLAG["GPU_HELD"] if held else 0
    return row.tobytes()


def mapped(pid: int, ts: int, bits: int) -> bytes:
    row = synthetic._head(schema.GPU_LIBRARIES, "EVENT_GPU_LIBRARIES", pid, ts)
    row["libraries"] = bits
    return row.tobytes()


def records(order: str, pid: int = PID) -> list[bytes]:
    steps = gpu_orders.ORDERS[order]()
    found = [synthetic.execute(pid, 1, 1, [b"client", order.encode()], b"/usr/bin/client")]
    found.append(opened(pid, 2, family_of(order, steps[0]), 255))
    found += [ioctl(pid, 3 + n, family_of(order, step), step) for n, step in enumerate(steps)]
    return [*found, mapped(pid, 900, libraries(order))]


def marks(order: str) -> int:
    found = libraries(order) * LIBRARIES_AT | LOOKED
    for step in gpu_orders.ORDERS[order]():
        family = family_of(order, step)
        found |= int(clients.FAMILY_MARKS[family]) | marks_of(TABLE, family, step.nr, step.code)
    return found


@pytest.mark.parametrize("order", sorted(EXPECTED))
def test_clients_are_told_apart(order):
    assert kind_of_client(marks(order)) == EXPECTED[order]


def test_there_is_an_expectation_for_every_order():
    assert EXPECTED.keys() == gpu_orders.ORDERS.keys()


@pytest.mark.parametrize("order", sorted(EXPECTED))
def test_the_engine_says_the_same(order):
    engine = Engine(RULES, processes=64, flows=64)
    list(engine.feed(records(order)))
    assert engine.gpu_client(int(find(engine.state.processes, PID))) == EXPECTED[order]
    computes = any(is_compute(step) for step in gpu_orders.ORDERS[order]())
    assert [pid for pid, _ in engine.take_gpu_clients()] == [PID] * computes
    assert engine.take_gpu_clients() == []


@given(st.integers(0, 255), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_compiled_code_marks_as_python_does(family, nr, code):
    assert compiled._marks_of(TABLE, family, nr, code) == marks_of(TABLE, family, nr, code)


@given(st.sampled_from(TABLE.tolist()), st.integers(0, 0xFFFF))
def test_compiled_code_marks_what_is_in_the_table(row, noise):
    family, nr, low, _, mask, value, mark = row
    code = low if not mask else max(low, noise) & ~mask | value
    assert marks_of(TABLE, family, nr, code) & mark or code < low
    assert compiled._marks_of(TABLE, family, nr, code) == marks_of(TABLE, family, nr, code)


def test_without_libraries_no_driver_is_claimed():
    """Nobody has looked, or there was too much to see all of it."""
    seen = marks("cuda") & ~(LOOKED | clients.LIB_CUDA)
    assert kind_of_client(seen) == "compute"
    assert kind_of_client(seen | LOOKED | clients.LIB_CUT) == "compute"
    assert kind_of_client(seen | LOOKED) == "raw driver"


def test_a_program_that_has_only_begun():
    assert kind_of_client(clients.NVIDIA) == "NVIDIA, nothing asked"
    assert kind_of_client(clients.NVIDIA | clients.ROOT | clients.UVM) == "NVIDIA, no context"
    assert kind_of_client(0) == ""


def test_every_kind_can_be_reached():
    found = {kind_of_client(kind.has | more) for kind in KINDS for more in (0, clients.UVM)}
    assert found == {kind.name for kind in KINDS}


def test_marks_agree_with_the_names_of_classes():
    """An unknown future class is taken for what its low byte says, in both tables."""
    kinds = {
        clients.COMPUTE: "compute",
        clients.GRAPHICS: "graphics",
        clients.ENCODE: "video",
        clients.DECODE: "video",
    }
    for number, entry in tables.CLASSES.items():
        for mark, kind in kinds.items():
            if marks_of(TABLE, NVIDIA, 0x2B, number) & mark:
                assert entry.kind == kind, entry.name


def test_one_that_was_handed_a_descriptor_and_one_that_was_forked():
    engine = Engine(RULES, processes=64, flows=64)
    table = engine.state.processes.table
    step = gpu_orders.CONTEXT[0]
    list(engine.feed([*records("cuda"), synthetic.fork(101, PID, 901), ioctl(101, 902, NVIDIA, step)]))
    child = table[int(find(engine.state.processes, 101))]["gpu"]
    from tracer.detect.gpu import BORROWED, INHERITED

    assert child & BORROWED and child & INHERITED
    parent = table[int(find(engine.state.processes, PID))]["gpu"]
    assert not parent & (BORROWED | INHERITED)
    list(engine.feed([synthetic.execute(101, PID, 903, [b"x"], b"/bin/x")]))
    assert not table[int(find(engine.state.processes, 101))]["gpu"] & (BORROWED | INHERITED)


def program(pid: int, path: bytes) -> bytes:
    """It executes a file of its own."""
    row = bytearray(synthetic.execute(pid, 1, 1, [path], path))
    row[schema.EXEC.fields["ino"][1]] = pid
    return bytes(row)


def told(engine: Engine, *fed: bytes) -> list[str]:
    return [rule.id for fired in engine.feed(fed) for rule, _ in fired.rules]


def test_who_held_the_gpu_before_belongs_to_the_job():
    engine = Engine(RULES, processes=64, flows=64)
    trainer = program(PID, b"/opt/train")
    rogue = program(101, b"/opt/rogue")
    assert told(engine, trainer, rogue, opened(PID, 3, UVM, 0, held=True)) == []
    assert told(engine, *(ioctl(PID, 4, NVIDIA, step) for step in gpu_orders.CONTEXT)) == []
    assert told(engine, ioctl(101, 5, NVIDIA, gpu_orders.CONTEXT[0])) == ["gpu.unexpected-client"]


def test_who_held_it_and_is_on_no_list_is_told():
    from dataclasses import replace

    engine = Engine(RULES.under(replace(RULES.terms, gpu_users=("train",))), processes=64, flows=64)
    trainer = program(PID, b"/opt/train")
    rogue = program(101, b"/opt/rogue")
    held = [opened(pid, 3, UVM, 0, held=True) for pid in (PID, 101)]
    assert told(engine, trainer, rogue, *held) == ["gpu.unexpected-client"]
    assert told(engine, opened(101, 4, NVIDIA, 0, held=True)) == []


def gpus_of(*fed: bytes) -> Gpus:
    found = Gpus()
    found.records(lay_out(fed))
    return found


def counts(pid: int, ts: int, kinds: list[tuple[int, int, int, int]], **more: int) -> bytes:
    """``kinds``: number, code, minor, how often."""
    row = synthetic._head(schema.GPU_COUNTS, "EVENT_GPU_COUNTS", pid, ts)
    table = np.zeros(len(kinds), schema.GPU_KIND)
    for at, (nr, code, minor, count) in zip(table, kinds, strict=True):
        at["family"], at["nr"], at["code"], at["minor"], at["count"] = NVIDIA, nr, code, minor, count
    row["kinds"], row["size"] = len(kinds), row.itemsize + table.nbytes
    for name, value in more.items():
        row[name] = value
    return row.tobytes() + table.tobytes()


def test_the_table_says_what_was_set_up():
    gib = 1 << 30
    alloc = gpu_orders.vram(gib)
    found = gpus_of(
        *records("cuda"),
        opened(PID, 901, NVIDIA, 1),
        opened(PID, 901, FAMILY["GPU_NVIDIA_CAPS"], 12),
        ioctl(PID, 902, NVIDIA, alloc, asked=gib),
        counts(
            PID,
            903,
            [(0x2B, 0xC86F, 255, 16), (0x2B, 0x90F1, 255, 2), (0x2A, 0x2080E61B, 255, 3)],
            asked=3 * gib,
            largest=2 * gib,
        ),
    )
    (client,) = found.listed()
    said = as_json(client, {"nvidia-cap12": "gpu0/gi1"})
    assert said["client"] == "CUDA"
    assert said["devices"] == ["nvidia-cap12", "nvidia1"]
    assert said["names"] == {"nvidia-cap12": "gpu0/gi1"}
    assert (said["contexts"], said["channels"]) == (2, 16)
    assert (said["memory_asked"], said["memory_largest"]) == (3 * gib, 2 * gib)
    assert said["tuning"] == {"power limit": 3}
    assert said["command"] == "client cuda"


def test_memory_is_summed_until_the_probe_does_it():
    found = gpus_of(*(ioctl(PID, n, NVIDIA, gpu_orders.vram(5), asked=5) for n in range(3)))
    (client,) = found.listed()
    assert (client.asked, client.largest) == (15, 5)


def test_a_stand_in_is_named_though_it_is_unified_memory_too():
    found = gpus_of(
        opened(PID, 1, FAMILY["GPU_NVIDIA_ANY"], 7), ioctl(PID, 2, UVM, gpu_orders.uvm(27, 56), minor=7)
    )
    assert gpus_module.gpus_of(found.listed()[0]) == ["device 195:7"]


def test_another_program_is_another_client():
    found = gpus_of(*records("cuda"), *records("nvml"))
    assert [(client.kind, client.ended) for client in found.listed()] == [("CUDA", True), ("NVML", False)]


def used(ts: int, percent: int | None, size: int | None, pid: int = PID) -> bytes:
    row = synthetic._head(schema.GPU_USE, "EVENT_GPU_USE", pid, ts)
    flags = schema.GPU_USE_FLAG
    row["utilisation"], row["memory"] = percent or 0, size or 0
    row["use_flags"] = flags["GPU_USE_UTILISATION"] * (percent is not None) | flags["GPU_USE_MEMORY"] * (
        size is not None
    )
    return row.tobytes()


def test_what_nvml_says_is_in_the_table():
    found = gpus_of(*records("cuda"), used(901, 150, 5), used(902, None, 7), used(903, 3, 2))
    (client,) = found.listed()
    said = as_json(client, {})
    assert (said["utilisation"], said["utilisation_highest"]) == (3, 150)
    assert (said["memory_in_use"], said["memory_in_use_highest"]) == (2, 7)
    assert (found.processes[PID, PID * 1000].busy, found.processes[PID, PID * 1000].held) == (3, 2)
    (other,) = gpus_of(*records("cuda")).listed()
    assert as_json(other, {})["utilisation"] is None


def test_who_only_nvml_knows_of_is_a_client_and_who_uses_nothing_is_none():
    started = [synthetic.execute(pid, 1, 1, [b"x"], b"/bin/x") for pid in (100, 200)]
    found = gpus_of(*started, used(2, 40, 5, 100), used(2, 0, 0, 200))
    assert [(client.pid, client.kind) for client in found.listed()] == [(100, "")]


def test_forked_children_have_what_their_parent_has_mapped_until_they_execute():
    step = synthetic.fork(101, PID, 950)
    below = synthetic.fork(102, 101, 951)
    found = gpus_of(*records("cuda"), step, below)
    (client,) = found.listed()
    assert len(client.heirs) == 2
    found.records(lay_out([synthetic.execute(101, PID, 952, [b"x"], b"/bin/x"), synthetic.exit_(102, 953)]))
    assert not client.heirs


def test_held_before(monkeypatch):
    (client,) = gpus_of(opened(PID, 1, UVM, 0, held=True), opened(PID, 1, NVIDIA, 0, held=True)).listed()
    assert client.kind == "set up before the watch"
    assert "held before" in client.traits()


def test_a_node_made_is_no_client():
    assert gpus_of(opened(PID, 1, NVIDIA, 0, access=1)).listed() == []


def test_the_table_is_bounded_and_says_so(monkeypatch):
    monkeypatch.setattr(gpus_module, "CLIENTS_MAX", 10)
    found = gpus_of(*(opened(pid, pid, NVIDIA, 0) for pid in range(1, 31)))
    assert (len(found.listed()), found.not_listed) == (10, 20)
    found.records(lay_out([synthetic.exit_(1, 100), opened(50, 101, NVIDIA, 0)]))
    assert (len(found.listed()), found.forgotten) == (10, 1)


def test_the_command(tmp_path):
    live = Recorded(tmp_path / "r", RULES)
    live.take([*records("cuda"), *records("nvml", 200)])
    live.feed([mapped(200, 950, 0)])
    live.end()
    result = CliRunner().invoke(group, ["gpu", str(tmp_path / "r")])
    assert result.exit_code == 0, result.output
    assert "2 GPU clients" in result.output
    assert "CUDA" in result.output and "NVML" in result.output
    lines = CliRunner().invoke(group, ["gpu", "--json", str(tmp_path / "r")]).output.splitlines()
    assert [(one["pid"], one["client"]) for one in map(json.loads, lines)] == [(100, "CUDA"), (200, "NVML")]


def test_libraries_are_told_by_their_names():
    for name, bit in NAMES.items():
        assert libraries_in(b"00 r-xp 0 08:01 12 /usr/lib/x86_64/" + name + b".1\n") == bit
    assert libraries_in(b"00 r-xp 0 08:01 12 /usr/lib/mylibcuda.so.1\n") == 0


def test_our_own_libraries(tmp_path):
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    start_ns = start * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    kept = gpu_orders.map_library(str(tmp_path), "libcuda.so.1")
    assert libraries_of(os.getpid(), start_ns) == schema.GPU_LIBRARY["GPU_LIB_CUDA"]
    assert libraries_of(os.getpid(), start_ns + 10_000_000_000) is None
    kept.close()


def test_nodes_are_named_by_their_numbers():
    assert node_name(NVIDIA, 195, 255) == "nvidiactl"
    assert node_name(NVIDIA, 195, 3) == "nvidia3"
    assert node_name(NVIDIA, 1, 7) == "nvidia 1:7"
    assert node_name(FAMILY["GPU_NVIDIA_CAPS"], 235, 12) == "nvidia-cap12"
    assert node_name(FAMILY["GPU_DRM_XE"], 226, 129) == "renderD129"


def test_cards_and_slices_have_names(tmp_path):
    card = tmp_path / "driver/nvidia/gpus/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t H100\nDevice Minor: \t 0\n")
    caps = tmp_path / "driver/nvidia-caps"
    caps.mkdir()
    (caps / "mig-minors").write_text("config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n")
    assert names_of_cards(tmp_path) == {
        "nvidia0": "H100, 0000:01:00.0",
        "nvidia-cap12": "gpu0/gi1",
        "nvidia-cap13": "gpu0/gi1/ci0",
    }
