# SPDX-License-Identifier: Apache-2.0
"""The evidence of what clients of a GPU do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.detect.facts import FACT_BIT, FACTS
from tracer.detect.gpu import JOB_BUSY, KNOWN, TRAINER, TRAINER_START
from tracer.engine.processes import NONE
from tracer.gpu.names import describe as describe_gpu
from tracer.kernel import schema

if TYPE_CHECKING:
    from tracer.engine.engine import Engine, Fired

_GPU_FACTS = tuple(fact.name for fact in FACTS if "gpu" in fact.on)


def of_gpu_call(engine: Engine, fired: Fired) -> dict[str, Any]:
    """What was asked of which driver, by what kind of client."""
    family, number, code = fired.subject >> 48, fired.subject >> 32 & 0xFFFF, fired.subject & 0xFFFFFFFF
    signals, state = int(engine.state.signals[0]), engine.state.gpu.state
    evidence: dict[str, Any] = {
        "facts": [name for name in _GPU_FACTS if signals >> FACT_BIT[name] & 1],
    }
    if fired.kind == schema.KIND["EVENT_GPU_IOCTL"]:
        evidence["ioctl"] = describe_gpu(family, number, code)
    elif fired.kind == schema.KIND["EVENT_GPU_OPEN"]:
        evidence["held"] = "when the watch began"
    else:  # it works while the job does not
        evidence["job_idle_seconds"] = round((fired.time_ns - int(state[JOB_BUSY])) / 1e9, 3)
    if fired.entry != NONE and (client := engine.gpu_client(fired.entry)):
        evidence["client"] = client
    if fired.entry != NONE:
        evidence |= {f"gpu_{name}": value for name, value in engine.gpu_use(fired.entry).items()}
    if state[KNOWN]:
        evidence["first_client"] = {"pid": int(state[TRAINER]), "start_ns": int(state[TRAINER_START])}
    return evidence
