# SPDX-License-Identifier: Apache-2.0
"""What kind of program a name stands for, as tables that kernels can look bytes up in.

Kernels have no strings. A short name is packed into integers, seven bytes each, so that comparing
two names is comparing two numbers and a table of names is an open-addressing hash of numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from tracer.detect.classes import NAMES
from tracer.jit import inline, njit

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes where the kernel wrote them; never copied, never NUL-terminated unless said so.
Bytes: TypeAlias = npt.NDArray[np.uint8]
#: Integers a kernel hands out: spans (start and end offsets into the bytes), kinds.
Ints: TypeAlias = npt.NDArray[np.int64]

#: Seven bytes to a number keep it positive.
PACKED = 7
#: Numbers to a key: names of up to 21 bytes.
KEYS = 3


def pack(name: bytes) -> tuple[int, int, int]:
    """``name`` as a key of a table; at most 21 bytes, since a longer one is never looked up."""
    if len(name) > PACKED * KEYS:
        raise ValueError(f"{name!r} is too long to be packed")
    parts = [name[at : at + PACKED] for at in range(0, PACKED * KEYS, PACKED)]
    first, second, third = (int.from_bytes(part, "big") for part in parts)
    return first, second, third


def _mix(key: int) -> int:
    """The bytes of a sum of keys, folded into its lowest bits."""
    key ^= key >> 28
    key ^= key >> 14
    return key ^ key >> 7


#: The same in kernels: tables are made at import, when nothing should be compiled.
_mixed = inline(_mix)


def table(entries: Mapping[bytes, int], *, fold: bool = False) -> Ints:
    """A frozen hash table for :func:`lookup`: rows of key, key, key, value; value 0 means free.

    ``fold``: the names are in small letters, and capitals are looked up as such. That is kept in an
    extra row: as an argument of lookup(), Numba would compile it once for each.
    """
    size = 1 << (4 * len(entries)).bit_length()
    rows = np.zeros((size + 1, KEYS + 1), np.int64)
    rows[size, KEYS] = fold
    for name, value in entries.items():
        key = pack(name)
        row = _mix(sum(key)) & size - 1
        while rows[row, KEYS]:
            row = row + 1 & size - 1
        rows[row] = (*key, value)
    return rows


def letters(alphabet: bytes, value: int = 1) -> Bytes:
    """A table of 256 bytes: ``value`` for the bytes of ``alphabet``, 0 for the others."""
    marks = np.zeros(256, np.uint8)
    marks[list(alphabet)] = value
    return marks


@inline
def byte_at(data: Bytes, at: int) -> int:
    """``data[at]`` as int64: arithmetic on bytes would be unsigned."""
    return int(np.int64(data[at]))


@inline
def lower(byte: int) -> int:
    """ASCII only, as the C locale has it."""
    return byte + 32 if 65 <= byte <= 90 else byte


@inline
def is_space(byte: int) -> bool:
    """As isspace(3) in the C locale."""
    return byte == 32 or 9 <= byte <= 13


@inline
def packed(data: Bytes, lo: int, hi: int, fold: bool) -> int:
    """Up to seven bytes of ``data[lo:hi]`` as one number; ``fold``: letters made small."""
    number = 0
    for at in range(lo, min(hi, lo + PACKED)):
        byte = byte_at(data, at)
        number = number << 8 | (lower(byte) if fold else byte)
    return number


@njit
def lookup(rows: Ints, data: Bytes, lo: int, hi: int) -> int:
    """The value that :func:`table` ``rows`` has for the name ``data[lo:hi]``, or 0."""
    if hi <= lo or hi - lo > PACKED * KEYS:
        return 0
    size = len(rows) - 1
    fold = rows[size, KEYS] != 0
    first = packed(data, lo, hi, fold)
    second = third = 0
    if hi - lo > PACKED:
        second = packed(data, lo + PACKED, hi, fold)
        third = packed(data, lo + 2 * PACKED, hi, fold)
    row = _mixed(first + second + third) & size - 1
    while rows[row, KEYS] != 0:
        if rows[row, 0] == first and rows[row, 1] == second and rows[row, 2] == third:
            return int(rows[row, KEYS])
        row = row + 1 & size - 1
    return 0


def _class_table() -> Ints:
    classes: dict[bytes, int] = {}
    for kind, names in NAMES.items():
        for name in names.encode().split():
            classes[name] = classes.get(name, 0) | kind
    return table(classes)


CLASSES = _class_table()


@njit
def begins(data: Bytes, lo: int, hi: int, text: bytes) -> bool:
    """Does ``data[lo:hi]`` begin with ``text``?"""
    if hi - lo < len(text):
        return False
    for i in range(len(text)):  # noqa: SIM110 - Numba has no generators here
        if byte_at(data, lo + i) != text[i]:
            return False
    return True


@njit
def basename(data: Bytes, lo: int, hi: int) -> int:
    """Where the last component of the path ``data[lo:hi]`` begins."""
    at = hi
    while at > lo and data[at - 1] != 47:
        at -= 1
    return at


@njit
def name_class(data: Bytes, lo: int, hi: int) -> int:
    """The class bits of the program called ``data[lo:hi]``; directories do not count, nor does the
    dash of a login shell or a version (python3.11).
    """
    lo = basename(data, lo, hi)
    if lo < hi and data[lo] == 45:
        lo += 1
    kind = lookup(CLASSES, data, lo, hi)
    if kind != 0:
        return kind
    end = hi
    while end > lo and (data[end - 1] == 46 or 48 <= data[end - 1] <= 57):
        end -= 1
    return lookup(CLASSES, data, lo, end) if end < hi else 0
