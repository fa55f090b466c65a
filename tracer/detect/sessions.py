# SPDX-License-Identifier: Apache-2.0
"""A connection that makes the tree act whenever something comes in over it: a *session* that is led from outside.

It needs no bytes, only how much each connection carries from one sample to the next (a *pass*, see
:mod:`tracer.detect.legs`) and how often a process, or those below it, has forked, executed and connected. What is
told is what comes in when both have been still; that it makes the tree act shows if that acts within a moment:
this, again and again, is an *exchange*.

An agent that is led by a model outside does the same, and so does any client that does something about each
answer. What tells them apart is who leads: a client says what it wants before it is told anything, a request, a
login, a subscription. Whoever only listens has nothing to ask for. So a connection over which this end says more
than a greeting before its first exchange (in TLS: more than a handshake needs) is a client's, for good: it is not followed any more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.crowding import makes_room
from tracer.detect.facts import FACT_BIT
from tracer.detect.mixing import mixed
from tracer.detect.telling import TOLD_FIELD, forget_told
from tracer.jit import njit
from tracer.rules.thresholds import THRESHOLDS

RUNS, CONNECTS, STARTS_SHELLS = (
    1 << FACT_BIT[name] for name in ("runs-when-told", "connects-when-told", "shells-when-told")
)

# Places in Sessions.limits
EXCHANGES, MISSED, HELLO, HANDSHAKE, PATIENCE, STILL = range(len(THRESHOLDS["session"]))
assert list(THRESHOLDS["session"])[STILL] == "still"

#: Places that a session may be in.
WAYS = 16

SESSION = np.dtype(
    [
        ("tgid", "i8"),  # who opened it
        ("start", "i8"),
        ("watched", "i8"),  # whose doings count: that one's, or the shell's in whose pipeline it is
        ("watched_start", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("port", "i8"),
        ("since", "i8"),
        ("named", "i8"),  # a DNS answer named the address when it began
        ("got", "i8"),  # bytes in this pass
        ("gave", "i8"),
        ("said", "i8"),  # bytes given before the first exchange
        ("heard", "i8"),  # when it last carried something, ns
        ("idle", "i8"),  # passes since then
        ("quiet", "i8"),  # passes since whoever is watched last did anything
        ("waits", "i8"),  # passes in which something may still be done about what was told
        ("ran", "i8"),  # what the process table has counted, as of the last pass
        ("called", "i8"),
        ("shells", "i8"),
        ("exchanges", "i8"),
        ("ran_times", "i8"),  # exchanges in which something was run
        ("called_times", "i8"),
        ("shell_times", "i8"),
        ("missed", "i8"),  # times that nothing was done
        ("told_bytes", "i8"),
        ("given_bytes", "i8"),
        ("first", "i8"),  # when the first exchange was, and the last
        ("last", "i8"),
        ("judged", "i8"),  # exchanges that there were when it was last judged
        TOLD_FIELD,
    ]
)

# Places in Sessions.state
S_LIVE, S_FULL, S_TOLD, S_FORGOTTEN = range(4)


class Sessions(NamedTuple):
    """``table`` SESSION[n], n a power of two; ``cookies`` int64[n]: of their connections, 0: nobody's; ``limits`` int64[6]: the thresholds; ``state`` int64[4]: sessions
    there are, those that found no place, the one of which something was told last, those that gave up their place.
    """

    table: npt.NDArray[np.void]
    cookies: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_sessions(capacity: int = 1 << 11) -> Sessions:
    """Nobody is connected."""
    return Sessions(
        np.zeros(capacity, SESSION),
        np.zeros(capacity, np.int64),
        np.zeros(len(THRESHOLDS["session"]), np.int64),
        np.zeros(4, np.int64),
    )


@njit
def find_session(s: Sessions, cookie: int) -> int:
    """Where the session over this connection is; -1 if there is none."""
    home = mixed(cookie, 0) & (len(s.table) - 1) & ~(WAYS - 1)
    for at in range(home, home + WAYS):
        if s.cookies[at] == cookie:
            return at
    return -1


@njit
def open_session(s: Sessions, cookie: int, tgid: int, start: int, now: int) -> int:
    """A new one; -1 if there is no place: nobody's is taken for it who has not more of them."""
    home = mixed(cookie, 0) & (len(s.table) - 1) & ~(WAYS - 1)
    place = -1
    for at in range(home, home + WAYS):
        if s.cookies[at] == 0:
            place = at
            break
    if place < 0:
        place = makes_room(s.table, home, WAYS, 1, tgid, start, s.table["exchanges"], s.table["heard"], 0)
        if place < 0:
            s.state[S_FULL] += 1
            return -1
        close_session(s, place)
        s.state[S_FORGOTTEN] += 1
    row = s.table[place]
    s.cookies[place] = cookie
    row.tgid = tgid
    row.start = start
    row.since = now
    row.heard = now
    row.got = 0
    row.gave = 0
    row.said = 0
    row.idle = 0
    row.quiet = 0
    row.waits = 0
    row.exchanges = 0
    row.ran_times = 0
    row.called_times = 0
    row.shell_times = 0
    row.missed = 0
    row.told_bytes = 0
    row.given_bytes = 0
    row.first = 0
    row.last = 0
    row.judged = 0
    forget_told(row)
    s.state[S_LIVE] += 1
    return place


