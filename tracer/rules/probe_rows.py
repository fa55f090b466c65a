# SPDX-License-Identifier: Apache-2.0
"""Which alternatives of rules a probe can decide by itself, and what it needs to know for that.

A probe knows the indicator groups it finds and a few facts. It must not say that a rule holds when it
doesn't; that it keeps silent when it can't know is told by the engine a moment later:

- what ``all`` asks for must be knowable; otherwise the alternative is left out;
- what ``any`` offers and can't be known is struck off: the rest may suffice;
- what ``none`` forbids must be knowable as absent; "is given code as an argument" is replaced by "is an
  interpreter", which it implies.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.detect.facts import GPU_NOT_LISTED, INTERPRETER_FACTS, PLACE_FACTS, PROBE_FACTS, TAMPER_FACTS
from tracer.rules.hidden import GPU_USER_FILES_ID, GPU_USER_GROUP_ID, WORKER_GROUP, hidden_groups, users_known
from tracer.rules.model import (
    ACTIONS,
    FIELDS_ON,
    INTERPRETER_GROUP,
    ON,
    ON_CONNECT,
    ON_FLOW,
    ON_GPU_USER,
    ON_REFUSE,
    ON_STAY,
    Alternative,
    Terms,
)
from tracer.rules.table import masks_of, rows_of, signal_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.model import Group, Rule

#: The fields that probes walk, by kind of event.
PROBE_FIELDS = {
    "exec": frozenset(FIELDS_ON["exec"]),
    "gpu": frozenset(),
    "flow": frozenset({"sent", "received", "network", "port"}),
    "connect": frozenset({"network", "port"}),
    "listen": frozenset({"network", "port"}),
    "tamper": frozenset(),
}
#: And those in which they may find something, but never know that it isn't there: an address may have a
#: name that no probe has seen asked for (probes/names.bpf.h).
PROBE_MAY_FIND = {"connect": frozenset({"host"})}
#: The facts that probes find out themselves, by kind of event.
PROBE_KNOWS = {
    "exec": PROBE_FACTS,
    "gpu": (GPU_NOT_LISTED,),
    "flow": (),
    "connect": PLACE_FACTS,
    "listen": PLACE_FACTS,
    "tamper": TAMPER_FACTS,
}


class ProbeRows(NamedTuple):
    """Alternatives for a probe, grouped by kind of event and severest first.

    ``on`` int64[n]; ``row`` int64[n]: the alternative's place in the rule table; ``action`` int64[n]: its
    place in ``ACTIONS``; masks int64[n, WORDS].
    """

    on: NDArray[np.int64]
    row: NDArray[np.int64]
    action: NDArray[np.int64]
    all_of: NDArray[np.int64]
    any_of: NDArray[np.int64]
    at_least: NDArray[np.int64]
    none_of: NDArray[np.int64]
    #: does a row about connects ask for names?
    names_asked: bool
    #: does a row about flows ask where they lead?
    places_asked: bool


class _Known:
    """What a probe can say of a name that a rule uses."""

    def __init__(self, on: str, groups: Sequence[Group]) -> None:
        self.on = on
        self.where = {group.id: set(group.where) & set(FIELDS_ON[on]) for group in groups}

    def present(self, name: str) -> bool:
        """If it is there, the probe may find it."""
        if name.startswith("@"):
            return name[1:] in PROBE_KNOWS[self.on]
        return bool(self.where[name] & (PROBE_FIELDS[self.on] | PROBE_MAY_FIND.get(self.on, frozenset())))

    def absent(self, name: str) -> bool:
        """If it isn't there, the probe knows that."""
        if name.startswith("@"):
            return self.present(name)
        return self.where[name] <= PROBE_FIELDS[self.on]


def _for_probe(alternative: Alternative, known: _Known) -> tuple[tuple[str, ...], ...] | None:
    """The names of ``all``, ``any`` and ``none`` for a probe, or None if it can't decide."""
    some = tuple(name for name in alternative.any if known.present(name))
    if len(some) < alternative.at_least or not all(known.present(name) for name in alternative.all):
        return None
    none = []
    for name in alternative.none:
        if known.absent(name):
            none.append(name)
        elif name.startswith("@") and name[1:] in INTERPRETER_FACTS:
            none.append(INTERPRETER_GROUP.id)
        else:
            return None
    return alternative.all, some, tuple(none)


#: The fields of an exec that are known before it happens.
_OF_FILE = frozenset({"path", "inode"})


def _by_file_alone(names: tuple[tuple[str, ...], ...], groups: Sequence[Group]) -> bool:
    """Do these groups speak of nothing but the file that is to run and its path?"""
    known = {group.id for group in groups if set(group.where) <= _OF_FILE}
    return all(name in known for part in names for name in part)


def probe_rows(rules: Sequence[Rule], groups: Sequence[Group], terms: Terms) -> ProbeRows:
    """The alternatives of ``rules`` that a probe can decide, what may stay in quarantine, and who may
    use the GPU.
    """
    numbers = signal_numbers((*groups, *hidden_groups(terms)))
    rows = list(enumerate(rows_of(rules)))
    found, refused = [], []
    for on in PROBE_FIELDS:
        known = _Known(on, groups)
        for row, (number, alternative) in rows:
            rule = rules[number]
            unless = terms.undecided.get(rule.id, ())
            if rule.on != on or unless is None:
                continue
            names = _for_probe(replace(alternative, none=(*alternative.none, *unless)), known)
            if names is not None:
                action = ACTIONS.index(terms.action(rule, alternative.severity))
                found.append((ON[on], row, action, names, alternative.at_least))
                if on == "exec" and ACTIONS[action] == "block" and _by_file_alone(names, groups):
                    refused.append((ON_REFUSE, row, action, names, alternative.at_least))
    found += refused
    # what speaks to this host itself, and what a policy lists
    found += [(ON_STAY, 0, 0, (stay, (), ()), 0) for stay in (("@loopback",), *terms.stay)]
    if users_known(terms):  # the place of the first that holds is what the probe goes by
        who = enumerate(((GPU_USER_GROUP_ID, GPU_USER_FILES_ID), (WORKER_GROUP.id,)))
        found += [(ON_GPU_USER, row, 0, ((), any_of, ()), 1) for row, any_of in who]
    named = {group.id for group in groups if "host" in group.where}
    places = {group.id for group in groups if {"network", "port"} & set(group.where)}
    return ProbeRows(
        names_asked=any(on == ON_CONNECT and named & {*names[0], *names[1]} for on, _, _, names, _ in found),
        places_asked=any(on == ON_FLOW and places & {*chain(*names)} for on, _, _, names, _ in found),
        on=np.array([on for on, *_ in found], dtype=np.int64),
        row=np.array([row for _, row, *_ in found], dtype=np.int64),
        action=np.array([action for _, _, action, *_ in found], dtype=np.int64),
        all_of=masks_of([names[0] for *_, names, _ in found], numbers),
        any_of=masks_of([names[1] for *_, names, _ in found], numbers),
        at_least=np.array([at_least for *_, at_least in found], dtype=np.int64),
        none_of=masks_of([names[2] for *_, names, _ in found], numbers),
    )
