# SPDX-License-Identifier: Apache-2.0
"""Which forwards the command line of an ssh client opens.

The arguments are walked as the client's own getopt walks them: flags in clusters, values attached or
not, options before and after the host; what follows the next word is the remote command and says
nothing. Where OpenSSH would print something and exit (-G, -V, no host, an unknown option, a forward
it refuses) there is no fact. What is wrong only with options that have nothing to do with forwards
(a cipher that does not exist) is not looked for.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.classes import AUTOSSH, DBCLIENT, DROPBEAR, OPENSSH
from tracer.detect.facts import FACT_BIT
from tracer.detect.names import Bytes, Ints, byte_at, name_class
from tracer.detect.ssh_config import line_kind
from tracer.detect.ssh_forward import (
    CLEAR_OFF,
    CLEAR_ON,
    DYNAMIC,
    KINDS,
    LOCAL,
    NOTHING,
    REFUSED,
    REVERSE,
    STDIO,
    STDIO_PATH,
    TUN,
    TUNNEL_OFF,
    dropbear_kind,
    forward_kind,
    tun_kind,
)
from tracer.jit import allocating, inline, njit

# Whose options: rows of _ACTIONS.
NO_CLIENT = 0
OPENSSH_OPTIONS = 1
AUTOSSH_OPTIONS = 2
DROPBEAR_OPTIONS = 3
_OPENSSH_9_3 = 4  # the last in which -P was a flag that did nothing
_DIALECTS = 5

# What an option letter is.
_UNKNOWN = 0
_FLAG = 1
_VALUE = 2
_EXIT = 3  # prints something and exits
_FORWARD = 4
_LINE = 5
_MUX = 6


def _action_table() -> Bytes:
    actions = np.zeros((_DIALECTS, 256), np.uint8)
    for row in (OPENSSH_OPTIONS, AUTOSSH_OPTIONS, _OPENSSH_9_3):
        actions[row, list(b"246ACKMNTXYafgknqstvxy")] = _FLAG
        actions[row, list(b"BDEFIJLOPQRSWbceilmopw")] = _VALUE
        actions[row, list(b"1GQVZ")] = _EXIT
        actions[row, list(b"DLRWw")] = _FORWARD
        actions[row, ord("o")] = _LINE
        actions[row, ord("O")] = _MUX
    actions[AUTOSSH_OPTIONS, ord("M")] = _VALUE  # its monitoring port
    actions[_OPENSSH_9_3, ord("P")] = _FLAG
    actions[DROPBEAR_OPTIONS] = _FLAG  # unknown ones are warned of and passed over
    actions[DROPBEAR_OPTIONS, list(b"IJKMWbcilmop")] = _VALUE
    actions[DROPBEAR_OPTIONS, list(b"DFQVeh")] = _EXIT
    actions[DROPBEAR_OPTIONS, list(b"BLR")] = _FORWARD
    return actions


_ACTIONS = _action_table()

_DASH, _AT = ord("-"), ord("@")
_LETTER_L, _LETTER_D, _LETTER_P, _LETTER_R, _LETTER_W, _LETTER_TUN = (ord(letter) for letter in "LDPRWw")

#: Fact bits by kind of forward.
_FACTS = np.array(
    [
        0,
        *(
            1 << FACT_BIT[name]
            for name in (
                "ssh-reverse",
                "ssh-reverse-socks",
                "ssh-tun",
                "ssh-dynamic",
                "ssh-local",
                "ssh-stdio",
            )
        ),
    ],
    np.int64,
)
assert len(_FACTS) == KINDS

# What the walk remembers of an option's letter, and where: rows of its state, by kind of forward.
_START, _END, _LETTER = 0, 1, 2
# ... and these, in row 0: what Tunnel, ClearAllForwardings and -O say; was there a -P, a -W host:port
# (a -W with a path counts since OpenSSH 9.3 or so, and before that does nothing)
_TUNNEL, _CLEAR, _COMMAND, _TAG, _STDIO = 0, 1, 2, 3, 4
# What -O asks of a running master
_MUX_FORWARD, _MUX_PROXY, _MUX_OTHER = 1, 2, 3


@njit
def ssh_options(file: int, called: int) -> int:
    """Whose options a program takes, by the classes (names.name_class) of its file and of the names it
    is called by: one of the _OPTIONS above, or NO_CLIENT.
    """
    if called & AUTOSSH:
        return AUTOSSH_OPTIONS
    if (called | file) & DBCLIENT or (called & OPENSSH and file & DROPBEAR):
        return DROPBEAR_OPTIONS
    if (called | file) & OPENSSH:
        return OPENSSH_OPTIONS
    return AUTOSSH_OPTIONS if file & AUTOSSH else NO_CLIENT


@njit
def is_ssh_client(data: Bytes, lo: int, hi: int) -> bool:
    """Whether the path or name ``data[lo:hi]`` is an ssh client's."""
    kind = name_class(data, lo, hi)
    return ssh_options(kind, kind) != NO_CLIENT


