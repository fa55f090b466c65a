# SPDX-License-Identifier: Apache-2.0
"""Executables as a policy names them: by path, by how the path begins, by the file's name, or by the file itself."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.policy.files import path_of, see_that_it_names_a_file
from tracer.policy.unfit import Unfit
from tracer.rules.parse import LENGTH_MAX

_FORMS = 'a path such as "/usr/bin/git", "/opt/venv/*", a file name such as "bash", or "file:/usr/bin/git"'


@dataclass(frozen=True, slots=True)
class Program:
    """Executables, by the path that the kernel resolved, or by the file itself. ``match``: as rule files call
    it, one of whole, prefix, file, or ``range`` of a file itself; ``literal``: what is looked for, the path where
    the file is now; ``text``: as it was written.
    """

    text: str
    match: str
    literal: str
    line: int = 0

    def covers(self, exe: str) -> bool:
        """Is ``exe`` one of them? (Of a file itself: is it called so?)"""
        if self.match in ("whole", "range"):
            return exe == self.literal
        if self.match == "prefix":
            return exe.startswith(self.literal)
        return exe.rpartition("/")[2] == self.literal


def read_program(text: str, line: int = 0) -> Program:
    """An entry of a policy. Raises Unfit."""
    if not text or not text.isprintable():
        raise Unfit(f"{text!r} names no program", _FORMS)
    if len(text.encode()) > LENGTH_MAX:
        raise Unfit(f"a path of more than {LENGTH_MAX} bytes", 'shorten it to "/its/folder/*"')
    path = path_of(text)
    if path is not None:
        see_that_it_names_a_file(text)
        return Program(text, "range", path, line)
    literal = text.removesuffix("*")
    if "*" in literal or "?" in literal or "[" in literal:
        raise Unfit(f"'{text}': only a * at the end stands for something else", _FORMS)
    if not literal.strip("/"):
        raise Unfit(f"'{text}' is every program", "leave the list out")
    if literal.startswith("/"):
        _see_that_it_can_be(text, literal)
        return Program(text, "prefix" if literal != text else "whole", literal, line)
    if literal != text:
        raise Unfit(f"'{text}': a name without its folder can't end with *", f'"/usr/bin/{text}"')
    if "/" in text:
        raise Unfit(f"'{text}' is neither a whole path nor a bare file name", f'"/{text.lstrip("./~")}"')
    return Program(text, "file", text, line)


def _see_that_it_can_be(text: str, literal: str) -> None:
    """The kernel tells paths without detours: others would never match."""
    parts = literal[1:].split("/")
    if parts[-1] == "" and literal == text:
        raise Unfit(f"'{text}' is a folder", f'"{text}*"')
    inner = parts[:-1] if literal != text else parts
    if any(part in ("", ".", "..") for part in inner):
        raise Unfit(f"'{text}' can't match: the kernel tells paths without //, /./ and /../", "spell it out")
