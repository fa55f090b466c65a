# SPDX-License-Identifier: Apache-2.0
"""Names of GPU ioctls, and the stand-in client that issues them."""

import errno
import importlib.util
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.gpu import tables
from tracer.gpu.names import class_name, describe, kind_of, tuning_of
from tracer.kernel.schema import GPU_FAMILY, GPU_FLAG

NVIDIA = GPU_FAMILY["GPU_NVIDIA"]
UVM = GPU_FAMILY["GPU_NVIDIA_UVM"]
ANY = GPU_FAMILY["GPU_NVIDIA_ANY"]
KFD = GPU_FAMILY["GPU_KFD"]
DRM = GPU_FAMILY["GPU_DRM"]
AMDGPU = GPU_FAMILY["GPU_DRM_AMDGPU"]
I915 = GPU_FAMILY["GPU_DRM_I915"]
XE = GPU_FAMILY["GPU_DRM_XE"]
ACCEL = GPU_FAMILY["GPU_ACCEL"]
CAPS = GPU_FAMILY["GPU_NVIDIA_CAPS"]
WRAPPED = GPU_FLAG["GPU_WRAPPED"]
UNREADABLE = GPU_FLAG["GPU_ARG_UNREADABLE"]

CLIENT = Path(__file__).resolve().parent.parent / "gpu_client.py"


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("gpu_client", CLIENT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_client"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_client"]


@pytest.mark.parametrize(
    ("arguments", "text", "kind"),
    [
        ((NVIDIA, 0x2B, 0xC86F), "RM_ALLOC HOPPER_CHANNEL_GPFIFO_A", "compute"),
        ((NVIDIA, 0x2B, 0xCBC0), "RM_ALLOC HOPPER_COMPUTE_A", "compute"),
        ((NVIDIA, 0x2B, 0xCF6F), "RM_ALLOC class 0xcf6f (channel)", "compute"),
        ((NVIDIA, 0x2B, 0xD7C0), "RM_ALLOC class 0xd7c0 (compute engine)", "compute"),
        ((NVIDIA, 0x2B, 0xD797), "RM_ALLOC class 0xd797 (3D engine)", "graphics"),
        ((NVIDIA, 0x2B, 0xD7B7), "RM_ALLOC class 0xd7b7 (encoder)", "video"),
        ((NVIDIA, 0x2B, 0x7FC0), "RM_ALLOC class 0x7fc0", "other"),
        ((NVIDIA, 0x2B, 0x1006F), "RM_ALLOC class 0x1006f", "other"),
        ((NVIDIA, 0x2B, 0x41), "RM_ALLOC NV01_ROOT_CLIENT", "query"),
        ((NVIDIA, 0x27, 0x3E), "RM_ALLOC_MEMORY NV01_MEMORY_SYSTEM", "memory"),
        ((NVIDIA, 0x2A, 0x2080200A), "RM_CONTROL 0x2080200a PERF_BOOST", "compute"),
        ((NVIDIA, 0x2A, 0x201), "RM_CONTROL 0x00000201 GPU_GET_ATTACHED_IDS", "query"),
        ((NVIDIA, 0x2A, 0x2080A618), "RM_CONTROL 0x2080a618 NV20_SUBDEVICE_0 PMGR", "other"),
        ((NVIDIA, 0x2A, 0x20804599), "RM_CONTROL 0x20804599 NV20_SUBDEVICE_0", "other"),
        (
            (NVIDIA, 0x2A, 0x2080E61B),
            "RM_CONTROL 0x2080e61b NV20_SUBDEVICE_0 PMGR privileged [tuning: power limit]",
            "tuning",
        ),
        (
            (NVIDIA, 0x2A, 0x2080206F),
            "RM_CONTROL 0x2080206f PERF_RATED_TDP_SET_CONTROL [tuning: mode of the card]",
            "tuning",
        ),
        ((NVIDIA, 0x2A, 0xCF6F0101), "RM_CONTROL 0xcf6f0101 class 0xcf6f (channel)", "other"),
        ((NVIDIA, 201, 0), "REGISTER_FD", "other"),
        ((NVIDIA, 0xD2, 0), "CHECK_VERSION_STR", "query"),
        ((NVIDIA, 0x00, 0, 0xC0106D00), "NVKMS", "graphics"),
        ((NVIDIA, 0x7B, 0), "NVIDIA 0x7b", "other"),
        ((UVM, 27, 0), "UVM_REGISTER_CHANNEL", "compute"),
        ((UVM, 0x30000001, 0), "UVM_INITIALIZE", "other"),
        ((UVM, 73, 0), "UVM_CREATE_EXTERNAL_RANGE", "memory"),
        ((UVM, 999, 0), "UVM 0x3e7", "other"),
        ((KFD, 0x02, 0), "KFD CREATE_QUEUE compute", "compute"),
        ((KFD, 0x02, 1), "KFD CREATE_QUEUE SDMA", "memory"),
        ((KFD, 0x02, 9), "KFD CREATE_QUEUE type 0x9", "compute"),
        ((KFD, 0x15, 0), "KFD ACQUIRE_VM", "compute"),
        ((KFD, 0x86, 0), "KFD 0x86", "other"),
        ((AMDGPU, 0x44, 0), "AMDGPU CS", "compute"),
        ((AMDGPU, 0x56, 0), "AMDGPU USERQ", "compute"),
        ((AMDGPU, 0x09, 0), "DRM GEM_CLOSE", "memory"),
        ((AMDGPU, 0x9F, 0), "AMDGPU 0x40+0x5f", "other"),
        ((I915, 0x69, 0), "I915 GEM_EXECBUFFER2", "compute"),
        ((I915, 0xA0, 0), "DRM MODE_GETRESOURCES", "graphics"),
        ((XE, 0x46, 0), "XE EXEC_QUEUE_CREATE", "compute"),
        ((XE, 0x49, 0), "XE EXEC", "compute"),
        ((DRM, 0x46, 0), "DRM 0x40+0x06", "other"),
        ((DRM, 0x05, 0), "DRM 0x05", "other"),
        ((ACCEL, 0x42, 0), "ACCEL CS", "compute"),
        ((ACCEL, 0x43, 0), "ACCEL WAIT_CS", "other"),
        ((CAPS, 3, 0), "NVIDIA_CAPS 0x3", "other"),
        ((0, 3, 0), "GPU 0x3", "other"),
        ((200, 3, 0), "GPU 0x3", "other"),
    ],
)
def test_known_and_unknown(arguments, text, kind):
    assert describe(*arguments) == text
    assert kind_of(*arguments[:3]) == kind


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((NVIDIA, 0x2B, 0xC86F, 0x2B, WRAPPED), "RM_ALLOC HOPPER_CHANNEL_GPFIFO_A (XFER_CMD)"),
        ((NVIDIA, 0xD3, 0, 0xC01046D3, WRAPPED | UNREADABLE), "XFER_CMD (argument unreadable)"),
        ((NVIDIA, 0x2B, 0, 0xC030462B, UNREADABLE), "RM_ALLOC (argument unreadable)"),
        ((KFD, 0x02, 0, 0xC0604B02, UNREADABLE), "KFD CREATE_QUEUE (argument unreadable)"),
        ((ANY, 0x2B, 0xCBC0, 0xC030462B), "RM_ALLOC HOPPER_COMPUTE_A"),
        ((ANY, 0x2B, 0xCBC0), "RM_ALLOC HOPPER_COMPUTE_A"),
        ((ANY, 27, 0, 27), "UVM_REGISTER_CHANNEL"),
        ((ANY, 0x30000001, 0), "UVM_INITIALIZE"),
    ],
)
def test_flags_and_stand_in(arguments, text):
    assert describe(*arguments) == text


