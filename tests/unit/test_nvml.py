# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N802 - pynvml has these names
"""What NVML says of processes: asked of a stand-in through pynvml itself, taken in whatever it is, and handed to the engine."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from nvml_stand_in import StandIn, has_ended

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.engine.processes import find
from tracer.errors import HostError
from tracer.gpu import nvml, nvml_child
from tracer.gpu.nvml import Nvml, outlook
from tracer.gpu.nvml_child import FAILED, NO_CARD, PASS, ROW, USE, Cards, Failure, Use, rows_of
from tracer.gpu.uses import GpuUses
from tracer.kernel import cgroup, schema
from tracer.privileges import held
from tracer.rules import load_rules
from tracer.session import duties
from tracer.sinks.events import describe_event

RULES = load_rules([])
GIB = 1 << 30
NOT_KNOWN = nvml_child.NOT_KNOWN_PERCENT, nvml_child.NOT_KNOWN_BYTES


# -- asking


class RefusedError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value


class Fake:
    """pynvml, of cards that are dicts: ``code``, ``busy``, ``parts`` of pid → bytes."""

    NVMLError = RefusedError

    def __init__(self, cards: list[dict]) -> None:
        self.cards = cards
        self.clock = 0

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, number):
        if self.cards[number]["code"]:
            raise RefusedError(self.cards[number]["code"])
        return number, None

    def nvmlDeviceGetMigMode(self, handle):
        cut = len(self.cards[handle[0]]["parts"]) > 1
        return [int(cut), int(cut)]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, number):
        if number >= len(self.cards[handle[0]]["parts"]):
            raise RefusedError(6)
        return handle[0], number

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        part = self.cards[handle[0]]["parts"][handle[1] or 0]
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in part.items()]

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        busy = self.cards[handle[0]]["busy"]
        if busy is None:
            raise RefusedError(3)
        if not busy:
            raise RefusedError(0)  # pynvml, when there is nothing
        self.clock = max(self.clock, since) + 1
        return [SimpleNamespace(pid=pid, smUtil=n, timeStamp=self.clock) for pid, n in busy.items()]


PIDS = st.integers(1, 5)
CARDS = st.lists(
    st.fixed_dictionaries(
        {
            "code": st.sampled_from([0, 0, 0, 15, 999]),
            "busy": st.none() | st.dictionaries(PIDS, st.integers(0, 130)),
            "parts": st.lists(
                st.dictionaries(PIDS, st.none() | st.integers(0, 1 << 40)), min_size=1, max_size=3
            ),
        }
    ),
    max_size=4,
)


def sums(numbers: list[int | None]) -> int | None:
    there = [n for n in numbers if n is not None]
    return sum(there) if there else None


@given(CARDS, st.integers(1, 3))
def test_cards_are_summed_by_process(cards, passes):
    asked = Cards(Fake(cards), 2.0)
    for _ in range(passes):
        uses, failures, count = asked.ask()
    good = [card for card in cards if not card["code"]]
    expected = {}
    for pid in {pid for card in good for part in card["parts"] for pid in part}:
        on = [card for card in good if any(pid in part for part in card["parts"])]
        times = [
            min((card["busy"] or {}).get(pid, 0), 100)
            if card["busy"] is not None and len(card["parts"]) == 1
            else None
            for card in on
        ]
        memory = [part[pid] for card in on for part in card["parts"] if pid in part]
        expected[pid] = Use(sums(times), sums(memory), len(on))
    assert uses == expected
    assert failures == [Failure(card["code"], n) for n, card in enumerate(cards) if card["code"]]
    assert count == len(cards)


def test_old_samples_are_none_of_this_pass():
    fake = Fake([{"code": 0, "busy": {1: 50}, "parts": [{1: 5}]}])
    fake.nvmlDeviceGetProcessUtilization = lambda handle, since: [
        SimpleNamespace(pid=1, smUtil=50, timeStamp=since)
    ]
    assert Cards(fake, 2.0).ask()[0] == {1: Use(0, 5, 1)}


@given(
    st.dictionaries(
        st.integers(0, 0xFFFFFFFF),
        st.builds(
            Use, st.none() | st.integers(0, 6400), st.none() | st.integers(0, 1 << 62), st.integers(1, 64)
        ),
        max_size=20,
    ),
    st.lists(st.builds(Failure, st.integers(0, 999), st.integers(0, NO_CARD))),
    st.integers(0, 64),
)
def test_rows_say_all_of_a_pass(uses, failures, cards):
    rows = [ROW.unpack(row) for row in rows_of(uses, failures, cards)]
    told = [
        (USE, pid, NOT_KNOWN[0] if u.utilisation is None else u.utilisation, u.cards, NOT_KNOWN[1] if u.memory is None else u.memory)
        for pid, u in uses.items()
    ]  # fmt: skip
    assert rows == [*told, *((FAILED, f.code, 0, f.card, 0) for f in failures), (PASS, 0, 0, cards, 0)]


def test_a_pass_is_bounded_and_says_so():
    uses = {pid: Use(1, 1, 1) for pid in range(nvml_child.PROCESSES_MAX + 7)}
    rows = [ROW.unpack(row) for row in rows_of(uses, [], 1)]
    assert (len(rows), rows[-1]) == (nvml_child.PROCESSES_MAX + 1, (PASS, 0, 7, 1, 0))


# -- through pynvml, to a library


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> StandIn:
    return StandIn(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def stand_in(built, monkeypatch) -> StandIn:
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)
    built.say()
    return built


class Asked:
    """An Nvml, and all that it has said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.nvml = Nvml(self.said.append, every_s=0.05)

    def one_pass(self) -> set[tuple[int, ...]]:
        """The rows of a whole one, but for its end."""
        rows: list[tuple[int, ...]] = []
        for _ in range(2):  # the first may have begun before the stand-in was told what to say
            rows = []
            while not rows or rows[-1][0] != PASS:
                assert select.select([self.nvml.fd], [], [], 60)[0]
                rows += self.nvml.take()
                assert not self.nvml.ended
        return set(rows[:-1])

    def until(self, what) -> None:
        while not what():
            select.select([self.nvml.fd], [], [], 0.05)
            self.nvml.take()
            self.nvml.look_out()


