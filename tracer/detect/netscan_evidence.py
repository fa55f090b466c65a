# SPDX-License-Identifier: Apache-2.0
"""What a series of connects looks like to people."""

from __future__ import annotations

import ipaddress
from typing import Any

from tracer.detect.facts import FACT_BIT
from tracer.detect.netscan import EXAMPLES, OUTCOMES, REFUSED, SILENT, UNUSED, Scans

_WORD = (1 << 64) - 1
_SHAPES = ("scans-addresses", "scans-ports", "scans-block", "scans-itself")


def _example(high: int, low: int, target: int) -> str:
    address = ipaddress.IPv6Address((high & _WORD) << 64 | low & _WORD)
    mapped = address.ipv4_mapped
    where = f"{mapped}" if mapped is not None else f"[{address}]"
    return f"{where}:{target & 0xFFFF} {OUTCOMES[target >> 16 & 3]}"


def of_scan(scans: Scans, series: int) -> dict[str, Any]:
    """The evidence in a series that has just fired a rule."""
    row = scans.series[series]
    written = [int(row["seen"]) - 1 - back for back in range(min(int(row["seen"]), EXAMPLES))]
    latest = [[int(word) for word in row["example"][number % EXAMPLES]] for number in written]
    return {
        "scan": [name for name in _SHAPES if int(row["shapes"]) >> FACT_BIT[name] & 1],
        "targets": int(row["count"]),
        "addresses": int(row["addresses"]),
        "ports_of_one": int(row["ports"]),
        "seconds": round((int(row["last"]) - int(row["since"])) / 1e9, 3),
        "refused": int(row["outcomes"][REFUSED]),
        "unanswered": int(row["outcomes"][SILENT]),
        "unused": int(row["outcomes"][UNUSED]),
        "by_descendants": bool(row["below"]),
        "examples": [_example(*words) for words in latest if words[2]],
    }
