# SPDX-License-Identifier: Apache-2.0
"""The engine as one shared object, made by :mod:`tracer.linker`: without Numba, LLVM and what those load.

Of a function with arguments (arrays, integers, tuples of such) it has a gate, which takes the address of words:
those that the arguments are laid out as. The object says itself what it has, and of which types.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Callable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

#: Symbols of the object: what it has (JSON), how long that is, and how often something failed in there.
INDEX, INDEX_SIZE, ERRORS = "vigiles_index", "vigiles_index_size", "vigiles_errors"

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def processor() -> str:
    """Which processor code is compiled for, as Numba has it: ours, or one that the environment names."""
    chosen = [os.environ.get(name) for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    first = b""
    if chosen[0] is None:
        lines = Path("/proc/cpuinfo").read_bytes().partition(b"\n\n")[0].split(b"\n")
        # not what changes from one moment or core to the next
        first = b"\n".join(
            line for line in lines if line.startswith((b"model name", b"flags", b"Features", b"CPU"))
        )
    return hashlib.blake2b(f"{chosen}".encode() + first, digest_size=8).hexdigest()


def name_of(function: Callable[..., Any]) -> str:
    """What the object calls ``function``."""
    return f"{function.__module__}.{function.__qualname__}"


def types_of(value: Any) -> Any:
    """Of what types an argument is, as JSON can say it: null is an integer."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return {"dtype": np.lib.format.dtype_to_descr(value.dtype), "dimensions": value.ndim}
    if isinstance(value, tuple):
        return [types_of(part) for part in value]
    return None


def _types(said: Any) -> Any:
    """The same, with dtypes: an array is (dtype, dimensions), a tuple a list."""
    import numpy as np

    if isinstance(said, dict):
        descr = said["dtype"]
        if not isinstance(descr, str):
            descr = [tuple(tuple(x) if isinstance(x, list) else x for x in field) for field in descr]
        return np.lib.format.descr_to_dtype(descr), said["dimensions"]
    if isinstance(said, list):
        return [_types(part) for part in said]
    return None


def lay_out(value: Any, types: Any, words: list[int]) -> None:
    """Append ``value`` to ``words``; raises TypeError if it isn't of these types: kernels can't tell."""
    if types is None:
        words.append(int(value))
    elif isinstance(types, list):
        for part, kind in zip(value, types, strict=True):
            lay_out(part, kind, words)
    else:
        array: np.ndarray[Any, Any] = value
        dtype, dimensions = types
        if array.dtype != dtype or array.ndim != dimensions or not array.flags.c_contiguous:
            raise TypeError(f"a contiguous array of {dimensions} × {dtype} is wanted, not {array.dtype}")
        words.append(array.__array_interface__["data"][0])  # .ctypes makes three objects
        words.extend(array.shape)


def _size(types: Any) -> int:
    """How many words :func:`lay_out` makes of a value of these types."""
    if types is None:
        return 1
    if isinstance(types, list):
        return sum(map(_size, types))
    return 1 + int(types[1])


class _Words(threading.local):
    """What is handed over to a gate, and what comes back: one for each thread, since a call lets others run."""

    def __init__(self, given: int, results: int) -> None:
        self.given = (ctypes.c_int64 * given)()
        # the gate's own value and exception, and the function's results
        self.back = (ctypes.c_int64 * (2 + results))()
        back = ctypes.addressof(self.back)
        self.addresses = back, back + 8, ctypes.addressof(self.given), back + 16
        #: by place, the tuple that is laid out there: tables of the engine stay where they are
        self.laid: dict[int, Any] = {}


class Kernel:
    """One function of the object. It is looked up when it is called: most are called by others in there only."""

    def __init__(self, library: Linked, name: str) -> None:
        self._library = library
        self.name = name

    @cached_property
    def address(self) -> int:
        """Where an entry is, see tracer/engine/address.py."""
        address = ctypes.cast(self._library.symbol(self._library.entries[self.name]), ctypes.c_void_p).value
        assert address is not None
        return address

    @cached_property
    def ctypes(self) -> Any:
        """An entry, for Python to call."""
        return _ENTRY(self.address)

    @cached_property
    def _gate(self) -> tuple[Any, list[tuple[Any, int]], int, _Words]:
        """The function, the types of its arguments and where in the words each begins, how many results it has, the words."""
        found = self._library.gates.get(self.name)
        if found is None:
            raise LookupError(f"{self.name} has no gate: Python can't call it (see tracer/engine/gates.py)")
        gate = self._library.symbol(found["symbol"])
        gate.restype = ctypes.c_int32
        gate.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        types, results = _types(found["types"]), found["results"]
        begins = list(accumulate(map(_size, types), initial=0))
        return gate, list(zip(types, begins, strict=False)), results, _Words(begins[-1], results)

    def __call__(self, *arguments: Any) -> Any:
        gate, kinds, results, words = self._gate
        given = words.given
        for argument, (kind, at) in zip(arguments, kinds, strict=True):
            if kind is None:  # most are
                given[at] = int(argument)
            elif not isinstance(kind, list) or words.laid.get(at) is not argument:
                laid: list[int] = []
                lay_out(argument, kind, laid)
                given[at : at + len(laid)] = laid  # type: ignore[assignment] # typeshed wants c_int64 there
                if isinstance(kind, list):
                    words.laid[at] = argument
        status = gate(*words.addresses)
        if status:
            raise RuntimeError(f"{self.name} failed: status {status}")
        back = words.back
        return None if not results else back[2] if results == 1 else tuple(back[2:])


class Linked:
    """The shared object at ``path``, which must be nobody else's: it becomes part of us."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        size = ctypes.c_int64.in_dll(self._library, INDEX_SIZE).value
        index = json.loads((ctypes.c_char * size).in_dll(self._library, INDEX).raw)
        self.gates: dict[str, dict[str, Any]] = index["gates"]
        self.entries: dict[str, str] = index["entries"]
        self._errors = ctypes.c_int64.in_dll(self._library, ERRORS)

    @property
    def errors(self) -> int:
        """How often an entry has failed."""
        return self._errors.value

    def symbol(self, name: str) -> Any:
        """The function called ``name``."""
        return self._library[name]

    def kernel(self, function: Callable[..., Any]) -> Any:
        """What stands for ``function``."""
        return Kernel(self, name_of(function))
