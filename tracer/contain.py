# SPDX-License-Identifier: Apache-2.0
"""The kill switch for a person: acts on a tree through what the kernel holds of it, past any tracer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracer import rundir
from tracer.errors import LoadError, VigilesError
from tracer.kernel import cgroup, pins, schema
from tracer.kernel.held import Held
from tracer.kernel.tree import Tree
from tracer.respond import acts
from tracer.respond.orders import Orders
from tracer.rundir import TreeInfo
from tracer.text import printable


class _Reach:
    """What there is to act by: its own cgroup, its probes, or both."""

    def __init__(self, info: TreeInfo, held: Held | None) -> None:
        self.info = info
        own = info.cgroup if info.mode == "run" else None
        self.cgroup = own if own is not None and own.is_dir() else None
        self._held = held
        self.orders = Orders(held.map("control").fd, held.map("cuts").fd) if held else None

    def tasks(self) -> list[acts.Identity]:
        """The tree's processes: by its probes, else by its cgroup."""
        if self._held is not None:
            return Tree(self._held).identities()
        found = []
        for pid in cgroup.processes(self.cgroup) if self.cgroup else ():
            ticks = acts.start_ticks(pid)
            if ticks is not None:
                found.append((pid, ticks * acts.TICK_NS))
        return found


@contextmanager
def _reach(info: TreeInfo) -> Iterator[_Reach]:
    held = None
    there = info.remains is not None and (info.alive or pins.exist(info.tree))
    ours = info.remains is not None and info.remains.layout == schema.fingerprint()
    if info.remains is not None and there and ours:
        try:
            held = Held(info.remains.maps, {"on_task": info.remains.programs["on_task"]})
        except (LoadError, KeyError):
            held = None  # its tracer has just ended: what is left is its cgroup
    reach = _Reach(info, held)
    try:
        if reach.cgroup is None and there and not ours:
            raise VigilesError(
                f"the probes of tree {printable(info.tree)} are of another version of vigiles",
                hint="use that version's command",
            )
        if held is None and reach.cgroup is None:
            raise VigilesError(
                f"tree {printable(info.tree)} is not there any more: neither probes nor a cgroup"
            )
        yield reach
    finally:
        if reach.orders is not None:
            reach.orders.close()
        if held is not None:
            held.close()


def processes_of(info: TreeInfo) -> list[int]:
    """The pids of a tree. Raises VigilesError."""
    with _reach(info) as reach:
        return [pid for pid, _ in reach.tasks()]


def carry_out(info: TreeInfo, order: str) -> str:
    """Do it; what was done, in words. Raises VigilesError."""
    with _reach(info) as reach:
        try:
            return _DO[order](reach)
        except OSError as error:
            raise VigilesError(
                f"{order} of {printable(info.tree)} failed: {error.strerror or error}"
            ) from None


def _freeze(reach: _Reach) -> str:
    acts.freeze(reach.tasks, reach.cgroup)
    return "frozen"


def _thaw(reach: _Reach) -> str:
    acts.freeze(reach.tasks, reach.cgroup, thaw=True)
    return "goes on"


def _quarantine(reach: _Reach) -> str:
    if reach.orders is None:
        raise VigilesError(
            "its probes are gone, and nothing else can cut its connections", hint="freeze it, or kill it"
        )
    reach.orders.quarantine = True
    return "in quarantine"


def _kill(reach: _Reach) -> str:
    if reach.orders is not None:
        reach.orders.doomed = True
    met = acts.kill_all(reach.tasks, reach.cgroup)
    return f"ended, {met} processes"


def _release(reach: _Reach) -> str:
    if reach.orders is not None:
        reach.orders.quarantine = False
    acts.freeze(reach.tasks, reach.cgroup, thaw=True)
    if reach.info.alive:
        return "goes on, out of quarantine; its tracer goes on to guard it"
    pins.remove(pins.folder_of(reach.info.tree))
    return "goes on, unguarded"


_DO = {"freeze": _freeze, "thaw": _thaw, "quarantine": _quarantine, "kill": _kill, "release": _release}


def tree_with(pid: int) -> TreeInfo:
    """The watched tree that a process is in. Raises VigilesError."""
    place: Path | None = None
    try:
        place = cgroup.of_process(pid)
    except OSError:
        raise VigilesError(f"there is no process {pid}") from None
    listed = rundir.trees()
    for info in listed:
        if info.cgroup is not None and (info.cgroup == place or info.cgroup in place.parents):
            return info
    for info in listed:
        # one that has just ended, or is another version's, must not hide the others
        with suppress(VigilesError), _reach(info) as reach:
            if any(found == pid for found, _ in reach.tasks()):
                return info
    raise VigilesError(f"process {pid} is in no watched tree", hint="see: vigiles contain --list")


def line(info: TreeInfo, *, as_json: bool) -> str:
    """One tree, for people or machines."""
    guarded = pins.exist(info.tree)
    if as_json:
        said = {
            "tree": info.tree,
            "tracer": info.pid if info.alive else None,
            "guarded": guarded,
            "cgroup": str(info.cgroup) if info.cgroup else None,
            "mode": info.mode,
            "began": info.began,
        }
        return json.dumps(said)
    who = f"watched by process {info.pid}" if info.alive else "its tracer is gone"
    return f"{printable(info.tree)}  {who}{', guarded' if guarded else ''}"
