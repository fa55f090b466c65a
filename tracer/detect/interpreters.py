# SPDX-License-Identifier: Apache-2.0
"""Whether a shell or an interpreter is given its program as an argument (sh -c, python -c, perl -e).

Each has its own option letters, so each has a row in a table. The walk ends at the first argument that
is no option: that is a script, and what follows are the script's own arguments. For shells that word
is the command itself.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.classes import INTERPRETERS, JULIA, LUA, NODE, PERL, PHP, PYTHON, RSCRIPT, RUBY, SHELL
from tracer.detect.names import Bytes, Ints, byte_at, lookup, table
from tracer.jit import njit

# What an option letter is; letters that are in no table are flags.
_FLAG = 0
_VALUE = 1  # the rest of the argument, or else the next one
_NEXT = 2  # the next argument, whatever else is in this one
_REST = 3  # the rest of the argument, even if it is empty
_CODE = 4  # as _VALUE, and it is a program
_CODE_NEXT = 5  # as _NEXT, and it is a program
_COMMAND = 6  # a program is the first argument that is no option
_STOP = 7  # a script or a module, by another name


def _row(actions: dict[int, bytes]) -> Bytes:
    row = np.zeros(256, np.uint8)
    for action, letters in actions.items():
        row[list(letters)] = action
    return row


_LETTERS: dict[int, dict[int, bytes]] = {
    SHELL: {_COMMAND: b"c", _NEXT: b"oOC"},  # C: fish's code to run first; a flag elsewhere, but never used
    PYTHON: {_CODE: b"c", _VALUE: b"WXQ", _STOP: b"m"},
    PERL: {_CODE: b"eE", _VALUE: b"I", _REST: b"CDFMVimx:"},  # ":" as in -d:Module
    RUBY: {_CODE: b"e", _VALUE: b"CEIXr", _REST: b"FKTWix"},
    NODE: {_CODE_NEXT: b"ep", _NEXT: b"rC"},
    PHP: {_CODE: b"rBRE", _VALUE: b"cdzt", _STOP: b"fFS"},
    LUA: {_CODE: b"e", _VALUE: b"l", _REST: b"jO", _STOP: b"b"},
    JULIA: {_CODE: b"eE", _VALUE: b"CHJLpt", _REST: b"Og"},
    RSCRIPT: {_CODE: b"e", _VALUE: b"gd", _STOP: b"f"},
}
_KINDS = sorted(_LETTERS)
assert sum(_KINDS) == INTERPRETERS
assert [1 << row for row in range(len(_KINDS))] == _KINDS
_ACTIONS = np.stack([_row(_LETTERS[kind]) for kind in _KINDS])

#: Long options: what they are to whom. Those that are not here are flags, or have their value after "=".
_LONG = table(
    {
        b"eval": _CODE_NEXT << 16 | NODE | JULIA,
        b"print": _CODE_NEXT << 16 | NODE | JULIA,
        b"command": _CODE_NEXT << 16 | SHELL,
        b"run": _CODE_NEXT << 16 | PHP,
        b"process-begin": _CODE_NEXT << 16 | PHP,
        b"process-code": _CODE_NEXT << 16 | PHP,
        b"process-end": _CODE_NEXT << 16 | PHP,
    }
    | dict.fromkeys((b"rcfile", b"init-file", b"init-command"), _NEXT << 16 | SHELL)
    | {b"check-hash-based-pycs": _NEXT << 16 | PYTHON}
    | dict.fromkeys((b"encoding", b"external-encoding", b"internal-encoding"), _NEXT << 16 | RUBY)
    | dict.fromkeys((b"enable", b"disable", b"parser"), _NEXT << 16 | RUBY)
    | dict.fromkeys(
        b"require import loader experimental-loader conditions env-file title input-type".split(),
        _NEXT << 16 | NODE,
    )
    | {b"define": _NEXT << 16 | PHP}
)

_DASH, _PLUS, _EQUALS = ord("-"), ord("+"), ord("=")


@njit
def _end(args: Bytes, at: int, hi: int) -> int:
    while at < hi and args[at] != 0:
        at += 1
    return at


@njit
def _long_option(args: Bytes, lo: int, hi: int, kind: int, out: Ints) -> int:
    """What ``--name`` or ``--name=value`` is; the span of a program after "=" goes to ``out``."""
    equals = lo + 2
    while equals < hi and args[equals] != _EQUALS:
        equals += 1
    known = lookup(_LONG, args, lo + 2, equals)
    if known & kind == 0:
        return _FLAG
    action = known >> 16
    if equals == hi:
        return action
    out[0], out[1] = equals + 1, hi
    return _CODE if action == _CODE_NEXT else _FLAG


@njit
def _row_of(kind: int) -> int:
    row = 0
    while kind > 1:
        kind >>= 1
        row += 1
    return row


@njit
def code_span(args: Bytes, lo: int, hi: int, kind: int, out: Ints) -> bool:
    """Whether the arguments ``args[lo:hi]``, argv[0] first, hand a program to an interpreter of the class
    ``kind`` (one bit). If so, ``out`` (2) gets the program's start and end: empty if it was cut off.
    """
    row = _row_of(kind)
    command = False
    at = _end(args, lo, hi) + 1
    while at < hi:
        end = _end(args, at, hi)
        plus = kind == SHELL and args[at] == _PLUS
        if end < at + 2 or (args[at] != _DASH and not plus):
            break
        letter_at, values, action = at + 1, 0, _FLAG
        if args[letter_at] == _DASH:
            if end == at + 2:
                at = end + 1
                break
            action = _long_option(args, at, end, kind, out)
            if action == _CODE:
                return True
            values = 1 if action == _NEXT else 0
            letter_at = end
        while letter_at < end and action in (_FLAG, _NEXT, _COMMAND):
            action = byte_at(_ACTIONS[row], byte_at(args, letter_at))
            letter_at += 1
            values += action == _NEXT
            command |= action == _COMMAND and not plus
        if action == _STOP:
            return False
        if action == _CODE and letter_at < end:
            out[0], out[1] = letter_at, end
            return True
        if action in (_CODE, _CODE_NEXT) or (action == _VALUE and letter_at == end):
            values += 1
        for _ in range(values):
            at = min(end + 1, hi)
            end = _end(args, at, hi)
        if action in (_CODE, _CODE_NEXT):
            out[0], out[1] = at, end
            return True
        at = end + 1
    if command:
        out[0], out[1] = min(at, hi), _end(args, min(at, hi), hi)
    return command
