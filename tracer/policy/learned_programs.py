# SPDX-License-Identifier: Apache-2.0
"""The programs that a run started, as a policy lists them."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from tracer.policy.files import PREFIX, identify
from tracer.policy.parse import ENTRIES_MAX
from tracer.policy.programs import Program, read_program
from tracer.policy.unfit import Unfit
from tracer.policy.written import Entry, Learned, counted
from tracer.rules.parse import LENGTH_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: So many programs of one folder stand for the folder.
MANY = 4

#: Folders whose files come and go: what lies below them.
_PASSING = re.compile(
    r"(/tmp|/var/tmp|/dev/shm|/run/user|(?:/root|/home/[^/]+)/\.cache|/.*?/(?:site-packages|node_modules))/."
)
#: Of them, those that everybody can write.
_OPEN = ("/tmp/*", "/var/tmp/*", "/dev/shm/*")  # noqa: S108 - they are told, not used
#: Parts of a name that are others next time.
_CHANGING = re.compile(
    r"\d+(?:\.\d+)+"  # a version
    r"|(?<=[-_.])\d+$|^\d+$"  # a major version, a number, a pid
    r"|(?<![0-9A-Za-z])(?=[a-f]*\d)[0-9a-f]{8,}(?![0-9A-Za-z])"  # a hash, a uuid
    r"|(?<![0-9A-Za-z])(?=[a-z]*\d)[0-9a-z]{20,}(?![0-9A-Za-z])"  # the same in base 32
    r"|^tmp[0-9A-Za-z_]{8}$"  # Python's tempfile
)


def listed_files(executables: Mapping[str, int]) -> Learned:
    """The same by the files themselves, as they are when the policy is read; by path what is not there now."""
    named, gone = [], {}
    for path in sorted(executables):
        try:
            identify(read_program(PREFIX + path).literal)
        except (Unfit, UnicodeEncodeError):
            gone[path] = executables[path]
        else:
            named.append(Entry(PREFIX + path, counted(executables[path], "start")))
    others = listed_programs({**gone, **{item.text.removeprefix(PREFIX): 1 for item in named[ENTRIES_MAX:]}})
    room = ENTRIES_MAX - len(named[:ENTRIES_MAX])
    notes = [*others.notes]
    if len(others.entries) > room:
        notes.append(
            f"there is no room for {counted(len(others.entries) - room, 'program')}, which will be told"
        )
    return Learned([*named[:ENTRIES_MAX], *others.entries[:room]], notes)


def listed_programs(executables: Mapping[str, int]) -> Learned:
    """Entries that allow all ``executables`` (how often, by path) but those that the notes tell."""
    patterns: dict[str, list[str]] = {}  # and the paths that each stands for
    lost = []
    for path in sorted(executables):
        pattern = _pattern(path)
        if pattern is None:
            lost.append(path)
        else:
            patterns.setdefault(pattern, []).append(path)
    patterns = _by_folder(patterns, MANY)
    while len(patterns) > ENTRIES_MAX and any(_above(text) for text in patterns):
        patterns = _merged((_above(text) or text, paths) for text, paths in patterns.items())
    for text in list(patterns)[ENTRIES_MAX:]:
        lost += patterns.pop(text)
    named = [read_program(text) for text in patterns]
    lost = [path for path in lost if not any(program.covers(path) for program in named)]
    entries = [Entry(text, _remark(text, patterns[text], executables)) for text in sorted(patterns)]
    notes = []
    if lost:
        few = ", ".join(ascii(path)[1:-1][:60] for path in lost[:3])
        notes.append(f"no entry can name {counted(len(lost), 'program')}, which will be told: {few}")
    return Learned(entries, notes)


def _pattern(path: str) -> str | None:
    """An entry for ``path``, without what changes from run to run; None if there can't be one."""
    passing = _PASSING.match(path)
    if passing:
        candidate = f"{passing[1]}/*"
        if _can_be(candidate, path):
            return candidate
    parts = path.split("/")
    for place, part in enumerate(parts):
        changing = _CHANGING.search(part)
        if changing:
            candidate = "/".join([*parts[:place], part[: changing.start()]]) + "*"
            if _can_be(candidate, path):
                return candidate
    if _can_be(path, path):
        return path
    # a name that no entry can hold: the folder above it that can be named
    for end in range(len(parts) - 1, 1, -1):
        candidate = "/".join(parts[:end]) + "/*"
        if len(candidate.encode("utf-8", "replace")) <= LENGTH_MAX and _can_be(candidate, path):
            return candidate
    return None


def _can_be(entry: str, path: str) -> bool:
    """Can a policy have ``entry``, and does it stand for ``path``?"""
    if not entry.startswith("/") or "\udc80" <= max(entry) <= "\udfff":
        return False
    if (entry.endswith("*") and entry == path) or not entry.isprintable():
        return False  # a name that ends with an asterisk
    try:
        return read_program(entry).covers(path)
    except (Unfit, UnicodeEncodeError):
        return False


def _above(entry: str) -> str | None:
    """The entry for the whole folder that ``entry`` is in, None for the topmost."""
    folder = entry.removesuffix("*").rstrip("/").rpartition("/")[0]
    return f"{folder}/*" if folder else None


def _by_folder(patterns: Mapping[str, list[str]], many: int) -> dict[str, list[str]]:
    """Where ``many`` entries lie in one folder, the folder."""
    folders = Counter(text.rpartition("/")[0] for text in patterns)
    return _merged(
        (f"{folder}/*" if folder and folders[folder] >= many else text, paths)
        for text, paths in patterns.items()
        for folder in [text.rpartition("/")[0]]
    )


def _merged(pairs: Iterable[tuple[str, list[str]]]) -> dict[str, list[str]]:
    """Entries with their paths, without those that another entry stands for."""
    found: dict[str, list[str]] = {}
    for text, paths in pairs:
        found.setdefault(text, []).extend(paths)
    programs = {text: read_program(text) for text in found}
    prefixes = sorted((p for p in programs.values() if p.match == "prefix"), key=lambda p: len(p.literal))
    result: dict[str, list[str]] = {}
    for text, paths in found.items():
        result.setdefault(_widest(programs[text], prefixes), []).extend(paths)
    return result


def _widest(program: Program, prefixes: Iterable[Program]) -> str:
    """The shortest of ``prefixes`` that stands for all of ``program``, or itself."""
    return next((p.text for p in prefixes if program.literal.startswith(p.literal)), program.text)


def _remark(text: str, paths: list[str], executables: Mapping[str, int]) -> str:
    starts = counted(sum(executables[path] for path in paths), "start")
    if not text.endswith("*"):
        return starts
    names = sorted({path.rpartition("/")[2] for path in paths})
    shown = ", ".join("".join(c if c.isprintable() else "?" for c in name)[:24] for name in names[:3])
    remark = f"{counted(len(paths), 'program')}, {starts}: {shown}{', …' if len(names) > 3 else ''}"
    return f"{remark}; anybody can put programs there" if text in _OPEN else remark
