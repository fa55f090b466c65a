# SPDX-License-Identifier: Apache-2.0
"""What the structure of an executed file tells: its headers, its symbols, its makers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tracer.triage.bounded import Deadline, Limits, OutOfBudgetError, Reader, regular_file
from tracer.triage.fatbin import GpuCode, read_gpu_code
from tracer.triage.golang import GoBuild, read_go
from tracer.triage.headers import ET_DYN, ET_EXEC, MACHINES, PF_W, PF_X, Headers, read_headers
from tracer.triage.packing import packing_facts
from tracer.triage.symbols import Found, read_interpreter, read_needed, read_symbols
from tracer.triage.work import FUNCTIONS, is_work_kernel

T = TypeVar("T")

#: Of a #! line the kernel reads no more.
_FIRST_LINE = 256
#: One function may be there for another reason.
_FUNCTIONS_MIN = 2
_RUSTC = b"/rustc/"
_CRATE = re.compile(
    rb"(?:registry/src/[^/\0]{1,80}/|git/checkouts/)([a-z][\w-]{0,63}?)-(\d[\w.+-]{0,30}|[0-9a-f]{16})/"
)
_CRATE_MARKS = (b"registry/src/", b"git/checkouts/")
_RODATA = (".rodata", ".data.rel.ro")
_SLICE = 64 << 10
_RODATA_MAX = 4 << 20
_GPU_LIBRARIES = re.compile(
    rb"lib(?:cuda|cudart|nvrtc|OpenCL|amdhip64|hiprtc|hsa-runtime64|ze_loader|cublas(?:Lt)?|cudnn\w*)\.so"
)
_WORK = frozenset(FUNCTIONS)
_SAME_MACHINE = {("x86_64", "i386"), ("aarch64", "arm")}


@dataclass(slots=True)
class ElfFacts:
    """What was found; what could not be read is named in ``problems``."""

    #: elf, script, other or empty
    kind: str
    facts: set[str] = field(default_factory=set)
    machine: str = ""
    bits: int = 0
    #: executable, pie, library, other
    type: str = ""
    interpreter: bytes = b""
    needed: tuple[bytes, ...] = ()
    go: GoBuild | None = None
    crates: tuple[bytes, ...] = ()
    defined: tuple[bytes, ...] = ()
    imported: tuple[bytes, ...] = ()
    gpu: GpuCode | None = None
    problems: tuple[str, ...] = ()


def read_elf(
    fd: int, size: int | None = None, limits: Limits | None = None, deadline: Deadline | None = None
) -> ElfFacts:
    """Examine the structure of the file behind ``fd``, of which ``size`` bytes are looked at.

    Raises nothing but :class:`.bounded.NotRegularError`.
    """
    limits = limits or Limits()
    try:
        status = regular_file(fd)
    except OSError as error:
        return ElfFacts("other", {"unread"}, problems=(f"can't be read: {error.strerror}",))
    size = status.st_size if size is None else min(size, status.st_size)
    file = Reader(fd, size, limits, deadline or Deadline(limits.seconds))
    found = ElfFacts("other")
    try:
        _examine(file, found)
    except OutOfBudgetError:
        file.left_out("took too long" if file.deadline.passed else "too much to read")
    if file.hostile:
        found.facts.add("hostile-elf")
    if file.cut:
        found.facts.add("unread")
    found.problems = tuple(file.problems)
    _clip(found, limits)
    return found


def _clip(found: ElfFacts, limits: Limits) -> None:
    """Reports are kept by the thousand: of what the file's author chose, keep so much and no more."""

    def short(items: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(item[: limits.string_bytes] for item in items[: limits.strings])

    found.interpreter = found.interpreter[: limits.string_bytes]
    found.needed, found.crates = short(found.needed), short(found.crates)
    if found.go is not None:
        version, path, module = short((found.go.version, found.go.path, found.go.module))
        found.go = GoBuild(version, path, module, short(found.go.dependencies))
    if found.gpu is not None:
        found.gpu = replace(found.gpu, kernels=short(found.gpu.kernels))


def _examine(file: Reader, found: ElfFacts) -> None:
    head = file.read(0, _FIRST_LINE)
    if not head.startswith(b"\x7fELF"):
        if head.startswith(b"#!"):
            found.kind = "script"
            found.interpreter = head[2:].partition(b"\n")[0].strip()
            found.facts.add("script-file")
        else:
            found.kind = "other" if head else "empty"
            found.facts.add("not-elf")
        return
    found.kind = "elf"
    elf = _attempt(file, "headers", lambda: read_headers(file))
    if elf is None:
        file.problem("the ELF header makes no sense")
        return
    found.bits = elf.bits
    found.machine = MACHINES.get(elf.machine, str(elf.machine))
    here = os.uname().machine
    if found.machine != here and (here, found.machine) not in _SAME_MACHINE:
        found.facts.add("other-machine")
    _linkage(file, elf, found)
    _packing(file, elf, found)
    _makers(file, elf, found)
    _symbols(file, elf, found)
    _gpu(file, elf, found)


def _attempt(file: Reader, what: str, step: Callable[[], T]) -> T | None:
    """One step of the examination: what it trips over is a problem of the file's, and the rest goes on."""
    try:
        return step()
    except OutOfBudgetError:
        raise
    except (ValueError, IndexError, OverflowError, TypeError, MemoryError) as error:
        file.problem(f"{what}: {type(error).__name__}")
        return None


def _linkage(file: Reader, elf: Headers, found: ElfFacts) -> None:
    interpreter = _attempt(file, "interpreter", lambda: read_interpreter(file, elf))
    found.interpreter = interpreter or b""
    found.needed = _attempt(file, "libraries", lambda: read_needed(file, elf)) or ()
    if elf.type == ET_EXEC:
        found.type = "executable"
    elif elf.type == ET_DYN:
        found.type = "pie" if interpreter is not None or (elf.entry and not found.needed) else "library"
    else:
        found.type = "other"
    if interpreter is None and not found.needed and found.type in {"executable", "pie"}:
        found.facts.add("static")
    if any(_GPU_LIBRARIES.match(name.rpartition(b"/")[2]) for name in found.needed):
        found.facts.add("gpu-libraries")


def _packing(file: Reader, elf: Headers, found: ElfFacts) -> None:
    executable = found.type in {"executable", "pie"}
    found.facts |= _attempt(file, "packing", lambda: packing_facts(file, elf, executable=executable)) or set()


def _makers(file: Reader, elf: Headers, found: ElfFacts) -> None:
    found.go = _attempt(file, "Go build information", lambda: read_go(file, elf))
    if found.go is not None:
        found.facts.add("go-program")
        if found.go.anonymous:
            found.facts.add("go-anonymous")
    rust = _attempt(file, "Rust crates", lambda: _crates(file, elf))
    if rust is not None:
        found.crates = rust
        found.facts.add("rust-program")


def _crates(file: Reader, elf: Headers) -> tuple[bytes, ...] | None:
    """Crates whose sources panic messages name; None if this is no Rust program."""
    crates: dict[bytes, None] = {}
    rust = False
    left = _RODATA_MAX
    for offset, length in _constants(elf):
        size = min(length, left)
        left -= size
        # slice by slice: the interpreter is held for as long as one search takes
        for at in range(offset, offset + size, _SLICE):
            data = file.read(at, min(_SLICE + _FIRST_LINE, offset + size - at))
            if not data:
                break
            rust = rust or _RUSTC in data
            if not any(mark in data for mark in _CRATE_MARKS):  # faster than the pattern
                continue
            for match in _CRATE.finditer(data):
                if len(crates) < file.limits.strings:
                    crates[match[1] + b" " + match[2]] = None
    return tuple(crates) if rust or crates else None


def _constants(elf: Headers) -> list[tuple[int, int]]:
    """Where a program keeps its strings; without sections, all that is loaded to be read only."""
    rows = [row for name in _RODATA if (row := elf.section(name)) is not None]
    if rows:
        return [(elf.base + int(row["offset"]), int(row["size"])) for row in rows]
    readable = [row for row in elf.loaded() if not int(row["flags"]) & (PF_W | PF_X)]
    return [(elf.base + int(row["offset"]), int(row["filesz"])) for row in readable]


def _symbols(file: Reader, elf: Headers, found: ElfFacts) -> None:
    symbols = _attempt(file, "symbols", lambda: read_symbols(file, elf)) or Found(True, (), ())
    if symbols.stripped:
        found.facts.add("stripped")
    found.defined, found.imported = symbols.defined, symbols.imported
    # work functions only: the imports of interest may be defined by a static program, too
    if len([name for name in symbols.defined if name in _WORK]) >= _FUNCTIONS_MIN:
        found.facts.add("pow-functions")


def _gpu(file: Reader, elf: Headers, found: ElfFacts) -> None:
    found.gpu = _attempt(file, "GPU code", lambda: read_gpu_code(file, elf))
    if found.gpu is None:
        return
    found.facts.add("gpu-code")
    if found.gpu.unread:
        found.facts.add("gpu-code-unread")
    if any(is_work_kernel(name) for name in found.gpu.kernels):
        found.facts.add("pow-kernels")