@njit
def _end(args: Bytes, at: int, hi: int) -> int:
    """Where the argument that begins at ``at`` ends: at its NUL, or at ``hi``."""
    while at < hi and args[at] != 0:
        at += 1
    return at


@allocating
def _value_kind(args: Bytes, lo: int, hi: int, letter: int, action: int, options: int, cut: bool) -> int:
    """What ``letter`` with the value ``args[lo:hi]`` does; ``cut``: the value's end is missing."""
    if letter == _LETTER_TUN and not cut:
        return tun_kind(args, lo, hi)
    if cut and action == _FORWARD:  # we can't know, and assume what it is mostly used for
        if letter == _LETTER_R:
            return REVERSE
        if letter == _LETTER_L:
            return LOCAL
        if letter == _LETTER_D:
            return DYNAMIC
        return TUN if letter == _LETTER_TUN else STDIO
    scratch = args[lo:hi].copy()
    if action == _LINE:
        return line_kind(scratch, hi - lo, cut)
    if options == DROPBEAR_OPTIONS:
        return dropbear_kind(scratch, hi - lo, letter)
    return forward_kind(scratch, hi - lo, letter)


@njit
def _mux_command(args: Bytes, lo: int, hi: int) -> int:
    """The value of -O; a word that is none is not told from those that open nothing."""
    if hi - lo == 7 and args[lo] == 102:  # forward
        return _MUX_FORWARD
    return _MUX_PROXY if hi - lo == 5 and args[lo] == 112 else _MUX_OTHER


@njit
def _note(state: Ints, kind: int, lo: int, hi: int, letter: int) -> bool:
    """Take what an option does into ``state``; false if ssh exits over it."""
    row = state[0]
    if kind == REFUSED:
        return False
    if kind == STDIO:
        row[_STDIO] = 1
    elif kind == STDIO_PATH:
        kind = STDIO
    # as everywhere in ssh's options, the first one counts
    if kind in (CLEAR_ON, CLEAR_OFF) and row[_CLEAR] == 0:
        row[_CLEAR] = kind
    if kind in (TUN, TUNNEL_OFF) and row[_TUNNEL] == 0:
        row[_TUNNEL] = kind
    if NOTHING < kind < KINDS and state[kind, _LETTER] == 0:
        state[kind, _START], state[kind, _END], state[kind, _LETTER] = lo, hi, letter
    return True


@njit
def _outcome(state: Ints, out: Ints) -> int:
    """The facts of a walk that came to its end."""
    row = state[0]
    if row[_COMMAND] == _MUX_OTHER:
        return 0
    # -W clears the forwards unless it is told not to
    clear = row[_CLEAR] == CLEAR_ON or (row[_CLEAR] == 0 and row[_STDIO] != 0)
    facts = 0
    for kind in range(KINDS - 1, 0, -1):  # the most severe last: its span stays
        if state[kind, _LETTER] == 0 or (clear and kind != STDIO):
            continue
        if kind == TUN and (row[_TUNNEL] != TUN or row[_COMMAND] == _MUX_FORWARD):
            continue
        facts |= _FACTS[kind]
        out[0], out[1], out[2] = state[kind, _START], state[kind, _END], state[kind, _LETTER]
    return facts


