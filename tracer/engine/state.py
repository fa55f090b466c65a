# SPDX-License-Identifier: Apache-2.0
"""Everything a drain works on, in one tuple of arrays that kernels can take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.facts import WORDS
from tracer.detect.gpu import GpuState, make_gpu
from tracer.engine.flows import Flows, make_flows
from tracer.engine.processes import Processes, make_processes
from tracer.kernel import schema
from tracer.rules.automaton import Automaton
from tracer.rules.table import RuleTable

#: More CPUs than any kernel we run on is built for (CONFIG_NR_CPUS is 8192 at most).
MAX_CPUS = 8192
#: Rules that one event can fire.
MAX_FIRED = 64

# Places in State.pending
PENDING, ENTRY, KIND, TIME, SUBJECT = range(5)

#: Lag histogram: four buckets an octave of nanoseconds.
LAG_BUCKETS = 256


class State(NamedTuple):
    """What the engine knows.

    ``received`` int64[kinds]; ``malformed`` int64[1]; ``next_seq`` and ``got`` int64[rings, cpus]: one
    past the highest sequence number seen, and how many records came; ``lag`` int64[LAG_BUCKETS]: hook
    to engine, urgent kinds only; ``signals`` int64[WORDS], ``spans`` int64[16] and ``fired``
    int64[MAX_FIRED]: scratch of the event at hand; ``pending`` int64[5]: how many of ``fired`` wait to
    be told, the process, the kind of event and its time, and what it was about (a GPU code).
    """

    processes: Processes
    flows: Flows
    gpu: GpuState
    automaton: Automaton
    rules: RuleTable
    received: npt.NDArray[np.int64]
    malformed: npt.NDArray[np.int64]
    next_seq: npt.NDArray[np.int64]
    got: npt.NDArray[np.int64]
    lag: npt.NDArray[np.int64]
    signals: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]
    fired: npt.NDArray[np.int64]
    pending: npt.NDArray[np.int64]


def make_state(
    automaton: Automaton,
    rules: RuleTable,
    gpu_users: tuple[str, ...] | None = None,
    *,
    processes: int = 1 << 17,
    flows: int = 1 << 16,
) -> State:
    """A fresh state; memory is touched only as it is used."""
    return State(
        make_processes(processes),
        make_flows(flows),
        make_gpu(gpu_users),
        automaton,
        rules,
        np.zeros(schema.KIND["EVENT_KINDS"], np.int64),
        np.zeros(1, np.int64),
        np.zeros((schema.RING["RINGS"], MAX_CPUS), np.int64),
        np.zeros((schema.RING["RINGS"], MAX_CPUS), np.int64),
        np.zeros(LAG_BUCKETS, np.int64),
        np.zeros(WORDS, np.int64),
        np.zeros(16, np.int64),
        np.zeros(MAX_FIRED, np.int64),
        np.zeros(5, np.int64),
    )
