# SPDX-License-Identifier: Apache-2.0
"""Pings that carry data: the detector against its twin, and what is a tunnel and what isn't."""

from __future__ import annotations

import hashlib
import struct
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records
from behaviour import SECOND, batched, engine_with, told_by
from naive_pings import NaivePings

from bench import synthetic

RANKS = {"medium": 1, "high": 2}
ICMP, ICMPV6 = 1, 58
ANSWER, ECHO, UNREACHABLE = 0, 8, 3
FAR, OTHER, HERE = "198.51.100.7", "2001:db8::7", "127.0.0.1"


engine = partial(engine_with, "icmp", 64, 256)
told = partial(told_by, "tunnel.icmp-data")


class World:
    def __init__(self) -> None:
        self.now = SECOND
        self.records = [synthetic.execute(100, 1, 1, [b"python3"], b"/usr/bin/python3.11")]

    def ping(
        self, payload: bytes, remote: str = FAR, seconds: float = 0.1, *, received: bool = False, kind: int = ECHO,
        pid: int = 100,
    ) -> None:  # fmt: skip
        transport = ICMPV6 if ":" in remote else ICMP
        self.records.append(
            records.first(
                payload[:512], remote, 0, protocol=transport, icmp_type=kind, received=received, tgid=pid, ts=self.now,
                first=len(payload), local_port=0,
            )
        )  # fmt: skip
        self.now += int(seconds * SECOND)


def stamp(now: int) -> bytes:
    return struct.pack("<QQ", now // SECOND, now % SECOND // 1000)


def noise(number: int, size: int) -> bytes:
    return hashlib.shake_128(b"%d" % number).digest(size)


PAYLOADS = st.one_of(
    st.sampled_from(
        [b"", b"id\n", b"t" * 16 + bytes(range(16, 56)), b"u" * 16 + bytes(range(16, 30)), b"x" * 100]
    ),
    st.builds(noise, st.integers(0, 9), st.sampled_from([3, 16, 23, 24, 25, 80, 90, 200])),
)
STEPS = st.lists(
    st.tuples(
        PAYLOADS, st.sampled_from([FAR, OTHER]), st.booleans(), st.sampled_from([True, True, True, False]),
        st.sampled_from([0.1, 0.1, 3.0]), st.integers(1, 4),
    ),
    max_size=40,
)  # fmt: skip
LIMITS = st.fixed_dictionaries(
    {
        "packets": st.sampled_from([2, 3, 8]),
        "changed_bytes": st.sampled_from([1, 8, 64]),
        "window_s": st.sampled_from([10, 900]),
    }
)


@settings(max_examples=200, deadline=None)
@given(STEPS, LIMITS, st.lists(st.integers(1, 40), max_size=20))
def test_agrees_with_the_twin_for_any_batching(steps, limits, sizes):
    world, twin = World(), NaivePings(limits)
    expected = []
    for payload, remote, received, echo, seconds, times in steps:
        transport = ICMPV6 if ":" in remote else ICMP
        kind = UNREACHABLE if not echo else (129 if transport == ICMPV6 else ANSWER)
        for _ in range(times):
            rank = twin.ping(remote, payload, world.now, received=received, transport=transport, kind=kind)
            if rank is not None:
                expected.append((world.now, rank))
            world.ping(payload, remote, seconds, received=received, kind=kind)
    whole = told(engine(**limits), world.records)
    assert told(engine(**limits), *batched(world.records, sizes)) == whole
    assert [(when, RANKS[severity]) for when, _, severity, _ in whole] == expected


def test_data_both_ways_is_high_and_says_what_there_was():
    world = World()
    for number in range(60):
        world.ping(noise(number, 1000))
        world.ping(noise(1000 + number, 900), received=True, kind=ANSWER)
    first, second = told(engine(), world.records)
    assert (first[1:3], second[1:3]) == ((100, "medium"), (100, "high"))
    evidence = second[3]
    assert evidence["facts"] == ["external", "unresolved", "pings-carry-data", "answers-carry-data"]
    assert evidence["remote_address"] == FAR
    assert evidence["transport"] == "icmp"
    assert (evidence["sent"], evidence["sent_changed"]) == (25, 24)
    assert (evidence["received"], evidence["received_not_sent"]) == (24, 24)
    assert evidence["sent_bytes"] == 25_000
    assert evidence["payload"]


def test_a_shells_commands_in_answers_to_empty_polls_are_told():
    world = World()
    for number in range(40):
        world.ping(b"")
        world.ping(b"ls -la %d" % number, received=True, kind=ANSWER)
    assert [
        (severity, evidence["received_not_sent"]) for *_, severity, evidence in told(engine(), world.records)
    ] == [("medium", 24)]


def test_a_file_that_leaves_by_a_process_for_each_ping_is_told():
    world = World()
    for number in range(40):
        world.records.append(synthetic.fork(500 + number, 100, world.now))
        world.ping(stamp(world.now) + noise(number, 16), pid=500 + number)
        world.ping(world.records[-1][-32:], received=True, kind=ANSWER, pid=500 + number)
    [(_, who, severity, _)] = told(engine(), world.records)
    assert (who, severity) == (524, "medium")


PATTERN = bytes(range(16, 256)) * 8


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(lambda n, now: stamp(now) + PATTERN[:40], id="iputils"),
        pytest.param(lambda n, now: stamp(now) + PATTERN[:1384], id="iputils-large"),
        pytest.param(lambda n, now: stamp(now)[:8] + PATTERN[:48], id="bsd"),
        pytest.param(lambda n, now: stamp(now) + PATTERN[: 100 + 8 * n % 1400], id="mtu-probing"),
        pytest.param(
            lambda n, now: (now // 1000 & 0xFFFFFFFF).to_bytes(4, "little") + bytes(52), id="busybox"
        ),
        pytest.param(lambda n, now: bytes(36), id="mtr"),
        pytest.param(lambda n, now: bytes(0x40 + (i & 0x3F) for i in range(32)), id="traceroute"),
        pytest.param(lambda n, now: b"abcdefghijklmnopqrstuvwabcdefghi", id="windows"),
        pytest.param(lambda n, now: b"", id="nmap"),
        pytest.param(lambda n, now: stamp(now)[:15], id="short"),
    ],
)
def test_pings_are_nothing(payload):
    world = World()
    for number in range(500):
        sent = payload(number, world.now)
        world.ping(sent)
        if number % 7:
            world.ping(sent, received=True, kind=ANSWER)
    assert told(engine(), world.records) == []


