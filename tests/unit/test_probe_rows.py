# SPDX-License-Identifier: Apache-2.0
"""Which rules a probe can decide by itself: never more than hold, and all that it can know of."""

from __future__ import annotations

import naive_rules
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_knowledge import Image
from rule_sets import ON_WHICH, holding, rows_that_hold, rule_sets

from tracer.detect.facts import FACTS, FIRST_GROUP, PROBE_FACTS, WORD_BITS, WORDS
from tracer.kernel import schema
from tracer.kernel.knowledge import build
from tracer.rules import RuleSet, load_rules
from tracer.rules.model import ACTIONS, FIELDS_ON, ON, SEVERITIES, Alternative, Group, Rule, Terms


@settings(max_examples=400)
@given(rule_sets(), st.data())
def test_a_probe_never_says_too_much(rules: RuleSet, data: st.DataObject):
    on = data.draw(st.sampled_from(ON_WHICH))
    fitting = [g for g in rules.groups if set(g.where) & set(FIELDS_ON[on])]
    names = [f"@{fact.name}" for fact in FACTS if on in fact.on] + 3 * [group.id for group in fitting]
    there = data.draw(st.sets(st.sampled_from(names)))
    interpreter = bool(there & {"@shell-command", "@inline-code"}) or data.draw(st.booleans())
    # what the probe sees: the groups in its own fields, its own facts, and whether it is an interpreter
    probe_fields = {"exec": {"name", "path", "args", "inode"}, "flow": {"sent", "received"}}[on]
    seen = {name for name in there if name[1:] in PROBE_FACTS and on == "exec"}
    for group in fitting:
        inside, outside = (
            set(group.where) & probe_fields,
            set(group.where) & set(FIELDS_ON[on]) - probe_fields,
        )
        found_here = bool(inside) and (not outside or data.draw(st.booleans()))
        if group.id in there and found_here:
            seen.add(group.id)
    signals = [0] * WORDS
    for name in seen:
        signals[rules.numbers[name] // WORD_BITS] |= 1 << rules.numbers[name] % WORD_BITS
    if on == "exec" and interpreter:
        word, bit = divmod(FIRST_GROUP + len(rules.groups), WORD_BITS)
        signals[word] |= 1 << bit
    said = rows_that_hold(rules, on, signals)
    assert set(said) <= holding(rules, on, there)
    # and nothing less, where the probe can know all that is asked for
    for row in holding(rules, on, there):
        rule, severity = rules.alternative_rule[row]
        alternative = next(
            a
            for a in rule.alternatives
            if a.severity == severity and naive_rules.evaluate(on, there, [_only(rule, a)])
        )
        known = {f"@{name}" for name in PROBE_FACTS} if on == "exec" else set()
        known |= {g.id for g in fitting if set(g.where) & set(FIELDS_ON[on]) <= probe_fields}
        if {*alternative.all, *alternative.any, *alternative.none} <= known:
            same = {r for r in said if rules.alternative_rule[r] == (rule, severity)}
            assert same


def _only(rule: Rule, alternative: Alternative) -> Rule:
    return Rule(rule.id, "t", rule.on, "low", (), "", "", True, (alternative,), "", 0)


def alternative_rows(on: str, groups: list[Group], **conditions: tuple[str, ...]) -> int:
    some = conditions.get("any", ())
    alternative = Alternative(
        conditions.get("all", ()), some, min(1, len(some)), conditions.get("none", ()), "low"
    )
    rule = Rule("net.r", "t", on, "low", (), "", "alert", True, (alternative,), "test", 1)
    return int(np.count_nonzero(RuleSet(tuple(groups), (rule,)).probe_rows.on == ON[on]))


def test_what_a_probe_can_decide():
    def text(name: str, *where: str) -> Group:
        return Group(name, where, "substring", False, ("x",), "test", 1)

    sent, host, both = text("sent", "sent"), text("host", "host"), text("both", "sent", "host")
    groups = [sent, host, both, text("xshell-command", "host")]
    assert alternative_rows("flow", groups, all=("sent",)) == 1
    assert alternative_rows("flow", groups, all=("host",)) == 0
    assert alternative_rows("flow", groups, all=("both",)) == 1
    assert alternative_rows("flow", groups, any=("sent", "@tls")) == 1
    assert alternative_rows("flow", groups, all=("sent", "@tls")) == 0
    assert alternative_rows("flow", groups, all=("sent",), none=("both",)) == 0
    assert alternative_rows("flow", groups, all=("sent",), none=("@loopback",)) == 0
    assert alternative_rows("flow", groups, all=("sent",), none=("xshell-command",)) == 0
    # a name that has been seen accuses; that there is none can't be known
    assert alternative_rows("connect", groups, any=("host",)) == 1
    assert alternative_rows("connect", groups, any=("host",), none=("both",)) == 0
    network, port = (Group(name, (name,), "range", False, (), "test", 1) for name in ("network", "port"))
    assert alternative_rows("connect", [network, port], all=("network",), none=("port", "@loopback")) == 1
    assert alternative_rows("connect", [network, host], all=("network",), none=("host",)) == 0
    assert alternative_rows("connect", [network], all=("network", "@unresolved")) == 0
    assert alternative_rows("flow", [network, port], all=("network",), none=("port",)) == 1
    assert alternative_rows("flow", [network], all=("network",), none=("@loopback",)) == 0
    assert alternative_rows("listen", [port], none=("port",)) == 1
    args = text("args", "args")
    assert alternative_rows("exec", [args], all=("args", "@memfd"), none=("@shell-command",)) == 1
    assert alternative_rows("exec", [args], all=("args",), none=("@wallet",)) == 0


def test_answers_are_read_only_if_a_rule_asks_for_names():
    host = Group("host", ("host",), "domain", False, ("a.test",), "test", 1)
    port = Group("port", ("port",), "range", False, ("22",), "test", 1)

    def asked(on: str, **names: tuple[str, ...]) -> bool:
        terms = {"all": (), "any": (), "none": (), **names}
        alternative = Alternative(terms["all"], terms["any"], len(terms["any"]), terms["none"], "high")
        rule = Rule("net.r", "t", on, "high", (), "", "block", True, (alternative,), "test", 1)
        rules = RuleSet((host, port), (rule,))
        header = Image(build(rules, 1)).header
        assert bool(header["names_asked"]) == rules.probe_rows.names_asked
        return rules.probe_rows.names_asked

    assert asked("connect", any=("host",))
    assert asked("connect", all=("port", "host"))
    assert not asked("connect", all=("port",))
    assert not asked("connect", all=("port",), none=("host",))
    assert not asked("flow", all=("host",))
    assert RuleSet((), ()).probe_rows.names_asked is False
    assert load_rules().probe_rows.names_asked, "the cluster's API has a name"
    assert load_rules().probe_rows.places_asked, "the cloud's metadata service has an address"


def test_what_acts_and_who_decides():
    groups = (Group("word", ("args",), "substring", False, ("x",), "test", 1),)
    alternatives = tuple(Alternative(("word",), (), 0, (), severity) for severity in SEVERITIES)
    rule = Rule("exec.r", "t", "exec", "low", (), "", "kill", True, alternatives, "test", 1)
    for act_from, wanted in (("low", 4), ("high", 2), ("critical", 1)):
        rows = RuleSet(groups, (rule,), terms=Terms(act_from=act_from)).probe_rows
        acting = [ACTIONS[n] for n in rows.action[rows.on == ON["exec"]]]
        assert acting == ["kill"] * wanted + ["alert"] * (4 - wanted)
    undecided = RuleSet(groups, (rule,), terms=Terms(undecided={"exec.r": None})).probe_rows
    assert not (undecided.on == ON["exec"]).any()


@given(st.sampled_from(["exec", "connect", "flow"]), st.booleans(), st.booleans())
def test_what_an_exception_names_is_left_to_user_space(on: str, known: bool, other_rule: bool):
    """Such rows hold of whatever has none of the groups; where one of them can't be known, there is no row."""
    known = known or on == "exec"  # which has nothing that only user space finds
    where = {"exec": "path", "connect": "network", "flow": "port"}[on] if known else "host"
    unless = Group(
        "unless", (where,), "range" if where in ("network", "port") else "whole", True, (), "test", 1
    )
    word = Group(
        "word", ({"exec": "args", "connect": "port", "flow": "sent"}[on],), "substring", True, (), "test", 1
    )
    rule = Rule(
        "net.r", "t", on, "low", (), "", "kill", True, (Alternative(("word",), (), 0, (), "low"),), "test", 1
    )
    name = "net.another" if other_rule else "net.r"
    rows = RuleSet((word, unless), (rule,), terms=Terms(undecided={name: ("unless",)})).probe_rows
    (places,) = np.nonzero(rows.on == ON[on])
    assert len(places) == (known or other_rule)
    for place in places:
        assert rows.none_of[place].any() == (not other_rule)
    assert rows.places_asked == (on == "flow" and known and not other_rule)


def test_actions_have_the_numbers_that_probes_know():
    assert [schema.ACTION[f"ACTION_{name.upper().replace('-', '_')}"] for name in ACTIONS] == list(range(6))
    assert schema.ACTION["ACTIONS"] == len(ACTIONS)
