# SPDX-License-Identifier: Apache-2.0
"""The first bytes of flows: exactly those, whoever sent them and however, and then nothing more."""

from __future__ import annotations

import itertools
import json
import random
from collections import defaultdict
from pathlib import Path

import pytest
from harness import First, Recording, record, talker, workload
from talkers import stream

FIRST_BYTES, SEGMENTS = 512, 8


def said(found: Recording) -> dict[tuple[int, bool], list[First]]:
    """First bytes by (cookie, sent), in order. Nothing was lost."""
    assert found.status == 0
    assert found.summary is not None
    assert found.summary.lost_total == 0
    for kind, sent in found.summary.sent.items():
        assert found.summary.received[kind] == sent, kind
    flows = defaultdict(list)
    for first in found.firsts():
        flows[first.cookie, first.sent].append(first)
    return dict(flows)


def model(sizes: list[int], *, stream_of_bytes: bool) -> list[tuple[int, int, int, bool]]:
    """(segment, bytes so far, first, last) for each record of a direction in which this is sent."""
    rows, have = [], 0
    for number, size in enumerate(sizes, 1):
        have = min(have + size, FIRST_BYTES)
        last = not stream_of_bytes or have == FIRST_BYTES or number == SEGMENTS
        rows.append((number, have, min(sizes[0], 0xFFFF), last))
        if last:
            break
    return rows


def check(events: list[First], bytes_said: bytes, expected: list[tuple[int, int, int, bool]]) -> None:
    rows = [(e.segment, len(e.data), e.first, e.has("FIRST_LAST")) for e in events]
    assert rows == expected
    for e in events:
        assert e.data == bytes_said[: len(e.data)]
        assert not e.has("FIRST_DISORDERED")
        assert not e.has("FIRST_LATE")


def run_talks(tmp_path: Path, talks: list[dict]) -> tuple[Recording, list[dict[str, list[First]]]]:
    """The talks, and what was told of each: by client-sent, client-received, server-sent, …"""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(talks))
    found = record(talker("converse", plan))
    flows = said(found)
    ends = iter(dict.fromkeys(int(e["cookie"]) for e in found.of("connect")))
    accepted = iter(int(e["cookie"]) for e in found.of("flow-open") if int(e["flags"]) & 1)
    told = []
    for talk in talks:
        client = next(ends)
        server = next(accepted) if talk["transport"] == "tcp" else next(ends)
        told.append(
            {
                "client-sent": flows.pop((client, True), []),
                "client-received": flows.pop((client, False), []),
                "server-sent": flows.pop((server, True), []),
                "server-received": flows.pop((server, False), []),
            }
        )
    assert not flows
    return found, told


def talk(rng: random.Random, address: str, transport: str) -> dict:
    def sizes() -> list[int]:
        kind = rng.randrange(4)
        if kind == 0:
            return [1] * rng.randrange(1, 12)
        if kind == 1:
            return [rng.randrange(1, 20_000)]
        if kind == 2:
            return [rng.choice([1, 63, 64, 255, 256, 511, 512, 513]) for _ in range(rng.randrange(4))]
        return [rng.randrange(1, 200) for _ in range(rng.randrange(12))]

    return {
        "address": address,
        "transport": transport,
        "client": sizes(),
        "server": sizes(),
        "how": "send",
    }


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_exactly_the_first_bytes(tmp_path: Path, address: str, transport: str):
    rng = random.Random(f"{address}{transport}")
    talks = [talk(rng, address, transport) for _ in range(100)]
    found, told = run_talks(tmp_path, talks)
    for number, (planned, events) in enumerate(zip(talks, told, strict=True)):
        for side, other in (("client", "server"), ("server", "client")):
            sizes = planned[side]
            expected = model(sizes, stream_of_bytes=transport == "tcp")
            whole = stream(f"{number}{side}", sum(sizes))
            if transport == "udp" and sizes:
                whole = whole[: sizes[0]]
            check(events[f"{side}-sent"], whole, expected)
            check(events[f"{other}-received"], whole, expected)
        for name, firsts in events.items():
            for e in firsts:
                assert e.owner == found.root
                assert e.accepted == (transport == "tcp" and name.startswith("server"))


@pytest.mark.parametrize("how", ["sendmsg", "writev", "sendfile", "splice"])
def test_however_it_is_sent(tmp_path: Path, how: str):
    sizes = [100, 30, 900]
    talks = [
        {"address": a, "transport": "tcp", "client": sizes, "server": sizes[::-1], "how": how}
        for a in ("127.0.0.1", "::1")
    ]
    _, told = run_talks(tmp_path, talks)
    for number, events in enumerate(told):
        for name, side in (
            ("client-sent", "client"),
            ("server-received", "client"),
            ("server-sent", "server"),
            ("client-received", "server"),
        ):
            whole = stream(f"{number}{side}", sum(sizes))
            assert all(e.data == whole[: len(e.data)] for e in events[name])
            assert events[name][-1].data == whole[:FIRST_BYTES]
            assert events[name][-1].has("FIRST_LAST")


def test_through_io_uring():
    flows = said(record(workload("io_uring_send", 300)))
    assert {e[-1].data for e in flows.values()} == {b"u" * 300}
    assert sorted(sent for _, sent in flows) == [False, True]


def test_nothing_more_is_told_of_much():
    found = record(talker("bulk", 10_000_000))
    for events in said(found).values():
        assert len(events) <= SEGMENTS
        assert events[-1].data == stream("bulk", FIRST_BYTES)
        assert events[-1].has("FIRST_LAST")
        assert len(events) == 1 or not events[0].has("FIRST_LAST")
    assert len(said(found)) == 4