TABLES = {
    name: getattr(tables, name)
    for name in ("ESCAPES", "UVM", "CLASSES", "KFD", "KFD_QUEUES", "DRM", "AMDGPU", "I915", "XE", "ACCEL")
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_names_are_unique(table):
    names = [entry.name for entry in table.values()]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and name.isprintable() and name == name.strip() != "" for name in names)


def test_names_of_controls_are_unique_within_their_class():
    names = [(code >> 16, entry.name) for code, entry in tables.CONTROLS.items()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("family", "table"), [(KFD, "KFD"), (AMDGPU, "AMDGPU"), (I915, "I915"), (XE, "XE"), (ACCEL, "ACCEL")]
)
def test_every_entry_can_be_reached(family, table):
    for nr, entry in TABLES[table].items():
        assert describe(family, nr, 0).startswith(f"{table} {entry.name}")
        assert nr == 0x02 or kind_of(family, nr, 0) == entry.kind
        assert family == KFD or 0x40 <= nr < 0xA0


def test_every_nvidia_entry_can_be_reached():
    for nr, entry in tables.ESCAPES.items():
        assert describe(NVIDIA, nr, 0).startswith(entry.name)
    for nr, entry in tables.UVM.items():
        assert describe(UVM, nr, 0) == f"UVM_{entry.name}"
        assert kind_of(UVM, nr, 0) == entry.kind
    for number, entry in tables.CLASSES.items():
        assert class_name(number) == entry.name
        assert kind_of(NVIDIA, 0x2B, number) == entry.kind
    for code, entry in tables.CONTROLS.items():
        assert f"{code:#010x} {entry.name}" in describe(NVIDIA, 0x2A, code)
        assert kind_of(NVIDIA, 0x2A, code) == entry.kind


def test_controls_belong_to_known_classes():
    assert {code >> 16 for code in tables.CONTROLS} <= set(tables.CLASSES)


