# SPDX-License-Identifier: Apache-2.0
"""Addresses in DNS answers, whatever lies between."""

from __future__ import annotations

import ipaddress
import struct
import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.wire.dns import NAMES_TEXT, dns_answers
from tracer.detect.wire.spans import TCP, UDP

sys.path.insert(0, str(Path(__file__).parent.parent))
from naive_wire_dns import dns_answer
from wire_bytes import answer, labels, question, record

POINTER = b"\xc0\x0c"
V4, V6 = ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::7")


def answers(
    data: bytes, transport: int = UDP, rows: int = 8, guard: int = 0, room: int = NAMES_TEXT
) -> tuple[bytes, list[tuple[bytes, int]]]:
    array = np.full(len(data) + 600, guard, np.uint8)
    lo, hi = 300, 300 + len(data)
    array[lo:hi] = np.frombuffer(data, np.uint8)
    text = np.full(room, guard, np.uint8)
    found = np.full((rows, 4), -1, np.int64)
    count, length = dns_answers(array, lo, hi, transport, text, found)
    assert 0 <= count <= rows and 0 <= length <= room
    for at, size, _, zero in found[:count]:
        assert lo <= at and at + size <= hi and size in (4, 16) and zero == 0
    return bytes(text[:length]), [
        (bytes(array[at : at + size]), int(ttl)) for at, size, ttl, _ in found[:count]
    ]


def test_addresses():
    message = answer(b"A.example.org", record(POINTER, 1, V4.packed), record(POINTER, 28, V6.packed, 60))
    assert answers(message) == (b"a.example.org", [(V4.packed, 300), (V6.packed, 60)])
    assert answers(struct.pack(">H", len(message)) + message, TCP) == answers(message)


def test_a_stream_s_message_ends_where_it_says():
    message = answer(b"a.example", record(POINTER, 1, V4.packed))
    for short in range(1, 5):
        said = struct.pack(">H", len(message) - short) + message
        assert answers(said, TCP) == (b"a.example", [])
    alias = answer(b"a.example", record(POINTER, 5, b"\1a\0"))
    assert answers(struct.pack(">H", len(alias) - 1) + alias, TCP)[0] == b"a.example"


def test_names_between():
    chain = [
        record(POINTER, 5, b"\3cdn" + POINTER),
        record(b"\3cdn" + POINTER, 5, labels(b"far.example.net")),
        record(labels(b"far.example.net"), 1, V4.packed, 5),
        record(labels(b"far.example.net"), 46, b"\0" * 40),
        record(labels(b"far.example.net"), 1, V4.packed, 6),
    ]
    names = b"a.example\0cdn.a.example\0far.example.net"
    assert answers(answer(b"a.example", *chain)) == (names, [(V4.packed, 5), (V4.packed, 6)])


def test_aliases():
    address = record(POINTER, 1, V4.packed)

    def alias(data: bytes, *before: bytes, room: int = NAMES_TEXT) -> bytes:
        found, addresses = answers(
            answer(b"a.example", *before, record(POINTER, 5, data), address), room=room
        )
        assert addresses == [(V4.packed, 300)]
        return found.removeprefix(b"a.example").removeprefix(b"\0")

    assert alias(labels(b"Eu.Pool.test")) == b"eu.pool.test"
    assert alias(b"\2eu\4pool\xc0\x0e") == b"eu.pool.example"
    # the root, one that lacks its end, labels of a kind that never was, pointers to itself and onwards
    for data in (b"\0", b"\3eu", b"\x41a\0", b"\xc0", b"\xc0\x27", b"\1a\xc0\x27", b"\xc1\xff", b"\xff\xff"):
        assert alias(data) == b"", data
    # a chain of pointers: each leads back, and there may be eight
    message = answer(b"a.example")
    chain, at = [], len(message)
    where = 12
    for number in range(9):
        data = b"\1%d" % number + struct.pack(">H", 0xC000 | where)
        chain.append(record(POINTER, 5, data))
        where = at + 12
        at += len(chain[-1])
    names = answers(answer(b"a.example", *chain, address))[0].split(b"\0")
    assert len(names) == 1 + 8
    assert names[-1] == b"7.6.5.4.3.2.1.0.a.example"
    # what does not fit is left out, what comes behind it may fit
    assert alias(labels(b"x" * 60 + b".example"), room=70) == b""
    small, large = record(POINTER, 5, labels(b"b.c")), record(POINTER, 5, labels(b"x" * 60))
    assert answers(answer(b"a.example", large, small), room=40)[0] == b"a.example\0b.c"


