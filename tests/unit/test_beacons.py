# SPDX-License-Identifier: Apache-2.0
"""Check-ins at even intervals: the detector against its twin, and what is a beacon and what isn't."""

from __future__ import annotations

import random
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
from naive_beacon import NaiveBeacons
from wire_bytes import answer, record

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.kernel import schema

PLACE, OTHER = ("203.0.113.1", 443), ("203.0.113.1", 8443)
PARENTS = {90: None, 100: 90, 101: 100}
RANKS = {"low": 0, "medium": 1}


engine = partial(engine_with, "beacon", 256, 256)
told = partial(told_by, "tunnel.beacon")


class World:
    def __init__(self) -> None:
        self.now = SECOND
        self.cookie = 0
        self.records = [
            synthetic.execute(90, 1, 1, [b"python3", b"agent.py"], b"/usr/bin/python3.11"),
            synthetic.fork(100, 90, 1),
            synthetic.execute(100, 90, 1, [b"sh"], b"/usr/bin/dash"),
            synthetic.fork(101, 100, 1),
        ]

    def connect(self, who: int = 101, place: tuple[str, int] = PLACE) -> int:
        self.cookie += 1
        self.records.append(records.connect(*place, tgid=who, ts=self.now, cookie=self.cookie))
        return self.cookie

    def sample(
        self,
        cookie: int,
        sent: int,
        received: int,
        who: int = 101,
        place: tuple[str, int] = PLACE,
        **more: int,
    ) -> None:
        self.records.append(
            records.sample(cookie, *place, tgid=who, ts=self.now, sent=sent, received=received, **more)
        )

    def close(
        self, cookie: int, sent: int, received: int, who: int = 101, place: tuple[str, int] = PLACE
    ) -> None:
        self.records.append(
            records.close(
                cookie, *place, tgid=who, ts=self.now, established=1, sent=sent, received=received,
                sent_last=sent, received_last=received,
            )
        )  # fmt: skip

    def visit(
        self, sent: int = 700, received: int = 3000, who: int = 101, place: tuple[str, int] = PLACE
    ) -> None:
        cookie = self.connect(who, place)
        self.now += SECOND // 50
        self.close(cookie, sent, received, who, place)

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("visit"), st.integers(0, 3), st.booleans(), st.sampled_from([0, 90, 700, 90_000])),
        st.tuples(st.just("visits"), st.integers(0, 3), st.sampled_from([0.2, 0.5, 2.0]), st.integers(3, 9)),
        st.tuples(st.just("children"), st.integers(0, 3), st.sampled_from([0.5, 2.0]), st.integers(3, 9)),
        st.tuples(st.just("open"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("says"), st.integers(0, 3), st.sampled_from([0, 90, 700]), st.sampled_from([0, 90])),
        st.tuples(st.just("talks"), st.integers(0, 3), st.sampled_from([0.5, 2.0]), st.sampled_from([40, 300])),
        st.tuples(st.just("fork"), st.integers(0, 9)),
        st.tuples(st.just("exit"), st.integers(1, 9)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 0.4, 0.5, 0.55, 2.0, 2.1])),
    ),
    max_size=25,
)  # fmt: skip
LIMITS = st.fixed_dictionaries(
    {
        "intervals": st.sampled_from([3, 4, 8]),
        "jitter_percent": st.sampled_from([1, 25, 60]),
        "least_ms": st.sampled_from([100, 300]),
        "most_bytes": st.sampled_from([64, 16384]),
        "keep_alive_bytes": st.just(128),
        "window_s": st.just(3600),
    }
)


def play(steps, limits):
    world, twin = World(), NaiveBeacons(limits, PARENTS)
    people, open_, expected = [90, 100, 101], [], []

    def note(said):
        if said is not None:
            expected.append((world.now, *said))

    def connect(who, place):
        cookie = world.connect(who, place)
        twin.connect(cookie, who, place, world.now)
        return cookie

    def visit(who, place=PLACE, sent=700):
        cookie = connect(who, place)
        world.now += SECOND // 50
        world.close(cookie, sent, 90, who, place)
        note(twin.carry(cookie, sent, 90, world.now, ends=True))

    def fork(parent):
        if len(people) < 200:
            people.append(200 + len(people))
            world.records.append(synthetic.fork(people[-1], parent, world.now))
            twin.fork(people[-1], parent)
        return people[-1]

    def leave(who):
        world.records.append(synthetic.exit_(who, world.now))
        twin.alive.discard(who)

    for what, number, *more in steps:
        if what == "wait":
            world.wait(number)
            continue
        if what in ("says", "talks"):
            if not open_:
                continue
            cookie, who, place = open_[number % len(open_)]
            pause, amounts = (0, [more]) if what == "says" else (more[0], [(more[1], 60)] * 9)
            for sent, received in amounts:
                if sent or received:
                    world.sample(cookie, sent, received, who, place)
                    note(twin.carry(cookie, sent, received, world.now))
                world.wait(pause)
            continue
        who = people[number % len(people)]
        if who not in twin.alive:
            continue
        if what == "visit":
            visit(who, PLACE if more[0] else OTHER, more[1])
        elif what == "visits":
            for _ in range(more[1]):
                visit(who)
                world.wait(more[0])
        elif what == "children":
            for _ in range(more[1]):
                child = fork(who)
                visit(child) if child in twin.alive else None
                leave(child)
                world.wait(more[0])
        elif what == "open":
            place = PLACE if more[0] else OTHER
            open_.append((connect(who, place), who, place))
        elif what == "fork":
            fork(who)
        elif what == "exit" and who != 90:
            leave(who)
    return world.records, expected


