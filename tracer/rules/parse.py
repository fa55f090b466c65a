# SPDX-License-Identifier: Apache-2.0
"""From the text of one rule file to a draft, with every mistake told by line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tracer.errors import RuleError
from tracer.rules.draft import Conditions, Draft, GroupDraft, Reference, RuleDraft
from tracer.rules.model import (
    ACTIONS,
    FAMILIES,
    FIELDS,
    MATCHES,
    NUMBERS,
    ON,
    POLICY_PREFIX,
    SEVERITIES,
    nearest,
)
from tracer.rules.numbers import ranges_of
from tracer.rules.thresholds import THRESHOLDS
from tracer.toml_reader import Reader, read_toml

if TYPE_CHECKING:
    from tracer.rules.lines import KeyPath, Lines

#: Longest indicator, in bytes: bounds the depth of the automaton.
LENGTH_MAX = 256

_GROUP_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_RULE_ID = re.compile(rf"({'|'.join(FAMILIES)})\.[a-z0-9]+(-[a-z0-9]+)*")
_ATTACK = re.compile(r"T\d{4}(\.\d{3})?")
_WHERE = (*FIELDS, *NUMBERS)
_TABLES = ("indicators", "rules", "thresholds")
_GROUP_KEYS = ("where", "match", "case", "values", "extend")
_CONDITION_KEYS = ("all", "any", "at_least", "none")
_ALTERNATIVE_KEYS = (*_CONDITION_KEYS, "severity")
_RULE_KEYS = (
    *("title", "on", "severity", "attack", "remedy", "action", "enabled", "extend", "when"),
    *_CONDITION_KEYS,
)


def parse(text: str, source: str) -> Draft:
    """Read the text of one rule file; ``source`` is what messages call it.

    Mistakes are in the draft's ``errors``, the first of each group and rule.
    """
    try:
        data, lines = read_toml(text, source, RuleError)
    except RuleError as error:
        return Draft(source, errors=[error])
    return _File(data, lines, source).read()


class _File(Reader[RuleError]):
    """Takes one file's data apart."""

    def __init__(self, data: dict[str, Any], lines: Lines, source: str) -> None:
        super().__init__(data, lines, source, RuleError)
        self.draft = Draft(source, remarks=self.remarks, errors=self.errors)

    def read(self) -> Draft:
        for key in self.data:
            self.collect(self.known_keys, (), {key: None}, _TABLES)
        for table, read in zip(_TABLES, (self.group, self.rule, self.threshold), strict=True):
            for name, body in (self.collect(self.table, (), self.data, table) or {}).items():
                self.collect(read, (table, name), name, body)
        self.errors.sort(key=lambda error: error.line or 0)
        return self.draft

    # what a file may say

    def group(self, path: KeyPath, name: str, body: object) -> None:
        table = self.as_table(path, body)
        self.known_keys(path, table, _GROUP_KEYS)
        if not _GROUP_ID.fullmatch(name):
            self.fail(path, f"'{name}' can't name a group", "small letters, digits and single dashes")
        if name.startswith(POLICY_PREFIX):
            self.fail(path, f"'{name}': '{POLICY_PREFIX}' begins the groups that policies make", "rename it")
        extend = self.flag(path, table, "extend") or False
        where = self.where(path, table)
        match = self.word(path, table, "match", MATCHES)
        numbers = next((found for found in where or () if found in NUMBERS), None)
        if numbers is not None:
            if len(where or ()) > 1:
                self.fail((*path, "where"), f"'{numbers}' beside other fields", "make two groups of it")
            match = match or "range"
        if not extend:
            for key, value in (("where", where), ("match", match)):
                if value is None:
                    self.fail(path, f"group '{name}' lacks '{key}'", f"add {key} = …")
        for found in where or ():
            if match is not None and found not in MATCHES[match].fields:
                fits = ", ".join(key for key, kind in MATCHES.items() if found in kind.fields)
                self.fail((*path, "match"), f"match = '{match}' can't be used on {found}", f"one of: {fits}")
        case = self.flag(path, table, "case")
        values = self.values(path, table, bool(case))
        if numbers is not None:
            self.numbers(path, numbers, values)
        if where == ("name",):
            for number, value in enumerate(values):
                if "/" in value:
                    place = (*path, "values", number)
                    self.fail(place, f"'{value}' can't match: a name has no '/'", 'use where = "path"')
        line = self.lines.of(path)
        self.draft.groups.append(
            GroupDraft(name, self.draft.source, line, extend, where, match, case, values)
        )

    def rule(self, path: KeyPath, name: str, body: object) -> None:
        if "." not in name and isinstance(body, dict) and name in FAMILIES:
            hint = f'quote the id: [rules."{name}.{next(iter(body), "what")}"]'
            self.fail(path, f"'{name}' is a family, not a rule", hint)
        if not _RULE_ID.fullmatch(name):
            families = ", ".join(FAMILIES)
            self.fail(path, f"'{name}' can't name a rule", f"family.what, where family is one of: {families}")
        table = self.as_table(path, body)
        self.known_keys(path, table, _RULE_KEYS)
        self.draft.rules.append(
            RuleDraft(
                id=name,
                source=self.draft.source,
                line=self.lines.of(path),
                extend=self.flag(path, table, "extend") or False,
                enabled=self.flag(path, table, "enabled"),
                title=self.line_of_text(path, table, "title"),
                on=self.word(path, table, "on", ON),
                severity=self.word(path, table, "severity", SEVERITIES),
                attack=self.attack(path, table),
                remedy=self.line_of_text(path, table, "remedy"),
                action=self.word(path, table, "action", ACTIONS),
                none=self.references(path, table, "none"),
                alternatives=self.alternatives(path, table),
            )
        )

    def threshold(self, path: KeyPath, name: str, body: object) -> None:
        if name not in THRESHOLDS:
            self.fail(path, f"no detector '{name}' asks for thresholds", nearest(name, THRESHOLDS))
        table = self.as_table(path, body)
        self.known_keys(path, table, tuple(THRESHOLDS[name]))
        for key in table:
            asked = THRESHOLDS[name][key]
            value = self.typed(path, table, key, int)
            if not asked.least <= value <= asked.most:
                hint = f"from {asked.least} to {asked.most}: {asked.meaning}"
                self.fail((*path, key), f"{key} = {value} is out of bounds", hint)
            self.draft.thresholds[name, key] = value

    def alternatives(self, path: KeyPath, table: dict[str, Any]) -> tuple[Conditions, ...]:
        """Those under ``when``, or the one that the rule itself spells out."""
        spelled = [key for key in ("all", "any", "at_least") if key in table]
        if "when" not in table:
            return (self.conditions(path, table),) if spelled else ()
        if spelled:
            self.fail((*path, spelled[0]), f"'{spelled[0]}' beside 'when'", "move it into an entry of 'when'")
        found = []
        for number, body in enumerate(self.items(path, table, "when")):
            place = (*path, "when", number)
            entry = self.as_table(place, body)
            self.known_keys(place, entry, _ALTERNATIVE_KEYS)
            none = self.references(place, entry, "none")
            severity = self.word(place, entry, "severity", SEVERITIES)
            found.append(self.conditions(place, entry, none, severity))
        if not found:
            self.fail((*path, "when"), "'when' is empty", 'add an entry such as {any = ["…"]}')
        return tuple(found)

    def conditions(
        self,
        path: KeyPath,
        table: dict[str, Any],
        none: tuple[Reference, ...] = (),
        severity: str | None = None,
    ) -> Conditions:
        """What has to be found; ``none`` and ``severity`` are the alternative's own, beside the rule's."""
        every, some = self.references(path, table, "all"), self.references(path, table, "any")
        if not every and not some:
            self.fail(path, "nothing has to be found for this to hold", "add 'all' or 'any'")
        at_least = self.typed(path, table, "at_least", int)
        if at_least is not None and not 1 <= at_least <= len(some):
            hint = f"from 1 to {len(some)}, the number of entries in 'any'" if some else "add 'any'"
            self.fail((*path, "at_least"), f"at_least = {at_least} can't be met", hint)
        at_least = at_least if at_least is not None else min(len(some), 1)
        return Conditions(every, some, at_least, none, severity, self.lines.of(path))

    # keys with a meaning

    def where(self, path: KeyPath, table: dict[str, Any]) -> tuple[str, ...] | None:
        if "where" not in table:
            return None
        if isinstance(table["where"], list):
            found = tuple(table["where"])
        else:
            found = (self.typed(path, table, "where", str),)
        if not found:
            self.fail((*path, "where"), "'where' is empty", nearest("", _WHERE))
        for place in found:
            if not isinstance(place, str) or place not in _WHERE:
                self.fail((*path, "where"), f"where = {place!r} is not a field", nearest(str(place), _WHERE))
        return tuple(dict.fromkeys(found))

    def values(self, path: KeyPath, table: dict[str, Any], case: bool) -> tuple[str, ...]:
        if "values" not in table:
            self.fail(path, "a group without 'values'", 'add values = ["…"]')
        found: dict[str, str] = {}
        items = self.items(path, table, "values")
        if not items:
            self.fail((*path, "values"), "an empty list of indicators", "add one, or remove the group")
        for number, value in enumerate(items):
            place = (*path, "values", number)
            if not isinstance(value, str):
                self.fail(place, f"{value!r} is no indicator", "a string in quotes")
            if not value:
                self.fail(place, "an empty indicator would match everything", "remove it")
            if "\0" in value:
                self.fail(place, "an indicator can't contain NUL", "use one indicator per argument")
            if len(value.encode()) > LENGTH_MAX:
                self.fail(place, f"an indicator of more than {LENGTH_MAX} bytes", "shorten it")
            key = value if case else value.encode().lower().decode()
            if key in found:
                self.remark(place, f"'{value}' is there already", "remove it")
            found.setdefault(key, value)
        return tuple(found.values())

    def numbers(self, path: KeyPath, where: str, values: tuple[str, ...]) -> None:
        for number, value in enumerate(values):
            try:
                ranges_of(where, value)
            except ValueError:
                self.fail((*path, "values", number), f"'{value}' is no {where}", NUMBERS[where])

    def attack(self, path: KeyPath, table: dict[str, Any]) -> tuple[str, ...] | None:
        if "attack" not in table:
            return None
        items = self.items(path, table, "attack")
        for number, item in enumerate(items):
            if not isinstance(item, str) or not _ATTACK.fullmatch(item):
                self.fail(
                    (*path, "attack", number), f"{item!r} is no ATT&CK technique", "such as 'T1496.001'"
                )
        return tuple(items)

    def references(self, path: KeyPath, table: dict[str, Any], key: str) -> tuple[Reference, ...]:
        if key not in table:
            return ()
        found: dict[str, Reference] = {}
        for number, item in enumerate(self.items(path, table, key)):
            place = (*path, key, number)
            if not isinstance(item, str):
                self.fail(place, f"{item!r} is no name", "the name of a group, or @fact, in quotes")
            if item in found:
                self.remark(place, f"'{item}' is there already", "remove it")
            found.setdefault(item, Reference(item, self.draft.source, self.lines.of(place)))
        return tuple(found.values())
