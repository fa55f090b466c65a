# SPDX-License-Identifier: Apache-2.0
"""A connection is judged by the name it was looked up by, before it is made."""

from __future__ import annotations

import ipaddress
import json
import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import Recording, guarded, record

from tracer import clock
from tracer.detect.facts import WORDS
from tracer.kernel import schema
from tracer.rules import load_rules
from tracer.rules.model import WHERE_HOST
from tracer.rules.scan import scan
from tracer.watch import Watch

sys.path.insert(0, str(Path(__file__).parent.parent))
from naive_wire_dns import dns_answer
from wire_bytes import answer, labels
from wire_bytes import record as resource

NAMED = schema.BTF.dtype("named")
POINTER = b"\xc0\x0c"
RULES = """
[indicators.bad-names]
where = "host"
match = "domain"
values = ["pool.example"]
[rules."net.bad-name"]
title = "t"
on = "connect"
any = ["bad-names"]
severity = "high"
action = "block"
"""
#: The first groups have the numbers that those of RULES have.
OTHERS = """
[indicators.decoy]
where = "host"
match = "domain"
values = ["decoy.example"]
[rules."net.decoy"]
title = "t"
on = "connect"
any = ["decoy"]
severity = "critical"
action = "block"
"""
LET_IN = {"connect": "0", "syn": 1, "accepted": 1, "sendto": "0", "heard": "x", "datagram connect": "0"}
REFUSED = {
    "connect": "EPERM",
    "syn": 0,
    "accepted": 0,
    "sendto": "EPERM",
    "heard": "",
    "datagram connect": "EPERM",
}


def says(name: bytes, *addresses: str, ttl: int = 60, aliases: tuple[bytes, ...] = ()) -> bytes:
    """A resolver's answer."""
    records = [resource(POINTER, 5, labels(alias)) for alias in aliases]
    for text in addresses:
        address = ipaddress.ip_address(text)
        records.append(resource(POINTER, 1 if address.version == 4 else 28, address.packed, ttl))
    return answer(name, *records)


def run(tmp_path: Path, addresses: list[str], udp=(), tcp=(), rules: str = RULES, between=None, **plan):
    """What came of it, by address, and what was seen."""
    listed = {"addresses": addresses, "udp": [m.hex() for m in udp], "tcp": [m.hex() for m in tcp], **plan}
    (tmp_path / "plan.json").write_text(json.dumps(listed))
    (tmp_path / "rules.toml").write_text(rules)
    if between is None:
        (tmp_path / "go").touch()
    found = record(guarded("named", tmp_path), rules=[tmp_path / "rules.toml"], enforce=True, between=between)
    assert found.status == 0
    return json.loads((tmp_path / "out.json").read_text()), found


def told(found: Recording) -> list[tuple[str, str, str]]:
    return [
        (a.rule.id, a.evidence["remote_address"], a.response.action)
        for a in found.alerts
        if a.evidence.get("remote_port") == 4444
    ]


@pytest.mark.guest
def test_what_goes_to_a_name_is_refused_before_it_begins(tmp_path):
    bad, bad6, alias, good = "203.0.113.9", "2001:db8::9", "203.0.113.10", "203.0.113.11"
    udp = [
        says(b"eu.Pool.example", bad),
        says(b"six.pool.example", bad6),
        says(b"my.host.test", alias, aliases=(b"eu.pool.example", b"edge.cdn.test")),
        says(b"spool.example", good),
    ]
    came, found = run(tmp_path, [bad, bad6, alias, good], udp)
    assert came == {bad: REFUSED, bad6: REFUSED, alias: REFUSED, good: LET_IN}
    assert sorted(told(found)) == sorted([("net.bad-name", a, "blocked") for a in (bad, bad6, alias)] * 3)
    assert found.summary.acted == {"block": 9}
    for alert in found.alerts:
        assert alert.response.effect_ns < alert.engine_ns, "the probe did it, before anybody else"
        assert [match["indicator"] for match in alert.evidence["matched"]] == ["pool.example"]
    (aliased, *_) = [a for a in found.alerts if a.evidence["remote_address"] == alias]
    assert aliased.evidence["remote_name"] == "my.host.test"
    assert aliased.evidence["remote_aliases"] == ["eu.pool.example", "edge.cdn.test"]


def test_over_tcp_too(tmp_path):
    message = says(b"eu.pool.example", "203.0.113.9")
    came, _ = run(tmp_path, ["203.0.113.9"], tcp=[struct.pack(">H", len(message)) + message])
    assert came == {"203.0.113.9": REFUSED}


def test_what_was_said_last_holds(tmp_path):
    first, second = "203.0.113.9", "203.0.113.10"
    udp = [says(b"pool.example", first, second), says(b"other.test", second)]
    came, found = run(tmp_path, [first, second], udp)
    assert came == {first: REFUSED, second: LET_IN}
    assert {address for _, address, _ in told(found)} == {first}


def test_from_another_port_it_says_nothing(tmp_path):
    """Whoever wants to can send what looks like an answer."""
    came, found = run(tmp_path, ["203.0.113.9"], [says(b"pool.example", "203.0.113.9")], port=5454)
    assert came == {"203.0.113.9": LET_IN}
    assert not told(found)


def after(tmp_path: Path, act):
    """Called between the steps of a watch: act once when all names have been asked for, then go on."""

    def between(watch: Watch, found: Recording) -> None:
        if (tmp_path / "asked").exists() and not (tmp_path / "go").exists():
            act(watch)
            (tmp_path / "go").touch()

    return between


