# SPDX-License-Identifier: Apache-2.0
"""GPUs found on hosts of all makes: trees of files in the shape of /proc, /sys and /dev."""

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import VigilesError
from tracer.gpu.devices import STAND_IN_FAMILIES, Device, discover, has_nvidia, map_entries, stand_in, summary
from tracer.kernel.schema import GPU_FAMILY

BLOCK = "\nBlock devices:\n  7 loop\n195 nvidia\n226 drm\n259 blkext\n"

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (x@y)  \n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
INFORMATION = (
    "Model: \t\t NVIDIA H200\nIRQ:   \t\t 200\nGPU UUID: \t GPU-1\n"
    "Bus Location: \t 0000:0f:00.0\nDevice Minor: \t 3\n"
)


class Host:
    """A fake host; what is in it is added piece by piece."""

    def __init__(self, root):
        self.proc, self.sys, self.dev = root / "proc", root / "sys", root / "dev"
        for place in (self.proc, self.sys / "dev" / "char", self.dev):
            place.mkdir(parents=True)
        self.majors("  1 mem", " 10 misc")

    def majors(self, *lines):
        text = "\n".join(["Character devices:", *lines]) + "\n" + BLOCK
        (self.proc / "devices").write_text(text)

    def node(self, number, card, name, driver=None, siblings=("card0", "renderD128")):
        """A device number in sysfs, leading to a card of ``driver``."""
        place = self.sys / "devices" / card
        for sibling in {name, *siblings}:
            (place / "drm" / sibling).mkdir(parents=True, exist_ok=True)
        if driver:
            drivers = self.sys / "bus" / "drivers" / driver
            drivers.mkdir(parents=True, exist_ok=True)
            if not (place / "driver").exists():
                (place / "driver").symlink_to(drivers)
        if not (place / "drm" / name / "device").exists():
            (place / "drm" / name / "device").symlink_to(place)
        (self.sys / "dev" / "char" / number).symlink_to(place / "drm" / name)

    def discover(self):
        return [(d.major, d.minor, d.family, d.label) for d in discover(self.proc, self.sys, self.dev)]


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def family(name):
    return GPU_FAMILY[f"GPU_{name}"]


@pytest.mark.parametrize(
    ("lines", "there"),
    [
        (["195 nvidia"], True),
        (["195 nvidia-frontend"], True),
        (["226 drm", "240 kfd", "241 nvidia-uvm"], False),
        ([], False),
    ],
)
def test_whether_there_is_a_driver_of_nvidias(host, lines, there):
    host.majors(*lines)
    assert has_nvidia(host.proc) is there


def test_no_gpu(host):
    assert host.discover() == []
    assert summary((), host.proc) == ["no GPU: no driver for one is loaded"]


def test_no_proc_at_all(tmp_path):
    assert discover(tmp_path / "a", tmp_path / "b", tmp_path / "c") == ()


def test_nvidia_since_545(host):
    host.majors(
        "195 nvidia", "195 nvidia-modeset", "195 nvidiactl", "506 nvidia-uvm",
        "507 nvidia-caps", "508 nvidia-caps-imex-channels", "509 nvidia-nvswitch", "235 nvidia-fs",
    )  # fmt: skip
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps"):
        (host.dev / name).touch()
    assert host.discover() == [
        (195, None, family("NVIDIA"), "NVIDIA driver, 2 cards"),
        (506, None, family("NVIDIA_UVM"), "NVIDIA unified memory"),
        (507, None, family("NVIDIA_CAPS"), "NVIDIA capabilities (MIG)"),
        (508, None, family("NVIDIA_CAPS"), "NVIDIA IMEX channels"),
    ]


def test_nvidia_until_535(host):
    host.majors("195 nvidia-frontend", "511 nvidia-uvm")
    assert host.discover() == [
        (195, None, family("NVIDIA"), "NVIDIA driver"),
        (511, None, family("NVIDIA_UVM"), "NVIDIA unified memory"),
    ]


def test_nvidia_drm_is_drm_of_unknown_numbers(host):
    host.majors("195 nvidia", "226 drm")
    host.node("226:1", "0000:01:00.0", "card1", "nvidia", ("renderD129",))
    host.node("226:129", "0000:01:00.0", "renderD129", "nvidia")
    assert host.discover()[1:] == [
        (226, 1, family("DRM"), "nvidia card1"),
        (226, 129, family("DRM"), "nvidia renderD129"),
    ]


def test_amd(host):
    host.majors("226 drm", "238 kfd")
    for card in range(2):
        slot = f"0000:0{card}:00.0"
        host.node(f"226:{card}", slot, f"card{card}", "amdgpu", (f"renderD{128 + card}",))
        host.node(f"226:{128 + card}", slot, f"renderD{128 + card}", "amdgpu")
    assert sorted(host.discover()) == [
        (226, 0, family("DRM_AMDGPU"), "amdgpu card0"),
        (226, 1, family("DRM_AMDGPU"), "amdgpu card1"),
        (226, 128, family("DRM_AMDGPU"), "amdgpu renderD128"),
        (226, 129, family("DRM_AMDGPU"), "amdgpu renderD129"),
        (238, None, family("KFD"), "AMD compute (kfd)"),
    ]


