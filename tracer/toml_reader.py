# SPDX-License-Identifier: Apache-2.0
"""Taking a TOML file of the user's apart, with every mistake told by file, line and what to write instead.

What kinds of file share: rule files and policies are read by subclasses of :class:`Reader`, each with the
error that fits it.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from tracer.errors import FileError
from tracer.rules.lines import Lines
from tracer.rules.model import Remark, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracer.rules.lines import KeyPath

E = TypeVar("E", bound=FileError)

_TYPES: dict[type[Any], str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
    date: "a date such as 2027-01-31",
    datetime: "a date with a time",
    time: "a time",
}


def read_bytes(path: Path, wrong: type[E], limit: int | None = None) -> bytes:
    """The content of a file, or an error of the kind ``wrong``; ``limit`` in bytes."""
    try:
        with open(path, "rb") as file:
            data = file.read(-1 if limit is None else limit + 1)
    except OSError as error:
        raise wrong(f"can't be read: {error.strerror}", path=str(path), line=None) from None
    if limit is not None and len(data) > limit:
        raise wrong(f"is larger than {limit >> 10} KiB", path=str(path), line=None)
    return data


def as_text(data: bytes, source: str, wrong: type[E]) -> str:
    """Bytes of a file as text; a byte order mark is no part of it."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise wrong("not UTF-8", path=source, line=line, hint="save the file as UTF-8") from None


def read_toml(text: str, source: str, wrong: type[E]) -> tuple[dict[str, Any], Lines]:
    """What a TOML text says, and on which lines."""
    try:
        return tomllib.loads(text), Lines(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else text.rstrip().count("\n") + 1
        message = re.sub(r" \(at .*\)$", "", str(error))
        raise wrong(f"not valid TOML: {message}", path=source, line=line) from None
    except RecursionError:
        raise wrong("nested too deeply", path=source, line=None) from None


class Reader(Generic[E]):
    """One file's data. What can't be used is raised as ``wrong``; :meth:`collect` gathers that."""

    def __init__(self, data: dict[str, Any], lines: Lines, source: str, wrong: type[E]) -> None:
        self.data = data
        self.lines = lines
        self.source = source
        self.wrong = wrong
        self.errors: list[E] = []
        self.remarks: list[Remark] = []

    def collect(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function``; a mistake it finds must not hide those elsewhere."""
        try:
            return function(*arguments)
        except FileError as error:
            if not isinstance(error, self.wrong):
                raise
            self.errors.append(error)
            return None

    def word(self, path: KeyPath, table: dict[str, Any], key: str, choices: Iterable[str]) -> str | None:
        found: str | None = self.typed(path, table, key, str)
        if found is not None and found not in choices:
            self.fail((*path, key), f"{key} = '{found}' is not known", nearest(found, choices))
        return found

    def line_of_text(self, path: KeyPath, table: dict[str, Any], key: str) -> str | None:
        found: str | None = self.typed(path, table, key, str)
        if found is not None and (not found.strip() or not found.isprintable()):
            self.fail((*path, key), f"'{key}' must be one line of text", "without line breaks or controls")
        return found

    def flag(self, path: KeyPath, table: dict[str, Any], key: str) -> bool | None:
        found: bool | None = self.typed(path, table, key, bool)
        return found

    def items(self, path: KeyPath, table: dict[str, Any], key: str) -> list[Any]:
        return self.typed(path, table, key, list) or []

    def table(self, path: KeyPath, table: dict[str, Any], key: str) -> dict[str, Any]:
        return self.as_table((*path, key), table.get(key, {}))

    def as_table(self, path: KeyPath, body: object) -> dict[str, Any]:
        if not isinstance(body, dict):
            self.fail(path, f"'{path[-1]}' must be a table", "keys and values under a [header] or in {…}")
        return body

    def typed(self, path: KeyPath, table: dict[str, Any], key: str, kind: type[Any]) -> Any:
        value = table.get(key)
        # bool is an int to Python, but not to the person who wrote the file
        if value is not None and type(value) is not kind:
            written = _TYPES.get(type(value), "something else")
            self.fail(
                (*path, key), f"'{key}' must be {_TYPES[kind]}, not {written}", f"{key} = {_TYPES[kind]}"
            )
        return value

    def known_keys(self, path: KeyPath, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                self.fail((*path, key), f"unknown key '{key}'", nearest(key, keys))

    def fail(self, path: KeyPath, message: str, hint: str) -> NoReturn:
        raise self.wrong(message, path=self.source, line=self.lines.of(path), hint=hint)

    def remark(self, path: KeyPath, message: str, hint: str) -> None:
        self.remarks.append(Remark(self.source, self.lines.of(path), message, hint))
