# SPDX-License-Identifier: Apache-2.0
"""The probes of one watch: which can run here, loaded, attached, asked for their counters."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracer.errors import LoadError
from tracer.gpu.devices import Device, map_entries
from tracer.kernel import cgroup, held, host, libbpf, loader, schema, table_tree
from tracer.kernel.btf import Btf
from tracer.kernel.held import Held
from tracer.kernel.knowledge import Knowledge
from tracer.kernel.object import Map, Object
from tracer.kernel.pins import Pins
from tracer.kernel.remains import Remains
from tracer.kernel.schema import SPAN_TEXT
from tracer.kernel.table_tree import TableTree
from tracer.kernel.tree import Tree
from tracer.rules import RuleSet

#: struct member of tree.bpf.h: tree, exit_sent, gpu_client, left, told, barred.
_MEMBER = struct.Struct("<IIIIII")
_INFO_BYTES = 256
#: struct span_name of span.bpf.h: start, tgid, token.
_SPAN_NAME = struct.Struct("<QII")
#: What knowledge.bpf.h declares.
_ROW_CELLS = 64
#: Where recursion_misses lies in struct bpf_prog_info (include/uapi/linux/bpf.h, since 5.12).
_RECURSION_MISSES = 208


@dataclass(frozen=True, slots=True)
class Hook:
    """One program: what it shows, whether the watch can do without it, where it is attached."""

    program: str
    shows: str
    place: str  # kernel | modules | lsm | cgroup | local (a cgroup's, from Linux 6.7 on) | gpu | iterator
    needed: bool = False
    instead: str = ""  # taken only where the kernel refuses this program


HOOKS: tuple[Hook, ...] = (
    Hook("on_fork", "forks", "kernel", needed=True),
    Hook("on_exec", "execs", "kernel", needed=True),
    Hook("on_exit", "exits", "kernel", needed=True),
    Hook("on_free", "tasks given back", "kernel", needed=True),
    Hook("on_task", "processes that were there before", "iterator", needed=True),
    Hook("on_socket", "flows that were there before", "iterator"),
    Hook("on_gpu_file", "GPUs that were held before", "iterator"),
    Hook("on_sample", "what flows carry, ten times a second", "iterator"),
    Hook(
        "on_sample_files",
        "the same, among the host's open files",
        "iterator",
        instead="on_sample",
    ),
    Hook("on_effort", "how much processes compute, once a second", "iterator"),
    Hook("on_signal", "signals to the tracer", "kernel"),
    Hook("on_cgroup", "processes leaving the tree's cgroup, the tracer moved", "kernel"),
    Hook("on_freeze", "the tracer frozen", "kernel"),
    Hook("on_module", "kernel modules loaded", "modules"),
    Hook("on_exec_check", "programs refused before they begin", "lsm"),
    Hook("on_kill", "signals to the tracer, refused", "lsm"),
    Hook("on_ptrace", "the tracer traced, its memory and descriptors taken", "lsm"),
    Hook("on_bpf", "bpf(2)", "lsm"),
    Hook("on_bpf_map", "descriptors of our maps", "lsm"),
    Hook("on_bpf_prog", "descriptors of our programs", "lsm"),
    Hook("on_perf", "perf_event_open(2)", "lsm"),
    Hook("on_mount", "mounts where the watch looks", "lsm"),
    Hook("on_move_mount", "mounts moved there", "lsm"),
    Hook("on_umount", "unmounts there", "lsm"),
    Hook("on_file_open", "files of the watch opened for writing", "lsm"),
    Hook("on_unlink", "files of the watch removed", "lsm"),
    Hook("on_rename", "files of the watch renamed", "lsm"),
    Hook("on_read_file", "kernel modules, refused (from a file)", "lsm"),
    Hook("on_load_data", "kernel modules, refused (from memory)", "lsm"),
    Hook("on_tcp_state", "TCP connections: begin, end, result; listening", "kernel"),
    Hook("on_tcp_ops", "TCP connections: begin, end, result; listening", "cgroup"),
    Hook("on_connect4", "connects, IPv4", "cgroup"),
    Hook("on_connect6", "connects, IPv6", "cgroup"),
    Hook("on_sendmsg4", "datagrams sent without connect, IPv4", "cgroup"),
    Hook("on_sendmsg6", "datagrams sent without connect, IPv6", "cgroup"),
    Hook("on_ask4", "ports that datagram servers ask for, IPv4", "cgroup"),
    Hook("on_ask6", "ports that datagram servers ask for, IPv6", "cgroup"),
    Hook("on_bind4", "datagram servers, IPv4", "cgroup"),
    Hook("on_bind6", "datagram servers, IPv6", "cgroup"),
    Hook("on_egress", "first bytes sent", "cgroup"),
    Hook("on_ingress", "first bytes received", "cgroup"),
    Hook("on_span", "spans: tool calls and steps that the tree marks", "cgroup"),
    Hook("on_connect_local", "connects to UNIX sockets", "local"),
    Hook("on_device", "GPU devices opened", "cgroup"),
    Hook("on_ioctl_lsm", "GPU ioctls", "gpu"),
    Hook("on_ioctl_lsm_compat", "GPU ioctls of 32-bit calls", "gpu"),
    Hook("on_ioctl_fentry", "GPU ioctls", "gpu"),
    Hook("on_ioctl_fentry_compat", "GPU ioctls of 32-bit calls", "gpu"),
    Hook("on_ioctl_kprobe", "GPU ioctls", "gpu"),
    Hook("on_ioctl_kprobe_compat", "GPU ioctls of 32-bit calls", "gpu"),
    Hook("on_sys_enter", "GPU ioctls (at every system call of the host)", "gpu"),
)


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


#: Programs of these sections are loaded by types that the kernel itself describes, or not at all.
_TYPED = ("tp_btf/", "lsm/", "fentry/", "iter/")


def opened() -> Object:
    """The compiled probes that the loader of this process takes, not loaded yet."""
    taken = loader.taken()
    return Object(taken.path, btf=str(taken.types) if taken.types else None)


@functools.cache
def _sections(name: str) -> dict[str, str]:
    with opened() as candidate:
        return {
            program: section
            for program, section in candidate.programs()
            if name == "libbpf" or not section.startswith(_TYPED)
        }


def sections() -> dict[str, str]:
    """Program → section of all that the loader of this process could load."""
    return _sections(loader.taken().name)


def hooks() -> tuple[Hook, ...]:
    """Those that it has."""
    return tuple(hook for hook in HOOKS if hook.program in sections())


def unseen() -> dict[str, str]:
    """What only the other loader's programs show, and why; BPF LSM, which few kernels ask, is another matter."""
    taken, here = loader.taken(), {hook.shows for hook in hooks()}
    if taken.name == "libbpf":
        return {}
    theirs = (h for h in HOOKS if h.shows not in here and h.place != "lsm" and not h.needed and not h.instead)
    return {hook.program: f"not by the loader {taken.name}" for hook in theirs}


