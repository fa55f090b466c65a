# SPDX-License-Identifier: Apache-2.0
"""Records outside their ring: each behind its length (4 bytes, then 4 that are 0), up to a multiple of 8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracer.engine.drain import TAP_PREFIX


def lay_out(records: Iterable[bytes]) -> bytes:
    """``records`` one behind the other."""
    laid = bytearray()
    for record in records:
        laid += len(record).to_bytes(TAP_PREFIX, "little") + record
        laid += bytes(-len(laid) % 8)
    return bytes(laid)


def each(laid: bytes) -> Iterator[bytes]:
    """The records in ``laid``; what is behind the last whole one is left out."""
    at = 0
    while at + TAP_PREFIX <= len(laid):
        length = int.from_bytes(laid[at : at + 4], "little")
        record = laid[at + TAP_PREFIX : at + TAP_PREFIX + length]
        if len(record) < length:
            return
        yield record
        at += (TAP_PREFIX + length + 7) & ~7
