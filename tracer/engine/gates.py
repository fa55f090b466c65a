# SPDX-License-Identifier: Apache-2.0
"""What Python calls of all that is compiled, with arguments of the types that it gives.

Where the engine is linked, nothing else can be called; a test looks for calls that are not listed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tracer.detect.beacons import spread
from tracer.detect.execfacts import SPANS, exec_facts
from tracer.detect.wire.identify import ENTRIES as IDENTIFYING
from tracer.engine import arena, processes
from tracer.engine.crc import fold
from tracer.engine.drain import drain, fall_asleep, replay
from tracer.engine.engine import Engine, wake_up
from tracer.engine.first import address_words, keep_record
from tracer.engine.handle import TAKERS
from tracer.engine.names import find_name
from tracer.engine.reconcile import take_in_tasks
from tracer.engine.spans import row_of
from tracer.kernel import schema
from tracer.rules import load_rules
from tracer.rules.evaluate import evaluate
from tracer.rules.scan import matches, scan
from tracer.triage.window import search, walk_of

#: Entries: what is called by its address.
ENTRIES: tuple[Any, ...] = (*dict.fromkeys(TAKERS.values()), *IDENTIFYING)


class Gate(NamedTuple):
    """A function, arguments of the right types, and how many integers it returns."""

    function: Any
    arguments: tuple[Any, ...]
    results: int


def gates() -> list[Gate]:
    """All of them."""
    engine = Engine(load_rules([]), processes=4, flows=4)
    state, automaton, table = engine.state, engine.rules.automaton, engine.rules.table
    p = state.processes
    text, ints, pairs = np.zeros(8, np.uint8), np.zeros(8, np.int64), np.zeros((1, 2), np.int64)
    rings, tap = np.zeros((2, 4), np.int64), np.zeros(4, np.int64)
    tasks = np.zeros(1, schema.TASK)
    return [
        Gate(drain, (rings, 0, tap, 0), 2),
        Gate(replay, (0, 0, 0, 0, 0), 2),
        Gate(fall_asleep, (rings, 0), 1),
        Gate(wake_up, (0,), 0),
        Gate(fold, (0, 0, 0, 0), 1),
        Gate(processes.find, (p, 0), 1),
        Gate(processes.find_exact, (p, 0, 0), 1),
        Gate(processes.find_recent, (p, 0, 0), 1),
        Gate(processes.end_unseen, (p, 0), 1),
        Gate(processes.list_live, (p, 0, ints), 1),
        Gate(processes.line_of, (p, 0, ints), 1),
        Gate(take_in_tasks, (p, tasks, ints), 1),
        Gate(arena.load, (p.arena, 0, 0, 0, text), 1),
        Gate(row_of, (p.spans, 0), 1),
        Gate(address_words, (text, 0, 0), 2),
        Gate(spread, (state.beacons, 0), 2),
        Gate(find_name, (state.names, 0, 0, 0), 1),
        Gate(keep_record, (text, text), 0),
        Gate(exec_facts, (text, *(0,) * 9, np.zeros(SPANS, np.int64)), 1),
        Gate(scan, (text, 0, 0, 0, automaton, ints), 0),
        Gate(matches, (text, 0, 0, 0, automaton, pairs), 1),
        Gate(evaluate, (0, ints, table, ints), 1),
        Gate(search, (text, 0, 0, 0, 0, walk_of(automaton), ints, ints, 0), 0),
    ]
