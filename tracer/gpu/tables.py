# SPDX-License-Identifier: Apache-2.0
"""The numbers of GPU drivers, from numbers/*.toml: data with its sources, no code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

Kind = Literal["compute", "graphics", "video", "memory", "query", "tuning", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PLACE = Path(__file__).resolve().parent / "numbers"


class Entry(NamedTuple):
    name: str
    kind: Kind


Table = Mapping[int, Entry]


def _load(file: str) -> dict[str, Any]:
    with (_PLACE / file).open("rb") as handle:
        return tomllib.load(handle)


def _by_kind(sections: Mapping[str, Mapping[str, str]]) -> Table:
    """One table out of its sections, one section a kind."""
    table: dict[int, Entry] = {}
    for kind, rows in sections.items():
        if kind not in KINDS:
            raise ValueError(f"no such kind: {kind}")
        for number, name in rows.items():
            key = int(number, 0)
            if key in table:
                raise ValueError(f"{number} is both {table[key].name} and {name}")
            table[key] = Entry(name, kind)
    return table


def _plain(rows: Mapping[str, str]) -> Mapping[int, str]:
    return {int(number, 0): name for number, name in rows.items()}


_NVIDIA = _load("nvidia.toml")
_CLASSES = _load("classes.toml")
_CONTROLS = _load("controls.toml")
_KERNEL = _load("kernel.toml")

ESCAPES: Table = _by_kind(_NVIDIA["escape"])
UVM: Table = _by_kind(_NVIDIA["uvm"])

CLASSES: Table = _by_kind(_CLASSES["class"])
#: What a class is for, by its low byte: for chips that are newer than CLASSES.
LOW_BYTES: Table = {int(number, 0): Entry(**row) for number, row in _CLASSES["low_byte"].items()}

CONTROLS: Table = _by_kind(_CONTROLS["control"])
#: Of a subdevice's controls.
CATEGORIES = _plain(_CONTROLS["category"])
TUNING_CATEGORIES = _plain(_CONTROLS["tuning_category"])

KFD: Table = _by_kind(_KERNEL["kfd"])
KFD_QUEUES: Table = _by_kind(_KERNEL["queue"])
#: What all DRM drivers have in common.
DRM: Table = _by_kind(_KERNEL["drm"])
AMDGPU: Table = _by_kind(_KERNEL["amdgpu"])
I915: Table = _by_kind(_KERNEL["i915"])
XE: Table = _by_kind(_KERNEL["xe"])
ACCEL: Table = _by_kind(_KERNEL["accel"])
