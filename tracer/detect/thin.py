# SPDX-License-Identifier: Apache-2.0
"""Connections over which little goes, in both ways, for a long time: what a miner has with its pool.

A bucket that leaks by ``minute_bytes`` a minute, and holds as much: a connection is *thin* since it last
overflowed. So one large message ends it, and a job, a share or a handshake doesn't.
"""

from __future__ import annotations

from typing import Any

from tracer.jit import njit

_MILLISECOND = 1_000_000
_MINUTE_MS = 60_000
SENT, RECEIVED = 0, 1


@njit
def carry(flow: Any, side: int, sent: int, received: int, now: int, minute_bytes: int) -> None:
    """A connection has carried something since it was last asked. ``flow``: a row of FLOW; ``side``: where it leads."""
    level = 0
    if flow.thin == 0:
        flow.thin = now
    else:
        elapsed = max(now - flow.carried, 0) // _MILLISECOND
        if elapsed < _MINUTE_MS:
            level = max(flow.level - elapsed * minute_bytes // _MINUTE_MS, 0)
    flow.carried = now
    flow.side = side
    level += sent + received
    if level > minute_bytes:
        flow.level = minute_bytes
        flow.thin = now
        flow.exchanges[SENT] = 0
        flow.exchanges[RECEIVED] = 0
        return
    flow.level = level
    if sent > 0:
        flow.exchanges[SENT] += 1
    if received > 0:
        flow.exchanges[RECEIVED] += 1


@njit
def is_thin(flow: Any, now: int, for_ns: int, exchanges: int) -> bool:
    """For so long, with so many exchanges each way, and still alive?"""
    return bool(
        flow.thin != 0
        and now - flow.thin >= for_ns
        and now - flow.carried <= for_ns
        and flow.exchanges[SENT] >= exchanges
        and flow.exchanges[RECEIVED] >= exchanges
    )
