# SPDX-License-Identifier: Apache-2.0
"""Clients of GPUs as real probes see them, on /dev/full, which refuses every call after the tracer has seen it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import record
from test_exactness import GPU, gpu_options

from tracer.detect.gpu import BORROWED, HELD, INHERITED
from tracer.engine.engine import Engine
from tracer.engine.processes import find, find_recent
from tracer.engine.tap import lay_out
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.report.gpus import Gpus
from tracer.rules import load_rules
from tracer.watch import Watch

sys.path.insert(0, str(Path(__file__).parent.parent))
import gpu_orders

ORDERS = Path(gpu_orders.__file__)
GIB = 1 << 30


def client(order: str, *options: str) -> list[str]:
    library = gpu_orders.LIBRARIES.get(order)
    named = ["--library", library] if library else []
    return [sys.executable, "-I", str(ORDERS), order, "--device", GPU, "--hold", "0.3", *named, *options]


def bits_of(found, pid: int) -> int:
    p = found.engine.state.processes
    entry = int(find(p, pid))
    return int(p.table[entry if entry >= 0 else int(find_recent(p, pid, 0))]["gpu"])


def kind_in(found, pid: int) -> str:
    p = found.engine.state.processes
    entry = int(find(p, pid))
    return found.engine.gpu_client(entry if entry >= 0 else int(find_recent(p, pid, 0)))


def table_of(found) -> Gpus:
    """The table of clients, of what came through the rings."""
    gpus = Gpus()
    gpus.records(lay_out([event.tobytes() + tail for event, tail in found.events]))
    return gpus


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        ("cuda", "CUDA"), ("opencl", "OpenCL"), ("raw", "raw driver"), ("nvml", "NVML"), ("vulkan", "Vulkan or GL"),
        ("nvenc", "NVENC"), ("mps-server", "MPS server"), ("mps-client", "MPS client"), ("profiler", "profiler"),
        ("hidden", "raw driver"),
    ],
)  # fmt: skip
def test_clients_are_told_apart(order, kind):
    found = record(client(order), gpu_options())
    assert found.status == 0
    assert kind_in(found, found.root) == kind


@pytest.mark.parametrize(
    ("order", "family", "kind"),
    [
        ("rocm", "kfd", "ROCm"), ("amdgpu", "amdgpu", "DRM compute"), ("amdgpu-graphics", "amdgpu", "DRM graphics"),
        ("amdgpu-video", "amdgpu", "DRM video"), ("i915", "i915", "DRM graphics"), ("i915-video", "i915", "DRM video"),
        ("xe", "xe", "DRM compute"), ("xe-graphics", "xe", "DRM graphics"),
    ],
)  # fmt: skip
def test_other_drivers(order, family, kind):
    """Which engine a submission is for lies behind one pointer, or behind three."""
    found = record(client(order), gpu_options(family))
    assert kind_in(found, found.root) == kind
    assert [e["flags"] for e in found.of("gpu-ioctl") if e["flags"] & 16] == []


@pytest.mark.parametrize(
    ("order", "family", "asked", "largest"),
    [
        ("cuda", "nvidia", 3 * GIB, 2 * GIB), ("vulkan", "nvidia", GIB // 2, GIB // 2), ("rocm", "kfd", 3 * GIB, 3 * GIB),
        ("amdgpu", "amdgpu", GIB, GIB), ("xe", "xe", GIB, GIB), ("nvml", "nvidia", 0, 0),
    ],
)  # fmt: skip
def test_memory_is_summed(order, family, asked, largest):
    counts = record(client(order), gpu_options(family)).of("gpu-counts")[-1]
    assert (int(counts["asked"]), int(counts["largest"]), int(counts["unsized"])) == (asked, largest, 0)


def test_memory_of_unknown_size_is_counted():
    """RM_ALLOC of the card's memory, without parameters that can be read."""
    script = (
        "import fcntl, struct\nwith open('/dev/full', 'r+b', buffering=0) as f:\n"
        "  for n in range(3):\n"
        "    try: fcntl.ioctl(f, 0xc030462b, bytearray(struct.pack('<4I4Q', 1, 2, 3, 0x40, 8, 0, 0, 0)))\n"
        "    except OSError: pass\n"
    )
    counts = record([sys.executable, "-I", "-c", script], gpu_options()).of("gpu-counts")[-1]
    assert (int(counts["asked"]), int(counts["unsized"])) == (0, 3)


def test_the_table():
    found = record(client("tuner", "--loop", "1000"), gpu_options())
    (one,) = table_of(found).listed()
    assert one.kind == "NVML"
    assert dict(one.tuning) == {"clocks": 2, "power limit": 1}
    assert one.total() == len(gpu_orders.tuner()) + 1000
    assert one.ended