@njit
def _take(args: Bytes, lo: int, hi: int, letter: int, options: int, cut: bool, state: Ints) -> bool:
    """Take an option with its value into ``state``; false if the client exits over it."""
    action = _ACTIONS[options, letter]
    if action == _VALUE:
        return True
    if (action == _MUX or letter == _LETTER_W) and (state[0, _COMMAND] != 0 or state[0, _STDIO] != 0):
        return False
    if action == _MUX:
        if not cut:
            state[0, _COMMAND] = _mux_command(args, lo, hi)
        return True
    return _note(state, _value_kind(args, lo, hi, letter, action, options, cut), lo, hi, letter)


@inline
def _are_dashes(args: Bytes, lo: int, hi: int) -> bool:
    return hi == lo + 2 and args[lo] == _DASH and args[lo + 1] == _DASH


@njit
def _is_no_host(args: Bytes, lo: int, hi: int) -> bool:
    """A dash alone, or nothing before the only "@"."""
    if hi <= lo or (args[lo] != _AT and args[lo] != _DASH):
        return False
    at = lo + 1
    while at < hi and args[at] != _AT:
        at += 1
    return at >= hi


@njit
def _walk(args: Bytes, lo: int, hi: int, options: int, cut: bool, state: Ints) -> bool:
    """Walk the arguments into ``state``; false if the client exits before it connects."""
    dropbear = options == DROPBEAR_OPTIONS
    skip = options == AUTOSSH_OPTIONS  # it takes the first argument that begins with "--" for its own
    host = ended = False
    at = _end(args, lo, hi) + 1
    while at < hi:
        end = _end(args, at, hi)
        if args[at] != _DASH or (end == at + 1 and not dropbear):
            if host:
                return True
            if _is_no_host(args, at, end):
                return False
            host = True
            if ended:
                return True
            at = end + 1
            continue
        if skip and args[at + 1] == _DASH:
            skip = False
            at = end + 1
            continue
        if not dropbear and _are_dashes(args, at, end):
            # what comes next is the host, even with a dash: then it is refused
            if host or (end + 1 < hi and args[end + 1] == _DASH):
                return host
            ended = True
            at = end + 1
            continue
        ended = False
        letter_at = at + 1
        while letter_at < end:
            letter = byte_at(args, letter_at)
            action = _ACTIONS[options, letter]
            if action == _EXIT:
                return False
            if action == _UNKNOWN:  # getopt ends at a dash that ends a cluster
                return host and letter == _DASH and at + 1 < letter_at == end - 1
            letter_at += 1
            if letter == _LETTER_P:
                state[0, _TAG] = 1
            if action == _FLAG:
                continue
            value, value_end = letter_at, end
            if value == end:
                value = end + 1
                if value >= hi and not cut:
                    return False
                value = min(value, hi)
                value_end = _end(args, value, hi)
            if not _take(args, value, value_end, letter, options, cut and value_end == hi, state):
                return False
            ended = not dropbear and value > end and _are_dashes(args, value, value_end)
            end = value_end
            break
        at = end + 1
    return host or cut


@allocating
def ssh_facts(args: Bytes, lo: int, hi: int, options: int, cut: bool, out: Ints) -> int:
    """The ssh-* facts of the arguments ``args[lo:hi]``, each ended by NUL, argv[0] first.

    ``options``: as :func:`ssh_options` has it. ``cut``: there were more arguments than these. If there
    is a fact, ``out`` (3) gets the start and end of the value that makes the most severe one, and the
    letter of its option.
    """
    state = np.zeros((KINDS, 5), np.int64)
    facts = 0
    for _ in range(2):
        state[:] = 0
        if _walk(args, lo, hi, options, cut, state):
            facts = _outcome(state, out)
        if facts != 0 or options != OPENSSH_OPTIONS or state[0, _TAG] == 0:
            break
        options = _OPENSSH_9_3
    return facts


@njit
def ssh_forwards(args: Bytes, lo: int, hi: int, out: Ints) -> int:
    """:func:`ssh_facts` of OpenSSH's client; the arguments are cut if the last one lacks its NUL."""
    options = np.int64(OPENSSH_OPTIONS)  # not a literal, for which Numba would compile all of it again
    return ssh_facts(args, lo, hi, int(options), hi > lo and args[hi - 1] != 0, out)
