# SPDX-License-Identifier: Apache-2.0
"""Looking on: a tree that runs, and that somebody else may watch, is shown and left alone.

What is asked of the tree and answered (spans, refusals) is not attached: another watch answers it, and two that know
different things would contradict each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tracer import rundir
from tracer.cli.options import WatchOptions
from tracer.errors import VigilesError
from tracer.kernel import loader
from tracer.privileges import import_numpy_alone
from tracer.session.attach import load_around
from tracer.session.base import Session
from tracer.signals import SignalQueue
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.sinks.onlooker import Onlooker
    from tracer.watch import Watch

    #: Draws how it is: what there is, the tree, records lost, has it ended?
    Draw = Callable[[Onlooker, str, int, bool], None]

#: The first picture is drawn when what flows carry has been asked twice.
FIRST_S = 0.3


def only_tree() -> str:
    """The tree that is watched, if it is one. Raises VigilesError."""
    names = list(dict.fromkeys(info.tree for info in rundir.trees() if info.alive))
    if not names:
        raise VigilesError(
            "no tree is being watched", hint="say which one to look at: --pid PID, or a recording"
        )
    if len(names) > 1:
        shown = ", ".join(printable(name) for name in names[:8])
        raise VigilesError(f"{len(names)} trees are being watched", hint=f"say which: --tree ID, of {shown}")
    return names[0]


def look_on(
    tree: str | None, pids: list[int], options: WatchOptions, draw: Draw, *, every: float, once: bool
) -> None:
    """Draw the tree that ``tree`` names, or those below ``pids``, every so many seconds until it has ended or Ctrl-C."""
    loader.require(options.loader)
    import_numpy_alone()
    path: Path | None = None
    name = ", ".join(f"pid {pid}" for pid in pids)
    roots: Callable[[], list[int]] = partial(list, pids)
    if tree is not None:
        from tracer.contain import processes_of

        info = rundir.find(tree)
        name, path = info.tree, info.cgroup
        roots = partial(processes_of, info)
    with ExitStack() as stack:
        queue = SignalQueue()
        stack.callback(queue.close)
        made: list[Onlooker] = []

        def observe(engine: Engine) -> Onlooker:
            from tracer.sinks.onlooker import Onlooker

            made.append(Onlooker(engine))
            return made[0]

        session = Session(stack, options, queue, observe=observe)
        probes = load_around(session, roots, path, may_end=tree is not None, looks_on=True)
        watch = session.watch(probes, name, None)
        watch.repair()
        watch.adopt_flows()
        watch.adopt_devices()
        _follow(
            session, watch, lambda ended: draw(made[0], name, _lost(watch), ended), every=every, once=once
        )


def _lost(watch: Watch) -> int:
    return int(watch.probes.counters()["lost"].sum())


def _follow(
    session: Session, watch: Watch, draw: Callable[[bool], None], *, every: float, once: bool
) -> None:
    watch.wait_for(session.queue.fd)
    due, ended = time.monotonic() + FIRST_S, False
    while not (ended or session.told_to_end(watch)):
        watch.step()
        ended = not watch.engine.live and watch.tree_is_empty()
        if time.monotonic() < due and not ended:
            continue
        due = time.monotonic() + every
        draw(ended)
        if once:
            break
    watch.finish()