def test_intel_old_and_new_side_by_side(host):
    host.majors("226 drm", "261 accel")
    host.node("226:128", "0000:00:02.0", "renderD128", "i915")
    host.node("226:129", "0000:03:00.0", "renderD129", "xe")
    host.node("261:0", "0000:00:0b.0", "accel0", "intel_vpu")
    assert host.discover() == [
        (226, 128, family("DRM_I915"), "i915 renderD128"),
        (226, 129, family("DRM_XE"), "xe renderD129"),
        # the probe's numbers for accel are Habana's
        (261, 0, family("DRM"), "intel_vpu accel0"),
    ]


def test_habana(host):
    host.majors("261 accel")
    host.node("261:0", "0000:19:00.0", "accel0", "habanalabs")
    assert host.discover() == [(261, 0, family("ACCEL"), "habanalabs accel0")]


def test_subsystems_without_devices_are_no_gpu(host):
    host.majors("226 drm", "261 accel")
    assert host.discover() == []


def test_a_display_without_render_node_is_no_gpu(host):
    host.majors("226 drm")
    host.node("226:0", "0000:02:00.0", "card0", "ast", ())
    assert host.discover() == []


def test_a_driver_that_sysfs_does_not_tell(host):
    host.majors("226 drm")
    host.node("226:128", "virtual", "renderD128")
    assert host.discover() == [(226, 128, family("DRM"), "DRM renderD128")]


def test_block_devices_and_odd_lines_are_passed_over(host):
    host.majors("nonsense", "", "195")
    assert host.discover() == []


@given(st.binary(max_size=400))
def test_no_file_in_proc_can_upset_it(tmp_path_factory, content):
    proc = tmp_path_factory.mktemp("proc")
    (proc / "devices").write_bytes(b"Character devices:\n" + content)
    discover(proc, proc / "none", proc / "none")


def test_the_real_host():
    for device in discover():
        assert device.family
    assert summary(discover())


def test_stand_in():
    assert stand_in("/dev/null") == Device(
        1, 3, GPU_FAMILY["GPU_NVIDIA_ANY"], "/dev/null as a stand-in for nvidia"
    )
    assert str(stand_in("/dev/zero=kfd")) == "/dev/zero as a stand-in for kfd 1:5"
    for name, number in STAND_IN_FAMILIES.items():
        assert stand_in(f"/dev/null={name}").family == number


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("/nowhere/gpu", "--gpu-device '/nowhere/gpu': '/nowhere/gpu': No such file or directory"),
        ("/dev", "--gpu-device '/dev': '/dev' is not a character device"),
        ("/proc/self/status", "'/proc/self/status' is not a character device"),
        ("/proc/self/status/x", "Not a directory"),
        ("/dev/null=tpu", "there is no GPU family 'tpu'"),
        ("/dev/null=", "there is no GPU family ''"),
        ("", "No such file or directory"),
        ("=nvidia", "No such file or directory"),
        ("/dev/nu\0ll", "embedded null byte"),
        ("/dev/nu\x1bll", r"'/dev/nu\x1bll': No such file"),
    ],
)
def test_stand_in_that_cannot_be(option, message):
    with pytest.raises(VigilesError, match=re.escape(message)) as caught:
        stand_in(option)
    assert str(caught.value).isprintable()
    assert caught.value.hint


def test_stand_in_follows_links(tmp_path):
    (tmp_path / "gpu0").symlink_to("/dev/null")
    assert (stand_in(str(tmp_path / "gpu0")).major, stand_in(str(tmp_path / "gpu0")).minor) == (1, 3)


def test_map_entries():
    devices = [Device(195, None, 1, "a"), Device(226, 128, 8, "b")]
    assert list(map_entries(devices)) == [
        (struct.pack("<II", 195, 0xFFFFFFFF), struct.pack("<I", 1)),
        (struct.pack("<II", 226, 128), struct.pack("<I", 8)),
    ]


def test_summary(host):
    driver = host.proc / "driver" / "nvidia"
    (driver / "gpus" / "0000:0f:00.0").mkdir(parents=True)
    (driver / "gpus" / "0000:0f:00.0" / "information").write_text(INFORMATION)
    (driver / "version").write_text(VERSION)
    assert summary([Device(195, None, 1, "NVIDIA driver, 1 card"), stand_in("/dev/null")], host.proc) == [
        "NVIDIA driver 580.105.08",
        "NVIDIA H200 (0000:0f:00.0, /dev/nvidia3)",
        "NVIDIA driver, 1 card 195:*",
        "/dev/null as a stand-in for nvidia 1:3",
    ]


def test_summary_of_a_proprietary_driver_of_older_make(host):
    (host.proc / "driver" / "nvidia").mkdir(parents=True)
    (host.proc / "driver" / "nvidia" / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    )
    assert summary((), host.proc) == ["NVIDIA driver 535.183.01"]
