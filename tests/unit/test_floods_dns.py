# SPDX-License-Identifier: Apache-2.0
"""Who asks for names as fast as he can hides nothing: no data in names, and no name of an address."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records
from behaviour import PACKS, SECOND, told_by
from naive_crowding import WAYS
from naive_dns_data import NaiveDns, domain_of
from wire_bytes import answer, question
from wire_bytes import record as resource

from bench import synthetic
from tracer.detect.dns_data import D_DROPPED, D_FORGOTTEN, ask, make_domains
from tracer.engine.engine import Engine
from tracer.rules import load_rules

TXT = 16
TUNNEL = b"evil.example"
#: Whose the flood is, by the number of a name: the tunnel's own process's, another one's, a thousand's, one's for each.
WHOSE = {
    "its own": lambda n: 100,
    "another's": lambda n: 200,
    "a thousand's": lambda n: 1000 + n // 3 % 1000,
    "one's each": lambda n: 1000 + n,
}
#: Three names below each domain.
FLOODS = {
    "nothing in them": lambda n: b"h%d.site%d.com" % (n % 3, n // 3),
    "data in them": lambda n: b"%s.site%d.com" % (digest(n), n // 3),
}
I = np.int64  # noqa: E741


def digest(number: int) -> bytes:
    return hashlib.sha512(b"%d" % number).hexdigest()[:60].encode()


class World:
    """A program (100)."""

    def __init__(self, rules=PACKS) -> None:
        self.engine = Engine(rules, processes=4096, flows=1024)
        self.now = SECOND
        self.told: list[tuple[int, int, str, dict]] = []
        self._take([synthetic.execute(100, 1, 1, [b"python3"], b"/usr/bin/python3.11")])

    def _take(self, batch: list[bytes]) -> None:
        assert not any(True for _ in self.engine.feed(batch))

    def _datagram(self, data: bytes, who: int, *, received: bool = False) -> bytes:
        self.now += SECOND // 10_000
        ends = {"protocol": 17, "tgid": who, "ts": self.now, "cookie": 1 + who % 500}
        return records.first(data, "10.0.0.53", 53, received=received, **ends)

    def ask(self, names: list[tuple[bytes, int, int]]) -> None:
        """(name, kind, by whom)"""
        batch = [self._datagram(question(name, kind), who) for name, kind, who in names]
        self.told += told_by("tunnel.dns-data", self.engine, batch)

    def flood(self, flood: str, whose: str, numbers: range) -> None:
        self.ask([(FLOODS[flood](n), 1, WHOSE[whose](n)) for n in numbers])

    def tunnel(self, numbers: range) -> None:
        self.ask([(digest(-1 - n) + b"." + TUNNEL, TXT, 100) for n in numbers])

    def learn(self, name: bytes, addresses: list[bytes], who: int = 100) -> None:
        """An answer to the process; four bytes each."""
        found = [resource(b"\xc0\x0c", 1, address) for address in addresses]
        self._take([self._datagram(answer(name, *found), who, received=True)])

    def learn_many(self, count: int, whose: str) -> None:
        """So many answers of 24 addresses each."""
        for n in range(count):
            block = range(24 * n, 24 * n + 24)
            addresses = [(0xC6120000 + number).to_bytes(4, "big") for number in block]
            self.learn(b"www.site%d.com" % n, addresses, WHOSE[whose](3 * n))

    def name_of(self, address: bytes) -> bytes:
        return self.engine.name_of(address.ljust(16, b"\0"), 2, self.now)


def only_the_tunnel(world: World) -> bool:
    return {(who, evidence["domain"]) for _, who, _, evidence in world.told} == {(100, TUNNEL.decode())}


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("before", [0, 20])
def test_data_in_names_is_found_in_any_flood(flood: str, whose: str, before: int):
    """A flood after ``before`` names of the tunnel, and four domains (twelve names) in its set or so after each of the rest."""
    world = World()
    world.tunnel(range(before))
    world.flood(flood, whose, range(12_000))
    at = 12_000
    for number in range(before, 60):
        world.tunnel(range(number, number + 1))
        world.flood(flood, whose, range(at, at + 192))
        at += 192
    assert only_the_tunnel(world)
    losses = world.engine.table_losses()
    assert losses["dns-domains-forgotten"] > 3000
    if flood == "nothing in them":
        assert len(world.told) == 1


@pytest.mark.parametrize("whose", ["another's", "its own"])
def test_names_below_a_thousand_domains_keep_nothing_out(whose: str):
    """Three each, and never again: what kept a tunnel's domain out for a quarter of an hour."""
    world = World()
    world.flood("nothing in them", whose, range(3 * 4096))
    world.tunnel(range(40))
    assert only_the_tunnel(world)
    assert len(world.told) == 1


@pytest.mark.parametrize(
    ("severity", "data", "bad"), [("low", 1, 59), ("high", 1, 59), ("critical", 0, 60)]
)  # data in the domain's names are "high"
def test_an_alert_of_each_question_hides_no_graver_one(tmp_path: Path, severity: str, data: int, bad: int):
    """Each from a socket of its own; whoever has the domain chose it so that a rule knows it."""
    path = tmp_path / "service.toml"
    known = BAD_NAMES.replace("pool.example", TUNNEL.decode()).replace('"connect"', '"flow"')
    path.write_text(known.replace('"high"', f'"{severity}"'))
    world = World(load_rules([path]))
    told = []
    for n in range(60):
        asks = question(digest(-1 - n) + b"." + TUNNEL, TXT)
        ends = {"protocol": 17, "tgid": 100, "ts": SECOND * (1 + n), "cookie": 1 + n}
        for fired in world.engine.feed([records.first(asks, "10.0.0.53", 53, **ends)]):
            told += [rule.id for rule, _ in fired.rules]
    assert (told.count("tunnel.dns-data"), told.count("net.bad-name")) == (data, bad)


