# SPDX-License-Identifier: Apache-2.0
"""Shells for somebody outside: what whoever starts one says of it.

A remote shell needs no socket for its standard input: with a pty or pipes between, its parent alone has the
connection. Interpreters are left out, however suspicious: an agent's harness has a connection to its model, and keeps a
shell behind a pty for its tools.
"""

from __future__ import annotations

from tracer.detect.facts import FACT_BIT
from tracer.detect.program import IS_BARE, IS_INTERPRETER, IS_SHELL
from tracer.engine.first import CONNECTED_OUTSIDE
from tracer.engine.intrinsics import i64
from tracer.engine.processes import NONE, Processes
from tracer.jit import njit
from tracer.kernel import schema

#: Whoever connects may fork once or twice before somebody executes the shell.
_LEVELS = 3
_BEHIND_FLOW = 1 << FACT_BIT["behind-flow"]
_FILE, _NULL, _CLOSED = (schema.FD_KIND[f"FD_{kind}"] for kind in ("FILE", "NULL", "CLOSED"))


@njit
def behind_flow(p: Processes, entry: int, program: int, stdin: int) -> int:
    """BEHIND_FLOW or 0, of a process that has just executed ``program`` (bits)."""
    if entry == NONE or program & IS_BARE == 0 or stdin == _FILE or stdin == _NULL or stdin == _CLOSED:
        return 0
    at = i64(p.table[entry].parent)
    if at == NONE or p.table[at].image == NONE:
        return 0
    image = p.table[at].image
    if p.images[image].program & (IS_SHELL | IS_INTERPRETER):
        return 0
    level = 0
    while at != NONE and level < _LEVELS and p.table[at].image == image:
        if p.table[at].net & CONNECTED_OUTSIDE:
            return _BEHIND_FLOW
        at = i64(p.table[at].parent)
        level += 1
    return 0
