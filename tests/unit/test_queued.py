# SPDX-License-Identifier: Apache-2.0
"""A sink that blocks holds nobody up; what it could not take is counted, and the order stays."""

from __future__ import annotations

import os
import threading

import pytest

from tracer.sinks import queued
from tracer.sinks.queued import Queued
from tracer.sinks.terminal import Terminal


class Slow:
    """Takes alerts when ``go`` is set."""

    def __init__(self) -> None:
        self.target, self.failed, self.closed = "slow", 0, 0
        self.go = threading.Event()
        self.began = threading.Event()
        self.taken: list[object] = []

    def tell(self, alert) -> None:
        self.began.set()
        self.go.wait(60)
        self.taken.append(alert)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def slow():
    made = Slow()
    yield made
    made.go.set()


def test_order_is_kept_and_all_is_written_at_the_end(slow):
    made = Queued(slow)
    for number in range(100):
        made.tell(number)  # nobody writes yet: they wait
    made.start()
    for number in range(100, 1000):
        made.tell(number)
    slow.go.set()
    made.close()
    assert slow.taken == list(range(1000))
    assert (made.failed, slow.closed) == (0, 1)


def test_one_that_was_never_started_writes_all_the_same(slow):
    slow.go.set()
    before = threading.active_count()
    made = Queued(slow)
    made.close()
    assert (threading.active_count(), slow.closed) == (before, 1)
    made = Queued(slow)
    made.tell(1)
    made.close()
    assert slow.taken == [1]
    assert threading.active_count() == before


def test_what_finds_no_room_is_counted(slow, monkeypatch):
    monkeypatch.setattr(queued, "WAITING_MAX", 4)
    made = Queued(slow)
    made.start()
    made.tell(0)
    assert slow.began.wait(60)  # one is at hand
    for number in range(1, 20):
        made.tell(number)
    assert made.failed == made.dropped == 15
    slow.go.set()
    made.close()
    assert slow.taken == [0, 1, 2, 3, 4]


def test_whoever_never_reads_is_not_waited_for(slow):
    made = Queued(slow)
    made.start()
    for number in range(10):
        made.tell(number)
    assert slow.began.wait(60)
    assert not made.settle(0.05)
    assert made.failed == 10
    assert not made.settle(3600), "not a second time"
    made.close()
    assert slow.closed == 0, "somebody is still in it"


def test_a_full_terminal_holds_nobody_up():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as far, os.fdopen(writing, "w") as near:
        terminal = Terminal(near, colour=False)
        made = Queued(terminal)
        made.start()
        for number in range(100):
            made.put(lambda number=number: terminal.say(f"{number} " + "x" * 4000))
        assert not made.settle(0.05)
        near.flush()  # the stream's own lock is free
        heard = far.read1(1 << 20)
        assert heard.startswith(b"0 xxx")
        assert made.failed >= 100 - heard.count(b"\n") - 2
