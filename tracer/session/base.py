# SPDX-License-Identifier: Apache-2.0
"""What every session has, whatever it watches."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.cli.options import WatchOptions, gpu_users
from tracer.errors import HostError, VigilesError
from tracer.kernel import cgroup, pins
from tracer.privileges import confine
from tracer.rundir import DIRECTORY, register
from tracer.session import duties
from tracer.session.adopt import clear_leftovers
from tracer.session.outlets import Outlets
from tracer.signals import RELOAD, SignalQueue
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.alerts import Alert
    from tracer.engine.engine import Engine
    from tracer.kernel.probes import ProbeOptions, Probes
    from tracer.observer import Observe, Observer
    from tracer.policy import Policy
    from tracer.record.files import PartFiles
    from tracer.record.recorder import Recorder
    from tracer.record.writer import WriteOptions
    from tracer.rules import RuleSet
    from tracer.watch import Watch

#: Say so when loading or compiling the engine takes longer than this.
_SLOW_S = 2.0


def _known(users: tuple[str, ...]) -> tuple[str, ...]:
    """``--gpu-user`` with files by their numbers. Raises HostError."""
    from tracer.policy.files import known_user
    from tracer.policy.unfit import Unfit

    try:
        return tuple(known_user(text) for text in users)
    except Unfit as wrong:
        raise HostError(f"--gpu-user {wrong.message}", hint=wrong.hint) from None


class Session:
    """One watch from set-up to summary. Whatever it makes is given back by ``stack``.

    ``group``: may read the alert file and the recording. ``command``: what is run, for the latter. ``keep_privileges``: the process has other things to do.
    ``observe``: makes whoever is to see every record.
    """

    def __init__(
        self,
        stack: ExitStack,
        options: WatchOptions,
        queue: SignalQueue,
        *,
        group: int | None = None,
        keep_privileges: bool = False,
        observe: Observe | None = None,
        command: list[str] | None = None,
    ) -> None:
        self._command = command
        self._observe = observe
        self._observer: Observer | None = None
        self.stack = stack
        self.options = options
        self.queue = queue
        self._confines = not keep_privileges
        duties.require(options)
        self.policy, self.rules = self._read()
        self._outlets = Outlets(stack, options, group)
        self._record = self._open_record(group)
        cgroup.remove_stale()
        for tree in clear_leftovers():
            self.say(f"tree {tree} is guarded, but nobody watches it: vigiles attach --tree {tree}")

    def say(self, line: str) -> None:
        """Tell the person at the terminal."""
        self._outlets.say(line)

    def _read(self) -> tuple[Policy | None, RuleSet]:
        """The policy, if there is one, and the rules under it. Raises FileError."""
        from tracer.policy import load_policy, load_rules_under

        policy = load_policy(self.options.policy) if self.options.policy else None
        rules = load_rules_under(policy, self.options.rules)
        users = gpu_users(self.options)
        if users is not None:
            rules = rules.under(replace(rules.terms, gpu_users=_known(users)))
        return policy, rules

    def _open_record(self, group: int | None) -> tuple[PartFiles, WriteOptions] | None:
        """The file of a recording, as long as it can still be said that there can't be one."""
        if self.options.record is None:
            return None
        from tracer.record.open import open_files, write_options

        how = write_options(self.options)
        files = open_files(self.options.record, self.options, group)
        self.stack.callback(files.close)
        if group is not None and self.options.record_rotates:
            # whoever has no CAP_CHOWN left may give later files only to a group of his own (chown(2))
            os.setgroups([*os.getgroups(), group])
        return files, how

    def _recorder(self, engine: Engine, probes: Probes, tree: str) -> Recorder | None:
        if self._record is None:
            return None
        from tracer.record.open import begin

        files, how = self._record
        recorder = begin(
            files,
            how,
            engine,
            tree,
            probes,
            policy=lambda: self.policy,
            enforces=lambda: self.enforces,
            command=self._command,
        )
        self.stack.callback(recorder.close)
        self._outlets.sinks.append(recorder)
        return recorder

    @property
    def enforces(self) -> bool:
        """Is what rules call for done?"""
        return self.options.enforce or (self.policy is not None and self.policy.mode == "enforce")

    def probe_options(self, **more: Any) -> ProbeOptions:
        """What is settled before the probes are loaded."""
        from tracer.gpu.devices import discover, stand_in
        from tracer.kernel.probes import ProbeOptions

        devices = (*discover(), *(stand_in(text) for text in self.options.gpu_device))
        return ProbeOptions(
            critical_bytes=self.options.critical_mib << 20,
            bulk_bytes=self.options.bulk_mib << 20,
            devices=devices,
            rules=self.rules,
            **more,
        )

    def load_probes(self, **more: Any) -> Probes:
        """Probes for this watch; ``more``: see :class:`ProbeOptions`. Raises LoadError, RuleError.

        While the kernel checks them, this thread loads the engine's code: both take long.
        """
        from concurrent.futures import ThreadPoolExecutor

        from tracer import jit
        from tracer.kernel.probes import Probes

        options = self.probe_options(**more)
        with ThreadPoolExecutor(1) as other:
            loading = other.submit(Probes, options)
            if jit.is_warm():  # compiling would keep a command waiting
                import tracer.watch  # noqa: F401 - the engine with it
            return loading.result()

    def list_tree(self, probes: Probes, tree: str, path: Path | None, mode: str) -> None:
        """Have other commands find the tree. A watch is worth more than a listing."""
        try:
            self.stack.enter_context(register(tree, path, mode, probes.remains()))
        except HostError as error:
            self._outlets.complain("other commands won't find this watch", error)

    def learn_spans(self, probes: Probes) -> list[bytes]:
        """Spans that other watches of these processes know to be open; see :meth:`Watch.adopt_spans`."""
        from tracer.session.neighbours import learn_spans

        records, remarks = learn_spans(probes)
        for remark in remarks:
            self.say(remark)
        return records

    def guard(self, probes: Probes, tree: str) -> None:
        """If this watch enforces, have the probes go on whatever becomes of it."""
        if not self.enforces:
            return
        try:
            probes.require_lasting()
            held = pins.Pins(tree)
        except HostError as error:
            self._outlets.complain("what is enforced ends with this process", error)
            return
        self.stack.enter_context(held)
        probes.pin(held)

    def guard_files(self, probes: Probes, tree: str) -> None:
        """Have the tree leave alone what this watch reads and writes, where the kernel lets us refuse that."""
        named = (self.options.alerts, self.options.policy, self.options.record, *self.options.rules)
        paths = (DIRECTORY, pins.folder_of(tree), *(Path(path) for path in named if path))
        for path, error in probes.guard_files(path for path in paths if path.exists()):
            self.say(f"the tree could change {printable(str(path))}: {error.strerror}")

    def watch(
        self, probes: Probes, tree: str, own_cgroup: Path | None, writes_to: tuple[Path, ...] = ()
    ) -> Watch:
        """The engine and its loop; what is not in the cache is compiled here, with the watch armed.

        ``own_cgroup``: where the tree is alone. ``writes_to``: see :func:`tracer.privileges.confine`.
        """
        began = time.monotonic()
        from tracer import jit
        from tracer.engine.engine import Engine
        from tracer.teller import Guard
        from tracer.watch import Watch

        footholds = duties.watch_footholds(self.stack, self._outlets)
        engine = Engine(self.rules)
        on_records = self._takers(engine)
        engine.warm()
        recorder = self._recorder(engine, probes, tree)
        if self.options.record is not None and self.options.record_rotates:
            writes_to = (*writes_to, self.options.record.parent)
        nvml = duties.ask_nvml(self.stack, self.options, self.say)
        if self._confines:
            self._confine(writes_to)  # the watch and its sinks have threads, which inherit
        self._outlets.start()
        guard = Guard(enforce=self.enforces, cgroup=own_cgroup, excuse=self._excuses)
        watch = Watch(
            probes,
            engine,
            self._outlets.sinks,
            tree=tree,
            on_records=on_records,
            one_by_one=self._observer is not None and self._observer.one_by_one,
            recorder=recorder,
            guard=guard,
            duties=duties.of(engine, footholds, nvml),
        )
        self.stack.callback(watch.close)
        jit.mark_warm()
        if (took := time.monotonic() - began) > _SLOW_S:
            self.say(f"compiled the engine in {took:.0f} s (once; events waited in the ring)")
        return watch

    def _takers(self, engine: Engine) -> Callable[[bytes], None] | None:
        """Who is handed every record; None, as usual, if nobody is."""
        takers = []
        if self._observe is not None:
            self._observer = self._observe(engine)
            self._outlets.sinks.append(self._observer)
            takers.append(self._observer.take)
        if self.options.verbose:
            from tracer.sinks.events import EventPrinter

            takers.append(EventPrinter().take)

        def hand_on(tap: bytes) -> None:
            for take in takers:
                take(tap)

        return hand_on if takers else None

    def _confine(self, writes_to: tuple[Path, ...]) -> None:
        from tracer.promptness import schedule_promptly

        schedule_promptly()  # which takes a capability that is not kept
        for remark in confine(writes_to=writes_to, resets=self.enforces).remarks:
            self.say(remark)

    def _excuses(self, alert: Alert) -> bool:
        """Does the policy have an exception for it?"""
        from tracer.policy.excuse import excuses

        return self.policy is not None and excuses(self.policy, alert)

    def reload(self, watch: Watch) -> None:
        """Read policy and rule files again; with a mistake in them, those that hold go on to hold."""
        try:
            policy, rules = self._read()
            watch.reload(rules)
        except VigilesError as error:
            self._outlets.complain("rules not reloaded", error)
            return
        self.policy, self.rules = policy, rules
        watch.orders.enforce = self.enforces
        self.say(f"rules reloaded: {sum(rule.enabled for rule in rules.rules)} rules")

    def told_to_end(self, watch: Watch) -> bool:
        """Take in the signals that have come: was there one that ends the watch?"""
        end = False
        for received in self.queue.take():
            if received.number == RELOAD:
                self.reload(watch)
            else:
                end = True
        return end

    def tell_summary(self, watch: Watch) -> None:
        """Drain what is left, and say what there was."""
        ended = self._observer is not None and watch.tree_is_empty()
        summary = watch.finish()
        summary.sinks_failed = self._outlets.settle()  # what waits is written first: it is in the sums
        if self._observer is not None:
            self._observer.finished(summary, ended=ended)
        self._outlets.tell_summary(summary)
