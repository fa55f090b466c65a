# SPDX-License-Identifier: Apache-2.0
"""What pings that carry data look like to people."""

from __future__ import annotations

from typing import Any

from tracer.detect.facts import FACT_BIT, FACTS
from tracer.detect.pings import P_TOLD, RECEIVED, SENT, Pings


def of_pings(pings: Pings, signals: int, now_ns: int) -> dict[str, Any]:
    """The evidence in the place of which a rule has just fired."""
    row = pings.table[pings.state[P_TOLD]]
    return {
        "facts": [f.name for f in FACTS if "icmp" in f.on and signals >> FACT_BIT[f.name] & 1],
        "sent": int(row["count"][SENT]),
        "sent_bytes": int(row["bytes"][SENT]),
        "sent_changed": int(row["news"][SENT]),
        "received": int(row["count"][RECEIVED]),
        "received_bytes": int(row["bytes"][RECEIVED]),
        "received_not_sent": int(row["news"][RECEIVED]),
        "seconds": round((now_ns - int(row["since"])) / 1e9, 3),
    }
