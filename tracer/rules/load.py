# SPDX-License-Identifier: Apache-2.0
"""Join the packs and the user's rule files into one set of groups and rules, and check that it fits."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tracer.detect.facts import FACT_WORDS, FACTS, WORD_BITS, WORDS
from tracer.errors import RuleError
from tracer.rules.draft import Conditions, Draft, GroupDraft, Reference, RuleDraft
from tracer.rules.hidden import HIDDEN_MAX
from tracer.rules.model import FIELDS_ON, NUMBERS, Alternative, Group, Remark, Rule, nearest
from tracer.rules.numbers import ranges_of
from tracer.rules.parse import parse
from tracer.rules.thresholds import Thresholds
from tracer.toml_reader import as_text, read_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

PACKS = Path(__file__).resolve().parent / "packs"

#: The other words of the signals belong to the facts.
#: One group is our own.
GROUPS_MAX = (WORDS - FACT_WORDS) * WORD_BITS - HIDDEN_MAX
#: What a probe's map and our memory bear; 10,000 indicators need about 150,000.
STATES_MAX = 1 << 18
#: More indicators than this that end at the same byte would make that byte too dear in the kernel, which
#: takes 32 (LIST_MAX); of our own group four end alike.
OUTPUTS_MAX = 32 - 4
#: An indicator shorter than this is found in any text, where anything may stand beside it.
SHORT = 3

_FACTS = {fact.name: fact for fact in FACTS}


def read_packs() -> list[Draft]:
    """The packs that come with the program."""
    return [parse(path.read_text("utf-8"), f"packs/{path.name}") for path in sorted(PACKS.glob("*.toml"))]


def read_file(path: Path) -> Draft:
    """One rule file of the user's; that it can't be read is among the draft's errors."""
    source = str(path)
    try:
        text = as_text(read_bytes(path, RuleError), source, RuleError)
    except RuleError as error:
        return Draft(source, errors=[error])
    return parse(text, source)


class Joined(NamedTuple):
    """All files together. With ``errors`` the rest is incomplete."""

    groups: tuple[Group, ...]
    rules: tuple[Rule, ...]
    remarks: tuple[Remark, ...]
    errors: tuple[RuleError, ...]
    thresholds: Thresholds


def join(drafts: Sequence[Draft]) -> Joined:
    """Put the drafts together; later ones replace or extend earlier ones."""
    errors = [error for draft in drafts for error in draft.errors]
    if errors:  # what they leave out would be missed below
        return Joined((), (), (), tuple(errors), {})
    groups: dict[str, Group] = {}
    merged: dict[str, RuleDraft] = {}
    rules: list[Rule] = []
    for draft in drafts:
        for group in draft.groups:
            with _collect(errors):
                groups[group.id] = _group(group, groups)
        for rule in draft.rules:
            with _collect(errors):
                merged[rule.id] = _merged(rule, merged)
    for rule in merged.values():
        with _collect(errors):
            rules.append(_rule(rule, groups))
    with _collect(errors):
        check_size(groups.values())
    remarks = [remark for draft in drafts for remark in draft.remarks]
    remarks += _short(groups.values())
    remarks += _unused(groups.values(), rules)
    thresholds: dict[str, dict[str, int]] = {}
    for draft in drafts:
        for (detector, key), value in draft.thresholds.items():
            thresholds.setdefault(detector, {})[key] = value
    return Joined(tuple(groups.values()), tuple(rules), tuple(remarks), tuple(errors), thresholds)


@contextmanager
def _collect(errors: list[RuleError]) -> Iterator[None]:
    try:
        yield
    except RuleError as error:
        errors.append(error)


def _group(draft: GroupDraft, known: dict[str, Group]) -> Group:
    base = known.get(draft.id) if draft.extend else None
    if draft.extend and base is None:
        message = f"there is no group '{draft.id}' to extend"
        raise RuleError(message, path=draft.source, line=draft.line, hint=nearest(draft.id, known))
    if base is None:
        # that where and match are there, parse has seen to
        return Group(
            id=draft.id,
            where=draft.where or (),
            match=draft.match or "",
            case=bool(draft.case),
            values=draft.values,
            source=draft.source,
            line=draft.line,
        )
    for key, said, was in (
        ("where", draft.where, base.where),
        ("match", draft.match, base.match),
        ("case", draft.case, base.case),
    ):
        if said is not None and said != was:
            message = f"'{key}' of group '{draft.id}' can't be changed while extending it"
            hint = f"leave '{key}' out, or leave 'extend' out to replace the group"
            raise RuleError(message, path=draft.source, line=draft.line, hint=hint)
    if base.match == "range":  # only now it is known what the values are
        _check_numbers(draft, base.where[0])
    values = tuple(dict.fromkeys((*base.values, *draft.values)))
    return Group(base.id, base.where, base.match, base.case, values, draft.source, draft.line)


def _check_numbers(draft: GroupDraft, where: str) -> None:
    for value in draft.values:
        try:
            ranges_of(where, value)
        except ValueError:
            message = f"'{value}' is no {where}"
            raise RuleError(message, path=draft.source, line=draft.line, hint=NUMBERS[where]) from None


