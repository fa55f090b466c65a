# SPDX-License-Identifier: Apache-2.0
"""What probes are given: the image of the rules, and those rules that they can decide by themselves."""

from __future__ import annotations

import ipaddress
import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.facts import FACT_BIT, FACTS, FIRST_GROUP, PROBE_FACTS, WORD_BITS, WORDS
from tracer.errors import RuleError
from tracer.kernel import libbpf, schema
from tracer.kernel.knowledge import Knowledge, build, row_cells
from tracer.rules import RuleSet, Sample, load_rules
from tracer.rules.model import (
    ACTIONS,
    FIELDS,
    FIELDS_ON,
    INTERPRETER_GROUP,
    MATCHES,
    ON,
    SEVERITIES,
    Alternative,
    Group,
    Rule,
    Terms,
)
from tracer.rules.numbers import inode_range
from tracer.rules.scan import scan

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_ranges
import naive_rules
from naive_knowledge import Image

ON_WHICH = ["exec", "flow"]
THAT_FILE = "8:1:131234:1000:1700000000000000000"
WIRE = {"sent": False, "received": True}
LETTERS = "aAbB1.=-_/é"
#: The same file, written to since, and others.
OTHER_FILES = [
    inode_range(text)[0]
    for text in (
        "8:1:131234:1000:1700000000000000001",
        "8:1:131234:1001:1700000000000000000",
        "8:2:131234",
        "0:0:0",
    )
]
FLAGS = {
    "memfd": "EXEC_MEMFD",
    "deleted": "EXEC_DELETED",
    "script": "EXEC_SCRIPT",
    "setid": "EXEC_SETID",
    "args-cut": "EXEC_ARGS_CUT",
}


@st.composite
def rule_sets(draw: st.DrawFn, letters: str = LETTERS) -> RuleSet:
    groups = []
    for number in range(draw(st.integers(1, 6))):
        match = draw(st.sampled_from(sorted(set(MATCHES) - {"range"})))
        fields = [field for field in MATCHES[match].fields if field != "file"]
        where = draw(st.sets(st.sampled_from(fields), min_size=1))
        values = draw(st.lists(st.text(letters, min_size=1, max_size=5), min_size=1, max_size=5, unique=True))
        groups.append(
            Group(f"g{number}", tuple(sorted(where)), match, draw(st.booleans()), tuple(values), "test", 1)
        )
    groups.append(Group("near", ("port",), "range", False, ("22",), "test", 1))
    groups.append(Group("that", ("inode",), "range", False, (THAT_FILE,), "test", 1))
    rules = []
    for number in range(draw(st.integers(1, 5))):
        on = draw(st.sampled_from(ON_WHICH))
        names = [f"@{fact.name}" for fact in FACTS if on in fact.on]
        if on == "exec":
            names = [f"@{name}" for name in PROBE_FACTS] + ["@shell-command", "@inline-code", "@wallet"]
        names = names[:9] + [g.id for g in groups if set(g.where) & set(FIELDS_ON[on])] * 2
        some = st.lists(st.sampled_from(names), max_size=3, unique=True).map(tuple)
        alternatives = []
        for _ in range(draw(st.integers(1, 3))):
            every, wanted = draw(some), draw(some)
            if not every and not wanted:
                every = (draw(st.sampled_from(names)),)
            at_least = draw(st.integers(1, len(wanted))) if wanted else 0
            alternatives.append(
                Alternative(every, wanted, at_least, draw(some), draw(st.sampled_from(SEVERITIES)))
            )
        rules.append(
            Rule(f"net.r{number}", "t", on, "low", (), "", "alert", True, tuple(alternatives), "test", 1)
        )
    return RuleSet(tuple(groups), tuple(rules))


def pieces(rules: RuleSet) -> st.SearchStrategy[bytes]:
    literals = [value.encode() for group in rules.groups for value in group.texts]
    return st.one_of(
        st.sampled_from(literals),
        st.sampled_from(literals).map(bytes.swapcase),
        st.sampled_from([b"\0", b".", b"\x03", b"\n", b"=", b"/", b"sh", b"-", b"a", b"\xff", b"python3.12"]),
    )


def words_of(rules: RuleSet, field: str, text: bytes, signals: np.ndarray) -> None:
    data = np.frombuffer(bytearray(text), np.uint8)
    scan(data, 0, len(text), FIELDS[field], rules.automaton, signals)