@settings(max_examples=200, deadline=None)
@given(STEPS, LIMITS, st.lists(st.integers(1, 40), max_size=20))
def test_agrees_with_the_twin_for_any_batching(steps, limits, sizes):
    played, expected = play(steps, limits)
    whole = told(engine(**limits), played)
    assert told(engine(**limits), *batched(played, sizes)) == whole
    assert [(when, who, RANKS[severity]) for when, who, severity, _ in whole] == expected


def test_a_connection_every_minute_is_a_beacon():
    world = World()
    for number in range(30):
        world.visit()
        world.wait(60 + (number * 7 % 5 - 2) * 5)
    [(_, who, severity, evidence)] = told(engine(), world.records)
    assert (who, severity) == (101, "medium")
    assert evidence["remote"] == "203.0.113.1:443"
    assert evidence["facts"] == ["unresolved", "checks-in", "connects-anew"]
    assert evidence["check_ins"] == evidence["connections"] == 13
    assert evidence["interval_s"] == pytest.approx(60, abs=2)
    assert 5 < evidence["jitter_percent"] < 25
    assert (evidence["sent_bytes"], evidence["received_bytes"]) == (13 * 700, 13 * 3000)


def test_a_process_for_each_time_is_the_loops_beacon():
    world = World()
    for number in range(16):
        world.records.append(synthetic.fork(500 + number, 101, world.now))
        cookie = world.connect(500 + number)
        world.wait(0.02)
        world.records.append(synthetic.exit_(500 + number, world.now))
        world.close(cookie, 700, 3000, 500 + number)
        world.wait(2)
    [(_, who, severity, _)] = told(engine(), world.records)
    assert (who, severity) == (101, "medium")


def test_a_connection_that_stays_is_low_and_its_keep_alives_are_nothing():
    for sent, expected in ((300, ["low"]), (60, [])):
        world = World()
        cookie = world.connect()
        for _ in range(30):
            world.sample(cookie, sent, 60)
            world.wait(20)
        assert [severity for *_, severity, _ in told(engine(), world.records)] == expected


def test_a_named_place_is_low_even_when_its_name_is_no_longer_known():
    world = World()
    name = b"metrics.example"
    said = answer(name, record(b"\xc0\x0c", 1, bytes([203, 0, 113, 1])))
    world.records.append(
        records.first(said, "10.0.0.53", 53, received=True, protocol=17, tgid=101, ts=world.now, cookie=999)
    )
    for _ in range(30):
        world.visit()
        world.wait(900)
    [(*_, severity, evidence)] = told(engine(), world.records)
    assert severity == "low"
    assert evidence["facts"] == ["checks-in", "connects-anew"]


@pytest.mark.parametrize("seed", range(20))
def test_who_asks_when_there_is_something_to_ask_is_none(seed: int):
    world = World()
    chance = random.Random(seed)
    for _ in range(2000):
        world.visit()
        world.wait(chance.expovariate(1 / 5))
    assert told(engine(), world.records) == []


def test_large_amounts_inside_and_without_a_pause_are_none():
    for visits, sent, pause, place in (
        (50, 200_000, 5.0, PLACE),
        (50, 700, 5.0, ("10.0.0.7", 443)),
        (500, 700, 0.1, PLACE),
        (50, 0, 5.0, PLACE),
    ):
        world = World()
        for _ in range(visits):
            world.visit(sent, place=place)
            world.wait(pause)
        assert told(engine(), world.records) == []


def test_what_others_open_or_was_there_before_is_none():
    for flag in ("FLOW_ACCEPTED", "FLOW_LATE"):
        world = World()
        cookie = world.connect()
        for _ in range(30):
            world.sample(cookie, 300, 60, flags=schema.FLOW_FLAG[flag])
            world.wait(20)
        assert told(engine(), world.records) == []


def test_a_crawler_pushes_out_places_it_saw_once_and_no_beacon():
    world = World()
    e = Engine(PACKS, processes=256, flows=256)
    for _ in range(3):
        world.visit()
        world.wait(60)
    at = world.now
    for number in range(40_000):
        world.now = at + number
        world.visit(place=(f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}", 443))
    world.now = at
    for _ in range(12):
        world.visit()
        world.wait(60)
    assert len(told(e, world.records)) == 1
    assert e.table_losses()["beacon-places-forgotten"] > 10_000
