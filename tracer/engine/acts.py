# SPDX-License-Identifier: Apache-2.0
"""How often a process has acted: counted with it and with those a little above it, for whom it acts."""

from __future__ import annotations

from tracer.engine.processes import LIVE, NONE, Processes
from tracer.jit import njit

#: `sh -c COMMAND` of a Python program: the command is two below who wanted it.
_LEVELS = 3


@njit
def living_above(p: Processes, entry: int) -> int:
    """The next one above that lives: whoever starts the next one and ends gains nothing."""
    at = p.table[entry].parent
    while at != NONE and p.table[at].state != LIVE:
        at = p.table[at].parent
    return int(at)


@njit
def has_run(p: Processes, entry: int) -> None:
    """The process has forked."""
    at = entry
    for _ in range(_LEVELS):
        if at == NONE:
            return
        p.table[at].ran += 1
        at = p.table[at].parent


@njit
def has_called(p: Processes, entry: int, high: int, low: int) -> None:
    """The process has connected to an address."""
    at = entry
    for _ in range(_LEVELS):
        if at == NONE:
            return
        p.table[at].called += 1
        p.table[at].called_high = high
        p.table[at].called_low = low
        at = p.table[at].parent


@njit
def runs_shell(p: Processes, entry: int) -> None:
    """The process has become a shell."""
    at = entry
    for _ in range(_LEVELS):
        if at == NONE:
            return
        p.table[at].shells += 1
        at = p.table[at].parent
