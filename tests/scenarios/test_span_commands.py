# SPDX-License-Identifier: Apache-2.0
"""Which tool call did it: from the mark in a program or shell to the alert, through the whole of vigiles."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time

import pytest
from test_commands import VIGILES, clean, vigiles, wait_until

from tracer.marks.channel import RETRY_S

__all__ = ["clean"]  # a fixture, which is used by being here

POOL = "stratum+tcp://pool.example:3333"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SPAN = shlex.join([sys.executable, "-c", "from tracer.entry import main; main()", "span"])

AGENT = """
import asyncio, os, sys, time, tracer
miner, ready, go = sys.argv[1:4]

async def tool(step, *command):
    async with tracer.span(tool="bash", step=step, episode="a91f"):
        process = await asyncio.create_subprocess_exec(*command)
        await process.wait()

async def main():
    await asyncio.gather(tool(411, "/bin/true"), tool(412, "sh", "-c", f"{miner} -o $POOL; :"), tool(413, "/bin/true"))

with tracer.span(run="nightly"):
    if ready:
        with open(ready + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(ready + ".new", ready)
        while not os.path.exists(go):
            time.sleep(0.02)
    asyncio.run(main())
"""


@pytest.fixture
def miner(tmp_path):
    path = tmp_path / "xmrig"
    shutil.copy("/bin/true", path)
    return path


@pytest.fixture
def told(tmp_path):
    """Reads what was told to --alerts, a file in ``tmp_path``."""
    return lambda: [json.loads(line) for line in (tmp_path / "alerts").read_text().splitlines()]


def agent(tmp_path, miner, *files: str) -> list[str]:
    path = tmp_path / "train.py"
    path.write_text(AGENT)
    return [sys.executable, str(path), str(miner), *(files or ("", ""))]


def test_an_alert_names_the_tool_call(told, miner, tmp_path):
    environment = {**os.environ, "POOL": POOL, "TRACEPARENT": TRACE}
    done = vigiles(
        "run", "--alerts", str(tmp_path / "alerts"), "--", *agent(tmp_path, miner), env=environment
    )
    assert done.returncode == 0, done.stderr
    (alert,) = told()
    span = alert["span"]
    assert (span["tool"], span["step"], span["episode"]) == ("bash", 412, "a91f")
    assert span["traceparent"] == TRACE
    inner, outer = span["path"]
    assert (inner["attributes"]["step"], outer["attributes"]) == (412, {"run": "nightly"})
    assert inner["opened_by"]["exe"] == os.path.realpath(sys.executable)
    assert inner["opened_by"]["pid"] == alert["ancestry"][-1]["pid"]
    assert "in bash, step 412, episode a91f" in done.stderr
    assert "lost: 0" in done.stderr


def test_shells_name_theirs(told, miner, tmp_path):
    script = f"""
    id=$({SPAN} begin --tool bash --step 7)
    {miner} -o {POOL}
    {SPAN} end "$id"
    {miner} -o {POOL}
    {SPAN} run --tool make -- {miner} -o {POOL}
    """
    done = vigiles("run", "-v", "--alerts", str(tmp_path / "alerts"), "--", "sh", "-c", script)
    first, second, third = told()
    assert (first["span"]["tool"], first["span"]["step"]) == ("bash", 7)
    assert first["span"]["opened_by"]["pid"] == first["ancestry"][1]["pid"]
    assert first["span"]["opened_by"]["through"] not in {item["pid"] for item in first["ancestry"]}
    assert second["span"] is None
    assert third["span"]["tool"] == "make"
    assert "begins: tool=bash step=7" in done.stderr


SHELL = """
id=$({span} begin --tool bash --step 7)
echo $$ > {ready}.new && mv {ready}.new {ready}
while ! [ -e {go} ]; do sleep 0.1; done
{miner} -o {pool}
{span} end "$id"
{miner} -o {pool}
"""


def both_told(tmp_path, job: list[str], ready, go, environment) -> tuple[list[dict], list[dict], str]:
    """Alerts of a watch that runs ``job``, and of another that comes when it is ready; what was printed."""
    watch = subprocess.Popen(
        [*VIGILES, "run", "--alerts", tmp_path / "first", "--", *job],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    other = None
    try:
        wait_until(ready.exists)
        other = subprocess.Popen(
            [*VIGILES, "attach", "--pid", ready.read_text().strip(), "--alerts", tmp_path / "second"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert other.stderr is not None
        while "watching" not in (line := other.stderr.readline()):
            assert line, "it ended"
        go.touch()
        _, printed = watch.communicate(timeout=60)
        _, more = other.communicate(timeout=60)
    finally:
        for process in (watch, other):
            if process is not None:
                process.kill()
                process.wait()
    assert watch.returncode == 0, printed
    found = [
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("first", "second")
    ]
    return found[0], found[1], printed + more


def test_two_watches_agree_on_what_had_begun_before_the_second_came(miner, tmp_path):
    ready, go = tmp_path / "ready", tmp_path / "go"
    job = agent(tmp_path, miner, str(ready), str(go))
    first, second, printed = both_told(tmp_path, job, ready, go, {**os.environ, "POOL": POOL})
    assert len(first) == len(second) == 1, printed
    assert first[0]["span"] == second[0]["span"]
    assert [span["attributes"] for span in first[0]["span"]["path"]] == [
        {"tool": "bash", "step": 412, "episode": "a91f"},
        {"run": "nightly"},
    ]


def test_two_watches_agree_on_when_a_shells_tool_call_ends(miner, tmp_path):
    """Both take it: neither says to the shell that it is not the shell's to end."""
    ready, go = tmp_path / "ready", tmp_path / "go"
    script = SHELL.format(span=SPAN, ready=ready, go=go, miner=miner, pool=POOL)
    first, second, printed = both_told(tmp_path, ["bash", "-c", script], ready, go, None)
    assert "refused" not in printed
    for alerts in (first, second):
        assert [alert["span"] and alert["span"]["step"] for alert in alerts] == [7, None], printed
    assert first[0]["span"]["path"] == second[0]["span"]["path"]


def test_a_watch_that_comes_late_is_told(told, miner, tmp_path):
    ready, go = tmp_path / "ready", tmp_path / "go"
    job = subprocess.Popen(agent(tmp_path, miner, str(ready), str(go)), env={**os.environ, "POOL": POOL})
    try:
        wait_until(ready.exists)
        watch = subprocess.Popen(
            [*VIGILES, "attach", "--pid", str(job.pid), "--alerts", tmp_path / "alerts"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watch.stderr is not None
        while "watching" not in (line := watch.stderr.readline()):
            assert line, "it ended"
        time.sleep(RETRY_S)  # that is how often it asks whether somebody is there
        go.touch()
        assert job.wait(60) == 0
        _, said = watch.communicate(timeout=60)
    finally:
        job.kill()
        job.wait()
    (alert,) = told()
    assert alert["span"]["step"] == 412, said
    assert alert["span"]["path"][1]["attributes"] == {"run": "nightly"}
