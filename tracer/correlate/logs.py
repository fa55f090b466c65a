# SPDX-License-Identifier: Apache-2.0
r"""Tool calls out of a log, whatever its fields are called: a small map says so.

A map is TOML: ``[fields]`` names, for each thing wanted, the places to look in, the first that is there wins.
A place is keys joined by dots (a dot in a key is ``\.``), and goes on into text that is itself JSON. Or
``[text]`` has a regular expression for each, whose first group is what is wanted.

A line may hold many calls: ``[calls]`` says ``inside`` of which place (the first that is there), and ``between`` what marks one
stands in text; fields are then looked for in the call, and else in the line. ``columns``: a line may be a table, each field
a list. ``times = "file"``: lines bear none; what they tell was before the file was written.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tracer.correlate.calls import Call, Marks, calls_in
from tracer.errors import FileError

WANTED = ("time", "end", "tool", "command", "episode", "step", "host", "pid", "id")
#: Lines and bytes of a line that are read.
LINES_MAX, LINE_MAX = 5_000_000, 1 << 20
#: Of a line that is a table: that of a whole step.
TABLE_MAX = 1 << 28
_KEYS = frozenset({"fields", "text", "calls", "columns", "times"})
_MAPS = Path(__file__).with_name("maps")
_DOT = re.compile(r"(?<!\\)\.")
# Of numbers that are times: seconds, milliseconds, microseconds or nanoseconds since 1970, told by their size
_SCALES = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000), (0, 1_000_000_000))


class MapError(FileError):
    """A map can't be used."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One of a line. Times are wall clock ns; ``command`` as the log has it. ``timed``: it is known when; else it was before
    ``time_ns``.
    """

    line: int
    time_ns: int
    end_ns: int | None
    tool: str
    command: str
    episode: str
    step: str
    host: str
    pid: int | None
    id: str
    timed: bool = True
    log: str = ""


@dataclass(slots=True)
class Log:
    """What was read. ``skipped``: lines by what is wrong with them."""

    calls: list[ToolCall] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, why: str, lines: int = 1) -> None:
        """Count a line that is no tool call."""
        self.skipped[why] = self.skipped.get(why, 0) + lines

    def add(self, other: Log) -> None:
        """What stands in another file."""
        self.calls += other.calls
        for why, lines in other.skipped.items():
            self.skip(why, lines)


@dataclass(frozen=True, slots=True)
class Map:
    """How to read a line. ``inside``: where calls stand, if a line may hold many; ``between``: see calls_in()."""

    places: dict[str, list[list[str]]]
    text: dict[str, re.Pattern[str]]
    inside: list[list[str]]
    between: Marks
    columns: bool
    timed: bool


def ready_maps() -> list[str]:
    """Names of the maps that come with vigiles."""
    return sorted(path.stem for path in _MAPS.glob("*.toml"))


def load_map(name: str) -> Map:
    """A map by the name of a ready one, or from a file. Raises MapError."""
    path = _MAPS / f"{name}.toml" if name in ready_maps() else Path(name)
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        hint = f"ready maps: {', '.join(ready_maps())}"
        raise MapError(f"can't read the map: {why}", path=str(path), line=None, hint=hint) from None
    except tomllib.TOMLDecodeError as error:
        raise MapError(str(error), path=str(path), line=None) from None
    if unknown := set(said) - _KEYS:
        raise MapError(
            f"unknown key {min(unknown)!r}",
            path=str(path),
            line=None,
            hint=f"one of: {', '.join(sorted(_KEYS))}",
        )
    fields = said.get("fields", {})
    for key, places in fields.items() if isinstance(fields, dict) else [("fields", None)]:
        if key not in WANTED or not isinstance(places, list) or not all(isinstance(p, str) for p in places):
            raise MapError(
                f"fields.{key} is no list of places",
                path=str(path),
                line=None,
                hint=f"one of: {', '.join(WANTED)}",
            )
    try:
        text = _expressions(said.get("text", {}))
    except (re.error, TypeError, AttributeError) as error:
        raise MapError(f"text is no regular expression: {error}", path=str(path), line=None) from None
    calls, columns, times = said.get("calls", {}), said.get("columns", False), said.get("times", "line")
    if times not in {"line", "file"} or not isinstance(columns, bool):
        raise MapError(
            "times is neither line nor file, or columns neither true nor false", path=str(path), line=None
        )
    if not _are_calls(calls):
        raise MapError("calls has no lists inside and between, of texts and pairs", path=str(path), line=None)
    if "time" not in text and "time" not in fields and times == "line":
        raise MapError("it does not say where the time is", path=str(path), line=None)
    between = [(before, behind) for before, behind in calls.get("between", [])]
    split = {key: _split(places) for key, places in fields.items()}
    return Map(split, text, _split(calls.get("inside", [])), between, columns, times == "line")


def _split(places: list[str]) -> list[list[str]]:
    return [[part.replace("\\.", ".") for part in _DOT.split(place)] for place in places]


def _are_calls(said: Any) -> bool:
    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, str) and item for item in value)

    if not isinstance(said, dict) or set(said) - {"inside", "between"}:
        return False
    pairs = said.get("between", [])
    return (
        texts(said.get("inside", []))
        and isinstance(pairs, list)
        and all(texts(pair) and len(pair) == 2 for pair in pairs)
    )


def _expressions(said: dict[str, str]) -> dict[str, re.Pattern[str]]:
    text = {key: re.compile(expression) for key, expression in said.items()}
    if any(key not in WANTED or not expression.groups for key, expression in text.items()):
        raise re.error("each has a group, and is named as a field is")
    return text


def read_log(path: Path, how: Map) -> Log:
    """The tool calls of a log, in the order of their lines. Raises FileError if it can't be read at all."""
    log, most = Log(), TABLE_MAX if how.columns else LINE_MAX
    try:
        with path.open("rb") as file:
            written_ns = os.fstat(file.fileno()).st_mtime_ns
            for number in range(1, LINES_MAX + 1):
                raw = file.readline(most)
                if not raw:
                    return log
                if len(raw) == most and not raw.endswith(b"\n"):
                    while (rest := file.readline(LINE_MAX)) and not rest.endswith(b"\n"):
                        pass
                    log.skip("too long")
                    continue
                text = raw.decode("utf-8", "backslashreplace").strip()
                for said in _said(text, how, log):
                    _take(said, number, path.name, None if how.timed else written_ns, log)
            log.skip("more lines than are read")
    except OSError as error:
        raise FileError(f"can't read the log: {error.strerror}", path=str(path), line=None) from None
    return log


