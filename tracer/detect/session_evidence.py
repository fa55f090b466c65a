# SPDX-License-Identifier: Apache-2.0
"""What a session and a series of check-ins look like to people."""

from __future__ import annotations

from typing import Any

from tracer.detect.beacons import B_TOLD, Beacons, spread
from tracer.detect.facts import FACT_BIT, FACTS
from tracer.detect.relay_evidence import other_end
from tracer.detect.sessions import S_TOLD, Sessions


def _facts(on: str, signals: int) -> list[str]:
    return [f.name for f in FACTS if on in f.on and signals >> FACT_BIT[f.name] & 1]


def session_end(sessions: Sessions) -> tuple[bytes, int, int]:
    """Address, family and port of the other end of the session that was told of last."""
    row = sessions.table[sessions.state[S_TOLD]]
    address, family, _ = other_end(row)
    return address, family, int(row["port"])


def of_session(sessions: Sessions, signals: int, now_ns: int) -> dict[str, Any]:
    """The evidence in a session that has just fired a rule."""
    row = sessions.table[sessions.state[S_TOLD]]
    return {
        "facts": _facts("session", signals),
        "exchanges": int(row["exchanges"]),
        "ran": int(row["ran_times"]),
        "connected": int(row["called_times"]),
        "shells": int(row["shell_times"]),
        "missed": int(row["missed"]),
        "said_first_bytes": int(row["said"]),
        "told_bytes": int(row["told_bytes"]),
        "given_bytes": int(row["given_bytes"]),
        "seconds": round((now_ns - int(row["since"])) / 1e9, 3),
        "exchanges_seconds": round((int(row["last"]) - int(row["first"])) / 1e9, 3),
    }


def beacon_end(beacons: Beacons) -> tuple[bytes, int, int]:
    """Address, family and port of the place whose series was told of last."""
    row = beacons.series[beacons.state[B_TOLD]]
    address, family, _ = other_end(row)
    return address, family, int(row["port"])


def of_beacon(beacons: Beacons, signals: int, now_ns: int) -> dict[str, Any]:
    """The evidence in a series that has just fired a rule."""
    at = int(beacons.state[B_TOLD])
    row = beacons.series[at]
    mean, farthest = spread(beacons, at)
    return {
        "facts": _facts("beacon", signals),
        "check_ins": int(beacons.visits[at]),
        "connections": int(row["anew"]),
        "interval_s": round(mean / 1e9, 3),
        "jitter_percent": round(100 * farthest / mean, 1),
        "sent_bytes": int(row["sent"]),
        "received_bytes": int(row["received"]),
        "seconds": round((now_ns - int(row["since"])) / 1e9, 3),
    }
