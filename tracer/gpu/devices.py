# SPDX-License-Identifier: Apache-2.0
"""Which character devices of this host are GPUs, and what drives each of them.

A GPU is known by its device number, never by its path: NVML makes nodes of its own, containers mount
them elsewhere. Most majors are dynamic and change when a module is loaded again, so nothing here is
remembered: ask again.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import VigilesError
from tracer.kernel.schema import GPU_FAMILY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PROC = Path("/proc")
_SYS = Path("/sys")
_DEV = Path("/dev")

#: Key and value of the map gpu_devices in probes/gpu.bpf.c.
_KEY = struct.Struct("<II")
_VALUE = struct.Struct("<I")
_ANY_MINOR = 0xFFFFFFFF

_NVIDIA = GPU_FAMILY["GPU_NVIDIA"]
_DRM = GPU_FAMILY["GPU_DRM"]
#: kernel-open/common/inc/nv-chardev-numbers.h; include/drm/drm_ioctl.h
_NVIDIA_MAJOR, _DRM_MAJOR = 195, 226

# Names in /proc/devices, open-gpu-kernel-modules kernel-open/nvidia/nv.c (since 545), nv-frontend.c
# (until 535), nv-caps.c, nv-caps-imex.c, kernel-open/nvidia-uvm/uvm.c; linux amdkfd/kfd_chardev.c.
_BY_NAME = {
    "nvidia": (_NVIDIA, "NVIDIA driver"),
    "nvidiactl": (_NVIDIA, "NVIDIA driver"),
    "nvidia-frontend": (_NVIDIA, "NVIDIA driver"),
    "nvidia-uvm": (GPU_FAMILY["GPU_NVIDIA_UVM"], "NVIDIA unified memory"),
    "nvidia-caps": (GPU_FAMILY["GPU_NVIDIA_CAPS"], "NVIDIA capabilities (MIG)"),
    "nvidia-caps-imex-channels": (GPU_FAMILY["GPU_NVIDIA_CAPS"], "NVIDIA IMEX channels"),
    "kfd": (GPU_FAMILY["GPU_KFD"], "AMD compute (kfd)"),
}

#: Driver in sysfs → family, for what shares a major with other drivers. The PCI driver behind
#: nvidia-drm is nvidia itself; its numbers, like those of drivers not listed, are not told apart.
_DRM_DRIVERS = {
    "amdgpu": GPU_FAMILY["GPU_DRM_AMDGPU"],
    "i915": GPU_FAMILY["GPU_DRM_I915"],
    "xe": GPU_FAMILY["GPU_DRM_XE"],
}
_ACCEL_DRIVERS = {"habanalabs": GPU_FAMILY["GPU_ACCEL"]}

#: What --gpu-device calls families.
STAND_IN_FAMILIES = {
    "nvidia": GPU_FAMILY["GPU_NVIDIA_ANY"],
    "uvm": GPU_FAMILY["GPU_NVIDIA_UVM"],
    "kfd": GPU_FAMILY["GPU_KFD"],
    "amdgpu": GPU_FAMILY["GPU_DRM_AMDGPU"],
    "i915": GPU_FAMILY["GPU_DRM_I915"],
    "xe": GPU_FAMILY["GPU_DRM_XE"],
    "drm": GPU_FAMILY["GPU_DRM"],
    "accel": GPU_FAMILY["GPU_ACCEL"],
}

# "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build …"
_NVRM_VERSION = re.compile(r"^NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)*)\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Device:
    """A device number, or a whole major, that counts as a GPU."""

    major: int
    minor: int | None  #: None: every minor
    family: int  #: enum gpu_family of probes/events.h
    label: str  #: for people

    def __str__(self) -> str:
        return f"{self.label} {self.major}:{'*' if self.minor is None else self.minor}"


def discover(proc: Path = _PROC, sys: Path = _SYS, dev: Path = _DEV) -> tuple[Device, ...]:
    """The GPUs that this host really has: their drivers are loaded now."""
    found: dict[tuple[int, int | None], Device] = {}
    for major, name in _char_majors(proc):
        if name in _BY_NAME:
            family, label = _BY_NAME[name]
            if family == _NVIDIA:
                label += _cards(dev)
            devices: Iterable[Device] = [Device(major, None, family, label)]
        elif name == "drm":
            devices = _drm(major, sys)
        elif name == "accel":
            devices = _accel(major, sys)
        else:
            continue
        for device in devices:
            # Since 545, NVIDIA's one major has several lines.
            found.setdefault((device.major, device.minor), device)
    return tuple(found.values())


def has_nvidia(proc: Path = _PROC) -> bool:
    """Is NVIDIA's driver loaded?"""
    return any(name in _BY_NAME and _BY_NAME[name][0] == _NVIDIA for _, name in _char_majors(proc))


def stand_in(option: str) -> Device:
    """The device that ``--gpu-device PATH[=FAMILY]`` names; VigilesError says what is wrong with it."""
    path, _, name = option.partition("=")
    family = name if "=" in option else "nvidia"
    if family not in STAND_IN_FAMILIES:
        raise VigilesError(
            f"--gpu-device {option!r}: there is no GPU family {family!r}",
            hint=f"PATH[=FAMILY], where FAMILY is one of {', '.join(STAND_IN_FAMILIES)}",
        )
    hint = "it takes a device node, such as /dev/null"
    try:
        found = os.stat(path)  # a Path would make "" the current directory
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise VigilesError(f"--gpu-device {option!r}: {path!r}: {why}", hint=hint) from None
    if not stat.S_ISCHR(found.st_mode):
        raise VigilesError(f"--gpu-device {option!r}: {path!r} is not a character device", hint=hint)
    number = found.st_rdev
    return Device(
        os.major(number), os.minor(number), STAND_IN_FAMILIES[family], f"{path} as a stand-in for {family}"
    )


