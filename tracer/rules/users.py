# SPDX-License-Identifier: Apache-2.0
"""Who may use the GPU, one text each: ``WHO`` or ``WHO below WHO``.

``WHO`` is a glob over an executable's path, an interpreter's script, or the last part of either; or
``inode:MAJOR:MINOR:INODE:SIZE:NANOSECONDS``, that very file, as :mod:`tracer.policy.files` finds it out.
"""

from __future__ import annotations

from typing import NamedTuple

#: What stands between who may and whose descendant that must be.
BELOW = " below "
_FILE = "inode:"


class Who(NamedTuple):
    """One program. ``text``: the glob, or what ``numbers.inode_range`` reads."""

    text: str
    is_file: bool


class User(NamedTuple):
    """One entry; ``below``: only as a descendant of such a program."""

    who: Who
    below: Who | None


def file_user(inode: str) -> str:
    """The text of the file with this number."""
    return _FILE + inode


def split_user(text: str) -> tuple[str, str | None]:
    """The one program and, if it must be below another, the other, as they are written."""
    who, between, below = text.partition(BELOW)
    return (who, below) if between else (text, None)


def read_user(text: str) -> User:
    """Take one entry apart."""
    who, below = split_user(text)
    return User(_who(who), None if below is None else _who(below))


def _who(text: str) -> Who:
    if text.startswith(_FILE):
        return Who(text.removeprefix(_FILE), is_file=True)
    return Who(text, is_file=False)
