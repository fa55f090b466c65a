# SPDX-License-Identifier: Apache-2.0
"""What a GPU ioctl does, in the words of its driver.

Numbers that no table has are shown as numbers: a driver that is newer than this file is no error.
"""

from __future__ import annotations

from tracer.gpu import tables
from tracer.gpu.tables import Entry, Kind, Table
from tracer.kernel.schema import GPU_FAMILY, GPU_FLAG

_NVIDIA = GPU_FAMILY["GPU_NVIDIA"]
_UVM = GPU_FAMILY["GPU_NVIDIA_UVM"]
_CAPS = GPU_FAMILY["GPU_NVIDIA_CAPS"]
_ANY = GPU_FAMILY["GPU_NVIDIA_ANY"]
_KFD = GPU_FAMILY["GPU_KFD"]

_WRAPPED = GPU_FLAG["GPU_WRAPPED"]
_UNREADABLE = GPU_FLAG["GPU_ARG_UNREADABLE"]

_RM_ALLOC_MEMORY = 0x27
_RM_CONTROL = 0x2A
_RM_ALLOC = 0x2B
_XFER_CMD = 0xD3
_KFD_CREATE_QUEUE = 0x02

#: The first class that the rule of the low byte holds for (Fermi), and the last that a class can be.
_FIRST_ENGINE_CLASS = 0x9000
_LAST_CLASS = 0xFFFF

_SUBDEVICE = 0x2080
# Bits of a control's category, NVxxxx_CTRL_LEGACY_* in open-gpu-kernel-modules
# src/common/sdk/nvidia/inc/ctrl/ctrlxxxx.h
_LEGACY = 0x80
_LEGACY_PRIVILEGED = 0xC0

# DRM_COMMAND_BASE and DRM_COMMAND_END, include/uapi/drm/drm.h: between them, drivers have their own
_DRM_BASE = 0x40
_DRM_END = 0xA0

#: Family → prefix, the driver's own commands.
_DRM_DRIVERS: dict[int, tuple[str, Table]] = {
    GPU_FAMILY["GPU_DRM"]: ("DRM", {}),
    GPU_FAMILY["GPU_DRM_AMDGPU"]: ("AMDGPU", tables.AMDGPU),
    GPU_FAMILY["GPU_DRM_I915"]: ("I915", tables.I915),
    GPU_FAMILY["GPU_DRM_XE"]: ("XE", tables.XE),
    GPU_FAMILY["GPU_ACCEL"]: ("ACCEL", tables.ACCEL),
}

_OTHER = Entry("", "other")


def describe(family: int, nr: int, code: int, cmd: int = 0, flags: int = 0) -> str:
    """One line about an ioctl; the arguments are those of ``struct event_gpu_ioctl``.

    ``RM_ALLOC HOPPER_CHANNEL_GPFIFO_A``, ``UVM_REGISTER_CHANNEL``, ``KFD CREATE_QUEUE compute``,
    ``NVIDIA 0x7b`` where nothing is known.
    """
    nr, code, cmd = nr & 0xFFFFFFFF, code & 0xFFFFFFFF, cmd & 0xFFFFFFFF
    readable = not flags & _UNREADABLE
    wrapped = " (XFER_CMD)" if flags & _WRAPPED and nr != _XFER_CMD else ""
    family = _resolve(family, nr, cmd)
    if family == _NVIDIA:
        return _escape(nr, code, readable=readable) + wrapped
    if family == _UVM:
        return "UVM_" + tables.UVM[nr].name if nr in tables.UVM else f"UVM {nr:#x}"
    if family == _KFD:
        return _kfd(nr, code, readable=readable)
    if family in _DRM_DRIVERS:
        return _drm(family, nr)
    return f"{'NVIDIA_CAPS' if family == _CAPS else 'GPU'} {nr:#x}"


def kind_of(family: int, nr: int, code: int) -> Kind:
    """What an ioctl is for, as far as its numbers tell; ``other`` where they don't.

    A channel counts as compute even though graphics and video use channels too: it is what all
    work goes through.
    """
    nr, code = nr & 0xFFFFFFFF, code & 0xFFFFFFFF
    family = _resolve(family, nr, 0)
    if family == _NVIDIA:
        if nr == _RM_ALLOC:
            return (_class(code) or _OTHER).kind
        if nr == _RM_CONTROL:
            return _control_kind(code)
        return tables.ESCAPES.get(nr, _OTHER).kind
    if family == _UVM:
        return tables.UVM.get(nr, _OTHER).kind
    if family == _KFD:
        if nr == _KFD_CREATE_QUEUE and code in tables.KFD_QUEUES:
            return tables.KFD_QUEUES[code].kind
        return tables.KFD.get(nr, _OTHER).kind
    if family in _DRM_DRIVERS:
        own = _DRM_BASE <= nr < _DRM_END
        return (_DRM_DRIVERS[family][1] if own else tables.DRM).get(nr, _OTHER).kind
    return "other"


