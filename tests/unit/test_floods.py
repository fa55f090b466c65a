# SPDX-License-Identifier: Apache-2.0
"""Who opens connections as fast as he can hides nothing: neither what was there before, nor what comes after."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.engine.flows import NONE, find_flow
from tracer.kernel import schema
from tracer.rules import load_rules

SECOND = 1_000_000_000
#: More than the table has places.
FLOOD = 70_000
PLACES = 1 << 16
#: The flood's processes: the tunnel's own, another one, as many as there are rollouts.
WHOSE = {"its own": (100,), "another's": (200,), "a thousand's": tuple(range(1000, 2000))}
OUTSIDE, INSIDE = ("203.0.113.1", 443), ("127.0.0.1", 8000)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("rules") / "both.toml"
    path.write_text(records.BOTH_WAYS)
    return load_rules([path])


class World:
    """An agent (90) with a program (100)."""

    def __init__(self, rules) -> None:
        self.now = SECOND
        self.cookies = 1_000
        self.engine = Engine(rules, processes=4096)
        self.told: list[str] = []
        self.take(
            [
                synthetic.execute(90, 1, 1, [b"python3", b"agent.py"], b"/usr/bin/python3.11"),
                synthetic.fork(100, 90, 1),
                synthetic.execute(100, 90, 1, [b"./x"], b"/tmp/x"),
            ]
        )

    def take(self, batch: list[bytes]) -> None:
        for fired in self.engine.feed(batch):
            self.told += [rule.id for rule, _ in fired.rules]

    def flood(
        self,
        kind: str,
        count: int,
        whose: tuple[int, ...],
        remote: str,
        cookies: range | None = None,
        **more: int,
    ) -> range:
        """So many records of a kind, each of another connection to a port of its own: ``cookies``, or new ones."""
        if cookies is None:
            cookies = range(self.cookies, self.cookies + count)
            self.cookies += count
        layout = getattr(schema, kind)
        rows = np.zeros(count, layout)
        template = np.frombuffer(records.connect(remote), schema.CONNECT)[0]
        for name in ("family", "remote", "local_port", "protocol"):
            rows[name] = template[name]
        rows["kind"], rows["size"], rows["ts"] = schema.KIND[f"EVENT_{kind}"], layout.itemsize, self.now
        rows["tgid"] = np.resize(whose, count)
        rows["start"] = 1000 * rows["tgid"].astype(np.uint64)
        rows["cookie"] = cookies
        rows["remote_port"] = 1 + np.arange(count) % 60_000
        for name, value in more.items():
            rows[name] = value
        self.take([row.tobytes() for row in rows])
        return cookies

    def sample(self, cookie: int, place: tuple[str, int], got: int, gave: int) -> None:
        carried = {"received": got, "sent": gave, "received_packets": 1, "sent_packets": 1}
        self.take([records.sample(cookie, *place, tgid=100, ts=self.now, **carried)])

    def end(self) -> None:
        self.take([records.sample(0, ts=self.now)])
        self.now += SECOND // 10

    def opens(self, cookie: int = 1, place: tuple[str, int] = OUTSIDE) -> None:
        """The program connects."""
        self.take([records.connect(*place, tgid=100, ts=self.now, cookie=cookie)])

    def says(self) -> None:
        self.take([records.first(b"hello", *OUTSIDE, tgid=100, ts=self.now, cookie=1)])

    def hears(self) -> None:
        self.take([records.first(b"welcome", *OUTSIDE, tgid=100, ts=self.now, cookie=1, received=True)])

    def knows(self, cookie: int) -> bool:
        return find_flow(self.engine.state.flows, cookie) != NONE


def connects(world: World, whose: tuple[int, ...]) -> None:
    """The flood: connections of which others' have all said something."""
    for _ in range(2):
        cookies = world.flood("CONNECT", FLOOD // 2, whose, "10.0.0.9")
        if whose != WHOSE["its own"]:
            world.flood("FLOW_SAMPLE", len(cookies), whose, "10.0.0.9", cookies, sent=1)


@pytest.mark.parametrize("whose", WHOSE)
def test_what_was_said_before_a_flood_is_known_after_it(rules, whose: str):
    world = World(rules)
    world.opens()
    world.says()
    connects(world, WHOSE[whose])
    assert world.knows(1)
    world.hears()
    assert world.told.count("net.both") == 1
    assert world.engine.live_flows == PLACES
    losses = world.engine.table_losses()
    assert losses["flows-forgotten"] + losses["flow-table-full"] == FLOOD + 1 - PLACES


@pytest.mark.parametrize("whose", WHOSE)
def test_what_is_said_after_a_flood_is_known(rules, whose: str):
    world = World(rules)
    connects(world, WHOSE[whose])
    world.opens()
    world.says()
    world.flood("CONNECT", 1000, WHOSE[whose], "10.0.0.11")
    world.hears()
    assert world.told.count("net.both") == 1


def test_a_process_for_each_connection_pushes_out_nothing_that_was_said(rules):
    """More processes than places, and all of them alive."""
    world = World(rules)
    world.opens()
    world.says()
    world.flood("CONNECT", FLOOD, tuple(range(1000, 1000 + FLOOD)), "10.0.0.9")
    world.hears()
    assert world.told.count("net.both") == 1


def test_what_was_found_is_told_once_whatever_its_process_opens(rules):
    world = World(rules)
    world.says()
    world.hears()
    for _ in range(3):  # each says something, and again, after longer than most connections last
        cookies = world.flood("CONNECT", FLOOD // 4, (100,), "10.0.0.9")
        for _ in range(2):
            world.flood("FLOW_SAMPLE", len(cookies), (100,), "10.0.0.9", cookies, sent=1)
            world.now += 11 * SECOND
    world.flood("CONNECT", FLOOD, (100,), "10.0.0.9")
    world.says()
    world.hears()
    assert world.told.count("net.both") == 1


def tunnel(world: World, whose: tuple[int, ...], moving: int, rounds: int = 12) -> None:
    """A relay by 100, while others' connections (or more of its own) move in every pass, outside and inside."""
    outside, inside = (range(first, first + moving) for first in (1 << 20, 1 << 21))
    for number in range(rounds):
        world.flood("FLOW_SAMPLE", moving, whose, "198.51.100.9", outside, sent=50 + number, received=9)
        world.flood("FLOW_SAMPLE", moving, whose, "10.0.0.9", inside, sent=9, received=300 - number)
        asked, said = 60 + 41 * (number % 5), 200 + 150 * (number % 4)
        world.sample(1, OUTSIDE, asked + 40, said + 40)
        world.sample(2, INSIDE, said, asked)
        world.end()


@pytest.mark.parametrize("first", ["the tunnel", "the flood"])
@pytest.mark.parametrize(("whose", "moving"), [("its own", 25), ("another's", 3000), ("a thousand's", 3000)])
def test_a_relay_is_found_in_any_flood(rules, whose: str, moving: int, first: str):
    world = World(rules)

    def opens() -> None:
        world.opens(1, OUTSIDE)
        world.opens(2, INSIDE)

    if first == "the tunnel":
        opens()
    world.flood("CONNECT", FLOOD, WHOSE[whose], "10.0.0.9")
    if first == "the flood":
        opens()
    tunnel(world, WHOSE[whose], moving)
    assert "tunnel.relay" in world.told
    # of a connection that had said nothing its own process's flood may leave nothing
    assert world.knows(1) or (first == "the tunnel" and whose == "its own")


@pytest.mark.parametrize("first", ["the session", "the flood"])
@pytest.mark.parametrize("whose", WHOSE)
def test_whoever_is_led_is_found_in_any_flood(rules, whose: str, first: str):
    world = World(rules)

    def connect() -> None:
        world.opens()
        for _ in range(3):
            world.end()

    def commands(count: int) -> None:
        for _ in range(count):
            world.sample(1, OUTSIDE, 12, 0)
            world.take([synthetic.fork(3000, 100, world.now)])
            world.take([synthetic.execute(3000, 100, world.now, [b"sh", b"-c", b"id"], b"/usr/bin/dash")])
            world.take([synthetic.exit_(3000, world.now)])
            world.end()
            world.sample(1, OUTSIDE, 0, 400)
            for _ in range(3):
                world.end()

    if first == "the session":
        connect()
        commands(1)
    world.flood("CONNECT", 5_000, WHOSE[whose], "198.51.100.9")
    if first == "the flood":
        connect()
    commands(8)
    assert "shell.led" in world.told
    assert world.engine.table_losses()["sessions-forgotten"] > 2_000


def test_what_is_executed_after_a_fork_bomb_is_known(rules):
    world = World(rules)
    world.take([synthetic.fork(20_000 + number, 100, world.now) for number in range(10_000)])
    miner = [b"./x", b"-o", b"stratum+tcp://pool.example:3333"]
    (found,) = world.engine.feed(
        [synthetic.fork(300, 90, world.now), synthetic.execute(300, 90, world.now, miner, b"/tmp/x")]
    )
    program = world.engine.describe(found.entry)
    assert (program.pid, program.exe) == (300, b"/tmp/x")
    assert [world.engine.exe_of(entry)[0] for entry in world.engine.lineage(found.entry)] == [300, 90]
    assert world.engine.table_losses()["processes-forgotten"] > 5_000
    assert world.engine.table_losses()["process-table-full"] == 0


@pytest.mark.parametrize("first", ["the beacon", "the flood"])
@pytest.mark.parametrize("whose", WHOSE)
def test_check_ins_are_found_in_any_flood(rules, whose: str, first: str):
    """Of places that are gone to twice, which nobody gave up before."""
    world = World(rules)

    def check_in() -> None:
        world.cookies += 1
        ends = {"tgid": 100, "cookie": world.cookies}
        world.take([records.connect(*OUTSIDE, ts=world.now, **ends)])
        said = {"established": 1, "sent": 700, "received": 3000, "sent_last": 700, "received_last": 3000}
        world.take([records.close(world.cookies, *OUTSIDE, tgid=100, ts=world.now + 1000, **said)])
        world.now += 60 * SECOND

    for _ in range(2 if first == "the beacon" else 0):
        check_in()
    at = world.now
    for _ in range(2):
        cookies = world.flood("CONNECT", 20_000, WHOSE[whose], "198.51.100.9")
        world.flood(
            "FLOW_CLOSE", 20_000, WHOSE[whose], "198.51.100.9", cookies,
            established=1, sent=700, received=3000, sent_last=700, received_last=3000,
        )  # fmt: skip
        world.now += 10 * SECOND
    world.now = at
    for _ in range(14):
        check_in()
    assert "tunnel.beacon" in world.told
    losses = world.engine.table_losses()
    assert losses["beacon-places-forgotten"] + losses["beacon-places-dropped"] > 10_000
