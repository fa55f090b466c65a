# SPDX-License-Identifier: Apache-2.0
"""From the text of a policy to what it says, with every mistake told by line.

What can be told from the file alone: whether the rules that it mentions exist, :mod:`.compile` sees.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tracer.errors import PolicyError
from tracer.policy.files import path_of, see_that_it_names_a_file
from tracer.policy.model import MODES, Choice, Exemption, Listed, Policy, Reach, Selector
from tracer.policy.places import read_listener, read_network, read_place
from tracer.policy.ports import PORT_SETS_MAX, port_sets
from tracer.policy.programs import read_program
from tracer.policy.unfit import Unfit
from tracer.rules.model import ACTIONS, FAMILIES, SEVERITIES
from tracer.rules.users import BELOW, split_user
from tracer.toml_reader import Reader, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracer.policy.places import Place
    from tracer.policy.programs import Program
    from tracer.rules.lines import KeyPath, Lines
    from tracer.rules.model import Remark

T = TypeVar("T")

#: Entries of one list: what compiling it costs grows faster than their number.
ENTRIES_MAX = 1024

_SECTIONS = {
    "policy": ("name", "mode", "act_from"),
    "gpu": ("users", "action"),
    "network": ("own", "connect", "connect_action", "listen", "listen_action", "quarantine"),
    "exec": ("allow", "allow_action", "deny", "deny_action"),
    "actions": (),
    "rules": ("files", "off"),
}
_USER_KEYS = ("program", "below")
_EXCEPTION_KEYS = ("rule", "exe", "args", "remote", "reason", "until")
_SELECTOR = re.compile(r"[a-z0-9.*?-]+")
_SELECTOR_FORM = 'the id of a rule such as "tunnel.ssh-local", or a glob such as "tunnel.*"'


class Parsed(NamedTuple):
    """One policy file, as far as it makes sense."""

    policy: Policy
    errors: tuple[PolicyError, ...]
    remarks: tuple[Remark, ...]


def parse(text: str, source: str, digest: str = "") -> Parsed:
    """Read the text of a policy; ``source`` is its path. Raises PolicyError if it is no TOML."""
    return _File(*read_toml(text, source, PolicyError), source).read(digest)


class _File(Reader[PolicyError]):
    """Takes one policy's data apart."""

    def __init__(self, data: dict[str, Any], lines: Lines, source: str) -> None:
        super().__init__(data, lines, source, PolicyError)

    def read(self, digest: str) -> Parsed:
        for key in self.data:
            self.collect(self.known_keys, (), {key: None}, (*_SECTIONS, "exceptions"))
        top, gpu, network, run, actions, rules = (self.section(name) for name in _SECTIONS)
        policy = Policy(
            name=self.collect(self.line_of_text, ("policy",), top, "name") or Path(self.source).stem,
            mode=self.collect(self.word, ("policy",), top, "mode", MODES) or MODES[0],
            act_from=self.collect(self.word, ("policy",), top, "act_from", SEVERITIES) or "high",
            gpu_users=self.collect(self.gpu_users, gpu),
            own_networks=self.entries(("network",), network, "own", lambda text, _: read_network(text)),
            quarantine=self.quarantine(network),
            quarantine_line=self.lines.of(("network", "quarantine")),
            exceptions=self.exceptions(),
            source=self.source,
            digest=digest,
            rule_files=self.entries(("rules",), rules, "files", self.rule_file),
            connect=self.places(network, "connect", read_place),
            listen=self.places(network, "listen", read_listener),
            allow=self.programs(run, "allow"),
            deny=self.programs(run, "deny"),
            gpu_choice=self.choice(("gpu",), gpu, "action"),
            actions=self.actions(actions),
            off=self.entries(("rules",), rules, "off", self.selector),
            gpu_users_line=self.lines.of(("gpu", "users")) if "users" in gpu else 0,
        )
        self.errors.sort(key=lambda error: error.line or 0)
        return Parsed(policy, tuple(self.errors), tuple(self.remarks))

    def section(self, name: str) -> dict[str, Any]:
        table: dict[str, Any] = self.collect(self.table, (), self.data, name) or {}
        if name != "actions":
            for key in table:
                self.collect(self.known_keys, (name,), {key: None}, _SECTIONS[name])
        return table

    # sections

    def gpu_users(self, table: dict[str, Any]) -> tuple[str, ...] | None:
        if "users" not in table:
            return None
        items = self.collect(self.items, ("gpu",), table, "users") or []
        texts = [self.collect(self.with_below, number, item) for number, item in enumerate(items)]
        found = self.entries(("gpu",), {"users": texts}, "users", self.gpu_user)
        path = ("gpu", "users")
        if table["users"] == []:
            self.fail(path, "an empty list of users", 'users = ["none"] means that nobody may')
        if "none" in found and len(found) > 1:
            self.fail(path, "'none' beside users", "remove the one or the others")
        return () if "none" in found else found

    def with_below(self, number: int, item: object) -> object:
        """``{ program = "a", below = "b" }`` as the text "a below b"; anything else as it is."""
        if not isinstance(item, dict):
            return item
        path: KeyPath = ("gpu", "users", number)
        self.known_keys(path, item, _USER_KEYS)
        for key in _USER_KEYS:
            if not isinstance(item.get(key), str) or BELOW in item[key]:
                self.fail(
                    path, f"'{key}' must be one program", '{ program = "train.py", below = "torchrun" }'
                )
        return BELOW.join(item[key] for key in _USER_KEYS)

    def gpu_user(self, text: str, line: int) -> str:
        for program in split_user(text):
            if program is None:
                continue
            if not program or not program.isprintable():
                raise Unfit(f"{text!r} names no program", 'such as "train.py" or "/opt/job/*"')
            if path_of(program) is not None:
                see_that_it_names_a_file(program)
        return text

    def places(
        self, table: dict[str, Any], key: str, read: Callable[[str, int], Place]
    ) -> Listed[Place] | None:
        found = self.listed(("network",), table, key, f"{key}_action", read)
        if found is not None:
            self.collect(self.few_port_sets, ("network", key), found.entries)
        return found

    def few_port_sets(self, path: KeyPath, places: tuple[Place, ...]) -> None:
        count = sum(found.ports is not None for found in port_sets(places))
        if count > PORT_SETS_MAX:
            message = (
                f"{count} sets of ports that lead to different places; there is room for {PORT_SETS_MAX}"
            )
            self.fail(path, message, "give the same ports to places that are alike, or a range")

    def programs(self, table: dict[str, Any], key: str) -> Listed[Program] | None:
        found = self.listed(("exec",), table, key, f"{key}_action", read_program)
        if found is not None and table[key] == []:
            hint = "remove it, or name programs: nothing could be started"
            self.collect(
                self.fail, ("exec", key), f"'{key}' is empty", hint if key == "allow" else "remove it"
            )
        return found

    def quarantine(self, table: dict[str, Any]) -> tuple[Reach, ...]:
        places = self.entries(("network",), table, "quarantine", self.quarantined)
        self.collect(self.few_port_sets, ("network", "quarantine"), places)
        return tuple(Reach(found.networks, found.ports) for found in port_sets(places))

    def quarantined(self, text: str, line: int) -> Place:
        found = read_place(text, line)
        if found.host is not None:
            hint = "write its address: who answers for the name may be the one to be kept out"
            raise Unfit(f"'{text}': names can't be trusted in quarantine", hint)
        return found

    def actions(self, table: dict[str, Any]) -> tuple[tuple[Selector, str], ...]:
        found = []
        for key in table:
            selector = self.collect(self.action_key, table, key)
            action = self.collect(self.word, ("actions",), table, key, ACTIONS) if selector else None
            if action:
                found.append((selector, action))
        return tuple(found)

    def action_key(self, table: dict[str, Any], key: str) -> Selector:
        path = ("actions", key)
        if isinstance(table[key], dict) and key in FAMILIES:
            hint = f'quote the id: "{key}.{next(iter(table[key]), "what")}" = …'
            self.fail(path, f"'{key}' is a family, not a rule", hint)
        try:
            return self.selector(key, self.lines.of(path))
        except Unfit as wrong:
            self.fail(path, wrong.message, wrong.hint)

    def exceptions(self) -> tuple[Exemption, ...]:
        found = self.collect(self.typed, (), self.data, "exceptions", list) or []
        if isinstance(self.data.get("exceptions"), dict):
            self.errors[-1].hint = "begin it with [[exceptions]]"
        read = (self.collect(self.exception, number, body) for number, body in enumerate(found))
        return tuple(item for item in read if item is not None)

    def exception(self, number: int, body: object) -> Exemption:
        path: KeyPath = ("exceptions", number)
        if not isinstance(body, dict):
            self.fail(path, "an exception must be a table", "begin it with [[exceptions]]")
        self.known_keys(path, body, _EXCEPTION_KEYS)
        for key, example in (("rule", '"tunnel.ssh-local"'), ("reason", '"why"'), ("until", "2027-01-31")):
            if key not in body:
                self.fail(path, f"an exception without '{key}'", f"add {key} = {example}")
        if not {"exe", "args", "remote"} & body.keys():
            hint = "add exe, args or remote; [rules] off = … is for a rule that is not wanted at all"
            self.fail(path, "an exception without a condition", hint)
        return Exemption(
            rule=self.one(path, body, "rule", self.selector),
            exe=self.one(path, body, "exe", self.excused_program),
            args=self.line_of_text(path, body, "args"),
            remote=self.one(path, body, "remote", read_place),
            reason=self.line_of_text(path, body, "reason") or "",
            until=self.typed(path, body, "until", date),
            line=self.lines.of(path),
        )

    # entries

    def excused_program(self, text: str, line: int) -> Program:
        found = read_program(text, line)
        if found.match == "range":
            raise Unfit(f"'{text}': an alert has a path, and not the file", f'"{found.literal}"')
        return found

    def selector(self, text: str, line: int) -> Selector:
        if not _SELECTOR.fullmatch(text):
            raise Unfit(f"'{text}' is no rule", _SELECTOR_FORM)
        return Selector(text, line)

    def rule_file(self, text: str, line: int) -> Path:
        if not text or not text.isprintable():
            raise Unfit(f"{text!r} is no file", "a path, relative to this file")
        return Path(self.source).parent / text

    def one(self, path: KeyPath, table: dict[str, Any], key: str, read: Callable[[str, int], T]) -> Any:
        """What ``read`` makes of a text, None if it is not there."""
        text = self.typed(path, table, key, str)
        return None if text is None else self.entry((*path, key), text, read)

    def entry(self, path: KeyPath, text: object, read: Callable[[str, int], T]) -> T:
        if type(text) is int and path[0] == "network":
            text = str(text)  # a port is as good without its quotes
        if not isinstance(text, str):
            self.fail(path, f"{text!r} is no text", "a string in quotes")
        try:
            return read(text, self.lines.of(path))
        except Unfit as wrong:
            self.fail(path, wrong.message, wrong.hint)

    def entries(
        self, path: KeyPath, table: dict[str, Any], key: str, read: Callable[[str, int], T]
    ) -> tuple[T, ...]:
        """What ``read`` makes of each text of a list; mistakes are gathered."""
        items = self.collect(self.items, path, table, key) or []
        place = (*path, key)
        if len(items) > ENTRIES_MAX:
            self.collect(self.fail, place, f"{len(items)} entries; {ENTRIES_MAX} may be", "put some together")
            return ()
        found: list[T] = []
        seen: set[object] = set()
        for number, text in enumerate(items):
            here = (*place, number)
            if isinstance(text, str) and text in seen:
                self.remark(here, f"'{text}' is there already", "remove it")
                continue
            seen.add(text if isinstance(text, str) else number)
            read_one = self.collect(self.entry, here, text, read)
            if read_one is not None:
                found.append(read_one)
        return tuple(found)

    def listed(
        self, path: KeyPath, table: dict[str, Any], key: str, action: str, read: Callable[[str, int], T]
    ) -> Listed[T] | None:
        choice = self.choice(path, table, action)
        if key not in table:
            if action in table:
                message, hint = f"'{action}' without '{key}'", f"add {key} = […]: what is not in it"
                self.collect(self.fail, (*path, action), message, hint)
            return None
        return Listed(self.entries(path, table, key, read), self.lines.of((*path, key)), choice)

    def choice(self, path: KeyPath, table: dict[str, Any], key: str) -> Choice | None:
        action = self.collect(self.word, path, table, key, ACTIONS)
        return Choice(action, self.lines.of((*path, key))) if action else None
