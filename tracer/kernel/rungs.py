# SPDX-License-Identifier: Apache-2.0
"""Which programs a watch takes here: of several that show the same the best that this kernel has, found out by trying."""

from __future__ import annotations

import functools

from tracer.kernel import host, libbpf, loader
from tracer.kernel.hooks import GPU, HOOKS, LADDERS, LEFT_OUT, NOT_AT_ALL, REFUSING, Hook, Rung
from tracer.kernel.object import YOUNG_SECTIONS
from tracer.kernel.trial import sections, usable

_PLACES = {hook.program: hook.place for hook in HOOKS}
_ANSWERING = {"on_span", *(hook.program for hook in HOOKS if hook.place == "lsm")}
_ON_LADDERS = {
    name for rungs in LADDERS.values() for rung in rungs for name in rung.programs + rung.where_there
}


def hooks() -> tuple[Hook, ...]:
    """Those that the loader of this process has a program for."""
    return tuple(hook for hook in HOOKS if hook.program in sections())


@functools.cache
def complaint_about(rung: Rung) -> str | None:
    """Why this way is not there; None if it is."""
    first = next(iter(rung.programs), None)
    if first is None:
        return None
    if first not in sections():
        return "its programs need a kernel that describes its types (BTF)"
    section, place = sections()[first], _PLACES[first]
    if place == "modules":
        return None if host.takes_modules() else "this kernel takes none"
    if place == "local":
        return None if libbpf.takes_kind(*YOUNG_SECTIONS[section]) else "this kernel has no such programs"
    if section.startswith("lsm/") and not host.asks_bpf():
        return "bpf is not in lsm="
    return usable([first], attached=place == "gpu")[first]


@functools.cache
def taken(ladder: str) -> Rung:
    """The best way there is, with all of its programs that this kernel takes."""
    there = [rung for rung in LADDERS[ladder] if set(rung.programs) <= sections().keys()] or [NOT_AT_ALL]
    best = next((rung for rung in there[:-1] if complaint_about(rung) is None), there[-1])
    tried = usable(best.where_there, attached=True)
    return Rung(best.name, best.programs + tuple(name for name in best.where_there if tried[name] is None))


def wanted(*, gpu: bool, answers: bool = True) -> set[str]:
    """The programs that a watch takes here; ``gpu``: there is one whose ioctls are to be seen; ``answers``: those as well
    that refuse the tree something, or reply to it.
    """
    alone = {hook.program for hook in hooks()} - _ON_LADDERS
    found = alone.union(*(taken(ladder).programs for ladder in LADDERS if gpu or ladder != GPU))
    return found if answers else found - _ANSWERING


def refuses() -> bool:
    """Is BPF LSM switched on, and does the kernel take our programs for it?"""
    return taken(REFUSING) != NOT_AT_ALL


def unseen() -> dict[str, str]:
    """What the probes of this process have no program for, and why."""
    return {name: left_out.why for name, left_out in LEFT_OUT.items()} if loader.taken().plain else {}