def map_entries(devices: Iterable[Device]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values for the map ``gpu_devices``."""
    for device in devices:
        minor = _ANY_MINOR if device.minor is None else device.minor
        yield _KEY.pack(device.major, minor), _VALUE.pack(device.family)


def summary(devices: Iterable[Device], proc: Path = _PROC) -> list[str]:
    """Lines for ``vigiles doctor``: release of the driver, cards, device numbers."""
    driver = proc / "driver" / "nvidia"
    lines = []
    if version := _NVRM_VERSION.search(_read(driver / "version")):
        lines.append(f"NVIDIA driver {version[1]}")
    for card in sorted((driver / "gpus").glob("*/information")):
        rows = dict(row.split(":", 1) for row in _read(card).splitlines() if ":" in row)
        model, minor = (rows.get(key, "?").strip() for key in ("Model", "Device Minor"))
        lines.append(f"{model} ({card.parent.name}, /dev/nvidia{minor})")
    lines.extend(str(device) for device in devices)
    return lines or ["no GPU: no driver for one is loaded"]


_CTL_MINOR, _MODESET_MINOR = 255, 254
_RENDER_FIRST = 128
_PLAIN = {
    _NVIDIA: "nvidia",
    GPU_FAMILY["GPU_NVIDIA_UVM"]: "nvidia-uvm",
    GPU_FAMILY["GPU_KFD"]: "kfd",
    GPU_FAMILY["GPU_ACCEL"]: "accel",
}
_SHARED_MINORS = {GPU_FAMILY[f"GPU_DRM{suffix}"] for suffix in ("", "_AMDGPU", "_I915", "_XE")}
#: "gpu0/gi1/access 12", "gpu0/gi1/ci0/access 13": kernel-open/nvidia/nv-caps.c
_SLICE = re.compile(r"^(gpu\d+/gi\d+(?:/ci\d+)?)/access (\d+)$", re.MULTILINE)


def node_name(family: int, major: int, minor: int) -> str:
    """What the driver calls a device, whatever it is called in /dev; its numbers, if it is no driver's."""
    if family == _NVIDIA and major == _NVIDIA_MAJOR:
        named = {_CTL_MINOR: "nvidiactl", _MODESET_MINOR: "nvidia-modeset"}
        return named.get(minor, f"nvidia{minor}")
    if family == GPU_FAMILY["GPU_NVIDIA_CAPS"]:
        return f"nvidia-cap{minor}"
    if family in _SHARED_MINORS and major == _DRM_MAJOR:
        return f"renderD{minor}" if minor >= _RENDER_FIRST else f"card{minor}"
    return f"{_PLAIN.get(family, 'device')} {major}:{minor}"


def names_of_cards(proc: Path = _PROC) -> dict[str, str]:
    """Models of cards and what slices (MIG) are of, by the name of their device."""
    found = {}
    for card in sorted((proc / "driver/nvidia/gpus").glob("*/information")):
        rows = dict(row.split(":", 1) for row in _read(card).splitlines() if ":" in row)
        minor = rows.get("Device Minor", "").strip()
        if minor.isdecimal():
            found[f"nvidia{minor}"] = f"{rows.get('Model', '?').strip()}, {card.parent.name}"
    for path, minor in _SLICE.findall(_read(proc / "driver/nvidia-caps/mig-minors")):
        found[f"nvidia-cap{minor}"] = path
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _char_majors(proc: Path) -> Iterator[tuple[int, str]]:
    """(major, name) of the character devices in /proc/devices."""
    characters = False
    for line in _read(proc / "devices").splitlines():
        if line.endswith(":"):
            characters = line == "Character devices:"
            continue
        major, _, name = line.strip().partition(" ")
        if characters and major.isdecimal():
            yield int(major), name


def _cards(dev: Path) -> str:
    count = sum(1 for node in dev.glob("nvidia*") if node.name.removeprefix("nvidia").isdecimal())
    return f", {count} card{'s' if count > 1 else ''}" if count else ""


def _nodes(major: int, sys: Path) -> Iterator[tuple[int, str, str, Path]]:
    """(minor, name of the node, driver, directory) of what exists of a major."""
    for link in sorted((sys / "dev" / "char").glob(f"{major}:*")):
        minor = link.name.partition(":")[2]
        if minor.isdecimal():
            driver = link / "device" / "driver"
            yield int(minor), link.resolve().name, driver.resolve().name if driver.exists() else "", link


def _drm(major: int, sys: Path) -> Iterator[Device]:
    for minor, name, driver, directory in _nodes(major, sys):
        # Display only (a server's BMC, a VM's frame buffer): a driver that can compute has render nodes
        # (DRIVER_RENDER, Documentation/gpu/drm-uapi.rst).
        siblings = directory / "device" / "drm"
        if siblings.is_dir() and not any(siblings.glob("renderD*")):
            continue
        yield Device(major, minor, _DRM_DRIVERS.get(driver, _DRM), f"{driver or 'DRM'} {name}")


def _accel(major: int, sys: Path) -> Iterator[Device]:
    # Accelerators use DRM's numbers, each driver its own: only Habana's are known to the probe.
    for minor, name, driver, _ in _nodes(major, sys):
        yield Device(major, minor, _ACCEL_DRIVERS.get(driver, _DRM), f"{driver or 'accel'} {name}")


def driver_version() -> str | None:
    """The NVIDIA driver's own line about itself; None where there is none."""
    try:
        with (_PROC / "driver/nvidia/version").open(encoding="utf-8", errors="replace") as file:
            return file.readline(256).partition(":")[2].strip() or None
    except OSError:
        return None