def test_data_are_told_once_nothing_graver_is(tmp_path: Path):
    """The worst of the first questions is what each is; then the flow has been told of that."""
    path = tmp_path / "service.toml"
    known = BAD_NAMES.replace("pool.example", TUNNEL.decode()).replace('"connect"', '"flow"')
    path.write_text(known.replace('"high"', '"critical"'))
    world = World(load_rules([path]))
    told = []
    for n in range(60):
        asks = question(digest(-1 - n) + b"." + TUNNEL, TXT)
        ends = {"protocol": 17, "tgid": 100, "ts": SECOND * (1 + n), "cookie": 1 if n < 50 else n}
        for fired in world.engine.feed([records.first(asks, "10.0.0.53", 53, **ends)]):
            told += [rule.id for rule, _ in fired.rules if rule.id in {"net.bad-name", "tunnel.dns-data"}]
    assert told[:2] == ["net.bad-name", "tunnel.dns-data"]
    assert told[2:] == ["net.bad-name"] * 10


DOMAINS = [b"d%d.com" % number for number in range(40)]
HOMES: dict[bytes, int] = {}
LIMITS = {"names": 4, "name_bytes": 10, "label_bytes": 16, "counted_from": 16, "window_s": 900}


def table(size: int):
    domains = make_domains(size)
    domains.limits[:] = list(LIMITS.values())
    return domains


def asked(domains, name: bytes, who: int, now: int) -> None:
    ask(domains, I(who), I(10 * who), np.frombuffer(name, np.uint8), I(0), I(len(name)), I(0), I(now))


def home_of(domain: bytes) -> int:
    """The set that the domain may be in, of two: seen by having an empty table take it."""
    if domain not in HOMES:
        domains = table(2 * WAYS)
        asked(domains, b"x." + domain, 1, 1)
        (HOMES[domain],) = np.flatnonzero(domains.table["key"]) // WAYS
    return HOMES[domain]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(DOMAINS),
            st.sampled_from([b"www", b"a" * 16, b"b" * 20, b"c" * 60, b"d" * 16 + b".e"]),
            st.sampled_from([1, 1, 1, 1, 2, 2, 3, 4, 5, 6]),
            st.sampled_from([1, 1, 1, 1, 1, 1, 200, 700]),
        ),
        max_size=150,
    )
)
def test_who_makes_room_agrees_with_the_twin(steps):
    domains, twin, now = table(2 * WAYS), NaiveDns(LIMITS, home_of), 1
    for domain, labels, who, seconds in steps:
        now += seconds * SECOND
        name = labels + b"." + domain
        assert domain_of(name) == domain
        asked(domains, name, who, now)
        twin.ask(name, 1, now, who)
        assert (domains.state[D_DROPPED], domains.state[D_FORGOTTEN]) == (twin.dropped, twin.forgotten)
    for home, rows in twin.sets.items():
        for row, there in zip(rows, domains.table[home * WAYS :], strict=False):
            if row is None:
                assert there["key"] == 0
                continue
            assert (there["tgid"], there["worth"], there["last"]) == (row.who, row.worth, row.heard)
            assert (there["names"], there["since"]) == (len(row.names), row.since)


BAD_NAMES = """
[indicators.bad-names]
where = "host"
match = "domain"
values = ["pool.example"]
[rules."net.bad-name"]
title = "t"
on = "connect"
any = ["bad-names"]
severity = "high"
"""
POOL, WORK = bytes([203, 0, 113, 1]), bytes([203, 0, 113, 2])


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("rules") / "names.toml"
    path.write_text(BAD_NAMES)
    return load_rules([path])


def accused(world: World) -> bool:
    record = records.connect("203.0.113.1", tgid=100, ts=world.now, cookie=7)
    return any(rule.id == "net.bad-name" for fired in world.engine.feed([record]) for rule, _ in fired.rules)


@pytest.mark.parametrize("whose", WHOSE)
@pytest.mark.parametrize("first", ["the pool", "the flood"])
def test_whoever_connects_to_a_name_that_accuses_is_told_in_any_flood(rules, whose: str, first: str):
    world = World(rules)
    if first == "the pool":
        world.learn(b"pool.example", [POOL])
    world.learn_many(2500, whose)
    if first == "the flood":
        world.learn(b"pool.example", [POOL])
        world.learn_many(100, whose)
    assert world.name_of(POOL) == b"pool.example"
    assert accused(world)
    losses = world.engine.table_losses()
    assert losses["names-forgotten"] > 30_000
    assert losses["name-table-full"] == 0


@pytest.mark.parametrize("whose", ["another's", "a thousand's"])
def test_a_flood_forgets_only_what_is_its_own(rules, whose: str):
    """Of many processes' so many that each has one in a set: then what was looked up longest ago."""
    world = World(rules)
    world.learn(b"work.example", [WORK])
    world.learn_many(2500, whose)
    assert world.name_of(WORK) == (b"work.example" if whose == "another's" else b"")
    world.learn(b"work.example", [WORK])
    world.learn_many(100, whose)
    assert world.name_of(WORK) == b"work.example"