BYTES = st.binary(max_size=12)
POINTERS = st.integers(0, 200).map(lambda at: struct.pack(">H", 0xC000 | at))
NAMES = st.lists(
    st.sampled_from([b"a", b"Eu", b"pool", b"\xff\x00.", b"x" * 63]).map(lambda x: bytes([len(x)]) + x)
    | BYTES,
    max_size=4,
).map(b"".join)
ENDS = st.just(b"\0") | POINTERS | BYTES
RECORDS = st.builds(
    record,
    POINTERS | st.builds(lambda a, b: a + b, NAMES, ENDS),
    st.sampled_from([1, 28, 5, 5, 16]),
    st.builds(lambda a, b: a + b, NAMES, ENDS) | st.sampled_from([V4.packed, V6.packed]),
)


@settings(max_examples=400)
@given(st.lists(RECORDS, max_size=12), st.sampled_from([TCP, UDP]), st.integers(0, 3), st.integers(0, 600))
def test_agrees_with_the_twin(records, transport, shift, cut):
    message = answer(b"a.example", *records)
    if transport == TCP:
        message = struct.pack(">H", max(len(message) - shift, 0)) + message
    message = message[:cut] if shift else message
    assert answers(message, transport, rows=24) == dns_answer(message, transport)


def test_what_is_no_answer():
    nothing = (b"", [])
    assert answers(b"") == answers(b"\0" * 12) == nothing
    assert answers(question(b"a.example")) == nothing
    assert answers(answer(b"a.example", record(POINTER, 1, V4.packed))[1:]) == nothing
    assert answers(answer(b"a.example")) == (b"a.example", [])
    odd = record(POINTER, 1, b"\1\2\3"), record(POINTER, 28, V4.packed)
    assert answers(answer(b"a.example", *odd)) == (b"a.example", [])


def test_pointers_that_go_nowhere():
    for pointer in (b"\xc0\xff", b"\xff\xff", b"\xc0\x0c"):
        message = answer(b"a.example", record(pointer, 1, V4.packed))
        assert answers(message) == (b"a.example", [(V4.packed, 300)])


def test_more_than_there_is_room_for():
    message = answer(b"a.example", *[record(POINTER, 1, bytes([10, 0, 0, n])) for n in range(20)])
    assert len(answers(message)[1]) == 8


def test_every_truncation():
    """What is whole is taken, and nothing else is made up."""
    message = answer(b"a.example", record(POINTER, 1, V4.packed), record(POINTER, 28, V6.packed))
    expected = answers(message)[1]
    for size in range(len(message)):
        found = answers(message[:size])[1]
        assert found == expected[: len(found)]
        assert answers(message[:size], guard=0xC0) == answers(message[:size], guard=1)
    assert answers(message[:-1])[1] == expected[:1]


def test_names_are_made_harmless():
    message = answer(b"\x1b[31m.a\xff.example", record(POINTER, 1, V4.packed))
    assert answers(message)[0] == b"??31m.a?.example"


@settings(max_examples=300)
@given(st.data())
def test_any_bytes(data):
    message = bytearray(
        answer(b"a.example", record(POINTER, 5, labels(b"b.c")), record(POINTER, 1, V4.packed))
    )
    for _ in range(data.draw(st.integers(0, 5))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    tail = data.draw(st.binary(max_size=40))
    transport = data.draw(st.sampled_from([TCP, UDP]))
    assert answers(bytes(message) + tail, transport) == answers(bytes(message) + tail, transport, guard=0xC0)
