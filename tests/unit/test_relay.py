# SPDX-License-Identifier: Apache-2.0
"""Relays: the detector against its twin, for any batching, and what makes one and what doesn't."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records
from behaviour import PACKS, SECOND, batched, engine_with, told_by
from naive_relay import NaiveRelays

from bench import synthetic
from tracer.detect import legs
from tracer.engine.engine import Engine
from tracer.rules import RuleSet

OUTSIDE, INSIDE = 0, 1
#: Where legs lead: side, address, port, accepted, whose.
LEGS = [
    (OUTSIDE, "203.0.113.1", 443, False, 100),
    (OUTSIDE, "203.0.113.2", 443, False, 101),
    (INSIDE, "127.0.0.1", 8000, False, 100),
    (INSIDE, "10.0.0.7", 5432, False, 100),
    (INSIDE, "127.0.0.1", 8080, True, 100),
    (INSIDE, "127.0.0.1", 8000, False, 102),
    (INSIDE, "fd00::5", 22, False, 103),
]


engine = partial(engine_with, "relay", 64, 64)
told = partial(told_by, "tunnel.relay")


class World:
    """A shell (100) and two commands of its pipeline (101, 102), a stranger's grandchild (103)."""

    def __init__(self) -> None:
        self.now = SECOND
        self.records = [
            synthetic.execute(90, 1, 1, [b"python3", b"agent.py"], b"/usr/bin/python3.11"),
            synthetic.fork(100, 90, 1),
            synthetic.execute(100, 90, 1, [b"sh"], b"/usr/bin/dash"),
            synthetic.fork(101, 100, 1),
            synthetic.fork(102, 100, 1),
            synthetic.fork(91, 90, 1),
            synthetic.fork(103, 91, 1),
        ]

    def move(self, leg: int, got: int, gave: int, packets: tuple[int, int] | None = None) -> None:
        _, address, port, accepted, who = LEGS[leg]
        got_packets, gave_packets = packets or (int(got > 0), int(gave > 0))
        ends = {"local_port": port, "flags": 1} if accepted else {}
        self.records.append(
            records.sample(
                leg + 1,
                address,
                50000 if accepted else port,
                tgid=who,
                ts=self.now,
                received=got,
                sent=gave,
                received_packets=got_packets,
                sent_packets=gave_packets,
                **ends,
            )
        )

    def end(self, seconds: float = 0.1) -> None:
        self.records.append(records.sample(0, ts=self.now))
        self.now += int(seconds * SECOND)


RELATED = {(100, 101), (100, 102), (101, 102), (90, 100)}


def related(one: int, other: int) -> bool:
    return (min(one, other), max(one, other)) in RELATED


SIZES = st.sampled_from([0, 0, 1, 40, 300, 1000, 5000, 70000])
PASSES = st.lists(
    st.tuples(
        # what a relay carries: outside leg, inside leg, in, back, more over the connection outside
        st.lists(
            st.tuples(st.sampled_from([0, 1]), st.integers(2, 6), SIZES, SIZES, st.sampled_from([0, 30, 90, 400])),
            max_size=2,
        ),
        # and what has nothing to do with it
        st.lists(st.tuples(st.integers(0, 6), SIZES, SIZES), max_size=1),
        st.sampled_from([0.1, 0.1, 0.1, 0.1, 3.0, 12.0]),
    ),
    max_size=30,
)  # fmt: skip
STEADY = st.builds(
    lambda outer, inner, sizes: [([(outer, inner, a, b, 30)], [], 0.1) for a, b in sizes],
    st.sampled_from([0, 1]), st.integers(2, 6), st.lists(st.tuples(SIZES, SIZES), min_size=5, max_size=15),
)  # fmt: skip
LIMITS = st.fixed_dictionaries(
    {
        "exchanges": st.sampled_from([2, 3, 5]),
        "bytes": st.sampled_from([256, 2048]),
        "changes": st.sampled_from([1, 3]),
        "apart_percent": st.sampled_from([1, 25, 100]),
        "back_times": st.sampled_from([1, 8]),
        "window_s": st.just(10),
    }
)


