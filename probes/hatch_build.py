# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compile the probes: ``python probes/hatch_build.py``, or by itself when a wheel is built.

The objects for each architecture land in ``tracer/_bpf``, which git ignores and the wheel carries. They
are CO-RE, so they are never compiled on the host that is watched. Built from another
directory they come out the same, byte for byte, under the same clang.

``CLANG`` and ``LLVM_STRIP`` in the environment choose the tools.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run as a script
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent.parent
UNIT = "vigiles.bpf.c"  # includes the other probes
ARCHITECTURES = ("x86", "arm64")
OBJECTS = Path("tracer", "_bpf")
#: Two objects a machine: for kernels that describe their types, and for those that don't (compat.bpf.h).
KINDS = {"": [], "plain.": ["-DWITHOUT_KERNEL_BTF"]}
FLAGS = (
    "-g",  # for BTF
    "-O2",
    "-target",
    "bpf",
    "-mcpu=v3",  # fixed: newer compilers default to instructions that older kernels refuse
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",  # libbpf's BPF_PROG() declares a context, used or not
    "-fdebug-compilation-dir=.",  # .BTF.ext names the sources
)


class BuildError(Exception):
    """The probes can't be built: one line for the person at the terminal."""


def find_tool(name: str, variable: str, suffix: str = "") -> str | None:
    """``$variable``, else ``name`` with ``suffix``, else ``name``, else the newest ``name-N`` on PATH."""
    if chosen := os.environ.get(variable):
        return shutil.which(chosen)
    for candidate in (name + suffix, name):
        if found := shutil.which(candidate):
            return found
    numbered: dict[int, str] = {}
    for folder in os.get_exec_path():
        for path in Path(folder).glob(f"{name}-*"):
            if (match := re.fullmatch(rf"{name}-(\d+)", path.name)) and os.access(path, os.X_OK):
                numbered.setdefault(int(match[1]), str(path))
    return numbered[max(numbered)] if numbered else None


def find_clang() -> str:
    """Return the clang to use."""
    if clang := find_tool("clang", "CLANG"):
        return clang
    if chosen := os.environ.get("CLANG"):
        message = f"CLANG={chosen}: no such program"
    else:
        message = "clang is missing: install the package clang (or set CLANG), then try again"
    raise BuildError(message)


def include_flags() -> list[str]:
    """Where <linux/*.h> finds <asm/types.h>: Debian keeps it in a directory of the host's triplet."""
    directory = Path("/usr/include", f"{platform.machine()}-linux-gnu")
    return ["-idirafter", str(directory)] if directory.is_dir() else []


def compile_object(root: Path, arch: str, kind: str, clang: str) -> Path:
    """Compile and strip an object for ``arch``; it replaces the former one only when it is whole."""
    target = root / OBJECTS / f"vigiles.{arch}.{kind}bpf.o"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as work:
        made = Path(work, target.name)
        command = [clang, *FLAGS, *KINDS[kind], f"-D__TARGET_ARCH_{arch}", "-I", "probes", *include_flags()]
        command += ["-c", f"probes/{UNIT}", "-o", str(made)]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            if "'bpf/bpf_helpers.h' file not found" in result.stderr:
                message = "the headers of libbpf are missing: install libbpf-dev (Debian) or libbpf-devel"
                raise BuildError(message)
            raise BuildError(f"{result.stderr.rstrip()}\n{clang} could not compile probes/{UNIT} for {arch}")
        sys.stderr.write(result.stderr)
        version = re.search(r"-\d+$", clang)
        if strip := find_tool("llvm-strip", "LLVM_STRIP", version[0] if version else ""):
            subprocess.run([strip, "-g", str(made)], check=True)  # drops DWARF, keeps BTF
        made.replace(target)
    return target


def sources(root: Path) -> list[Path]:
    """List everything an object depends on, this file with its flags included."""
    return [*(root / "probes").glob("*.[ch]"), root / "probes" / Path(__file__).name]


def build(root: Path = ROOT, *, force: bool = False) -> list[Path]:
    """Compile the objects that are older than a source; return those."""
    newest = max(file.stat().st_mtime_ns for file in sources(root))
    stale = []
    for arch, kind in itertools.product(ARCHITECTURES, KINDS):
        target = root / OBJECTS / f"vigiles.{arch}.{kind}bpf.o"
        if force or not target.exists() or target.stat().st_mtime_ns <= newest:
            stale.append((arch, kind))
    if not stale:
        return []
    clang = find_clang()
    return [compile_object(root, arch, kind, clang) for arch, kind in stale]


class ProbesHook(BuildHookInterface):  # type: ignore[misc]
    """Have hatchling put the objects into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, for an editable install as for a wheel."""
        try:
            build(Path(self.root))
        except BuildError as error:
            self.app.abort(f"vigiles: {error}")
        build_data["artifacts"].append(f"{OBJECTS.as_posix()}/*.bpf.o")


def main() -> int:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description="Compile the probes into tracer/_bpf.")
    parser.add_argument("--force", action="store_true", help="compile even if nothing has changed")
    options = parser.parse_args()
    try:
        built = build(force=options.force)
    except BuildError as error:
        print(f"vigiles: {error}", file=sys.stderr)
        return 1
    for path in built:
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
