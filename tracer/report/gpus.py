# SPDX-License-Identifier: Apache-2.0
"""Who uses which GPU and how, from a recording, which may still be being written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tracer.detect.clients import (
    CHANNEL,
    COMPUTE,
    FAMILY_MARKS,
    LIBRARIES_AT,
    LOOKED,
    SPACE,
    TABLE,
    kind_of_client,
    marks_of,
    traits,
)
from tracer.gpu.devices import node_name
from tracer.gpu.names import describe, tuning_of
from tracer.kernel import schema
from tracer.report.live import Key, Live, use_of

#: Clients that are kept; beyond it those that ended first are forgotten, and counted.
CLIENTS_MAX = 10_000
#: Of one client: devices, and kinds of calls (the probe counts 128, others come singly).
DEVICES_MAX, KINDS_MAX = 256, 1024

_KIND = schema.KIND
_OPEN, _IOCTL, _COUNTS = _KIND["EVENT_GPU_OPEN"], _KIND["EVENT_GPU_IOCTL"], _KIND["EVENT_GPU_COUNTS"]
_LIBRARIES = _KIND["EVENT_GPU_LIBRARIES"]
_FAMILY = schema.GPU_FAMILY
_NVIDIA, _UVM, _CAPS = (_FAMILY[f"GPU_{n}"] for n in ("NVIDIA", "NVIDIA_UVM", "NVIDIA_CAPS"))
_HELD = schema.GPU_OPEN_FLAG["GPU_HELD"]
_FLAG = schema.GPU_FLAG
_HOW = _FLAG["GPU_WRAPPED"] | _FLAG["GPU_COMPAT"] | _FLAG["GPU_ARG_UNREADABLE"]
_RM_CONTROL = 0x2A
_READ_OR_WRITE = 6


class Call(NamedTuple):
    """A kind of ioctl."""

    family: int
    nr: int
    code: int
    minor: int
    flags: int


@dataclass(slots=True)
class Client:
    """One program in one process that has opened, driven or held a GPU. ``heirs``: children that were forked from it
    while it computed, and have not executed anything: what it has mapped of the card is mapped in them, too. ``busy``,
    ``in_use``: percent of a card's time, and bytes of its memory, as NVML has told the last time; ``…_highest``: at most.
    """

    pid: int
    start_ns: int
    command: str
    first_ns: int
    last_ns: int
    marks: int = 0
    opened: bool = False
    held: bool = False
    borrowed: bool = False
    ended: bool = False
    devices: dict[tuple[int, int], int] = field(default_factory=dict)
    calls: Counter[Call] = field(default_factory=Counter)
    single: int = 0
    asked: int = 0
    largest: int = 0
    unsized: int = 0
    heirs: set[Key] = field(default_factory=set)
    summed: bool = False
    busy: int | None = None
    busy_highest: int | None = None
    in_use: int | None = None
    in_use_highest: int | None = None

    @property
    def kind(self) -> str:
        """What it is."""
        if self.held and not self.calls:
            return "set up before the watch"
        return kind_of_client(self.marks)

    def count(self, mark: int) -> int:
        """Calls that made something of this kind: of unified memory's, which name what there is already, none."""
        return sum(
            count
            for call, count in self.calls.items()
            if call.family != _UVM and marks_of(TABLE, call.family, call.nr, call.code) & mark
        )

    @property
    def contexts(self) -> int:
        """Address spaces that it asked for."""
        return self.count(SPACE)

    @property
    def channels(self) -> int:
        """Channels or queues; groups of channels are none."""
        return sum(
            count
            for call, count in self.calls.items()
            if call.family != _UVM
            and (call.family != _NVIDIA or call.code & 0xFF == 0x6F)
            and marks_of(TABLE, call.family, call.nr, call.code) & CHANNEL
        )

    @property
    def tuning(self) -> Counter[str]:
        """Attempts to change how the card runs for all, by what."""
        found: Counter[str] = Counter()
        for call, count in self.calls.items():
            if call.family == _NVIDIA and call.nr == _RM_CONTROL and (what := tuning_of(call.code)):
                found[what] += count
        return found

    def total(self) -> int:
        """Ioctls."""
        return sum(self.calls.values()) + self.single

    def traits(self) -> list[str]:
        """What else is to be said of it."""
        found = traits(self.marks & ~COMPUTE)
        found += ["not opened by itself"] * self.borrowed + ["held before"] * self.held
        wrapped = sum(count for call, count in self.calls.items() if call.flags & _FLAG["GPU_WRAPPED"])
        return found + [f"{wrapped:,} calls in XFER_CMD"] * bool(wrapped)


