# SPDX-License-Identifier: Apache-2.0
"""Maps and programs by their ids: what the kernel still holds of a tracer, its own or one that is no more.

Whoever pinned the links (:mod:`.pins`) has the programs go on without it; programs hold their maps.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tracer.errors import LoadError
from tracer.kernel import libbpf
from tracer.kernel.object import Link, Map, iterate

_INFO_BYTES = 256
_NAME_BYTES = 16
# struct bpf_map_info (include/uapi/linux/bpf.h): type, id, key_size, value_size, max_entries, map_flags, name
_MAP_INFO = struct.Struct("<6I")
_MAP_NAME = 24
# struct bpf_prog_info: type, id, …, name
_PROGRAM_NAME = 64


def _info(fd: int) -> bytes:
    buffer = ctypes.create_string_buffer(_INFO_BYTES)
    size = ctypes.c_uint32(_INFO_BYTES)
    if code := libbpf.library().bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(size)):
        raise libbpf.failure("can't ask what a descriptor is", code)
    return buffer.raw


def id_of(fd: int) -> int:
    """The id of the map or program behind a descriptor."""
    return int(struct.unpack_from("<I", _info(fd), 4)[0])


def shape_of(fd: int) -> tuple[int, int]:
    """Bytes of a key and of a value of the map behind a descriptor."""
    _, _, key, value, _, _ = _MAP_INFO.unpack_from(_info(fd))
    return int(key), int(value)


def _opened(what: str, name: str, number: int) -> tuple[int, bytes]:
    """A descriptor of the map or probe with this id, and its info. An id may be another's by now."""
    lib = libbpf.library()
    fd = lib.bpf_map_get_fd_by_id(number) if what == "map" else lib.bpf_prog_get_fd_by_id(number)
    if fd < 0:
        raise libbpf.failure(f"{what} {name} is gone", fd)
    info = _info(fd)
    at = _MAP_NAME if what == "map" else _PROGRAM_NAME
    if info[at : at + _NAME_BYTES].rstrip(b"\0") != name.encode()[: _NAME_BYTES - 1]:
        os.close(fd)
        raise LoadError(f"{what} {name} is gone: its number has been given away")
    return int(fd), info


class Held:
    """Stands for a loaded object, of which only ids are known. Raises LoadError if they mean something else."""

    def __init__(self, maps: Mapping[str, int], programs: Mapping[str, int]) -> None:
        self._maps: dict[str, Map] = {}
        self._programs: dict[str, int] = {}
        try:
            for name, number in maps.items():
                fd, info = _opened("map", name, number)
                self._maps[name] = Map(name, fd, int(_MAP_INFO.unpack_from(info)[4]))
            for name, number in programs.items():
                self._programs[name], _ = _opened("probe", name, number)
        except BaseException:
            self.close()
            raise

    def map(self, name: str) -> Map:
        """The map called ``name``."""
        return self._maps[name]

    def program_fd(self, name: str) -> int:
        """Descriptor of a program."""
        return self._programs[name]

    @contextmanager
    def iterate(self, name: str, over: int | None = None) -> Iterator[int]:
        """Run an iterator program, as :meth:`tracer.kernel.object.Object.iterate` does."""
        with iterate(name, self._programs[name], over) as fd:
            yield fd

    def links(self) -> list[Link]:
        """None: they are held by their pins."""
        return []

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
        for held in self._maps.values():
            os.close(held.fd)
        for fd in self._programs.values():
            os.close(fd)
        self._maps, self._programs = {}, {}
