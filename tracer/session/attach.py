# SPDX-License-Identifier: Apache-2.0
"""A tree under watch that runs already: of somebody else's making, or of a tracer that is no more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.cli.options import WatchOptions
from tracer.errors import HostError, VigilesError
from tracer.kernel import cgroup, host, loader, pins
from tracer.privileges import import_numpy_alone
from tracer.session.adopt import left_behind
from tracer.session.base import Session
from tracer.signals import SignalQueue

if TYPE_CHECKING:
    from tracer.kernel.probes import Probes
    from tracer.watch import Watch


def attach_to(
    pids: list[int], path: Path | None, options: WatchOptions, *, keep_privileges: bool = False
) -> int:
    """Watch the trees below ``pids``, or the cgroup at ``path``, until they are empty or Ctrl-C.

    ``keep_privileges``: as for :func:`tracer.session.run.run_command`.
    """
    loader.require(options.loader, options.btf)
    import_numpy_alone()
    if path is not None:
        pids = sorted(_cgroup_members(path))
    with ExitStack() as stack:
        session = _session(stack, options, keep_privileges=keep_privileges)
        probes = load_around(session, lambda: pids, path)
        tree = path.name if path is not None else f"pid-{pids[0]}"
        session.list_tree(probes, tree, path, "attach")
        session.guard(probes, tree)
        session.guard_files(probes, tree)
        spans = session.learn_spans(probes)
        watch = session.watch(probes, tree, None)
        watch.adopt_spans(spans)
        processes = watch.repair()
        session.say(f"watching {processes} processes, {watch.adopt_flows()} of their flows")
        if holders := watch.adopt_devices():
            session.say(f"{holders} of them held a GPU before: what they set up then is not known")
        _follow(session, watch, until_empty=path is None)
    return 0


def load_around(
    session: Session,
    roots: Callable[[], Iterable[int]],
    path: Path | None,
    *,
    may_end: bool = False,
    **more: Any,
) -> Probes:
    """Probes attached around the trees below ``roots``, which are asked for late, and the cgroup at ``path``, if there is one.

    ``may_end``: a root that is there no more is none. ``more``: see :class:`ProbeOptions`. Raises VigilesError.
    """
    if path is None:
        more["by_lineage"] = True
    else:
        try:
            identity = cgroup.identity(path)
        except FileNotFoundError:
            raise VigilesError(f"{path} is not there any more") from None
        more |= {"tree_cgroup": identity, "tree_cgroup_level": cgroup.level(path), "own_cgroup": path}
    probes = session.load_probes(**more)
    session.stack.callback(probes.close)
    probes.attach_kernel()
    _track_all(probes, roots(), may_end=may_end)
    found = _cgroups_of(int(pid) for pid in probes.tasks()["tgid"])
    for place in [path] if path is not None else _topmost(found):
        probes.attach_cgroup(place)
    return probes


def adopt(text: str, options: WatchOptions, *, keep_privileges: bool = False) -> int:
    """Go on with the tree that ``text`` names, whose tracer is gone and whose probes go on."""
    loader.require("libbpf")  # the plain probes do not outlive their tracer
    import_numpy_alone()
    info, remains = left_behind(text)
    with ExitStack() as stack:
        session = _session(stack, options, keep_privileges=keep_privileges)
        from tracer.kernel.probes import Probes

        probes = Probes.adopted(remains)
        stack.callback(probes.close)
        own = info.cgroup if info.mode == "run" else None
        probes.reload(session.rules)
        session.guard_files(probes, info.tree)
        watch = session.watch(probes, info.tree, own, (own.parent,) if own else ())
        # as it was: a guard is lifted by an order or by the tree's end, not by a change of hands
        watch.orders.enforce = True
        # from here on it is ours to clear away; an error before must leave all as it was
        if own is not None:
            stack.callback(cgroup.TreeCgroup(own).remove)
        session.list_tree(probes, info.tree, info.cgroup, info.mode)
        stack.enter_context(pins.Pins.taken_over(info.tree))
        watch.adopt_spans(probes.open_spans())
        processes = watch.repair()
        session.say(f"adopted {info.tree}: {processes} processes; what waited in the rings is taken in")
        _follow(session, watch, until_empty=True)
    return 0


def _session(stack: ExitStack, options: WatchOptions, *, keep_privileges: bool) -> Session:
    queue = SignalQueue()
    stack.callback(queue.close)
    return Session(stack, options, queue, keep_privileges=keep_privileges)


def _follow(session: Session, watch: Watch, *, until_empty: bool) -> None:
    watch.wait_for(session.queue.fd)
    while not session.told_to_end(watch):
        watch.step()
        if until_empty and not watch.engine.live and watch.tree_is_empty():
            break
    session.tell_summary(watch)


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


def _track_all(probes: Probes, pids: Iterable[int], *, may_end: bool) -> None:
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            if may_end:
                continue
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
