# SPDX-License-Identifier: Apache-2.0
"""The evidence of what programs do but for their connections outside: begin, write, ask a local server, tamper."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.detect.execfacts import describe_facts
from tracer.detect.footholds import WHAT_NAME as FOOTHOLD_NAME
from tracer.detect.preload import PRELOADS
from tracer.detect.preload_evidence import libraries_of
from tracer.detect.tamper import WHAT_NAME, bpf_command, signal_name
from tracer.evidence.indicators import find
from tracer.kernel import schema
from tracer.text import decode

if TYPE_CHECKING:
    from tracer.engine.engine import Engine, Fired, Program


def of_exec(engine: Engine, program: Program | None) -> dict[str, Any]:
    """What in its path and arguments was looked for; nothing, if ``program`` is not known any more."""
    if program is None:
        return {}
    facts = int(engine.state.signals[0])
    names = [program.exe, program.called, *program.argv[:1]]
    return {
        **(libraries_of(engine.fired_record(), program.flags) if facts & PRELOADS else {}),
        **describe_facts(program.exe, program.called, list(program.argv), facts),
        **find(
            engine,
            {
                "name": [name.rpartition(b"/")[2] for name in names],
                "path": [program.exe],
                "args": [b"".join(a + b"\0" for a in program.argv[1:])],
            },
        ),
    }


def refused_path(record: np.void, tail: bytes) -> bytes:
    """Of the program that was not let begin."""
    return tail[: int(record["path_len"])]


def of_refused(engine: Engine, _: Fired) -> dict[str, Any]:
    """Which program was not let begin."""
    data = engine.fired_record()
    record = np.frombuffer(data, schema.EXEC_REFUSED, 1)[0]
    path = refused_path(record, data[schema.EXEC_REFUSED.itemsize :])
    return {"refused": True, "program": decode(path), **find(engine, {"path": [path]})}


def local_name(record: np.void) -> bytes:
    """Of a UNIX socket; an abstract one's with @ in front, as tools show it."""
    name = record["path"].tobytes()[: int(record["path_len"])]
    return b"@" + name[1:] if record["abstract"] else name.partition(b"\0")[0]


def of_local_connect(engine: Engine, _: Fired) -> dict[str, Any]:
    """Which UNIX socket it has connected to."""
    name = local_name(np.frombuffer(engine.fired_record(), schema.LOCAL_CONNECT, 1)[0])
    return {"socket": decode(name), **find(engine, {"path": [name]})}


def of_foothold(engine: Engine, _: Fired) -> dict[str, Any]:
    """Which file it has written, and who obeys that."""
    raw = engine.fired_record()
    record = np.frombuffer(raw, schema.FOOTHOLD, 1)[0]
    size = schema.FOOTHOLD.itemsize
    flags = int(record["foothold_flags"])
    return {
        "what": FOOTHOLD_NAME.get(int(record["what"]), str(int(record["what"]))),
        "file": decode(raw[size : size + int(record["path_len"])]),
        "linked": bool(flags & schema.FOOTHOLD_FLAG["FOOTHOLD_LINKED"]),
        "by_package_manager": bool(flags & schema.FOOTHOLD_FLAG["FOOTHOLD_PACKAGED"]),
    }


def of_tamper(engine: Engine, cgroup_path: Callable[[int], str]) -> dict[str, Any]:
    """What was done to the watch, and to which part of it."""
    record = np.frombuffer(engine.fired_record(), schema.TAMPER, 1)[0]
    what, flags = int(record["what"]), int(record["tamper_flags"])
    evidence: dict[str, Any] = {"what": WHAT_NAME.get(what, str(what))}
    if what == schema.TAMPER_WHAT["TAMPER_SIGNAL"]:
        evidence["signal"] = signal_name(int(record["number"]))
        evidence["to_group"] = bool(flags & schema.TAMPER_FLAG["TAMPER_TO_GROUP"])
    if what == schema.TAMPER_WHAT["TAMPER_FLOOD"]:
        number = int(record["number"])
        evidence["records"] = schema.KIND_NAME.get(number, str(number))
    if what == schema.TAMPER_WHAT["TAMPER_BPF"]:
        evidence["command"] = bpf_command(int(record["number"]))
    if record["target_tgid"]:
        evidence["target"] = {"pid": int(record["target_tgid"]), "start_ns": int(record["target_start"])}
    for key, field in (("cgroup", "cgroup"), ("cgroup_to", "cgroup_to")):
        if record[field]:
            evidence[key] = cgroup_path(int(record[field])) or str(int(record[field]))
    if name := record["name"].tobytes().partition(b"\0")[0]:
        evidence["module" if what == schema.TAMPER_WHAT["TAMPER_MODULE"] else "file"] = decode(name)
    if int(record["done"]) & 1 << schema.ACTION["ACTION_BLOCK"]:
        evidence["refused"] = True
    if flags & schema.TAMPER_FLAG["TAMPER_BY_OUTSIDER"]:
        evidence["by"] = int(record["by_tgid"])
    return evidence
