# SPDX-License-Identifier: Apache-2.0
"""A BPF object: opened, configured, loaded, attached, and all released again."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from tracer.errors import LoadError
from tracer.kernel import libbpf

BPF_ANY = 0
BPF_NOEXIST = 1


class Map:
    """One map in the kernel. Keys and values are bytes in the C layout.

    ``fd`` belongs to whoever made this. ``max_entries``: of a ring, its bytes.
    """

    def __init__(self, name: str, fd: int, max_entries: int) -> None:
        self._lib = libbpf.library()
        self.name = name
        self.fd = fd
        self.max_entries = max_entries

    def update(self, key: bytes, value: bytes) -> None:
        """Set one value."""
        code = self._lib.bpf_map_update_elem(self.fd, key, value, BPF_ANY)
        if code:
            raise libbpf.failure(f"map {self.name} refused a value", code)

    def add(self, key: bytes, value: bytes) -> bool:
        """Set one value where there is none; false if there was one, or no room."""
        return int(self._lib.bpf_map_update_elem(self.fd, key, value, BPF_NOEXIST)) == 0

    def delete(self, key: bytes) -> bool:
        """Remove one value; false if there was none."""
        return int(self._lib.bpf_map_delete_elem(self.fd, key)) == 0

    def lookup(self, key: bytes, size: int) -> bytes | None:
        """One value of ``size`` bytes, or None."""
        buffer = ctypes.create_string_buffer(size)
        if self._lib.bpf_map_lookup_elem(self.fd, key, buffer):
            return None
        return buffer.raw

    def items(self, key_size: int, size: int) -> list[tuple[bytes, bytes]]:
        """All keys and values, of so many bytes; of a hash that changes meanwhile, some may be missing."""
        found: list[tuple[bytes, bytes]] = []
        key, following = None, ctypes.create_string_buffer(key_size)
        # a key that goes away has the walk begin anew: not for ever
        for _ in range(2 * self.max_entries):
            if self._lib.bpf_map_get_next_key(self.fd, key, following):
                break
            key = following.raw
            value = self.lookup(key, size)
            if value is not None:
                found.append((key, value))
        return found

    def lookup_per_cpu(self, key: bytes, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
        """The values of all possible CPUs, shape (cpus,); the kernel pads each to 8 bytes."""
        cpus = int(self._lib.libbpf_num_possible_cpus())
        stride = (dtype.itemsize + 7) & ~7
        raw = self.lookup(key, stride * cpus)
        if raw is None:
            raise libbpf.failure(f"map {self.name} can't be read")
        rows = np.frombuffer(raw, np.uint8).reshape(cpus, stride)[:, : dtype.itemsize]
        return np.ascontiguousarray(rows).view(dtype).reshape(cpus)


#: Sections that libbpf does not know before 1.3, nor many kernels: enum bpf_prog_type, enum bpf_attach_type.
YOUNG_SECTIONS = {"cgroup/connect_unix": (18, 49)}


class Link:
    """An attachment; the program is detached when it is closed, or when the process ends."""

    def __init__(self, handle: int, program: str) -> None:
        self._lib = libbpf.library()
        self._handle: int | None = handle
        self.program = program

    @property
    def fd(self) -> int:
        """The link's descriptor."""
        return int(self._lib.bpf_link__fd(self._handle))

    def close(self) -> None:
        """Detach. May be called twice."""
        if self._handle is not None:
            self._lib.bpf_link__destroy(self._handle)
            self._handle = None


