# SPDX-License-Identifier: Apache-2.0
"""Who feels his way around inside: distinct places that a process has tried in vain.

A connection was *in vain* if it was refused or never answered, or if it was answered and then nothing was
sent over it: that is what a scan leaves behind, open ports included, and what pools, discovery and workers
that meet each other don't, however many places they talk to. Whoever sends something to such a place later
had only come too early: it is taken off again; and one that has been used lately is a peer that went away.

Each process has two *series*: of places inside, and of this host over loopback. They lie where the process
lies in the process table, so that nobody can push another one's out; a series keeps TARGETS_MAX places, and
thresholds can't be larger. What a process tries counts for those above it that live, too: a shell's loop
starts a program an address; what has been told of one process doesn't count above it any more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.detect.facts import FACT_BIT
from tracer.detect.mixing import mixed
from tracer.detect.telling import TOLD_FIELD, forget_told
from tracer.engine.intrinsics import address_at, prefetch
from tracer.jit import inline, njit
from tracer.rules.thresholds import TARGETS_MAX, THRESHOLDS

REFUSED, SILENT, UNUSED = range(1, 4)
#: By outcome, as evidence has them.
OUTCOMES = ("", "refused", "unanswered", "unused")

SCANS_ADDRESSES, SCANS_PORTS, SCANS_BLOCK, SCANS_ITSELF, BY_DESCENDANTS, BY_SHELL = (
    1 << FACT_BIT[name]
    for name in (
        "scans-addresses",
        "scans-ports",
        "scans-block",
        "scans-itself",
        "by-descendants",
        "by-shell",
    )
)

#: The process itself and those above it for whom it counts: a loop's `(timeout 1 bash -c '</dev/tcp/…') &`
#: is four processes below the loop.
LEVELS = 6
#: The latest places, for evidence.
EXAMPLES = 4
#: Places that a process has used, the latest ones.
USED_MAX = 32
#: Rules of which a series remembers with what severity they have been told.

# Places in Scans.limits
ADDRESSES, PORTS, TARGETS, OWN_PORTS, OWN_PORTS_BELOW, WINDOW = range(len(THRESHOLDS["scan"]))
assert list(THRESHOLDS["scan"])[WINDOW] == "window_s"

SERIES = np.dtype(
    [
        ("tgid", "i8"),
        ("start", "i8"),
        ("epoch", "i8"),  # of the rules it has been judged by
        ("since", "i8"),  # when counting began
        ("last", "i8"),  # when something was tried in vain last
        ("count", "i8"),  # targets
        ("addresses", "i8"),  # different addresses among them
        ("ports", "i8"),  # the most of one address
        ("below", "i8"),  # one of them was a descendant's
        ("outcomes", "i8", (4,)),  # targets by outcome
        ("shapes", "i8"),  # facts that have held since the series began
        TOLD_FIELD,
        ("seen", "i8"),  # examples ever written
        ("example", "i8", (EXAMPLES, 3)),  # address, outcome << 16 | port (0: taken off)
    ]
)

# A target: 44 bits of its address, mixed; is it the first of its address; outcome; port.
_ADDRESS = 19
_FIRST = 1 << 18
_OUTCOME = 16
_PORT = 0xFFFF
# Columns of Scans.used
_TGID, _START, _WRITTEN, _PLACES = range(4)
_SECOND = 1_000_000_000


class Scans(NamedTuple):
    """``series`` SERIES[2 n] and ``targets`` int64[2 n, TARGETS_MAX]: of the process at entry i, 2 i inside
    and 2 i + 1 over loopback; ``used`` int64[n, 3 + USED_MAX]: the process, how many places it has used, the
    latest of them; ``limits`` int64[6]: the thresholds; ``state`` int64[1]: targets that found no place in a
    series of which nothing had been told.
    """

    series: npt.NDArray[np.void]
    targets: npt.NDArray[np.int64]
    used: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]


def make_scans(processes: int) -> Scans:
    """Nothing tried yet, by any of ``processes``; memory is touched only as it is used."""
    return Scans(
        np.zeros(2 * processes, SERIES),
        np.zeros((2 * processes, TARGETS_MAX), np.int64),
        np.zeros((processes, USED_MAX + _PLACES), np.int64),
        np.zeros(len(THRESHOLDS["scan"]), np.int64),
        np.zeros(1, np.int64),
    )


@njit
def _restart(s: Scans, at: int, now: int) -> None:
    row = s.series[at]
    row.since = now
    row.count = 0
    row.addresses = 0
    row.ports = 0
    row.below = 0
    row.seen = 0
    for outcome in range(4):
        row.outcomes[outcome] = 0


@njit
def begin(s: Scans, at: int, tgid: int, start: int, now: int, epoch: int) -> None:
    """Make the series at ``at`` the process's at this time, under these rules."""
    row = s.series[at]
    window = s.limits[WINDOW] * _SECOND
    mine = row.tgid == tgid and row.start == start and row.epoch == epoch
    if not mine or row.last + window < now:
        row.tgid = tgid
        row.start = start
        row.epoch = epoch
        row.shapes = 0
        forget_told(row)
        _restart(s, at, now)
    elif row.since + window < now:
        _restart(s, at, now)
    row.last = now


