# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is among what a watch sees to beside its rings."""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from contextlib import closing

import pytest

from tracer.duties import Duty
from tracer.duties.rounds import NEVER, SHARE, Rounds
from tracer.duties.samples import Efforts, Samples
from tracer.errors import LoadError


class Made(Duty):
    """Says what it is told to."""

    def __init__(self, name: str, *, every_s: float | None = None, follows: bool = False) -> None:
        self.name, self.every_s, self.follows = name, every_s, follows
        self.turns = 0

    def take(self) -> list[bytes]:
        self.turns += 1
        return [self.name.encode()]

    def settle(self) -> list[bytes]:
        return [b"all of " + self.name.encode()]


class Piped(Made):
    """Speaks by a pipe, until that is closed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.read, self.write = os.pipe()
        self.ended = False

    @property
    def fd(self) -> int | None:
        return None if self.ended else self.read

    def take(self) -> list[bytes]:
        said = os.read(self.read, 100)
        self.ended = not said
        return [said] if said else []

    def lost(self) -> Counter[str]:
        return Counter({"why": 2, "because": 0})


@pytest.fixture
def poll():
    with closing(select.epoll()) as made:
        yield made


def test_by_the_clock(poll, monkeypatch):
    """The first ones at once, then each so long after it was done, and later where it takes long."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    often, seldom = Made("often", every_s=1.0), Made("seldom", every_s=1000.0)
    fed: list[list[bytes]] = []
    took = 0.0

    def feed(records: list[bytes]) -> None:
        nonlocal now
        now += took
        fed.append(records)

    rounds = Rounds([often, Made("never"), seldom], poll, feed)
    assert rounds.due == now
    rounds.next_by_clock()
    assert rounds.due == now  # the other one
    rounds.next_by_clock()
    assert fed == [[b"often"], [b"seldom"]] and rounds.due == now + 1.0
    now = rounds.due
    took = 3.0
    rounds.next_by_clock()
    assert (often.turns, seldom.turns) == (2, 1)
    assert rounds.due == now + took / SHARE


def test_none_by_the_clock(poll):
    rounds = Rounds([Made("one"), Made("two", follows=True)], poll, lambda _: None)
    assert rounds.due == NEVER and not rounds.fds
    assert [duty.name for duty in rounds.following] == ["two"]


def test_who_speaks_has_a_turn_until_it_has_no_more_to_say(poll):
    fed: list[bytes] = []
    one, two = Piped("one"), Piped("two")
    rounds = Rounds([one, two], poll, fed.extend)
    os.write(one.write, b"said")
    ready = {fd for fd, _ in poll.poll(0)}
    assert ready == {one.read}
    rounds.listen(ready)
    assert fed == [b"said"] and poll.poll(0) == []
    os.close(one.write)
    ((fd, _),) = poll.poll(0)
    rounds.listen([fd])
    assert one.ended and poll.poll(0) == []  # or it would wake us for ever
    rounds.listen(rounds.fds - {two.read})
    assert fed == [b"said"]
    for left in (one.read, two.read, two.write):
        os.close(left)


def test_at_the_end(poll):
    fed: list[bytes] = []
    rounds = Rounds([Made("one"), Made("two", follows=True)], poll, fed.extend)
    rounds.settle(rounds.following)
    assert fed == [b"all of two"]
    rounds.settle()
    assert fed == [b"all of two", b"all of one", b"all of two"]


class Probes:
    """Have no memory for one iterator."""

    def samples(self) -> list[bytes]:
        return [b"sample"]

    def efforts(self) -> list[bytes]:
        raise LoadError("no memory")


class Engine:
    live_flows, legs_moved = 0, False


def test_what_is_asked_by_the_clock(poll):
    """Of connections only where there are any; and what fails is counted, and takes nothing else with it."""
    probes, engine = Probes(), Engine()
    samples, efforts = Samples(probes, engine), Efforts(probes, engine)
    assert samples.take() == [] == efforts.take()
    engine.legs_moved = True
    assert samples.take() == [b"sample"] and efforts.take() == []
    engine.live_flows = 1
    assert samples.take() == [b"sample"] == efforts.take()
    assert samples.settle() == [] == efforts.settle()
    speaking = Piped("pipe")
    rounds = Rounds([samples, speaking, efforts], poll, lambda _: None)
    assert rounds.lost() == {"samples-failed": 3, "pipe-because": 0, "pipe-why": 2}
    os.close(speaking.read)
    os.close(speaking.write)
