# SPDX-License-Identifier: Apache-2.0
"""Other rules while a tree runs at full speed: every event is judged by one set, wholly."""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path

import pytest
from harness import Recording, record, seen_by_engine, seen_by_probe, talker

from tracer import clock
from tracer.errors import RuleError
from tracer.rules import RuleSet, load_rules
from tracer.watch import Watch

A = """
[indicators.seen-by-a]
where = ["args", "sent"]
match = "substring"
values = ["alphabeta"]
[rules."exec.by-a"]
title = "t"
on = "exec"
any = ["seen-by-a"]
severity = "low"
[rules."net.by-a"]
title = "t"
on = "flow"
any = ["seen-by-a"]
severity = "medium"
"""
#: Its first groups have the numbers that those of A have: whoever mixes the two takes one for the other.
B = "\n".join(
    f"""
[indicators.decoy{n}]
where = ["args", "sent", "path"]
match = "substring"
values = ["decoy {n}"]"""
    for n in range(70)
) + """
[indicators.seen-by-b]
where = ["args", "sent"]
match = "substring"
values = ["phabe"]
[rules."exec.by-b"]
title = "t"
on = "exec"
any = ["seen-by-b"]
severity = "high"
[rules."net.by-b"]
title = "t"
on = "flow"
any = ["seen-by-b"]
severity = "critical"
[rules."exec.decoy"]
title = "t"
on = "exec"
any = [DECOYS]
severity = "critical"
[rules."net.decoy"]
title = "t"
on = "flow"
any = [DECOYS]
severity = "critical"
""".replace("DECOYS", ", ".join(f'"decoy{n}"' for n in range(70)))  # fmt: skip
SAYS = {
    "exec.by-a": ("seen-by-a", "alphabeta", "low"),
    "net.by-a": ("seen-by-a", "alphabeta", "medium"),
    "exec.by-b": ("seen-by-b", "phabe", "high"),
    "net.by-b": ("seen-by-b", "phabe", "critical"),
}


class Sink:
    """Outside of the tree: takes connections and whatever they bring."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.server.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            near, _ = self.server.accept()
            with near:
                while data := near.recv(100):
                    if data == b"end":
                        return
            self.connections += 1

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.send(b"end")
        self._thread.join(20)
        self.server.close()


class Swaps:
    """Takes the two sets by turns, before each step of a watch, and notes when."""

    def __init__(self, sets: list[RuleSet], refused: RuleSet, broken: Path) -> None:
        self.sets, self.refused, self.broken = sets, refused, broken
        #: (before the call, when it had come back, which set, epoch, alerts told by then)
        self.done: list[tuple[int, int, RuleSet, int, int]] = []
        self.tries = 0

    def __call__(self, watch: Watch, found: Recording) -> None:
        self.tries += 1
        assert watch.probes.knowledge is not None
        before = watch.probes.knowledge.epoch, watch.engine.rules, watch.engine.state.epoch[0]
        if self.tries % 5 == 3:
            with pytest.raises(RuleError, match="too large"):
                watch.reload(self.refused)
            with pytest.raises(RuleError):
                watch.reload(load_rules([self.broken]))
            after = watch.probes.knowledge.epoch, watch.engine.rules, watch.engine.state.epoch[0]
            assert after == before
            return
        rules = self.sets[len(self.done) % 2]
        began = clock.boottime_ns()
        watch.reload(rules)
        self.done.append((began, clock.boottime_ns(), rules, watch.probes.knowledge.epoch, len(found.alerts)))


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Swaps, Sink, RuleSet]:
    folder = tmp_path_factory.mktemp("rules")
    for name, text in (("a", A), ("b", B), ("broken", A.replace("any", "nay"))):
        (folder / f"{name}.toml").write_text(text)
    rng = random.Random(1)
    many = ", ".join(f'"{rng.randbytes(12).hex()}"' for _ in range(1500))
    (folder / "large.toml").write_text(
        f'[indicators.many]\nwhere = "args"\nmatch = "substring"\nvalues = [{many}]\n'
        '[rules."exec.many"]\ntitle = "t"\non = "exec"\nany = ["many"]\nseverity = "low"\n'
    )
    a, b, large = (load_rules([folder / f"{n}.toml"]) for n in ("a", "b", "large"))
    for rules in (a, b, large):  # compiled now, not while the tree runs
        assert rules.automaton
        assert rules.probe_rows
        assert rules.table
    swaps, sink = Swaps([b, a], large, folder / "broken.toml"), Sink()
    try:
        found = record(talker("busy", 4, sink.port), rules=[folder / "a.toml"], between=swaps)
    finally:
        sink.close()
    time.sleep(0)
    assert found.status == 0
    return found, swaps, sink, a


def test_every_event_is_judged_by_one_set_or_the_other(swapped):
    found, swaps, sink, _ = swapped
    assert len(swaps.done) >= 6
    alerts = [a for a in found.alerts if a.rule.id in SAYS or "decoy" in a.rule.id]
    for a in alerts:
        group, indicator, severity = SAYS[a.rule.id]
        assert a.severity == severity
        matched = {(m["group"], m["indicator"]) for m in a.evidence["matched"]}
        assert (group, indicator) in matched
        assert {g for g, _ in matched if g.startswith("seen-by")} == {group}
    numbers = [a.program.argv[2] for a in alerts if a.rule.id.startswith("exec.")]
    execs = [e.argv[2] for e in found.execs() if e.path.endswith(b"/true")]
    assert numbers == execs
    assert len(set(execs)) == len(execs) > 100
    flows = [a for a in alerts if a.rule.id.startswith("net.")]
    assert len(flows) == sink.connections == len(execs)


def test_what_is_told_after_a_reload_is_told_by_the_new_set(swapped):
    found, swaps, _, first = swapped
    in_force, at = first, 0
    for _, _, rules, _, told in [*swaps.done, (0, 0, first, 0, len(found.alerts))]:
        for alert in found.alerts[at:told]:
            assert alert.rule in in_force.rules
        in_force, at = rules, told
    both = {a.rule.id for a in found.alerts}
    assert set(SAYS) <= both


def test_verdicts_are_those_of_their_epoch(swapped):
    found, swaps, _, first = swapped
    sets = {1: first} | {epoch: rules for _, _, rules, epoch, _ in swaps.done}
    assert sorted(sets) == list(range(1, len(sets) + 1))
    events = [*found.execs(), *found.firsts()]
    for e in events:
        epoch = int(e.fixed["epoch"])
        rules = sets[epoch]
        mine, theirs = seen_by_probe(rules, e), seen_by_engine(rules, e)
        mine[0] = theirs[0] = 0  # facts
        assert (mine == theirs).all()
        # not before it was there, not after the next one was
        judged = int(e.fixed["ts"]) + int(e.fixed["took_ns"])
        if epoch > 1:
            assert judged >= swaps.done[epoch - 2][0]
        if epoch <= len(swaps.done):
            assert int(e.fixed["ts"]) <= swaps.done[epoch - 1][1]
    on_cpu: dict[int, list[int]] = {}
    for e in found.execs():
        on_cpu.setdefault(int(e.fixed["cpu"]), []).append(int(e.fixed["epoch"]))
    for epochs in on_cpu.values():
        assert epochs == sorted(epochs)