def _merged(draft: RuleDraft, known: dict[str, RuleDraft]) -> RuleDraft:
    base = known.get(draft.id)
    bare = draft.title is None and draft.on is None and not draft.alternatives
    if not draft.extend and not (bare and draft.enabled is not None):
        return draft
    if base is None:
        message = f"there is no rule '{draft.id}' to {'extend' if draft.extend else 'switch'}"
        raise RuleError(message, path=draft.source, line=draft.line, hint=nearest(draft.id, known))
    return RuleDraft(
        id=base.id,
        source=draft.source,
        line=draft.line,
        extend=False,
        enabled=base.enabled if draft.enabled is None else draft.enabled,
        title=draft.title or base.title,
        on=draft.on or base.on,
        severity=draft.severity or base.severity,
        attack=base.attack if draft.attack is None else draft.attack,
        remedy=draft.remedy or base.remedy,
        action=draft.action or base.action,
        none=(*base.none, *draft.none),
        alternatives=draft.alternatives or base.alternatives,
    )


def _rule(draft: RuleDraft, groups: dict[str, Group]) -> Rule:
    missing = [key for key in ("title", "on", "severity") if getattr(draft, key) is None]
    if not draft.alternatives:
        missing.append("any")
    if missing:
        message = f"rule '{draft.id}' lacks '{missing[0]}'"
        hint = f"add {missing[0]} = …, or extend = true to change only a part of a rule"
        raise RuleError(message, path=draft.source, line=draft.line, hint=hint)
    severity = draft.severity or ""
    alternatives = []
    for conditions in draft.alternatives:
        for reference in (*conditions.all, *conditions.any, *conditions.none, *draft.none):
            _check_reference(reference, draft, groups)
        alternatives.append(_alternative(conditions, draft.none, severity))
    return Rule(
        id=draft.id,
        title=draft.title or "",
        on=draft.on or "",
        severity=severity,
        attack=draft.attack or (),
        remedy=draft.remedy or "",
        action=draft.action or "alert",
        enabled=draft.enabled is not False,
        alternatives=tuple(alternatives),
        source=draft.source,
        line=draft.line,
    )


def _alternative(conditions: Conditions, never: tuple[Reference, ...], severity: str) -> Alternative:
    none = dict.fromkeys(reference.name for reference in (*never, *conditions.none))
    return Alternative(
        all=tuple(reference.name for reference in conditions.all),
        any=tuple(reference.name for reference in conditions.any),
        at_least=conditions.at_least,
        none=tuple(none),
        severity=conditions.severity or severity,
    )


def _check_reference(reference: Reference, rule: RuleDraft, groups: dict[str, Group]) -> None:
    name = reference.name
    if name.startswith("@"):
        fact = _FACTS.get(name[1:])
        if fact is None:
            fits = [f"@{fact.name}" for fact in FACTS if rule.on in fact.on]
            _wrong(reference, f"there is no fact '{name}'", nearest(name, fits))
        elif rule.on not in fact.on:
            fits = [f"@{fact.name}" for fact in FACTS if rule.on in fact.on]
            _wrong(
                reference,
                f"'{name}' is a fact of {' and '.join(fact.on)} events, the rule is on {rule.on}",
                nearest("", fits),
            )
    elif name not in groups:
        facts = [f"@{fact.name}" for fact in FACTS if rule.on in fact.on]
        _wrong(reference, f"there is no group '{name}'", nearest(name, [*groups, *facts]))
    elif not set(groups[name].where) & set(FIELDS_ON[rule.on or ""]):
        place = " and ".join(groups[name].where)
        fields = ", ".join(FIELDS_ON[rule.on or ""])
        hint = f"events of this kind have: {fields}" if fields else "use a @fact"
        _wrong(reference, f"group '{name}' is looked for in {place}, the rule is on {rule.on}", hint)


def _wrong(reference: Reference, message: str, hint: str) -> None:
    raise RuleError(message, path=reference.source, line=reference.line, hint=hint)


def check_size(groups: Collection[Group]) -> None:
    """See that the automaton will fit, before anything is allocated."""
    if len(groups) > GROUPS_MAX:
        last = tuple(groups)[GROUPS_MAX]
        message = f"{len(groups)} indicator groups, but there is room for {GROUPS_MAX}"
        hint = "put those together that are used alike"
        raise RuleError(message, path=last.source, line=last.line, hint=hint)
    beginnings: set[bytes] = set()  # each is a state
    ends: Counter[bytes] = Counter()
    for group in groups:
        for value in group.texts:
            data = value.encode().lower()
            ends[data] += 1
            beginnings.update(data[:end] for end in range(1, len(data) + 1))
            if len(beginnings) >= STATES_MAX:
                message = f"too many indicators: with this group there are more than {STATES_MAX} states"
                hint = "use fewer or shorter indicators"
                raise RuleError(message, path=group.source, line=group.line, hint=hint)
    for group in groups:
        for value in group.texts:
            data = value.encode().lower()
            alike = sum(ends[data[start:]] for start in range(len(data)))
            if alike > OUTPUTS_MAX:
                message = f"{alike} indicators end where '{value}' does, {OUTPUTS_MAX} may"
                hint = "remove those that end like another one of the same group"
                raise RuleError(message, path=group.source, line=group.line, hint=hint)


def _short(groups: Iterable[Group]) -> list[Remark]:
    found = []
    for group in groups:
        if group.match not in ("substring", "word", "domain"):
            continue
        for value in group.values:
            if len(value) < SHORT:
                message = f"'{value}' in group '{group.id}' is so short that it will match by chance"
                hint = f'use {SHORT} characters or more, or match = "whole"'
                found.append(Remark(group.source, group.line, message, hint))
    return found


def _unused(groups: Iterable[Group], rules: Iterable[Rule]) -> list[Remark]:
    used = {
        name
        for rule in rules
        for alternative in rule.alternatives
        for name in (*alternative.all, *alternative.any, *alternative.none)
    }
    return [
        Remark(group.source, group.line, f"no rule uses group '{group.id}'")
        for group in groups
        if group.id not in used
    ]
