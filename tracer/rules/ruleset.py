# SPDX-License-Identifier: Apache-2.0
"""A finished set of rules: what compiled code walks, and what people are told about it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tracer.detect.facts import FACT_BIT, FACTS, FIRST_GROUP, WORD_BITS, WORDS
from tracer.rules.hidden import hidden_groups
from tracer.rules.model import FIELDS, ON, SEVERITIES, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tracer.rules.automaton import Automaton
    from tracer.rules.model import Alternative, Group, Remark, Rule
    from tracer.rules.probe_rows import ProbeRows
    from tracer.rules.table import RuleTable
    from tracer.rules.thresholds import Thresholds

#: Places of indicators looked at per field when evidence is gathered.
PLACES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Match:
    """An indicator found in a field: ``text[start:end]`` is it."""

    group: str
    literal: str
    field: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What rules see of one event.

    ``names``: last parts of the resolved path, of ``argv[0]`` and of the name it was called by. ``args``:
    ``argv[1:]``, each ended by NUL. ``facts``: names out of ``FACTS``. ``sent``, ``received``, ``host``: of a
    flow. ``groups``: ids of groups that something else has found (in a file).
    """

    names: tuple[bytes, ...] = ()
    path: bytes = b""
    args: bytes = b""
    facts: frozenset[str] = frozenset()
    on: str = "exec"
    sent: bytes = b""
    received: bytes = b""
    host: bytes = b""
    groups: frozenset[str] = frozenset()

    @property
    def texts(self) -> list[tuple[str, bytes]]:
        """What is searched, by field."""
        fields = [("name", name) for name in self.names]
        fields += [("path", self.path), ("args", self.args)]
        return [*fields, ("sent", self.sent), ("received", self.received), ("host", self.host)]

    @classmethod
    def from_command(
        cls, argv: Sequence[bytes], *, path: bytes | None = None, facts: frozenset[str] = frozenset()
    ) -> Sample:
        """The exec that ``argv`` would be; ``path`` is the resolved program, ``argv[0]`` if not given."""
        called = argv[0] if argv else b""
        path = called if path is None else path
        names = dict.fromkeys(item.rpartition(b"/")[2] for item in (path, called))
        return cls(tuple(names), path, b"".join(item + b"\0" for item in argv[1:]), facts)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a rule holds or doesn't: of the alternative that holds, else of the one that comes closest."""

    fires: bool
    severity: str
    alternative: int
    #: signals that were asked for and are there, as rules name them
    found: tuple[str, ...]
    #: those that are not there and would be needed; of an ``any``, all that could be
    missing: tuple[str, ...]
    #: those of ``none`` that are there
    forbidden: tuple[str, ...]
    #: where the indicators behind ``found`` and ``forbidden`` stand
    matches: tuple[Match, ...]


