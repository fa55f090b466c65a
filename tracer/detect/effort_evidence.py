# SPDX-License-Identifier: Apache-2.0
"""What a crew that keeps the processors busy looks like to people."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracer.detect.effort import CALLED, RAN, SWITCHED, TOLD, TOLD_FLOW, WANTED, Efforts
from tracer.detect.facts import FACT_BIT, FACTS
from tracer.detect.thin import RECEIVED, SENT

_SECOND = 1e9


def flow_of(efforts: Efforts) -> int | None:
    """The entry of the thin connection that made the rule fire that was told last."""
    flow = int(efforts.state[TOLD_FLOW])
    return flow if flow >= 0 else None


def of_effort(efforts: Efforts, flow: np.void | None, signals: int, now_ns: int) -> dict[str, Any]:
    """The evidence in the crew that has just fired a rule. ``flow``: its thin connection."""
    crew = efforts.crews[efforts.state[TOLD]]
    totals = [int(number) for number in crew["totals"]]
    ran_s = max(totals[RAN] / _SECOND, 1e-9)
    evidence: dict[str, Any] = {
        "facts": [f.name for f in FACTS if "effort" in f.on and signals >> FACT_BIT[f.name] & 1],
        "processors": round(totals[WANTED] / max(int(crew["walls"]), 1), 2),
        "processors_allowed": int(crew["cores"]) / 1000,
        "seconds": round((now_ns - int(crew["since"])) / _SECOND, 3),
        "processor_seconds": round(ran_s, 3),
        "calls_a_second": round(totals[CALLED] / ran_s, 2),
        "pauses_a_second": round(totals[SWITCHED] / ran_s, 2),
        "threads": int(crew["threads"]),
        "huge_pages": int(crew["huge"]),
    }
    if flow is not None:
        evidence["thin_for_seconds"] = round((now_ns - int(flow["thin"])) / _SECOND, 3)
        evidence["exchanges"] = {
            "sent": int(flow["exchanges"][SENT]),
            "received": int(flow["exchanges"][RECEIVED]),
        }
    return evidence
