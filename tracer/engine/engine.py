# SPDX-License-Identifier: Apache-2.0
"""The engine as Python sees it: drain the rings, then ask what fired and about whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tracer.detect.beacons import B_DROPPED, B_FORGOTTEN
from tracer.detect.clients import kind_of_client
from tracer.detect.dns_data import D_DROPPED, D_FORGOTTEN
from tracer.detect.gpu import ASKED, MARKS, NOT_ASKED, USE_KNOWN, for_users
from tracer.detect.legs import LEGS_DROPPED, MOVED_INSIDE, MOVED_OUTSIDE, NOT_COMPARED, PAIRS_DROPPED
from tracer.detect.pings import P_FORGOTTEN
from tracer.detect.sessions import S_FORGOTTEN as SESSIONS_FORGOTTEN
from tracer.detect.sessions import S_FULL as SESSIONS_FULL
from tracer.engine import arena as strings
from tracer.engine import processes as procs
from tracer.engine.address import laid_out
from tracer.engine.drain import TAP_COUNT, TAP_USED, drain, fall_asleep, lag_bucket, replay
from tracer.engine.files import W_PATH, X_LOST, X_WAITING
from tracer.engine.first import address_words
from tracer.engine.flows import F_FORGOTTEN, F_FULL, F_LIVE
from tracer.engine.handle import ENTRIES, REFUSABLE_BIT
from tracer.engine.intrinsics import address_of, store_release_u64
from tracer.engine.names import N_FORGOTTEN, N_FULL, find_name
from tracer.engine.ring import Ring
from tracer.engine.spans import S_FULL, S_REPEATED, S_UNKNOWN, row_of
from tracer.engine.state import (
    DECIDED,
    DONE,
    ENTRY,
    IN_SPAN,
    KIND,
    LAG_BUCKETS,
    PENDING,
    SUBJECT,
    TIME,
    make_state,
)
from tracer.engine.tap import lay_out
from tracer.jit import errors, njit
from tracer.kernel import schema
from tracer.rules import Rule, RuleSet
from tracer.rules.ranges import compile_ranges
from tracer.rules.thresholds import numbers_of

if TYPE_CHECKING:
    from tracer.engine.journal import Journal

BATCH = 1 << 16
_TEXT_MAX = 8192


@njit
def wake_up(flag: int) -> None:
    """Tell the probes, through the word at ``flag``, that the reader polls."""
    store_release_u64(flag, 0)


@dataclass(frozen=True, slots=True)
class Program:
    """One process as the table has it. Strings are bytes: the tree chose them."""

    pid: int
    start_ns: int
    exe: bytes
    called: bytes
    cwd: bytes
    argv: tuple[bytes, ...]
    argv_cut: bool
    uid: int
    gid: int
    cgroup: int
    flags: int
    live: bool


@dataclass(frozen=True, slots=True)
class Fired:
    """Rules that one event fired, as (rule, severity), and the event.

    ``subject``: what it was about, a GPU code or a socket's cookie. ``done``: what the probe did about it
    (bits, by place in ``ACTIONS``), at ``decided_ns``. ``span``: serial of the span that the thread was in; 0:
    of its process's. ``refusable``: an exec that would be refused, not ended, if that were enforced.
    """

    rules: tuple[tuple[Rule, str], ...]
    entry: int
    kind: int
    time_ns: int
    subject: int
    done: int = 0
    decided_ns: int = 0
    span: int = 0
    refusable: bool = False


@dataclass(frozen=True, slots=True)
class OpenedSpan:
    """A span as the table has it: its owner's pid and start, the owner's number for it, what was said of it.

    ``known``: its beginning was told. ``opener``: the child that opened it for its parent, or 0.
    """

    pid: int
    start_ns: int
    token: int
    known: bool
    text: bytes
    cut: bool
    opener: int
    began_ns: int


class Engine:
    """State and compiled code for one tree."""

    def __init__(
        self,
        rules: RuleSet,
        *,
        processes: int = 1 << 17,
        flows: int = 1 << 16,
    ) -> None:
        self.rules = rules
        self.state = make_state(
            rules.automaton,
            rules.table,
            compile_ranges(rules.groups, rules.terms.own_networks),
            rules.terms.gpu_users,
            processes=processes,
            flows=flows,
        )
        self._set_limits(rules)
        self._lay_out()
        self._rings = np.zeros((2, 4), np.int64)
        self._bound: tuple[Ring, ...] = ()
        self._flag = 0
        self._tap_memory = np.zeros(0, np.uint8)
        self._tap = np.zeros(4, np.int64)
        #: told of all that does not come through the rings
        self.journal: Journal | None = None
        self._text = np.zeros(_TEXT_MAX, np.uint8)
        self._line = np.zeros(procs.DEPTH + procs.RECENT + 8, np.int64)

    def judge_by(self, rules: RuleSet, epoch: int) -> None:
        """Judge by ``rules`` from the next record on; ``epoch``: what probes' verdicts by them carry."""
        if self.journal is not None:
            self.journal.judged(rules, epoch)
        self.rules = rules
        self.state = self.state._replace(
            automaton=rules.automaton,
            rules=rules.table,
            ranges=compile_ranges(rules.groups, rules.terms.own_networks),
            gpu=for_users(self.state.gpu, rules.terms.gpu_users),
        )
        self.state.epoch[0] = epoch
        self._set_limits(rules)
        self._lay_out()

    def _set_limits(self, rules: RuleSet) -> None:
        state = self.state
        limits = {
            "scan": state.scans.limits, "relay": state.relays.limits, "effort": state.efforts.limits,
            "session": state.sessions.limits, "beacon": state.beacons.limits, "dns": state.domains.limits,
            "icmp": state.pings.limits, "gpu": state.gpu.limits,
        }  # fmt: skip
        for name, numbers in limits.items():
            numbers[:] = numbers_of(rules.thresholds, name)

    def _lay_out(self) -> None:
        for kind, address in ENTRIES.items():
            self.state.calls[kind] = address
        self._words = laid_out(self.state)
        self._where = address_of(self._words)

    def bind(self, critical: Ring, bulk: Ring, flag: int) -> None:
        """Read from these rings; ``flag`` is the address of the reader's state."""
        for row, ring in enumerate((critical, bulk)):
            self._rings[row] = (ring.consumer, ring.producer, ring.data, ring.size - 1)
        self._bound = (critical, bulk)  # kernels have addresses only: keep the mappings
        self._flag = flag

    def tap_into(self, size: int) -> None:
        """Keep a copy of every record drained from now on, see :meth:`take_tap`."""
        self._tap_memory = np.zeros(size, np.uint8)
        self._tap[:] = (address_of(self._tap_memory), size, 0, 0)

    @property
    def tapped(self) -> int:
        """Bytes that wait in the tap."""
        return int(self._tap[TAP_USED])

    def take_tap(self) -> tuple[bytes, int]:
        """The records copied since the last call, each with a prefix of 8 bytes, 8-aligned; how many."""
        taken = self._tap_memory[: self._tap[TAP_USED]].tobytes()
        count = int(self._tap[TAP_COUNT])
        self._tap[TAP_USED] = self._tap[TAP_COUNT] = 0
        return taken, count

    def drain(self, limit: int = BATCH) -> tuple[int, int]:
        """Take records in; (EMPTY, MORE, FIRED or TAP_FULL, how many)."""
        return drain(self._rings, self._where, self._tap, limit)

    def feed(self, records: Iterable[bytes], *, count: bool = True) -> Iterator[Fired]:
        """Take in records that did not come through a ring; yields what they fire, in order.

        ``count``: they belong into the sums of what probes have sent.
        """
        yield from self.play(lay_out(records), count=count)

    def play(self, laid: bytes, *, count: bool) -> Iterator[Fired]:
        """The same for records that are laid out as a tap has them."""
        if self.journal is not None and laid:
            self.journal.fed(laid, counted=count)
        memory = np.frombuffer(laid, np.uint8)
        at = 0
        while at < len(memory):
            _, at = replay(self._where, address_of(memory), len(memory), at, count)
            if fired := self.fired():
                yield fired

    def sleep_allowed(self) -> bool:
        """Ask to be woken for any record; false if there is one already."""
        return bool(fall_asleep(self._rings, self._flag))

    def awake(self) -> None:
        """Polling again: only urgent records need wake us."""
        wake_up(self._flag)

    def warm(self) -> None:
        """Compile, or load from the cache, everything that runs while tracing."""
        idle = np.zeros(4, np.int64)
        address = address_of(idle)
        saved = self._rings.copy()
        if not self._flag:
            self._rings[:] = [(address, address, address, 0)] * 2
            self._flag = address_of(idle) + 8
            self.drain(0)
            self.sleep_allowed()
            self.awake()
            self._flag = 0
            self._rings[:] = saved
        else:
            self.drain(0)
        for _ in self.feed([]):
            pass
        replay(self._where, address, 0, 0, True)
        self.describe(procs.NONE)
        self.lineage(procs.NONE)
        procs.find(self.state.processes, 0)
        procs.find_recent(self.state.processes, 0, 0)
        procs.end_unseen(self.state.processes, 0)
        procs.list_live(self.state.processes, True, self._line)
        row_of(self.state.processes.spans, 0)
        self.rules.find("args", b"")

    def fired(self) -> Fired | None:
        """What the last record fired, or None."""
        pending = self.state.pending
        count = int(pending[PENDING])
        if not count:
            return None
        rules = tuple(self.rules.alternative_rule[int(n)] for n in self.state.fired[:count])
        return Fired(
            rules,
            int(pending[ENTRY]),
            int(pending[KIND]),
            int(pending[TIME]),
            int(pending[SUBJECT]),
            int(pending[DONE]) & (1 << REFUSABLE_BIT) - 1,
            int(pending[DECIDED]),
            int(pending[IN_SPAN]),
            bool(int(pending[DONE]) >> REFUSABLE_BIT),
        )

    def take_files(self) -> list[tuple[int, int, int, int, int, bytes]]:
        """Executables seen for the first time since the last call: pid, start, device, inode, when, path
        (empty if it is too long).
        """
        files = self.state.files
        count = int(files.state[X_WAITING])
        if not count:
            return []
        files.state[X_WAITING] = 0
        found = []
        for row, path in zip(files.waiting[:count].tolist(), files.paths[:count], strict=True):
            found.append((*row[:W_PATH], path[: row[W_PATH]].tobytes()))
        return found

    def take_gpu_clients(self) -> list[tuple[int, int]]:
        """Processes that have begun to compute on a GPU since the last call, by pid and start."""
        gpu = self.state.gpu
        count = int(gpu.state[ASKED])
        if not count:
            return []
        gpu.state[ASKED] = 0
        return [(int(pid), int(start)) for pid, start in gpu.asks[:count]]

    def gpu_client(self, entry: int) -> str:
        """What kind of client of a GPU the process at ``entry`` is, as far as is known; empty: none."""
        return kind_of_client(int(self.state.processes.table[entry]["gpu"]) >> MARKS)

    def gpu_use(self, entry: int) -> dict[str, int]:
        """What NVML has said of the process at ``entry``, the last time and at most: percent of a card's time, bytes.
        Left out is what is not known.
        """
        if not int(self.state.processes.table[entry]["gpu"]) & USE_KNOWN:
            return {}
        names = ("utilisation", "memory", "utilisation_highest", "memory_highest")
        row = self.state.gpu.use[entry].tolist()
        return {name: value for name, value in zip(names, row, strict=True) if value >= 0}

    def fired_record(self) -> bytes:
        """The network event that fired last, with its first bytes."""
        return self.state.record.tobytes()

    def name_of(self, address: bytes, family: int, now_ns: int) -> bytes:
        """The name that ``address`` (16 bytes, IPv4 in the first four) was looked up by, or nothing."""
        return self.names_of(address, family, now_ns)[0]

    def names_of(self, address: bytes, family: int, now_ns: int) -> list[bytes]:
        """The same, and the aliases that it went through."""
        names = self.state.names
        high, low = address_words(np.frombuffer(address, np.uint8), 0, family)
        row = find_name(names, high, low, now_ns)
        found = names.texts[row, : names.lengths[row]].tobytes() if row >= 0 else b""
        return found.split(b"\0")

    def describe(self, entry: int) -> Program | None:
        """The process at ``entry``; None when the event could not be given to one."""
        p = self.state.processes
        if entry == procs.NONE:
            strings.load(p.arena, strings.NO_BLOCK, 0, 0, self._text)
            return None
        row = p.table[entry]
        image_number = int(row["image"])
        exe = called = cwd = b""
        argv: tuple[bytes, ...] = ()
        flags = 0
        cut = False
        if image_number != procs.NONE:
            image = p.images[image_number]
            lengths = [int(image[k]) for k in ("path_len", "name_len", "cwd_len", "args_len")]
            count = strings.load(p.arena, int(image["block"]), 0, sum(lengths), self._text)
            raw = self._text[:count].tobytes()
            exe, raw = raw[: lengths[0]], raw[lengths[0] :]
            called, raw = raw[: lengths[1]], raw[lengths[1] :]
            cwd, raw = raw[: lengths[2]], raw[lengths[2] :]
            argv = tuple(raw.removesuffix(b"\0").split(b"\0")) if raw else ()
            flags = int(image["flags"])
            cut = int(image["args_total"]) > len(raw)
        return Program(
            int(row["tgid"]),
            int(row["start"]),
            exe,
            called,
            cwd,
            argv,
            cut,
            int(row["uid"]),
            int(row["gid"]),
            int(row["cgroup"]),
            flags,
            int(row["state"]) == procs.LIVE,
        )

    def lineage(self, entry: int) -> list[int]:
        """Entries from ``entry`` up to the tree's root."""
        count = procs.line_of(self.state.processes, entry, self._line)
        return [int(e) for e in self._line[:count]]

    def exe_of(self, entry: int) -> tuple[int, bytes]:
        """(pid, path) of the process at ``entry``."""
        p = self.state.processes
        row = p.table[entry]
        if row["image"] == procs.NONE:
            return int(row["tgid"]), b""
        image = p.images[row["image"]]
        count = strings.load(p.arena, int(image["block"]), 0, int(image["path_len"]), self._text)
        return int(row["tgid"]), self._text[:count].tobytes()

    def spans_of(self, entry: int, serial: int = 0) -> list[OpenedSpan]:
        """The spans that lie around the process at ``entry``, or around the one with this serial, from the
        innermost outwards.
        """
        spans = self.state.processes.spans
        row = int(row_of(spans, serial))
        if row == procs.NONE and entry != procs.NONE:
            row = int(self.state.processes.table[entry]["span"])
        found = []
        while row != procs.NONE:
            r = spans.table[row]
            found.append(
                OpenedSpan(
                    int(r["tgid"]),
                    int(r["start"]),
                    int(r["token"]),
                    bool(r["known"]),
                    spans.texts[row, : int(r["length"])].tobytes(),
                    bool(int(r["flags"]) & schema.SPAN_FLAG["SPAN_CUT"]),
                    int(r["opener"]),
                    int(r["began"]),
                )
            )
            row = int(r["above"])
        return found

    def traceparent_of(self, entry: int) -> bytes:
        """TRACEPARENT of the environment that the process at ``entry`` was executed with, or nothing."""
        p = self.state.processes
        image = procs.NONE if entry == procs.NONE else int(p.table[entry]["image"])
        if image == procs.NONE:
            return b""
        return p.images[image]["trace"].tobytes().partition(b"\0")[0]

    @property
    def live(self) -> int:
        """Processes of the tree that are alive, as far as we know."""
        return int(self.state.processes.state[procs.LIVE_COUNT])

    def live_entries(self, *, imageless: bool = False) -> list[int]:
        """Entries of live processes (only those about which nothing but the pid is known)."""
        found = np.zeros(len(self.state.processes.table), np.int64)
        count = procs.list_live(self.state.processes, imageless, found)
        return [int(e) for e in found[:count]]

    def received(self) -> dict[int, int]:
        """Records taken in, by kind."""
        return {kind: int(self.state.received[kind]) for kind in schema.SENT_KINDS}

    def table_losses(self) -> dict[str, int]:
        """What the bounded tables could not take, and what was found out to be missing."""
        p = self.state.processes
        return {
            "process-table-full": int(p.state[procs.FULL]),
            "processes-forgotten": int(p.state[procs.FORGOTTEN]),
            "image-table-full": int(p.state[procs.IMAGES_FULL]),
            "strings-cut": int(p.arena.state[strings.CUT]),
            "ancestors-collapsed": int(p.state[procs.COLLAPSED]),
            "exits-missed": int(p.state[procs.MISSED_EXIT]),
            "forks-missed": int(p.state[procs.MISSED_FORK]),
            "flow-table-full": int(self.state.flows.state[F_FULL]),
            "flows-forgotten": int(self.state.flows.state[F_FORGOTTEN]),
            "name-table-full": int(self.state.names.state[N_FULL]),
            "names-forgotten": int(self.state.names.state[N_FORGOTTEN]),
            "scan-targets-dropped": int(self.state.scans.state[0]),
            "relay-legs-dropped": int(self.state.relays.state[LEGS_DROPPED]),
            "relay-pairs-dropped": int(self.state.relays.state[PAIRS_DROPPED]),
            "relay-legs-not-compared": int(self.state.relays.state[NOT_COMPARED]),
            "sessions-not-followed": int(self.state.sessions.state[SESSIONS_FULL]),
            "sessions-forgotten": int(self.state.sessions.state[SESSIONS_FORGOTTEN]),
            "beacon-places-dropped": int(self.state.beacons.state[B_DROPPED]),
            "beacon-places-forgotten": int(self.state.beacons.state[B_FORGOTTEN]),
            "dns-domains-dropped": int(self.state.domains.state[D_DROPPED]),
            "dns-domains-forgotten": int(self.state.domains.state[D_FORGOTTEN]),
            "ping-places-forgotten": int(self.state.pings.state[P_FORGOTTEN]),
            "files-not-queued": int(self.state.files.state[X_LOST]),
            "environments-cut": int(p.state[procs.ENVIRONMENTS_CUT]),
            "spans-not-kept": int(p.spans.state[S_FULL]),
            "spans-unknown": int(p.spans.state[S_UNKNOWN]),
            "spans-repeated": int(p.spans.state[S_REPEATED]),
            "gpu-clients-not-looked-at": int(self.state.gpu.state[NOT_ASKED]),
            "malformed": int(self.state.malformed[0]),
            "engine-errors": errors(),
        }

    @property
    def live_flows(self) -> int:
        """Flows in the table."""
        return int(self.state.flows.state[F_LIVE])

    @property
    def legs_moved(self) -> bool:
        """Has a connection carried something since the last pass, and ended?"""
        state = self.state.relays.state
        return bool(state[MOVED_OUTSIDE] or state[MOVED_INSIDE])

    def lag_percentile(self, share: float) -> float | None:
        """Hook → engine in ns, upper edge of the bucket that holds ``share`` of urgent records."""
        lag: npt.NDArray[np.int64] = self.state.lag
        total = int(lag.sum())
        if not total:
            return None
        bucket = int(np.searchsorted(np.cumsum(lag), share * total))
        return bucket_edge(min(bucket, LAG_BUCKETS - 1))


def bucket_edge(bucket: int) -> float:
    """The upper edge, in ns, of a lag bucket."""
    octave, quarter = divmod(bucket, 4)
    return float((quarter + 5) << octave)


__all__ = ["BATCH", "Engine", "Fired", "Program", "bucket_edge", "lag_bucket"]
