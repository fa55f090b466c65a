# SPDX-License-Identifier: Apache-2.0
"""What is gathered of a run, from records as probes send them."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records
from wire_bytes import answer, record

from bench import synthetic
from tracer import learning
from tracer.engine.engine import Engine
from tracer.kernel import schema
from tracer.policy.learn import Destination, GpuUser, Listening
from tracer.rules import load_rules
from tracer.sinks import learner as module
from tracer.sinks.learner import Learner

PYTHON = b"/usr/bin/python3.11"


@pytest.fixture
def learner():
    """One whose ``see`` takes a record as a watch would hand it over."""
    engine = Engine(load_rules([]), processes=64, flows=64)
    found = Learner(engine)

    def see(*sent: bytes) -> Learner:
        for one in sent:
            list(engine.feed([one]))
            found.take(len(one).to_bytes(8, "little") + one + bytes(-len(one) % 8))
        return found

    found.see = see
    return found


def test_programs_by_path_and_number(learner):
    odd = b"/opt/\xff\n"
    learner.see(
        records.execute([b"python3"], PYTHON),
        records.execute([b"git"], b"/usr/bin/git", ts=2),
        records.execute([b"git"], b"/usr/bin/git", ts=3),
        records.execute([b"x"], odd, ts=4),
    )
    assert learner.executables == {
        PYTHON.decode(): 1,
        "/usr/bin/git": 2,
        odd.decode("utf-8", "surrogateescape"): 1,
    }


def test_destinations_have_the_name_they_had_then(learner):
    def named(name: bytes, ts: int) -> bytes:
        said = answer(name, record(b"\xc0\x0c", 1, ipaddress.IPv4Address("198.51.100.7").packed))
        return records.first(said, "198.51.100.1", 53, received=True, ts=ts, cookie=ts, protocol=17)

    learner.see(
        records.connect("198.51.100.7", 1, ts=1),
        named(b"a.example", 2),
        records.connect("198.51.100.7", 2, ts=3, cookie=3),
        named(b"b.example", 4),
        records.connect("198.51.100.7", 2, ts=5, cookie=5),
        records.connect("2001:db8::1", 3, ts=6, cookie=6, protocol=17),
    )
    assert learner.destinations == {
        Destination("198.51.100.7", 1, 6, None),
        Destination("198.51.100.7", 2, 6, "a.example"),
        Destination("198.51.100.7", 2, 6, "b.example"),
        Destination("2001:db8::1", 3, 17, None),
    }


def test_servers(learner):
    def listen(address: str, port: int, protocol: int = 6, flags: int = 0) -> bytes:
        row = np.frombuffer(records.connect(address, 0, protocol=protocol), schema.LISTEN).copy()
        row["kind"] = schema.KIND["EVENT_LISTEN"]
        row["local"], row["local_port"] = row["remote"].copy(), port
        row["flags"] = flags
        return row.tobytes()

    bound = schema.FLOW_FLAG["FLOW_BOUND"]
    learner.see(listen("0.0.0.0", 8000), listen("::", 8001), listen("0.0.0.0", 40000, protocol=17))
    learner.see(listen("0.0.0.0", 5353, protocol=17, flags=bound))
    assert learner.listening == {
        Listening("0.0.0.0", 8000),
        Listening("::", 8001),
        Listening("0.0.0.0", 5353, 17),
    }


def test_who_computes_on_the_gpu(learner):
    def compute(tgid: int, ts: int) -> bytes:
        row = np.frombuffer(synthetic.gpu_ioctl(tgid, ts, 0xC86F), schema.GPU_IOCTL).copy()
        row["flags"] = schema.GPU_FLAG["GPU_COMPUTE"]
        return row.tobytes()

    code = b"from multiprocessing.spawn import spawn_main; spawn_main(5)"
    learner.see(
        synthetic.execute(100, 1, 1, [b"python3", b"-u", b"/job/train.py", b"-v"], PYTHON),
        synthetic.fork(101, 100, 2),
        synthetic.execute(101, 100, 3, [b"python3", b"-c", code, b"--multiprocessing-fork"], PYTHON),
        compute(101, 4),
        synthetic.gpu_ioctl(100, 5, 0),
    )
    assert learner.gpu_users == {GpuUser(PYTHON.decode(), "/job/train.py")}
    learner.see(
        synthetic.fork(102, 100, 6),
        synthetic.execute(102, 100, 7, [b"infer"], b"/opt/infer"),
        compute(102, 8),
        synthetic.fork(103, 100, 9),
        synthetic.execute(103, 100, 10, [b"python3", b"-c", b"import torch"], b"/usr/bin/python3.12"),
        compute(103, 11),
        synthetic.fork(104, 100, 12),
        synthetic.execute(104, 100, 13, [b"perl", b"-w", b"-e", b"code"], b"/usr/bin/perl"),
        compute(104, 14),
    )
    assert learner.gpu_users == {
        GpuUser(PYTHON.decode(), "/job/train.py"),
        GpuUser("/opt/infer"),
        GpuUser("/usr/bin/python3.12"),
        GpuUser("/usr/bin/perl"),
    }


def test_no_more_is_kept_than_there_is_room_for(learner, monkeypatch):
    monkeypatch.setattr(module, "KEPT_MAX", 3)
    for number in range(1, 6):
        learner.see(
            records.connect("198.51.100.7", number, ts=number, cookie=number),
            records.execute([b"x"], b"/opt/%d" % number, ts=number),
        )
    learner.see(records.execute([b"x"], b"/opt/1", ts=9))
    assert (len(learner.destinations), len(learner.executables)) == (3, 3)
    assert learner.executables["/opt/1"] == 2
    assert learner.dropped == {"destination": 2, "program": 2}


def test_what_is_missing_is_said(learner):
    whole = dict.fromkeys(learning._TABLES, 0)
    learner.finished(
        SimpleNamespace(lost={"exec": 0}, reasons={}, tables=whole, missing_hooks={}), ended=True
    )
    assert list(learning._gaps(learner, 0)) == []
    learner.dropped["program"] = 2
    learner.finished(
        SimpleNamespace(
            lost={"exec": 1200, "fork": 0},
            reasons={"scratch": 1},
            tables=whole | {"name-table-full": 7},
            missing_hooks={"on_egress": "no such hook"},
        ),
        ended=False,
    )
    assert list(learning._gaps(learner, 1)) == [
        "INCOMPLETE: records were lost (1,200 exec, 1 scratch), and what they told is not in here.",
        "INCOMPLETE: some of what was seen could not be kept (7 name-table-full).",
        "INCOMPLETE: there was no room for all that was seen (2 programs left out).",
        "INCOMPLETE: on_egress was not watched: no such hook",
        "INCOMPLETE: the watch ended before all processes had ended.",
        "The command ended with status 1: it may not have come to all that it does.",
    ]
