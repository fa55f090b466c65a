# SPDX-License-Identifier: Apache-2.0
"""What a screen is told of a watch: the engine's word for who is there, whatever was passed over."""

from __future__ import annotations

import pytest
import records
import stories

from tracer.engine.engine import Engine
from tracer.engine.tap import lay_out
from tracer.rules import load_rules
from tracer.sinks import onlooker as onlooker_module
from tracer.sinks.onlooker import Onlooker


@pytest.fixture
def looking() -> tuple[Engine, Onlooker]:
    engine = Engine(load_rules(), processes=64, flows=64)
    return engine, Onlooker(engine)


def taken(engine: Engine, onlooker: Onlooker, found: list[bytes]) -> None:
    """As if they had come through the rings."""
    engine.journal = None
    list(engine.feed(found))
    engine.journal = onlooker
    onlooker.take(lay_out(found))


def test_what_is_fed_is_seen_too(looking):
    engine, onlooker = looking
    list(
        engine.feed(
            [records.execute([b"python3", b"\x1b[2Jtrain.py"], b"/usr/bin/python3", tgid=1)], count=False
        )
    )
    taken(engine, onlooker, [stories.fork(2, 1, 2), records.connect("198.51.100.7", tgid=2, ts=3, cookie=5)])
    rows = onlooker.look().rows(9)
    assert [(p.pid, p.command, len(p.flows)) for p in rows] == [
        (2, "python3 \\x1b[2Jtrain.py", 1), (1, "python3 \\x1b[2Jtrain.py", 0),
    ]  # fmt: skip


def test_a_storm_is_passed_over_and_who_is_there_is_known(looking, monkeypatch):
    """Those who came and went in it, too."""
    engine, onlooker = looking
    taken(engine, onlooker, [records.execute([b"sh"], b"/bin/sh", tgid=1), stories.fork(2, 1, 2)])
    monkeypatch.setattr(onlooker_module, "LOOKED_AT", 0)
    storm = [
        stories.finish(2, 3),
        stories.fork(3, 1, 4),
        records.execute([b"make", b"all"], b"/usr/bin/make", tgid=3, ts=5),
    ]
    taken(engine, onlooker, storm)
    live = onlooker.look()
    assert sorted((p.pid, p.command) for p in live.rows(9)) == [(1, "sh"), (3, "make all")]
    assert live.passed_over == len(lay_out(storm))
