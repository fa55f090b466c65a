# SPDX-License-Identifier: Apache-2.0
"""SSH version lines, from either side, wherever they turn up in a stream."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN
from tracer.detect.wire.spans import found, set_software, starts, word
from tracer.jit import kernel

SSH = PROTOCOL["ssh"]
CHISEL = PROTOCOL["chisel"]

_SSH, _CHISEL = word(b"SSH-"), word(b"chisel-v")
_VERSIONS = (word(b"2.0-"), word(b"1.99-"), word(b"1.5-"))
_TWO, _ONE_99, _ONE_5 = _VERSIONS
_NEXT_LINE = word(b"\nSSH-")
_LONGEST = 255


@kernel
def version_line(data: Bytes, lo: int, hi: int, out: Ints) -> int:
    """SSH (or CHISEL, which is SSH with a name of its own) if a version line begins at ``lo``."""
    if not starts(data, lo, hi, _SSH):
        return UNKNOWN
    at = lo + 4
    if starts(data, at, hi, _CHISEL):
        return CHISEL
    if starts(data, at, hi, _TWO) or starts(data, at, hi, _ONE_5):
        at += 4
    elif starts(data, at, hi, _ONE_99):
        at += 5
    else:
        return UNKNOWN
    end = at
    stop = min(hi, lo + _LONGEST)
    while end < stop and 32 <= data[end] < 127:
        end += 1
    set_software(out, at, end)
    return CHISEL if starts(data, at, end, _CHISEL) else SSH


@kernel
def after_lines(data: Bytes, lo: int, hi: int, out: Ints) -> int:
    """As :func:`version_line`, after lines of something else: servers may greet first."""
    at = found(data, lo, hi, _NEXT_LINE)
    return version_line(data, at + 1, hi, out) if at >= 0 else UNKNOWN
