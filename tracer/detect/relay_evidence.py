# SPDX-License-Identifier: Apache-2.0
"""What two legs that carry the same look like to people."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np

from tracer.detect.facts import FACT_BIT, FACTS
from tracer.detect.legs import ACCEPTED, LATE, TOLD, Relays
from tracer.detect.relay import BACK, IN

_WORD = (1 << 64) - 1


def other_end(row: np.void) -> tuple[bytes, int, str]:
    """The address in a row's two words as flows have it, its family, and as people do."""
    address = ipaddress.IPv6Address((int(row["high"]) & _WORD) << 64 | int(row["low"]) & _WORD)
    mapped = address.ipv4_mapped
    if mapped is not None:
        return mapped.packed.ljust(16, b"\0"), 2, str(mapped)
    return address.packed, 10, str(address)


def outside_of(relays: Relays) -> tuple[bytes, int, str, int]:
    """Address, family, address as text and port of the leg outside of what was told last."""
    leg = relays.legs[int(relays.pairs[relays.state[TOLD]]["outer"])]
    return (*other_end(leg), int(leg["port"]))


def of_relay(relays: Relays, signals: int, now_ns: int) -> dict[str, Any]:
    """The evidence in a pair that has just fired a rule."""
    pair = relays.pairs[relays.state[TOLD]]
    outer, inner = relays.legs[int(pair["outer"])], relays.legs[int(pair["inner"])]
    _, _, there = other_end(inner)
    where = f"[{there}]" if ":" in there else there
    opened = "our port" if int(inner["flags"]) & ACCEPTED else "port"
    facts = [f.name for f in FACTS if "relay" in f.on and signals >> FACT_BIT[f.name] & 1]
    evidence: dict[str, Any] = {
        "facts": facts,
        "inside": f"{where}, {opened} {int(inner['port'])}",
        "inside_address": there,
        "inside_port": int(inner["port"]),
        "outside_accepted": bool(int(outer["flags"]) & ACCEPTED),
        "inside_accepted": bool(int(inner["flags"]) & ACCEPTED),
        "older_than_watch": bool((int(outer["flags"]) | int(inner["flags"])) & LATE),
        "seconds": round((now_ns - int(pair["since"])) / 1e9, 3),
    }
    for way, name in ((IN, "in"), (BACK, "back")):
        evidence[name] = {
            "outside_bytes": int(pair["outside"][way]),
            "inside_bytes": int(pair["inside"][way]),
            "together": int(pair["together"][way]),
            "apart": int(pair["apart"][way]),
        }
    if (int(outer["tgid"]), int(outer["start"])) != (int(inner["tgid"]), int(inner["start"])):
        evidence["inside_pid"] = int(inner["tgid"])
    return evidence
