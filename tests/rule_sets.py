# SPDX-License-Identifier: Apache-2.0
"""Made-up rules, and which of their rows hold: by the meaning of the words, and by the masks that probes are given."""

from __future__ import annotations

import naive_rules
import numpy as np
from hypothesis import strategies as st

from tracer.detect.facts import FACTS, FIRST_GROUP, PROBE_FACTS, WORD_BITS
from tracer.rules import RuleSet
from tracer.rules.model import FIELDS, FIELDS_ON, MATCHES, ON, SEVERITIES, Alternative, Group, Rule
from tracer.rules.numbers import inode_range
from tracer.rules.scan import scan

ON_WHICH = ["exec", "flow"]
THAT_FILE = "8:1:131234:1000:1700000000000000000"
WIRE = {"sent": False, "received": True}
LETTERS = "aAbB1.=-_/é"
#: The same file, written to since, and others.
OTHER_FILES = [
    inode_range(text)[0]
    for text in (
        "8:1:131234:1000:1700000000000000001",
        "8:1:131234:1001:1700000000000000000",
        "8:2:131234",
        "0:0:0",
    )
]
FLAGS = {
    "memfd": "EXEC_MEMFD",
    "deleted": "EXEC_DELETED",
    "script": "EXEC_SCRIPT",
    "setid": "EXEC_SETID",
    "args-cut": "EXEC_ARGS_CUT",
}


@st.composite
def rule_sets(draw: st.DrawFn, letters: str = LETTERS) -> RuleSet:
    groups = []
    for number in range(draw(st.integers(1, 6))):
        match = draw(st.sampled_from(sorted(set(MATCHES) - {"range"})))
        fields = [field for field in MATCHES[match].fields if field != "file"]
        where = draw(st.sets(st.sampled_from(fields), min_size=1))
        values = draw(st.lists(st.text(letters, min_size=1, max_size=5), min_size=1, max_size=5, unique=True))
        groups.append(
            Group(f"g{number}", tuple(sorted(where)), match, draw(st.booleans()), tuple(values), "test", 1)
        )
    groups.append(Group("near", ("port",), "range", False, ("22",), "test", 1))
    groups.append(Group("that", ("inode",), "range", False, (THAT_FILE,), "test", 1))
    rules = []
    for number in range(draw(st.integers(1, 5))):
        on = draw(st.sampled_from(ON_WHICH))
        names = [f"@{fact.name}" for fact in FACTS if on in fact.on]
        if on == "exec":
            names = [f"@{name}" for name in PROBE_FACTS] + ["@shell-command", "@inline-code", "@wallet"]
        names = names[:9] + [g.id for g in groups if set(g.where) & set(FIELDS_ON[on])] * 2
        some = st.lists(st.sampled_from(names), max_size=3, unique=True).map(tuple)
        alternatives = []
        for _ in range(draw(st.integers(1, 3))):
            every, wanted = draw(some), draw(some)
            if not every and not wanted:
                every = (draw(st.sampled_from(names)),)
            at_least = draw(st.integers(1, len(wanted))) if wanted else 0
            alternatives.append(
                Alternative(every, wanted, at_least, draw(some), draw(st.sampled_from(SEVERITIES)))
            )
        rules.append(
            Rule(f"net.r{number}", "t", on, "low", (), "", "alert", True, tuple(alternatives), "test", 1)
        )
    return RuleSet(tuple(groups), tuple(rules))


def pieces(rules: RuleSet) -> st.SearchStrategy[bytes]:
    literals = [value.encode() for group in rules.groups for value in group.texts]
    return st.one_of(
        st.sampled_from(literals),
        st.sampled_from(literals).map(bytes.swapcase),
        st.sampled_from([b"\0", b".", b"\x03", b"\n", b"=", b"/", b"sh", b"-", b"a", b"\xff", b"python3.12"]),
    )


def words_of(rules: RuleSet, field: str, text: bytes, signals: np.ndarray) -> None:
    data = np.frombuffer(bytearray(text), np.uint8)
    scan(data, 0, len(text), FIELDS[field], rules.automaton, signals)


def visible(rules: RuleSet, signals: list[int]) -> list[int]:
    """Without the hidden group."""
    word, bit = divmod(FIRST_GROUP + len(rules.groups), WORD_BITS)
    return [value & ~(1 << bit) if at == word else value for at, value in enumerate(signals)]


def holding(rules: RuleSet, on: str, there: set[str]) -> set[int]:
    """The rows of the table that hold, by the meaning of the words."""
    found = set()
    rows = [(rule, a) for rule in rules.rules if rule.enabled for a in rule.alternatives]
    rows.sort(key=lambda row: (ON[row[0].on], -SEVERITIES.index(row[1].severity)))
    for number, (rule, alternative) in enumerate(rows):
        one = [Rule(rule.id, "t", rule.on, "low", (), "", "", True, (alternative,), "", 0)]
        if naive_rules.evaluate(on, there, one):
            found.add(number)
    return found


def names_there(rules: RuleSet, signals: list[int], on: str) -> set[str]:
    facts = {f"@{fact.name}" for fact in FACTS if on in fact.on}
    return {
        name
        for name, number in rules.numbers.items()
        if signals[number // WORD_BITS] >> number % WORD_BITS & 1 and (name[0] != "@" or name in facts)
    }


def rows_that_hold(rules: RuleSet, on: str, signals: list[int]) -> list[int]:
    """The rows that the probes' masks say hold."""
    p, found = rules.probe_rows, []
    for at in np.flatnonzero(p.on == ON[on]):
        masks = [[int(w) for w in table[at]] for table in (p.all_of, p.any_of, p.none_of)]
        some = sum((w & s).bit_count() for w, s in zip(masks[1], signals, strict=True))
        if (
            all(w & s == w for w, s in zip(masks[0], signals, strict=True))
            and not any(w & s for w, s in zip(masks[2], signals, strict=True))
            and some >= int(p.at_least[at])
        ):
            found.append(int(p.row[at]))
    return found
