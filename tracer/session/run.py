# SPDX-License-Identifier: Apache-2.0
"""A command of our own under watch.

The order of a start is: fork the command (held), check the host, load and attach the probes, put the
command into the tree, load the engine, give up what is not needed any more, let the command go. An
engine that has yet to be compiled is not waited for: the command goes first, and its events wait in
the ring. Nothing that the tree chose is looked at before the privileges are given up.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tracer.cli.options import WatchOptions, gpu_users
from tracer.kernel import cgroup, loader
from tracer.launch import Command, Identity, invoking_user, user_named
from tracer.privileges import import_numpy_alone
from tracer.session.base import Session
from tracer.signals import RELOAD, SignalQueue

if TYPE_CHECKING:
    from tracer.observer import Observe
    from tracer.watch import Watch


def run_command(
    argv: list[str],
    options: WatchOptions,
    user: str | None,
    observe: Observe | None = None,
    *,
    keep_privileges: bool = False,
) -> int:
    """Run ``argv`` under watch; its exit status. ``observe`` makes whoever is to see every record.

    The calling process is fit for nothing else afterwards, see :mod:`tracer.privileges`, unless
    ``keep_privileges``.
    """
    loader.require(options.loader, options.btf)
    gpu_users(options)
    identity = identity_of(user)
    with ExitStack() as stack:
        # Before any thread exists: the child is a plain copy of a process with one thread.
        command = Command(argv, identity)
        stack.callback(command.close)
        queue = SignalQueue()
        stack.callback(queue.close)
        import_numpy_alone()
        group = identity.gid if identity else None
        session = Session(
            stack,
            options,
            queue,
            group=group,
            keep_privileges=keep_privileges,
            observe=observe,
            command=argv,
        )
        return _run(session, command)


def identity_of(user: str | None) -> Identity | None:
    """Whom a command runs as: ``user``, or whoever called sudo; None: as we do."""
    return user_named(user) if user else invoking_user()


def _run(session: Session, command: Command) -> int:
    from tracer import jit

    stack = session.stack
    tree_cgroup = cgroup.TreeCgroup.create()
    stack.callback(tree_cgroup.remove)
    path, tree = tree_cgroup.path, tree_cgroup.path.name
    probes = session.load_probes(own_cgroup=path)
    stack.callback(probes.close)
    tree_cgroup.add(command.pid)
    probes.attach_kernel()
    probes.attach_cgroup(path)
    probes.track(command.pidfd)
    session.list_tree(probes, tree, path, "run")
    session.guard(probes, tree)
    session.guard_files(probes, tree)
    spans = session.learn_spans(probes)
    cold = not jit.is_warm()
    if cold:
        command.release()
    watch = session.watch(probes, tree, path, (path.parent,))
    watch.adopt_spans(spans)
    watch.repair(judge=False)
    if not cold:
        command.release()
    watch.wait_for(session.queue.fd)
    watch.wait_for(command.pidfd)
    _follow(session, watch, command)
    session.tell_summary(watch)
    return command.poll() or 0


def _pass_on(number: int, command: Command) -> None:
    try:
        signal.pidfd_send_signal(command.pidfd, number)
    except ProcessLookupError:
        pass


def _follow(session: Session, watch: Watch, command: Command) -> None:
    """Watch until the tree is empty, or the command has ended and a signal says that is enough."""
    told = False
    terms = 0
    while True:
        watch.step()
        ended = command.poll() is not None
        for received in session.queue.take():
            if received.number == RELOAD:
                session.reload(watch)
                continue
            if ended:
                return
            if received.number == signal.SIGTERM:
                terms += 1
                if terms > 1:
                    session.say("second SIGTERM: the watch ends, the command goes on")
                    return
            if not received.from_terminal:
                _pass_on(received.number, command)
        if not ended:
            continue
        if not told:
            watch.stop_waiting_for(command.pidfd)
        if session.options.detach_on_exit or watch.tree_is_empty():
            return
        if not told:
            told = True
            session.say("the command has ended, processes of its tree go on: still watching (Ctrl-C ends)")
