# SPDX-License-Identifier: Apache-2.0
"""Places tried in vain: what is told of whom, and what is everyday work."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
import records
from behaviour import PACKS, SECOND
from scan_records import Tree, engine, told

from bench import synthetic
from tracer.engine.engine import Engine
from tracer.kernel import schema
from tracer.rules import RuleSet, load_rules

ACCEPTED = schema.FLOW_FLAG["FLOW_ACCEPTED"]
LATE = schema.FLOW_FLAG["FLOW_LATE"]

# What is told

SWEEP = [f"10.1.2.{n}" for n in range(1, 255)]


@pytest.mark.parametrize("end", ["refused", "unanswered", "unused"])
@pytest.mark.parametrize("pause", [0, 10 * SECOND])
def test_a_sweep_is_told_once(end: str, pause: int):
    tree = Tree()
    addresses = list(SWEEP)
    random.Random(5).shuffle(addresses)
    for address in addresses:
        tree.now += pause
        tree.attempt(address, 22, end)
    ((_, who, severity, evidence),) = told(engine(), tree.records)
    assert (who, severity) == (100, "high")
    assert evidence["scan"] == ["scans-addresses"]
    assert evidence["addresses"] == evidence["targets"] == evidence[end] == 20
    assert evidence["ports_of_one"] == 1
    assert evidence["seconds"] == pytest.approx(19 * pause / SECOND, abs=0.001)
    assert evidence["examples"] == [f"{a}:22 {end}" for a in reversed(addresses[16:20])]
    assert not evidence["by_descendants"]


def test_ports_of_one_address_are_told_apart():
    tree = Tree()
    for port in range(1, 1000):
        tree.attempt("fd00::7", port)
    ((_, _, severity, evidence),) = told(engine(), tree.records)
    assert severity == "high"
    assert evidence["scan"] == ["scans-ports"]
    assert (evidence["addresses"], evidence["ports_of_one"]) == (1, 15)
    assert evidence["examples"][0] == "[fd00::7]:15 refused"


def test_a_few_ports_of_several_addresses():
    tree = Tree()
    for address in SWEEP[:10]:
        for port in range(10):
            tree.attempt(address, 8000 + port)
    ((*_, evidence),) = told(engine(), tree.records)
    assert evidence["scan"] == ["scans-block"]


def test_this_host_is_told_of_with_less_severity_and_not_of_ports_that_the_kernel_gives_out():
    tree = Tree()
    for port in range(32768, 40000):
        tree.attempt("127.0.0.1", port)
    assert told(engine(), tree.records) == []
    for port in range(1, 1000):
        tree.attempt("127.0.0.1" if port % 2 else "::1", port)
    ((_, _, severity, evidence),) = told(engine(), tree.records)
    assert severity == "medium"
    assert evidence["scan"] == ["scans-itself"]
    assert evidence["ports_of_one"] == 30


def test_a_look_at_this_host_hides_no_sweep():
    tree = Tree()
    for port in range(1, 1000):
        tree.attempt("127.0.0.1", port)
    for address in SWEEP:
        tree.attempt(address, 22)
    assert [severity for _, _, severity, _ in told(engine(), tree.records)] == ["medium", "high"]


def test_a_full_series_still_takes_in_other_addresses(tmp_path: Path):
    """Where a user's rules find addresses worse than ports, ports must not use up the room."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[rules."net.scan"]\nextend = true\n'
        'when = [{ any = ["@scans-ports", "@scans-block"], severity = "low" }, { any = ["@scans-addresses"] }]\n'
    )
    tree = Tree()
    for address in SWEEP[:10]:
        for port in range(1, 100):
            tree.attempt(address, port)
    for address in SWEEP:
        tree.attempt(address, 22)
    found = told(Engine(load_rules([path]), processes=64, flows=64), tree.records)
    assert [severity for _, _, severity, _ in found] == ["low", "high"]


def test_a_program_an_address_is_the_loops_scan():
    tree = Tree()
    tree.fork(101)
    for number, address in enumerate(SWEEP):
        tree.fork(1000 + number, 101)
        tree.attempt(address, 22, who=1000 + number)
        tree.exit(1000 + number)
    ((_, who, severity, evidence),) = told(engine(), tree.records)
    assert (who, severity) == (101, "high")
    assert evidence["by_descendants"]


def test_who_is_ended_by_his_timeout_still_counts():
    """The loop's programs have ended when their sockets are closed."""
    tree = Tree()
    for number, address in enumerate(SWEEP):
        timeout, program = 1000 + 2 * number, 1001 + 2 * number
        tree.fork(timeout)
        tree.fork(program, timeout)
        cookie = tree.connect(program, address, 22)
        tree.now += SECOND
        tree.exit(program)
        tree.close(program, cookie, address, 22, "unanswered")
        tree.exit(timeout)
    ((_, who, _, evidence),) = told(engine(), tree.records)
    assert who == 100
    assert evidence["unanswered"] == 20