@pytest.fixture
def asked(stand_in) -> Iterator[Asked]:
    made = Asked()
    yield made
    made.nvml.close()
    assert not Path(f"/proc/{made.nvml.pid}").exists()


def test_two_cards(stand_in, asked):
    stand_in.say("card", f"use 7 {GIB} 97", f"use 8 {GIB} 0", "card", f"use 7 {2 * GIB} 50")
    assert asked.one_pass() == {(USE, 7, 147, 2, 3 * GIB), (USE, 8, 0, 1, GIB)}
    stand_in.say("card", "use 7 - 0", "card")
    assert asked.one_pass() == {(USE, 7, 0, 1, NOT_KNOWN[1])}
    assert asked.said == []


def test_a_card_that_is_cut_up_has_memory_only(stand_in, asked):
    stand_in.say(
        "card", "slice", "use 7 5 0", "slice", "use 7 6 0", "use 8 1 0", "card", "no-times", "use 9 3 40"
    )
    assert asked.one_pass() == {(USE, 7, NOT_KNOWN[0], 1, 11), (USE, 8, NOT_KNOWN[0], 1, 1), (USE, 9, NOT_KNOWN[0], 1, 3)}  # fmt: skip


def test_a_card_that_is_lost_is_said_once_and_the_others_are_asked(stand_in, asked):
    stand_in.say("card", "fails 15", "card", "use 7 5 40")
    for _ in range(2):
        assert asked.one_pass() == {(FAILED, 15, 0, 0, 0), (USE, 7, 40, 1, 5)}
    assert asked.said == ["NVML does not say who uses the GPU of card 0: it has fallen off the bus"]
    assert asked.nvml.lost["failed"] >= 2


def test_a_library_that_hangs_holds_nobody_up(stand_in, asked, monkeypatch):
    stand_in.say("card", "hangs")
    monkeypatch.setattr(nvml, "SILENT_S", 0.3)
    asked.until(lambda: asked.said)
    assert asked.said[0].startswith("NVML has not answered for 0 s")
    assert asked.nvml.take() == [] and not asked.nvml.ended
    assert asked.nvml.lost["silent"] == 1


def test_a_library_that_is_refused(stand_in, monkeypatch):
    stand_in.say("init 9")
    assert outlook() == (False, "NVML does not say who uses the GPU: NVIDIA's driver is not loaded")
    stand_in.say("init 4")
    assert outlook() == (False, "NVML does not say who uses the GPU: that is not permitted")
    stand_in.say("card", "hangs")
    assert outlook(0.5) == (False, "NVML has not answered for 0 s")
    stand_in.say("card", "card")
    assert outlook() == (True, "NVML says who uses the GPU, and how much, every 2 s; cards: 2")