@njit
def close_session(s: Sessions, at: int) -> None:
    """The connection is over, or is a client's."""
    s.cookies[at] = 0
    s.state[S_LIVE] -= 1


@njit
def carry(s: Sessions, at: int, got: int, gave: int) -> None:
    """It has carried something in this pass."""
    s.table[at].got += got
    s.table[at].gave += gave


@njit
def _exchange(s: Sessions, at: int, ran: int, called: int, shells: int, now: int) -> None:
    row = s.table[at]
    if row.exchanges == 0:
        row.first = now
    row.exchanges += 1
    row.ran_times += ran > 0
    row.called_times += called > 0
    row.shell_times += shells > 0
    row.last = now
    row.waits = 0


@njit
def end_pass(s: Sessions, at: int, ran: int, called: int, shells: int, now: int) -> None:
    """The pass is over. ``ran``, ``called``, ``shells``: how often whoever is watched has run something,
    connected, or run a shell, in this pass.
    """
    row = s.table[at]
    acted = ran + called > 0
    still = row.idle >= s.limits[STILL] and row.quiet >= s.limits[STILL]
    if row.got > 0 and still and row.waits == 0:
        row.told_bytes += row.got
        row.waits = s.limits[PATIENCE]
    if row.waits > 0:
        if acted:
            _exchange(s, at, ran, called, shells, now)
        else:
            row.waits -= 1
            row.missed += row.waits == 0
    if row.exchanges == 0:
        row.said += row.gave
    else:
        row.given_bytes += row.gave
    if row.got + row.gave > 0:
        row.heard = now
        row.idle = 0
    else:
        row.idle += 1
    row.quiet = 0 if acted else row.quiet + 1
    row.got = 0
    row.gave = 0


@njit
def is_clients(s: Sessions, at: int, opening: int) -> bool:
    """Has this end said more than a greeting before it was told anything? ``opening``: bytes of its handshake."""
    row = s.table[at]
    return bool(row.exchanges == 0 and row.said > s.limits[HELLO] + opening)


@njit
def is_led(s: Sessions, at: int) -> bool:
    """Is it led from outside?"""
    row = s.table[at]
    return bool(row.exchanges >= s.limits[EXCHANGES] and row.missed * 100 <= row.exchanges * s.limits[MISSED])


@njit
def facts_of(s: Sessions, at: int, shell: bool) -> int:
    """What it makes the tree do, as bits: what more than half of the exchanges did. ``shell``: whoever opened it
    is one.
    """
    row = s.table[at]
    facts = 0
    if row.ran_times * 2 >= row.exchanges:
        facts |= RUNS
        if shell or row.shell_times * 2 >= row.exchanges:
            facts |= STARTS_SHELLS
    if row.called_times * 2 >= row.exchanges:
        facts |= CONNECTS
    return facts
