# SPDX-License-Identifier: Apache-2.0
"""The first block of a file: who was watched where, by what rules, and how records are laid out."""

from __future__ import annotations

import os
import platform
import socket
import uuid
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from tracer import __version__
from tracer.kernel import schema
from tracer.record.layout import FORMAT
from tracer.record.shapes import JUDGED_BY

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.policy import Policy
    from tracer.rules import RuleSet

#: field, NumPy format, offset
Fields = list[list[Any]]


def fields_of(layout: np.dtype[np.void]) -> Fields:
    """A structure as a header describes it."""
    found = []
    assert layout.fields is not None
    for name in layout.names or ():
        kind, offset = layout[name], int(layout.fields[name][1])
        shape = f"{kind.shape[0]}{kind.base.str}" if kind.shape else kind.str
        found.append([name, shape, offset])
    return found


@cache
def event_schema() -> dict[str, Any]:
    """How this version's probes lay out records: by kind, its name, size and fields."""
    return {
        str(kind): {"name": schema.KIND_NAME[kind], "size": layout.itemsize, "fields": fields_of(layout)}
        for kind, layout in schema.LAYOUT.items()
    }


def terms_of(rules: RuleSet, policy: Policy | None, epoch: int, *, enforce: bool) -> dict[str, Any]:
    """What is judged by: of the header, and of a RULES block."""
    users = rules.terms.gpu_users
    return {
        "rules": rules.hash,
        "policy": {"name": policy.name, "digest": policy.digest} if policy else None,
        "gpu_users": None if users is None else list(users),
        "own_networks": list(rules.terms.own_networks),
        "epoch": epoch,
        "mode": "enforce" if enforce else "observe",
    }


def is_judged_by(then: dict[str, Any], rules: RuleSet) -> bool:
    """Did ``rules`` make the verdicts of which :func:`terms_of` says ``then``?"""
    now = terms_of(rules, None, 0, enforce=False)
    return all(then[name] == now[name] for name in ("rules", "gpu_users", "own_networks"))


def make_header(
    engine: Engine,
    tree: str,
    judged_by: dict[str, Any],
    *,
    command: list[str] | None,
    missing_hooks: dict[str, str],
    signed: bool,
    gpu_driver: str | None = None,
    gpu_names: dict[str, str] | None = None,
) -> dict[str, Any]:
    """All but what differs by part."""
    system = os.uname()
    return {
        "format": FORMAT,
        "vigiles": __version__,
        "recording": uuid.uuid4().hex,
        "tree": tree,
        "host": socket.gethostname(),
        "kernel": f"{system.sysname} {system.release} {system.version}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "command": command,
        "judged_by": judged_by,
        "missing_hooks": missing_hooks,
        "gpu_driver": gpu_driver,
        "gpu_names": gpu_names or {},
        "signed": signed,
        "processes": len(engine.state.processes.table),
        "flows": len(engine.state.flows.table) - 1,  # the last row is nobody's
        "events": event_schema(),
    }


@dataclass(frozen=True, slots=True)
class Header:
    """A header as read. ``events``: see :func:`event_schema`."""

    format: int
    vigiles: str
    recording: str
    part: int
    previous: bytes
    tree: str
    host: str
    kernel: str
    machine: str
    command: list[str] | None
    judged_by: dict[str, Any]
    missing_hooks: dict[str, str]
    gpu_driver: str | None
    signed: bool
    processes: int
    flows: int
    began_ns: int
    wall_offset_ns: int
    events: dict[str, Any]
    gpu_names: dict[str, str] = field(default_factory=dict)  #: older ones have none

    @classmethod
    def read(cls, payload: bytes) -> Header | None:
        """The header in a block; None if it is none that this version can read."""
        try:
            said = msgpack.unpackb(payload)
        except ValueError:
            return None
        if not isinstance(said, dict) or not all(isinstance(said.get(n), t) for n, t in _TYPES.items()):
            return None
        if not JUDGED_BY(said["judged_by"]) or not 0 <= said["wall_offset_ns"] < 1 << 63:
            return None
        if not (0 < said["processes"] <= _ENTRIES_MAX and 0 < said["flows"] <= _ENTRIES_MAX):
            return None
        names = said.get("gpu_names")
        known = names if isinstance(names, dict) and _are_texts(names) else {}
        return cls(**{name: said[name] for name in _TYPES}, gpu_names=known)


def _are_texts(names: dict[Any, Any]) -> bool:
    return all(isinstance(text, str) for pair in names.items() for text in pair)


_ENTRIES_MAX = 1 << 24
_TYPES: dict[str, type | tuple[type, ...]] = {
    "format": int, "vigiles": str, "recording": str, "part": int, "previous": bytes, "tree": str, "host": str,
    "kernel": str, "machine": str, "command": (list, type(None)), "judged_by": dict, "missing_hooks": dict,
    "gpu_driver": (str, type(None)), "signed": bool, "processes": int, "flows": int, "began_ns": int,
    "wall_offset_ns": int, "events": dict,
}  # fmt: skip