def test_no_library(monkeypatch, tmp_path):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    made = Asked()
    made.until(lambda: made.nvml.ended)
    made.nvml.close()
    assert made.said == ["NVML does not say who uses the GPU: there is no libnvidia-ml.so.1"]
    assert made.nvml.lost == {"failed": 1}


def test_no_package(monkeypatch):
    monkeypatch.setattr(nvml, "find_spec", lambda name: None)
    with pytest.raises(HostError, match="nvidia-ml-py is not installed"):
        Nvml(print)
    assert outlook() == (False, "NVML can't be asked: the package nvidia-ml-py is not installed")


def test_who_asks_can_do_nothing_else(stand_in, asked):
    stand_in.say("card")
    asked.one_pass()
    (thread,) = held(asked.nvml.pid)
    assert thread.permitted == thread.effective == thread.ambient == thread.inheritable == 0
    assert thread.no_new_privs and thread.seccomp == 2
    assert os.getsid(asked.nvml.pid) != os.getsid(0)


def test_its_end_is_said_once(stand_in, asked):
    stand_in.say("card")
    asked.one_pass()
    os.kill(asked.nvml.pid, 9)
    asked.until(lambda: asked.nvml.ended)
    assert asked.nvml.take() == []
    assert asked.said == ["NVML is not asked any more: the process that did has ended"]
    assert asked.nvml.lost == {"ended": 1}


def test_it_ends_with_whoever_has_started_it(stand_in):
    code = "import os, sys, time\nfrom tracer.gpu.nvml import Nvml\nprint(Nvml(print).pid, flush=True)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        pid = int(starter.stdout.readline())
        assert not has_ended(pid)
        starter.kill()
    while not has_ended(pid):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("wanted", "driver", "there", "asks"),
    [
        (None, True, True, True), (None, False, True, False), (None, True, False, False),
        (True, False, True, True), (False, True, True, False),
    ],
)  # fmt: skip
def test_where_nvml_is_asked(stand_in, monkeypatch, wanted, driver, there, asks):
    monkeypatch.setattr("tracer.gpu.devices.has_nvidia", lambda: driver)
    if not there:
        monkeypatch.setattr(nvml, "find_spec", lambda name: None)
    said: list[str] = []
    with ExitStack() as stack:
        options = SimpleNamespace(nvml=wanted)
        assert (duties.ask_nvml(stack, options, said.append) is not None) is asks
    assert said == []


# -- taking in


