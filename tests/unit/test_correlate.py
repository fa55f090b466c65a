# SPDX-License-Identifier: Apache-2.0
"""From alerts to lines of a log: read in any shape, clocks compared, candidates ranked and never oversold."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
import records
import stories
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from recordings import OFFSET_NS, Live

from tracer.cli import group
from tracer.correlate.logs import MapError, ToolCall, load_map, read_log, read_time, ready_maps
from tracer.correlate.match import Matcher, Ran, compare_clocks
from tracer.errors import FileError
from tracer.rules import load_rules

SECOND = 1_000_000_000
COMMON = ("ls -la", "cat README.md", "git status", "pytest -q", "pwd", "python setup.py build")


def call(line: int, time_ns: int, command: str, **more) -> ToolCall:
    fields = {
        "end_ns": None,
        "tool": "bash",
        "episode": "",
        "step": "",
        "host": "",
        "pid": None,
        "id": "",
    } | more
    return ToolCall(line=line, time_ns=time_ns, command=command, **fields)


def ran(pid: int, time_ns: int, command: str) -> Ran:
    return Ran(pid, time_ns, f"bash -c {command}", ("bash", "-c", command))


@pytest.mark.parametrize("offset_s", [-5.0, -0.4, 0.0, 3.3, 5.0])
def test_a_thousand_rollouts_at_once(offset_s):
    """Known truth: whoever is told to be nearly certain is right; the clocks come out to within 100 ms."""
    dice = random.Random(int(offset_s * 10))
    calls, execs = [], []
    for rollout in range(1000):
        now = 1_700_000_000 * SECOND + int(dice.uniform(0, 2) * SECOND)
        for step in range(4):
            now += int(dice.uniform(0.5, 8) * SECOND)
            common = dice.random() < 0.4
            command = (
                dice.choice(COMMON)
                if common
                else f"python solve_{rollout}_{dice.randrange(50)}.py --n {step}"
            )
            calls.append(call(len(calls) + 1, now, command, episode=str(rollout), step=str(step)))
            started = now + int((offset_s + dice.uniform(0.005, 0.06)) * SECOND)
            execs.append(ran(len(calls), started, command))
    offset = compare_clocks(calls, execs)
    assert abs(offset.seconds - offset_s) < 0.1 and offset.support > 1000
    matcher = Matcher(calls, offset, "host")
    sure = right = sure_right = 0
    asked = dice.sample(range(len(calls)), 150)
    for n in asked:
        late = int(dice.uniform(0.01, 2) * SECOND)
        line = [Ran(9999, execs[n].time_ns + late, "./xmrig -o x"), execs[n]]
        best = matcher.candidates(execs[n].time_ns + late, line)[0]
        hit = best.call.line == n + 1
        right += hit
        if best.chance > 0.9:
            sure += 1
            sure_right += hit
    assert sure_right >= 0.98 * sure and sure > 0.5 * len(asked)
    assert right > 0.8 * len(asked)


def test_what_cannot_be_told_apart_is_not_guessed():
    """Ten rollouts say the very same at the very same time."""
    calls = [call(n, 100 * SECOND, "make all", episode=str(n)) for n in range(1, 11)]
    found = Matcher(calls, compare_clocks(calls, []), "h").candidates(
        100 * SECOND + 50_000_000, [ran(5, 100 * SECOND + 10_000_000, "make all")]
    )
    assert all(c.chance < 0.11 for c in found)


def test_pid_and_host_and_end_speak():
    calls = [
        call(1, 100 * SECOND, "", pid=77),
        call(2, 100 * SECOND, "sleep 500", end_ns=101 * SECOND),
        call(3, 100 * SECOND, "sleep 500", host="elsewhere.example"),
        call(4, 100 * SECOND, "sleep 500", end_ns=400 * SECOND),
    ]
    line = [ran(5, 100 * SECOND, "sleep 500"), Ran(77, 1, "agent")]
    found = Matcher(calls, compare_clocks([], []), "here").candidates(200 * SECOND, line)
    assert [c.call.line for c in found] and 3 not in [c.call.line for c in found]
    assert found[0].call.line in {1, 4}
    assert next(c for c in found if c.call.line == 2).chance < 0.05


def test_nothing_near_is_said():
    matcher = Matcher([call(1, 0, "x")], compare_clocks([], []), "h")
    assert matcher.candidates(10_000 * SECOND, []) == []
    far = Matcher([call(1, 100 * SECOND, "curl example.org")], compare_clocks([], []), "h").candidates(
        500 * SECOND, [Ran(1, 499 * SECOND, "./other thing")]
    )
    assert far[0].chance < 0.05


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000 * SECOND),
        ("2023-11-14T22:13:20", 1_700_000_000 * SECOND),
        ("2023-11-14 23:13:20,5+01:00", 1_700_000_000 * SECOND + SECOND // 2),
        (1_700_000_000, 1_700_000_000 * SECOND),
        ("1700000000.25", 1_700_000_000 * SECOND + SECOND // 4),
        (1_700_000_000_000, 1_700_000_000 * SECOND),
        (1_700_000_000_000_000, 1_700_000_000 * SECOND),
        ("1700000000000000000", 1_700_000_000 * SECOND),
        ("yesterday", None),
        (True, None),
        (-4, None),
        (1e300, None),
        (None, None),
    ],
)
def test_times(value, ns):
    assert read_time(value) == ns


LINES = {
    "openai": {
        "created": 1_700_000_000, "id": "call_1", "step": 4,
        "function": {"name": "bash", "arguments": '{"command": "make -j8"}'},
    },
    "otel-genai": {
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000002000000000", "traceId": "ep-7",
        "attributes": {"gen_ai.tool.name": "bash", "gen_ai.tool.call.arguments": {"command": "make -j8"}, "step": 4},
        "resource": {"attributes": {"host.name": "gpu-3", "process.pid": 12}},
    },
    "rollout": {"ts": "2023-11-14T22:13:20Z", "episode_id": "ep-7", "turn": 4, "action": {"tool": "bash", "command": "make -j8"}},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(LINES))
def test_ready_maps(name, tmp_path):
    path = tmp_path / "log"
    path.write_text(json.dumps(LINES[name]) + "\nnot json\n{}\n\n" + json.dumps(LINES[name] | {"x": 1}))
    log = read_log(path, load_map(name))
    assert [(c.command, c.tool, c.step, c.time_ns) for c in log.calls] == [
        ("make -j8", "bash", "4", 1_700_000_000 * SECOND)
    ] * 2
    assert log.skipped == {"no JSON": 1, "no time": 1}
    assert set(LINES) | {"text"} == set(ready_maps())


def test_plain_text(tmp_path):
    path = tmp_path / "log"
    path.write_text(
        "2023-11-14 22:13:20,250 INFO agent: tool=bash step=4 episode=ep-7 command=make -j8\nnothing here\n"
        "[2023-11-14T22:13:20Z] cmd: ls -la\n"
    )
    log = read_log(path, load_map("text"))
    assert [(c.command, c.step, c.episode) for c in log.calls] == [
        ("make -j8", "4", "ep-7"),
        ("ls -la", "", ""),
    ]
    assert log.skipped == {"no time": 1}


def test_a_line_made_to_be_slow_is_not(tmp_path):
    """Many beginnings of what a map looks for, and no end: ten times as long is not a hundred times as slow."""

    def seconds(count: int) -> float:
        path = tmp_path / "slow"
        path.write_text("2023-11-14 22:13:20 " + "tool=a step=1 episode=b actio " * count + "\n")
        start = time.process_time()
        read_log(path, load_map("text"))
        return time.process_time() - start

    few = min(seconds(2000) for _ in range(3))
    assert min(seconds(20_000) for _ in range(3)) < 60 * few


@pytest.mark.parametrize(
    "said",
    ["x = 1", "[fields]\ntime = 3", "[fields]\nwhen = ['a']", "text = '('", "[text]\ntime = '('", "[text]\ntime = 'x'", "[text]\nwhen = '(x)'", "fields = 1", "[fields]\npid = ['a']", "=", "text = 5"],
)  # fmt: skip
def test_maps_with_mistakes(said, tmp_path):
    (tmp_path / "m.toml").write_text(said)
    with pytest.raises(MapError):
        load_map(str(tmp_path / "m.toml"))
    with pytest.raises(MapError, match="can't read"):
        load_map(str(tmp_path / "none.toml"))
    with pytest.raises(FileError, match="can't read"):
        read_log(tmp_path / "none", load_map("rollout"))


@given(
    st.lists(
        st.one_of(st.binary(max_size=80), st.sampled_from([json.dumps(v).encode() for v in LINES.values()]))
    )
)
def test_any_log_is_read(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(b"\n".join(lines))
    for name in ready_maps():
        log = read_log(path, load_map(name))
        assert len(log.calls) + sum(log.skipped.values()) <= len(path.read_bytes().split(b"\n"))


def test_the_command(tmp_path: Path):
    """An agent's tool calls, of which one starts a miner two shells deep."""
    live = Live(tmp_path / "r", load_rules())
    command = b"cd /tmp && ./setup.sh --fast"
    live.take(
        [
            records.execute([b"python3", b"agent.py"], b"/usr/bin/python3", tgid=1, ts=1 * SECOND),
            stories.fork(2, 1, 10 * SECOND),
            records.execute([b"bash", b"-c", command], b"/bin/bash", tgid=2, ts=10 * SECOND),
            stories.fork(3, 2, 11 * SECOND),
            records.execute([b"sh", b"./setup.sh", b"--fast"], b"/bin/sh", tgid=3, ts=11 * SECOND),
            stories.fork(4, 3, 12 * SECOND),
            records.execute(
                [b"./xmrig", b"-o", b"stratum+tcp://pool.test:1"], b"/tmp/xmrig", tgid=4, ts=12 * SECOND
            ),
        ]
    )
    live.end()
    log = tmp_path / "log.jsonl"
    rows = [
        {
            "ts": (OFFSET_NS + n * SECOND) / 1e9 - 3.5,
            "episode": f"e{n}",
            "step": n,
            "tool": "bash",
            "command": text,
        }
        for n, text in ((2, "ls -la /data"), (10, command.decode()), (11, "pytest -q"), (12, "echo done"))
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = CliRunner().invoke(group, ["correlate", str(tmp_path / "r"), "--log", str(log), "--json"])
    assert result.exit_code == 0, result.exception
    said = json.loads(result.stdout)
    assert said["candidates"][0]["episode"] == "e10" and said["candidates"][0]["chance"] > 0.9
    assert "3.5" in result.stderr
    result = CliRunner().invoke(group, ["correlate", str(tmp_path / "r"), "--log", str(log)])
    assert "miner.command" in result.stdout and "step 10, episode e10" in result.stdout
