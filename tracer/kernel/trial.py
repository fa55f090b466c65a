# SPDX-License-Identifier: Apache-2.0
"""What this kernel takes of our programs: found out by trying."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from tracer.errors import LoadError
from tracer.kernel import loader, schema
from tracer.kernel.btf import Btf
from tracer.kernel.object import Object

#: Programs of these sections are loaded by types that the kernel itself describes, or not at all.
_TYPED = ("tp_btf/", "lsm/", "fentry/", "iter/")


def opened() -> Object:
    """The compiled probes that the loader of this process takes, not loaded yet."""
    taken = loader.taken()
    return Object(taken.path, btf=str(taken.types) if taken.types else None)


@functools.cache
def _sections(path: Path, typed: bool) -> dict[str, str]:
    with Object(path) as candidate:
        return {
            program: section
            for program, section in candidate.programs()
            if typed or not section.startswith(_TYPED)
        }


def sections() -> dict[str, str]:
    """Program → section of all that the loader of this process could load."""
    return _sections(loader.taken().path, not loader.taken().plain)


@functools.cache
def _layout(path: Path) -> Btf:
    return schema.BTF if path == schema.BTF.path else Btf(path)


def set_options(candidate: Object, options: Mapping[str, int]) -> None:
    """Set global constants of the probes, before load; of those that are for programs left out, there are none."""
    known = _layout(candidate.path).options
    for name, value in options.items():
        if name in known:
            offset, size = known[name]
            candidate.set_option(offset, value.to_bytes(size, "little"))


@functools.cache
def needs_kin() -> bool:
    """Are programs on cgroups not allowed to look into a task's storage here? See tree.bpf.h."""
    with opened() as candidate:
        candidate.select({"on_bind4"})
        set_options(candidate, {"filter_by_lineage": 1})
        try:
            candidate.load()
        except LoadError:
            return True
    return False


def _complaint(programs: list[str], *, attached: bool = False) -> str | None:
    with opened() as candidate:
        candidate.select(set(programs))
        set_options(candidate, {"keep_kin": int(needs_kin())})
        try:
            candidate.load()
            if attached:
                for name in programs:
                    candidate.attach(name)
        except LoadError as error:
            return error.message
    return None


def usable(programs: Iterable[str], *, attached: bool = False) -> dict[str, str | None]:
    """Try each program alone: None if the kernel takes it, else its complaint in one line.

    ``attached``: see, too, that it can be attached where its section says.
    """
    return {name: _complaint([name], attached=attached) for name in programs}


def usable_at_once(programs: Iterable[str]) -> dict[str, str | None]:
    """The same of programs that are likely to be taken all: together, and each alone only where that is refused.

    To open the object takes longer than most programs take to be loaded.
    """
    names = list(programs)
    return dict.fromkeys(names) if _complaint(names) is None else usable(names)
