# SPDX-License-Identifier: Apache-2.0
"""Names that carry data: the detector against its twin, and what is a tunnel and what isn't."""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records
from behaviour import SECOND, batched, engine_with, told_by
from naive_dns_data import NaiveDns
from naive_dns_data import domain_of as naive_domain_of
from wire_bytes import question

from bench import synthetic
from tracer.detect.dns_data import domain_of

RANKS = {"medium": 1, "high": 2}
A, CNAME, MX, TXT, AAAA = 1, 5, 15, 16, 28


engine = partial(engine_with, "dns", 64, 256)
told = partial(told_by, "tunnel.dns-data")


class World:
    def __init__(self) -> None:
        self.now = SECOND
        self.cookie = 0
        self.records = [synthetic.execute(100, 1, 1, [b"python3"], b"/usr/bin/python3.11")]

    def ask(self, name: bytes, kind: int = A, seconds: float = 0.1, **more: int) -> None:
        self.cookie = self.cookie % 200 + 1
        self.records.append(
            records.first(
                question(name, kind), "10.0.0.53", more.pop("port", 53), protocol=17, tgid=100, ts=self.now,
                cookie=self.cookie, **more,
            )
        )  # fmt: skip
        self.now += int(seconds * SECOND)


def digest(number: int, size: int) -> bytes:
    return (hashlib.sha512(b"%d" % number).hexdigest() * 2)[:size].encode()


LABELS = st.sampled_from([b"www", b"a" * 15, b"b" * 16, b"C" * 40, b"d" * 52, b"e" * 63, b"mail-1", b"x"])
DOMAINS = st.sampled_from([b"evil.example", b"other.co.uk", b"uk", b"com.au", b"a.b.ip6.arpa", b"site.com"])
NAMES = st.builds(lambda labels, domain: b".".join([*labels, domain]), st.lists(LABELS, max_size=3), DOMAINS)
# No private type: that is a tunnel's own wire format, told as such and no question to be counted.
STEPS = st.lists(
    st.one_of(
        st.tuples(NAMES, st.sampled_from([A, TXT, AAAA, CNAME, MX]), st.sampled_from([0.1, 5.0])),
        st.tuples(st.just(b""), st.sampled_from([TXT, A]), st.integers(1, 12), LABELS, DOMAINS),
    ),
    max_size=30,
)
LIMITS = st.fixed_dictionaries(
    {
        "names": st.sampled_from([4, 8, 64]),
        "name_bytes": st.sampled_from([1, 40]),
        "label_bytes": st.sampled_from([16, 52]),
        "counted_from": st.sampled_from([1, 16]),
        "window_s": st.sampled_from([10, 900]),
    }
)


def play(steps, limits):
    world, twin = World(), NaiveDns(limits)
    expected = []

    def ask(name, kind, seconds):
        rank = twin.ask(name, kind, world.now)
        if rank is not None:
            expected.append((world.now, rank))
        world.ask(name, kind, seconds)

    for name, kind, much, *more in steps:
        if not more:
            ask(name, kind, much)
            continue
        label, domain = more
        for number in range(much):
            ask(b".".join([label, b"n%d" % number, domain]), kind, 0.1)
    return world.records, expected


@settings(max_examples=200, deadline=None)
@given(STEPS, LIMITS, st.lists(st.integers(1, 40), max_size=20))
def test_agrees_with_the_twin_for_any_batching(steps, limits, sizes):
    played, expected = play(steps, limits)
    whole = told(engine(**limits), played)
    assert told(engine(**limits), *batched(played, sizes)) == whole
    assert [(when, RANKS[severity]) for when, _, severity, _ in whole] == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("abx-", min_size=1, max_size=5), min_size=1, max_size=5).map(".".join))
def test_whose_a_name_is(name: str):
    raw = name.encode()
    text = np.frombuffer(b"?" + raw + b"?", np.uint8)
    begin = domain_of(text, 1, 1 + len(raw))
    assert text[begin : 1 + len(raw)].tobytes() == naive_domain_of(raw)


