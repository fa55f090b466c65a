# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, in words for the person at the terminal.

    VigilesError            1    anything below, when nothing more precise fits
    ├── HostError         125    this host can't do it: no root, no BTF, old kernel, …
    ├── LoadError         125    the kernel refused a program, a map or an attachment
    ├── FileError           2    a file of the user's is wrong: says file, line and what to write
    │   ├── RuleError            … with rules
    │   ├── PolicyError          … that says what is normal for a job
    │   └── ScenarioError        … that describes a scenario
    └── CommandError  126/127    the command to trace can't be started

Each carries one line of what is wrong and, where there is one, a line of what to do.
"""

from __future__ import annotations


class VigilesError(Exception):
    """An expected failure: printed as one line, never as a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class HostError(VigilesError):
    """The host lacks something the watch needs."""

    exit_code = 125


class LoadError(VigilesError):
    """The kernel or libbpf refused what we asked; ``detail`` holds libbpf's own words."""

    exit_code = 125


class FileError(VigilesError):
    """A file that the user wrote can't be used."""

    exit_code = 2

    def __init__(self, message: str, *, path: str, line: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.line = line

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{where}: {self.message}"


class RuleError(FileError):
    """A rule file can't be used."""


class PolicyError(FileError):
    """A policy can't be used."""


class ScenarioError(FileError):
    """A scenario file can't be used."""


class CommandError(VigilesError):
    """The command to trace could not be executed."""

    def __init__(self, message: str, *, exit_code: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
