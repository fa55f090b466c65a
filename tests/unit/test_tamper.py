# SPDX-License-Identifier: Apache-2.0
"""Tampering, as the engine takes it in: what no probe has judged is judged alike."""

from __future__ import annotations

import json
import signal
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tracer.detect.facts import FACT_BIT, TAMPER_FACTS, WORDS
from tracer.detect.tamper import FLAG_FACT, WHAT_FACT, signal_name, tamper_facts
from tracer.engine.engine import Engine
from tracer.evidence import evidence_of
from tracer.kernel import schema
from tracer.kernel.knowledge import build
from tracer.rules import load_rules
from tracer.rules.model import ON
from tracer.sinks.events import format_event
from tracer.summary import Summary, Tally

sys.path.insert(0, str(Path(__file__).parent.parent))
from naive_knowledge import Image, fact
from records import EPOCH, execute, tamper

PACKS = load_rules()
IMAGE = Image(build(PACKS, EPOCH))
FLAGS = [flags for count in range(4) for flags in combinations(FLAG_FACT, count)]


def engine() -> Engine:
    made = Engine(PACKS, processes=16, flows=4)
    made.judge_by(PACKS, EPOCH)
    return made


def by_probe(what: str, flags: tuple[str, ...]) -> tuple[list[int], int]:
    """As judge_tamper in probes/tamper.bpf.h does it, over the image alone."""
    signals = [0] * WORDS
    signals[0] |= fact(int(IMAGE.header["tamper_facts"][schema.TAMPER_WHAT[what]]))
    for flag in flags:
        bit = schema.TAMPER_FLAG[flag].bit_length() - 1
        signals[0] |= fact(int(IMAGE.header["tamper_flag_facts"][bit]))
    return signals, IMAGE.judge(signals, ON["tamper"])


@pytest.mark.parametrize("what", WHAT_FACT)
@pytest.mark.parametrize("flags", FLAGS, ids="+".join)
def test_the_engine_says_what_the_probe_says(what: str, flags: tuple[str, ...]):
    names = {WHAT_FACT[what], *(FLAG_FACT[flag] for flag in flags)}
    assert names <= set(TAMPER_FACTS)
    expected = sum(1 << FACT_BIT[name] for name in names)
    number = sum(schema.TAMPER_FLAG[flag] for flag in flags)
    assert tamper_facts(schema.TAMPER_WHAT[what], number) == expected
    signals, row = by_probe(what, flags)
    assert signals[0] == expected
    (mine,) = engine().feed([tamper(what, *flags)])
    (told,) = engine().feed([tamper(what, *flags, signals=signals)])
    assert mine.rules == told.rules
    assert PACKS.alternative_rule[row - 1] == mine.rules[0]
    (stale,) = engine().feed([tamper(what, *flags, signals=[2**62 - 1] * WORDS, epoch=EPOCH - 1)])
    assert stale.rules == mine.rules


def test_the_probes_decide_all_rules_on_tampering():
    rows, kind = PACKS.probe_rows, ON["tamper"]
    begin, end = PACKS.table.first[kind : kind + 2]
    assert np.count_nonzero(rows.on == kind) == end - begin > 4


def test_what_nobody_knows_fires_nothing():
    row = np.frombuffer(bytearray(tamper("TAMPER_SIGNAL")), schema.TAMPER)
    for what in (0, schema.TAMPER_WHAT["TAMPERS"], 255):
        row["what"] = what
        assert list(engine().feed([row.tobytes()])) == []


def evidence(record: bytes) -> dict:
    e = engine()
    (found,) = e.feed([execute([b"sh"], b"/bin/sh"), record])
    return evidence_of(e, found, e.describe(found.entry))


def test_evidence_of_a_signal():
    said = evidence(tamper("TAMPER_SIGNAL", "TAMPER_UNCATCHABLE", number=9, target_tgid=7, target_start=70))
    assert said == {
        "what": "signal", "signal": "SIGKILL", "to_group": False, "target": {"pid": 7, "start_ns": 70},
    }  # fmt: skip


def test_evidence_of_a_flood():
    kind = schema.KIND["EVENT_GPU_IOCTL"]
    assert evidence(tamper("TAMPER_FLOOD", number=kind)) == {"what": "flood", "records": "gpu-ioctl"}
    assert evidence(tamper("TAMPER_FLOOD", number=200))["records"] == "200"


def test_evidence_of_a_module():
    name = np.frombuffer(b"rootkit\x1b".ljust(schema.TAMPER["name"].itemsize, b"\0"), np.uint8)
    said = evidence(tamper("TAMPER_MODULE", name=name))
    assert said["module"].startswith("rootkit")
    assert "\x1b" not in json.dumps(said)


def test_evidence_of_who_was_moved_by_whom():
    said = evidence(tamper("TAMPER_LEFT", "TAMPER_BY_OUTSIDER", by_tgid=99, target_tgid=1, cgroup_to=2**60))
    assert said == {"what": "left", "target": {"pid": 1, "start_ns": 0}, "cgroup_to": str(2**60), "by": 99}


def test_the_process_table_knows_where_it_went():
    e = engine()
    list(e.feed([execute([b"sh"], b"/bin/sh")]))
    (found,) = e.feed([tamper("TAMPER_LEFT", target_tgid=1, target_start=1000, cgroup_to=5)])
    assert e.describe(found.entry).cgroup == 5


def test_lines_for_people():
    def line(record: bytes) -> str:
        return format_event(np.frombuffer(record, schema.TAMPER, 1)[0], b"", 0)

    assert line(tamper("TAMPER_SIGNAL", number=15, target_tgid=7)).endswith("signal SIGTERM pid 7")
    left = tamper("TAMPER_LEFT", "TAMPER_BY_OUTSIDER", target_tgid=7, cgroup_to=3, by_tgid=8)
    assert line(left).endswith("left pid 7 to cgroup 3 by pid 8")


def test_a_flood_in_a_line():
    row = np.frombuffer(tamper("TAMPER_FLOOD", number=schema.KIND["EVENT_CONNECT"]), schema.TAMPER, 1)[0]
    assert format_event(row, b"", 0).endswith("flood of connect")


def summary(lost: dict[str, int], reasons: dict[str, int]) -> Summary:
    return Summary(1.0, {}, {}, lost, reasons, 0, {}, {}, Tally(), {}, {}, 0, None, None)


@pytest.mark.parametrize(
    ("lost", "reasons", "total", "line"),
    [
        ({"connect": 0}, {"share": 0}, 0, "lost: 0"),
        ({"connect": 7, "exec": 2}, {"share": 0}, 9, "lost: 7 connect (ring full), 2 exec (ring full)"),
        ({"connect": 7}, {"share": 7}, 7, "lost: 7 connect (7 of a process over its share)"),
        (
            {"connect": 7, "gpu-open": 2},
            {"share": 4, "scratch": 3},
            12,
            "lost: 7 connect, 2 gpu-open (4 of a process over its share, for 5 the ring was full), 3 scratch",
        ),
    ],
)
def test_what_was_held_back_is_counted_once(lost, reasons, total, line):
    made = summary(lost, reasons)
    assert made.lost_total == total
    assert line in made.lines()


def test_names_of_signals():
    names = [signal_name(n) for n in (9, 15, signal.SIGRTMIN, signal.SIGRTMIN + 1, 33, 200)]
    assert names == ["SIGKILL", "SIGTERM", "SIGRTMIN", "SIGRTMIN+1", "33", "SIGRTMIN+166"]