class Object:
    """An object file through its life: open, configure, :meth:`load`, attach, :meth:`close`."""

    def __init__(self, path: Path, *, btf: str | None = None) -> None:
        self._lib = libbpf.library()
        self._links: list[Link] = []
        self.path = path
        libbpf.forget_messages()
        options = libbpf.open_options(btf)
        self._handle: int | None = self._lib.bpf_object__open_file(os.fsencode(path), ctypes.byref(options))
        if not self._handle:
            raise libbpf.failure(f"{path} can't be opened as a BPF object")
        for name, section in self.programs():
            if section in YOUNG_SECTIONS:
                kind, place = YOUNG_SECTIONS[section]
                self._lib.bpf_program__set_type(self._program(name), kind)
                self._lib.bpf_program__set_expected_attach_type(self._program(name), place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach everything and give all memory back. May be called twice."""
        while self._links:
            self._links.pop().close()
        if self._handle:
            self._lib.bpf_object__close(self._handle)
            self._handle = None

    def programs(self) -> Iterator[tuple[str, str]]:
        """(name, section) of every program."""
        current = self._lib.bpf_object__next_program(self._handle, None)
        while current:
            name = self._lib.bpf_program__name(current).decode()
            yield name, self._lib.bpf_program__section_name(current).decode()
            current = self._lib.bpf_object__next_program(self._handle, current)

    def _program(self, name: str) -> int:
        handle = self._lib.bpf_object__find_program_by_name(self._handle, name.encode())
        if not handle:
            known = ", ".join(found for found, _ in self.programs())
            raise LoadError(f"{self.path.name} has no program {name} (it has {known})")
        return int(handle)

    def _map(self, name: str) -> int:
        handle = self._lib.bpf_object__find_map_by_name(self._handle, name.encode())
        if not handle:
            raise LoadError(f"{self.path.name} has no map {name}")
        return int(handle)

    def map(self, name: str) -> Map:
        """The map called ``name``, once it is loaded."""
        handle = self._map(name)
        return Map(name, int(self._lib.bpf_map__fd(handle)), int(self._lib.bpf_map__max_entries(handle)))

    def select(self, names: set[str]) -> None:
        """Load these programs and no others."""
        for name, _ in list(self.programs()):
            self._lib.bpf_program__set_autoload(self._program(name), name in names)

    def set_option(self, offset: int, value: bytes) -> None:
        """Set a ``const volatile`` global at ``offset`` in .rodata, before load."""
        handle = self._lib.bpf_object__find_map_by_name(self._handle, b".rodata")
        size = ctypes.c_size_t()
        address = self._lib.bpf_map__initial_value(handle, ctypes.byref(size)) if handle else None
        if not address or offset + len(value) > size.value:
            raise LoadError(f"{self.path.name} has no option at offset {offset} of .rodata")
        ctypes.memmove(address + offset, value, len(value))

    def load(self) -> None:
        """Hand everything to the kernel; the error carries the verifier's words."""
        libbpf.forget_messages()
        if code := self._lib.bpf_object__load(self._handle):
            raise libbpf.failure("the kernel refused the probes", code)

    def program_fd(self, name: str) -> int:
        """Descriptor of a loaded program."""
        return int(self._lib.bpf_program__fd(self._program(name)))

    def resize(self, name: str, entries: int) -> None:
        """Set the size of a map, before load."""
        if code := self._lib.bpf_map__set_max_entries(self._map(name), entries):
            raise libbpf.failure(f"map {name} can't have {entries} entries", code)

    def set_inner(self, name: str, template: int) -> None:
        """Set the shape of the maps that an array of maps takes, before load."""
        if code := self._lib.bpf_map__set_inner_map_fd(self._map(name), template):
            raise libbpf.failure(f"map {name} can't take such maps", code)

    def attach(self, name: str) -> Link:
        """Attach a program to where its section says."""
        return self._linked(name, self._lib.bpf_program__attach(self._program(name)), "")

    def attach_cgroup(self, name: str, cgroup_fd: int) -> Link:
        """Attach a cgroup program to the cgroup that ``cgroup_fd`` is open on."""
        handle = self._lib.bpf_program__attach_cgroup(self._program(name), cgroup_fd)
        return self._linked(name, handle, " to the cgroup")

    def _linked(self, name: str, handle: int | None, where: str) -> Link:
        if not handle:
            raise libbpf.failure(f"probe {name} can't be attached{where}")
        link = Link(handle, name)
        self._links.append(link)
        return link

    @contextmanager
    def iterate(self, name: str, over: int | None = None) -> Iterator[int]:
        """Run an iterator program: a descriptor from which its output can be read once.

        ``over``: the map whose elements it is to meet, for a program that meets elements.
        """
        with iterate(name, self.program_fd(name), over) as fd:
            yield fd

    def links(self) -> list[Link]:
        """What is attached."""
        return list(self._links)


_BPF_TRACE_ITER = 28  # enum bpf_attach_type, include/uapi/linux/bpf.h


class _LinkOptions(ctypes.Structure):
    """The beginning of libbpf's struct bpf_link_create_opts: it goes by the size that is given."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
    )


@contextmanager
def iterate(name: str, program: int, over: int | None = None) -> Iterator[int]:
    """Run the iterator program with this descriptor: another, from which its output can be read once."""
    lib = libbpf.library()
    options = None
    if over is not None:  # union bpf_iter_link_info: the map's descriptor comes first
        info = (ctypes.c_uint32 * 4)(over)
        options = ctypes.byref(
            _LinkOptions(ctypes.sizeof(_LinkOptions), 0, ctypes.addressof(info), ctypes.sizeof(info), 0)
        )
    link = lib.bpf_link_create(program, 0, _BPF_TRACE_ITER, options)
    if link < 0:
        raise libbpf.failure(f"iterator {name} can't be attached", link)
    try:
        fd = lib.bpf_iter_create(link)
        if fd < 0:
            raise libbpf.failure(f"iterator {name} can't be started", fd)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(link)
