# SPDX-License-Identifier: Apache-2.0
"""Who runs: the process table, in flat arrays, bounded.

A process is named by (tgid, start): a pid alone may be somebody else by now. Its parent is the one
that forked it, whatever getppid() says later, and a parent that has exited stays in the table while
a descendant lives, so that an alert can name the whole line. What a process runs, its *image*, is
shared by all that forked from it without an exec.

Once the table is full, a newcomer takes the place of one of a *crowd*: many processes that were forked and have
executed nothing, as a fork bomb leaves them. What is known of such a one is what its parent is, and comes back with
its exec: of the others in a flood of forks nothing is forgotten, and what is executed after it is known. Who has as
many programs running as the table has places, each executed, keeps newcomers out: they are judged all the same, in the
probe, too, but alerts can't name them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.engine import arena as strings
from tracer.engine.arena import Arena
from tracer.engine.intrinsics import address_at, i64, prefetch
from tracer.engine.spans import Spans, end_all, hold, make_spans, release
from tracer.jit import inline, njit

NONE = -1
#: The longest line of ancestors kept; beyond it exited ancestors are taken out of the line.
DEPTH = 256

#: So many that have ended last stay, for what is told of them a moment late.
RECENT = 256

#: Who shares a program with more than this part of a full table, and has executed none himself, makes room.
CROWD_PART = 16
#: Entries that are looked at for that; where a crowd has filled the table, nearly each will do.
LOOKED_AT = 64

FREE, LIVE, EXITED = range(3)

#: 55 characters and a NUL: see events.h.
TRACE_WORDS = 7

PROCESS = np.dtype(
    [
        ("tgid", "i8"),
        ("start", "i8"),
        ("parent", "i8"),  # place in the table, or NONE
        ("children", "i8"),  # entries that name this one as parent
        ("state", "i8"),
        ("image", "i8"),
        ("depth", "i8"),
        ("born", "i8"),  # when we learnt of it, ns
        ("uid", "i8"),
        ("gid", "i8"),
        ("cgroup", "i8"),
        ("gpu", "i8"),  # bits of tracer.detect.gpu
        ("net", "i8"),  # bits of tracer.engine.first
        ("seen", "i8"),  # number of the last reconciliation that found it
        ("span", "i8"),  # row of the span it was born in, or NONE
        ("opened", "i8"),  # row of the newest span it has open, or NONE
        # how often it has, or those a little below it: see tracer.engine.acts
        ("ran", "i8"),
        ("called", "i8"),
        ("shells", "i8"),
        ("called_high", "i8"),  # where to, the last time
        ("called_low", "i8"),
    ]
)

IMAGE = np.dtype(
    [
        ("users", "i8"),  # processes that run it
        ("block", "i8"),  # its strings in the arena, back to back as in the event
        ("path_len", "i8"),
        ("name_len", "i8"),
        ("cwd_len", "i8"),
        ("args_len", "i8"),
        ("args_total", "i8"),
        ("flags", "i8"),  # enum exec_flag
        ("dev", "i8"),
        ("ino", "i8"),
        ("file_high", "i8"),  # the file as it was executed: words of rules.ranges.file_words
        ("file_low", "i8"),
        ("program", "i8"),  # bits of tracer.detect.program
        ("script", "i8"),  # what an interpreter was told to run, as a hash; 0: nothing
        ("preload", "i8"),  # libraries that its environment puts into it, as a hash; 0: none
        ("since", "i8"),  # when it was executed, ns
        ("trace", "i8", (TRACE_WORDS,)),  # TRACEPARENT of its environment, as text
    ]
)

# Places in Processes.state
(
    P_FREE,  # first free process entry, + 1 (0: none has come back yet)
    P_USED,  # entries ever used
    I_FREE,
    I_USED,
    LIVE_COUNT,
    FULL,  # processes not recorded: the table was full
    IMAGES_FULL,
    COLLAPSED,  # exited ancestors taken out of a line that was too long
    MISSED_EXIT,  # entries whose exit was never told
    MISSED_FORK,  # processes first heard of by something else than their fork
    ROUND,  # number of the last reconciliation
    ENVIRONMENTS_CUT,  # execs whose environment was not looked through to its end
    ENDED,  # processes that have ever been put among the recent ones
    HAND,  # where the next one is looked for that makes room
    FORGOTTEN,  # processes of a crowd that made room
) = range(15)


class Processes(NamedTuple):
    """``table`` PROCESS[n]; ``images`` IMAGE[n]; ``slots`` int32[2**k], a hash of tgid to the live
    entry, + 1; ``state`` int64[15]; ``recent`` int64[n, 2], a ring: entry + 1 of whoever ended lately, and when;
    ``arena`` the strings; ``spans`` what they are in.
    """

    table: npt.NDArray[np.void]
    images: npt.NDArray[np.void]
    slots: npt.NDArray[np.int32]
    state: npt.NDArray[np.int64]
    recent: npt.NDArray[np.int64]
    arena: Arena
    spans: Spans


def make_processes(capacity: int = 1 << 17, blocks: int = 1 << 18, spans: int = 1 << 14) -> Processes:
    """An empty table for ``capacity`` processes in ``spans`` spans, with ``blocks`` blocks for their strings."""
    slots = 1 << max(4, (2 * capacity - 1).bit_length())
    return Processes(
        np.zeros(capacity, PROCESS),
        np.zeros(capacity, IMAGE),
        np.zeros(slots, np.int32),
        np.zeros(FORGOTTEN + 1, np.int64),
        np.zeros((min(RECENT, capacity // 64), 2), np.int64),
        strings.make_arena(blocks),
        make_spans(spans),
    )


@inline
def _home(slots: npt.NDArray[np.int32], tgid: int) -> int:
    return (tgid * 0x9E3779B1 & 0xFFFFFFFF) * len(slots) >> 32


@inline
def expect_process(p: Processes, tgid: int) -> None:
    """This pid will be looked for soon."""
    prefetch(address_at(p.slots, _home(p.slots, tgid)))


@njit
def find(p: Processes, tgid: int) -> int:
    """The live entry of ``tgid``, or NONE."""
    mask = len(p.slots) - 1
    at = _home(p.slots, tgid)
    while p.slots[at]:
        entry = i64(p.slots[at]) - 1
        if p.table[entry].tgid == tgid:
            return entry
        at = (at + 1) & mask
    return NONE


@njit
def find_exact(p: Processes, tgid: int, start: int) -> int:
    """The live entry of this very process, or NONE."""
    entry = find(p, tgid)
    if entry != NONE and p.table[entry].start == start:
        return entry
    return NONE


@njit
def _enter(p: Processes, entry: int) -> None:
    mask = len(p.slots) - 1
    at = _home(p.slots, p.table[entry].tgid)
    while p.slots[at]:
        at = (at + 1) & mask
    p.slots[at] = entry + 1


@njit
def _leave(p: Processes, entry: int) -> None:
    """Take the entry out of the hash; what lies behind it moves up, so there are no tombstones."""
    mask = len(p.slots) - 1
    at = _home(p.slots, p.table[entry].tgid)
    while p.slots[at] != entry + 1:
        if p.slots[at] == 0:
            return
        at = (at + 1) & mask
    hole = at
    at = (at + 1) & mask
    while p.slots[at]:
        home = _home(p.slots, p.table[i64(p.slots[at]) - 1].tgid)
        if ((at - home) & mask) >= ((at - hole) & mask):
            p.slots[hole] = p.slots[at]
            hole = at
        at = (at + 1) & mask
    p.slots[hole] = 0


@njit
def _drop_image(p: Processes, image: int) -> None:
    if image == NONE:
        return
    p.images[image].users -= 1
    if p.images[image].users == 0:
        strings.release(p.arena, p.images[image].block)
        p.images[image].block = p.state[I_FREE]
        p.state[I_FREE] = image + 1


@njit
def _new_image(p: Processes) -> int:
    image = p.state[I_FREE] - 1
    if image >= 0:
        p.state[I_FREE] = p.images[image].block
    elif p.state[I_USED] < len(p.images):
        image = p.state[I_USED]
        p.state[I_USED] += 1
    else:
        p.state[IMAGES_FULL] += 1
        return NONE
    p.images[image].users = 1
    p.images[image].block = strings.NO_BLOCK
    return image


@njit
def _forget_exited(p: Processes, entry: int) -> None:
    """Free an exited entry nobody descends from, and up the line whoever that frees."""
    at = entry
    while at != NONE and p.table[at].state == EXITED and p.table[at].children == 0:
        parent = p.table[at].parent
        _drop_image(p, p.table[at].image)
        release(p.spans, p.table[at].span)
        p.table[at].span = NONE
        p.table[at].state = FREE
        p.table[at].parent = p.state[P_FREE]
        p.state[P_FREE] = at + 1
        if parent != NONE:
            p.table[parent].children -= 1
        at = parent


@njit
def exit_process(p: Processes, entry: int) -> None:
    """The process has ended."""
    if p.table[entry].state != LIVE:
        return
    _leave(p, entry)
    end_all(p.spans, p.table[entry].opened)
    p.table[entry].opened = NONE
    p.table[entry].state = EXITED
    p.state[LIVE_COUNT] -= 1
    _forget_exited(p, entry)


@njit
def end_process(p: Processes, entry: int, now: int) -> None:
    """The process has ended; it stays in the table until RECENT others have."""
    if p.table[entry].state != LIVE:
        return
    if len(p.recent):
        at = p.state[ENDED] % len(p.recent)
        p.state[ENDED] += 1
        old = p.recent[at, 0] - 1
        p.recent[at, 0] = entry + 1
        p.recent[at, 1] = now
        p.table[entry].children += 1  # as if somebody descended from it
        if old >= 0:
            p.table[old].children -= 1
            _forget_exited(p, old)
    exit_process(p, entry)


@njit
def find_recent(p: Processes, tgid: int, since: int) -> int:
    """The entry of the process that had this pid and has ended last, ``since`` then; or NONE."""
    for back in range(min(len(p.recent), p.state[ENDED])):
        row = p.recent[(p.state[ENDED] - 1 - back) % len(p.recent)]
        if row[1] < since:
            return NONE
        if p.table[row[0] - 1].tgid == tgid:
            return int(row[0] - 1)
    return NONE


@njit
def _shorten_line(p: Processes, entry: int) -> None:
    """Keep a line within DEPTH: take out the nearest exited ancestor with no other descendants.

    A process that forks and exits for ever would otherwise grow its line for ever.
    """
    below = entry
    at = p.table[entry].parent
    while at != NONE:
        above = p.table[at].parent
        if p.table[at].state == EXITED and p.table[at].children == 1 and above != NONE:  # none of the recent
            p.table[below].parent = above
            p.table[above].children += 1
            p.table[at].children = 0
            _forget_exited(p, at)
            p.state[COLLAPSED] += 1
            p.table[entry].depth -= 1
            return
        below = at
        at = above


@njit
def _make_room(p: Processes, parent: int) -> bool:
    """Forget one of a crowd, which must not be ``parent``: rather one that has connected to nothing. False: there is none
    to be seen.
    """
    crowd = len(p.table) // CROWD_PART
    second = NONE
    for _ in range(LOOKED_AT):
        at = p.state[HAND]
        p.state[HAND] = (at + 1) % len(p.table)
        row = p.table[at]
        if row.state != LIVE or row.children != 0 or row.opened != NONE or row.gpu != 0 or at == parent:
            continue
        if row.image == NONE or p.images[row.image].users <= crowd:
            continue
        if row.net == 0:
            second = at
            break
        second = at
    if second == NONE:
        return False
    p.state[FORGOTTEN] += 1
    exit_process(p, second)
    return True


@njit
def add_process(p: Processes, tgid: int, start: int, parent: int, now: int) -> int:
    """A new live entry, child of entry ``parent`` (or NONE); shares the parent's image.

    NONE when the table is full and no crowd fills it.
    """
    old = find(p, tgid)
    if old != NONE:
        if p.table[old].start == start:
            return old
        p.state[MISSED_EXIT] += 1
        exit_process(p, old)
        if old == parent:  # nobody is his own parent, but a recording may say so
            parent = NONE
    if p.state[P_FREE] == 0 and p.state[P_USED] == len(p.table) and not _make_room(p, parent):
        p.state[FULL] += 1
        return NONE
    entry = p.state[P_FREE] - 1
    if entry >= 0:
        p.state[P_FREE] = p.table[entry].parent
    else:
        entry = p.state[P_USED]
        p.state[P_USED] += 1
    row = p.table[entry]
    row.tgid = tgid
    row.start = start
    row.parent = parent
    row.children = 0
    row.state = LIVE
    row.image = NONE
    row.depth = 0
    row.born = now
    row.uid = -1
    row.gid = -1
    row.cgroup = 0
    row.gpu = 0
    row.net = 0
    row.seen = -1
    row.span = NONE
    row.opened = NONE
    row.ran = 0
    row.called = 0
    row.shells = 0
    if parent != NONE:
        p.table[parent].children += 1
        row.depth = p.table[parent].depth + 1
        row.uid = p.table[parent].uid
        row.gid = p.table[parent].gid
        row.cgroup = p.table[parent].cgroup
        row.image = p.table[parent].image
        if row.image != NONE:
            p.images[row.image].users += 1
        row.span = p.table[parent].span
        hold(p.spans, row.span)
    _enter(p, entry)
    p.state[LIVE_COUNT] += 1
    if row.depth >= DEPTH:
        _shorten_line(p, entry)
    return entry


@njit
def adopt_parent(p: Processes, entry: int, parent: int) -> None:
    """Give a parentless entry its parent, unless that would close a circle."""
    if p.table[entry].parent != NONE or parent == NONE or parent == entry:
        return
    at = parent
    while at != NONE:
        if at == entry:
            return
        at = p.table[at].parent
    p.table[entry].parent = parent
    p.table[parent].children += 1
    p.table[entry].depth = p.table[parent].depth + 1


@njit
def replace_image(p: Processes, entry: int) -> int:
    """The process has executed something: a fresh image of its own, or NONE when all are taken."""
    _drop_image(p, p.table[entry].image)
    image = _new_image(p)
    p.table[entry].image = image
    return image


@njit
def end_unseen(p: Processes, before: int) -> int:
    """End every entry born ``before`` then that the current reconciliation has not found; how many."""
    ended = 0
    for entry in range(p.state[P_USED]):
        row = p.table[entry]
        if row.state == LIVE and row.seen != p.state[ROUND] and row.born < before:
            exit_process(p, entry)
            p.state[MISSED_EXIT] += 1
            ended += 1
    return ended


@njit
def list_live(p: Processes, imageless: bool, found: npt.NDArray[np.int64]) -> int:
    """Fill ``found`` with live entries (only those that nothing is known to run, if ``imageless``)."""
    count = 0
    for entry in range(p.state[P_USED]):
        row = p.table[entry]
        if row.state == LIVE and (not imageless or row.image == NONE) and count < len(found):
            found[count] = entry
            count += 1
    return count


@njit
def line_of(p: Processes, entry: int, found: npt.NDArray[np.int64]) -> int:
    """Fill ``found`` with the entry and its ancestors, up to the root; how many."""
    count = 0
    at = entry
    while at != NONE and count < len(found):
        found[count] = at
        count += 1
        at = p.table[at].parent
    return count
