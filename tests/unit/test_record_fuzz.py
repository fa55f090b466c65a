# SPDX-License-Identifier: Apache-2.0
"""Recordings that somebody made up: a short run of the fuzzer, and what longer ones have found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
import stories
from recordings import Block, header_of, layout, replayed, written

from tracer.engine.engine import Engine
from tracer.rules import load_rules

PACKS = load_rules()
FUZZER = Path(__file__).parents[1] / "fuzz" / "fuzz_recording.py"
SECONDS = 6

FOUND = {
    "a piece of a length, on which the replay went on for ever": (layout.RECORDS, b"\x04\x00\x00"),
    "rules that are a list": (layout.RULES, msgpack.packb([1, 2])),
    "a map whose key is a map": (layout.CGROUPS, b"\x81\x80\x01"),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found(tmp_path, what):
    written(tmp_path / "r", [Block(*FOUND[what])], header_of(Engine(PACKS, processes=8, flows=8)))
    alerts, player = replayed(PACKS, tmp_path / "r")
    assert alerts == []
    assert player.parts[0].damage or player.engine.table_losses()["malformed"]


@pytest.mark.slow
def test_a_short_run_finds_nothing(tmp_path):
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    stories.make(tmp_path / "r", processes=4).end()
    whole = (tmp_path / "r").read_bytes()
    first = layout.PREFIX_BYTES + layout.open_head(whole[: layout.PREFIX_BYTES]).stored
    (seeds / "file").write_bytes(whole[first:] + b"\x01")  # the last byte: taken as a file
    done = subprocess.run(
        [sys.executable, str(FUZZER), str(seeds), f"-max_total_time={SECONDS}", "-max_len=16384"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
