# SPDX-License-Identifier: Apache-2.0
"""From what Numba has compiled to one shared object, for :mod:`tracer.linked` to load.

All entries, and a gate for each function that Python calls, go into one LLVM module, where what several of them
contain is there once. It is compiled as position-independent code and linked by the host's ld(1). Nothing in there
needs Python: what Numba asks of its runtime is a little memory, given below, and ways to raise exceptions, of
which nobody could be told from within a call that holds no interpreter: those are counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from elftools.elf.elffile import ELFFile
from numba import typeof, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from tracer import jit
from tracer.engine.gates import ENTRIES, Gate, gates
from tracer.engine.instructions import ints_at, reader
from tracer.errors import HostError
from tracer.linked import ERRORS, INDEX, INDEX_SIZE, name_of, types_of

_LINKERS = ("ld", "ld.lld", "ld.gold")
_FLAGS = ("-shared", "-Bsymbolic", "-z", "now", "-z", "relro", "-z", "noexecstack", "--hash-style=gnu")

#: What the C library has: it is there in every Python.
FROM_C = frozenset({"aligned_alloc", "free", "clock_gettime", "memcpy", "memmove", "memset", "memcmp"})

# Numba's MemInfo is a count, a destructor and its argument, where the data is and how long, an allocator. Numba
# asks for an alignment of 32.
_RUNTIME = f"""
declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)

define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {{
  %padded = add i64 %size, 127
  %whole = and i64 %padded, -64
  %info = call ptr @aligned_alloc(i64 64, i64 %whole)
  %none = icmp eq ptr %info, null
  br i1 %none, label %end, label %fill
fill:
  %data = getelementptr i8, ptr %info, i64 64
  store i64 1, ptr %info
  %dtor = getelementptr i64, ptr %info, i64 1
  store ptr null, ptr %dtor
  %given = getelementptr i64, ptr %info, i64 2
  store ptr null, ptr %given
  %where = getelementptr i64, ptr %info, i64 3
  store ptr %data, ptr %where
  %length = getelementptr i64, ptr %info, i64 4
  store i64 %size, ptr %length
  %allocator = getelementptr i64, ptr %info, i64 5
  store ptr null, ptr %allocator
  br label %end
end:
  ret ptr %info
}}
define void @NRT_MemInfo_call_dtor(ptr %info) {{
  call void @free(ptr %info)
  ret void
}}
define void @NRT_Free(ptr %data) {{
  call void @free(ptr %data)
  ret void
}}

@{ERRORS} = global i64 0
define void @PyErr_WriteUnraisable(ptr %where) {{
  %before = atomicrmw add ptr @{ERRORS}, i64 1 monotonic
  ret void
}}

@PyExc_RuntimeError = constant ptr null
@PyExc_StopIteration = constant ptr null
@PyExc_SystemError = constant ptr null
define void @PyErr_Clear() {{ ret void }}
define void @PyErr_SetNone(ptr %a) {{ ret void }}
define void @PyErr_SetString(ptr %a, ptr %b) {{ ret void }}
define void @Py_DecRef(ptr %a) {{ ret void }}
define ptr @PyUnicode_FromString(ptr %a) {{ ret ptr null }}
define ptr @PyBytes_FromStringAndSize(ptr %a, i64 %b) {{ ret ptr null }}
define void @numba_gil_ensure(ptr %a) {{ ret void }}
define void @numba_gil_release(ptr %a) {{ ret void }}
define void @numba_do_raise(ptr %a) {{ ret void }}
define ptr @numba_unpickle(ptr %a, i32 %b, ptr %c) {{ ret ptr null }}
define ptr @numba_runtime_build_excinfo_struct(ptr %a, ptr %b) {{ ret ptr null }}
"""


def linker() -> str | None:
    """The host's linker, or None."""
    return next((path for name in _LINKERS if (path := shutil.which(name))), None)