def visible(rules: RuleSet, signals: list[int]) -> list[int]:
    """Without the hidden group."""
    word, bit = divmod(FIRST_GROUP + len(rules.groups), WORD_BITS)
    return [value & ~(1 << bit) if at == word else value for at, value in enumerate(signals)]


def holding(rules: RuleSet, on: str, there: set[str]) -> set[int]:
    """The rows of the table that hold, by the meaning of the words."""
    found = set()
    rows = [(rule, a) for rule in rules.rules if rule.enabled for a in rule.alternatives]
    rows.sort(key=lambda row: (ON[row[0].on], -SEVERITIES.index(row[1].severity)))
    for number, (rule, alternative) in enumerate(rows):
        one = [Rule(rule.id, "t", rule.on, "low", (), "", "", True, (alternative,), "", 0)]
        if naive_rules.evaluate(on, there, one):
            found.add(number)
    return found


def names_there(rules: RuleSet, signals: list[int], on: str) -> set[str]:
    facts = {f"@{fact.name}" for fact in FACTS if on in fact.on}
    return {
        name
        for name, number in rules.numbers.items()
        if signals[number // WORD_BITS] >> number % WORD_BITS & 1 and (name[0] != "@" or name in facts)
    }


def rows_that_hold(rules: RuleSet, on: str, signals: list[int]) -> list[int]:
    """The rows that the probes' masks say hold."""
    p, found = rules.probe_rows, []
    for at in np.flatnonzero(p.on == ON[on]):
        masks = [[int(w) for w in table[at]] for table in (p.all_of, p.any_of, p.none_of)]
        some = sum((w & s).bit_count() for w, s in zip(masks[1], signals, strict=True))
        if (
            all(w & s == w for w, s in zip(masks[0], signals, strict=True))
            and not any(w & s for w, s in zip(masks[2], signals, strict=True))
            and some >= int(p.at_least[at])
        ):
            found.append(int(p.row[at]))
    return found


# Which rules a probe can decide


@settings(max_examples=400)
@given(rule_sets(), st.data())
def test_a_probe_never_says_too_much(rules: RuleSet, data: st.DataObject):
    on = data.draw(st.sampled_from(ON_WHICH))
    fitting = [g for g in rules.groups if set(g.where) & set(FIELDS_ON[on])]
    names = [f"@{fact.name}" for fact in FACTS if on in fact.on] + 3 * [group.id for group in fitting]
    there = data.draw(st.sets(st.sampled_from(names)))
    interpreter = bool(there & {"@shell-command", "@inline-code"}) or data.draw(st.booleans())
    # what the probe sees: the groups in its own fields, its own facts, and whether it is an interpreter
    probe_fields = {"exec": {"name", "path", "args", "inode"}, "flow": {"sent", "received"}}[on]
    seen = {name for name in there if name[1:] in PROBE_FACTS and on == "exec"}
    for group in fitting:
        inside, outside = (
            set(group.where) & probe_fields,
            set(group.where) & set(FIELDS_ON[on]) - probe_fields,
        )
        found_here = bool(inside) and (not outside or data.draw(st.booleans()))
        if group.id in there and found_here:
            seen.add(group.id)
    signals = [0] * WORDS
    for name in seen:
        signals[rules.numbers[name] // WORD_BITS] |= 1 << rules.numbers[name] % WORD_BITS
    if on == "exec" and interpreter:
        word, bit = divmod(FIRST_GROUP + len(rules.groups), WORD_BITS)
        signals[word] |= 1 << bit
    said = rows_that_hold(rules, on, signals)
    assert set(said) <= holding(rules, on, there)
    # and nothing less, where the probe can know all that is asked for
    for row in holding(rules, on, there):
        rule, severity = rules.alternative_rule[row]
        alternative = next(
            a
            for a in rule.alternatives
            if a.severity == severity and naive_rules.evaluate(on, there, [_only(rule, a)])
        )
        known = {f"@{name}" for name in PROBE_FACTS} if on == "exec" else set()
        known |= {g.id for g in fitting if set(g.where) & set(FIELDS_ON[on]) <= probe_fields}
        if {*alternative.all, *alternative.any, *alternative.none} <= known:
            same = {r for r in said if rules.alternative_rule[r] == (rule, severity)}
            assert same


def _only(rule: Rule, alternative: Alternative) -> Rule:
    return Rule(rule.id, "t", rule.on, "low", (), "", "", True, (alternative,), "", 0)


def alternative_rows(on: str, groups: list[Group], **conditions: tuple[str, ...]) -> int:
    some = conditions.get("any", ())
    alternative = Alternative(
        conditions.get("all", ()), some, min(1, len(some)), conditions.get("none", ()), "low"
    )
    rule = Rule("net.r", "t", on, "low", (), "", "alert", True, (alternative,), "test", 1)
    return int(np.count_nonzero(RuleSet(tuple(groups), (rule,)).probe_rows.on == ON[on]))


def test_what_a_probe_can_decide():
    def text(name: str, *where: str) -> Group:
        return Group(name, where, "substring", False, ("x",), "test", 1)

    sent, host, both = text("sent", "sent"), text("host", "host"), text("both", "sent", "host")
    groups = [sent, host, both, text("xshell-command", "host")]
    assert alternative_rows("flow", groups, all=("sent",)) == 1
    assert alternative_rows("flow", groups, all=("host",)) == 0
    assert alternative_rows("flow", groups, all=("both",)) == 1
    assert alternative_rows("flow", groups, any=("sent", "@tls")) == 1
    assert alternative_rows("flow", groups, all=("sent", "@tls")) == 0
    assert alternative_rows("flow", groups, all=("sent",), none=("both",)) == 0
    assert alternative_rows("flow", groups, all=("sent",), none=("@loopback",)) == 0
    assert alternative_rows("flow", groups, all=("sent",), none=("xshell-command",)) == 0
    # a name that has been seen accuses; that there is none can't be known
    assert alternative_rows("connect", groups, any=("host",)) == 1
    assert alternative_rows("connect", groups, any=("host",), none=("both",)) == 0
    network, port = (Group(name, (name,), "range", False, (), "test", 1) for name in ("network", "port"))
    assert alternative_rows("connect", [network, port], all=("network",), none=("port", "@loopback")) == 1
    assert alternative_rows("connect", [network, host], all=("network",), none=("host",)) == 0
    assert alternative_rows("connect", [network], all=("network", "@unresolved")) == 0
    assert alternative_rows("flow", [network, port], all=("network",), none=("port",)) == 1
    assert alternative_rows("flow", [network], all=("network",), none=("@loopback",)) == 0
    assert alternative_rows("listen", [port], none=("port",)) == 1
    args = text("args", "args")
    assert alternative_rows("exec", [args], all=("args", "@memfd"), none=("@shell-command",)) == 1
    assert alternative_rows("exec", [args], all=("args",), none=("@wallet",)) == 0


def test_answers_are_read_only_if_a_rule_asks_for_names():
    host = Group("host", ("host",), "domain", False, ("a.test",), "test", 1)
    port = Group("port", ("port",), "range", False, ("22",), "test", 1)

    def asked(on: str, **names: tuple[str, ...]) -> bool:
        terms = {"all": (), "any": (), "none": (), **names}
        alternative = Alternative(terms["all"], terms["any"], len(terms["any"]), terms["none"], "high")
        rule = Rule("net.r", "t", on, "high", (), "", "block", True, (alternative,), "test", 1)
        rules = RuleSet((host, port), (rule,))
        header = Image(build(rules, 1)).header
        assert bool(header["names_asked"]) == rules.probe_rows.names_asked
        return rules.probe_rows.names_asked

    assert asked("connect", any=("host",))
    assert asked("connect", all=("port", "host"))
    assert not asked("connect", all=("port",))
    assert not asked("connect", all=("port",), none=("host",))
    assert not asked("flow", all=("host",))
    assert RuleSet((), ()).probe_rows.names_asked is False
    assert load_rules().probe_rows.names_asked, "the cluster's API has a name"
    assert load_rules().probe_rows.places_asked, "the cloud's metadata service has an address"


def test_what_acts_and_who_decides():
    groups = (Group("word", ("args",), "substring", False, ("x",), "test", 1),)
    alternatives = tuple(Alternative(("word",), (), 0, (), severity) for severity in SEVERITIES)
    rule = Rule("exec.r", "t", "exec", "low", (), "", "kill", True, alternatives, "test", 1)
    for act_from, wanted in (("low", 4), ("high", 2), ("critical", 1)):
        rows = RuleSet(groups, (rule,), terms=Terms(act_from=act_from)).probe_rows
        acting = [ACTIONS[n] for n in rows.action[rows.on == ON["exec"]]]
        assert acting == ["kill"] * wanted + ["alert"] * (4 - wanted)
    undecided = RuleSet(groups, (rule,), terms=Terms(undecided={"exec.r": None})).probe_rows
    assert not (undecided.on == ON["exec"]).any()


@given(st.sampled_from(["exec", "connect", "flow"]), st.booleans(), st.booleans())
def test_what_an_exception_names_is_left_to_user_space(on: str, known: bool, other_rule: bool):
    """Such rows hold of whatever has none of the groups; where one of them can't be known, there is no row."""
    known = known or on == "exec"  # which has nothing that only user space finds
    where = {"exec": "path", "connect": "network", "flow": "port"}[on] if known else "host"
    unless = Group(
        "unless", (where,), "range" if where in ("network", "port") else "whole", True, (), "test", 1
    )
    word = Group(
        "word", ({"exec": "args", "connect": "port", "flow": "sent"}[on],), "substring", True, (), "test", 1
    )
    rule = Rule(
        "net.r", "t", on, "low", (), "", "kill", True, (Alternative(("word",), (), 0, (), "low"),), "test", 1
    )
    name = "net.another" if other_rule else "net.r"
    rows = RuleSet((word, unless), (rule,), terms=Terms(undecided={name: ("unless",)})).probe_rows
    (places,) = np.nonzero(rows.on == ON[on])
    assert len(places) == (known or other_rule)
    for place in places:
        assert rows.none_of[place].any() == (not other_rule)
    assert rows.places_asked == (on == "flow" and known and not other_rule)


def test_actions_have_the_numbers_that_probes_know():
    assert [schema.ACTION[f"ACTION_{name.upper().replace('-', '_')}"] for name in ACTIONS] == list(range(6))
    assert schema.ACTION["ACTIONS"] == len(ACTIONS)


# The image


NETWORKS = [
    "203.0.113.0/24",
    "203.0.113.7/32",
    "2001:db8::/32",
    "2001:db8::1/128",
    "10.9.0.0/16",
    "0.0.0.0/0",
    "::/0",
]
ADDRESSES = [
    "203.0.113.7", "203.0.113.8", "203.0.112.255", "203.0.114.0", "10.9.255.255", "10.10.0.0", "127.0.0.1", "8.8.8.8",
    "::1", "2001:db8::1", "2001:db8::2", "2001:db9::", "::ffff:203.0.113.7", "fe80::1", "0.0.0.0", "::", "ff02::1",
]  # fmt: skip
PORTS = ["22", "8000-8100", "udp/53", "tcp/443", "0-1023", "65535"]


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.lists(st.sampled_from(PORTS), min_size=1, max_size=3), min_size=1, max_size=2),
    st.sampled_from(ADDRESSES).map(ipaddress.ip_address),
    st.sampled_from([0, 22, 53, 443, 1023, 1024, 8000, 8100, 8101, 65535]),
    st.sampled_from([6, 17]),
    st.sampled_from([(), ("198.51.100.0/24", "8.0.0.0/8")]),
)
def test_places_like_the_engine(networks, ports, address, port, protocol, own):
    groups = [Group(f"n{i}", ("network",), "range", False, tuple(v), "t", 1) for i, v in enumerate(networks)]
    groups += [Group(f"p{i}", ("port",), "range", False, tuple(v), "t", 1) for i, v in enumerate(ports)]
    rules = RuleSet(tuple(groups), (), terms=Terms(own_networks=own))
    there = naive_ranges.of_address(address, groups, own) | naive_ranges.of_port(protocol, port, groups)
    if not there & {"@internal", "@loopback"}:
        there.add("@external")
    if protocol != 6:
        there.add("@datagrams")
    signals, stays = Image(build(rules, 1)).judge_place(address, port, protocol)
    assert names_there(rules, signals, "connect") == there
    assert stays == ("@loopback" in there)