def play(passes, limits):
    world = World()
    twin = NaiveRelays(PACKS.thresholds["relay"] | limits, related, lambda _: 0)

    def move(leg, got, gave, packets=None):
        if got or gave:
            side, _, _, accepted, who = LEGS[leg]
            got_packets, gave_packets = packets or (int(got > 0), int(gave > 0))
            world.move(leg, got, gave, (got_packets, gave_packets))
            twin.move(side, leg, who, accepted, got, gave, got_packets, gave_packets, world.now)

    for carried, noise, pause in passes:
        for outer, inner, in_bytes, back, more in carried:
            move(outer, in_bytes + (more if in_bytes else 0), back + (more if back else 0))
            move(inner, back, in_bytes)
        for leg, got, gave in noise:
            move(leg, got, gave)
        twin.end_pass(world.now)
        world.end(pause)
    return world.records, twin.told


@settings(max_examples=200, deadline=None)
@given(st.one_of(PASSES, STEADY, st.tuples(STEADY, PASSES, STEADY).map(lambda t: [*t[0], *t[1], *t[2]])), LIMITS,
       st.lists(st.integers(1, 40), max_size=20))  # fmt: skip
def test_agrees_with_the_twin_for_any_batching(passes, limits, sizes):
    played, expected = play(passes, limits)
    whole = told(engine(**limits), played)
    assert told(engine(**limits), *batched(played, sizes)) == whole

    def summed(found):
        """Of one leg outside: the first time, and the severest. Of two pairs of a pass either may be first."""
        return {
            who: (min(t for t, w, _ in found if w == who), max(r for _, w, r in found if w == who))
            for who in {w for _, w, _ in found}
        }

    ranks = {"medium": 1, "high": 2}
    assert summed([(t, w, ranks[s]) for t, w, s, _ in whole]) == summed(expected)


def tunnel(world: World, outer: int = 0, inner: int = 2, rounds: int = 8, **more: int) -> None:
    for number in range(rounds):
        asked, said = 60 + 41 * (number % 5), 200 + 150 * (number % 4)
        world.move(outer, asked + more.get("over", 40), said + more.get("over", 40))
        world.move(inner, said, asked)
        world.end()


def test_what_comes_in_outside_and_goes_on_inside_is_a_relay():
    world = World()
    tunnel(world)
    [(when, who, severity, evidence)] = told(engine(), world.records)
    assert (who, severity) == (100, "high")
    assert when == SECOND + 4 * SECOND // 10
    assert evidence["remote_address"] == "203.0.113.1"
    assert evidence["inside"] == "127.0.0.1, port 8000"
    assert evidence["facts"] == ["relays-inward"]
    assert evidence["in"]["together"] == evidence["back"]["together"] == 5
    assert evidence["in"]["outside_bytes"] == evidence["in"]["inside_bytes"] + 5 * 40


def test_whoever_is_let_out_is_medium():
    world = World()
    tunnel(world, inner=4)
    [(_, _, severity, evidence)] = told(engine(), world.records)
    assert severity == "medium"
    assert evidence["inside"] == "127.0.0.1, our port 8080"
    assert evidence["facts"] == ["relays-outward"]


@pytest.mark.parametrize(
    ("outer", "inner", "is_told"), [(1, 5, True), (0, 5, True), (0, 6, False), (1, 2, True)]
)
def test_relatives_count_and_strangers_do_not(outer: int, inner: int, is_told: bool):
    world = World()
    tunnel(world, outer, inner)
    found = told(engine(), world.records)
    assert bool(found) == is_told
    if is_told and LEGS[outer][4] != LEGS[inner][4]:
        assert found[0][3]["inside_pid"] == LEGS[inner][4]
        assert "by-relatives" in found[0][3]["facts"]


def test_one_is_told_of_once():
    world = World()
    tunnel(world, rounds=60)
    assert len(told(engine(), world.records)) == 1


def test_a_loader_that_asks_for_more_than_it_is_asked_is_none():
    world = World()
    for number in range(60):
        size = 300_000 + 9_000 * (number % 5)
        world.move(0, size + 200, 420, (220, 1))  # a GET for each object
        world.move(2, 5, size, (1, 220))  # "next"
        world.end()
    assert told(engine(), world.records) == []


