# SPDX-License-Identifier: Apache-2.0
"""Run something under real probes and look at every record they sent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tracer.alerts import Alert
from tracer.detect.facts import FIRST_GROUP, WORD_BITS, WORDS
from tracer.engine.engine import Engine
from tracer.kernel import cgroup, schema
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.launch import Command
from tracer.rules import RuleSet, Sample, load_rules
from tracer.rules.hidden import HIDDEN_MAX
from tracer.rules.model import FIELDS
from tracer.rules.scan import scan
from tracer.sinks.events import records
from tracer.summary import Summary
from tracer.teller import Guard
from tracer.watch import Watch

WORKLOADS = Path(__file__).parent / "workloads.py"
TALKERS = WORKLOADS.with_name("talkers.py")
GUARDED = WORKLOADS.with_name("guarded.py")
TAMPERING = WORKLOADS.with_name("tampering.py")
PATIENCE_S = 240.0


def workload(*arguments: object) -> list[str]:
    """The command line of one of workloads.py's programs."""
    return [sys.executable, "-I", str(WORKLOADS), *(str(a) for a in arguments)]


def guarded(*arguments: object) -> list[str]:
    """The command line of one of guarded.py's programs, which imports workloads.py."""
    return [sys.executable, str(GUARDED), *(str(a) for a in arguments)]


def tampering(*arguments: object) -> list[str]:
    """The command line of one of tampering.py's programs, which imports workloads.py."""
    return [sys.executable, str(TAMPERING), *(str(a) for a in arguments)]


def talker(*arguments: object) -> list[str]:
    """The command line of one of talkers.py's programs."""
    return [sys.executable, "-I", str(TALKERS), *(str(a) for a in arguments)]