@pytest.mark.parametrize("how", ["fork", "socket"])
def test_a_descriptor_that_another_has_opened(how):
    found = record(client("cuda", "--share", how), gpu_options())
    assert found.status == 0
    gpus = table_of(found)
    first, second = gpus.listed()
    assert (first.pid, first.borrowed, second.borrowed) == (found.root, False, True)
    bits = bits_of(found, second.pid)
    assert bits & BORROWED
    assert bool(bits & INHERITED) is (how == "fork")
    assert not bits_of(found, found.root) & BORROWED


@pytest.mark.parametrize("users", [None, ("nobody",)])
def test_who_holds_a_gpu_when_the_watch_comes(users):
    """Found by its descriptors, each device once; quiet where nobody is listed."""
    from dataclasses import replace

    rules = load_rules([])
    if users:
        rules = rules.under(replace(rules.terms, gpu_users=users))
    alerts = []

    class Sink:
        target, failed = "test", 0

        def tell(self, alert):
            alerts.append(alert)

        def close(self):
            pass

    with ExitStack() as stack:
        command = [a if a != "0.3" else "60" for a in client("cuda")]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(process.kill)
        assert process.stdout.readline() == b"done\n"
        probes = Probes(replace(gpu_options("uvm"), rules=rules, by_lineage=True))
        stack.callback(probes.close)
        probes.attach_kernel()
        fd = os.pidfd_open(process.pid)
        stack.callback(os.close, fd)
        probes.track(fd)
        engine = Engine(rules)
        watch = Watch(probes, engine, [Sink()], tree="test")
        stack.callback(watch.close)
        watch.repair()
        assert watch.adopt_devices() == 1
        entry = int(find(engine.state.processes, process.pid))
        assert int(engine.state.processes.table[entry]["gpu"]) & HELD
        found = [(alert.rule.id, alert.evidence.get("held")) for alert in alerts]
        assert found == ([("gpu.unexpected-client", "when the watch began")] if users else [])
        assert len(probes.held_devices()) == 1
        watch.finish()


def test_nobody_holds_a_gpu_that_there_is_none_of():
    with ExitStack() as stack:
        probes = Probes(ProbeOptions())
        stack.callback(probes.close)
        assert probes.held_devices() == []


def alerts_of(found) -> list[tuple[str, str, list[str]]]:
    return [(a.rule.id, a.severity, a.evidence["facts"]) for a in found.alerts if a.rule.family == "gpu"]


@pytest.mark.parametrize("how", ["fork", "socket"])
def test_a_context_on_a_descriptor_that_was_passed_on(how):
    """A fork has its parent's by nature."""
    told = alerts_of(record(client("cuda", "--share", how), gpu_options()))
    assert told == ([("gpu.borrowed", "medium", ["gpu-borrowed"])] if how == "socket" else [])


def test_who_tunes_is_told_and_who_reads_is_not():
    (told,) = alerts_of(record(client("tuner"), gpu_options()))
    assert told == ("gpu.tuning", "low", ["gpu-tunes"])
    assert alerts_of(record(client("nvml", "--loop", "100"), gpu_options())) == []


@pytest.mark.parametrize(
    ("users", "told"),
    [
        (None, [("gpu.new-program", "low", ["gpu-first-client", "gpu-new-program"])]),
        (("trainer",), [("gpu.new-program", "medium", ["gpu-listed", "gpu-new-program"])]),
        (("other",), [("gpu.unexpected-client", "high", ["gpu-not-listed", "gpu-new-program"])]),
    ],
)
def test_a_program_that_was_written_during_the_run(users, told):
    code = 'open(my $f, "+<", "/dev/full"); my $a = pack("L4Q4", 1, 2, 3, 0xc86f, (0) x 4); ioctl($f, 0xc030462b, $a)'
    script = f"cd $(mktemp -d); sleep 0.05; cp $(readlink -f $(command -v perl)) trainer; ./trainer -e '{code}'; rm -r $PWD"
    assert alerts_of(record(["/bin/sh", "-c", script], gpu_options(), gpu_users=users)) == told


def test_a_program_that_was_there_is_not_new():
    code = 'open(my $f, "+<", "/dev/full"); my $a = pack("L4Q4", 1, 2, 3, 0xc86f, (0) x 4); ioctl($f, 0xc030462b, $a)'
    assert alerts_of(record(["perl", "-e", code], gpu_options(), gpu_users=("perl",))) == []