def test_errors_and_loopback_and_what_comes_slowly_are_nothing():
    for remote, seconds, kind in ((FAR, 0.1, UNREACHABLE), (HERE, 0.1, ECHO), (FAR, 60, ECHO)):
        world = World()
        for number in range(100):
            world.ping(noise(number, 200), remote, seconds, kind=kind)
            world.ping(noise(-number, 200), remote, 0, received=True, kind=kind)
        assert told(engine(), world.records) == []


def test_whoever_pings_many_places_pushes_out_no_tunnel():
    world = World()
    e = engine()
    for number in range(20):
        world.ping(noise(number, 200))
    for number in range(20_000):
        world.ping(b"x" * 40, f"198.18.{number >> 8}.{number & 255}", 0.001, pid=200)
    for number in range(20, 40):
        world.ping(noise(number, 200))
    assert len(told(e, world.records)) == 1
    assert e.table_losses()["ping-places-forgotten"] > 10_000


@pytest.mark.parametrize("whose", ["its own", "one each"])
def test_whoever_changes_what_he_sends_to_other_places_hides_nothing(whose: str):
    """Three pings to each of so many places that all are taken, and of so many new ones after each ping of the tunnel that
    one or more lie where it does.
    """
    world = World()
    at = 0

    def flood(places: int) -> None:
        nonlocal at
        for _ in range(places):
            at += 1
            for turn in range(3):
                place = f"198.{18 + at // 65536}.{at // 256 % 256}.{at % 256}"
                pid = 100 if whose == "its own" else 1000 + at
                world.ping(noise(at * 3 + turn, 60), place, 0.0001, pid=pid)

    flood(2000)
    for number in range(30):
        world.ping(noise(number, 200))
        flood(150)
    [(*_, evidence)] = told(engine(), world.records)
    assert evidence["remote_address"] == FAR
