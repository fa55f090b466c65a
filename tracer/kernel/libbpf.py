# SPDX-License-Identifier: Apache-2.0
"""libbpf (1.0 or later) through ctypes: typed prototypes, and its messages kept for our errors."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import threading
from collections import deque
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from tracer.errors import HostError, LoadError

MINIMUM = (1, 0)
#: Lines of libbpf's own words that an error carries: a verifier log ends with what matters.
KEPT_LINES = 400

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)


class _OpenOpts(ctypes.Structure):
    """struct bpf_object_open_opts up to ``btf_custom_path`` (tools/lib/bpf/libbpf.h)."""

    _fields_ = [
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", c_char_p),
        ("_attach_prog_fd", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
    ]


_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "libbpf_major_version": (c_uint32, []),
    "libbpf_minor_version": (c_uint32, []),
    "libbpf_set_print": (c_void_p, [_PRINT]),
    "libbpf_num_possible_cpus": (c_int, []),
    "bpf_object__open_file": (c_void_p, [c_char_p, POINTER(_OpenOpts)]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__find_program_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_object__next_program": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__find_map_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_program__name": (c_char_p, [c_void_p]),
    "bpf_program__section_name": (c_char_p, [c_void_p]),
    "bpf_program__set_autoload": (c_int, [c_void_p, ctypes.c_bool]),
    "bpf_program__set_type": (c_int, [c_void_p, c_int]),
    "bpf_program__set_expected_attach_type": (c_int, [c_void_p, c_int]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_program__attach": (c_void_p, [c_void_p]),
    "bpf_program__attach_cgroup": (c_void_p, [c_void_p, c_int]),
    "bpf_link_create": (c_int, [c_int, c_int, c_int, c_void_p]),
    "bpf_link__fd": (c_int, [c_void_p]),
    "bpf_link__destroy": (c_int, [c_void_p]),
    "bpf_iter_create": (c_int, [c_int]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__set_max_entries": (c_int, [c_void_p, c_uint32]),
    "bpf_map__max_entries": (c_uint32, [c_void_p]),
    "bpf_map__set_inner_map_fd": (c_int, [c_void_p, c_int]),
    "bpf_map_create": (c_int, [c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p]),
    "bpf_map__initial_value": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "bpf_map_lookup_elem": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_map_update_elem": (c_int, [c_int, c_void_p, c_void_p, c_uint64]),
    "bpf_map_delete_elem": (c_int, [c_int, c_void_p]),
    "bpf_map_get_next_key": (c_int, [c_int, c_void_p, c_void_p]),
    "bpf_obj_pin": (c_int, [c_int, c_char_p]),
    "bpf_obj_get": (c_int, [c_char_p]),
    "bpf_map_get_fd_by_id": (c_int, [c_uint32]),
    "bpf_prog_get_fd_by_id": (c_int, [c_uint32]),
    "bpf_obj_get_info_by_fd": (c_int, [c_int, c_void_p, POINTER(c_uint32)]),
    "bpf_prog_load": (c_int, [c_int, c_char_p, c_char_p, c_char_p, c_size_t, c_void_p]),
    "bpf_prog_test_run_opts": (c_int, [c_int, c_void_p]),
    "btf__parse": (c_void_p, [c_char_p, c_void_p]),
    "btf__find_by_name_kind": (c_int, [c_void_p, c_char_p, c_uint32]),
    "btf__free": (None, [c_void_p]),
}

_lock = threading.Lock()
_library: ctypes.CDLL | None = None
_messages: deque[str] = deque(maxlen=KEPT_LINES)


def _find() -> ctypes.CDLL:
    names = ["libbpf.so.1"]
    if found := ctypes.util.find_library("bpf"):
        names.append(found)
    failure: OSError | None = None
    for name in names:
        try:
            return ctypes.CDLL(name, use_errno=True)
        except OSError as error:
            failure = error
    raise HostError(
        f"libbpf is not installed ({failure})",
        hint="install it: apt-get install libbpf1 (Debian, Ubuntu), dnf install libbpf (Fedora, RHEL)",
    )


def library() -> ctypes.CDLL:
    """The loaded library, with every prototype set; raises HostError when missing or too old."""
    global _library  # noqa: PLW0603 - loaded once
    with _lock:
        if _library is not None:
            return _library
        lib = _find()
        try:
            found = (lib.libbpf_major_version(), lib.libbpf_minor_version())
        except AttributeError:
            found = (0, 0)
        if found < MINIMUM:
            raise HostError(
                f"libbpf {found[0]}.{found[1]} is too old: {MINIMUM[0]}.{MINIMUM[1]} or later is needed",
                hint="Debian 12, Ubuntu 24.04 and Fedora 38 have one that will do",
            )
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(lib, name)
            function.restype = result
            function.argtypes = arguments
        lib.libbpf_set_print(_keep_message)
        _library = lib
        return lib


_libc = ctypes.CDLL(None)
_libc.vsnprintf.restype = c_int
_libc.vsnprintf.argtypes = [c_char_p, c_size_t, c_char_p, c_void_p]
_LEVEL_DEBUG = 2
#: A verifier log ends with what matters, so there must be room for all of it.
_MESSAGE_BYTES = 1 << 24


def _print(level: int, pattern: bytes, arguments: int) -> int:
    if level >= _LEVEL_DEBUG:
        return 0
    buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
    written: int = _libc.vsnprintf(buffer, len(buffer), pattern, arguments)
    _messages.extend(buffer.value.decode("utf-8", "backslashreplace").splitlines())
    return written


#: Kept referenced: libbpf holds only its address.
_keep_message = _PRINT(_print)


def version() -> str:
    """Libbpf's version, as ``1.1``."""
    lib = library()
    return f"{lib.libbpf_major_version()}.{lib.libbpf_minor_version()}"