@functools.cache
def _layout(path: Path) -> Btf:
    return schema.BTF if path == schema.BTF.path else Btf(path)


def _set(candidate: Object, options: Mapping[str, int]) -> None:
    """Set global constants of the probes, before load; of those that are for programs left out, there are none."""
    known = _layout(candidate.path).options
    for name, value in options.items():
        if name in known:
            offset, size = known[name]
            candidate.set_option(offset, value.to_bytes(size, "little"))


def _pid_of(pidfd: int) -> int:
    """Whom a pidfd is open on."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        name, _, number = line.partition(":")
        if name == "Pid" and int(number) > 0:
            return int(number)
    raise LoadError("the process that was to be watched has ended")


@functools.cache
def needs_kin() -> bool:
    """Are programs on cgroups not allowed to look into a task's storage here? See tree.bpf.h."""
    with opened() as candidate:
        candidate.select({"on_bind4"})
        _set(candidate, {"filter_by_lineage": 1})
        try:
            candidate.load()
        except LoadError:
            return True
    return False


def usable(programs: Iterable[str], *, attached: bool = False) -> dict[str, str | None]:
    """Try each program alone: None if the kernel takes it, else its complaint in one line.

    ``attached``: see, too, that it can be attached where its section says.
    """
    found: dict[str, str | None] = {}
    for name in programs:
        with opened() as candidate:
            candidate.select({name})
            _set(candidate, {"keep_kin": int(needs_kin())})
            try:
                candidate.load()
                if attached:
                    candidate.attach(name)
                found[name] = None
            except LoadError as error:
                found[name] = error.message
    return found


