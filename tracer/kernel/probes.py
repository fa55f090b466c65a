# SPDX-License-Identifier: Apache-2.0
"""The probes of one watch: loaded, attached, kept for whoever comes after it."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracer.errors import HostError, LoadError
from tracer.gpu.devices import Device, map_entries
from tracer.kernel import cgroup, fit, held, schema, table_tree
from tracer.kernel.held import Held
from tracer.kernel.hooks import HOOKS, Hook
from tracer.kernel.knowledge import Knowledge
from tracer.kernel.object import Object
from tracer.kernel.pins import Pins
from tracer.kernel.readings import Readings
from tracer.kernel.remains import Remains
from tracer.kernel.rungs import unseen, wanted
from tracer.kernel.table_tree import TableTree
from tracer.kernel.tree import Tree
from tracer.kernel.trial import needs_kin, opened, set_options, usable
from tracer.rules import RuleSet

#: struct member of tree.bpf.h: tree, exit_sent, gpu_client, left, told, barred.
_MEMBER = struct.Struct("<IIIIII")
#: What knowledge.bpf.h declares.
_ROW_CELLS = 64


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """What is set between open and load. Ring sizes in bytes: powers of two, whole pages."""

    critical_bytes: int = 8 << 20
    bulk_bytes: int = 16 << 20
    devices: tuple[Device, ...] = ()
    by_lineage: bool = False
    tree_cgroup: int = 0
    tree_cgroup_level: int = 0
    #: Where the tree is alone: whoever leaves it is told.
    own_cgroup: Path | None = None
    #: What probes judge by; without it only user space does.
    rules: RuleSet | None = None
    #: Nothing that answers the tree: that is another watch's to do, which knows what this one doesn't.
    looks_on: bool = False


def _pid_of(pidfd: int) -> int:
    """Whom a pidfd is open on."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        name, _, number = line.partition(":")
        if name == "Pid" and int(number) > 0:
            return int(number)
    raise LoadError("the process that was to be watched has ended")


#: Maps that user space has a hand in. Others are the programs' own, which hold them.
KEPT_MAPS = (
    "ring_critical", "ring_bulk", "counters", "reader", "control", "cuts", "knowledge", "members", "gpu_devices",
    "named",
    "flows", "task_spans",
)  # fmt: skip
#: And those that only these programs have.
KEPT_WITH = {"on_file_open": "guarded_files", "on_bpf_map": "guarded_ids", "on_span": "open_spans"}


