# SPDX-License-Identifier: Apache-2.0
"""Rules that are ready to be used: read, checked, compiled, and able to explain a match."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tracer.rules.automaton import Automaton, compile_groups, patterns_of
from tracer.rules.load import join, read_file, read_packs
from tracer.rules.model import FIELDS, Group, Remark, Rule
from tracer.rules.table import RuleTable, compile_rules

_MATCHES_MAX = 64


class Match(NamedTuple):
    """An indicator that was found, and where in the field."""

    group: str
    literal: str
    start: int
    end: int


class RuleSet:
    """All rules that are in force. What needs compiled code (:meth:`find`) loads it when it is called."""

    def __init__(
        self, groups: tuple[Group, ...], rules: tuple[Rule, ...], remarks: tuple[Remark, ...] = ()
    ) -> None:
        self.groups = groups
        self.rules = rules
        self.remarks = remarks
        self._patterns = patterns_of(groups)
        self.automaton: Automaton = compile_groups(groups)
        self.table: RuleTable
        self.table, self.alternatives = compile_rules(rules, groups)

    @cached_property
    def by_id(self) -> dict[str, Rule]:
        """Rules by their id."""
        return {rule.id: rule for rule in self.rules}

    @cached_property
    def hash(self) -> str:
        """Names this set of rules: equal for equal content, wherever it was read from."""
        digest = hashlib.blake2b(digest_size=16)
        for group in sorted(self.groups, key=lambda g: g.id):
            digest.update(repr((group.id, group.where, group.match, group.case, sorted(group.values))).encode())
        for rule in sorted(self.rules, key=lambda r: r.id):
            said = (rule.id, rule.title, rule.on, rule.attack, rule.action, rule.enabled, rule.alternatives)
            digest.update(repr(said).encode())
        return digest.hexdigest()

    def find(self, field: str, text: bytes) -> list[Match]:
        """Indicators in ``text`` as the content of ``field`` (name, path, args), for evidence."""
        from tracer.rules.scan import matches as find_matches

        found = np.zeros((_MATCHES_MAX, 2), np.int64)
        data = np.frombuffer(text + b"\0", np.uint8).copy()
        count = find_matches(data, 0, len(text), FIELDS[field], self.automaton, found)
        found_here = []
        for pattern, end in found[:count].tolist():
            group, literal = self._patterns[pattern]
            found_here.append(Match(group.id, literal, end - len(literal.encode()), end))
        return found_here


def load_rules(paths: Sequence[Path] = ()) -> RuleSet:
    """The built-in packs, then the user's files. Raises RuleError at the first mistake."""
    return RuleSet(*join([*read_packs(), *(read_file(path) for path in paths)]))
