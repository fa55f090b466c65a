# SPDX-License-Identifier: Apache-2.0
"""The one place that says how our kernels are compiled.

A watch needs no compiler: :mod:`tracer.linker` makes one shared object of the whole engine, and where a command
asks for it (:func:`prefer_linked`) the decorators below hand out what is in there and never import Numba.

``nogil``: the drain loop must not hold up the interpreter. ``cache``: compiled code is kept in a
directory that only root can write (Numba's cache files are pickles, so a directory that others can
write would hand them root); see :func:`cache_directory`. ``error_model="numpy"``: no branch per
division. ``fastmath`` stays off: it buys nothing in integer code.

Inside kernels all counters, times and pids are int64: mixing int64 with uint64 means something else
to Numba than to NumPy.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from tracer.errors import HostError
from tracer.linked import Linked, processor

PACKAGE = Path(__file__).resolve().parent
SYSTEM_CACHE = Path("/var/cache/vigiles")

F = TypeVar("F", bound=Callable[..., Any])


#: What compiled code is made of; of the probes it is the layouts of what they send, which :mod:`tracer.kernel.schema` reads.
_SOURCES = ("engine", "detect", "detect/wire", "rules", "triage")
_SINGLE_SOURCES = ("jit.py", "kernel/btf.py", "kernel/schema.py")


@cache
def _source_hash() -> str:
    """Numba does not notice a change in a function called from another file: we do."""
    from tracer.kernel import schema

    digest = hashlib.blake2b(schema.BTF.digest, digest_size=8)
    files = [f for name in _SOURCES for f in (PACKAGE / name).glob("*.py")]
    files += [PACKAGE / name for name in _SINGLE_SOURCES]
    for file in sorted(files):
        digest.update(str(file.relative_to(PACKAGE)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _private_directory(path: Path) -> bool:
    """Make ``path`` if need be; true if nobody but us can write it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = os.lstat(path)
    except OSError:
        return False
    return (
        stat.S_ISDIR(info.st_mode)
        and info.st_uid == os.geteuid()
        and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and os.access(path, os.W_OK)
    )


def cache_directory() -> Path | None:
    """Where compiled code is kept, or None when no place is safe: then it is compiled each time."""
    if os.geteuid() == 0:
        base = SYSTEM_CACHE
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        base = Path(home) / "vigiles"
    if not _private_directory(base):
        return None
    directory = base / _source_hash()
    return directory if _private_directory(directory) else None


#: Several checkouts on one host are not to compile each other away.
_KEPT_VERSIONS = 8


def _processor() -> str:
    """What Numba compiles for, by which it tells its cache's entries apart; NUMBA_CPU_NAME chooses another."""
    from numba.core.registry import cpu_target

    return repr(cpu_target.target_context.codegen().magic_tuple())


def _complete(directory: Path) -> Path:
    """What lies in the cache directory once everything has been compiled for this processor."""
    return directory / f"complete-{hashlib.blake2b(_processor().encode(), digest_size=8).hexdigest()}"


def is_warm() -> bool:
    """Has the engine been compiled for this version on this host?"""
    if linked() is not None:
        return True
    directory = cache_directory()
    return directory is not None and _complete(directory).exists()


def mark_warm() -> None:
    """Remember that it has, and forget what older versions left here."""
    directory = cache_directory()
    if directory is None:
        return
    if linked() is None:
        _complete(directory).touch()
    os.utime(directory)
    others = [d for d in directory.parent.iterdir() if d.is_dir() and d != directory]
    others.sort(key=lambda d: d.stat().st_mtime, reverse=True)
    for old in others[_KEPT_VERSIONS:]:
        shutil.rmtree(old, ignore_errors=True)


_linked_is_preferred = False


def prefer_linked() -> None:
    """Have kernels come from the linked engine, if there is one; before any of them is imported."""
    global _linked_is_preferred  # noqa: PLW0603 - decorators, which ask, run as modules are imported
    _linked_is_preferred = True


def linked_path() -> Path | None:
    """Where the linked engine for this processor is, or is to be put."""
    directory = cache_directory()
    if directory is None:
        return None
    digest = hashlib.blake2b(processor().encode(), digest_size=8)
    for name in ("linked", "linker"):
        digest.update((PACKAGE / f"{name}.py").read_bytes())
    return directory / f"engine-{digest.hexdigest()}.so"


@cache
def linked() -> Linked | None:
    """The linked engine, if it is preferred and there is one."""
    if not _linked_is_preferred:
        return None
    path = linked_path()
    if path is None or not _our_own(path):
        return None
    try:
        return Linked(path)
    except OSError as error:
        raise HostError(f"can't load the engine: {error}", hint="remove it, then: vigiles warm") from None


def _our_own(path: Path) -> bool:
    """Is this a file of ours that nobody else can write? Its directory is private, too."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid == os.geteuid()
        and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def errors() -> int:
    """Records that the linked engine could not take in because something failed in a kernel."""
    engine = linked()
    return 0 if engine is None else engine.errors


@cache
def cache_directory_is_safe() -> bool:
    """Is there a place to keep compiled code in?"""
    return cache_directory() is not None


@cache
def _numba() -> ModuleType:
    """Numba, told where to keep what it compiles. Not through the environment: whoever imported it first
    would have the cache beside our sources, writable by others and blind to changes in callees.
    """
    import numba

    directory = cache_directory()
    numba.config.CACHE_DIR = "" if directory is None else str(directory)
    return numba


def _compiled(function: F, **more: bool) -> F:
    engine = linked()
    if engine is not None:
        return cast(F, engine.kernel(function))
    # Without the runtime that counts references to arrays: those that kernels are given belong to the
    # caller. In a loop that hands on a tuple of arrays, counting them is most of the work.
    options = {"_nrt": False, "cache": cache_directory_is_safe()} | more
    compiled: F = _numba().njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options)(function)
    return compiled


def njit(function: F) -> F:
    """Compile ``function`` in nopython mode with the project's defaults. It can't make arrays."""
    return _compiled(function)


def allocating(function: F) -> F:
    """As :func:`njit`, for what makes arrays of its own. It may return them to another such function only:
    nobody else would free them.
    """
    return _compiled(function, _nrt=True)


def inline(function: F) -> F:
    """As :func:`njit`, for leaf functions that LLVM should always inline."""
    return _compiled(function, forceinline=True)


def kernel(function: F) -> F:
    """As :func:`njit`, for what only other kernels call: no wrapper for Python is made, which often
    takes longer to compile than the function.
    """
    return _compiled(function, no_cpython_wrapper=True)


def entry(function: Callable[[int, int, int], int]) -> Any:
    """Compile ``function`` at once, to be called by its ``.address`` (see engine/address.py): whatever
    calls it so doesn't contain its code, and needn't be compiled with it.
    """
    engine = linked()
    if engine is not None:
        return engine.kernel(function)
    numba = _numba()
    return numba.cfunc("int64(int64, int64, int64)", cache=cache_directory_is_safe(), error_model="numpy")(
        function
    )


def inline_kernel(function: F) -> F:
    """Both :func:`inline` and :func:`kernel`."""
    return _compiled(function, forceinline=True, no_cpython_wrapper=True)


def gate(function: F) -> F:
    """As :func:`kernel`, for what the linker makes anew each time."""
    return _compiled(function, no_cpython_wrapper=True, cache=False)