def _gate(made: Gate) -> Any:
    """The compiled ``int64 gate(words: int64, results: int64)`` of a function."""
    function, results = made.function, made.results
    read = reader(types.Tuple([typeof(argument) for argument in made.arguments]))

    def none(words: int, back: int) -> int:
        function(*read(words))
        return 0

    def one(words: int, back: int) -> int:
        ints_at(back, 1)[0] = function(*read(words))
        return 0

    def two(words: int, back: int) -> int:
        first, second = function(*read(words))
        to = ints_at(back, 2)
        to[0], to[1] = first, second
        return 0

    shapes: tuple[Callable[[int, int], int], ...] = (none, one, two)
    compiled: Any = jit.gate(shapes[results])
    compiled.compile((types.int64, types.int64))
    return next(iter(compiled.overloads.values()))


def _index_ir(index: dict[str, Any]) -> str:
    said = json.dumps(index).encode()
    data = "".join(f"\\{byte:02X}" for byte in said)
    return f'@{INDEX} = constant [{len(said)} x i8] c"{data}"\n@{INDEX_SIZE} = constant i64 {len(said)}\n'


def _gather() -> tuple[Any, set[str]]:
    """Everything in one module, and which of its symbols others look for."""
    index: dict[str, Any] = {"gates": {}, "entries": {}}
    parts: list[tuple[Any, str]] = []
    for entry in ENTRIES:
        index["entries"][name_of(entry._pyfunc)] = entry.native_name  # noqa: SLF001 - Numba has no other name
        parts.append((entry._library, entry.native_name))  # noqa: SLF001
    for made in gates():
        found = _gate(made)
        symbol = found.fndesc.llvm_func_name
        index["gates"][name_of(made.function.py_func)] = {
            "symbol": symbol,
            "types": types_of(made.arguments),
            "results": made.results,
        }
        parts.append((found.library, symbol))
    codegen = cpu_target.target_context.codegen()
    whole = llvm.parse_assembly(str(codegen._create_empty_module("vigiles")))  # noqa: SLF001
    for library, symbol in parts:
        module = library._get_module_for_linking().clone()  # noqa: SLF001
        module.get_function(symbol).linkage = "external"  # a copy that may be left out would be
        whole.link_in(module)
    whole.link_in(llvm.parse_assembly(_RUNTIME))
    whole.link_in(llvm.parse_assembly(_index_ir(index)))
    return whole, {symbol for _, symbol in parts} | {INDEX, INDEX_SIZE, ERRORS}


def _compile(whole: Any, wanted: set[str]) -> bytes:
    """The module as an object file; what nobody looks for and nothing calls is left out."""
    for symbol in (*whole.functions, *whole.global_variables):
        if not symbol.is_declaration:
            symbol.linkage = "external" if symbol.name in wanted else "internal"
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default"
    )
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(whole, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return bytes(machine.emit_object(whole))


def missing(code: bytes) -> set[str]:
    """Symbols that an object file asks for and no C library has."""
    table: Any = ELFFile(BytesIO(code)).get_section_by_name(".symtab")
    wanted = {s.name for s in table.iter_symbols() if s.name and s["st_shndx"] == "SHN_UNDEF"}
    return wanted - FROM_C


def link() -> Path:
    """Make the linked engine of this version, for this processor, and put it where it is looked for."""
    program = linker()
    if program is None:
        raise HostError("there is no linker (ld, of binutils)")
    path = jit.linked_path()
    if path is None:
        raise HostError("no directory here is safe from others")
    with global_compiler_lock:
        code = _compile(*_gather())
    if lacking := missing(code):
        raise HostError(f"it asks for what only Numba has: {', '.join(sorted(lacking))}")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, made = Path(folder) / "engine.o", Path(folder) / "engine.so"
        source.write_bytes(code)
        done = subprocess.run(
            [program, *_FLAGS, "-o", str(made), str(source)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise HostError(f"{program}: {done.stderr.strip()[:200]}")
        made.chmod(0o600)
        os.replace(made, path)
    return path