@njit
def note_target(s: Scans, at: int, high: int, low: int, port: int, outcome: int, below: bool) -> int:
    """Something was tried in vain: the facts that hold since now, as bits; often none."""
    row = s.series[at]
    loopback = at & 1
    address = 0 if loopback else mixed(high, low)
    same = 0
    spare = -1
    for place in range(row.count):
        target = s.targets[at, place]
        if target >> _ADDRESS == address:
            if target & _PORT == port:
                return 0
            same += 1
        elif target & _FIRST == 0:
            spare = place
    limit = s.limits[OWN_PORTS] if loopback else s.limits[PORTS]
    if same >= limit:  # told: the others have the room
        return 0
    place = row.count
    if place < TARGETS_MAX:
        row.count += 1
    elif spare >= 0:  # rather another address, or more of this one, than one port more of a third
        place = spare
        row.outcomes[s.targets[at, place] >> _OUTCOME & 3] -= 1
    else:
        if row.told[0] == 0:
            s.state[0] += 1
        return 0
    s.targets[at, place] = address << _ADDRESS | outcome << _OUTCOME | port
    if same == 0:
        s.targets[at, place] |= _FIRST
        row.addresses += 1
    row.ports = max(row.ports, same + 1)
    row.outcomes[outcome] += 1
    if below:
        row.below = 1
    example = row.seen % EXAMPLES
    row.example[example, 0] = high
    row.example[example, 1] = low
    row.example[example, 2] = outcome << _OUTCOME | port
    row.seen += 1
    return _shapes(s, at, loopback, same + 1)


@njit
def _shapes(s: Scans, at: int, loopback: int, ports: int) -> int:
    row = s.series[at]
    reached = 0
    if loopback:
        if ports >= s.limits[OWN_PORTS]:
            reached |= SCANS_ITSELF
    else:
        if row.addresses >= s.limits[ADDRESSES]:
            reached |= SCANS_ADDRESSES
        if ports >= s.limits[PORTS]:
            reached |= SCANS_PORTS
        if row.count >= s.limits[TARGETS]:
            reached |= SCANS_BLOCK
    fresh = reached & ~row.shapes
    row.shapes |= reached
    return fresh


@njit
def _take_off(s: Scans, at: int, place: int) -> None:
    row = s.series[at]
    target = s.targets[at, place]
    row.outcomes[target >> _OUTCOME & 3] -= 1
    row.count -= 1
    s.targets[at, place] = s.targets[at, row.count]
    if target & _FIRST == 0:
        return
    for other in range(row.count):
        if s.targets[at, other] >> _ADDRESS == target >> _ADDRESS:
            s.targets[at, other] |= _FIRST
            return
    row.addresses -= 1


@njit
def take_off(s: Scans, at: int, high: int, low: int, port: int) -> None:
    """The place has been used: it was not tried in vain."""
    row = s.series[at]
    address = 0 if at & 1 else mixed(high, low)
    found = -1
    for place in range(row.count):
        target = s.targets[at, place]
        if target >> _ADDRESS == address and target & _PORT == port:
            found = place
    if found < 0:
        return
    _take_off(s, at, found)
    for place in range(min(row.seen, EXAMPLES)):
        example = row.example[place]
        if example[0] == high and example[1] == low and example[2] & _PORT == port:
            example[2] = 0


@inline
def expect_use(s: Scans, entry: int) -> None:
    """It will soon be asked which places the process at ``entry`` has used."""
    prefetch(address_at(s.used[entry], 0))


@njit
def was_used(s: Scans, entry: int, tgid: int, start: int, high: int, low: int, port: int) -> bool:
    """Has the process at ``entry`` used this place lately?"""
    row = s.used[entry]
    if row[_TGID] != tgid or row[_START] != start:
        return False
    key = mixed(high, low) << _ADDRESS | port
    there = False
    for place in range(_PLACES, _PLACES + min(row[_WRITTEN], USED_MAX)):
        there |= row[place] == key
    return there


@njit
def remember_used(s: Scans, entry: int, tgid: int, start: int, high: int, low: int, port: int) -> None:
    """The process at ``entry`` has used this place."""
    if was_used(s, entry, tgid, start, high, low, port):
        return
    row = s.used[entry]
    if row[_TGID] != tgid or row[_START] != start:
        row[_TGID] = tgid
        row[_START] = start
        row[_WRITTEN] = 0
    row[_PLACES + row[_WRITTEN] % USED_MAX] = mixed(high, low) << _ADDRESS | port
    row[_WRITTEN] += 1


@njit
def take_off_all(s: Scans, at: int, above: int) -> None:
    """What has been told in series ``at`` doesn't count in series ``above``."""
    for place in range(s.series[at].count):
        key = s.targets[at, place] & ~(_FIRST | 3 << _OUTCOME)
        for other in range(s.series[above].count):
            if s.targets[above, other] & ~(_FIRST | 3 << _OUTCOME) == key:
                _take_off(s, above, other)
                break


@inline
def was_told(s: Scans, at: int) -> bool:
    """Has any rule been told of this series?"""
    return bool(s.series[at].told[0] != 0)