def test_the_low_byte_agrees_with_every_class_that_is_known():
    for number, entry in tables.CLASSES.items():
        if number >= 0x9000 and number & 0xFF in tables.LOW_BYTES:
            assert tables.LOW_BYTES[number & 0xFF].kind == entry.kind, entry.name


def test_channels_and_compute_engines_are_compute_as_the_probe_has_it():
    for number in range(0x9000, 0x10000):
        if number & 0xFF in (0x6F, 0xC0):
            assert kind_of(NVIDIA, 0x2B, number) == "compute"


def test_what_cuda_and_nvml_do_by_themselves_is_no_tuning():
    for code in (0x2080200A, 0x20800145, 0x2080018D, 0x20802068, 0x2080A068, 0x2080A618, 0x20809009):
        assert tuning_of(code) is None


@pytest.mark.parametrize("category", [0xC5, 0xD0, 0xE0, 0xE6, 0xF2])
def test_privileged_categories_are_tuning_whatever_the_index(category):
    for index in (0, 0x1B, 0xFF):
        assert tuning_of(0x2080_0000 | category << 8 | index)
        assert tuning_of(0x0080_0000 | category << 8 | index) is None


def test_a_number_twice_in_a_table_is_refused():
    with pytest.raises(ValueError, match=r"0x2a is both A and B"):
        tables._by_kind({"query": {"42": "A"}, "memory": {"0x2a": "B"}})


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no such kind: computing"):
        tables._by_kind({"computing": {"42": "A"}})


@given(st.integers(), st.integers(), st.integers(), st.integers(), st.integers())
def test_describe_takes_any_numbers(family, nr, code, cmd, flags):
    check(family, nr, code, cmd, flags)


@given(
    st.sampled_from(sorted(GPU_FAMILY.values())),
    st.integers(0, 0xFF) | st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFF) | st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0x3F),
)
def test_describe_takes_what_the_probe_may_send(family, nr, code, cmd, flags):
    check(family, nr, code, cmd, flags)


def check(family, nr, code, cmd, flags):
    text = describe(family, nr, code, cmd, flags)
    assert 0 < len(text) < 120
    assert not any(unicodedata.category(character).startswith("C") for character in text)
    assert kind_of(family, nr, code) in tables.KINDS


def test_the_client_speaks_as_drivers_do(client):
    assert client.rm_alloc(0xC86F).cmd == 0xC030462B
    assert client.rm_alloc(0xC86F).argument[12:16] == b"\x6f\xc8\0\0"
    assert client.rm_control(0x2080200A).cmd == 0xC020462A
    assert client.rm_control(0x2080200A).argument[8:12] == b"\x0a\x20\x80\x20"
    assert client.xfer(client.rm_alloc(0xC86F)).cmd == 0xC01046D3
    assert client.kfd_create_queue(1).cmd == 0xC0604B02
    assert client.kfd_create_queue(1).argument[40:44] == b"\1\0\0\0"
    register = next(step for step in client.uvm_steps() if step.nr == 27)
    assert register.cmd == 27
    assert len(register.argument) == 56
    assert register.argument[24:28] == client.CHANNEL_HANDLE.to_bytes(4, "little")


def names(steps):
    families = {"ctl": NVIDIA, "card": NVIDIA, "uvm": UVM, "uvm-mm": UVM, "kfd": KFD}
    return [describe(families[step.node], step.nr, step.code) for step in steps]


def test_every_step_of_the_client_has_a_name(client):
    unknown = re.compile(r"^(NVIDIA|UVM|KFD) 0x| class 0x|SUBDEVICE_0 [A-Z]| type 0x")
    for profile in client.PROFILES.values():
        assert not [name for name in names(profile()) if unknown.search(name)]


def test_profiles_differ_as_real_clients_do(client):
    compute, nvml = names(client.compute_steps()), names(client.nvml_steps())
    channel = compute.index("RM_ALLOC HOPPER_CHANNEL_GPFIFO_A")
    assert channel < compute.index("RM_ALLOC HOPPER_COMPUTE_A") < compute.index("UVM_REGISTER_CHANNEL")
    assert not [name for name in nvml if "UVM" in name or "CHANNEL" in name or "VASPACE" in name]
    assert all(kind_of(NVIDIA, step.nr, step.code) != "compute" for step in client.nvml_steps())


@pytest.mark.parametrize("profile", ["compute", "nvml", "uvm", "kfd", "xfer", "flood"])
def test_the_client_runs_by_itself(profile):
    command = [sys.executable, "-I", "-S", CLIENT, "--profile", profile, "--count", "3", "--wait-stdin"]
    done = subprocess.run(command, input="\n", capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ready\ndone\n", "")


def test_issue_tells_the_errno(client):
    with Path("/dev/null").open("rb+", buffering=0) as device:
        for step in (client.rm_control(0x2080014A), client.xfer_steps()[0]):
            assert client.issue(device.fileno(), step, 10_007) == errno.ENOTTY
