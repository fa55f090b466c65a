# SPDX-License-Identifier: Apache-2.0
"""DNS and tunnels over it, for the plain twin."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

from naive_wire_flow import Flow, big, has


def dns_question(data: bytes, transport: int) -> tuple[bytes, list[bytes], int] | None:
    """The message, the labels that are asked for, the type."""
    if transport == 6:
        if len(data) < 2 or big(data[:2]) < 17:
            return None
        data = data[2 : 2 + big(data[:2])]
    if len(data) < 17:
        return None
    flags, questions, answers, authorities, more = (big(data[at : at + 2]) for at in range(2, 12, 2))
    if flags & 0x7840 or questions != 1 or authorities > 64 or more > 64 or answers > 256:
        return None
    if not flags & 0x8000 and (flags & 15 or answers or authorities or more > 2):
        return None
    at, names = 12, []
    while True:
        if at >= len(data) or len(names) >= 128:
            return None
        size = data[at]
        if size > 63:
            return None
        label = data[at + 1 : at + 1 + size]
        at += 1 + size
        if not size:
            break
        names.append(label)
    if at + 4 > len(data) or at - 12 > 255 or big(data[at + 2 : at + 4]) & 0x7FFF not in (1, 3, 4, 255):
        return None
    kind = big(data[at : at + 2])
    return (data, names, kind) if kind else None


def dns(data: bytes, flow: Flow) -> str | None:
    question = dns_question(data, flow.transport)
    if not question:
        return None
    message, names, kind = question
    flow.name(question_text(names))
    if message[2] & 0x80:
        flow.traits.add("dns-response")
    common = (1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 48, 64, 65)
    if kind == 10 or kind >= 65280:
        flow.traits.add("dns-null-type")
    elif kind == 16:
        flow.traits.add("dns-txt-type")
    elif kind not in common:
        flow.traits.add("dns-rare-type")
    length = sum(1 + len(name) for name in names)
    if length - 1 >= 100:
        flow.traits.add("dns-long-name")
    if any(len(name) >= 40 for name in names):
        flow.traits.add("dns-long-label")
    if data_like(names):
        flow.traits.add("dns-high-entropy")
    return dns_tunnel(names, kind) or "dns"


def question_text(names: list[bytes]) -> bytes:
    text = b""
    for name in names:
        if len(text) + len(name) + 1 > 254:
            break
        text += b"." * bool(text) + re.sub(rb"[^0-9A-Za-z_=+/*@-]", b"?", name).lower()
    return text


def data_like(names: list[bytes]) -> bool:
    leading = names[:-2]
    text = b"".join(leading).lower()
    if len(text) < 24:
        return False
    turns = sum(chr(a).isdigit() != chr(b).isdigit() for name in leading for a, b in itertools.pairwise(name))
    high = sum(byte >= 128 for byte in text)
    if 5 * turns >= len(text) or 8 * high >= len(text):
        return True
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy >= 4.3


def dns_tunnel(names: list[bytes], kind: int) -> str | None:
    if not names:
        return None
    first = names[0]
    if first.lower() == b"dnscat":
        return "dnscat2"
    if kind in (5, 15, 16) and len(first) >= 6:
        digits = 0
        for name in names[: max(len(names) - 2, 0)]:
            if not re.fullmatch(rb"[0-9a-fA-F]*", name):
                break
            digits += len(name)
        if (digits >= 18 and digits % 2 == 0 and digits not in (32, 40, 56, 64, 96, 128)) and (
            re.fullmatch(rb"0[0-3]|[fF]{2}", first[4:6])
        ):
            return "dnscat2"
    if first.lower().startswith(b"vaaaaka") and len(first) >= 10:
        return "iodine"
    if any(probe in first for probe in (b"aA-Aaahhh-Drink", b"aA-La-fl", b"aAbBcCdDeEfFgGhH")):
        return "iodine"
    if kind in (16, 25) and any(has(name, rb"=(auth|connect|resource)") for name in names):
        return "dns2tcp"
    return "iodine" if len(names) >= 3 and kind in (10, 65399) else None


def name_at(message: bytes, at: int) -> bytes | None:
    """The name at ``at``, pointers followed: each to somewhere before where it was come from."""
    labels: list[bytes] = []
    floor, jumps = at, 0
    while at < len(message):
        size = message[at]
        if size >= 0xC0:
            if at + 2 > len(message):
                return None
            at = big(message[at : at + 2]) & 0x3FFF
            jumps += 1
            if at >= floor or jumps > 8:
                return None
            floor = at
        elif size == 0:
            return question_text(labels) or None
        else:
            labels.append(message[at + 1 : at + 1 + size])
            too_long = sum(1 + len(label) for label in labels) > 254
            if size > 63 or at + 1 + size > len(message) or too_long:
                return None
            at += 1 + size
    return None


def over_name(message: bytes, at: int) -> int | None:
    """Where the name at ``at`` ends, pointers not followed."""
    for _ in range(128):
        if at >= len(message):
            return None
        size = message[at]
        if size >= 0xC0:
            return at + 2 if at + 2 <= len(message) else None
        if size > 63:
            return None
        at += 1 + size
        if not size:
            return at
    return None


def dns_answer(
    data: bytes, transport: int, rows: int = 24, room: int = 512
) -> tuple[bytes, list[tuple[bytes, int]]]:
    """The names that an answer is about, NUL between them, and its addresses, each with its time to live."""
    question = dns_question(data, transport)
    if not question or not question[0][2] & 0x80:
        return b"", []
    message, names, _ = question
    text = question_text(names)
    found: list[tuple[bytes, int]] = []
    at = over_name(message, 12) + 4
    for _ in range(big(message[6:8])):
        end = over_name(message, at)
        if end is None or end + 10 > len(message) or len(found) == rows:
            break
        kind, group, size = big(message[end : end + 2]), big(message[end + 2 : end + 4]), end + 10
        at = size + big(message[end + 8 : end + 10])
        if at > len(message):
            break
        if group & 0x7FFF != 1:
            continue
        data = message[size:at]
        if (kind, len(data)) in ((1, 4), (28, 16)):
            found.append((data, big(message[end + 4 : end + 8])))
        elif kind == 5 and (alias := name_at(message, size)):
            longer = text + b"\0" * bool(text) + alias
            # while it is written, there is room for a dot behind each label
            if len(longer) < room:
                text = longer
    return text, found