def class_name(number: int) -> str:
    """``HOPPER_COMPUTE_A``; for a class that is not known ``class 0xcf6f (channel)``."""
    if number in tables.CLASSES:
        return tables.CLASSES[number].name
    found = _class(number)
    return f"class {number:#06x}" + (f" ({found.name})" if found else "")


def tuning_of(control: int) -> str | None:
    """What a control code sets that all users of the card feel: ``clocks``, ``voltage``, …; else None."""
    if control >> 16 == _SUBDEVICE and (control >> 8 & 0xFF) in tables.TUNING_CATEGORIES:
        return tables.TUNING_CATEGORIES[control >> 8 & 0xFF]
    known = tables.CONTROLS.get(control, _OTHER)
    return "mode of the card" if known.kind == "tuning" else None


def _resolve(family: int, nr: int, cmd: int) -> int:
    """The family behind a stand-in; as decode() in probes/gpu.bpf.c tells them apart."""
    if family != _ANY:
        return family
    told = cmd or nr
    return _UVM if (told < 0x1000 and cmd) or told in (0x30000001, 0x30000002) else _NVIDIA


def _class(number: int) -> Entry | None:
    if number in tables.CLASSES:
        return tables.CLASSES[number]
    if _FIRST_ENGINE_CLASS <= number <= _LAST_CLASS:
        return tables.LOW_BYTES.get(number & 0xFF)
    return None


def _escape(nr: int, code: int, *, readable: bool) -> str:
    if nr not in tables.ESCAPES:
        return f"NVIDIA {nr:#x}"
    name = tables.ESCAPES[nr].name
    if not readable:
        return f"{name} (argument unreadable)"
    if nr in (_RM_ALLOC, _RM_ALLOC_MEMORY):
        return f"{name} {class_name(code)}"
    if nr == _RM_CONTROL:
        return f"{name} {_control(code)}"
    return name


def _control(code: int) -> str:
    tuning = tuning_of(code)
    mark = f" [tuning: {tuning}]" if tuning else ""
    if code in tables.CONTROLS:
        return f"{code:#010x} {tables.CONTROLS[code].name}{mark}"
    owner = code >> 16
    text = f"{code:#010x} {class_name(owner)}"
    if owner == _SUBDEVICE:
        text += _category(code >> 8 & 0xFF)
    return text + mark


def _category(category: int) -> str:
    """Which part of the card a control of a subdevice is about, and whether root alone may use it."""
    base = category & ~_LEGACY_PRIVILEGED if category & _LEGACY else category
    name = tables.CATEGORIES.get(base)
    if name is None:
        return ""
    privileged = category & _LEGACY_PRIVILEGED == _LEGACY_PRIVILEGED
    return f" {name}{' privileged' if privileged else ''}"


def _control_kind(code: int) -> Kind:
    return "tuning" if tuning_of(code) else tables.CONTROLS.get(code, _OTHER).kind


def _kfd(nr: int, code: int, *, readable: bool) -> str:
    if nr not in tables.KFD:
        return f"KFD {nr:#x}"
    name = f"KFD {tables.KFD[nr].name}"
    if nr != _KFD_CREATE_QUEUE:
        return name
    if not readable:
        return f"{name} (argument unreadable)"
    return f"{name} {tables.KFD_QUEUES[code].name if code in tables.KFD_QUEUES else f'type {code:#x}'}"


def _drm(family: int, nr: int) -> str:
    prefix, own = _DRM_DRIVERS[family]
    if not _DRM_BASE <= nr < _DRM_END:
        return f"DRM {tables.DRM[nr].name}" if nr in tables.DRM else f"DRM {nr:#04x}"
    if nr in own:
        return f"{prefix} {own[nr].name}"
    return f"{prefix} {_DRM_BASE:#x}+{nr - _DRM_BASE:#04x}"
