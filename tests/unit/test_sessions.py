# SPDX-License-Identifier: Apache-2.0
"""Sessions that are led from outside: the detector against its twin, and what is one and what isn't."""

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
from naive_session import Connection, NaiveSessions
from wire_bytes import answer, record

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.kernel import schema

LATE, ACCEPTED = schema.FLOW_FLAG["FLOW_LATE"], schema.FLOW_FLAG["FLOW_ACCEPTED"]
RANKS = {"low": 0, "medium": 1, "high": 2}
CONTROLLER = "203.0.113.1"
#: An agent; below it a Python program; a shell with nc and another command in its pipeline.
PARENTS = {90: None, 100: 90, 95: 90, 101: 95, 102: 95}
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01" + bytes(100)
OPENING = 517 + PACKS.thresholds["session"]["handshake_bytes"]


engine = partial(engine_with, "session", 512, 64)
told = partial(told_by, "shell.led")


class World:
    def __init__(self) -> None:
        self.now = SECOND
        self.people = 1000
        self.records = [
            synthetic.execute(90, 1, 1, [b"python3", b"agent.py"], b"/usr/bin/python3.11"),
            synthetic.fork(100, 90, 1),
            synthetic.execute(100, 90, 1, [b"python3", b"sync.py"], b"/usr/bin/python3.11"),
            synthetic.fork(95, 90, 1),
            synthetic.execute(95, 90, 1, [b"sh"], b"/usr/bin/dash"),
            synthetic.fork(101, 95, 1),
            synthetic.execute(101, 95, 1, [b"nc"], b"/usr/bin/nc.openbsd"),
            synthetic.fork(102, 95, 1),
        ]

    def connect(self, cookie: int, who: int = 100, address: str = CONTROLLER, port: int = 443) -> None:
        self.records.append(records.connect(address, port, tgid=who, ts=self.now, cookie=cookie))

    def hello(self, cookie: int, who: int = 100, data: bytes = CLIENT_HELLO) -> None:
        self.records.append(records.first(data, CONTROLLER, 443, tgid=who, ts=self.now, cookie=cookie))

    def move(
        self, cookie: int, got: int, gave: int, who: int = 100, address: str = CONTROLLER, **more: int
    ) -> None:
        more = {"received": got, "sent": gave} | more
        self.records.append(records.sample(cookie, address, tgid=who, ts=self.now, **more))

    def fork(self, who: int = 100) -> int:
        self.people += 1
        self.records.append(synthetic.fork(self.people, who, self.now))
        return self.people

    def shell(self, who: int = 100) -> int:
        child = self.fork(who)
        self.records.append(synthetic.execute(child, who, self.now, [b"sh", b"-c", b"id"], b"/usr/bin/dash"))
        return child

    def end(self, passes: int = 1) -> None:
        for _ in range(passes):
            self.records.append(records.sample(0, ts=self.now))
            self.now += SECOND // 10

    def commands(self, count: int = 8, cookie: int = 1, *, who: int = 100, runs: int | None = None) -> None:
        for number in range(count):
            self.move(cookie, 12 + number, 0, who)
            self.shell(who if runs is None else runs)
            self.end()
            self.move(cookie, 0, 400 + 30 * number, who)
            self.end(3)


ACTS = st.tuples(
    st.sampled_from([90, 100, 95, 101, 102, -1]), st.sampled_from(["fork", "shell", "connect", "again"])
)
MOVES = st.tuples(
    st.sampled_from([1, 2, 3]), st.sampled_from([0, 1, 30, 900]), st.sampled_from([0, 0, 1, 30, 900])
)
PASS = st.tuples(st.lists(MOVES, max_size=2), st.lists(ACTS, max_size=2), st.sampled_from([0, 0, 1, 3]))
TOLD = st.builds(
    lambda cookie, act, pause: ([(cookie, 20, 0)], [act], pause),
    st.sampled_from([1, 2, 3]),
    ACTS,
    st.integers(1, 3),
)
STEPS = st.one_of(
    st.lists(PASS, max_size=30),
    st.lists(st.one_of(TOLD, TOLD, TOLD, PASS), min_size=5, max_size=30),
    st.tuples(TOLD, st.integers(4, 12)).map(lambda pair: [pair[0]] * pair[1]),
)
LIMITS = st.fixed_dictionaries(
    {
        "exchanges": st.sampled_from([2, 3, 5]),
        "missed_percent": st.sampled_from([1, 50, 100]),
        "hello_bytes": st.sampled_from([1, 64]),
        "handshake_bytes": st.just(PACKS.thresholds["session"]["handshake_bytes"]),
        "patience": st.sampled_from([1, 2, 3]),
        "still": st.sampled_from([1, 2]),
    }
)
#: cookie: who, watched, is it TLS
ENDS = {1: (100, 100, False), 2: (101, 95, False), 3: (102, 102, True)}


