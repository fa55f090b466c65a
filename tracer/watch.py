# SPDX-License-Identifier: Apache-2.0
"""One watch over one tree: arm, drain, tell, repair, sum up."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np

from tracer import clock
from tracer.alerts import AlertBuilder, Origin
from tracer.duties import Duty
from tracer.duties.rounds import NEVER, Rounds
from tracer.duties.samples import Efforts, Samples
from tracer.engine import reconcile
from tracer.engine.drain import FIRED, MORE, TAP_FULL
from tracer.engine.engine import BATCH, Engine
from tracer.examining import Examining
from tracer.gpu.libraries import GpuClients
from tracer.kernel import cgroup, schema
from tracer.kernel.probes import Probes
from tracer.losses import Losses
from tracer.mapped import Mapped
from tracer.pace import POLL_S, Pace
from tracer.promptness import release_memory, schedule_promptly, settle_memory
from tracer.record.recorder import BLOCK_BYTES, CGROUPS_MAX, Recorder
from tracer.record.snapshot import Snapshot
from tracer.rehearsal import rehearse
from tracer.respond.acts import Identity
from tracer.respond.orders import Orders
from tracer.respond.responder import Responder
from tracer.reteach import reteach
from tracer.rules import RuleSet
from tracer.summary import Summary, Tally, summarise
from tracer.teller import OBSERVE, Guard, Sink, Teller

#: Housekeeping: loss counters, repair, clock.
TICK_S = 0.25
TAP_BYTES = 1 << 22
#: How long the end of a watch waits for executed files that are still being read.
FILES_PATIENCE_S = 2.0

assert schema.HEAD.fields is not None
#: Where a record says which process it is about.
_WHO = slice(schema.HEAD.fields["start"][1], schema.HEAD.fields["tid"][1])


class Watch:
    """Reads the rings of ``probes`` with ``engine`` and tells ``sinks``.

    ``on_records`` is given every record as the engine taps it; ``one_by_one``: each while the engine stands
    right behind it. ``recorder`` is told of everything. ``duties``: those beside what every watch sees to.
    """

    def __init__(
        self,
        probes: Probes,
        engine: Engine,
        sinks: Iterable[Sink],
        *,
        tree: str,
        on_records: Callable[[bytes], None] | None = None,
        one_by_one: bool = False,
        recorder: Recorder | None = None,
        guard: Guard = OBSERVE,
        duties: Iterable[Duty] = (),
    ) -> None:
        self.probes = probes
        self.engine = engine
        self.tally = Tally()
        self._recorder = recorder
        origin = Origin(tree, socket.gethostname(), lru_cache(CGROUPS_MAX)(self._cgroup_path))
        self._builder = AlertBuilder(engine, origin, clock.wall_offset_ns())
        self._on_records = on_records
        self._tap_enough = 1 if on_records is not None else BLOCK_BYTES
        self._batch = 1 if one_by_one else BATCH
        self.orders = Orders(probes.map("control").fd, probes.map("cuts").fd)
        self.orders.enforce = guard.enforce
        self.orders.protect(os.getpid(), cgroup.identity(cgroup.of_process()))
        self.responder = Responder(self.orders, self._identities, guard.cgroup)
        self._teller = Teller(
            engine, self._builder, self.responder, sinks, self.tally, excuse=guard.excuse, recorder=recorder
        )
        if on_records is not None or recorder is not None:
            engine.tap_into(TAP_BYTES)
        if recorder is not None:
            recorder.before = self._take_tap
            recorder.clock(self._builder.wall_offset_ns)
            engine.journal = recorder
        if probes.knowledge is not None:
            engine.judge_by(engine.rules, probes.knowledge.epoch)
        self._mapped = Mapped(probes, engine)
        self._poll = select.epoll()
        for fd in self._mapped.fds:
            self._poll.register(fd, select.EPOLLIN)
        all_duties = (Samples(probes, engine), Efforts(probes, engine), *duties, GpuClients(engine))
        self._rounds = Rounds(all_duties, self._poll, self._teller.feed)
        self._own = self._rounds.fds.union(self._mapped.fds)
        self._start_examining(engine.rules)
        rehearse(engine.rules, tree)
        settle_memory()
        schedule_promptly()
        self._began = self._next_tick = time.monotonic()
        self._pace = Pace()
        self._recorder_goes_on = False
        self._losses = Losses(probes, engine)

    def wait_for(self, fd: int) -> None:
        """Come back from waiting when ``fd`` becomes readable, too."""
        self._poll.register(fd, select.EPOLLIN)

    def stop_waiting_for(self, fd: int) -> None:
        """``fd`` says nothing new any more."""
        self._poll.unregister(fd)

    def reload(self, rules: RuleSet) -> None:
        """Judge by ``rules`` from now on. Raises RuleError when they can't be taken in while tracing.

        The probes go first. What they have judged by the old rules and still waits in the rings is
        judged again here, by the new ones: no event is judged by half of each.
        """
        epoch = self.probes.reload(rules)
        self.engine.judge_by(rules, epoch or self.engine.state.epoch[0] - 1)
        if epoch:
            reteach(self.engine, self.probes.map("named"))
        self._stop_examining()
        self._start_examining(rules)

    def _start_examining(self, rules: RuleSet) -> None:
        self._examining = Examining(self.engine, self._builder, rules)
        self._poll.register(self._examining.ready, select.EPOLLIN)

    def _stop_examining(self) -> None:
        self._poll.unregister(self._examining.ready)
        self.tally.files_lost.update(self._examining.close())

    def step(self) -> None:
        """Take in what there is, tell what fired, then wait a little for more."""
        while True:
            taken = self._drain_all(self._next_tick)
            now = time.monotonic()
            self._pace.took(taken, now)
            if now >= self._next_tick:
                self._next_tick = now + TICK_S
                self._tick()
                return
            if now >= self._rounds.due:
                self._rounds.next_by_clock()
                continue
            if self._recorder_goes_on or self._pace.is_storm(now):
                if self._wait(0 if self._recorder_goes_on else POLL_S):
                    return
            elif self.engine.sleep_allowed():
                interrupted = self._wait(min(self._next_tick, self._rounds.due) - now)
                self.engine.awake()
                if interrupted:
                    return

    def _wait(self, seconds: float) -> bool:
        """True when something else than a ring, a duty or the examiner has something to say."""
        ready = {fd for fd, _ in self._poll.poll(max(seconds, 0))}
        if self._examining.ready in ready:
            self._take_reports()
        if speaking := ready & self._rounds.fds:
            self._listen(speaking)
        return bool(ready - self._own - {self._examining.ready})

    def _listen(self, fds: Iterable[int]) -> None:
        """Have duties say what they can; who that is about may have been born a moment ago."""
        self._drain_all(NEVER)
        self._rounds.listen(fds)

    def _drain_all(self, until: float) -> int:
        """Drain until the rings are empty, or that time has come; how many records."""
        total = 0
        while True:
            why, count = self.engine.drain(self._batch)
            total += count
            if why == FIRED:
                fired = self.engine.fired()
                if fired is not None:
                    self._teller.tell(fired)
            if self.engine.tapped >= self._tap_enough or why == TAP_FULL:
                self._take_tap()
            self._recorder_goes_on = self._recorder is not None and self._recorder.go_on()
            self._examining.submit()
            for duty in self._rounds.following:
                if records := duty.take():
                    self._teller.feed(records)
            if why not in (FIRED, TAP_FULL, MORE):
                return total
            if time.monotonic() >= until:
                return total

    def _take_tap(self) -> None:
        """Hand on what the engine has tapped."""
        if not self.engine.tapped:
            return
        laid, count = self.engine.take_tap()
        if self._recorder is not None:
            self._recorder.records(laid, count)
        if self._on_records is not None:
            self._on_records(laid)

    def _cgroup_path(self, number: int) -> str:
        path = cgroup.path_of(number)
        if self._recorder is not None:
            self._recorder.cgroup(number, path)
        return path

    def _identities(self) -> list[Identity]:
        """The processes that are in the tree now, by the kernel's word."""
        return self.probes.tree.identities()

    def _take_reports(self) -> None:
        """Judge what has been found out about executed files."""
        for found in self._examining.answers():
            if self._recorder is not None:
                self._recorder.file(found.report, found.who)
            for fired in self.engine.feed([found.record], count=False):
                self._teller.tell(fired, found.report, found.who)

    def _tick(self) -> None:
        """Repair what a loss may have broken."""
        if self._rounds.fds:
            self._listen(self._rounds.fds)  # under a storm nobody waits
        counters = self.probes.counters()
        self._refresh_clock()
        if self._recorder is not None:
            self._recorder.losses(counters["lost"].sum(axis=0), counters["reasons"].sum(axis=0))
            self._recorder.turn(lambda: Snapshot(self.engine))
        if self._losses.left_a_gap(counters):
            self.repair()
        if self._losses.left_out_births():
            for fired in reconcile.fill_in(self.engine, reconcile.nameless(self.engine)):
                self._teller.tell(fired)

    def _refresh_clock(self) -> None:
        """Measure the wall clock again."""
        now = clock.wall_offset_ns()
        if abs(now - self._builder.wall_offset_ns) > clock.JITTER_NS:
            self._builder.wall_offset_ns = now
            if self._recorder is not None:
                self._recorder.clock(now)

    def repair(self, *, judge: bool = True) -> int:
        """Make the process table agree with the kernel; how many processes are in the tree.

        ``judge``: find out what those run that were not seen to execute it, and judge that; of a command
        that is still held it would be ourselves.

        The order matters: the list first, then whatever the rings hold. So an exit of somebody on
        the list is still to come, and who was born before the list but is not on it has ended.
        """
        before = clock.boottime_ns()
        tasks = self.probes.tasks()
        for identity in np.unique(tasks["cgroup"]):
            self._builder.origin.cgroup_path(int(identity))
        stale = reconcile.take_in(self.engine, tasks)
        self._drain_all(self._next_tick)
        reconcile.end_missing(self.engine, before)
        if judge:
            for fired in reconcile.fill_in(self.engine, stale):
                self._teller.tell(fired)
        self._examining.submit()
        return len(tasks)

    def adopt_spans(self, records: Iterable[bytes]) -> None:
        """Take in the spans that the tree has open, as probes remember them.

        Before :meth:`repair`, which finds out who is in them.
        """
        for _ in self.engine.feed(records, count=False):
            pass

    def adopt_flows(self) -> int:
        """Take in the flows that the tree had before the watch; how many."""
        records = self.probes.sockets()
        self._teller.feed(records)
        return len(records)

    def adopt_devices(self) -> int:
        """Take in the GPUs that the tree held before the watch; how many processes hold one."""
        records = self.probes.held_devices()
        self._teller.feed(records)
        self._rounds.settle(self._rounds.following)
        return len({record[_WHO] for record in records})

    def tree_is_empty(self) -> bool:
        """Ask the kernel, not the table: is no process of the tree left?"""
        return self.probes.tree.is_empty()

    def _finish_examining(self) -> None:
        """Give the last files a moment: the program that mattered may have been the last."""
        end = time.monotonic() + FILES_PATIENCE_S
        while self._examining.unanswered > 0 and (left := end - time.monotonic()) > 0:
            self._wait(min(left, TICK_S))

    def finish(self) -> Summary:
        """Drain what is left and sum up."""
        self._drain_all(NEVER)
        self._rounds.settle()
        self._finish_examining()
        self.tally.duties_lost = self._rounds.lost()
        self._stop_examining()
        self._teller.finish()
        self.responder.close()
        seconds = time.monotonic() - self._began
        summary = summarise(
            self.engine, self.probes, self.tally, self.responder, seconds, self._teller.failed()
        )
        if self._recorder is not None:
            self._take_tap()
            self._recorder.end(summary.to_json())
            self._recorder.close()
            summary.recorded = self._recorder.sums()
        return summary

    def close(self) -> None:
        """Unmap the rings. The probes are closed by whoever made them."""
        self._examining.close()
        self.responder.close()
        self._poll.close()
        self._mapped.close()
        self.orders.close()
        release_memory()
