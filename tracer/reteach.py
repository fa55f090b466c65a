# SPDX-License-Identifier: Apache-2.0
"""Names that were looked up before rules were read again: tell the probes what the new rules say of them.

What a probe keeps of an address means nothing to other rules than those that have found it, and it keeps no
names. The engine does.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from tracer import clock
from tracer.detect.facts import WORDS
from tracer.kernel import schema
from tracer.rules.model import WHERE_HOST
from tracer.rules.scan import scan

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.kernel.object import Map

#: What probes/place.bpf.h keeps of an address.
NAMED = schema.BTF.dtype("named")
_ADDRESS = struct.Struct("<qq")


def reteach(engine: Engine, named: Map) -> int:
    """Fill the probes' ``named`` by the rules that ``engine`` judges by now; how many addresses that are.

    An address that has been answered for since, by these rules, is left as it is: that is newer.
    """
    names, epoch, now = engine.state.names, int(engine.state.epoch[0]), clock.boottime_ns()
    told = 0
    for row in np.flatnonzero(names.keys[:, 2] > now):
        signals = np.zeros(WORDS, np.int64)
        high, low, until = (int(word) for word in names.keys[row])
        length = int(names.lengths[row])
        scan(names.texts[row], 0, length, WHERE_HOST, engine.rules.automaton, signals)
        if not signals.any():
            continue
        key = _ADDRESS.pack(high, low)
        there = named.lookup(key, NAMED.itemsize)
        if there is not None and int(np.frombuffer(there, NAMED, 1)[0]["epoch"]) == epoch:
            continue
        value = np.zeros((), NAMED)
        value["signals"], value["until"], value["epoch"] = signals, until, epoch
        named.update(key, value.tobytes())
        told += 1
    return told