def play(steps, limits):
    world, twin = World(), NaiveSessions(limits, PARENTS)
    for cookie, (who, watched, tls) in ENDS.items():
        world.connect(cookie, who)
        twin.connect(cookie, Connection(who, watched, CONTROLLER, True, who == 102, OPENING if tls else 0))
        if tls:
            world.hello(cookie, who)
    twin.end_pass(world.now)
    world.end()
    expected = {}
    for moves, acts, pause in steps:
        for number, kind in acts:
            who = world.people if number == -1 and world.people > 1000 else max(number, 90)
            if kind in ("connect", "again"):
                address = CONTROLLER if kind == "again" else "192.0.2.9"
                world.connect(99, who, address)
                twin.act(who, "connect", address)
            else:
                child = world.shell(who) if kind == "shell" else world.fork(who)
                twin.parents[child] = who
                twin.act(who, "fork")
                if kind == "shell":
                    twin.act(child, "shell")
        for cookie, got, gave in moves:
            if got or gave:
                world.move(cookie, got, gave, ENDS[cookie][0])
                twin.move(cookie, got, gave)
        for _ in range(1 + pause):
            for connection, rank, exchanges, missed in twin.end_pass(world.now):
                connection.judged = exchanges
                if rank > connection.told:
                    connection.told = rank
                    expected.setdefault(connection.owner, []).append((rank, exchanges, missed))
            world.end()
    world.end(6)  # of several in one pass each has its turn in one of the next
    return world.records, expected


@settings(max_examples=200, deadline=None)
@given(STEPS, LIMITS, st.lists(st.integers(1, 40), max_size=20))
def test_agrees_with_the_twin_for_any_batching(steps, limits, sizes):
    played, expected = play(steps, limits)
    whole = told(engine(**limits), played)
    assert told(engine(**limits), *batched(played, sizes)) == whole
    found = {}
    for _, who, severity, evidence in whole:
        found.setdefault(who, []).append((RANKS[severity], evidence["exchanges"], evidence["missed"]))
    # who had to wait for his turn may have had another exchange meanwhile: the end is what counts
    assert {who: max(row[0] for row in rows) for who, rows in found.items()} == {
        who: max(row[0] for row in rows) for who, rows in expected.items()
    }
    if len(expected) == 1:
        assert found == expected


def test_who_waits_for_commands_and_runs_them_is_told_of_once():
    world = World()
    world.connect(1)
    world.end(3)
    world.commands()
    [(_, who, severity, evidence)] = told(engine(), world.records)
    assert (who, severity) == (100, "high")
    assert evidence["remote"] == "203.0.113.1:443"
    assert evidence["facts"] == ["unresolved", "runs-when-told", "shells-when-told"]
    assert evidence["exchanges"] == evidence["ran"] == evidence["shells"] == 5
    assert evidence["said_first_bytes"] == evidence["missed"] == evidence["connected"] == 0


def test_a_handshake_is_no_question():
    world = World()
    world.connect(1)
    world.hello(1)
    world.move(1, 3000, 517 + 80)
    world.end()
    world.move(1, 500, 0)  # tickets for the next time
    world.end(3)
    world.commands()
    [(*_, severity, evidence)] = told(engine(), world.records)
    assert severity == "high"
    assert evidence["said_first_bytes"] == 597


