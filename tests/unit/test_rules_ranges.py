# SPDX-License-Identifier: Apache-2.0
"""Networks, ports, ioctls and files: the sorted table against a twin that asks every value."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.facts import FIRST_GROUP, WORD_BITS, WORDS
from tracer.errors import RuleError
from tracer.rules import load_rules
from tracer.rules.model import Group
from tracer.rules.numbers import (
    SPACE_INODE,
    SPACE_IOCTL,
    SPACE_NETWORK,
    SPACE_PORT,
    port_ranges,
    ranges_of,
)
from tracer.rules.ranges import add_signals, compile_ranges, file_words
from tracer.rules.table import signal_numbers

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_ranges

EDGES4 = [0, 1, 0x0A000000, 0x7F000001, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
EDGES6 = [0, 1, 0xFFFF << 32, 1 << 63, 1 << 64, (1 << 64) - 1, 1 << 127, (1 << 128) - 1]
NUMBERS4 = st.sampled_from(EDGES4) | st.integers(0, (1 << 32) - 1)
NUMBERS6 = st.sampled_from(EDGES6) | st.integers(0, (1 << 128) - 1)


@st.composite
def networks(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        bits, number = draw(st.integers(0, 32)), draw(NUMBERS4)
        return str(ipaddress.IPv4Network((number >> 32 - bits << 32 - bits, bits)))
    bits, number = draw(st.integers(0, 128)), draw(NUMBERS6)
    return str(ipaddress.IPv6Network((number >> 128 - bits << 128 - bits, bits)))


@st.composite
def ports(draw: st.DrawFn) -> str:
    low = draw(st.integers(0, 65535) | st.sampled_from([0, 1, 22, 23, 65534, 65535]))
    high = draw(st.none() | st.integers(low, min(low + 300, 65535)) | st.just(65535))
    return draw(st.sampled_from(["", "tcp/", "udp/"])) + (str(low) if high is None else f"{low}-{high}")


@st.composite
def ioctls(draw: st.DrawFn) -> str:
    parts = [draw(st.integers(0, 3)), draw(st.sampled_from([0, 1, 0x2A, 0x2B, 0xFFFF]))]
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from([0, 1, 0xC86F, 0xFFFFFFFE, 0xFFFFFFFF])))
    return ":".join(draw(st.sampled_from([str, hex]))(part) for part in parts)


@st.composite
def inodes(draw: st.DrawFn) -> str:
    """Few of each, so that they meet."""
    parts = [draw(st.sampled_from([0, 8, 0xFFF])), draw(st.sampled_from([0, 1, 0xFFFFF]))]
    parts.append(draw(st.sampled_from([0, 1, 1 << 32, (1 << 64) - 1])))
    if draw(st.booleans()):
        parts += [
            draw(st.sampled_from([0, 1, 1 << 40])),
            draw(st.sampled_from([0, 1, 1_700_000_000 * 10**9])),
        ]
    return ":".join(map(str, parts))


VALUES = {"network": networks(), "port": ports(), "ioctl": ioctls(), "inode": inodes()}


@st.composite
def some_groups(draw: st.DrawFn) -> list[Group]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        where = draw(st.sampled_from(sorted(VALUES)))
        values = draw(st.lists(VALUES[where], min_size=1, max_size=5))
        found.append(Group(f"g{number}", (where,), "range", False, tuple(values), "test", 1))
    return found


def ask(ranges, groups: list[Group], space: int, number: int) -> set[str]:
    """The names of the signals that hold for ``number``."""
    high, low = np.array([number >> 64, number & (1 << 64) - 1], np.uint64).view(np.int64)
    signals = np.zeros(WORDS, np.int64)
    add_signals(ranges, np.int64(space), high, low, signals)
    bits = {w * WORD_BITS + b for w in range(WORDS) for b in range(WORD_BITS) if int(signals[w]) >> b & 1}
    names = signal_numbers(groups)
    asked = {names["@internal"]: "@internal", names["@loopback"]: "@loopback"}
    asked |= {names[group.id]: group.id for group in groups}
    return {asked[bit] for bit in bits}


def mapped(address: naive_ranges.Address) -> int:
    return int(address) | (0xFFFF << 32 if address.version == 4 else 0)


def addresses_near(network: str) -> list[naive_ranges.Address]:
    """First and last, one before and one after, and the same ones of the other kind."""
    net = ipaddress.ip_network(network)
    kind, top = type(net.network_address), (1 << net.max_prefixlen) - 1
    first, last = int(net.network_address), int(net.broadcast_address)
    numbers = {n for n in (first - 1, first, first + 1, last - 1, last, last + 1) if 0 <= n <= top}
    found: list[naive_ranges.Address] = [kind(number) for number in sorted(numbers)]
    return found + [ipaddress.IPv6Address(f"::ffff:{one}") for one in found if one.version == 4]


@settings(max_examples=150)
@given(some_groups(), st.lists(networks(), max_size=3), st.lists(NUMBERS6.map(ipaddress.IPv6Address)))
def test_networks_like_the_twin(groups, own, others):
    ranges = compile_ranges(groups, own)
    asked = list(others)
    for value in [*own, *(v for g in groups if g.where == ("network",) for v in g.values)]:
        asked += addresses_near(value)
    for address in asked:
        found = ask(ranges, groups, SPACE_NETWORK, mapped(address))
        assert found == naive_ranges.of_address(address, groups, own), address


def test_own_and_other_networks_of_ours():
    ranges = compile_ranges([], ["203.0.113.0/24"])
    every = [*naive_ranges.INTERNAL.split(), *naive_ranges.LOOPBACK.split(), "203.0.113.0/24"]
    for address in (one for network in every for one in addresses_near(network)):
        found = ask(ranges, [], SPACE_NETWORK, mapped(address))
        assert found == naive_ranges.of_address(address, [], ["203.0.113.0/24"]), address


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "::/0"])
def test_everything(everything: str):
    groups = [Group("g", ("network",), "range", False, (everything,), "test", 1)]
    ranges = compile_ranges(groups)
    for text in ("0.0.0.0", "255.255.255.255", "8.8.8.8", "::ffff:8.8.8.8"):
        assert "g" in ask(ranges, groups, SPACE_NETWORK, mapped(ipaddress.ip_address(text)))
    for text in ("::", "2001:db8::1", "ffff:" * 7 + "ffff", "::fffe:ffff:ffff", "::1:0:0:0"):
        there = "g" in ask(ranges, groups, SPACE_NETWORK, mapped(ipaddress.ip_address(text)))
        assert there == (everything == "::/0")


@settings(max_examples=150)
@given(some_groups(), st.data())
def test_ports_and_ioctls_like_the_twin(groups, data):
    ranges = compile_ranges(groups)
    asked = {0, 65535, data.draw(st.integers(0, 65535))}
    for group in groups:
        for value in group.values if group.where == ("port",) else ():
            low, _, high = value.rpartition("/")[2].partition("-")
            asked |= {int(low) - 1, int(low), int(high or low), int(high or low) + 1}
    for protocol in (1, 6, 17, 58):
        for port in asked & set(range(65536)):
            found = ask(ranges, groups, SPACE_PORT, protocol << 16 | port)
            assert found == naive_ranges.of_port(protocol, port, groups), (protocol, port)
    for call in (
        (f, n, c) for f in range(4) for n in (0, 0x2A, 0x2B, 0xFFFF) for c in (0, 1, 0xC86F, 2**32 - 1)
    ):
        found = ask(ranges, groups, SPACE_IOCTL, call[0] << 48 | call[1] << 32 | call[2])
        assert found == naive_ranges.of_ioctl(call, groups), call


def test_the_table_is_sorted_and_begins_every_space():
    ranges = compile_ranges([Group("g", ("port",), "range", False, ("0-65535",), "test", 1)])
    keys = [tuple(row) for row in ranges.begins.tolist()]
    assert keys == sorted(set(keys))
    assert {row[0] for row in keys} == {SPACE_NETWORK, SPACE_PORT, SPACE_IOCTL, SPACE_INODE}
    assert ranges.signals.shape == (len(keys), WORDS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tcp/22", [(6 << 16 | 22, 6 << 16 | 22)]),
        ("udp/0-65535", [(17 << 16, 17 << 16 | 65535)]),
        ("5-5", [(6 << 16 | 5, 6 << 16 | 5), (17 << 16 | 5, 17 << 16 | 5)]),
    ],
)
def test_port_ranges(text: str, wanted):
    assert port_ranges(text) == wanted


WRONG = {
    "network": ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "::/129", "2001:db8::1/32", "host.example", "10.0.0.0/-1"],
    "port": [
        "", "65536", "-1", "22-", "-22", "9-8", "sctp/22", "tcp/", "/22", "tcp22", " 22", "2_2", "22-23-24",
        "tcp/22/23", "\u0662", "+22",
    ],
    "ioctl": ["", "1", "1:2:3:4", "256:0", "1:65536", "1:1:0x100000000", "-1:0", "a:b", "1::2", "010:1"],
}  # fmt: skip


@pytest.mark.parametrize(("where", "text"), [(where, text) for where in WRONG for text in WRONG[where]])
def test_what_is_no_number(where: str, text: str):
    with pytest.raises(ValueError):
        ranges_of(where, text)


# In rule files

FILE = """\
[indicators.far]
where = "network"
values = ["203.0.113.0/24", "2001:db8::/32"]
[indicators.mail]
where = "port"
values = ["25", "tcp/465-466"]
[indicators.odd-call]
where = "ioctl"
values = ["1:0x2b:0xc86f"]
[rules."net.far-mail"]
title = "t"
on = "connect"
severity = "low"
when = [{ all = ["far", "mail"], severity = "high" }, { any = ["far", "@external"] }]
[rules."net.mail-flow"]
title = "t"
on = "flow"
severity = "low"
all = ["mail"]
none = ["@smtp"]
[rules."gpu.odd-call"]
title = "t"
on = "gpu"
severity = "low"
any = ["odd-call", "@gpu-not-listed"]
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "numbers.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_file_with_numbers(write):
    rules = load_rules([write(FILE)])
    groups = {group.id: group for group in rules.groups}
    assert [groups[name].match for name in ("far", "mail", "odd-call")] == ["range"] * 3
    assert all(groups[name].texts == () for name in ("far", "mail", "odd-call"))
    assert rules.numbers["odd-call"] >= FIRST_GROUP
    assert rules.remarks == ()
    ranges, all_groups = compile_ranges(rules.groups), list(rules.groups)
    assert ask(ranges, all_groups, SPACE_PORT, 6 << 16 | 466) == {"mail"}
    assert ask(ranges, all_groups, SPACE_PORT, 17 << 16 | 465) == set()