def refuses() -> bool:
    """Is BPF LSM switched on, and does the kernel take our programs for it?"""
    return "on_perf" in sections() and host.asks_bpf() and usable(["on_perf"])["on_perf"] is None


@functools.cache
def by_rungs(hooks: tuple[Hook, ...]) -> tuple[Hook, ...]:
    """Those to take here: of two that do the same, the second only if the kernel refuses the first."""
    firsts = {hook.instead for hook in hooks if hook.instead}
    refused = {name for name, complaint in usable(sorted(firsts)).items() if complaint}
    return tuple(hook for hook in hooks if hook.program not in refused and hook.instead in ({""} | refused))


#: Maps that user space has a hand in. Others are the programs' own, which hold them.
KEPT_MAPS = (
    "ring_critical", "ring_bulk", "counters", "reader", "control", "cuts", "knowledge", "members", "gpu_devices",
    "named",
    "flows",
)  # fmt: skip
#: And those that only these programs have.
KEPT_WITH = {"on_file_open": "guarded_files", "on_bpf_map": "guarded_ids", "on_span": "open_spans"}


class Probes:
    """Loaded and attached programs; everything goes away with :meth:`close` or with the process."""

    def __init__(self, options: ProbeOptions) -> None:
        self.options = options
        self.knowledge = Knowledge(options.rules) if options.rules else None
        there = {"kernel", "cgroup", "local", "iterator"}
        there |= {"modules"} if host.takes_modules() else set()
        there |= {"lsm"} if refuses() and not options.looks_on else set()
        wanted = {h.program for h in by_rungs(hooks()) if h.place in there}
        wanted -= {"on_span"} if options.looks_on else set()
        wanted |= self._gpu_programs() if options.devices else set()
        self.missing: dict[str, str] = {}
        self.unseen = unseen()
        self._object: Object | Held
        try:
            self._object = self._load_with_local(wanted)
        except LoadError:
            refused = {name: why for name, why in usable(sorted(wanted)).items() if why}
            if not refused or any(h.needed for h in HOOKS if h.program in refused):
                raise
            self.missing |= refused
            self._object = self._load(wanted - set(refused))
        self.loaded = wanted - set(self.missing)
        self.attached: set[str] = set()
        if self.knowledge:
            self.knowledge.install(self._object.map("knowledge"))
        devices = self._object.map("gpu_devices")
        for key, value in map_entries(options.devices):
            devices.update(key, value)

    @staticmethod
    def _gpu_programs() -> set[str]:
        """What shows GPU ioctls here; imported late, since it tries programs by what is defined here."""
        from tracer.kernel.rungs import gpu_rung

        return set(gpu_rung().programs)

    def _load_with_local(self, wanted: set[str]) -> Object:
        """Load these, and without what only younger kernels take if that is refused: doctor says so."""
        try:
            return self._load(wanted)
        except LoadError:
            rest = wanted - {hook.program for hook in HOOKS if hook.place == "local"}
            found = self._load(rest)
            wanted &= rest
            return found

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

    def _kept_maps(self) -> tuple[str, ...]:
        """Those that programs hold: without the programs they end with us."""
        return (*KEPT_MAPS, *(name for program, name in KEPT_WITH.items() if program in self.loaded))

    def remains(self) -> Remains:
        """What another tracer needs to go on with these probes."""
        assert self.knowledge is not None
        return Remains(
            maps={name: held.id_of(self.map(name).fd) for name in self._kept_maps()},
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
            _set(
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

    def map(self, name: str) -> Map:
        """A map of the loaded object."""
        return self._object.map(name)

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
        ids = [held.id_of(self.map(name).fd) << 1 for name in self._kept_maps()]
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

    @property
    def outlives_us(self) -> bool:
        """Can another process find these probes, and go on with them?"""
        return self._lists

    def tasks(self) -> npt.NDArray[np.void]:
        """The processes of the tree right now, TASK[n]; also draws in threads and children."""
        return self.tree.tasks()

    def _read_iterator(self, program: str, over: int | None = None) -> bytes:
        parts = []
        with self._object.iterate(program, over) as fd:
            while chunk := os.read(fd, 1 << 20):
                parts.append(chunk)
        return b"".join(parts)

    def sockets(self) -> list[bytes]:
        """Flows that the tree had before the watch, as FLOW_OPEN records; marks all its sockets."""
        if "on_socket" not in self.loaded:
            return []
        size = schema.FLOW_OPEN.itemsize
        found = self._read_iterator("on_socket")
        return [found[at : at + size] for at in range(0, len(found) - size + 1, size)]

    def held_devices(self) -> list[bytes]:
        """GPUs that processes of the tree held before the watch, as GPU_OPEN records: one for each device and process."""
        if "on_gpu_file" not in self.loaded:
            return []
        found = self._read_iterator("on_gpu_file")
        size = schema.GPU_OPEN.itemsize
        once: dict[tuple[int, ...], bytes] = {}
        for e in np.frombuffer(found, schema.GPU_OPEN, len(found) // size):
            once.setdefault(tuple(int(e[name]) for name in ("start", "tgid", "major", "minor")), e.tobytes())
        return [once[key] for key in sorted(once)]

    def open_spans(self) -> list[bytes]:
        """What has been said of spans that are open, as SPAN records, in the order of their beginnings."""
        if "on_span" not in self.loaded:
            return []
        records: list[tuple[int, bytes]] = []
        for key, record in self.map("open_spans").items(_SPAN_NAME.size, schema.SPAN.itemsize + SPAN_TEXT):
            e = np.frombuffer(record, schema.SPAN, 1)[0]
            if key == _SPAN_NAME.pack(int(e["span_start"]), int(e["span_tgid"]), int(e["span_token"])):
                records.append((int(e["ts"]), record[: int(e["size"])]))
        return [record for _, record in sorted(records)]

    def samples(self) -> list[bytes]:
        """What each TCP connection of the tree has carried since the last call, as FLOW_SAMPLE records."""
        if "on_sample" in self.loaded:
            found = self._read_iterator("on_sample", self.map("flows").fd)
        elif "on_sample_files" in self.loaded:
            found = self._read_iterator("on_sample_files")
        else:
            return []
        size = schema.FLOW_SAMPLE.itemsize
        return [found[at : at + size] for at in range(0, len(found) - size + 1, size)]

    def efforts(self) -> list[bytes]:
        """How much each busy process of the tree has computed since the last call, as EFFORT records."""
        if "on_effort" not in self.loaded:
            return []
        size = schema.EFFORT.itemsize
        found = self._read_iterator("on_effort")
        return [found[at : at + size] for at in range(0, len(found) - size + 1, size)]

    def counters(self) -> npt.NDArray[np.void]:
        """COUNTERS[cpus]: what was sent, lost, and why."""
        return self.map("counters").lookup_per_cpu(struct.pack("<I", 0), schema.COUNTERS)

    def misses(self) -> dict[str, int]:
        """Runs that the kernel skipped because the program was already running on that CPU."""
        found = {}
        for name in sorted(self.attached):
            buffer = ctypes.create_string_buffer(_INFO_BYTES)
            size = ctypes.c_uint32(_INFO_BYTES)
            lib = libbpf.library()
            fd = self._object.program_fd(name)
            failed = lib.bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(size))
            if failed or size.value < _RECURSION_MISSES + 8:
                continue  # a kernel before 5.12 does not count them
            (count,) = struct.unpack_from("<Q", buffer, _RECURSION_MISSES)
            if count:
                found[name] = count
        return found