class RuleSet:
    """Groups and rules, joined and checked. What is compiled from them is made on first use."""

    def __init__(
        self,
        groups: tuple[Group, ...],
        rules: tuple[Rule, ...],
        remarks: tuple[Remark, ...] = (),
        terms: Terms = Terms(),  # noqa: B008 - it is frozen
        thresholds: Thresholds | None = None,
    ) -> None:
        self.groups = groups
        self.rules = rules
        self.remarks = remarks
        self.terms = terms
        self.thresholds: Thresholds = thresholds or {}

    @cached_property
    def automaton(self) -> Automaton:
        """All indicators, see :mod:`.automaton`."""
        from tracer.rules.automaton import compile_groups

        numbers, groups = zip(*self._walked, strict=True)
        return compile_groups(groups, numbers)

    @cached_property
    def _walked(self) -> list[tuple[int, Group]]:
        """Signal numbers and groups that events are searched for: what is looked for in files alone is
        left to :mod:`tracer.triage`, and the hidden groups come last.
        """
        numbered = enumerate((*self.groups, *hidden_groups(self.terms)), FIRST_GROUP)
        return [(number, group) for number, group in numbered if group.where != ("file",)]

    @cached_property
    def _compiled(self) -> tuple[RuleTable, list[tuple[Rule, str]]]:
        from tracer.rules.table import compile_rules

        return compile_rules(self.rules, self.groups)

    @property
    def table(self) -> RuleTable:
        """All rules, see :mod:`.table`."""
        return self._compiled[0]

    @cached_property
    def probe_rows(self) -> ProbeRows:
        """The rules that a probe can decide by itself, see :func:`.probe_rows`."""
        from tracer.rules.probe_rows import probe_rows

        return probe_rows(self.rules, self.groups, self.terms)

    @property
    def alternative_rule(self) -> list[tuple[Rule, str]]:
        """By row of ``table`` (what ``evaluate`` reports): the rule and its severity."""
        return self._compiled[1]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Signal numbers by the names that rules use: groups, and facts as ``@name``."""
        from tracer.rules.table import signal_numbers

        return signal_numbers(self.groups)

    @cached_property
    def hash(self) -> str:
        """Names the content: the same for the same groups and rules, whatever files they came from."""
        content: dict[str, list[dict[str, object]]] = {
            "groups": sorted((asdict(group) for group in self.groups), key=lambda item: str(item["id"])),
            "rules": sorted(
                (asdict(rule) for rule in self.rules if rule.enabled), key=lambda item: str(item["id"])
            ),
        }
        for items in content.values():
            for item in items:
                del item["source"], item["line"]
        canonical = json.dumps([content, self.thresholds], sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()

    def under(self, terms: Terms) -> RuleSet:
        """The same groups and rules under other terms."""
        return RuleSet(self.groups, self.rules, self.remarks, terms, self.thresholds)

    def measured_by(self, thresholds: Thresholds) -> RuleSet:
        """The same groups and rules, with these numbers in place of theirs."""
        merged = {name: {**numbers, **thresholds.get(name, {})} for name, numbers in self.thresholds.items()}
        return RuleSet(self.groups, self.rules, self.remarks, self.terms, merged)

    def rule(self, name: str) -> Rule | None:
        """The rule of that id."""
        return next((rule for rule in self.rules if rule.id == name), None)

    @cached_property
    def _patterns(self) -> list[tuple[Group, str]]:
        from tracer.rules.automaton import patterns_of

        return patterns_of([group for _, group in self._walked])

    def find(self, field: str, text: bytes) -> list[Match]:
        """The indicators in ``text``, the whole of one ``field`` (of names: one of them).

        Each is told once, at its first place: a thousand repetitions must not bury the one that matters.
        """
        if not text:
            return []
        import numpy as np

        from tracer.rules.scan import matches

        data = np.frombuffer(bytearray(text), dtype=np.uint8)
        found = np.empty((PLACES_MAX, 2), dtype=np.int64)
        count = matches(data, 0, len(text), FIELDS[field], self.automaton, found)
        first: dict[int, int] = {}
        for pattern, end in found[:count].tolist():
            first.setdefault(pattern, end)
        result = []
        for pattern, end in first.items():
            group, literal = self._patterns[pattern]
            result.append(Match(group.id, literal, field, end - int(self.automaton.length[pattern]), end))
        return result

    def find_all(self, sample: Sample) -> list[Match]:
        """Where indicators are in any field of ``sample``."""
        return [match for field, text in sample.texts for match in self.find(field, text)]

    def signals(self, sample: Sample) -> NDArray[np.int64]:
        """The signals of ``sample``, as the engine would have them."""
        import numpy as np

        from tracer.rules.scan import scan

        signals = np.zeros(WORDS, dtype=np.int64)
        for fact in sample.facts:
            word, bit = divmod(FACT_BIT[fact], WORD_BITS)
            signals[word] |= 1 << bit
        for group in sample.groups:
            word, bit = divmod(self.numbers[group], WORD_BITS)
            signals[word] |= 1 << bit
        for field, text in sample.texts:
            data = np.frombuffer(bytearray(text), dtype=np.uint8)
            scan(data, 0, len(text), FIELDS[field], self.automaton, signals)
        return signals

    def judge(self, sample: Sample) -> list[tuple[Rule, str]]:
        """The rules that ``sample`` fires, with their severities, severest first."""
        import numpy as np

        from tracer.rules.evaluate import evaluate

        fired = np.empty(len(self.rules), dtype=np.int64)
        count = evaluate(ON[sample.on], self.signals(sample), self.table, fired)
        return [self.alternative_rule[row] for row in fired[:count].tolist()]

    def explain(self, rule: Rule, sample: Sample) -> Explanation:
        """Why ``rule`` holds for ``sample``, or what keeps it from holding."""
        signals = self.signals(sample).tolist()
        # facts of different kinds of events share their bits
        elsewhere = {f"@{fact.name}" for fact in FACTS if sample.on not in fact.on}
        there = {
            name
            for name, number in self.numbers.items()
            if signals[number // WORD_BITS] >> (number % WORD_BITS) & 1 and name not in elsewhere
        }
        found = self.find_all(sample)
        explanations = [
            _explain(number, alternative, there, found, rule.on == sample.on)
            for number, alternative in enumerate(rule.alternatives)
        ]
        return min(explanations, key=lambda item: _distance(item, rule))


def _explain(
    number: int, alternative: Alternative, there: set[str], matches: Sequence[Match], on: bool
) -> Explanation:
    required = [name for name in alternative.all if name in there]
    chosen = [name for name in alternative.any if name in there]
    missing = [name for name in alternative.all if name not in there]
    if len(chosen) < alternative.at_least:
        missing += [name for name in alternative.any if name not in there]
    forbidden = tuple(name for name in alternative.none if name in there)
    relevant = {*required, *chosen, *forbidden}
    return Explanation(
        fires=on and not missing and not forbidden,
        severity=alternative.severity,
        alternative=number,
        found=(*required, *chosen),
        missing=tuple(missing),
        forbidden=forbidden,
        matches=tuple(match for match in matches if match.group in relevant),
    )


def _distance(item: Explanation, rule: Rule) -> tuple[int, ...]:
    """Orders explanations: those that hold by severity, then those to which least has to be added."""
    alternative = rule.alternatives[item.alternative]
    chosen = sum(name in alternative.any for name in item.found)
    lacking = sum(name in alternative.all for name in item.missing) + max(0, alternative.at_least - chosen)
    closeness = (0, 0) if item.fires else (lacking, len(item.forbidden))
    severity = -SEVERITIES.index(item.severity)
    return (not item.fires, not item.found, *closeness, severity, item.alternative)