class Gpus(Live):
    """Takes in what a follower finds, and keeps the clients of GPUs."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: dict[Key, Client] = {}
        self.past: list[Client] = []
        self.forgotten = 0
        self.not_listed = 0
        self._heir_of: dict[Key, Key] = {}
        self._by_kind |= {_OPEN: self._opened, _LIBRARIES: self._mapped}

    def _client(self, e: np.void) -> Client | None:
        key, now = (int(e["tgid"]), int(e["start"])), int(e["ts"])
        found = self.clients.get(key)
        if found is None:
            if not self._make_room():
                self.not_listed += 1
                return None
            process = self._process(e)
            found = self.clients[key] = Client(*key, process.command if process else "", now, now)
        found.last_ns = max(found.last_ns, now)
        return found

    def _make_room(self) -> bool:
        if len(self.clients) + len(self.past) >= CLIENTS_MAX and self.past:
            del self.past[0]
            self.forgotten += 1
        return len(self.clients) + len(self.past) < CLIENTS_MAX

    def _end(self, key: Key) -> None:
        found = self.clients.pop(key, None)
        if found is not None:
            found.ended = True
            self.past.append(found)
        above = self._heir_of.pop(key, None)
        if above is not None and above in self.clients:
            self.clients[above].heirs.discard(key)

    def _fork(self, e: np.void, tail: bytes) -> None:
        super()._fork(e, tail)
        above = int(e["parent_tgid"]), int(e["parent_start"])
        above = self._heir_of.get(above, above)
        parent = self.clients.get(above)
        if parent is not None and parent.marks & CHANNEL and len(self._heir_of) < CLIENTS_MAX:
            key = int(e["tgid"]), int(e["start"])
            self._heir_of[key] = above
            parent.heirs.add(key)

    def _exec(self, e: np.void, tail: bytes) -> None:
        super()._exec(e, tail)
        self._end((int(e["tgid"]), int(e["start"])))  # another program from here on

    def _exit(self, e: np.void, tail: bytes) -> None:
        super()._exit(e, tail)
        self._end((int(e["tgid"]), int(e["start"])))

    def _opened(self, e: np.void, _tail: bytes) -> None:
        held = bool(int(e["open_flags"]) & _HELD)
        if not held and not int(e["access"]) & _READ_OR_WRITE:
            return
        found = self._client(e)
        if found is None:
            return
        found.opened = True
        found.held |= held
        self._met(found, int(e["major"]), int(e["minor"]), int(e["family"]))

    def _met(self, client: Client, major: int, minor: int, family: int) -> None:
        client.marks |= int(FAMILY_MARKS[family]) if family < len(FAMILY_MARKS) else 0
        if len(client.devices) < DEVICES_MAX:  # on a stand-in, several drivers share one
            client.devices.setdefault((major, minor), family)

    def _gpu(self, e: np.void, tail: bytes) -> None:
        super()._gpu(e, tail)
        found = self._client(e)
        if found is None:
            return
        family = int(e["family"])
        found.borrowed |= not found.opened
        self._met(found, int(e["major"]), int(e["minor"]), family)
        call = Call(family, int(e["nr"]), int(e["code"]), int(e["minor"]), int(e["flags"]) & _HOW)
        self._called(found, call)
        if int(e["flags"]) & _FLAG["GPU_UNCOUNTED"]:
            found.single += 1
        elif call in found.calls:
            found.calls[call] = max(found.calls[call], 1)
        if not found.summed:  # until the probe sends its sums
            found.asked += int(e["asked"])
            found.largest = max(found.largest, int(e["asked"]))

    def _called(self, client: Client, call: Call) -> None:
        client.marks |= marks_of(TABLE, call.family, call.nr, call.code)
        if len(client.calls) < KINDS_MAX:
            client.calls.setdefault(call, 0)

    def _counts(self, e: np.void, tail: bytes) -> None:
        super()._counts(e, tail)
        found = self._client(e)
        if found is None:
            return
        there = len(tail) // schema.GPU_KIND.itemsize
        for k in np.frombuffer(tail, schema.GPU_KIND, min(int(e["kinds"]), there)):
            if k["count"]:
                call = Call(*(int(k[name]) for name in ("family", "nr", "code", "minor", "flags")))
                self._called(found, call)
                if call in found.calls:
                    found.calls[call] = max(found.calls[call], int(k["count"]))
        found.single = max(found.single, int(e["uncounted"]))
        found.summed = True
        found.asked, found.largest = int(e["asked"]), int(e["largest"])
        found.unsized = int(e["unsized"])

    def _mapped(self, e: np.void, _tail: bytes) -> None:
        found = self._client(e)
        if found is not None:
            found.marks |= int(e["libraries"]) * LIBRARIES_AT | LOOKED

    def _use(self, e: np.void, tail: bytes) -> None:
        super()._use(e, tail)
        key = int(e["tgid"]), int(e["start"])
        # who uses nothing any more need not have become a client
        found = self._client(e) if e["utilisation"] or e["memory"] else self.clients.get(key)
        if found is not None:
            found.busy, found.in_use = use_of(e)
            found.busy_highest = _higher(found.busy_highest, found.busy)
            found.in_use_highest = _higher(found.in_use_highest, found.in_use)

    def listed(self) -> list[Client]:
        """All of them, in the order in which they came."""
        return sorted([*self.past, *self.clients.values()], key=lambda c: (c.first_ns, c.pid))


def _higher(one: int | None, other: int | None) -> int | None:
    return max((n for n in (one, other) if n is not None), default=None)


def gpus_of(client: Client) -> list[str]:
    """Which cards, and slices of cards."""
    names = {
        node_name(family, major, minor) for (major, minor), family in client.devices.items() if family != _UVM
    }
    if len(names) > 1:
        names.discard("nvidiactl")
    return sorted(names)


def as_json(client: Client, names: dict[str, str]) -> dict[str, Any]:
    """A client, for programs. ``names``: of cards and slices, see tracer.gpu.devices."""
    devices = gpus_of(client)
    return {
        "pid": client.pid,
        "start_ns": client.start_ns,
        "command": client.command,
        "client": client.kind,
        "traits": client.traits(),
        "devices": devices,
        "names": {name: names[name] for name in devices if name in names},
        "contexts": client.contexts,
        "channels": client.channels,
        "memory_asked": client.asked,
        "memory_largest": client.largest,
        "memory_unread": client.unsized,
        "memory_in_use": client.in_use,
        "memory_in_use_highest": client.in_use_highest,
        "utilisation": client.busy,
        "utilisation_highest": client.busy_highest,
        "tuning": dict(client.tuning),
        "heirs": len(client.heirs),
        "calls": client.total(),
        "unknown": sorted(
            {
                describe(call.family, call.nr, call.code)
                for call in client.calls
                if describe(call.family, call.nr, call.code).rpartition(" ")[2].startswith("0x")
            }
        ),
        "ended": client.ended,
    }
