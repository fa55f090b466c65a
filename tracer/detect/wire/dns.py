# SPDX-License-Identifier: Apache-2.0
"""DNS: questions, what looks like a tunnel in them, and the addresses in answers."""

from __future__ import annotations

import math

import numpy as np

from tracer.detect.names import Bytes, Ints, byte_at, letters, lower
from tracer.detect.wire.dns_tunnels import tunnel
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN, trait
from tracer.detect.wire.spans import IN_TEXT, TCP, TRAITS, set_host, u16, u32
from tracer.engine.intrinsics import i64
from tracer.jit import allocating, kernel, njit

DNS = PROTOCOL["dns"]
_T_RESPONSE, _T_LONG_LABEL, _T_LONG_NAME, _T_ENTROPY, _T_NULL, _T_TXT, _T_RARE = (
    trait(f"dns-{name}")
    for name in ("response", "long-label", "long-name", "high-entropy", "null-type", "txt-type", "rare-type")
)

A, NS, CNAME, SOA, NULL, PTR, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 10, 12, 15, 16, 28, 33, 41
DS, DNSKEY, SVCB, HTTPS, ANY = 43, 48, 64, 65, 255
PRIVATE = 65280  # and up
_COMMON = np.zeros(256, np.int64)
_COMMON[[A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, DS, DNSKEY, SVCB, HTTPS]] = 1

