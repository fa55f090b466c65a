# SPDX-License-Identifier: Apache-2.0
"""Have bcc compile a file, and keep what came of it: ``python -I bcc_child.py FOLDER SOURCE OBJECT``.

A process of its own, since bcc brings all of clang along. FOLDER is where bcc is imported from, and nothing else is.
bcc's interface gives out the code of functions and no types; but LLVM shows each object that it compiles into memory
to debuggers, by the interface of GDB (llvm/docs/DebuggingJITedCode.rst), and there it is taken from.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EM_BPF = 247  # include/uapi/linux/elf-em.h
_E_MACHINE = 18
_QUIET = "-w"  # the kernel's headers are not ours to warn about


class _Entry(ctypes.Structure):
    """struct jit_code_entry."""


_Entry._fields_ = [
    ("next", ctypes.POINTER(_Entry)),
    ("previous", ctypes.POINTER(_Entry)),
    ("address", ctypes.c_void_p),
    ("size", ctypes.c_uint64),
]


class _Descriptor(ctypes.Structure):
    """struct jit_descriptor."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("relevant", ctypes.POINTER(_Entry)),
        ("first", ctypes.POINTER(_Entry)),
    )


def _shown(library: ctypes.CDLL) -> Iterator[bytes]:
    """The objects that LLVM has in memory, as it shows them to debuggers."""
    entry = _Descriptor.in_dll(library, "__jit_debug_descriptor").first
    while entry:
        yield ctypes.string_at(entry.contents.address, entry.contents.size)
        entry = entry.contents.next


def main(folder: str, source: str, made: str) -> int:
    """Return the exit status; what went wrong is on standard error."""
    sys.path.append(folder)
    bcc: Any = importlib.import_module("bcc")
    libbcc: Any = importlib.import_module("bcc.libbcc")
    program = bcc.BPF(text=Path(source).read_text(encoding="ascii"), cflags=[_QUIET])
    objects = [data for data in _shown(libbcc.lib) if data[_E_MACHINE] == _EM_BPF]
    del program
    if not objects:
        print("bcc has compiled, but LLVM does not show the object", file=sys.stderr)
        return 1
    Path(made).write_bytes(max(objects, key=len))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
