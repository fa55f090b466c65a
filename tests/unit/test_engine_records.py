# SPDX-License-Identifier: Apache-2.0
"""Records in, rules out: what the engine makes of made-up events of every kind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.facts import FACT_BIT, WORD_BITS, WORDS
from tracer.engine.engine import Engine
from tracer.evidence import evidence_of
from tracer.kernel import schema
from tracer.kernel.knowledge import build
from tracer.rules import RuleSet, load_rules
from tracer.rules.model import Terms

sys.path.insert(0, str(Path(__file__).parent.parent))
import records
from naive_knowledge import Image
from records import EPOCH, UDP, close, connect, execute, first
from wire_bytes import LOGIN, answer, client_hello, noise, question, record

OUTSIDE, INSIDE, HERE = "198.51.100.7", "10.1.2.3", "127.0.0.1"
PACKS = load_rules()
IMAGE = Image(build(PACKS, EPOCH))
SSH = b"SSH-2.0-OpenSSH_9.6\r\n"

EXTRA = """
[indicators.told-names]
where = "host"
match = "domain"
values = ["pool.test"]
[indicators.mail]
where = "port"
values = ["tcp/25"]
"""
for _fact in (
    "external",
    "internal",
    "loopback",
    "unresolved",
    "accepted",
    "late",
    "datagrams",
    "by-interpreter",
):
    EXTRA += f'[rules."net.c-{_fact}"]\ntitle = "t"\non = "connect"\nseverity = "low"\nall = ["@{_fact}"]\n'
EXTRA += """
[rules."net.c-name"]
title = "t"
on = "connect"
severity = "low"
any = ["told-names", "mail"]
"""


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("rules") / "extra.toml"
    path.write_text(EXTRA + records.BOTH_WAYS)
    return load_rules([path])


def engine(rules=PACKS, *, flows: int = 64, own: tuple[str, ...] = ()) -> Engine:
    if own:
        rules = RuleSet(rules.groups, rules.rules, terms=Terms(own_networks=own))
    made = Engine(rules, processes=64, flows=flows)
    made.judge_by(rules, EPOCH)
    return made


def fired(e: Engine, *batch: bytes) -> list[dict[str, str]]:
    """By event that fired: rules and severities."""
    return [{rule.id: severity for rule, severity in found.rules} for found in e.feed(batch)]


# Flows


@pytest.mark.parametrize("port", [22, 53, 80, 443, 3333, 65535])
@pytest.mark.parametrize("remote", [OUTSIDE, INSIDE, HERE, "2001:db8::1", "::ffff:198.51.100.7"])
def test_a_miner_is_known_on_any_port(port: int, remote: str):
    (found,) = fired(engine(), first(LOGIN, remote, port))
    assert found["miner.stratum"] == "critical"


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (LOGIN, False),
        (b'{"id":1,"method":"mining.subscribe","params":[]}\n', False),
        (SSH, True),
        (b"GET /", False),
    ],
)
def test_a_verdict_of_the_probe_makes_no_difference(data: bytes, received: bool):
    signals, _ = IMAGE.judge_first(data, received, [0] * WORDS)
    judged = fired(engine(), first(data, received=received, signals=signals))
    assert judged == fired(engine(), first(data, received=received))
    # other rules have judged: their words mean nothing
    stale = first(data, received=received, signals=[2**62 - 1] * WORDS, epoch=EPOCH - 1)
    assert judged == fired(engine(), stale)


@pytest.mark.parametrize("argv", [[b"./xmrig"], [b"./x", b"-o", b"stratum+tcp://a.b:1"], [b"ls"]])
def test_a_verdict_on_an_exec_makes_no_difference(argv: list[bytes]):
    path = b"/tmp/" + argv[0].rpartition(b"/")[2]
    signals, _ = IMAGE.judge_exec(path, path, b"".join(a + b"\0" for a in argv))
    judged = fired(engine(), execute(argv, path, signals=signals))
    assert judged == fired(engine(), execute(argv, path))
    assert bool(judged) == (argv != [b"ls"])


def test_both_directions_are_one_conversation(extra):
    e = engine(extra)
    assert fired(e, first(b"hello", cookie=4)) == []
    assert fired(e, first(b"welcome", cookie=5, received=True)) == []
    assert fired(e, first(b"welcome", cookie=4, received=True)) == [{"net.both": "low"}]
    assert fired(e, first(b"welcome", cookie=4, received=True)) == []  # told already
    # a new socket of the same cookie, or the same socket used again
    assert fired(e, close(4), first(b"welcome", cookie=4, received=True)) == []
    assert fired(e, connect(INSIDE, cookie=4), first(b"hello", cookie=4))[1:] == []
    assert fired(e, first(b"welcome", cookie=4, received=True)) == [{"net.both": "low"}]


def test_datagrams_are_judged_singly(extra):
    e = engine(extra)
    assert fired(e, first(b"hello", protocol=UDP), first(b"welcome", protocol=UDP, received=True)) == []


def test_flows_without_room_have_nothing_to_do_with_each_other(extra):
    e = engine(extra, flows=1)
    assert fired(e, first(b"x", cookie=1)) == []
    assert [f["miner.stratum"] for f in fired(e, first(LOGIN, cookie=2))] == ["critical"]
    assert fired(e, first(b"welcome", INSIDE, cookie=3, received=True)) == []
    assert [f["miner.stratum"] for f in fired(e, first(LOGIN, cookie=3))] == ["critical"]
    # what said nothing of note makes room, what did doesn't
    losses = e.table_losses()
    assert (losses["flows-forgotten"], losses["flow-table-full"]) == (1, 2)


def test_rules_that_come_later_judge_what_comes_later(extra, tmp_path: Path):
    e = engine(extra)
    fired(e, first(b"hello", cookie=4), first(LOGIN, cookie=6))
    e.judge_by(extra, EPOCH + 1)
    # what was said before was found by other rules
    assert fired(e, first(b"welcome", cookie=4, received=True)) == []
    assert fired(e, first(b"hello", cookie=4)) == [{"net.both": "low"}]
    # a verdict by the old rules is judged again
    assert fired(e, first(b"hello", cookie=9, signals=[2**62 - 1] * WORDS)) == []
    off = tmp_path / "off.toml"
    off.write_text('[rules."miner.stratum"]\nenabled = false\n')
    e.judge_by(load_rules([off]), EPOCH + 2)
    assert all("miner.stratum" not in found for found in fired(e, first(LOGIN, cookie=8)))
    e.judge_by(PACKS, EPOCH + 3)
    assert "miner.stratum" in fired(e, first(LOGIN, cookie=8))[0]


# Connects


def facts(e: Engine, *batch: bytes) -> set[str]:
    return {rule.removeprefix("net.c-") for found in fired(e, *batch) for rule in found}


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        (OUTSIDE, {"external", "unresolved"}),
        ("2001:db8::1", {"external", "unresolved"}),
        (INSIDE, {"internal"}),
        ("fe80::1", {"internal"}),
        ("::ffff:10.0.0.1", {"internal"}),
        (HERE, {"loopback"}),
        ("::1", {"loopback"}),
        ("203.0.113.9", {"internal"}),
    ],
)
def test_where_the_other_end_is(extra, remote: str, expected: set[str]):
    assert facts(engine(extra, own=("203.0.113.0/24",)), connect(remote)) == expected


def test_what_else_a_connect_says(extra):
    flags = schema.FLOW_FLAG["FLOW_ACCEPTED"] | schema.FLOW_FLAG["FLOW_LATE"]
    assert facts(engine(extra), connect(HERE, flags=flags)) == {"loopback", "accepted", "late"}
    assert facts(engine(extra), connect(HERE, protocol=UDP)) == {"loopback", "datagrams"}
    assert facts(engine(extra), connect(HERE, 25)) == {"loopback", "name"}
    assert facts(engine(extra), connect(HERE, 25, protocol=UDP)) == {"loopback", "datagrams"}
    bash = execute([b"bash"], b"/bin/bash", tgid=3)
    assert facts(engine(extra), bash, connect(HERE, tgid=3)) == {"loopback", "by-interpreter"}


def test_a_name_that_was_looked_up(extra):
    e, second = engine(extra), 1_000_000_000
    packed = bytes([198, 51, 100, 7])
    said = answer(b"eu.pool.test", record(b"\xc0\x0c", 1, packed, ttl=600))
    about_dns = {"port": 53, "protocol": UDP, "cookie": 3}
    asked = question(b"eu.pool.test")
    assert fired(e, first(asked, INSIDE, ts=second, **about_dns)) == []
    assert fired(e, first(said, INSIDE, received=True, ts=second, **about_dns)) == []
    raw = packed + bytes(12)
    assert e.name_of(raw, 2, 2 * second) == b"eu.pool.test"
    assert e.name_of(raw, 2, 601 * second) == b""
    assert e.name_of(packed[::-1] + bytes(12), 2, 2 * second) == b""
    assert facts(e, connect(OUTSIDE, ts=2 * second)) == {"external", "name"}
    assert facts(e, connect("::ffff:198.51.100.7", ts=3 * second, cookie=8)) == {"external", "name"}
    assert facts(e, connect(OUTSIDE, ts=700 * second, cookie=9)) == {"external", "unresolved"}
    # a question is no answer, whoever sends it
    assert fired(engine(extra), first(said, INSIDE, ts=second, **about_dns)) == []


# Files


def test_files_are_judged_by_the_rules_of_their_epoch():
    signals = [0] * WORDS
    for name in ("@packed", "@hostile-elf"):
        number = PACKS.numbers[name]
        signals[number // WORD_BITS] |= 1 << number % WORD_BITS
    assert fired(engine(), records.file(signals)) == [{"exec.packed": "medium"}]
    assert fired(engine(), records.file(signals, epoch=EPOCH - 1)) == []


# Any batching, any bytes

BYTES = st.sampled_from(
    [
        LOGIN,
        SSH,
        b"hello",
        b"welcome",
        client_hello("xmr.2miners.com"),
        b"\5\1\0",
        noise(80),
        question(b"a.example"),
    ]
)
REMOTES = st.sampled_from([OUTSIDE, INSIDE, HERE, "2001:db8::1"])
EVENTS = st.one_of(
    st.builds(
        first, BYTES, REMOTES, st.sampled_from([22, 53, 443, 3333]), received=st.booleans(),
        cookie=st.integers(1, 4), tgid=st.integers(1, 3), protocol=st.sampled_from([6, 6, 17]),
    ),
    st.builds(connect, REMOTES, cookie=st.integers(1, 4), tgid=st.integers(1, 3)),
    st.builds(close, st.integers(1, 4)),
    st.builds(
        execute, st.sampled_from([[b"./xmrig"], [b"bash", b"-c", b"x"], [b"ssh", b"-R", b"80:a:1", b"h"]]),
        st.sampled_from([b"/bin/bash", b"/tmp/x", b"/usr/bin/ssh"]), tgid=st.integers(1, 3),
    ),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(EVENTS, max_size=16), st.data())
def test_any_batching_gives_the_same(batch: list[bytes], data: st.DataObject):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(batch)), max_size=4)))
    whole, parts = engine(), engine()
    expected = fired(whole, *batch)
    found = []
    for lo, hi in zip([0, *cuts], [*cuts, len(batch)], strict=True):
        found += fired(parts, *batch[lo:hi])
    assert found == expected
    assert parts.received() == whole.received()
    assert np.array_equal(parts.state.flows.signals, whole.state.flows.signals)


SIZES = [schema.LAYOUT[kind].itemsize for kind in schema.LAYOUT]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 255) | st.integers(0, schema.KIND["EVENT_KINDS"]),
            st.sampled_from(SIZES) | st.integers(0, 700),
            st.integers(0, 2**32),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_any_bytes(rows):
    e = engine(flows=4)
    wrong = 0
    for kind, size, seed, honest in rows:
        raw = bytearray(np.random.default_rng(seed).bytes(size))
        head = schema.HEAD.fields
        if size >= schema.HEAD.itemsize:
            raw[head["kind"][1]] = kind
            if honest:
                at = head["size"][1]
                raw[at : at + 2] = size.to_bytes(2, "little")
        for found in e.feed([bytes(raw)]):
            json.dumps(evidence_of(e, found, e.describe(found.entry)))
        told = int.from_bytes(raw[head["size"][1] : head["size"][1] + 2], "little")
        least = schema.LAYOUT.get(kind, schema.HEAD).itemsize
        short = size < schema.HEAD.itemsize or told > size or not 0 < kind < schema.KIND["EVENT_KINDS"]
        wrong += short or size < least
    losses = e.table_losses()["malformed"]
    assert wrong <= losses <= len(rows)
    assert sum(e.received().values()) <= len(rows) - wrong


@settings(max_examples=150)
@given(EVENTS, st.integers(0, 700))
def test_cut_records_are_counted(event: bytes, length: int):
    e = engine()
    cut = event[:length]
    fired(e, cut)
    assert e.table_losses()["malformed"] == (len(cut) < len(event))


def test_lengths_beyond_the_record():
    e = engine()
    for field in ("path_len", "name_len", "cwd_len", "args_len", "preload_len"):
        assert fired(e, execute([b"./xmrig"], b"/tmp/xmrig")[:-1] + b"\0") != []
        row = np.frombuffer(bytearray(execute([b"./xmrig"], b"/tmp/xmrig")), np.uint8).copy()
        at = schema.EXEC.fields[field][1]
        row[at : at + 2] = 0xFF
        assert fired(e, row.tobytes()) == []
    assert fired(e, first(LOGIN, len=len(LOGIN) + 1)) == []
    assert e.table_losses()["malformed"] == 6


# Evidence


def evidence(e: Engine, *batch: bytes) -> dict:
    *_, found = [(f, evidence_of(e, f, e.describe(f.entry))) for f in e.feed(batch)]
    return found[1]


def test_evidence_of_a_flow():
    e = engine()
    found = evidence(e, first(LOGIN, OUTSIDE, 443))
    assert found["remote"] == "198.51.100.7:443"
    assert found["remote_address"] == OUTSIDE
    assert (found["remote_port"], found["transport"], found["direction"]) == (443, "tcp", "sent")
    assert found["protocol"] == "stratum"
    assert {"external", "unresolved"} <= set(found["facts"])
    assert found["first_bytes"].startswith('{"id":1')
    assert "remote_name" not in found
    json.dumps(found)
    found = evidence(engine(), first(LOGIN, "2001:db8::1", 443))
    assert found["remote"] == "[2001:db8::1]:443"


def test_evidence_of_a_connect(extra):
    e = engine(extra)
    hostile = b"\x1b[2J\xff\n.pool.test"
    said = answer(b"eu.pool.test", record(b"\xc0\x0c", 1, bytes([198, 51, 100, 7])))
    found = evidence(
        e, first(said, INSIDE, 53, received=True, protocol=UDP), connect(OUTSIDE, 25, cookie=2, ts=2)
    )
    assert found == {
        "remote": "eu.pool.test (198.51.100.7:25)",
        "remote_address": OUTSIDE,
        "remote_port": 25,
        "remote_name": "eu.pool.test",
        "transport": "tcp",
        "facts": ["external"],
        "matched": [{"group": "told-names", "in": "host", "indicator": "pool.test"}],
    }
    names = e.state.names
    (row,) = np.flatnonzero(names.keys[:, 2])
    names.texts[row, : len(hostile)] = np.frombuffer(hostile, np.uint8)
    names.lengths[row] = len(hostile)
    found = evidence(e, connect(OUTSIDE, 25, cookie=3, ts=2))
    assert found["remote_name"] == "\x1b[2J\\xff\n.pool.test"
    assert json.loads(json.dumps(found)) == found
    assert json.dumps(found).isprintable()


@settings(max_examples=100)
@given(st.binary(max_size=200), st.booleans())
def test_hostile_bytes_are_escaped(tail: bytes, received: bool):
    line = (
        b'{"id":1,"method":"mining.notify","params":["' + tail if received else LOGIN[:40] + tail + LOGIN[40:]
    )
    e = engine()
    for found in e.feed([first(line, received=received)]):
        shown = evidence_of(e, found, None)
        written = json.dumps(shown)
        assert json.loads(written) == shown
        assert written.isascii()
        assert written.isprintable()


def test_evidence_of_a_file_without_a_report():
    signals = [1 << FACT_BIT["packed"], *[0] * (WORDS - 1)]
    assert evidence(engine(), records.file(signals)) == {}
