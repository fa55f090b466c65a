# SPDX-License-Identifier: Apache-2.0
"""Footholds: which facts an event of one has. What is watched, and how, is tracer/footholds/'s."""

from __future__ import annotations

import numpy as np

from tracer.detect.facts import FACT_BIT
from tracer.jit import inline
from tracer.kernel import schema

#: The fact by what was written, and by flag.
WHAT_FACT = {
    "FOOTHOLD_KEYS": "writes-keys",
    "FOOTHOLD_CRON": "writes-cron",
    "FOOTHOLD_SERVICE": "writes-service",
    "FOOTHOLD_STARTUP": "writes-startup",
    "FOOTHOLD_PRELOAD": "writes-preload",
    "FOOTHOLD_ACCOUNT": "writes-account",
}
FLAG_FACT = {"FOOTHOLD_PACKAGED": "packaged", "FOOTHOLD_LINKED": "linked"}
#: ``keys``, ``cron``, …: what alerts and ``-v`` say.
WHAT_NAME = {number: name.removeprefix("FOOTHOLD_").lower() for name, number in schema.FOOTHOLD_WHAT.items()}

_BY_WHAT = np.zeros(256, np.int64)
for _what, _fact in WHAT_FACT.items():
    _BY_WHAT[schema.FOOTHOLD_WHAT[_what]] = 1 << FACT_BIT[_fact]
_FLAGS = np.array([schema.FOOTHOLD_FLAG[name] for name in FLAG_FACT], np.int64)
_BY_FLAG = np.array([1 << FACT_BIT[name] for name in FLAG_FACT.values()], np.int64)


@inline
def foothold_facts(what: int, flags: int) -> int:
    """The first word of signals."""
    facts = _BY_WHAT[what & 255]
    for place in range(_FLAGS.size):
        if flags & _FLAGS[place]:
            facts |= _BY_FLAG[place]
    return facts
