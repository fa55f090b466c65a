# SPDX-License-Identifier: Apache-2.0
"""Tunnels that give themselves away in the questions they ask: iodine, dnscat2, dns2tcp."""

from __future__ import annotations

from tracer.detect.names import Bytes, byte_at
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN
from tracer.detect.wire.spans import found, is_folded, starts, starts_folded, word
from tracer.jit import kernel

IODINE = PROTOCOL["iodine"]
DNSCAT2 = PROTOCOL["dnscat2"]
DNS2TCP = PROTOCOL["dns2tcp"]

_CNAME, _NULL, _MX, _TXT, _KEY, _PRIVATE = 5, 10, 15, 16, 25, 65399
_LABELS_MAX = 128
# iodine: version 5.x in its base 32, and the words it probes with whether letters keep their size
_IODINE_VERSION = word(b"vaaaaka")
_IODINE_PROBES = (word(b"aA-Aaahhh-Drink"), word(b"aA-La-fl"), word(b"aAbBcCdDeEfFgGhH"))
_PROBE_1, _PROBE_2, _PROBE_3 = _IODINE_PROBES
_DNSCAT = word(b"dnscat")
_AUTH, _CONNECT, _RESOURCE = word(b"=auth"), word(b"=connect"), word(b"=resource")
#: Length of dnscat2's shortest message, in hex digits.
_DNSCAT_MIN = 18


@kernel
def _hex_labels(data: Bytes, at: int, end: int) -> int:
    """How many hex digits the labels begin with, labels that are all hex; the last two do not count."""
    labels = 0
    place = at
    while place < end and data[place] != 0:
        labels += 1
        place += 1 + byte_at(data, place)
    digits = 0
    for _ in range(labels - 2):
        size = byte_at(data, at)
        for place in range(at + 1, at + 1 + size):
            byte = byte_at(data, place) | 32
            if not (48 <= data[place] <= 57 or 97 <= byte <= 102):
                return digits
        digits += size
        at += 1 + size
    return digits


@kernel
def _is_dnscat(data: Bytes, at: int, end: int, kind: int) -> bool:
    """Hex, in it the type of a message as third byte; of no length that a hash has, which are asked for
    in the same way. Questions for addresses are left out: a third of everything would be let in.
    """
    if is_folded(data, at + 1, at + 1 + byte_at(data, at), _DNSCAT):
        return True
    if kind != _TXT and kind != _MX and kind != _CNAME:
        return False
    digits = _hex_labels(data, at, end)
    if digits < _DNSCAT_MIN or digits & 1 or digits in (32, 40, 56, 64, 96, 128) or data[at] < 6:
        return False
    high, low = byte_at(data, at + 5), byte_at(data, at + 6)
    return (high == 48 and 48 <= low <= 51) or (high | 32 == 102 and low | 32 == 102)


@kernel
def tunnel(data: Bytes, at: int, end: int, kind: int) -> int:
    """The tunnel whose question of type ``kind`` is at ``at``, or UNKNOWN."""
    if at >= end or data[at] == 0:
        return UNKNOWN
    if _is_dnscat(data, at, end, kind):
        return DNSCAT2
    first = at + 1
    first_end = min(end, first + byte_at(data, at))
    if starts_folded(data, first, first_end, _IODINE_VERSION) and first_end - first >= 10:
        return IODINE
    if (
        found(data, first, first_end, _PROBE_1) >= 0
        or found(data, first, first_end, _PROBE_2) >= 0
        or found(data, first, first_end, _PROBE_3) >= 0
    ):
        return IODINE
    labels = 0
    for _ in range(_LABELS_MAX):
        if at >= end or data[at] == 0:
            break
        labels += 1
        size = byte_at(data, at)
        if data[at + 1] == 61 and (kind == _TXT or kind == _KEY):  # "="
            lo, hi = at + 1, at + 1 + size
            if (
                starts(data, lo, hi, _AUTH)
                or starts(data, lo, hi, _CONNECT)
                or starts(data, lo, hi, _RESOURCE)
            ):
                return DNS2TCP
        at += 1 + size
    return IODINE if labels >= 3 and (kind == _NULL or kind == _PRIVATE) else UNKNOWN
