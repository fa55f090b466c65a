# SPDX-License-Identifier: Apache-2.0
"""The contenders, as ``tools.toml`` has them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
NOTHING = "nothing"


@dataclass(frozen=True)
class Tool:
    """One table of ``tools.toml``, which says what each key means."""

    name: str
    title: str
    watch: list[str]
    keep: list[str]
    lines: str
    exec: str = ""
    connect: str = ""
    hex: bool = False
    lost: str = ""
    kept: str = ""
    read: list[str] = field(default_factory=list)
    before: list[list[str]] = field(default_factory=list)
    after: list[list[str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    tracefs: bool = False

    @property
    def wraps(self) -> bool:
        """Does it start what it watches?"""
        return "{work}" in self.watch


class BrokenToolError(Exception):
    """A contender does not work here; the message is its own last words."""


def read_tools(file: Path = HERE / "tools.toml") -> list[Tool]:
    """All contenders."""
    with file.open("rb") as text:
        return [Tool(name, **table) for name, table in tomllib.load(text).items()]


def last_line(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