def _said(text: str, how: Map, log: Log) -> Iterator[dict[str, Any]]:
    """What a line says of each call in it."""
    if not text:
        return
    if how.text:
        found = {key: expression.search(text) for key, expression in how.text.items()}
        yield {key: match.group(1) for key, match in found.items() if match}
        return
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        log.skip("no JSON")
        return
    for row in _rows(line) if how.columns else [line]:
        if not how.inside:
            yield {key: _first(row, places) for key, places in how.places.items()}
            continue
        none = True
        for call in calls_in(_first(row, how.inside), how.between):
            none = False
            yield _of_call(call, row, how)
        if none:
            log.skip("no tool call")


def _of_call(call: Call, row: Any, how: Map) -> dict[str, Any]:
    said = {}
    for key, places in how.places.items():
        found = _first(call, places) if isinstance(call, dict) else None
        said[key] = _first(row, places) if found is None else found
    if isinstance(call, str):
        said["command"] = call
    return said


def _rows(line: Any) -> Iterator[Any]:
    """Of a table each row; else the line itself."""
    columns = line if isinstance(line, dict) else {}
    count = min((len(column) for column in columns.values() if isinstance(column, list)), default=0)
    if not columns or not all(isinstance(column, list) for column in columns.values()):
        yield line
        return
    for n in range(count):
        yield {key: column[n] for key, column in columns.items()}


def _take(said: dict[str, Any], number: int, name: str, written_ns: int | None, log: Log) -> None:
    time_ns = read_time(said.get("time")) if written_ns is None else written_ns
    if time_ns is None:
        log.skip("no time")
        return
    command = _text(said.get("command"))
    if not command and not said.get("pid"):
        log.skip("no command")
        return
    pid = said.get("pid")
    log.calls.append(
        ToolCall(
            number, time_ns, read_time(said.get("end")), _text(said.get("tool")), command, _text(said.get("episode")),
            _text(said.get("step")), _text(said.get("host")),
            int(pid) if isinstance(pid, int | str) and str(pid).isdecimal() else None, _text(said.get("id")),
            written_ns is None, name,
        )
    )  # fmt: skip


def _first(line: Any, places: list[list[str]]) -> Any:
    for place in places:
        found = _at(line, place)
        if found is not None:
            return found
    return None


def _at(value: Any, place: list[str]) -> Any:
    for key in place:
        if isinstance(value, str) and value[:1] in {"{", "["}:
            try:
                value = json.loads(value)
            except ValueError:
                return None
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return None
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_time(value: Any) -> int | None:
    """RFC 3339, with or without an offset (then UTC), or a number since 1970 in s, ms, µs or ns; as ns."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        value = Decimal(value)
    if isinstance(value, int | float | Decimal):
        if not 0 < value < 1e19:
            return None
        return int(value * next(factor for least, factor in _SCALES if value >= least))
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.replace(",", "."))
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp()) * 1_000_000_000 + found.microsecond * 1000