class Probes(Readings):
    """Loaded and attached programs; everything goes away with :meth:`close` or with the process."""

    def __init__(self, options: ProbeOptions) -> None:
        self.options = options
        self.knowledge = Knowledge(options.rules) if options.rules else None
        fit.require()
        self.missing: dict[str, str] = {}
        self.unseen = unseen()
        programs = wanted(gpu=bool(options.devices), answers=not options.looks_on)
        try:
            self._object = self._load(programs)
        except LoadError:
            self.missing = {name: why for name, why in usable(sorted(programs)).items() if why}
            if not self.missing or any(hook.needed for hook in HOOKS if hook.program in self.missing):
                raise
            self._object = self._load(programs - self.missing.keys())
        self.loaded = programs - self.missing.keys()
        self.attached = set()
        if self.knowledge:
            self.knowledge.install(self._object.map("knowledge"))
        devices = self._object.map("gpu_devices")
        for key, value in map_entries(options.devices):
            devices.update(key, value)

    @classmethod
    def adopted(cls, left: Remains) -> Probes:
        """Those that a tracer left behind: attached and running, held by their pins. Raises LoadError."""
        made = cls.__new__(cls)
        made.options = ProbeOptions(by_lineage=left.by_lineage)
        made.knowledge = Knowledge.adopted(left.knowledge)
        made.missing = dict(left.missing)
        made.unseen = {}
        made._object = Held(left.maps, left.programs)  # noqa: SLF001 - its own
        made.loaded = set(left.programs)
        made.attached = set(left.programs)
        return made

    def kept_maps(self) -> tuple[str, ...]:
        """Those that programs hold: without the programs they end with us."""
        return (*KEPT_MAPS, *(name for program, name in KEPT_WITH.items() if program in self.loaded))

    def require_lasting(self) -> None:
        """Raise HostError unless another process can find these probes, and go on with them."""
        if not self._lists:
            raise HostError("a kernel without BTF can't be asked who is in the tree")

    def remains(self) -> Remains:
        """What another tracer needs to go on with these probes. Raises HostError."""
        self.require_lasting()
        assert self.knowledge is not None
        return Remains(
            maps={name: held.id_of(self.map(name).fd) for name in self.kept_maps()},
            programs={name: held.id_of(self._object.program_fd(name)) for name in sorted(self.loaded)},
            knowledge=self.knowledge.shape,
            missing=self.missing,
            by_lineage=self.options.by_lineage,
            layout=schema.fingerprint(),
        )

    def pin(self, pins: Pins) -> None:
        """Have them go on when this process ends, however it ends."""
        for hook in HOOKS:  # these first: one of them is needed to clear away what follows
            if hook.place == "iterator" and hook.program in self.loaded:
                pins.pin(self._object.program_fd(hook.program), hook.program)
        for number, link in enumerate(self._object.links()):
            pins.pin(link.fd, f"{link.program}_{number}")

    @property
    def _loaded(self) -> Object:
        assert isinstance(self._object, Object)
        return self._object

    def _load(self, programs: set[str]) -> Object:
        candidate = opened()
        own = self.options.own_cgroup
        try:
            candidate.select(programs)
            if self.knowledge:
                candidate.set_inner("knowledge", self.knowledge.template)
            candidate.resize("ring_critical", self.options.critical_bytes)
            candidate.resize("ring_bulk", self.options.bulk_bytes)
            set_options(
                candidate,
                {
                    "filter_by_lineage": int(self.options.by_lineage),
                    "keep_kin": int(needs_kin()),
                    "tree_cgroup": self.options.tree_cgroup,
                    "tree_cgroup_level": self.options.tree_cgroup_level,
                    "bulk_bytes": self.options.bulk_bytes,
                    "own_cgroup": cgroup.identity(own) if own else 0,
                    "own_cgroup_level": cgroup.level(own) if own else 0,
                    "judge_here": int(self.knowledge is not None),
                    "refuses_execs": int("on_exec_check" in programs),
                    "row_cells": self.knowledge.cells if self.knowledge else _ROW_CELLS,
                    "watch_began": time.time_ns(),
                },
            )
            candidate.load()
        except BaseException:
            candidate.close()
            raise
        return candidate

    def reload(self, rules: RuleSet) -> int:
        """Judge by ``rules`` from now on; the epoch that verdicts then carry. Raises RuleError."""
        if self.knowledge is None:
            return 0
        epoch = self.knowledge.replace(self.map("knowledge"), rules)
        self._guard_knowledge()
        return epoch

    def close(self) -> None:
        """Detach and unload."""
        if self.knowledge:
            self.knowledge.close()
        self._object.close()

    def _attach(self, hook: Hook, cgroup_fd: int | None = None) -> None:
        try:
            if cgroup_fd is None:
                self._loaded.attach(hook.program)
            else:
                self._loaded.attach_cgroup(hook.program, cgroup_fd)
        except LoadError as error:
            if hook.needed:
                raise
            self.missing[hook.program] = error.message
        else:
            self.attached.add(hook.program)

    def attach_kernel(self) -> None:
        """Attach what sees every process: from here on forks of tracked tasks are followed."""
        for hook in HOOKS:
            if hook.place in ("kernel", "modules", "lsm", "gpu") and hook.program in self.loaded:
                self._attach(hook)
        if "on_bpf_map" in self.attached:
            self._guard_ids()

    def _guard_ids(self) -> None:
        """Have nobody of the tree reach for these maps and programs."""
        ids = [held.id_of(self.map(name).fd) << 1 for name in self.kept_maps()]
        ids += [held.id_of(self._object.program_fd(name)) << 1 | 1 for name in self.loaded]
        for number in ids:
            self.map("guarded_ids").update(struct.pack("<Q", number), struct.pack("<I", 1))
        self._guard_knowledge()

    def _guard_knowledge(self) -> None:
        """The same for the map with the rules, which is another one after each reload."""
        inner = self.map("knowledge").lookup(struct.pack("<I", 0), 4) if self.knowledge else None
        if inner is not None and "on_bpf_map" in self.attached:
            (number,) = struct.unpack("<I", inner)
            self.map("guarded_ids").update(struct.pack("<Q", number << 1), struct.pack("<I", 1))

    def guard_files(self, paths: Iterable[Path]) -> list[tuple[Path, OSError]]:
        """Have nobody of the tree change these files, or what is in these folders; needs BPF LSM.

        Those that could not be opened for it, and why.
        """
        refused: list[tuple[Path, OSError]] = []
        if "on_file_open" not in self.attached:
            return refused
        # not a pipe or a terminal, which the tree may have as well
        real = [path for path in paths if path.is_file() or path.is_dir()]
        with mmap.mmap(self.map("control").fd, mmap.PAGESIZE) as memory:
            control = np.frombuffer(memory, schema.CONTROL, 1)
            control["teacher"][0] = os.getpid()
            try:
                for path in real:
                    try:  # a running tree may have put something else there meanwhile: wait for nobody
                        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
                    except OSError as error:
                        refused.append((path, error))
            finally:
                control["teacher"][0] = 0
                del control
        return refused

    def attach_cgroup(self, path: Path) -> None:
        """Attach what sees one cgroup and all below it. May be called for several."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for hook in HOOKS:
                if hook.place in ("cgroup", "local") and hook.program in self.loaded:
                    self._attach(hook, fd)
        finally:
            os.close(fd)

    def track(self, pidfd: int) -> None:
        """Put a process's main thread into the tree; its threads and children follow with :meth:`tasks`."""
        if self._lists:
            self.map("members").update(struct.pack("<i", pidfd), _MEMBER.pack(1, 0, 0, 0, 0, 0))
        else:
            table_tree.mark(self.map("members"), _pid_of(pidfd))

    @property
    def _lists(self) -> bool:
        """Can the kernel be asked who is in the tree?"""
        return "on_task" in self.loaded

    @property
    def tree(self) -> Tree | TableTree:
        """The processes that are followed."""
        return Tree(self._object) if self._lists else TableTree(self.map("members"))

    def tasks(self) -> npt.NDArray[np.void]:
        """The processes of the tree right now, TASK[n]; also draws in threads and children."""
        return self.tree.tasks()