@settings(max_examples=150)
@given(rule_sets(), st.data())
def test_execs_like_the_engine(rules: RuleSet, data: st.DataObject):
    piece = pieces(rules)
    text = st.lists(piece, max_size=8).map(b"".join)
    path = data.draw(text).replace(b"\0", b"")
    called = data.draw(text).replace(b"\0", b"")
    argv = [item.replace(b"\0", b"") for item in data.draw(st.lists(text, max_size=4))]
    facts = data.draw(st.sets(st.sampled_from(sorted(FLAGS)))) | data.draw(
        st.sets(st.sampled_from(["stdin-network", "stdout-network"]))
    )
    args = b"".join(item + b"\0" for item in argv)
    image = Image(build(rules, 7))
    network = schema.FD_KIND["FD_NETWORK"]
    flags = sum(schema.EXEC_FLAG[FLAGS[fact]] for fact in facts if fact in FLAGS)
    stdio = tuple(network if f"std{way}-network" in facts else 0 for way in ("in", "out"))
    that = data.draw(st.booleans())
    file = inode_range(THAT_FILE)[0] if that else data.draw(st.sampled_from(OTHER_FILES))
    signals, row = image.judge_exec(path, called, args, flags, stdio, file)
    first = argv[0] if argv else b""
    names = tuple(item.rpartition(b"/")[2] for item in (path, called, first))
    groups = frozenset({"that"} if that else ())
    sample = Sample(names, path, b"".join(a + b"\0" for a in argv[1:]), frozenset(facts), groups=groups)
    expected = [int(word) for word in rules.signals(sample)]
    assert visible(rules, signals) == expected
    # the facts that it can't know are missing on both sides: it may say less, and here no more than this
    rows = rows_that_hold(rules, "exec", signals)
    assert row == (rows[0] + 1 if rows else 0)
    assert set(rows) <= holding(rules, "exec", names_there(rules, expected, "exec"))
    name = path.rpartition(b"/")[2].removeprefix(b"-")
    known = {value.encode() for value in INTERPRETER_GROUP.values}
    assert (signals != visible(rules, signals)) == (name in known or name.rstrip(b"0123456789.") in known)


