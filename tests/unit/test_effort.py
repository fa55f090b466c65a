# SPDX-License-Identifier: Apache-2.0
"""Who keeps the processors busy: the detector against its twin, for any batching, and what is a miner's way."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records
from behaviour import PACKS, SECOND, batched, engine_with, told_by
from naive_effort import Effort, NaiveEfforts

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.kernel import schema
from tracer.rules import RuleSet

CORES = 4000
ACCEPTED = schema.FLOW_FLAG["FLOW_ACCEPTED"]
NEW_FILE = schema.EFFORT_FLAG["EFFORT_NEW_FILE"]
#: A program and its fork, an interpreter and its fork, another program that the first one has started.
CREW = {100: 100, 101: 100, 102: 102, 103: 102, 104: 104}
INTERPRETERS = {102, 103}
#: Where flows lead: whose, address, accepted.
FLOWS = [
    (100, "203.0.113.1", False),
    (101, "203.0.113.2", False),
    (102, "203.0.113.3", False),
    (104, "10.0.0.5", False),
    (104, "203.0.113.5", True),
    (103, "127.0.0.1", False),
]


engine = partial(engine_with, "effort", 64, 64)


def program(tgid: int, parent: int, path: bytes, ino: int) -> list[bytes]:
    raw = synthetic.execute(tgid, parent, 1, [path], path)
    row = np.frombuffer(raw[: schema.EXEC.itemsize], schema.EXEC).copy()
    row["ino"] = ino
    return [synthetic.fork(tgid, parent, 1), row.tobytes() + raw[schema.EXEC.itemsize :]]


class World:
    def __init__(self) -> None:
        self.now = SECOND
        self.records = [
            *program(90, 1, b"/usr/bin/bash", 1),
            *program(100, 90, b"/opt/job/solve", 2),
            synthetic.fork(101, 100, 1),
            *program(102, 90, b"/usr/bin/python3.11", 3),
            synthetic.fork(103, 102, 1),
            *program(104, 100, b"/opt/job/other", 4),
        ]
        for cookie, (tgid, address, accepted) in enumerate(FLOWS, 1):
            flags = ACCEPTED if accepted else 0
            self.records.append(records.connect(address, tgid=tgid, cookie=cookie, flags=flags))

    def carry(self, flow: int, sent: int, received: int) -> None:
        tgid, address, accepted = FLOWS[flow]
        flags = ACCEPTED if accepted else 0
        self.records.append(
            records.sample(
                flow + 1, address, tgid=tgid, ts=self.now, sent=sent, received=received, flags=flags
            )
        )

    def measure(self, tgid: int, busy: float = 4.0, **more: int) -> dict[str, int]:
        """``busy``: processors."""
        row = {
            "wall_ns": SECOND,
            "ran_ns": int(busy * SECOND),
            "cores": CORES,
            "effort_flags": NEW_FILE if tgid in (100, 101) else 0,
        } | more
        self.records.append(records.effort(tgid, ts=self.now, **row))
        return row

    def end(self, seconds: float = 1.0) -> None:
        self.records.append(records.effort(0, ts=self.now))
        self.now += int(seconds * SECOND)


told = partial(told_by, "miner.behaviour")

PASSES = st.lists(
    st.tuples(
        # who computes: how much, what it waits, pauses, calls, huge pages
        st.lists(
            st.tuples(
                st.sampled_from(sorted(CREW)),
                st.sampled_from([0.2, 1.0, 1.6, 4.0]),
                st.sampled_from([0, 0, SECOND, 3 * SECOND]),
                st.sampled_from([0, 0, 0, 30, 5000]),
                st.sampled_from([0, 0, 0, 30, 5000]),
                st.sampled_from([0, 0, 0, 512]),
            ),
            max_size=3,
            unique_by=lambda row: row[0],
        ),
        st.lists(
            st.tuples(
                st.integers(0, len(FLOWS) - 1), st.sampled_from([0, 90, 600]), st.sampled_from([0, 90, 600, 9000])
            ),
            max_size=3,
        ),
        st.sampled_from([1.0, 1.0, 1.0, 1.5, 4.0]),
        st.sampled_from([None] * 30 + [100]),  # who ends
    ),
    max_size=25,
)  # fmt: skip
STEADY = st.builds(
    lambda tgid, flow, rounds: [([(tgid, 4.0, 0, 0, 0, 0)], [(flow, 90, 90)], 1.0, None)] * rounds,
    st.sampled_from(sorted(CREW)), st.integers(0, len(FLOWS) - 1), st.integers(3, 12),
)  # fmt: skip
LIMITS = st.fixed_dictionaries(
    {
        "cores_percent": st.sampled_from([20, 40, 100]),
        "seconds": st.sampled_from([2, 4, 7]),
        "pause_s": st.sampled_from([1, 2, 4]),
        "exchanges": st.sampled_from([1, 3]),
        "minute_bytes": st.sampled_from([1000, 5000, 65536]),
    }
)


def play(passes, limits):
    world = World()
    twin = NaiveEfforts(PACKS.thresholds["effort"] | limits, CREW, INTERPRETERS)
    for efforts, carried, pause, ends in passes:
        for flow, sent, received in carried:
            tgid, address, accepted = FLOWS[flow]
            if (sent or received) and tgid not in twin.dead:
                world.carry(flow, sent, received)
                outside = address.startswith("203.")
                twin.carry(flow, tgid, outside, accepted, sent, received, world.now)
        for tgid, busy, waited, switches, calls, huge in efforts:
            if tgid in twin.dead:
                continue
            row = world.measure(tgid, busy, waited_ns=waited, switches=switches, calls=calls, huge_pages=huge)
            twin.measure(Effort(tgid, **row))
        twin.end_pass(world.now)
        world.end(pause)
        if ends is not None and ends not in twin.dead:
            world.records.append(records.leave(ends, ends * 1000, ts=world.now))
            twin.dead.add(ends)
    return world.records, twin.told


#: Busy since the host has been up.
SINCE_BOOT = [
    ([(100, 0.2, SECOND, 0, 5000, 0)], [], 1.0, None),
    *[([(100, 4.0, 0, 0, 0, 0)], [(0, 90, 90)], 1.0, None)] * 6,
]
SHORT = {"cores_percent": 20, "seconds": 2, "pause_s": 1, "exchanges": 1, "minute_bytes": 1000}


@example(SINCE_BOOT, SHORT, [])
@settings(max_examples=250, deadline=None)
@given(st.one_of(PASSES, STEADY, st.tuples(PASSES, STEADY, PASSES, STEADY).map(lambda t: [p for part in t for p in part])),
       LIMITS, st.lists(st.integers(1, 40), max_size=20))  # fmt: skip
def test_agrees_with_the_twin_for_any_batching(passes, limits, sizes):
    played, expected = play(passes, limits)
    whole = told(engine(**limits), played)
    assert told(engine(**limits), *batched(played, sizes)) == whole
    assert [row[:3] for row in whole] == expected


def mine(
    world: World, tgid: int = 100, flow: int | None = 0, seconds: int = 130, every: int = 20, **more
) -> None:
    for second in range(seconds):
        if flow is not None and second % every == 0:
            world.carry(flow, 250, 700)
        world.measure(tgid, **more)
        world.end()


def test_all_processors_a_thin_connection_and_a_new_file_are_a_miner():
    world = World()
    mine(world)
    [(when, who, severity, evidence)] = told(engine(), world.records)
    assert (who, severity) == (100, "high")
    assert when == SECOND + 120 * SECOND
    assert evidence["facts"] == ["new-file", "few-calls", "thin-flow"]
    assert evidence["remote_address"] == "203.0.113.1"
    assert (evidence["processors"], evidence["processors_allowed"]) == (4.0, 4.0)
    assert evidence["exchanges"] == {"sent": 7, "received": 7}
    assert evidence["calls_a_second"] == evidence["pauses_a_second"] == 0


@pytest.mark.parametrize(
    ("case", "severity"),
    [
        ({"tgid": 102, "flow": 2}, "low"),  # an interpreter
        ({"tgid": 102, "flow": 2, "huge_pages": 1040}, "medium"),
        ({"calls": 1000}, "medium"),  # it reads to look busy
        ({"tgid": 104, "flow": 3, "effort_flags": NEW_FILE}, "medium"),  # by way of somebody inside
        ({"tgid": 104, "flow": 3}, None),
        ({"flow": None}, None),
        ({"tgid": 104, "flow": 4, "effort_flags": NEW_FILE}, None),  # a server
        ({"busy": 1.5}, None),  # half of the processors are its own affair
        ({"tgid": 102, "flow": 2, "calls": 5000}, None),
        ({"seconds": 110}, None),
        ({"every": 50}, None),  # a keep-alive
    ],
)
def test_what_is_told_of_whom(case, severity):
    world = World()
    mine(world, **case)
    assert [row[2] for row in told(engine(), world.records)] == ([severity] if severity else [])


def test_a_message_that_is_no_job_begins_the_wait_anew():
    world = World()
    mine(world, seconds=60)
    world.carry(0, 100, 70_000)
    mine(world, seconds=100)
    assert told(engine(), world.records) == []
    mine(world, seconds=100)
    assert [row[2] for row in told(engine(), world.records)] == ["high"]


def test_a_process_for_each_processor_is_one_crew():
    world = World()
    for second in range(130):
        if second % 20 == 0:
            world.carry(0, 250, 700)
        for tgid in (100, 101):
            world.measure(tgid, 0.9)
        world.end()
    [(_, who, severity, evidence)] = told(engine(), world.records)
    assert (who, severity, evidence["processors"]) == (100, "high", 1.8)


def test_what_waits_for_a_processor_counts_as_if_it_had_one():
    world = World()
    mine(world, busy=0.5, waited_ns=3 * SECOND)
    assert [row[2] for row in told(engine(), world.records)] == ["high"]


def test_decoys_put_nobody_out_of_sight():
    """However many others compute as much, and whatever flows they have."""
    world = World()
    decoys = range(200, 230)
    for tgid in decoys:
        world.records += program(tgid, 90, b"/opt/job/decoy%d" % tgid, tgid)
    for second in range(130):
        if second % 20 == 0:
            world.carry(0, 250, 700)
        for tgid in (*decoys, 100):
            world.measure(tgid, 4.0, effort_flags=NEW_FILE)
        world.end()
    assert [row[1:3] for row in told(engine(), world.records)] == [(100, "high")]


def test_without_numbers_nothing_is_told():
    world = World()
    mine(world)
    assert told(Engine(RuleSet(PACKS.groups, PACKS.rules), processes=64, flows=64), world.records) == []