def test_data_in_questions_for_text_is_told_once_with_an_example():
    world = World()
    for number in range(200):
        world.ask((b"part-%d-" % number).ljust(60, b"x") + b".t.Evil.example", TXT)
    [(_, who, severity, evidence)] = told(engine(), world.records)
    assert (who, severity) == (100, "high")
    assert evidence["remote"] == "10.0.0.53:53"
    assert evidence["facts"] == ["names-carry-data", "odd-types", "long-labels"]
    assert evidence["domain"] == "evil.example"
    assert evidence["example"] == f"{'part-31-'.ljust(60, 'x')}.t.evil.example"
    assert evidence["names"] == evidence["questions"] == evidence["odd_types"] == 32
    assert evidence["bytes_per_name"] == evidence["longest_label"] == 60.0


def test_data_in_questions_for_addresses_is_medium():
    world = World()
    for number in range(200):
        world.ask(digest(number, 63) + b".evil.example", (A, AAAA)[number % 2])
    [(*_, severity, evidence)] = told(engine(), world.records)
    assert severity == "medium"
    assert evidence["facts"] == ["names-carry-data", "long-labels"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(TXT, lambda n: b"s1._domainkey.host%d.example" % n, id="dkim"),
        pytest.param(TXT, lambda n: b"_dmarc.site-%d.example" % n, id="dmarc"),
        pytest.param(TXT, lambda n: b"%s._domainkey.site%d.example" % (b"s" * 60, n), id="dkim-long"),
        pytest.param(TXT, lambda n: b"_acme-challenge.machine-number-%d.lab.example" % n, id="acme"),
        pytest.param(
            TXT,
            lambda n: b".".join(b"%x" % (n >> k & 15) for k in range(32)) + b".origin6.asn.cymru.com",
            id="asn",
        ),
        pytest.param(A, lambda n: b"4.3.2.%d.zen.spamhaus.org" % n, id="blocklist"),
        pytest.param(
            12, lambda n: b".".join(b"%x" % (n >> k & 15) for k in range(32)) + b".ip6.arpa", id="reverse"
        ),
        pytest.param(A, lambda n: digest(n, 32) + b"-1234567890.us-east-1.elb.amazonaws.com", id="elb"),
        pytest.param(A, lambda n: digest(n, 32) + b"-0123456789abcdef.elb.us-east-1.amazonaws.com", id="nlb"),
        pytest.param(A, lambda n: b"d%s.cloudfront.net" % digest(n, 13), id="cdn"),
        pytest.param(A, lambda n: b"training-data-of-team-%d.s3.eu-central-1.amazonaws.com" % n, id="bucket"),
        pytest.param(
            A,
            lambda n: b"www.a-site-with-a-rather-long-name-%d.com.default.svc.cluster.local" % n,
            id="search-suffix",
        ),
        pytest.param(
            A, lambda n: digest(n, 60) + b".evil.example" if n < 30 else b"www.evil.example", id="few"
        ),
        pytest.param(A, lambda n: digest(n % 20, 60) + b".cdn.example", id="again"),
    ],
)
def test_everyday_names_are_nothing(kind: int, name):
    world = World()
    for number in range(1000):
        world.ask(name(number), kind)
    assert told(engine(), world.records) == []


def test_only_what_is_asked_at_port_53_and_within_the_window_counts():
    for more in ({"port": 5353}, {"seconds": 60}, {"received": True}):
        world = World()
        for number in range(200):
            world.ask(digest(number, 60) + b".evil.example", TXT, **more)
        assert told(engine(), world.records) == []


def test_a_crawler_pushes_out_domains_of_hardly_any_names_and_no_tunnel():
    world = World()
    e = engine()
    for number in range(20):
        world.ask(digest(number, 60) + b".evil.example", TXT, 0.001)
    for number in range(20_000):
        world.ask(b"www.site%d.com" % number, A, 0.001)
    for number in range(20, 40):
        world.ask(digest(number, 60) + b".evil.example", TXT, 0.001)
    assert len(told(e, world.records)) == 1
    assert e.table_losses()["dns-domains-forgotten"] > 10_000
    assert e.table_losses()["dns-domains-dropped"] == 0