@settings(max_examples=150)
@given(rule_sets(), st.data())
def test_first_bytes_like_the_engine(rules: RuleSet, data: st.DataObject):
    image = Image(build(rules, 7))
    signals, expected = [0] * WORDS, np.zeros(WORDS, np.int64)
    for field, text in data.draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(WIRE)), st.lists(pieces(rules), max_size=12).map(b"".join)),
            min_size=1,
            max_size=3,
        )
    ):
        signals, row = image.judge_first(text, WIRE[field], signals)
        words_of(rules, field, text, expected)
        assert signals == [int(word) for word in expected]
        rows = rows_that_hold(rules, "flow", signals)
        assert row == (rows[0] + 1 if rows else 0)


@pytest.mark.parametrize(("last", "cells"), [(0x80, 64), (0xA0, 128), (0x800, 256)])
def test_many_classes(last: int, cells: int):
    """A row of more than 64 cells makes longer elements, of which the rest of the image uses a part."""
    first = ord("!") if cells > 64 else ord("0")
    letters = [chr(code) for code in range(first, min(last, 0x100))]
    letters += [chr(code) for code in range(0x100, last, 0x40)]
    if cells == 256:
        letters = [chr(code) for code in range(1, 0x80)] + letters
    values = tuple(a + b for a, b in zip(letters, letters[1:] + letters[:1], strict=True))
    groups = tuple(
        Group(f"g{number}", ("args", "sent"), "substring", bool(number & 1), values[number::40], "test", 1)
        for number in range(40)
    )
    rules = RuleSet(groups, ())
    assert row_cells(rules.automaton) == cells
    image = Image(build(rules, 1))
    assert image.cells == cells
    for text in ("".join(letters).encode(), "".join(letters).upper().encode(), bytes(range(1, 256))):
        signals, _ = image.judge_exec(b"", b"", b"x\0" + text)
        expected = np.zeros(WORDS, np.int64)
        words_of(rules, "args", text, expected)
        assert signals == [int(word) for word in expected]


