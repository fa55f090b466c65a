# SPDX-License-Identifier: Apache-2.0
"""What a configuration line given to ssh as ``-o LINE`` does to forwards and tunnels.

Words are found as OpenSSH 9 and 10 find them (readconf.c, misc.c), in a scratch copy, since quotes
are taken out of it. Keywords that do not concern forwards are not looked at, known or unknown.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, Ints, letters, lookup, table
from tracer.detect.ssh_forward import (
    CLEAR_OFF,
    CLEAR_ON,
    DYNAMIC,
    LINE_REMOTE,
    LINE_SOCKS,
    LOCAL,
    NOTHING,
    REFUSED,
    REVERSE,
    TUN,
    TUNNEL_OFF,
    forward_kind,
    tun_kind,
)
from tracer.jit import allocating, njit

_LETTER_D, _LETTER_L = ord("D"), ord("L")
_BACKSLASH, _QUOTE, _APOSTROPHE = ord("\\"), ord('"'), ord("'")
_COLON, _EQUALS, _HASH, _BLANK, _TAB = ord(":"), ord("="), ord("#"), ord(" "), ord("\t")
_LINE_MAX = 255  # the buffer in which readconf.c joins two arguments

_FLAGS = table({b"yes": CLEAR_ON, b"true": CLEAR_ON, b"no": CLEAR_OFF, b"false": CLEAR_OFF}, fold=True)
_TUNNELS = table(
    dict.fromkeys((b"yes", b"true", b"point-to-point", b"ethernet"), TUN)
    | dict.fromkeys((b"no", b"false"), TUNNEL_OFF),
    fold=True,
)
_KEY_TUNNEL, _KEY_DEVICE, _KEY_CLEAR = 10, 11, 12
_KEYWORDS = table(
    {
        b"remoteforward": REVERSE,
        b"dynamicforward": DYNAMIC,
        b"localforward": LOCAL,
        b"tunnel": _KEY_TUNNEL,
        b"tunneldevice": _KEY_DEVICE,
        b"clearallforwardings": _KEY_CLEAR,
    },
    fold=True,
)
_SPACES = letters(b" \t\r\n")
_KEY_ENDS = letters(b' \t\r\n"=')


@njit
def _keyword(line: Bytes, n: int, span: Ints) -> int:
    """Find the first word of ``line[:n]`` as ssh's strdelim() has it: ``span`` gets its start and end
    and where the rest begins (-1: there is none). Returns the line's new length, or -1 when ssh
    passes over the line. One "=" may stand between the two; quotes around or in the word are removed.
    """
    at = 0
    for _ in range(2):  # an empty word before a leading blank or "=" is passed over, once
        end = at
        while end < n and not _KEY_ENDS[line[end]]:
            end += 1
        span[0], span[1], span[2] = at, end, -1
        if end < n and line[end] == _QUOTE:
            for shift in range(end, n - 1):
                line[shift] = line[shift + 1]
            n -= 1
            while end < n and line[end] != _QUOTE:
                end += 1
            if end == n:
                return -1
            span[1] = end
            at = end + 1
            while at < n and _SPACES[line[at]]:
                at += 1
            span[2] = at
        elif end < n:
            at = end + 1
            while at < n and _SPACES[line[at]]:
                at += 1
            if at < n and line[at] == _EQUALS and line[end] != _EQUALS:
                at += 1
                while at < n and _SPACES[line[at]]:
                    at += 1
            span[2] = at
        if span[1] > span[0] or span[2] < 0:
            break
    return -1 if span[1] <= span[0] or line[span[0]] == _HASH else n


@njit
def _words(line: Bytes, at: int, n: int, words: Bytes, ends: Ints) -> int:
    """Split ``line[at:n]`` as ssh's argv_split() does, quotes and backslashes taken away.

    ``words`` gets the first word, a colon and the second; ``ends`` (3) the first one's start and where
    the two end. Returns the number of words, or -1 when a quote is left open.
    """
    count = to = 0
    while at < n:
        if line[at] in (_BLANK, _TAB):
            at += 1
            continue
        if line[at] == _HASH:
            break
        quote = 0
        while at < n:
            byte = int(np.int64(line[at]))
            if (
                byte == _BACKSLASH
                and at + 1 < n
                and (
                    line[at + 1] == _QUOTE
                    or line[at + 1] == _APOSTROPHE
                    or line[at + 1] == _BACKSLASH
                    or (quote == 0 and line[at + 1] == _BLANK)
                )
            ):
                at += 1
                words[to] = line[at]
                to += 1
            elif quote == 0 and byte in (_BLANK, _TAB):
                break
            elif quote == 0 and byte in (_QUOTE, _APOSTROPHE):
                quote = byte
            elif quote != 0 and byte == quote:
                quote = 0
            else:
                words[to] = byte
                to += 1
            at += 1
        if quote != 0:
            return -1
        if count < 2:
            ends[count + 1] = to
        if count == 0:
            words[to] = _COLON
            to += 1
        count += 1
    return count


@njit
def _forward_line(key: int, words: Bytes, ends: Ints, count: int) -> int:
    """What the keyword of a forward does with ``count`` words; one word means SOCKS."""
    if count == 0 or ends[1] == 0:
        return REFUSED
    alone = key == DYNAMIC or count == 1 or ends[2] == ends[1] + 1
    if count > (1 if key == DYNAMIC else 2) or (alone and key == LOCAL):
        return REFUSED
    n = min(ends[1] if alone else ends[2], _LINE_MAX)
    if key == REVERSE:
        return forward_kind(words, n, LINE_SOCKS if alone else LINE_REMOTE)
    return forward_kind(words, n, _LETTER_D if key == DYNAMIC else _LETTER_L)


@allocating
def line_kind(line: Bytes, n: int, cut: bool) -> int:
    """What option -o with the value ``line[:n]`` does; ``line`` is overwritten.

    Lines that have nothing to do with forwards are NOTHING, whether ssh knows them or not.
    ``cut``: the end of the value was not captured, so it can't be refused.
    """
    while n > 1 and (_SPACES[line[n - 1]] or line[n - 1] == 12):
        n -= 1
    span = np.zeros(3, np.int64)
    n = _keyword(line, n, span)
    if n < 0:
        return NOTHING
    at = span[2]
    if at < 0 or at >= n:
        return NOTHING if cut else REFUSED
    words = np.empty(n + 2, np.uint8)
    ends = np.zeros(3, np.int64)
    count = _words(line, at, n, words, ends)
    key = lookup(_KEYWORDS, line, span[0], span[1])
    kind = REFUSED
    if count >= 0 and key == 0:
        kind = NOTHING
    elif count >= 0 and key <= LOCAL:
        kind = _forward_line(key, words, ends, count)
    elif count == 1 and key == _KEY_TUNNEL:
        kind = lookup(_TUNNELS, words, ends[0], ends[1])
    elif count == 1 and key == _KEY_CLEAR:
        kind = lookup(_FLAGS, words, ends[0], ends[1])
    elif count == 1 and key == _KEY_DEVICE:
        kind = NOTHING if tun_kind(words, ends[0], ends[1]) == TUN else REFUSED
    if kind == NOTHING and key >= _KEY_TUNNEL and key != _KEY_DEVICE:
        kind = REFUSED  # neither yes nor no
    if kind == REFUSED and cut:
        return key if 0 < key <= LOCAL else NOTHING
    return kind