def test_a_loader_that_streams_one_object_is_none():
    world = World()
    for number in range(60):
        size = 300_000 + 9_000 * (number % 5)
        world.move(0, size, 420 if number == 0 else 0, (220, 1))
        world.move(2, 40 + number % 7, size, (1, 220))  # whoever is fed says so
        world.end()
    assert told(engine(), world.records) == []


def test_a_conversation_outside_about_one_inside_is_none():
    world = World()
    for number in range(60):
        question, answer = 90 + 31 * (number % 5), 400 + 90 * (number % 7)
        world.move(0, 700 + question, 3000 + number * answer)  # the model, told all of it each time
        world.move(2, answer, question + 150)
        world.end()
    assert told(engine(), world.records) == []


def test_heartbeats_of_one_period_are_none():
    world = World()
    for _ in range(200):
        world.move(0, 80, 80)
        world.move(2, 60, 60)
        world.end()
    assert told(engine(), world.records) == []


def test_connections_that_move_one_without_the_other_are_none():
    world = World()
    for number in range(60):
        if number % 2:
            world.move(0, 4000 + number, 500 + number)
        elif number % 4:
            world.move(2, 300 + number, 3000 + number)
        world.end()
    assert told(engine(), world.records) == []


def test_what_arrives_in_one_sample_may_go_on_in_the_next():
    world = World()
    tunnel(world, rounds=1)
    for number in range(10):
        size = 300 + 90 * (number % 4)
        world.move(0, size + 40, 0)
        world.end()
        world.move(2, size * 2, size)
        world.end()
        world.move(0, 0, size * 2 + 40)
        world.end()
    assert [row[2] for row in told(engine(), world.records)] == ["high"]


def test_short_connections_to_one_place_count_together_with_what_they_said_last():
    world = World()
    for number in range(8):
        asked, said = 60 + 41 * (number % 5), 200 + 150 * (number % 4)
        world.move(0, asked + 40, said + 40)
        world.records.append(
            records.close(
                900 + number,
                "127.0.0.1",
                8000,
                tgid=100,
                ts=world.now,
                established=1,
                sent=asked,
                received=said,
                sent_last=asked,
                received_last=said,
            )
        )
        world.end()
    assert [row[2] for row in told(engine(), world.records)] == ["high"]


def test_of_a_late_one_the_port_says_who_opened_it():
    world = World()
    late = {"flags": 8}
    for number in range(8):
        size = 100 + 300 * (number % 3)
        world.move(0, size + 40, size + 40)
        for port, local in ((50000, 8080), (8080, 45000)):
            world.records.append(
                records.sample(
                    7,
                    "127.0.0.1",
                    port,
                    tgid=100,
                    ts=world.now,
                    received=size,
                    sent=size,
                    received_packets=1,
                    sent_packets=1,
                    local_port=local,
                    **late,
                )
            )
        world.end()
    found = told(engine(), world.records)
    assert {severity for _, _, severity, _ in found} == {"medium", "high"} or found[0][2] == "high"
    assert all("late-relay" in evidence["facts"] for *_, evidence in found)


def test_without_thresholds_nothing_is_told():
    world = World()
    tunnel(world)
    e = Engine(RuleSet(PACKS.groups, PACKS.rules, thresholds={}), processes=64, flows=64)
    assert told(e, world.records) == []


def test_what_finds_no_place_is_counted():
    e = engine()
    world = World()
    for place in range(len(e.state.relays.legs) * 2):
        remote = "10.0.0.9" if place % 2 else "203.0.113.9"
        world.records.append(
            records.sample(place + 1, remote, 1 + place, tgid=100, ts=world.now, received=1, sent=1)
        )
    world.end()
    told(e, world.records)
    losses = e.table_losses()
    assert losses["relay-legs-dropped"] >= len(e.state.relays.legs)
    assert losses["relay-legs-not-compared"] > 0
    assert len(e.state.relays.legs) > 4 * legs.NEAR