def test_other_rules_judge_by_what_they_find_themselves(tmp_path):
    """In the names that have been looked up before them; what the old ones have found is not their word."""
    (tmp_path / "others.toml").write_text(OTHERS)
    known = load_rules([tmp_path / "others.toml"])
    bad, decoy = "203.0.113.9", "2001:db8::10"
    came, found = run(
        tmp_path,
        [bad, decoy],
        [says(b"pool.example", bad), says(b"my.test", decoy, aliases=(b"decoy.example",))],
        between=after(tmp_path, lambda watch: watch.reload(known)),
    )
    assert came == {bad: LET_IN, decoy: REFUSED}
    assert told(found) == [("net.decoy", decoy, "blocked")] * 3


def test_what_is_kept_means_nothing_to_other_rules(tmp_path, monkeypatch):
    """Even where nobody has told the probes what the new ones say of the names."""
    monkeypatch.setattr("tracer.watch.reteach", lambda *_: 0)
    (tmp_path / "others.toml").write_text(OTHERS)
    known = load_rules([tmp_path / "others.toml"])
    bad = "203.0.113.9"
    came, found = run(
        tmp_path,
        [bad],
        [says(b"pool.example", bad)],
        between=after(tmp_path, lambda watch: watch.reload(known)),
    )
    assert came == {bad: LET_IN}
    assert not told(found)


def entry_of(watch: Watch, address: bytes) -> np.void | None:
    """What the probes keep of an address."""
    high, low = (0, 0xFFFF << 32) if len(address) == 4 else struct.unpack(">QQ", address)
    if len(address) == 4:
        low |= int.from_bytes(address)
    raw = watch.probes.map("named").lookup(struct.pack("<QQ", high, low), NAMED.itemsize)
    return None if raw is None else np.frombuffer(raw, NAMED, 1)[0]


def hostile_answers(chance: random.Random, count: int) -> list[bytes]:
    """Whole ones, cut ones, such as lead in circles, and such as are wrong anywhere."""
    words = [b"pool", b"example", b"POOL", b"a", b"x" * 63, b"\xff", b"", b"\0"]
    found = []
    for number in range(count):

        def name(end: bytes = b"\0") -> bytes:
            return (
                b"".join(bytes([len(w)]) + w for w in chance.choices(words[:6], k=chance.randrange(4))) + end
            )

        pointer = struct.pack(">H", 0xC000 | chance.randrange(300))
        records = []
        for place in range(chance.randrange(1, 30)):
            owner = chance.choice([POINTER, pointer, name(), name(pointer)])
            if chance.random() < 0.5:
                address = struct.pack(">BBBB", 10, number >> 8, number & 255, place)
                records.append(resource(owner, 1, address, chance.choice([0, 299, 1000, 1 << 31])))
            elif chance.random() < 0.5:
                records.append(resource(owner, 28, struct.pack(">QQ", number + 1, place)))
            else:
                records.append(
                    resource(owner, 5, chance.choice([name(), name(pointer), pointer, POINTER, b"\3ab"]))
                )
        message = bytearray(answer(chance.choice([b"pool.example", b"eu.pool.example", b"a.test"]), *records))
        for _ in range(chance.choice([0, 0, 0, 1, 3])):
            message[chance.randrange(len(message))] = chance.randrange(256)
        if chance.random() < 0.2:
            del message[chance.randrange(len(message)) :]
        found.append(bytes(message))
    return found


def test_answers_are_read_as_the_twin_reads_them(tmp_path):
    """Whatever is in them."""
    chance = random.Random(5)
    udp = [message for message in hostile_answers(chance, 150) if message]
    tcp = [
        struct.pack(">H", len(m) + chance.choice([0, 0, 1, -3])) + m
        for m in hostile_answers(chance, 20)
        if len(m) > 9
    ]
    expected: dict[bytes, tuple[bytes, int]] = {}
    for message in udp:
        text, addresses = dns_answer(message[:512], 17)
        expected |= {address: (text, ttl) for address, ttl in addresses}
    # of a stream its first pieces are looked at, and so they are sent
    for message in tcp:
        for end in [*range(20, min(len(message), 160), 20), min(len(message), 160)]:
            text, addresses = dns_answer(message[:end], 6)
            expected |= {address: (text, ttl) for address, ttl in addresses}
    kept: dict[bytes, np.void | None] = {}
    between = [clock.boottime_ns()]

    def look(watch: Watch) -> None:
        between.append(clock.boottime_ns())
        kept.update({address: entry_of(watch, address) for address in expected})

    run(tmp_path, [], udp, tcp, between=after(tmp_path, look))
    assert len(kept) > 500
    rules = load_rules([tmp_path / "rules.toml"])
    present = 0
    for address, (text, ttl) in expected.items():
        signals = np.zeros(WORDS, np.int64)
        data = np.frombuffer(bytearray(text or b"\0"), np.uint8)
        scan(data, 0, len(text), WHERE_HOST, rules.automaton, signals)
        entry = kept[address]
        if not signals.any():
            assert entry is None, (address, text)
            continue
        present += 1
        assert entry is not None, (address, text)
        assert (entry["signals"].astype(np.int64) == signals).all()
        assert int(entry["epoch"]) == 1
        learnt = int(entry["until"]) - min(max(ttl, 300), 3600) * 1_000_000_000
        assert between[0] <= learnt <= between[1]
    assert 100 < present < len(kept) - 100
