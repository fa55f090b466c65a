# SPDX-License-Identifier: Apache-2.0
"""Libraries that an environment has the loader put into a program: which facts their places make.

Allocators, profilers and sanitizers come the same way, from where libraries are installed. Told is what lies where
anybody may write, or nowhere at all.
"""

from __future__ import annotations

from tracer.detect.facts import FACT_BIT
from tracer.detect.names import Bytes, begins, byte_at
from tracer.jit import njit
from tracer.kernel.schema import EXEC_FLAG

PRELOADS, IN_MEMORY, IN_TEMPORARY, AUDITS = (
    1 << FACT_BIT[name] for name in ("preloads", "preloads-memory", "preloads-temporary", "audits")
)
_AUDIT, _CUT = EXEC_FLAG["EXEC_AUDIT"], EXEC_FLAG["EXEC_PRELOAD_CUT"]


@njit
def _place(data: Bytes, lo: int, hi: int) -> int:
    """Fact bits of one library. A path that goes about (``/usr/../tmp``, ``//tmp``) hides where to; a name without a
    slash is looked for where libraries are installed.
    """
    odd = False
    slashes = 0
    for at in range(lo, hi):
        if byte_at(data, at) == 47:
            slashes += 1
            if at > lo and (byte_at(data, at - 1) == 47 or byte_at(data, at - 1) == 46):
                odd = True
    if slashes == 0:
        return 0
    begin = lo
    while begin < hi and byte_at(data, begin) == 47:
        begin += 1
    if begins(data, begin, hi, b"dev/shm/") or begins(data, begin, hi, b"run/shm/"):
        return IN_MEMORY
    if begins(data, begin, hi, b"proc/") or begins(data, begin, hi, b"memfd:"):
        return IN_MEMORY
    if odd or begins(data, begin, hi, b"tmp/") or begins(data, begin, hi, b"var/tmp/"):
        return IN_TEMPORARY
    return 0


@njit
def preload_facts(data: Bytes, lo: int, hi: int, flags: int) -> int:
    """Fact bits of an exec whose environment names libraries in ``data[lo:hi]``, between colons or spaces (ld.so(8)); each
    list is ended by NUL. ``flags``: enum exec_flag. Of a list that was cut the rest may lie anywhere.
    """
    if hi <= lo:
        return 0
    found = PRELOADS
    if flags & _AUDIT:
        found |= AUDITS
    if flags & _CUT:
        found |= IN_TEMPORARY
    begin = lo
    for at in range(lo, hi):
        byte = byte_at(data, at)
        if byte == 58 or byte == 32 or byte == 0:
            found |= _place(data, begin, at)
            begin = at + 1
    return found