def forget_messages() -> None:
    """Drop what libbpf has said so far, before an operation whose errors matter."""
    _messages.clear()


def messages() -> str:
    """What libbpf has said since :func:`forget_messages`."""
    return "\n".join(_messages)


def failure(what: str, code: int | None = None) -> LoadError:
    """An error about ``what`` that carries errno's name and libbpf's words."""
    number = abs(code) if code else ctypes.get_errno()
    name = errno.errorcode.get(number, str(number))
    hint = None
    if number == errno.EPERM:
        hint = "run as root; in a container it needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN"
    return LoadError(f"{what}: {os.strerror(number)} ({name})", hint=hint, detail=messages() or None)


class _MapCreateOpts(ctypes.Structure):
    """struct bpf_map_create_opts up to ``map_flags`` (tools/lib/bpf/bpf.h)."""

    _fields_ = [
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
    ]


_BPF_MAP_TYPE_ARRAY = 2
_BPF_F_MMAPABLE = 1 << 10


def create_array(name: bytes, value_size: int, entries: int, *, mappable: bool) -> int:
    """A new array map; its descriptor, which the caller closes."""
    options = _MapCreateOpts()
    options.sz = ctypes.sizeof(_MapCreateOpts)
    options.map_flags = _BPF_F_MMAPABLE if mappable else 0
    fd = int(
        library().bpf_map_create(_BPF_MAP_TYPE_ARRAY, name, 4, value_size, entries, ctypes.byref(options))
    )
    if fd < 0:
        raise failure(f"can't make a map of {entries} elements of {value_size} bytes", fd)
    return fd


def open_options(btf: str | None = None) -> _OpenOpts:
    """Options for opening an object; ``btf`` names a file of kernel BTF to use instead of /sys."""
    options = _OpenOpts()
    options.sz = ctypes.sizeof(_OpenOpts)
    if btf:
        options.btf_custom_path = os.fsencode(btf)
    return options


_BTF_KIND_STRUCT = 4


def describes_a_kernel(path: str) -> bool:
    """Is this a file of BTF, by itself or in an ELF file, that tells of a kernel's types?"""
    lib = library()
    forget_messages()
    types = lib.btf__parse(os.fsencode(path), None)
    if not types:
        return False
    found = int(lib.btf__find_by_name_kind(types, b"task_struct", _BTF_KIND_STRUCT))
    lib.btf__free(types)
    return found > 0


class _LoadOpts(ctypes.Structure):
    """struct bpf_prog_load_opts up to ``expected_attach_type`` (tools/lib/bpf/bpf.h)."""

    _fields_ = [("sz", c_size_t), ("attempts", c_int), ("expected_attach_type", c_int)]


#: r0 = 1; exit
_RETURN_ONE = bytes.fromhex("b700000001000000 9500000000000000")


def takes_kind(kind: int, place: int) -> bool:
    """Does this kernel have programs of this type and attach type at all? One that does nothing is tried."""
    options = _LoadOpts(ctypes.sizeof(_LoadOpts), 1, place)
    fd = int(library().bpf_prog_load(kind, b"nothing", b"GPL", _RETURN_ONE, 2, ctypes.byref(options)))
    if fd < 0:
        return False
    os.close(fd)
    return True


class _RunOpts(ctypes.Structure):
    """struct bpf_test_run_opts up to ``retval`` (tools/lib/bpf/bpf.h)."""

    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
    ]


def run_once(program: int) -> int:
    """Have the kernel run a program (BPF_PROG_RUN) for us, here and now; what it returns."""
    options = _RunOpts()
    options.sz = ctypes.sizeof(_RunOpts)
    if code := library().bpf_prog_test_run_opts(program, ctypes.byref(options)):
        raise failure("the kernel does not run a probe by hand", code)
    return int(options.retval)