@dataclass
class Recording:
    """What one run sent: (fixed part, strings) by order of arrival, and the sums."""

    events: list[tuple[np.void, bytes]] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    root: int = 0
    status: int = 0
    summary: Summary | None = None
    engine: Engine | None = None
    target: str = "test"
    failed: int = 0

    def tell(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def close(self) -> None:
        pass

    def of(self, kind: str) -> list[np.void]:
        """The fixed parts of one kind: ``exec``, ``flow-close``, …"""
        return [e for e, _ in self.events if schema.KIND_NAME[int(e["kind"])] == kind]

    def execs(self) -> list[Exec]:
        return [Exec(e, tail) for e, tail in self.events if e["kind"] == schema.KIND["EVENT_EXEC"]]

    def firsts(self) -> list[First]:
        return [First(e, tail) for e, tail in self.events if e["kind"] == schema.KIND["EVENT_FIRST_BYTES"]]

    def exec_of(self, name: bytes) -> Exec:
        """The one exec whose file has this base name."""
        (found,) = [e for e in self.execs() if e.path.rpartition(b"/")[2] == name]
        return found


class Exec:
    """An exec record, its strings taken apart."""

    def __init__(self, fixed: np.void, tail: bytes) -> None:
        self.fixed = fixed
        at = 0
        parts = []
        for name in ("path_len", "name_len", "cwd_len", "args_len", "preload_len"):
            parts.append(tail[at : at + int(fixed[name])])
            at += int(fixed[name])
        self.path, self.name, self.cwd, self.args, self.preload = parts
        self.argv = self.args.removesuffix(b"\0").split(b"\0")
        self.pid = int(fixed["tgid"])

    def has(self, flag: str) -> bool:
        return bool(int(self.fixed["flags"]) & schema.EXEC_FLAG[flag])


class First:
    """A record of a flow's first bytes."""

    def __init__(self, fixed: np.void, tail: bytes) -> None:
        self.fixed = fixed
        self.data = tail[: int(fixed["len"])]
        self.cookie = int(fixed["cookie"])
        self.sent = int(fixed["direction"]) == schema.DIRECTION["DIRECTION_SENT"]
        self.accepted = bool(int(fixed["flags"]) & schema.FLOW_FLAG["FLOW_ACCEPTED"])
        self.port = int(fixed["local_port"])
        self.far_port = int(fixed["remote_port"])
        self.owner = int(fixed["tgid"])
        self.segment = int(fixed["segment"])
        self.first = int(fixed["first"])

    def has(self, flag: str) -> bool:
        return bool(int(self.fixed["first_flags"]) & schema.FIRST_FLAG[flag])


def seen_by_engine(rules: RuleSet, e: Exec | First) -> np.ndarray:
    """The signals of an exec, or of a flow's bytes, as compiled code in user space finds them."""
    if isinstance(e, First):
        found = np.zeros(WORDS, np.int64)
        data = np.frombuffer(bytearray(e.data), np.uint8)
        scan(data, 0, len(data), FIELDS["sent" if e.sent else "received"], rules.automaton, found)
        return found
    names = dict.fromkeys(item.rpartition(b"/")[2] for item in (e.path, e.name, e.argv[0]))
    return rules.signals(Sample(tuple(names), e.path, e.args.partition(b"\0")[2]))


def seen_by_probe(rules: RuleSet, e: Exec | First) -> np.ndarray:
    """The signals as the probe found them, without the group that rules can't name."""
    hidden = FIRST_GROUP + len(rules.groups)
    found = e.fixed["signals"].astype(np.int64)
    for number in range(hidden, hidden + HIDDEN_MAX):
        found[number // WORD_BITS] &= ~(1 << number % WORD_BITS)
    return found


def record(
    argv: list[str],
    options: ProbeOptions | None = None,
    *,
    own_cgroup: bool = True,
    pause_reader: float = 0.0,
    gpu_users: tuple[str, ...] | None = None,
    rules: list[Path] | None = None,
    identity=None,
    keep_events: bool = True,
    between: Callable[[Watch, Recording], None] | None = None,
    enforce: bool = False,
    known: RuleSet | None = None,
    protect: tuple[int, int] | None = None,
    guarded_files: tuple[Path, ...] = (),
    excuse: Callable[[Alert], bool] | None = None,
) -> Recording:
    """Run ``argv`` to the end of its tree. ``pause_reader``: read nothing for so many seconds, or until the command
    has ended; ``between`` is called before each step of the watch; ``protect``: who counts as the tracer, a pid and a cgroup's id;
    ``excuse``: as a policy does it.
    """
    found = Recording()
    with ExitStack() as stack:
        command = Command(argv, identity)
        stack.callback(command.close)
        tree = cgroup.TreeCgroup.create()
        stack.callback(tree.remove, 5.0)
        known = known or load_rules(rules or [])
        if gpu_users is not None:
            known = known.under(replace(known.terms, gpu_users=gpu_users))
        own = tree.path if own_cgroup else None
        probes = Probes(replace(options or ProbeOptions(), rules=known, own_cgroup=own))
        stack.callback(probes.close)
        if own_cgroup:
            tree.add(command.pid)
        probes.attach_kernel()
        probes.attach_cgroup(tree.path)
        assert not probes.missing, probes.missing
        probes.guard_files(guarded_files)
        probes.track(command.pidfd)
        found.engine = Engine(known)
        watch = Watch(
            probes,
            found.engine,
            [found],
            tree="test",
            on_records=(lambda tap: found.events.extend(records(tap))) if keep_events else None,
            guard=Guard(enforce=enforce, cgroup=own, excuse=excuse),
        )
        stack.callback(watch.close)
        watch.repair()
        if protect:
            watch.orders.protect(*protect)
        found.root = command.pid
        command.release()
        watch.wait_for(command.pidfd)
        until = time.monotonic() + pause_reader
        while time.monotonic() < until and command.poll() is None:
            time.sleep(0.01)
        deadline = time.monotonic() + PATIENCE_S
        while command.poll() is None or not watch.tree_is_empty():
            if between is not None:
                between(watch, found)
            watch.step()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{argv} does not end")
        watch.stop_waiting_for(command.pidfd)
        watch.repair()
        found.status = command.poll() or 0
        found.summary = watch.finish()
    return found
