# SPDX-License-Identifier: Apache-2.0
"""What kind of program an exec started, and which script an interpreter was told to run.

Kept with the process, so that detectors that look at a line of ancestors need no strings.
"""

from __future__ import annotations

from tracer.detect.classes import (
    AUTOSSH,
    DBCLIENT,
    DROPBEAR,
    INTERPRETERS,
    OPENSSH,
    PYTHON,
    SHELL,
    WORKER_CODE,
)
from tracer.detect.names import Bytes, begins, byte_at, name_class
from tracer.jit import njit

# Bits of IMAGE.program
IS_SHELL = 1 << 0
IS_INTERPRETER = 1 << 1
IS_WORKER = 1 << 2  # a Python multiprocessing child: its script is its parent's
IS_MODULE = 1 << 3  # python -m NAME
IS_INLINE = 1 << 4  # python -c CODE
IS_SSH = 1 << 5  # an ssh client, by the name of its file
IS_FOR_GIT = 1 << 6  # ... that is told to run git's other half
IS_BARE = 1 << 7  # a shell that is given neither commands nor a script: it reads what it is to do

_FNV_OFFSET = 0x0BF29CE484222325
_FNV_PRIME = 0x100000001B3
_MASK = (1 << 62) - 1


@njit
def fnv(data: Bytes, lo: int, hi: int) -> int:
    """FNV-1a of ``data[lo:hi]``, 62 bits, never 0: names a script by its text."""
    value = _FNV_OFFSET
    for at in range(lo, hi):
        value = (value ^ byte_at(data, at)) * _FNV_PRIME & _MASK
    return value | 1


@njit
def _argument_end(data: Bytes, at: int, hi: int) -> int:
    while at < hi and data[at] != 0:
        at += 1
    return at


#: Python's options that take a value (Python/getopt.c: "+bBc:dEhiIJm:OPqRsStuvVW:xX:?").
_W, _X, _C, _M = 87, 88, 99, 109
_DASH, _PLUS = 45, 43


@njit
def _python(data: Bytes, lo: int, hi: int) -> tuple[int, int]:
    """(bits, script) of a Python with the arguments ``data[lo:hi]``, argv[0] included."""
    at = _argument_end(data, lo, hi) + 1
    while at < hi:
        end = _argument_end(data, at, hi)
        if end - at < 2 or data[at] != _DASH:
            return 0, fnv(data, at, end)
        if data[at + 1] == _DASH:  # --help and the like, or -- itself
            at = end + 1
            continue
        letter = at + 1
        skip = False
        while letter < end:
            kind = byte_at(data, letter)
            letter += 1
            if kind == _C or kind == _M or kind == _W or kind == _X:
                value, value_end = letter, end
                if value == end:
                    value = min(end + 1, hi)
                    value_end = _argument_end(data, value, hi)
                if kind == _C:
                    if begins(data, value, value_end, WORKER_CODE):
                        return IS_WORKER, 0
                    return IS_INLINE, fnv(data, value, value_end)
                if kind == _M:
                    return IS_MODULE, fnv(data, value, value_end)
                at = value_end + 1
                skip = True
                break
        if not skip:
            at = end + 1
    return 0, 0


@njit
def _asks_for_git(data: Bytes, lo: int, hi: int) -> bool:
    """Whether an argument is the command that git has ssh run on the far side (git's connect.c)."""
    at = _argument_end(data, lo, hi) + 1
    while at < hi:
        end = _argument_end(data, at, hi)
        if (
            begins(data, at, end, b"git-upload-pack ")
            or begins(data, at, end, b"git-receive-pack ")
            or begins(data, at, end, b"git-upload-archive ")
            or begins(data, at, end, b"git-lfs-authenticate ")
            or begins(data, at, end, b"git-lfs-transfer ")
        ):
            return True
        at = end + 1
    return False


@njit
def _is_bare(data: Bytes, lo: int, hi: int) -> bool:
    """Whether a shell with these arguments, argv[0] included, has only options, and none that brings commands.

    (The value of an option, as of -o, counts as a script: then it is one too few.)
    """
    at = _argument_end(data, lo, hi) + 1
    while at < hi:
        end = _argument_end(data, at, hi)
        if end == at or (data[at] != _DASH and data[at] != _PLUS):
            return False
        long = end > at + 1 and data[at + 1] == _DASH
        for letter in range(at + 1, end):
            if byte_at(data, letter) == _C and (not long or letter == at + 2):
                return False
        at = end + 1
    return True


@njit
def classify(data: Bytes, path_lo: int, path_hi: int, args_lo: int, args_hi: int) -> tuple[int, int]:
    """(bits of IMAGE.program, script hash or 0) for an exec of ``path`` with ``args``."""
    kind = name_class(data, path_lo, path_hi)
    bits = 0
    script = 0
    if kind & SHELL:
        bits |= IS_SHELL
        if _is_bare(data, args_lo, args_hi):
            bits |= IS_BARE
    if kind & (OPENSSH | AUTOSSH | DBCLIENT | DROPBEAR):
        bits |= IS_SSH
        if _asks_for_git(data, args_lo, args_hi):
            bits |= IS_FOR_GIT
    if kind & PYTHON:
        more, script = _python(data, args_lo, args_hi)
        bits |= IS_INTERPRETER | more
    elif kind & INTERPRETERS & ~SHELL:
        bits |= IS_INTERPRETER
        at = _argument_end(data, args_lo, args_hi) + 1
        while at < args_hi and data[at] == _DASH:
            at = _argument_end(data, at, args_hi) + 1
        if at < args_hi:
            script = fnv(data, at, _argument_end(data, at, args_hi))
    return bits, script
