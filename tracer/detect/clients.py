# SPDX-License-Identifier: Apache-2.0
"""What kind of client of a GPU a process is, by what it asks of the driver and which libraries it has mapped.

Calls set *marks*; what a process is follows from the marks it has, and from those it has not. Marks come from the
orders in which clients set themselves up: open-gpu-kernel-modules 595.45.04 (classes: src/common/sdk/nvidia/inc/class,
which of them serve what: gvisor pkg/sentry/devices/nvproxy/version.go), include/uapi/linux/kfd_ioctl.h and
include/uapi/drm. OpenCL and CUDA go the same way to the driver: only libraries tell them apart, by names that the tree
chooses. So a kind is a description; who may compute is judged by the calls alone (``detect/gpu.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.kernel.schema import GPU_FAMILY, GPU_LIBRARY

(
    NVIDIA,  # drives the driver of NVIDIA's
    KFD,
    DRM,
    ACCEL,
    ROOT,  # has a client of its own in the driver
    GAUGES,  # objects that only those make who read gauges
    UVM,  # unified memory
    SPACE,  # an address space
    CHANNEL,  # what work goes through: a channel, a queue
    COMPUTE,
    COPY,
    GRAPHICS,
    ENCODE,
    DECODE,
    PROFILE,
    MPS,
    PARTITIONS,  # shares processors of the card out, as MPS's server does
    SLICE,  # subscribes to a slice of the card (MIG)
    SHARE,  # passes objects on to other processes
    TOOLS,  # reads and writes another's managed memory
    TUNES,  # sets what all who use the card feel: clocks, power, fans, modes
    LOOKED,  # its libraries are known
    LIB_CUDA,
    LIB_OPENCL,
    LIB_VULKAN,
    LIB_NVML,
    LIB_VIDEO,
    LIB_ROCM,
    LIB_CUT,
) = (1 << n for n in range(29))

#: enum gpu_library → mark
_FIRST_LIBRARY = GPU_LIBRARY["GPU_LIB_CUDA"]
assert GPU_LIBRARY["GPU_LIB_CUT"] // _FIRST_LIBRARY == LIB_CUT // LIB_CUDA
LIBRARIES_AT = LIB_CUDA // _FIRST_LIBRARY
_DRIVERS = LIB_CUDA | LIB_OPENCL | LIB_VULKAN | LIB_VIDEO | LIB_CUT

_NVIDIA, _UVM, _KFD = (GPU_FAMILY[f"GPU_{name}"] for name in ("NVIDIA", "NVIDIA_UVM", "KFD"))
_AMDGPU, _I915, _XE = (GPU_FAMILY[f"GPU_DRM_{name}"] for name in ("AMDGPU", "I915", "XE"))
_ALLOC, _CONTROL = 0x2B, 0x2A
_ANY = (0, 0xFFFFFFFF, 0)
#: From Fermi on the low byte of a class tells its kind.
_KIND_BYTE = (0x9000, 0xFFFF, 0xFF)
#: Of a control of a subdevice (0x2080) bits 15:8 tell the category; those with both upper bits set the driver takes from
#: root alone (src/nvidia/interface/deprecated/rmapi_gss_legacy_control.c).
_CATEGORY = (0x20800000, 0x2080FFFF, 0xFF00)

#: Rows of (family, number, lowest code, highest code, mask, code under the mask, mark).
Row = tuple[int, int, int, int, int, int, int]


def _call(family: int, mark: int, *numbers: int) -> list[Row]:
    return [(family, number, *_ANY, 0, mark) for number in numbers]


def _codes(family: int, number: int, mark: int, *codes: int) -> list[Row]:
    return [(family, number, code, code, 0, 0, mark) for code in codes]


def _classes(mark: int, *classes: int) -> list[Row]:
    return _codes(_NVIDIA, _ALLOC, mark, *classes)


def _kinds(mark: int, *low_bytes: int) -> list[Row]:
    return [(_NVIDIA, _ALLOC, *_KIND_BYTE, byte, mark) for byte in low_bytes]


def _categories(mark: int, *categories: int) -> list[Row]:
    return [(_NVIDIA, _CONTROL, *_CATEGORY, category << 8, mark) for category in categories]


_ROWS: list[Row] = [
    *_classes(ROOT, 0x00, 0x01, 0x41),
    *_classes(GAUGES, 0x2081, 0x208F, 0x90E7, 0xC640),
    *_classes(SPACE, 0x90F1),
    *_classes(CHANNEL, 0xA06C),
    *_kinds(CHANNEL, 0x6F),
    *_kinds(COMPUTE, 0xC0),
    *_kinds(COPY, 0xB5),
    *_kinds(GRAPHICS, 0x97),
    *_kinds(ENCODE, 0xB7),
    *_classes(ENCODE, 0xA0BC),
    *_kinds(DECODE, 0xB0, 0xD1, 0xFA),
    *_classes(PROFILE, 0x90CC, 0xB0CC, 0xB1CC, 0xB2CC),
    *_classes(MPS, 0x900E),
    *_codes(_NVIDIA, _CONTROL, PARTITIONS, 0x00801108),
    *_classes(SLICE, 0xC637, 0xC638),
    *_codes(_NVIDIA, _CONTROL, SHARE, 0x3D05, 0x3D06, 0x3D0A, 0x3D0B, 0x3D0C),
    # fans and temperature, clocks, performance, power, voltage; and single ones: [tuning_category], [control.tuning] of
    # tracer/gpu/numbers/controls.toml
    *_categories(TUNES, 0xC5, 0xD0, 0xE0, 0xE6, 0xF2),
    *_codes(_NVIDIA, _CONTROL, TUNES, 0x20800112, 0x20800130, 0x20800134, 0x20801804, 0x20801805),
    *_codes(_NVIDIA, _CONTROL, TUNES, 0x2080205B, 0x2080206F, 0x20802092),
    *_call(_NVIDIA, SHARE, 0x34, 0x35, 0x5C, 0x5D, 0xD9),
    *_call(_UVM, UVM, 0x30000001),
    *_call(_UVM, SPACE, 25),
    *_call(_UVM, CHANNEL, 27),
    *_call(_UVM, TOOLS, 62, 63),
    *_call(_KFD, SPACE, 0x15),
    *_call(_KFD, CHANNEL, 0x02),
    *_codes(_KFD, 0x02, COMPUTE, 0, 2),
    *_codes(_KFD, 0x02, COPY, 1, 3, 4),
    *_call(_KFD, SHARE, 0x1D, 0x24),
    # engines of a submission: AMDGPU_HW_IP_*, I915_EXEC_*, DRM_XE_ENGINE_CLASS_*
    *_call(_AMDGPU, SPACE, 0x42),
    *_call(_AMDGPU, CHANNEL, 0x44, 0x56),
    *_codes(_AMDGPU, 0x44, GRAPHICS, 0),
    *_codes(_AMDGPU, 0x44, COMPUTE, 1),
    *_codes(_AMDGPU, 0x44, COPY, 2),
    *_codes(_AMDGPU, 0x44, ENCODE, 4, 5, 7),
    *_codes(_AMDGPU, 0x44, DECODE, 3, 6, 8),
    *_call(_I915, SPACE, 0x6D),
    *_call(_I915, CHANNEL, 0x69),
    *_codes(_I915, 0x69, GRAPHICS, 0, 1),
    *_codes(_I915, 0x69, COPY, 3),
    *_codes(_I915, 0x69, DECODE, 2, 4),
    *_call(_XE, SPACE, 0x43),
    *_call(_XE, CHANNEL, 0x46),
    *_codes(_XE, 0x46, GRAPHICS, 0),
    *_codes(_XE, 0x46, COPY, 1),
    *_codes(_XE, 0x46, DECODE, 2, 3),
    *_codes(_XE, 0x46, COMPUTE, 4),
]
TABLE: npt.NDArray[np.int64] = np.array(_ROWS, np.int64)

#: Which driver a family is of.
_FAMILIES = {
    NVIDIA: ("NVIDIA", "NVIDIA_UVM", "NVIDIA_CAPS", "NVIDIA_ANY"),
    KFD: ("KFD",),
    DRM: ("DRM", "DRM_AMDGPU", "DRM_I915", "DRM_XE"),
    ACCEL: ("ACCEL",),
}
#: Mark by family.
FAMILY_MARKS: npt.NDArray[np.int64] = np.zeros(1 + max(GPU_FAMILY.values()), np.int64)
for _mark, _names in _FAMILIES.items():
    for _name in _names:
        FAMILY_MARKS[GPU_FAMILY[f"GPU_{_name}"]] = _mark


def marks_of(table: npt.NDArray[np.int64], family: int, number: int, code: int) -> int:
    """What one call says of who makes it. Compiled, too: only integers and ``table``."""
    found = 0
    for row in range(len(table)):
        if (
            table[row, 0] == family
            and table[row, 1] == number
            and table[row, 2] <= code <= table[row, 3]
            and code & table[row, 4] == table[row, 5]
        ):
            found |= int(table[row, 6])
    return found


class Kind(NamedTuple):
    """A kind of client: has all of ``has`` and none of ``lacks``."""

    name: str
    has: int
    lacks: int = 0


#: The first that fits.
KINDS = (
    Kind("MPS server", NVIDIA | MPS | PARTITIONS),
    Kind("MPS client", NVIDIA | MPS),
    Kind("profiler", NVIDIA | PROFILE),
    Kind("NVENC", NVIDIA | ENCODE),
    Kind("CUDA and graphics", NVIDIA | COMPUTE | GRAPHICS | UVM),
    Kind("Vulkan or GL", NVIDIA | GRAPHICS),
    Kind("NVDEC", NVIDIA | DECODE, COMPUTE),
    Kind("OpenCL", NVIDIA | CHANNEL | LIB_OPENCL, LIB_CUDA),
    Kind("CUDA", NVIDIA | CHANNEL | LIB_CUDA),
    Kind("raw driver", NVIDIA | CHANNEL | LOOKED, _DRIVERS),
    Kind("compute", NVIDIA | CHANNEL),
    Kind("NVML", NVIDIA | ROOT, UVM | SPACE),
    Kind("NVIDIA, no context", NVIDIA | ROOT),
    Kind("raw KFD", KFD | CHANNEL | LOOKED, LIB_ROCM | LIB_CUT),
    Kind("ROCm", KFD | CHANNEL),
    Kind("KFD, no queue", KFD),
    Kind("DRM compute", DRM | COMPUTE),
    Kind("DRM video", DRM | ENCODE),
    Kind("DRM video", DRM | DECODE),
    Kind("DRM graphics", DRM | GRAPHICS),
    Kind("DRM", DRM),
    Kind("accelerator", ACCEL),
    Kind("NVIDIA, nothing asked", NVIDIA),
)

#: What else a client does, in words.
TRAITS = {
    COMPUTE: "compute",
    GRAPHICS: "graphics",
    ENCODE: "encode",
    DECODE: "decode",
    PROFILE: "profile",
    SLICE: "MIG slice",
    SHARE: "shares objects",
    TOOLS: "managed memory of others",
}


def kind_of_client(marks: int) -> str:
    """What a process with these marks is; empty if it is no client at all."""
    for kind in KINDS:
        if marks & kind.has == kind.has and not marks & kind.lacks:
            return kind.name
    return ""


def traits(marks: int) -> list[str]:
    """What it does, in words."""
    return [word for mark, word in TRAITS.items() if marks & mark]