def fed(monkeypatch: pytest.MonkeyPatch) -> tuple[Nvml, int, list[str]]:
    """An Nvml that hears what is written to a pipe."""
    reading, writing = os.pipe()
    process = SimpleNamespace(stdout=io.FileIO(reading), pid=0, kill=lambda: None, wait=lambda patience: 0)
    monkeypatch.setattr(nvml.subprocess, "Popen", lambda *_, **__: process)
    said: list[str] = []
    return Nvml(said.append), writing, said


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=100), max_size=20))
def test_whatever_comes_is_taken_in(pieces):
    with pytest.MonkeyPatch.context() as patch:
        heard, pipe, said = fed(patch)
        uses = GpuUses(heard, Engine(RULES, processes=4, flows=4))
        rows = []
        take = heard.take
        heard.take = lambda: [rows.append(row) or row for row in take()]
        for piece in pieces:
            os.write(pipe, piece)
            assert uses.take() == []
        os.close(pipe)
        uses.take()
        assert heard.ended and len(said) <= nvml._TOLD_MAX
        data = b"".join(pieces)
        assert rows == list(ROW.iter_unpack(data[: len(data) // ROW.size * ROW.size]))
        heard.close()


class Said:
    """What is said next, in passes."""

    ended = False

    def look_out(self) -> None:
        """It never hangs."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.lost = nvml.Counter()

    def take(self):
        rows, self.rows = self.rows, []
        return rows


def member(engine: Engine, pid: int, *, late_ns: int = 0) -> int:
    """A process of the tree that is there; when it began."""
    start = cgroup.process_start_ticks(pid) * (1_000_000_000 // os.sysconf("SC_CLK_TCK")) + 3 + late_ns
    row = np.frombuffer(synthetic.fork(pid, 1, start), schema.FORK).copy()
    row["start"] = start
    list(engine.feed([row.tobytes()]))
    return start


def test_only_members_are_told_of():
    engine, said = Engine(RULES, processes=64, flows=4), Said()
    uses = GpuUses(said, engine)
    start = member(engine, os.getpid())
    member(engine, os.getppid(), late_ns=10_000_000_000)  # the number is somebody else's
    said.rows = [(USE, pid, 40, 2, GIB) for pid in (os.getpid(), os.getppid(), 1)]
    (record,) = (np.frombuffer(raw, schema.GPU_USE)[0] for raw in uses.take())
    assert (record["tgid"], record["start"], record["utilisation"], record["memory"]) == (
        os.getpid(),
        start,
        40,
        GIB,
    )
    assert (record["cards"], record["use_flags"]) == (2, 3)


def test_who_is_told_of_no_more_uses_nothing():
    engine, said = Engine(RULES, processes=64, flows=4), Said()
    uses = GpuUses(said, engine)
    member(engine, os.getpid())
    use, end = (USE, os.getpid(), *NOT_KNOWN[:1], 1, NOT_KNOWN[1]), (PASS, 0, 0, 1, 0)

    def told(*rows):
        said.rows = list(rows)
        found = [np.frombuffer(raw, schema.GPU_USE)[0] for raw in uses.take()]
        return [(int(r["utilisation"]), int(r["memory"]), int(r["use_flags"])) for r in found]

    assert told(use, end) == [(0, 0, 0)]
    assert told((FAILED, 15, 0, 0, 0), end) == []  # nobody knows
    assert told(use, end) == [(0, 0, 0)]
    assert told(end) == [(0, 0, 3)]
    assert told(end) == []
    assert told(use, (PASS, 0, 5, 1, 0), (PASS, 0, 5, 1, 0)) == [(0, 0, 0)]
    assert uses.lost() == {"left-out": 10}


def test_what_no_card_has_is_cut():
    engine, said = Engine(RULES, processes=64, flows=4), Said()
    uses = GpuUses(said, engine)
    member(engine, os.getpid())
    said.rows = [(USE, os.getpid(), 1 << 31, 1 << 31, (1 << 64) - 2)]
    (raw,) = uses.take()
    record = np.frombuffer(raw, schema.GPU_USE)[0]
    assert (record["utilisation"], record["memory"], record["cards"]) == (6400, (1 << 63) - 1, 64)


# -- the engine


def use(pid: int, ts: int, percent: int | None, memory: int | None) -> bytes:
    row = synthetic._head(schema.GPU_USE, "EVENT_GPU_USE", pid, ts)
    row["utilisation"], row["memory"] = percent or 0, memory or 0
    row["use_flags"] = 1 * (memory is not None) | 2 * (percent is not None)
    return row.tobytes()


def test_it_can_be_read():
    shown = [
        describe_event(np.frombuffer(use(7, 1, *said), schema.GPU_USE)[0], b"")
        for said in ((150, GIB), (None, None))
    ]
    assert shown == [
        "150 % of a card's time, 1073741824 B, on 0 cards",
        "? % of a card's time, ? B, on 0 cards",
    ]


STEPS = st.lists(
    st.tuples(st.sampled_from(["use"] * 5 + ["exec", "exit", "fork"]), st.integers(100, 104), st.none() | st.integers(0, 6400), st.none() | st.integers(0, 1 << 62)),
    max_size=40,
)  # fmt: skip


@settings(max_examples=100)
@given(STEPS)
def test_last_and_highest_are_kept_by_program(steps):
    engine = Engine(RULES, processes=64, flows=4)
    known: dict[int, list[tuple[int | None, int | None]]] = {}
    for ts, (what, pid, percent, memory) in enumerate(steps, 1):
        if what == "use":
            list(engine.feed([use(pid, ts, percent, memory)]))
            if pid in known:
                known[pid].append((percent, memory))
        elif what == "fork":
            if pid not in known:
                list(engine.feed([synthetic.fork(pid, 1, ts)]))
                known[pid] = []
        elif what == "exec":
            list(engine.feed([synthetic.execute(pid, 1, ts, [b"x"], b"/bin/x")]))
            known[pid] = []
        else:
            list(engine.feed([synthetic.exit_(pid, ts)]))
            known.pop(pid, None)
    for pid, told in known.items():
        expected = {}
        for column, name in enumerate(("utilisation", "memory")):
            values = [one[column] for one in told if one[column] is not None]
            if told and told[-1][column] is not None:
                expected[name] = told[-1][column]
            if values:
                expected[f"{name}_highest"] = max(values)
        assert engine.gpu_use(int(find(engine.state.processes, pid))) == expected
