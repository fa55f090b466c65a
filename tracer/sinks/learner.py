# SPDX-License-Identifier: Apache-2.0
"""What a run does, gathered from its records and alerts: what a policy is learnt from.

It takes each record while the engine stands right behind it, so names and programs are those by which
rules judged. Whatever the tree does, it keeps no more than KEPT_MAX different things of a kind.
"""

from __future__ import annotations

import ipaddress
import os
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from tracer.alerts import Alert
from tracer.detect.program import IS_INLINE, IS_INTERPRETER, IS_WORKER
from tracer.engine.engine import Engine
from tracer.engine.processes import NONE, find_exact
from tracer.kernel import schema
from tracer.policy.learn import Destination, GpuUser, Listening, Observed
from tracer.rules.model import SEVERITIES
from tracer.sinks.events import records
from tracer.summary import Summary
from tracer.text import decode

KEPT_MAX = 4096
#: Alerts from here on say that a run was not a good one.
GRAVE = "high"

_INET, _TCP = 2, 6
#: Options of interpreters whose value is no file.
_CODE = {b"-c", b"-e", b"-E", b"-p", b"-r", b"--eval", b"--print"}
_BOUND = schema.FLOW_FLAG["FLOW_BOUND"]
_GPU_COMPUTE = schema.GPU_FLAG["GPU_COMPUTE"]


class Learner:
    """Watches a watch: told of its alerts as a sink, and of every record."""

    one_by_one = True

    def __init__(self, engine: Engine) -> None:
        self.target = "the policy"
        self.failed = 0
        self.executables: Counter[str] = Counter()
        self.destinations: set[Destination] = set()
        self.listening: set[Listening] = set()
        self.gpu_users: set[GpuUser] = set()
        #: alerts of GRAVE or above, by rule
        self.grave: Counter[str] = Counter()
        #: what there was no room for, by kind
        self.dropped: Counter[str] = Counter()
        self.summary: Summary | None = None
        #: has the whole tree ended?
        self.ended = False
        self._engine = engine
        self._by_kind: dict[int, Callable[[np.void, bytes], None]] = {
            schema.KIND["EVENT_EXEC"]: self._exec,
            schema.KIND["EVENT_CONNECT"]: self._connect,
            schema.KIND["EVENT_LISTEN"]: self._listen,
            schema.KIND["EVENT_GPU_IOCTL"]: self._gpu,
        }

    def take(self, tap: bytes) -> None:
        """Take in what the engine has tapped."""
        for e, tail in records(tap):
            found = self._by_kind.get(int(e["kind"]))
            if found is not None:
                found(e, tail)

    def tell(self, alert: Alert) -> None:
        """Remember an alert that a good run would not have."""
        if SEVERITIES.index(alert.severity) >= SEVERITIES.index(GRAVE):
            self.grave[alert.rule.id] += 1

    def finished(self, summary: Summary, *, ended: bool) -> None:
        """The watch is over."""
        self.summary = summary
        self.ended = ended

    def close(self) -> None:
        """Nothing to give back."""

    def observed(self) -> Observed:
        """What the run did so far."""
        return Observed(self.executables, self.destinations, self.listening, self.gpu_users)

    def _keep(self, kind: str, kept: set[Any], found: Any) -> None:
        if len(kept) < KEPT_MAX or found in kept:
            kept.add(found)
        else:
            self.dropped[kind] += 1

    def _exec(self, e: np.void, tail: bytes) -> None:
        path = os.fsdecode(tail[: int(e["path_len"])])
        if len(self.executables) < KEPT_MAX or path in self.executables:
            self.executables[path] += 1
        else:
            self.dropped["program"] += 1

    def _connect(self, e: np.void, _tail: bytes) -> None:
        remote, family = e["remote"].tobytes(), int(e["family"])
        name = decode(self._engine.name_of(remote, family, int(e["ts"]))) or None
        seen = Destination(_address(remote, family), int(e["remote_port"]), int(e["protocol"]), name)
        self._keep("destination", self.destinations, seen)

    def _listen(self, e: np.void, _tail: bytes) -> None:
        protocol = int(e["protocol"])
        if protocol != _TCP and not int(e["flags"]) & _BOUND:
            return  # a client's: no rule judges it
        seen = Listening(_address(e["local"].tobytes(), int(e["family"])), int(e["local_port"]), protocol)
        self._keep("listening socket", self.listening, seen)

    def _gpu(self, e: np.void, _tail: bytes) -> None:
        if int(e["flags"]) & _GPU_COMPUTE:
            user = self._gpu_user(int(e["tgid"]), int(e["start"]))
            if user is not None:
                self._keep("GPU client", self.gpu_users, user)

    def _gpu_user(self, pid: int, start: int) -> GpuUser | None:
        """Who it is as --gpu-user sees it: a worker of multiprocessing is what has started it."""
        p = self._engine.state.processes
        entry = find_exact(p, pid, start)
        program = 0
        while entry != NONE and p.table[entry]["image"] != NONE:
            program = int(p.images[p.table[entry]["image"]]["program"])
            parent = int(p.table[entry]["parent"])
            if not program & IS_WORKER or parent == NONE:
                break
            entry = parent
        found = self._engine.describe(entry)
        if found is None or not found.exe:
            self.dropped["GPU client"] += 1
            return None
        script = _script(found.argv) if program & IS_INTERPRETER and not program & IS_INLINE else b""
        return GpuUser(os.fsdecode(found.exe), os.fsdecode(script))


def _script(argv: tuple[bytes, ...]) -> bytes:
    """The argument by which an interpreter is told what to run, as --gpu-user has it; nothing if it is code."""
    for before, argument in pairwise(argv):
        if argument and not argument.startswith(b"-"):
            return b"" if before in _CODE else argument
    return b""


def _address(raw: bytes, family: int) -> str:
    return str(ipaddress.IPv4Address(raw[:4]) if family == _INET else ipaddress.IPv6Address(raw[:16]))