def test_the_packs_fit_and_are_found():
    rules = load_rules()
    image = Image(build(rules, 3))
    assert int(image.header["epoch"]) == 3
    _, row = image.judge_exec(b"/tmp/x", b"./x", b"./x\0-o\0stratum+tcp://pool.example:3333\0")
    assert row
    rule, severity = rules.alternative_rule[row - 1]
    assert (rule.id, severity) == ("miner.command", "critical")
    _, row = image.judge_exec(b"/usr/bin/python3.12", b"python3", b"python3\0-c\0stratum+tcp://a.b:1\0")
    assert row == 0 or rules.alternative_rule[row - 1][1] != "critical"
    _, row = image.judge_first(b'{"id":1,"method":"mining.subscribe"}', False, [0] * WORDS)
    rule, severity = rules.alternative_rule[row - 1]
    assert (rule.id, severity) == ("miner.stratum", "critical")
    assert image.judge_first(b"GET / HTTP/1.1\r\n\r\n", False, [0] * WORDS)[1] == 0


def test_facts_of_flags():
    header = Image(build(RuleSet((), ()), 1)).header
    for flag, number in schema.EXEC_FLAG.items():
        fact = {value: key for key, value in FLAGS.items()}.get(flag)
        if flag == "EXEC_ARGS_UNREADABLE":
            fact = "args-cut"
        wanted = 1 + FACT_BIT[fact] if fact else 0
        assert int(header["flag_facts"][number.bit_length() - 1]) == wanted


