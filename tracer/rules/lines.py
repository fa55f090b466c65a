# SPDX-License-Identifier: Apache-2.0
"""On which line of a TOML file each key and each value stands, which ``tomllib`` doesn't tell.

The text has been through ``tomllib`` before, so this may trust that it is well formed: it only has to
find its way, and never to judge.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

#: Keys and places in arrays, from the root: ``("rules", "miner.command", "when", 0, "all")``.
KeyPath = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'", re.DOTALL
)


class Lines:
    """The line of everything in one TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._lines: dict[KeyPath, int] = {(): 1}
        self._tables: dict[KeyPath, int] = {}
        self._document()

    def of(self, path: KeyPath) -> int:
        """The line of ``path``, or of the nearest thing around it that is written out."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _document(self) -> None:
        table: KeyPath = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._text[self._at] == "[":
                table = self._header(1)
            else:
                self._pair(table)

    def _header(self, brackets: int) -> KeyPath:
        start = self._at
        self._at += brackets
        path: KeyPath = ()
        keys = self._key()
        for number, key in enumerate(keys, 1):
            path = (*path, key)
            if brackets == 2 and number == len(keys):
                self._tables[path] = self._tables.get(path, -1) + 1
            self._note(path, start)
            if path in self._tables:
                path = (*path, self._tables[path])
                self._note(path, start)
        self._at += brackets
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        path = table
        for key in self._key():
            path = (*path, key)
            self._note(path, start)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            bare = _BARE_KEY.match(self._text, self._at)
            if bare:
                keys.append(bare[0])
                self._at = bare.end()
            else:
                start = self._at
                self._skip(_STRING)
                keys.append(str(tomllib.loads(f"key = {self._text[start : self._at]}")["key"]))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        self._note(path, self._at)
        first = self._text[self._at]
        if first in "\"'":
            self._skip(_STRING)
        elif first == "[":
            self._items(path, "]")
        elif first == "{":
            self._items(path, "}")
        else:
            self._skip(_SCALAR)

    def _items(self, path: KeyPath, closing: str) -> None:
        """An array or an inline table."""
        self._at += 1
        number = 0
        self._skip(_BLANK)
        while self._text[self._at] != closing:
            if closing == "]":
                self._value((*path, number))
            else:
                self._pair(path)
            number += 1
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        """Go past what ``pattern`` matches here; the new place."""
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"not TOML at offset {self._at}")
        self._at = found.end()
        return self._at

    def _note(self, path: KeyPath, offset: int) -> None:
        self._lines.setdefault(path, bisect_right(self._starts, offset))