@pytest.mark.parametrize("tls", [False, True])
def test_an_agent_asks_its_model_first(tls: bool):
    world = World()
    world.connect(1)
    if tls:
        world.hello(1)
    world.move(1, 3000, 517 + 80 + 400 if tls else 300)
    world.end(3)
    world.commands(30)
    assert told(engine(), world.records) == []


def test_a_client_stays_one_whatever_comes_later():
    world = World()
    world.connect(1)
    world.move(1, 0, 65)
    world.end(100)
    world.commands(30)
    assert told(engine(), world.records) == []


@pytest.mark.parametrize("flags", [LATE, ACCEPTED])
def test_what_others_opened_or_was_there_before_is_none(flags: int):
    world = World()
    world.records.append(synthetic.flow_open(100, world.now, 1))  # nobody of the tree has connected
    for _ in range(20):
        world.move(1, 12, 0, flags=flags)
        world.shell()
        world.end(3)
    assert told(engine(), world.records) == []


def test_inside_is_none():
    world = World()
    world.connect(1, address="10.0.0.7")
    for _ in range(20):
        world.move(1, 12, 0, address="10.0.0.7")
        world.shell()
        world.end(3)
    assert told(engine(), world.records) == []


def test_a_name_makes_it_medium_and_so_do_programs_that_are_no_shells():
    world = World()
    name = b"controller.example"
    world.records.append(
        records.first(
            answer(name, record(b"\xc0\x0c", 1, bytes([203, 0, 113, 1]))),
            "10.0.0.53",
            53,
            received=True,
            protocol=17,
            tgid=100,
            ts=world.now,
            cookie=77,
        )
    )
    world.connect(1)
    world.end(2)
    world.commands()
    [(*_, severity, evidence)] = told(engine(), world.records)
    assert severity == "medium"
    assert evidence["remote_name"] == "controller.example"
    world = World()
    world.connect(1)
    for _ in range(8):
        world.move(1, 12, 0)
        world.fork()
        world.end(3)
    [(*_, severity, evidence)] = told(engine(), world.records)
    assert severity == "medium"
    assert evidence["facts"] == ["unresolved", "runs-when-told"]


def test_the_commands_of_a_pipeline_are_what_its_shell_runs():
    """As in ``nc … | while read -r command; do $command; done``."""
    world = World()
    world.connect(1, 101)
    world.end(2)
    world.commands(who=101, runs=102)
    [(_, who, severity, _)] = told(engine(), world.records)
    assert (who, severity) == (101, "high")


def test_whoever_is_told_where_to_connect_is_medium_and_its_own_conversation_is_nothing():
    for address, expected in (("192.0.2.9", ["medium"]), (CONTROLLER, [])):
        world = World()
        world.connect(1)
        for number in range(8):
            world.move(1, 12, 0)
            world.connect(100 + number, address=address)
            world.end(3)
        assert [severity for *_, severity, _ in told(engine(), world.records)] == expected


def test_a_busy_process_that_hears_something_now_and_then_is_not_led():
    world = World()
    world.connect(1)
    for number in range(300):
        if number % 7 == 0:
            world.move(1, 12, 0)
        world.fork()
        world.end()
    assert told(engine(), world.records) == []


def test_news_that_mostly_lead_to_nothing_are_none():
    world = World()
    world.connect(1)
    for number in range(100):
        world.move(1, 12, 0)
        if number % 3 == 0:
            world.fork()
        world.end(4)
    assert told(engine(), world.records) == []


def test_too_many_are_counted_and_nobody_who_is_led_is_put_out():
    world = World()
    e = Engine(PACKS, processes=512, flows=4096)
    world.connect(1)
    world.end(2)
    world.commands(2)
    for cookie in range(2, 3502):
        world.connect(cookie)
        world.move(cookie, 1, 0)
    world.end(3)
    world.commands(6)
    assert len(told(e, world.records)) == 1
    assert e.table_losses()["sessions-forgotten"] > 500
    world.records = [records.close(cookie, CONTROLLER, established=1, tgid=100) for cookie in range(1, 3502)]
    assert told(e, world.records) == []
    assert int(e.state.sessions.state[0]) == 0
