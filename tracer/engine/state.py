# SPDX-License-Identifier: Apache-2.0
"""Everything a drain works on, in one tuple of arrays that kernels can take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.beacons import Beacons, make_beacons
from tracer.detect.dns_data import Domains, make_domains
from tracer.detect.effort import Efforts, make_efforts
from tracer.detect.facts import WORDS
from tracer.detect.gpu import GpuState, make_gpu
from tracer.detect.legs import Relays, make_relays
from tracer.detect.netscan import Scans, make_scans
from tracer.detect.pings import Pings, make_pings
from tracer.detect.sessions import Sessions, make_sessions
from tracer.detect.wire.identify import identify_at, scratch_space
from tracer.engine import processes as procs
from tracer.engine.address import reader_of
from tracer.engine.files import Files, make_files
from tracer.engine.flows import Flows, make_flows
from tracer.engine.intrinsics import i64
from tracer.engine.names import Names, make_names
from tracer.engine.processes import Processes, make_processes
from tracer.jit import inline_kernel
from tracer.kernel import schema
from tracer.rules.automaton import Automaton, compile_groups
from tracer.rules.model import INTERPRETER_GROUP
from tracer.rules.ranges import Ranges, compile_ranges
from tracer.rules.table import RuleTable, compile_rules

#: More CPUs than any kernel we run on is built for (CONFIG_NR_CPUS is 8192 at most).
MAX_CPUS = 8192
#: Rules that one event can fire.
MAX_FIRED = 64

# Places in State.pending
PENDING, ENTRY, KIND, TIME, SUBJECT, DONE, DECIDED, IN_SPAN = range(8)

#: No probe's verdict carries this: whatever comes is judged here.
NO_EPOCH = -1

#: A network event and all its first bytes.
RECORD_BYTES = 2048
#: Addresses taken from one DNS answer.
ANSWERS_MAX = 24

# Places in State.calls, behind the kinds of events
IDENTIFY = schema.KIND["EVENT_KINDS"]
SCRATCH = IDENTIFY + 1

#: Lag histogram: four buckets an octave of nanoseconds.
LAG_BUCKETS = 256


class State(NamedTuple):
    """What the engine knows.

    ``received`` int64[kinds]; ``malformed`` int64[1]; ``next_seq`` and ``got`` int64[rings, cpus]: one
    past the highest sequence number seen, and how many records came; ``lag`` int64[LAG_BUCKETS]: hook
    to engine, urgent kinds only; ``signals`` int64[WORDS], ``spans`` int64[16] and ``fired``
    int64[MAX_FIRED]: scratch of the event at hand; ``pending`` int64[8]: how many of ``fired`` wait to
    be told, the process, the kind of event and its time, what it was about (a GPU code, a socket, a series), what the
    probe did about it and when, the span of the thread (its serial; 0: its process's); ``epoch``
    int64[1]: of the rules, as probes' verdicts have it; ``look``, ``found``, ``text``, ``answers``: what
    goes into and comes out of the look at first bytes; ``record`` uint8[RECORD_BYTES]: the network event
    that fired, for its evidence; ``calls`` int64[kinds + 2]: addresses of the entries that take in records
    of that kind, 0 where the loop does so itself; of the one that identifies flows; of its scratch space.
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
    names: Names
    ranges: Ranges
    epoch: npt.NDArray[np.int64]
    look: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    text: npt.NDArray[np.uint8]
    answers: npt.NDArray[np.int64]
    record: npt.NDArray[np.uint8]
    files: Files
    scans: Scans
    relays: Relays
    efforts: Efforts
    sessions: Sessions
    beacons: Beacons
    domains: Domains
    pings: Pings
    calls: npt.NDArray[np.int64]


def make_state(
    automaton: Automaton,
    rules: RuleTable,
    ranges: Ranges,
    gpu_users: tuple[str, ...] | None = None,
    *,
    processes: int = 1 << 17,
    flows: int = 1 << 16,
) -> State:
    """A fresh state; memory is touched only as it is used."""
    look, found, text, scratch = scratch_space()
    calls = np.zeros(SCRATCH + 1, np.int64)
    calls[IDENTIFY], calls[SCRATCH] = identify_at.address, scratch.ctypes.data
    return State(
        make_processes(processes),
        make_flows(flows),
        make_gpu(gpu_users, processes),
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
        np.zeros(IN_SPAN + 1, np.int64),
        make_names(),
        ranges,
        np.full(1, NO_EPOCH, np.int64),
        look,
        found,
        text,
        np.zeros((ANSWERS_MAX, 4), np.int64),
        np.zeros(RECORD_BYTES, np.uint8),
        make_files(),
        make_scans(processes),
        make_relays(),
        make_efforts(processes),
        make_sessions(),
        make_beacons(),
        make_domains(),
        make_pings(),
        calls,
    )


def _example() -> State:
    """The smallest state there is: for its types."""
    table, _ = compile_rules((), ())
    automaton = compile_groups((INTERPRETER_GROUP,))
    return make_state(automaton, table, compile_ranges(()), processes=1, flows=1)


@inline_kernel
def known(state: State, tgid: int, start: int, ts: int) -> int:
    """The entry of the process an event is about; made without a parent if its fork was missed."""
    p = state.processes
    entry = procs.find_exact(p, tgid, start)
    if entry == procs.NONE:
        entry = procs.add_process(p, tgid, start, i64(procs.NONE), ts)
        p.state[procs.MISSED_FORK] += 1
    return entry


@inline_kernel
def note(state: State, entry: int, kind: int, ts: int, subject: int, count: int) -> None:
    """Leave the ``count`` rules in state.fired for Python to tell."""
    state.pending[PENDING] = count
    state.pending[ENTRY] = entry
    state.pending[KIND] = kind
    state.pending[TIME] = ts
    state.pending[SUBJECT] = subject
    state.pending[DONE] = 0
    state.pending[DECIDED] = 0
    state.pending[IN_SPAN] = 0


#: A kernel ``(address) -> State``, for the words that engine.address lays out.
state_at = reader_of(_example)
