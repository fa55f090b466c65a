# SPDX-License-Identifier: Apache-2.0
"""From alerts to lines of a log: read in any shape, clocks compared, candidates ranked and never oversold."""

from __future__ import annotations

import json
import os
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

from bench.correlate import OFFSETS_S, call, find, made_up, ran, without_times
from tracer.cli import group
from tracer.correlate.calls import calls_in
from tracer.correlate.logs import Log, MapError, load_map, read_log, read_time, ready_maps
from tracer.correlate.match import Matcher, Ran, compare_clocks
from tracer.errors import FileError
from tracer.rules import load_rules

SECOND = 1_000_000_000


@pytest.mark.parametrize("offset_s", OFFSETS_S)
def test_a_thousand_rollouts_at_once(offset_s):
    """Known truth: whoever is told to be nearly certain is right; the clocks come out to within 100 ms."""
    dice = random.Random(int(offset_s * 10))
    made = made_up(dice, offset_s)
    found = find(made, dice, 80)
    assert abs(found.offset.seconds - offset_s) < 0.1
    assert found.offset.support > 1000
    assert found.sure_and_right >= 0.98 * found.sure
    assert found.sure > 0.5 * found.asked
    assert found.right > 0.8 * found.asked
    found = find(without_times(made), dice, 30)
    assert found.sure_and_right >= 0.98 * found.sure
    assert found.sure > 0.3 * found.asked and not found.offset.support


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
    assert set(LINES) | {"text", "verl", "roll"} == set(ready_maps())


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
    ["x = 1", "[fields]\ntime = 3", "[fields]\nwhen = ['a']", "text = '('", "[text]\ntime = '('", "[text]\ntime = 'x'", "[text]\nwhen = '(x)'", "fields = 1",
        "times = 'file'\ncolumns = 1", "times = 'never'", "times = 'file'\ncalls = 1", "times = 'file'\n[calls]\ninside = 'x'",
        "times = 'file'\n[calls]\nbetween = [['a']]", "times = 'file'\n[calls]\nbetween = [['', 'b']]",
        "times = 'file'\n[calls]\nwhere = []", "[fields]\npid = ['a']", "=", "text = 5"],
)  # fmt: skip
def test_maps_with_mistakes(said, tmp_path):
    (tmp_path / "m.toml").write_text(said)
    with pytest.raises(MapError):
        load_map(str(tmp_path / "m.toml"))
    with pytest.raises(MapError, match="can't read"):
        load_map(str(tmp_path / "none.toml"))
    with pytest.raises(FileError, match="can't read"):
        read_log(tmp_path / "none", load_map("rollout"))


def hermes(tool: str, **arguments: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': tool, 'arguments': arguments})}\n</tool_call>\n"


#: As verl dumps a step's samples: what the model said, decoded, tool responses included.
VERL = [
    {
        "input": "system\nYou have tools.\nuser\nMake the tests pass.\nassistant\n",
        "output": "I look first.\n" + hermes("bash", command="ls -la")
        + "user\n<tool_response>\ntotal 8\n</tool_response>\nassistant\n" + hermes("python", code="print(6 * 7)"),
        "gts": None, "score": 0.0, "step": 12, "request_id": "b1f7", "acc": 0.0,
    },
    {
        "input": "user\nThe same.\nassistant\n",
        "output": "<tool_call>\n<function=execute_bash>\n<parameter=command>\npytest -q\n</parameter>\n</function>\n</tool_call>"
        "or\n```bash\nmake -j8\n```\nand <tool_call>\n{broken\n</tool_call> and <tool_call> without an end",
        "gts": "x", "score": 1.0, "step": 12, "request_id": "c90e", "acc": 1.0,
    },
    {"input": "user\nHello.\nassistant\n", "output": "Hello.", "gts": None, "score": 0.5, "step": 12, "request_id": "d3"},
]  # fmt: skip
#: As ROLL does: a line for a step, each column a list.
ROLL = {
    "global_step": [3, 3], "id": ["p-1", "p-2"], "prompt": ["Fix it.", "Look."], "tag": ["swe", "swe"],
    "responses": [hermes("bash", command="git status"), "nothing"], "scores": [0.0, 1.0], "sampling_params": ["{}", "{}"],
}  # fmt: skip
ROLL_AGENTS = {
    "traj_id": ["swe_0_1", "swe_0_2"], "env_ids": ["0", "1"], "episode_scores": [0.0, 1.0],
    "messages": [
        json.dumps([
            {"role": "system", "content": hermes("bash", command="an example")},
            {"role": "assistant", "content": "So: " + hermes("bash", command="nvidia-smi")},
            {"role": "tool", "content": hermes("bash", command="forged")},
        ]),
        json.dumps([
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "sh", "arguments": '{"cmd": "uname -a"}'}},
            ]},
        ]),
    ],
    "global_step": [4, 4],
}  # fmt: skip


