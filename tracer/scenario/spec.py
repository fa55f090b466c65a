# SPDX-License-Identifier: Apache-2.0
"""What a scenario file says. Mistakes are told by file and line."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tracer.errors import ScenarioError
from tracer.rules.lines import KeyPath, Lines
from tracer.rules.model import SEVERITIES, nearest
from tracer.rules.thresholds import THRESHOLDS

KINDS = ("malicious", "benign")
LAUNCHERS = ("sh", "agent")
#: The host that the watched tree runs on, and the one that is always there beside it.
INSIDE, OUTSIDE = "inside", "outside"

_HOST = re.compile(r"[a-z][a-z0-9]{0,15}")
_READY = re.compile(r"(tcp|udp):\d{1,5}|(file|line):.+")
_NEEDS = re.compile(r"(python:|node:|file:)?[^\s:]+")
_TYPES: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True, slots=True)
class Service:
    """A helper outside of the watched tree."""

    host: str
    run: str
    ready: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that has to come; ``rule`` may be a glob, ``severity`` is the least that will do."""

    rule: str
    severity: str = "low"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario file."""

    path: Path
    title: str
    kind: str
    script: str
    launcher: str = "sh"
    user: str | None = None
    status: int = 0
    timeout: float = 20.0
    settle: float = 0.3
    needs: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    alerts: tuple[Expected, ...] = ()
    never: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    gpu_devices: tuple[str, ...] = ()
    gpu_users: tuple[str, ...] | None = None
    thresholds: dict[str, dict[str, int]] = field(default_factory=dict)
    pending: str | None = None

    @property
    def name(self) -> str:
        """How it is called: its folder and its file, ``malicious/ssh-reverse``."""
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def corpus(self) -> Path:
        """The folder that holds ``services/``, or the file's own where there is none."""
        here = self.path.resolve().parent
        return next((p for p in (here, *here.parents[:2]) if (p / "services").is_dir()), here)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that it mentions; inside and outside come first."""
        found = [service.host for service in self.services] + list(self.names.values())
        return tuple(dict.fromkeys([INSIDE, OUTSIDE, *found]))


def read(path: Path) -> Scenario:
    """Read one file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"can't be read: {error}", path=str(path), line=None) from None
    return parse(text, path)


