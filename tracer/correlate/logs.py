# SPDX-License-Identifier: Apache-2.0
r"""Tool calls out of a log, whatever its fields are called: a small map says so.

A map is TOML: ``[fields]`` names, for each thing wanted, the places to look in, the first that is there wins.
A place is keys joined by dots (a dot in a key is ``\.``), and goes on into text that is itself JSON. Or
``[text]`` has a regular expression for each, whose first group is what is wanted.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tracer.errors import FileError

WANTED = ("time", "end", "tool", "command", "episode", "step", "host", "pid", "id")
#: Lines and bytes of a line that are read.
LINES_MAX, LINE_MAX = 5_000_000, 1 << 20
_MAPS = Path(__file__).with_name("maps")
_DOT = re.compile(r"(?<!\\)\.")
# Of numbers that are times: seconds, milliseconds, microseconds or nanoseconds since 1970, told by their size
_SCALES = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000), (0, 1_000_000_000))


class MapError(FileError):
    """A map can't be used."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One line. Times are wall clock ns; ``command`` as the log has it."""

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


@dataclass(slots=True)
class Log:
    """What was read. ``skipped``: lines by what is wrong with them."""

    calls: list[ToolCall] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, why: str) -> None:
        """Count a line that is no tool call."""
        self.skipped[why] = self.skipped.get(why, 0) + 1


@dataclass(frozen=True, slots=True)
class Map:
    """How to read a line."""

    places: dict[str, list[list[str]]]
    text: dict[str, re.Pattern[str]]


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
    if unknown := set(said) - {"fields", "text"}:
        raise MapError(f"unknown key {min(unknown)!r}", path=str(path), line=None, hint="fields or text")
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
    if "time" not in text and "time" not in fields:
        raise MapError("it does not say where the time is", path=str(path), line=None)
    split = {
        key: [[part.replace("\\.", ".") for part in _DOT.split(p)] for p in places]
        for key, places in fields.items()
    }
    return Map(split, text)


def _expressions(said: dict[str, str]) -> dict[str, re.Pattern[str]]:
    text = {key: re.compile(expression) for key, expression in said.items()}
    if any(key not in WANTED or not expression.groups for key, expression in text.items()):
        raise re.error("each has a group, and is named as a field is")
    return text


def read_log(path: Path, how: Map) -> Log:
    """The tool calls of a log, in the order of their lines. Raises FileError if it can't be read at all."""
    log = Log()
    try:
        with path.open("rb") as file:
            for number in range(1, LINES_MAX + 1):
                raw = file.readline(LINE_MAX)
                if not raw:
                    return log
                if len(raw) == LINE_MAX and not raw.endswith(b"\n"):
                    while (rest := file.readline(LINE_MAX)) and not rest.endswith(b"\n"):
                        pass
                    log.skip("too long")
                    continue
                _read_line(raw.decode("utf-8", "backslashreplace").strip(), number, how, log)
            log.skip("more lines than are read")
    except OSError as error:
        raise FileError(f"can't read the log: {error.strerror}", path=str(path), line=None) from None
    return log


def _read_line(text: str, number: int, how: Map, log: Log) -> None:
    if not text:
        return
    if how.text:
        found = {key: expression.search(text) for key, expression in how.text.items()}
        said: dict[str, Any] = {key: match.group(1) for key, match in found.items() if match}
    else:
        try:
            line = json.loads(text)
        except ValueError:
            log.skip("no JSON")
            return
        said = {key: _first(line, places) for key, places in how.places.items()}
    time_ns = read_time(said.get("time"))
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
