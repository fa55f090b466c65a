# SPDX-License-Identifier: Apache-2.0
"""What loaded probes can be asked: their maps and counters, and what iterators find."""

from __future__ import annotations

import ctypes
import os
import struct

import numpy as np
import numpy.typing as npt

from tracer.kernel import libbpf, schema
from tracer.kernel.held import Held
from tracer.kernel.object import Map, Object
from tracer.kernel.schema import SPAN_TEXT

_INFO_BYTES = 256
#: struct span_name of span.bpf.h: start, tgid, token.
SPAN_NAME = struct.Struct("<QII")
#: Where recursion_misses lies in struct bpf_prog_info (include/uapi/linux/bpf.h, since 5.12).
_RECURSION_MISSES = 208


def is_whole(key: bytes, value: bytes) -> bool:
    """Does what is kept of an open span belong to the span of this name? Another may be given its place at any time."""
    e = np.frombuffer(value, schema.SPAN, 1)[0]
    return key == SPAN_NAME.pack(int(e["span_start"]), int(e["span_tgid"]), int(e["span_token"]))


def begun(value: bytes) -> tuple[int, bytes]:
    """When the span began of which this is kept, in ns; the record that told so."""
    e = np.frombuffer(value, schema.SPAN, 1)[0]
    return int(e["ts"]), value[: int(e["size"])]


def name_above(value: bytes) -> bytes:
    """The name of the span that it lies in."""
    e = np.frombuffer(value, schema.SPAN, 1)[0]
    return SPAN_NAME.pack(int(e["above_start"]), int(e["above_tgid"]), int(e["above_token"]))


class Readings:
    """Programs, ``loaded`` and ``attached``, of ``_object``; where there is no program for it, there is nothing to read."""

    _object: Object | Held
    loaded: set[str]
    attached: set[str]

    def map(self, name: str) -> Map:
        """A map of the loaded object."""
        return self._object.map(name)

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
        found = self.map("open_spans").items(SPAN_NAME.size, schema.SPAN.itemsize + SPAN_TEXT)
        return [record for _, record in sorted(begun(value) for key, value in found if is_whole(key, value))]

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