def test_a_socket_that_connects_again_starts_anew():
    sizes = (40, 10, 600, 3)
    found = record(talker("again"))
    said(found)
    for protocol in (6, 17):
        own = [e for e in found.firsts() if e.fixed["protocol"] == protocol and not e.accepted]
        sent = [e for e in own if e.sent]
        assert len({e.cookie for e in sent}) == 1
        for number, (e, size) in enumerate(zip(sent, sizes, strict=True)):
            check([e], stream(f"again{number}", size), model([size], stream_of_bytes=protocol == 6))
            assert e.owner == found.root
        if protocol == 6:
            for number, (e, size) in enumerate(zip([e for e in own if not e.sent], sizes, strict=True)):
                check([e], stream(f"answer{number}", size), model([size], stream_of_bytes=True))


def test_the_first_datagram_to_each_destination():
    found = record(talker("datagrams_to", 5, 3))
    said(found)
    sent = [e for e in found.firsts() if e.sent]
    assert [e.data for e in sent] == [stream(f"{number}.0", 20) for number in range(5)]
    assert len({e.far_port for e in sent}) == 5
    received = [e for e in found.firsts() if not e.sent]
    assert [e.data for e in received] == [e.data for e in sent]


def test_two_processors_at_one_socket_at_once():
    """One sends from it, to someone else each time, while the other sends to it: both need what is kept for it."""
    found = record(workload("crossfire", 20000), keep_events=False)
    assert found.status == 0
    assert found.summary.reasons["sock-storage"] == 0


def test_every_message_to_a_name_server(tmp_path: Path):
    rng = random.Random(53)
    datagrams = [rng.randbytes(rng.choice([1, 17, 511, 512, 513, 1400])) for _ in range(200)]
    listing = tmp_path / "datagrams.json"
    listing.write_text(json.dumps([d.hex() for d in datagrams]))
    found = record(talker("datagrams_of", listing, 53))
    for events in said(found).values():
        assert [e.data for e in events] == [d[:FIRST_BYTES] for d in datagrams]
        assert [e.first for e in events] == [len(d) for d in datagrams]
        assert not any(e.has("FIRST_LAST") for e in events)
    assert len(said(found)) == 2


@pytest.mark.guest
def test_every_ping():
    """Over loopback the socket gets its own requests, too; the kernel answers each."""
    sizes = [100, 1, 600, 16]
    flows = said(record(talker("pings", *sizes)))
    assert {sent for _, sent in flows} == {False, True}
    pings = [stream(f"ping{number}", size) for number, size in enumerate(sizes)]
    for (_, sent), events in flows.items():
        expected = [(8, ping) for ping in pings]
        if not sent:
            expected = [(kind, ping) for ping in pings for kind in (8, 0)]
        assert [(int(e.fixed["icmp_type"]), e.data) for e in events] == [
            (kind, ping[:FIRST_BYTES]) for kind, ping in expected
        ]
        assert [e.first for e in events] == [len(ping) for _, ping in expected]
        assert all(e.fixed["protocol"] == 1 for e in events)


def handshake_data(found: Recording, name: str, number: int) -> None:
    """Of each connection, both ends' records: each a beginning of the stream, the last of them all of it."""
    said(found)
    port = min(e.port for e in found.firsts() if not e.sent)
    by_client = defaultdict(list)
    for e in found.firsts():
        by_client[e.port if e.sent else e.far_port, e.sent].append(e)
    clients = [int(e["cookie"]) for e in found.of("connect")]
    assert port > 0
    assert len(clients) == number
    for n, cookie in enumerate(clients):
        whole = stream(f"{name}{n}", 300)
        (own,) = {e.port for e in found.firsts() if e.cookie == cookie}
        for sent in (True, False):
            events = by_client[own, sent]
            assert [e.data for e in events] == [whole[:200], whole], (n, sent)
            assert [e.accepted for e in events] == [not sent] * 2


def test_data_in_the_first_segment_of_the_handshake():
    handshake_data(record(talker("fast_open", 12)), "open", 12)


def test_data_in_the_last_segment_of_the_handshake():
    handshake_data(record(talker("late_ack", 12)), "late", 12)


def test_a_child_talks_on_its_parents_socket():
    found = record(talker("inherited"))
    flows = said(found)
    assert len(flows) == 2
    for (event,) in flows.values():
        assert event.data == stream("child", 30)
        assert event.owner == found.root


def orders(rng: random.Random) -> list[list[tuple[int, int]]]:
    """Segments as they arrive: all orders of three, and random ones of up to six, some of them twice."""
    pieces = [(0, 100), (100, 30), (130, 500)]
    found = [list(p) for p in itertools.permutations(pieces)]
    for _ in range(60):
        cuts = sorted(rng.sample(range(1, 700), rng.randrange(6)))
        parts = [(a, b - a) for a, b in itertools.pairwise([0, *cuts, 700])]
        rng.shuffle(parts)
        for _ in range(rng.randrange(3)):
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        found.append(parts)
    return found


def test_out_of_order(tmp_path: Path):
    """Whatever the order: what is told is a beginning of the stream; with one hole at a time, all of it."""
    plan = tmp_path / "plan.json"
    planned = orders(random.Random(11))
    plan.write_text(json.dumps(planned))
    found = record(talker("disordered", plan))
    said(found)
    by_port = defaultdict(list)
    for e in found.firsts():
        assert not e.sent
        by_port[e.far_port].append(e)
    for number, order in enumerate(planned):
        whole = stream(f"disorder{number}", max(at + size for at, size in order))
        events = by_port[1000 + number]
        assert events, (number, order)
        for e in events:
            assert e.data == whole[: len(e.data)], (number, order)
        if number < 6:
            assert events[-1].data == whole[:FIRST_BYTES], (number, order)
