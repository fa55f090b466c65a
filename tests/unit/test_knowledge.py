# SPDX-License-Identifier: Apache-2.0
"""The image of the rules that probes are given: they find in it what the engine finds."""

from __future__ import annotations

import ipaddress

import naive_ranges
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_knowledge import Image
from rule_sets import (
    FLAGS,
    OTHER_FILES,
    THAT_FILE,
    WIRE,
    holding,
    names_there,
    pieces,
    rows_that_hold,
    rule_sets,
    visible,
    words_of,
)

from tracer.detect.facts import FACT_BIT, WORDS
from tracer.kernel import schema
from tracer.kernel.knowledge import build, row_cells
from tracer.rules import RuleSet, Sample, load_rules
from tracer.rules.model import INTERPRETER_GROUP, Group, Terms
from tracer.rules.numbers import inode_range

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
