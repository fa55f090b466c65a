# SPDX-License-Identifier: Apache-2.0
"""Tampering: which facts an event of it has, and how people are told what was done."""

from __future__ import annotations

import signal

import numpy as np

from tracer.detect.facts import FACT_BIT
from tracer.jit import inline
from tracer.kernel import schema

#: The fact by what was done, and by flag.
WHAT_FACT = {
    "TAMPER_SIGNAL": "signals-tracer",
    "TAMPER_LEFT": "leaves-cgroup",
    "TAMPER_MOVED": "moves-tracer",
    "TAMPER_FROZE": "freezes-tracer",
    "TAMPER_MODULE": "loads-module",
    "TAMPER_FLOOD": "floods",
    "TAMPER_PTRACE": "traces-tracer",
    "TAMPER_BPF": "uses-bpf",
    "TAMPER_PERF": "uses-perf",
    "TAMPER_MOUNT": "changes-mounts",
    "TAMPER_FILE": "changes-files",
}
FLAG_FACT = {
    "TAMPER_TO_GROUP": "to-group",
    "TAMPER_UNCATCHABLE": "uncatchable",
    "TAMPER_BY_OUTSIDER": "by-outsider",
    "TAMPER_AT_WATCH": "at-watch",
}
#: ``signal``, ``left``, …: what alerts and ``-v`` say.
WHAT_NAME = {number: name.removeprefix("TAMPER_").lower() for name, number in schema.TAMPER_WHAT.items()}

_BY_WHAT = np.zeros(256, np.int64)
for _what, _fact in WHAT_FACT.items():
    _BY_WHAT[schema.TAMPER_WHAT[_what]] = 1 << FACT_BIT[_fact]
_FLAGS = np.array([schema.TAMPER_FLAG[name] for name in FLAG_FACT], np.int64)
_BY_FLAG = np.array([1 << FACT_BIT[name] for name in FLAG_FACT.values()], np.int64)


@inline
def tamper_facts(what: int, flags: int) -> int:
    """The first word of signals."""
    facts = _BY_WHAT[what & 255]
    for place in range(_FLAGS.size):
        if flags & _FLAGS[place]:
            facts |= _BY_FLAG[place]
    return facts


#: enum bpf_cmd of include/uapi/linux/bpf.h: those that are told.
_BPF_COMMANDS = {
    5: "prog-load",
    7: "obj-get",
    8: "prog-attach",
    9: "prog-detach",
    17: "raw-tracepoint-open",
    28: "link-create",
    30: "link-get-fd-by-id",
}


def bpf_command(number: int) -> str:
    """What was asked of bpf(2); a descriptor of something of ours has no command of its own."""
    return _BPF_COMMANDS.get(number, "get-fd" if number == 0 else str(number))


def signal_name(number: int) -> str:
    """SIGTERM, SIGRTMIN+1, or its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else str(number)