def parse(text: str, path: Path) -> Scenario:
    """Take the text of a file apart; the first mistake is a ScenarioError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else None
        message = re.sub(r" \(at .*\)$", "", str(error))
        raise ScenarioError(f"not valid TOML: {message}", path=str(path), line=line) from None
    return _File(data, Lines(text), path).read()


class _File:
    def __init__(self, data: dict[str, Any], lines: Lines, path: Path) -> None:
        self.data = data
        self.lines = lines
        self.path = path

    def read(self) -> Scenario:
        top = self.data
        self.known(
            (),
            top,
            ("title", "kind", "needs", "timeout", "pending", "names", "services", "run", "watch", "expect"),
        )
        run = self.table((), top, "run")
        self.known(("run",), run, ("script", "launcher", "user", "settle"))
        expect = self.table((), top, "expect")
        kind = self.word((), top, "kind", KINDS)
        watch = self.table((), top, "watch")
        self.known(("watch",), watch, ("gpu_devices", "gpu_users", "thresholds"))
        users = self.strings(("watch",), watch, "gpu_users") if "gpu_users" in watch else None
        scenario = Scenario(
            path=self.path,
            title=self.text((), top, "title"),
            kind=kind,
            script=self.text(("run",), run, "script"),
            launcher=self.word(("run",), run, "launcher", LAUNCHERS, "sh"),
            user=self.typed(("run",), run, "user", str),
            status=self.typed(("expect",), expect, "status", int) or 0,
            timeout=self.seconds((), top, "timeout", 20.0),
            settle=self.seconds(("run",), run, "settle", 0.3),
            needs=self.strings((), top, "needs", _NEEDS),
            services=self.services(top),
            names=self.names(top),
            alerts=self.alerts(expect),
            never=self.strings(("expect",), expect, "never"),
            allow=self.strings(("expect",), expect, "allow"),
            gpu_devices=self.strings(("watch",), watch, "gpu_devices"),
            gpu_users=users,
            thresholds=self.thresholds(watch),
            pending=self.typed((), top, "pending", str),
        )
        self.agrees(scenario, expect)
        return scenario

    def agrees(self, scenario: Scenario, expect: dict[str, Any]) -> None:
        """What is expected must fit the kind."""
        if scenario.kind == "malicious":
            self.known(("expect",), expect, ("alerts", "never", "status"))
            if not scenario.alerts:
                self.fail(("expect",), "a malicious scenario expects no alert", 'alerts = [{ rule = "…" }]')
        else:
            self.known(("expect",), expect, ("allow", "never", "status"))

    def services(self, top: dict[str, Any]) -> tuple[Service, ...]:
        found = []
        for number, body in enumerate(self.typed((), top, "services", list) or []):
            place: KeyPath = ("services", number)
            if not isinstance(body, dict):
                self.fail(place, "a service must be a table", "[[services]]")
            self.known(place, body, ("host", "run", "ready"))
            host = self.typed(place, body, "host", str) or OUTSIDE
            self.host((*place, "host"), host)
            ready = self.typed(place, body, "ready", str)
            if ready is not None and not _READY.fullmatch(ready):
                self.fail(
                    (*place, "ready"), f"'{ready}' is no sign", "tcp:PORT, udp:PORT, file:PATH or line:TEXT"
                )
            found.append(Service(host, self.text(place, body, "run"), ready))
        return tuple(found)

    def names(self, top: dict[str, Any]) -> dict[str, str]:
        found = {}
        for name, host in self.table((), top, "names").items():
            if not isinstance(host, str):
                self.fail(("names", name), f"'{name}' must be the name of a host", f'{name} = "outside"')
            self.host(("names", name), host)
            found[name] = host
        return found

    def alerts(self, expect: dict[str, Any]) -> tuple[Expected, ...]:
        found = []
        for number, body in enumerate(self.typed(("expect",), expect, "alerts", list) or []):
            place: KeyPath = ("expect", "alerts", number)
            if not isinstance(body, dict):
                self.fail(
                    place, "an expected alert must be a table", '{ rule = "tunnel.tool", severity = "high" }'
                )
            self.known(place, body, ("rule", "severity"))
            severity = self.word(place, body, "severity", SEVERITIES, "low")
            found.append(Expected(self.text(place, body, "rule"), severity))
        return tuple(found)

    def thresholds(self, watch: dict[str, Any]) -> dict[str, dict[str, int]]:
        """Numbers of detectors that wait for minutes, which a scenario can't."""
        place: KeyPath = ("watch", "thresholds")
        given = self.table(("watch",), watch, "thresholds")
        self.known(place, given, tuple(THRESHOLDS))
        for name in given:
            numbers = self.table(place, given, name)
            self.known((*place, name), numbers, tuple(THRESHOLDS[name]))
            for key in numbers:
                self.typed((*place, name), numbers, key, int)
        return given

    # keys with a type

    def host(self, path: KeyPath, name: str) -> None:
        if not _HOST.fullmatch(name):
            self.fail(path, f"'{name}' can't name a host", "small letters and digits")

    def text(self, path: KeyPath, table: dict[str, Any], key: str) -> str:
        found: str | None = self.typed(path, table, key, str)
        if found is None or not found.strip():
            self.fail((*path, key), f"'{key}' is missing", f'add {key} = "…"')
        return found

    def word(
        self,
        path: KeyPath,
        table: dict[str, Any],
        key: str,
        choices: tuple[str, ...],
        default: str | None = None,
    ) -> str:
        if key not in table and default is not None:
            return default
        found = self.text(path, table, key)
        if found not in choices:
            self.fail((*path, key), f"{key} = '{found}' is not known", nearest(found, choices))
        return found

    def strings(
        self, path: KeyPath, table: dict[str, Any], key: str, pattern: re.Pattern[str] | None = None
    ) -> tuple[str, ...]:
        items = self.typed(path, table, key, list) or []
        for number, item in enumerate(items):
            if not isinstance(item, str) or (pattern and not pattern.fullmatch(item)):
                self.fail((*path, key, number), f"{item!r} does not belong in '{key}'", "a string in quotes")
        return tuple(items)

    def seconds(self, path: KeyPath, table: dict[str, Any], key: str, default: float) -> float:
        found = table.get(key, default)
        if type(found) not in (int, float) or not 0 <= found <= 600:
            self.fail((*path, key), f"{key} = {found!r} is no time", "seconds, 600 at most")
        return float(found)

    def table(self, path: KeyPath, table: dict[str, Any], key: str) -> dict[str, Any]:
        return self.typed(path, table, key, dict) or {}

    def typed(self, path: KeyPath, table: dict[str, Any], key: str, kind: type[Any]) -> Any:
        value = table.get(key)
        if value is not None and type(value) is not kind:
            hint = f"{key} = {_TYPES[kind]}"
            self.fail((*path, key), f"'{key}' must be {_TYPES[kind]}", hint)
        return value

    def known(self, path: KeyPath, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                self.fail((*path, key), f"unknown key '{key}'", nearest(key, keys))

    def fail(self, path: KeyPath, message: str, hint: str) -> NoReturn:
        raise ScenarioError(message, path=str(self.path), line=self.lines.of(path), hint=hint)