def test_a_group_of_numbers_is_extended(write):
    more = '[indicators.mail]\nextend = true\nvalues = ["udp/587"]\n'
    path = write(FILE)
    other = path.with_name("more.toml")
    other.write_text(more)
    groups = {group.id: group for group in load_rules([path, other]).groups}
    assert groups["mail"].values == ("25", "tcp/465-466", "udp/587")
    other.write_text(more.replace("udp/587", "smtp"))
    with pytest.raises(RuleError, match="'smtp' is no port") as caught:
        load_rules([path, other])
    assert (caught.value.path, caught.value.line) == (str(other), 1)
    assert "udp/53" in (caught.value.hint or "")


@settings(max_examples=200)
@given(some_groups(), inodes())
def test_files_like_the_twin(groups, text):
    parts = [int(part) for part in text.split(":")] + [7, 7]
    file = (parts[0] << 20 | parts[1], *parts[2:5])
    high, low = file_words(*file[:1], *np.array(file[1:], np.uint64).view(np.int64).tolist())
    number = (int(high) & (1 << 64) - 1) << 64 | int(low) & (1 << 64) - 1
    assert ask(compile_ranges(groups), groups, SPACE_INODE, number) == naive_ranges.of_file(file, groups)


@pytest.mark.parametrize("text", ["8:1", "8:1:x", "8:1:-1", "4096:1:1", "8:1:1:5", "8:1:1:5:6:7", ""])
def test_what_is_no_file(text: str):
    with pytest.raises(ValueError):
        ranges_of("inode", text)