def test_who_starts_the_next_one_and_ends_gains_nothing():
    tree = Tree()
    who = 100
    for number, address in enumerate(SWEEP):
        tree.fork(1000 + number, who)
        if who != 100:
            tree.exit(who)
        who = 1000 + number
        tree.attempt(address, 22, who=who)
    ((_, found, _, evidence),) = told(engine(), tree.records)
    assert found == 100
    assert evidence["by_descendants"]


def test_what_has_been_told_of_a_process_is_not_told_of_its_parent():
    tree = Tree()
    tree.fork(101)
    tree.fork(102)
    for who, addresses in ((101, SWEEP[:100]), (102, SWEEP[100:110])):
        for address in addresses:
            tree.attempt(address, 22, who=who)
    assert [who for _, who, _, _ in told(engine(), tree.records)] == [101]


def test_the_next_process_is_told_of_by_itself():
    tree = Tree()
    for who in (101, 102, 103):
        tree.fork(who)
        for address in SWEEP:
            tree.attempt(address, 22, who=who)
    assert [who for _, who, _, _ in told(engine(), tree.records)] == [101, 102, 103]


def test_after_a_quiet_time_it_is_told_again():
    tree = Tree()
    for _ in range(2):
        for address in SWEEP:
            tree.attempt(address, 22)
        tree.now += 1801 * SECOND
    assert len(told(engine(), tree.records)) == 2


def test_other_rules_judge_anew():
    tree = Tree()
    e = engine()
    for address in SWEEP[:100]:
        tree.attempt(address, 22)
    assert len(told(e, tree.records)) == 1
    e.judge_by(PACKS, 7)
    tree.records.clear()
    for address in SWEEP[100:]:
        tree.attempt(address, 22)
    assert len(told(e, tree.records)) == 1


# What is not


def test_what_is_used_is_not_tried_in_vain():
    tree = Tree()
    for _ in range(3):
        for address in SWEEP:
            tree.attempt(address, 7000, "used")
    assert told(engine(), tree.records) == []


def test_who_came_too_early_is_forgiven():
    tree = Tree()
    for address in SWEEP:
        for end in ("refused", "refused", "used"):
            tree.attempt(address, 7000, end)
    e = engine()
    assert told(e, tree.records) == []
    assert not e.state.scans.series["count"].any()
    assert not e.state.scans.series["addresses"].any()
    assert not e.state.scans.series["outcomes"].any()


def test_peers_that_go_away():
    tree = Tree()
    for port in range(10002, 10034):
        tree.attempt("10.0.0.5", port, "used")
    for port in range(10002, 10034):
        tree.attempt("10.0.0.5", port)
    assert told(engine(), tree.records) == []


def test_a_database_that_is_away():
    tree = Tree()
    for number in range(5000):
        tree.attempt("10.0.0.5", 5432, "refused" if number % 2 else "unanswered")
    assert told(engine(), tree.records) == []


@pytest.mark.parametrize("away", [False, True])
def test_a_cluster_of_sixteen(away: bool):
    tree = Tree()
    for _ in range(3):
        for address in SWEEP[:16]:
            tree.attempt(address, 6379, "unanswered" if away else "used")
    assert told(engine(), tree.records) == []


def test_what_lies_outside_or_came_in_does_not_count():
    tree = Tree()
    for number, address in enumerate(SWEEP):
        tree.attempt(f"198.51.100.{number}", 443)
        tree.attempt(address, 443, "unused", flags=ACCEPTED)
        tree.attempt(address, 443, "unused", flags=LATE)
        tree.attempt(address, 53, "unanswered", protocol=records.UDP)
    assert told(engine(), tree.records) == []


def test_without_thresholds_nothing_is_told():
    tree = Tree()
    for address in SWEEP:
        tree.attempt(address, 22)
    e = Engine(RuleSet(PACKS.groups, PACKS.rules), processes=64, flows=64)
    assert told(e, tree.records) == []


def test_a_process_inherits_nothing_of_whose_place_it_gets():
    tree = Tree()
    for address in SWEEP[:19]:
        tree.attempt(address, 22)
    tree.fork(150, 1)
    tree.exit(100)
    tree.exit(150)  # whoever has ended last stays for a while
    tree.records.append(synthetic.execute(200, 1, tree.now, [b"sh"], b"/usr/bin/dash"))
    tree.attempt(SWEEP[30], 22, who=200)
    e = engine()
    assert told(e, tree.records) == []
    assert e.state.scans.series["count"].max() == 1
