# SPDX-License-Identifier: Apache-2.0
"""Lines of other tracers are read as they print them, and counted for the event they are of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from bench.beside import latency
from bench.beside.lines import arrivals, count, first_seen, latencies, said_lost
from bench.beside.markdown import table
from bench.beside.tools import read_tools

TOOLS = {tool.name: tool for tool in read_tools()}
#: As each printed it, of an exec and of a connect.
PRINTED = {
    "strace": (
        '[pid 29793] execve("/proc/self/exe", ["work", "hop", "seq=000041", "3"], 0x7ffe33136d20 /* 38 vars */) = 0',
        'connect(3, {sa_family=AF_INET, sin_port=htons(20041), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
    ),
    "bpftrace": ("execve 11888 work hop seq=000041 3 1000 t1", "connect 11890 127.0.0.1:20041"),
    "auditd": (
        'type=EXECVE msg=audit(1795804637.135:42): argc=6 a0="work" a1="hop" a2="seq=000041" a3="3" a4="1000" a5="t1"',
        "type=SOCKADDR msg=audit(1795804637.175:47): saddr=02004E497F0000010000000000000000",
    ),
    "vigiles": (
        "  3.014264 exec         30110 /tmp/work: work hop seq=000041 3 1000 t1",
        "  3.025397 connect      29955 udp 0.0.0.0:0 → 127.0.0.1:20041",
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_each_contender_is_read(name: str):
    tool = TOOLS[name]
    for line, pattern, ports in zip(PRINTED[name], (tool.exec, tool.connect), (False, True), strict=True):
        seen = first_seen(
            [(7, "something else"), (8, line), (9, line)], pattern, ports=ports, hexadecimal=tool.hex
        )
        assert seen == {41: 8}


def test_who_says_no_number_is_read_in_order():
    lines = [
        (1, "  2420.407 ( 5.000 ms): exe/29950 execve(filename: 0xd1e9ddf0, argv: 0x7f5ad1de77d0) = 0"),
        (2, "  2433.348 ( 0.036 ms): work/29950 connect(fd: 3, uservaddr: 0x7ffd125d6700, addrlen: 16) = 0"),
        (3, "  2434.348 ( 0.036 ms): work/29950 connect(fd: 3, uservaddr: 0x7ffd125d6700, addrlen: 16) = 0"),
    ]
    tool = TOOLS["perf"]
    assert first_seen(lines, tool.exec, ports=False) == {0: 1}
    assert first_seen(lines, tool.connect, ports=True) == {0: 2, 1: 3}


def test_ports_of_others_are_left_out():
    assert first_seen([(1, "connect 3 127.0.0.1:3333")], TOOLS["bpftrace"].connect, ports=True) == {}


def test_what_has_no_line_is_missed():
    assert latencies({0: 3_000, 2: 9_000, 77: 1}, [1_000, 2_000, 4_000]) == ([2.0, 5.0], 1)


def test_losses_are_added_up():
    assert said_lost("Lost 3 events\nx\nLost 40 events\n", TOOLS["bpftrace"].lost) == 43
    assert said_lost("all is well", TOOLS["bpftrace"].lost) is None
    assert count(["connect 1 127.0.0.1:20001", "execve 1 x"], TOOLS["bpftrace"].connect) == 1


@given(st.lists(st.text("ab\n", max_size=8), max_size=8))
def test_lines_arrive_with_their_last_piece(pieces: list[str]):
    chunks = [(at, piece.encode()) for at, piece in enumerate(pieces)]
    whole = "".join(pieces)
    found = arrivals(chunks)
    assert [line for _, line in found] == whole.split("\n")[:-1]
    ends = [at for at, piece in enumerate(pieces) for _ in range(piece.count("\n"))]
    assert [at for at, _ in found] == ends


def test_the_table_has_a_row_for_each_who_competed():
    told = {"n": 1, "missed": 0, "p50": 250.0, "p90": 400.0, "p99": 1234.0, "p99.9": 2e3, "p100": 3e3}
    ratio = {"median": 1.0, "ratio": 1.5, "least": 1.25, "most": 2.0}
    costs = dict.fromkeys(("exec", "connect", "ask", "compile", "getppid by others"), ratio)
    costs |= {"cpu of the tracer": {"median": 0.25}, "resident MiB": {"median": 3.6}}
    figures = {
        "commands": {"one": "one -f", "gone": "gone"},
        "absent": {"gone": "it is not installed"},
        "latency_us": {latency.IDLE: {"exec: one": told}, latency.BUSY: {}},
        "overhead": {"nothing": {}, "one": costs},
        "loss": {"all that go": {"nothing": {"a second": 1e5}, "one": {"a second": 2e4, "lost": 0.5}}},
    }
    head, rule, *rows = table(figures).splitlines()
    assert "lost of 100,000 connects/s" in head
    assert len({line.count("|") for line in (head, rule, *rows)}) == 1
    assert rows == [
        "| one | 0.25, 1.2 | – | – | – | " + "×1.50 (1.25–2.00) | " * 5 + "25% | 4 | 50% of its 20,000 |"
    ]
