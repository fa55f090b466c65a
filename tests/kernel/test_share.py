# SPDX-License-Identifier: Apache-2.0
"""One process's storm does not push out what others send, and whoever storms is named."""

from __future__ import annotations

import shlex
from collections import Counter

import pytest
from harness import Recording, record, workload

from tracer.gpu.devices import stand_in
from tracer.kernel import schema
from tracer.kernel.probes import ProbeOptions

pytestmark = pytest.mark.alone

GPU = "/dev/full"
RING = 1 << 20
OTHERS_EXECS, OTHERS_CONNECTS = 53, 97
STORMS = {
    "GPU ioctls": workload("kinds_of_ioctl", GPU, 60000),
    "UDP destinations": workload("datagrams", 40000),
    "connects": workload("connects", 5000),
}


def options(bulk: int = RING) -> ProbeOptions:
    return ProbeOptions(bulk_bytes=bulk, devices=(stand_in(f"{GPU}=nvidia"),))


def beside(storm: list[str], *others: list[str]) -> list[str]:
    """``storm``, and when it rages ``others``, one after the other."""
    lines = "; ".join(shlex.join(line) for line in others)
    return ["sh", "-c", f"{shlex.join(storm)} & sleep 0.7; {lines}; wait"]


def flooders(run: Recording) -> list[int]:
    return [alert.program.pid for alert in run.alerts if alert.rule.id == "tamper.flood"]


def sums_hold(run: Recording) -> None:
    summary = run.summary
    for kind, sent in summary.sent.items():
        assert summary.received[kind] + summary.lost[kind] == sent, kind


@pytest.mark.parametrize("storm", STORMS)
def test_others_are_seen_while_one_storms_and_the_reader_stands_still(storm):
    others = [workload("execs", OTHERS_EXECS), workload("connects", OTHERS_CONNECTS)]
    run = record(beside(STORMS[storm], *others), options(), pause_reader=4.0)
    sums_hold(run)
    assert run.summary.reasons["share"] > 1000
    assert run.summary.reasons["share"] == sum(run.summary.lost.values()), (
        "none of it because the ring was full"
    )
    assert run.summary.lost_total == run.summary.reasons["share"]
    (flooder,) = flooders(run)
    by_pid = {int(e.fixed["tgid"]): e.argv[-len(STORMS[storm]) :] for e in run.execs()}
    assert [a.decode() for a in by_pid[flooder]] == STORMS[storm]
    assert len([e for e in run.execs() if e.path.endswith(b"/true")]) == OTHERS_EXECS
    counts = Counter(int(e["tgid"]) for e in run.of("connect"))
    (other,) = {pid for pid, n in counts.items() if pid != flooder}
    assert counts[other] == OTHERS_CONNECTS
    assert sum(int(e["tgid"]) == other for e in run.of("flow-close")) == 2 * OTHERS_CONNECTS
    (alert,) = [a for a in run.alerts if a.rule.id == "tamper.flood"]
    assert alert.severity == "medium"
    assert alert.evidence["records"] in ("gpu-ioctl", "connect", "first-bytes", "flow-open", "flow-close")
    assert any("over its share" in line for line in run.summary.lines())


def test_others_are_seen_while_several_storm_at_once():
    storms = [workload("datagrams", 40000) for _ in range(4)]
    storm = ["sh", "-c", " & ".join(map(shlex.join, storms)) + " & wait"]
    others = [workload("execs", OTHERS_EXECS), workload("connects", OTHERS_CONNECTS)]
    run = record(beside(storm, *others), options(4 << 20), pause_reader=5.0)
    sums_hold(run)
    assert run.summary.reasons["share"] > 1000
    lost, why = run.summary.lost_total, run.summary.reasons
    assert lost == why["share"], f"none of it because the ring was full: {run.summary.lost}, {why}"
    assert len(flooders(run)) == len(storms)
    assert len([e for e in run.execs() if e.path.endswith(b"/true")]) == OTHERS_EXECS
    counts = Counter(int(e["tgid"]) for e in run.of("connect"))
    (other,) = counts.keys() - set(flooders(run))
    assert counts[other] == OTHERS_CONNECTS
    assert sum(int(e["tgid"]) == other for e in run.of("flow-close")) == 2 * OTHERS_CONNECTS


def test_execs_are_seen_while_another_forks_as_fast_as_it_can():
    forks = workload("flood", 4000)
    small = ProbeOptions(critical_bytes=1 << 18)
    run = record(beside(forks, workload("execs", OTHERS_EXECS)), small, pause_reader=60.0)
    sums_hold(run)
    assert run.summary.lost["fork"] > 1000
    assert run.summary.lost["exec"] == 0
    assert len([e for e in run.execs() if e.path.endswith(b"/true")]) == OTHERS_EXECS
    assert run.engine.live == 0


def test_one_process_alone_gets_three_quarters_of_a_ring_that_nobody_reads():
    run = record(STORMS["UDP destinations"], options(), pause_reader=3.0)
    sums_hold(run)
    size = schema.CONNECT.itemsize + 8
    first = run.summary.received["connect"] * size + sum(
        len(e.data) + schema.FIRST_BYTES.itemsize + 8 + 7 & ~7 for e in run.firsts()
    )
    assert 0.70 * RING < first < 0.80 * RING


def test_a_reader_that_keeps_up_sets_no_limit():
    """Far more than a ring full of records, of one process, and none is held back."""
    run = record(STORMS["UDP destinations"], options(16 << 20), keep_events=False)
    assert run.summary.received["connect"] >= 40000
    assert run.summary.lost_total == 0
    assert flooders(run) == []


def test_what_was_held_back_is_forgotten_when_the_reader_has_caught_up():
    """The same process may send again; what it sends then is seen."""
    script = (
        "import socket, time\n"
        "out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for n in range(30000): out.sendto(b'x', ('127.0.0.1', 20000 + n))\n"
        "time.sleep(4)\n"
        "for n in range(101): out.sendto(b'x', ('127.0.0.2', 20000 + n))\n"
    )
    run = record(["python3", "-I", "-c", script], options(), pause_reader=3.0)
    sums_hold(run)
    assert run.summary.reasons["share"] > 1000
    late = [e for e in run.of("connect") if bytes(e["remote"][:4]) == bytes([127, 0, 0, 2])]
    assert len(late) == 101


RULES = """
[indicators.bad-port]
where = "port"
values = ["udp/49999"]
[rules."net.bad-port"]
title = "A port that is not to be used"
on = "connect"
severity = "high"
action = "block"
any = ["bad-port"]
"""


def test_verdicts_do_not_depend_on_the_record(tmp_path):
    """Over its share, a process is refused what is to be refused; and that is told while there is room."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    out = tmp_path / "out"
    script = (
        "import socket\n"
        "out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "found = 0\n"
        "for n in range(40000):\n"
        "    out.sendto(b'x', ('127.0.0.1', 1024 + n))\n"
        "for n in range(1000):\n"
        "    out.sendto(b'x', ('127.0.0.1', 1024 + n))\n"
        "    try: out.sendto(b'x', ('127.0.0.1', 49999))\n"
        "    except PermissionError: found += 1\n"
        f"open({str(out)!r}, 'w').write(str(found))\n"
    )
    run = record(["python3", "-I", "-c", script], options(), pause_reader=4.0, rules=[rules], enforce=True)
    sums_hold(run)
    assert out.read_text() == "1000"
    assert run.summary.acted["block"] == 1000
    told = [a for a in run.alerts if a.rule.id == "net.bad-port"]
    assert len(told) < 1000