#: Of a name in text, with its dots.
NAME_MAX = 254
#: Pointers in one name. Compression needs one; each leads back, so there are no loops.
JUMPS_MAX = 8
#: Room for a name and its aliases.
NAMES_TEXT = 512
_LABELS_MAX = 128
_LONG_LABEL = 40
_LONG_NAME = 100
#: Fewer bytes of labels say nothing.
_DATA_MIN = 24
_DATA_BITS = 4.3
_LOGS = np.array([0.0] + [n * math.log2(n) for n in range(1, 257)])
_IN_NAMES = letters(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_=+/*@")


@kernel
def name_end(data: Bytes, at: int, hi: int) -> int:
    """Where the name at ``at`` ends in the message, pointers not followed; -1 if it is cut or none."""
    for _ in range(_LABELS_MAX):
        if at >= hi:
            return -1
        length = byte_at(data, at)
        if length >= 0xC0:
            return at + 2 if at + 2 <= hi else -1
        if length > 63:
            return -1
        at += 1 + length
        if length == 0:
            return at
    return -1


@kernel
def question_end(data: Bytes, at: int, hi: int) -> int:
    """The same for the name of a question: there is nothing before it that it could point to."""
    for _ in range(_LABELS_MAX):
        if at >= hi or data[at] > 63:
            return -1
        length = byte_at(data, at)
        at += 1 + length
        if length == 0:
            return at
    return -1


@kernel
def question_text(data: Bytes, at: int, hi: int, text: Bytes) -> int:
    """Write the name of a question to ``text``, in small letters with dots; its length.

    What is not fit for a name becomes "?"; a question has no pointers.
    """
    length = 0
    for _ in range(_LABELS_MAX):
        size = byte_at(data, at) if at < hi else 0
        if size == 0 or size > 63 or at + 1 + size > hi or length + size + 1 > NAME_MAX:
            break
        if length > 0:
            text[length] = 46
            length += 1
        for place in range(at + 1, at + 1 + size):
            byte = byte_at(data, place)
            text[length] = lower(byte) if _IN_NAMES[byte] else 63
            length += 1
        at += 1 + size
    return length


@allocating
def _looks_like_data(data: Bytes, at: int, hi: int) -> bool:
    """Whether the labels of the question at ``at`` hold data: many turns between digits and letters,
    bytes that no name has, or more entropy than words have. The last two labels do not count.
    """
    stop = before = at
    place = at
    while place < hi and data[place] != 0:  # where the last two labels begin
        stop, before = before, place
        place += 1 + byte_at(data, place)
    counts = np.zeros(256, np.int64)
    total = turns = high = 0
    while at < stop:
        end = min(hi, at + 1 + byte_at(data, at))
        was_digit = False
        for place in range(at + 1, end):
            byte = byte_at(data, place)
            digit = 48 <= byte <= 57
            turns += place > at + 1 and digit != was_digit
            was_digit = digit
            high += byte >= 128
            counts[lower(byte)] += 1
        total += end - at - 1
        at = end
    if total < _DATA_MIN:
        return False
    if 5 * turns >= total or 8 * high >= total:
        return True
    if total > 255:
        return True
    bits = _LOGS[total]
    for count in counts:
        if count > 1:
            bits -= _LOGS[count]
    return bits >= _DATA_BITS * total


@kernel
def message(data: Bytes, lo: int, hi: int, transport: int) -> int:
    """Where the DNS message in ``data[lo:hi]`` begins, or -1 if it is none that has one question."""
    if transport == TCP:
        if hi - lo < 2 or u16(data, lo) < 17:
            return -1
        hi = min(hi, lo + 2 + u16(data, lo))
        lo += 2
    if hi - lo < 17:
        return -1
    flags = u16(data, lo + 2)
    answers, authorities, more = u16(data, lo + 6), u16(data, lo + 8), u16(data, lo + 10)
    if flags & 0x7840 or u16(data, lo + 4) != 1 or authorities > 64 or more > 64 or answers > 256:
        return -1
    if flags & 0x8000 == 0 and (flags & 0x0F or answers > 0 or authorities > 0 or more > 2):
        return -1
    end = question_end(data, lo + 12, hi)
    if end < 0 or end + 4 > hi or end - lo - 12 > 255:
        return -1
    kind, group = u16(data, end), u16(data, end + 2) & 0x7FFF
    return lo if kind != 0 and (group in (1, 3, 4, 255)) else -1


@kernel
def dns(data: Bytes, lo: int, hi: int, transport: int, text: Bytes, out: Ints) -> int:
    """DNS or a tunnel over it if the bytes are a message with one question; its name goes to ``text``."""
    lo = message(data, lo, hi, transport)
    if lo < 0:
        return UNKNOWN
    question = lo + 12
    end = question_end(data, question, hi)
    set_host(out, i64(0), question_text(data, question, end, text), i64(IN_TEXT))
    kind = u16(data, end)
    traits = _T_RESPONSE if data[lo + 2] & 0x80 else 0
    if kind == NULL or kind >= PRIVATE:
        traits |= _T_NULL
    elif kind == TXT:
        traits |= _T_TXT
    elif kind > 255 or not _COMMON[kind]:
        traits |= _T_RARE
    if end - question - 2 >= _LONG_NAME:
        traits |= _T_LONG_NAME
    at = question
    while at < end and data[at] != 0:
        if data[at] >= _LONG_LABEL:
            traits |= _T_LONG_LABEL
        at += 1 + byte_at(data, at)
    if _looks_like_data(data, question, end):
        traits |= _T_ENTROPY
    out[TRAITS] |= traits
    found = tunnel(data, question, end, kind)
    return found if found != UNKNOWN else DNS


@kernel
def _append_name(data: Bytes, lo: int, at: int, hi: int, text: Bytes, length: int) -> int:
    """Write the name at ``at`` of the message ``data[lo:hi]`` behind ``text[:length]``, after a NUL if there
    is something; the new length. The old one if not all of the name is there, or there is no room.
    """
    was = length
    if length > 0 and length < len(text):
        text[length] = 0
        length += 1
    began = length
    floor = at
    jumps = 0
    for _ in range(_LABELS_MAX + JUMPS_MAX):
        if at >= hi:
            return was
        size = byte_at(data, at)
        if size >= 0xC0:
            target = lo + ((size & 0x3F) << 8 | byte_at(data, at + 1)) if at + 2 <= hi else floor
            if target >= floor or jumps == JUMPS_MAX:
                return was
            jumps += 1
            at = floor = target
            continue
        if size == 0:
            return length if length > began else was
        if size > 63 or at + 1 + size > hi or length - began + size + 1 > NAME_MAX:
            return was
        if length + size + 1 > len(text):
            return was
        if length > began:
            text[length] = 46
            length += 1
        for place in range(at + 1, at + 1 + size):
            byte = byte_at(data, place)
            text[length] = lower(byte) if _IN_NAMES[byte] else 63
            length += 1
        at += 1 + size
    return was


@njit
def dns_answers(data: Bytes, lo: int, hi: int, transport: int, text: Bytes, answers: Ints) -> tuple[int, int]:
    """The addresses that the DNS message in ``data[lo:hi]`` answers with, and the length of the names that
    it answers for, written to ``text`` (uint8[NAMES_TEXT]): the one that was asked for and its aliases, NUL
    between them. As probes/names.bpf.h does it.

    ``answers``: int64[n, 4]; a row gets where in data the address is, its length (4 or 16), the time
    to live in seconds, 0. That an address belongs to an alias in the same message is not asked: whoever
    asked will use it. A message that is cut yields what is whole.
    """
    lo = message(data, lo, hi, transport)
    if lo < 0 or data[lo + 2] & 0x80 == 0:
        return 0, 0
    if transport == TCP:  # what comes behind the message is the next one
        hi = min(hi, lo + u16(data, lo - 2))
    length = _append_name(data, lo, lo + 12, hi, text, i64(0))
    at = question_end(data, lo + 12, hi) + 4
    count = 0
    for _ in range(u16(data, lo + 6)):
        at = name_end(data, at, hi)
        if at < 0 or at + 10 > hi or count == len(answers):
            break
        kind, group, size = u16(data, at), u16(data, at + 2) & 0x7FFF, u16(data, at + 8)
        end = at + 10 + size
        if end > hi:
            break
        if group == 1 and ((kind == A and size == 4) or (kind == AAAA and size == 16)):
            answers[count, 0], answers[count, 1] = at + 10, size
            answers[count, 2], answers[count, 3] = u32(data, at + 4), 0
            count += 1
        elif group == 1 and kind == CNAME:
            length = _append_name(data, lo, at + 10, hi, text, length)
        at = end
    return count, length