# The map


class FakeMap:
    """Takes the place of the array of maps."""

    def __init__(self) -> None:
        self.images: list[bytes] = []

    def update(self, key: bytes, value: bytes) -> None:
        assert key == bytes(4)
        fd = int.from_bytes(value, "little")
        self.images.append(os.pread(fd, os.fstat(fd).st_size, 0))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Files in memory instead of maps: their descriptors, sizes of an element, and numbers of them."""
    made = []

    def create(name: bytes, value_size: int, entries: int, *, mappable: bool) -> int:
        assert mappable and name
        fd = os.memfd_create("map")
        os.ftruncate(fd, -(-value_size * entries // mmap.PAGESIZE) * mmap.PAGESIZE)
        made.append((fd, value_size, entries))
        return fd

    monkeypatch.setattr(libbpf, "create_array", create)
    return made


def with_words(count: int, letters: str = "ab") -> RuleSet:
    values = tuple(f"{letters}{number:04x}" for number in range(count))
    return RuleSet((Group("g", ("args",), "substring", False, values, "test", 1),), ())


def is_closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


def test_rules_are_replaced_in_one_step(memory):
    outer = FakeMap()
    knowledge = Knowledge(with_words(10))
    assert memory[0][1] == knowledge.cells * 4
    knowledge.install(outer)
    assert is_closed(memory[0][0])
    assert knowledge.replace(outer, with_words(12)) == knowledge.epoch == 2
    assert knowledge.replace(outer, with_words(4)) == 3
    assert all(is_closed(fd) for fd, _, _ in memory)
    assert len({(size, entries) for _, size, entries in memory}) == 1
    for number, content in enumerate(outer.images, 1):
        image = np.frombuffer(content[: len(content) // memory[0][1] * memory[0][1]], np.uint8)
        assert int(Image(image.reshape(-1, memory[0][1])).header["epoch"]) == number


def test_a_narrower_image_keeps_the_shape_of_the_map(memory):
    wide = "".join(chr(code) for code in range(33, 127)) + "äöüéèàçñ"
    rules = RuleSet((Group("g", ("args",), "substring", False, (wide,), "test", 1),), ())
    knowledge = Knowledge(rules)
    assert knowledge.cells == 128
    outer = FakeMap()
    knowledge.install(outer)
    narrow = with_words(4)
    knowledge.replace(outer, narrow)
    size = memory[-1][1]
    content = outer.images[-1][: len(outer.images[-1]) // size * size]
    signals, _ = Image(np.frombuffer(content, np.uint8).reshape(-1, size)).judge_exec(b"", b"", b"x\0ab0003")
    assert visible(narrow, signals) == signals != [0] * WORDS


def test_rules_that_are_too_large_change_nothing(memory):
    knowledge, outer = Knowledge(with_words(10)), FakeMap()
    knowledge.install(outer)
    wide = "".join(chr(code) for code in range(33, 127))
    broad = RuleSet((Group("g", ("args",), "substring", False, (wide,), "test", 1),), ())
    for rules in (with_words(3000), broad):
        with pytest.raises(RuleError, match="too large to be taken in") as caught:
            knowledge.replace(outer, rules)
        assert caught.value.hint
    assert (knowledge.epoch, len(outer.images)) == (1, 1)


def test_a_failure_leaves_nothing_open(memory, monkeypatch: pytest.MonkeyPatch):
    knowledge = Knowledge(with_words(3))

    class Broken(FakeMap):
        def update(self, key: bytes, value: bytes) -> None:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        knowledge.replace(Broken(), with_words(4))
    assert knowledge.epoch == 1
    knowledge.close()
    knowledge.close()
    assert all(is_closed(fd) for fd, _, _ in memory)
