# SPDX-License-Identifier: Apache-2.0
"""Run something under real probes and look at every record they sent."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tracer.alerts import Alert
from tracer.engine.engine import Engine
from tracer.kernel import cgroup, schema
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.launch import Command
from tracer.rules import load_rules
from tracer.sinks.events import records
from tracer.summary import Summary
from tracer.watch import Watch

WORKLOADS = Path(__file__).parent / "workloads.py"
PATIENCE_S = 240.0


def workload(*arguments: object) -> list[str]:
    """The command line of one of workloads.py's programs."""
    return [sys.executable, "-I", str(WORKLOADS), *(str(a) for a in arguments)]


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
        for name in ("path_len", "name_len", "cwd_len", "args_len"):
            parts.append(tail[at : at + int(fixed[name])])
            at += int(fixed[name])
        self.path, self.name, self.cwd, self.args = parts
        self.argv = self.args.removesuffix(b"\0").split(b"\0")
        self.pid = int(fixed["tgid"])

    def has(self, flag: str) -> bool:
        return bool(int(self.fixed["flags"]) & schema.EXEC_FLAG[flag])


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
) -> Recording:
    """Run ``argv`` to the end of its tree. ``pause_reader``: read nothing for so many seconds."""
    found = Recording()
    with ExitStack() as stack:
        command = Command(argv, identity)
        stack.callback(command.close)
        tree = cgroup.TreeCgroup.create()
        stack.callback(tree.remove, 5.0)
        probes = Probes(options or ProbeOptions())
        stack.callback(probes.close)
        if own_cgroup:
            tree.add(command.pid)
        probes.attach_kernel()
        probes.attach_cgroup(tree.path)
        assert not probes.missing, probes.missing
        probes.track(command.pidfd)
        found.engine = Engine(load_rules(rules or []), gpu_users)
        watch = Watch(
            probes,
            found.engine,
            [found],
            tree="test",
            on_records=(lambda tap: found.events.extend(records(tap))) if keep_events else None,
        )
        stack.callback(watch.close)
        watch.repair()
        found.root = command.pid
        command.release()
        watch.wait_for(command.pidfd)
        if pause_reader:
            time.sleep(pause_reader)
        deadline = time.monotonic() + PATIENCE_S
        while command.poll() is None or not watch.tree_is_empty():
            watch.step()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{argv} does not end")
        watch.stop_waiting_for(command.pidfd)
        watch.repair()
        found.status = command.poll() or 0
        found.summary = watch.finish()
    return found
