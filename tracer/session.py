# SPDX-License-Identifier: Apache-2.0
"""From options to a watch that runs and ends well: set-up, signals, exit status, clean-up.

The order of a start is: fork the command (held), check the host, load and attach the probes, put the
command into the tree, load the engine, let the command go. An engine that has yet to be compiled is
not waited for: the command goes first, and its events wait in the ring.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.cli.options import WatchOptions, gpu_users
from tracer.errors import HostError, VigilesError
from tracer.kernel import cgroup, host
from tracer.launch import Command, Identity, invoking_user, user_named
from tracer.signals import RELOAD, SignalQueue
from tracer.text import decode

if TYPE_CHECKING:
    from tracer.alerts import Alert
    from tracer.kernel.probes import ProbeOptions, Probes
    from tracer.policy import Policy
    from tracer.rules import RuleSet
    from tracer.summary import Summary
    from tracer.watch import Sink, Watch

#: Say so when loading or compiling the engine takes longer than this.
_SLOW_S = 2.0


def _say(options: WatchOptions, line: str) -> None:
    if not options.quiet and not options.as_json:
        print(f"vigiles: {line}", file=sys.stderr, flush=True)


def _sinks(options: WatchOptions, group: int | None) -> list[Sink]:
    from tracer.sinks.jsonl import JsonLines
    from tracer.sinks.terminal import JsonTerminal, Terminal

    sinks: list[Sink] = []
    if options.alerts:
        sinks.append(JsonLines(options.alerts, group=group))
    if options.as_json:
        sinks.append(JsonTerminal())
    elif not options.quiet:
        sinks.append(Terminal())
    return sinks


def _probe_options(options: WatchOptions, rules: RuleSet, **more: Any) -> ProbeOptions:
    from tracer.gpu.devices import discover, stand_in
    from tracer.kernel.probes import ProbeOptions

    devices = (*discover(), *(stand_in(text) for text in options.gpu_device))
    return ProbeOptions(
        critical_bytes=options.critical_mib << 20,
        bulk_bytes=options.bulk_mib << 20,
        devices=devices,
        rules=rules,
        **more,
    )


def _watch(
    stack: ExitStack,
    probes: Probes,
    rules: RuleSet,
    sinks: list[Sink],
    options: WatchOptions,
    tree: str,
    own_cgroup: Path | None = None,
    policy: Policy | None = None,
) -> Watch:
    """The engine and its loop; what is not in the cache is compiled here, with the watch armed."""
    began = time.monotonic()
    from tracer import jit
    from tracer.engine.engine import Engine
    from tracer.watch import Guard, Watch

    users = gpu_users(options)
    if users is None and policy is not None:
        users = policy.gpu_users
    engine = Engine(rules, users)
    on_records = None
    if options.verbose:
        from tracer.sinks.events import EventPrinter

        on_records = EventPrinter().take
    guard = Guard(enforce=_enforces(options, policy), cgroup=own_cgroup, excuse=_excuse(policy))
    watch = Watch(probes, engine, sinks, tree=tree, on_records=on_records, guard=guard)
    stack.callback(watch.close)
    engine.warm()
    jit.mark_warm()
    if (took := time.monotonic() - began) > _SLOW_S:
        _say(options, f"compiled the engine in {took:.0f} s (once; events waited in the ring)")
    return watch


def _enforces(options: WatchOptions, policy: Policy | None) -> bool:
    return options.enforce or (policy is not None and policy.mode == "enforce")


def _excuse(policy: Policy | None) -> Callable[[Alert], bool] | None:
    """Whether the policy excuses an alert; None if it excuses nothing."""
    if policy is None or not policy.exceptions:
        return None

    def excuse(alert: Alert) -> bool:
        program, evidence = alert.program, alert.evidence
        return (
            policy.excused(
                alert.rule.id,
                decode(program.exe) if program else "",
                [decode(a) for a in program.argv] if program else [],
                evidence.get("remote_address"),
                evidence.get("remote_port"),
                evidence.get("remote_name"),
            )
            is not None
        )

    return excuse


def _settled(options: WatchOptions) -> tuple[Policy | None, RuleSet]:
    """The policy, if there is one, and the rules under it."""
    from tracer.policy import load_policy, load_rules_under

    policy = load_policy(options.policy) if options.policy else None
    return policy, load_rules_under(policy, options.rules)


def _tell_summary(summary: Summary, options: WatchOptions) -> None:
    if options.as_json:
        import json

        print(json.dumps(summary.to_json(), separators=(",", ":")), file=sys.stderr, flush=True)
    elif not options.quiet:
        for line in summary.lines():
            _say(options, line)


def run_command(argv: list[str], options: WatchOptions, user: str | None) -> int:
    """Run ``argv`` under watch; its exit status."""
    host.require()
    gpu_users(options)
    identity = user_named(user) if user else invoking_user()
    with ExitStack() as stack:
        # Before any thread exists: the child is a plain copy of a process with one thread.
        command = Command(argv, identity)
        stack.callback(command.close)
        queue = SignalQueue()
        stack.callback(queue.close)
        return _run(stack, command, queue, options, identity)


def _run(
    stack: ExitStack,
    command: Command,
    queue: SignalQueue,
    options: WatchOptions,
    identity: Identity | None,
) -> int:
    from tracer import jit
    from tracer.kernel.probes import Probes

    policy, rules = _settled(options)
    sinks = _sinks(options, identity.gid if identity else None)
    for sink in sinks:
        stack.callback(sink.close)
    cgroup.remove_stale()
    tree_cgroup = cgroup.TreeCgroup.create()
    stack.callback(tree_cgroup.remove)
    probes = Probes(_probe_options(options, rules, own_cgroup=tree_cgroup.path))
    stack.callback(probes.close)
    tree_cgroup.add(command.pid)
    probes.attach_kernel()
    probes.attach_cgroup(tree_cgroup.path)
    probes.track(command.pidfd)
    cold = not jit.is_warm()
    if cold:
        command.release()
    place = tree_cgroup.path
    watch = _watch(stack, probes, rules, sinks, options, place.name, place, policy)
    watch.repair()
    if not cold:
        command.release()
    watch.wait_for(queue.fd)
    watch.wait_for(command.pidfd)
    _follow(watch, queue, options, command)
    summary = watch.finish()
    _tell_summary(summary, options)
    return command.poll() or 0


def _reload(watch: Watch, options: WatchOptions) -> None:
    """Read policy and rule files again; with a mistake in them, those that hold go on to hold."""
    try:
        policy, found = _settled(options)
        watch.reload(found, _excuse(policy))
        watch.orders.enforce = _enforces(options, policy)
    except VigilesError as error:
        _say(options, f"rules not reloaded: {error}")
        if error.hint:
            _say(options, f"  {error.hint}")
    else:
        rules = watch.engine.rules
        _say(options, f"rules reloaded: {sum(rule.enabled for rule in rules.rules)} rules")


def _told_to_end(watch: Watch, queue: SignalQueue, options: WatchOptions) -> bool:
    end = False
    for received in queue.take():
        if received.number == RELOAD:
            _reload(watch, options)
        else:
            end = True
    return end


def _pass_on(number: int, command: Command) -> None:
    try:
        signal.pidfd_send_signal(command.pidfd, number)
    except ProcessLookupError:
        pass


def _follow(watch: Watch, queue: SignalQueue, options: WatchOptions, command: Command) -> None:
    """Watch until the tree is empty, or the command has ended and a signal says that is enough."""
    told = False
    terms = 0
    while True:
        watch.step()
        ended = command.poll() is not None
        for received in queue.take():
            if received.number == RELOAD:
                _reload(watch, options)
                continue
            if ended:
                return
            if received.number == signal.SIGTERM:
                terms += 1
                if terms > 1:
                    _say(options, "second SIGTERM: the watch ends, the command goes on")
                    return
            if not received.from_terminal:
                _pass_on(received.number, command)
        if not ended:
            continue
        if not told:
            watch.stop_waiting_for(command.pidfd)
        if options.detach_on_exit or watch.tree_is_empty():
            return
        if not told:
            told = True
            _say(options, "the command has ended, processes of its tree go on: still watching (Ctrl-C ends)")


def attach_to(pids: list[int], path: Path | None, options: WatchOptions) -> int:
    """Watch the trees below ``pids``, or the cgroup at ``path``, until they are empty or Ctrl-C."""
    host.require()
    if path is not None:
        pids = sorted(_cgroup_members(path))
    with ExitStack() as stack:
        queue = SignalQueue()
        stack.callback(queue.close)
        from tracer.kernel.probes import Probes

        policy, rules = _settled(options)
        sinks = _sinks(options, None)
        for sink in sinks:
            stack.callback(sink.close)
        cgroup.remove_stale()
        more: dict[str, Any] = {"by_lineage": True}
        if path is not None:
            more = {
                "tree_cgroup": cgroup.identity(path),
                "tree_cgroup_level": cgroup.level(path),
                "own_cgroup": path,
            }
        probes = Probes(_probe_options(options, rules, **more))
        stack.callback(probes.close)
        probes.attach_kernel()
        _track_all(probes, pids)
        found = _cgroups_of(int(pid) for pid in probes.tasks()["tgid"])
        for place in [path] if path is not None else _topmost(found):
            probes.attach_cgroup(place)
        tree = path.name if path is not None else f"pid-{pids[0]}"
        watch = _watch(stack, probes, rules, sinks, options, tree, None, policy)
        processes = watch.repair()
        _say(options, f"watching {processes} processes, {watch.adopt_flows()} of their flows")
        watch.wait_for(queue.fd)
        while not _told_to_end(watch, queue, options):
            watch.step()
            if path is None and not watch.engine.live and watch.tree_is_empty():
                break
        _tell_summary(watch.finish(), options)
    return 0


def _cgroups_of(pids: Iterable[int]) -> set[Path]:
    """The cgroups that these processes are in; those that have ended meanwhile are in none."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            found.add(cgroup.of_process(pid))
    return found


def _cgroup_members(path: Path) -> set[int]:
    if not (path / "cgroup.procs").exists():
        raise VigilesError(
            f"{path} is no cgroup of the v2 hierarchy", hint=f"they lie below {host.cgroup2_root()}"
        )
    return cgroup.processes(path)


def _track_all(probes: Probes, pids: list[int]) -> None:
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise VigilesError(f"there is no process {pid}") from None
        except OSError as error:
            raise HostError(f"can't open process {pid}: {error.strerror}") from None
        try:
            probes.track(fd)
        finally:
            os.close(fd)


def _topmost(paths: set[Path]) -> list[Path]:
    """Those that lie below none of the others."""
    return sorted(p for p in paths if not any(q != p and q in p.parents for q in paths))