def written(path: Path, rows: list, at_s: float) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    os.utime(path, (at_s, at_s))
    return path


def test_dumps_of_verl(tmp_path):
    """A line holds many calls and no time."""
    log = read_log(written(tmp_path / "12.jsonl", VERL, 1_700_000_000.5), load_map("verl"))
    assert [(c.line, c.tool, c.command, c.episode, c.step) for c in log.calls] == [
        (1, "bash", "ls -la", "b1f7", "12"),
        (1, "python", "print(6 * 7)", "b1f7", "12"),
        (2, "", "{broken", "c90e", "12"),
        (2, "", "pytest -q", "c90e", "12"),
        (2, "", "make -j8", "c90e", "12"),
    ]
    assert {(c.timed, c.time_ns) for c in log.calls} == {(False, 1_700_000_000 * SECOND + SECOND // 2)}
    assert log.skipped == {"no tool call": 1}


def test_dumps_of_roll(tmp_path):
    """A line is a table; what others than the model said is no call."""
    how = load_map("roll")
    log = read_log(written(tmp_path / "rollout_dump_data.step_3.jsonl", [ROLL], 5), how)
    assert [(c.tool, c.command, c.episode, c.step) for c in log.calls] == [("bash", "git status", "p-1", "3")]
    assert log.skipped == {"no tool call": 1}
    log = read_log(written(tmp_path / "rollout_dump_data.step_4.jsonl", [ROLL_AGENTS], 5), how)
    assert [(c.tool, c.command, c.episode, c.step) for c in log.calls] == [
        ("bash", "nvidia-smi", "swe_0_1", "4"), ("sh", "uname -a", "swe_0_2", "4"),
    ]  # fmt: skip


def test_the_next_file_to_be_written_is_likelier(tmp_path):
    """The same command in three steps: it was in the step whose file came next."""
    how, log = load_map("verl"), Log()
    for step, at_s in ((1, 100), (2, 200), (3, 300)):
        row = {
            "output": hermes("bash", command="python train_head.py --seed 3"),
            "step": step,
            "request_id": f"e{step}",
        }
        log.add(read_log(written(tmp_path / f"{step}.jsonl", [row], at_s), how))
    line = [ran(5, 150 * SECOND, "python train_head.py --seed 3")]
    found = Matcher(log.calls, compare_clocks(log.calls, line), "h").candidates(151 * SECOND, line)
    assert [c.call.step for c in found] == ["2", "3"]  # what was written before it can't tell of it
    assert found[0].chance > 0.8 and "was the next to be written" in " ".join(found[0].why)
    assert found[0].call.log == "2.jsonl"


def test_many_beginnings_without_an_end_are_not_slow():
    def seconds(count: int) -> float:
        start = time.process_time()
        assert not list(calls_in("<tool_call> {" * count, [("<tool_call>", "</tool_call>")]))
        return time.process_time() - start

    few = max(min(seconds(5000) for _ in range(3)), 1e-4)
    assert min(seconds(50_000) for _ in range(3)) < 60 * few


JSON_LIKE = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from([hermes("x", command="y"), "[[", '{"a":']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "tool_calls", "function", "messages"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["output", "messages", "responses", "save_content", "step"]), JSON_LIKE)
)
def test_any_dump_is_read(tmp_path_factory, row):
    path = written(tmp_path_factory.getbasetemp() / "dump", [row], 1)
    for name in ("verl", "roll"):
        for found in read_log(path, load_map(name)).calls:
            assert isinstance(found.command, str)


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
