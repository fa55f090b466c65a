# SPDX-License-Identifier: Apache-2.0
"""A policy as ordinary groups and rules: probes and engine need to know nothing of policies.

"Nothing but this is allowed" is a rule with ``none``. Ports are cut into sets of which no two share one
(:mod:`.ports`), so a connection is to be told if

- it goes to none of the listed ports, and to none of the places that are allowed on any port; or
- it goes to a port of set k, and to none of the places of set k, nor of those that are allowed on any port.

That is one alternative a set, and one for all other ports.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tracer.errors import FileError, PolicyError, RuleError
from tracer.policy.files import identify, known_user
from tracer.policy.places import EVERYWHERE
from tracer.policy.ports import port_sets
from tracer.policy.undecided import undecided
from tracer.policy.unfit import Unfit
from tracer.rules.load import check_size
from tracer.rules.model import POLICY_PREFIX, SEVERITIES, Alternative, Group, Rule, Terms, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracer.policy.model import Choice, Listed, Policy
    from tracer.policy.places import Place
    from tracer.policy.programs import Program

GPU_RULE = "gpu.unexpected-client"
CONNECT_RULE = "net.not-allowed"
LISTEN_RULE = "net.listener"
ALLOW_RULE = "exec.not-allowed"
DENY_RULE = "exec.denied"

#: Only this host can come to a socket that listens here. 0.0.0.0 and ::, where everybody can, are not among
#: them, so this is not the fact @loopback: for whoever connects they are this host.
_LOOPBACK = ("127.0.0.0/8", "::1/128")


#: Stands for a file that could not be found out: that is an error, and nobody will ask.
_NO_FILE = "0:0:0"


class Applied(NamedTuple):
    """Groups and rules under a policy, and its terms. With ``errors`` the rest is incomplete."""

    groups: tuple[Group, ...]
    rules: tuple[Rule, ...]
    terms: Terms
    errors: tuple[FileError, ...]


def apply(policy: Policy, groups: Sequence[Group], rules: Sequence[Rule]) -> Applied:
    """``groups`` and ``rules`` as ``policy`` changes and adds to them; every mistake is in ``errors``."""
    maker = _Maker(policy)
    users = maker.gpu_users()
    errors: list[FileError] = list(maker.errors)
    known = {rule.id for rule in rules}
    for rule in maker.rules:
        if rule.id in known:
            message = f"'{rule.id}' is made of this, and {_at(rules, rule.id)} has a rule of that name"
            errors.append(PolicyError(message, path=policy.source, line=rule.line, hint="rename that one"))
    joined = (*rules, *maker.rules)
    errors += _lost(policy, [rule.id for rule in joined])
    applied = tuple(_under(policy, rule) for rule in joined)
    left = undecided(policy.exceptions_on(), applied, policy.source)
    together = (*groups, *maker.groups, *left.groups)
    try:
        check_size(together)
    except RuleError as error:
        errors.append(error)
    terms = Terms(
        own_networks=policy.own_networks,
        act_from=policy.act_from,
        undecided=left.unless,
        stay=tuple(maker.stay),
        gpu_users=users,
    )
    return Applied(together, applied, terms, tuple(errors))


def action_under(policy: Policy, rule: str, section: Choice | None, otherwise: str) -> str:
    """The action of a rule: by the most specific of [actions], of which the last wins; what a section says
    of its own rule is as specific as can be, but for the rule's very id.
    """
    fitting = [(selector, action) for selector, action in policy.actions if selector.takes(rule)]
    if fitting:
        selector, action = max(reversed(fitting), key=lambda item: item[0].weight)
        if selector.exact or section is None:
            return action
    return section.action if section else otherwise


def _under(policy: Policy, rule: Rule) -> Rule:
    """``rule`` with the action and the switch that the policy gives it."""
    section = policy.gpu_choice if rule.id == GPU_RULE else None
    made = rule.source == policy.source and rule.id in (CONNECT_RULE, LISTEN_RULE, ALLOW_RULE, DENY_RULE)
    action = rule.action if made else action_under(policy, rule.id, section, rule.action)
    off = any(selector.takes(rule.id) for selector in policy.off)
    return replace(rule, action=action, enabled=rule.enabled and not off)


def _lost(policy: Policy, ids: Sequence[str]) -> list[FileError]:
    """A mistake for each selector that no rule answers to."""
    selectors = [
        *(selector for selector, _ in policy.actions),
        *policy.off,
        *(exception.rule for exception in policy.exceptions),
    ]
    lost = [selector for selector in selectors if not any(selector.takes(name) for name in ids)]
    globs = {f"{name.partition('.')[0]}.*" for name in ids}
    found: list[FileError] = []
    for selector in sorted(lost, key=lambda item: item.line):
        what = "there is no rule" if selector.exact else "no rule is called like"
        hint = nearest(selector.pattern, ids if selector.exact else {*ids, *globs})
        message = f"{what} '{selector.pattern}'"
        found.append(PolicyError(message, path=policy.source, line=selector.line, hint=hint))
    return found


def _at(rules: Iterable[Rule], name: str) -> str:
    return next(f"{rule.source}:{rule.line}" for rule in rules if rule.id == name)


class _Maker:
    """The groups and rules that a policy's lists come to."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.groups: list[Group] = []
        self.rules: list[Rule] = []
        #: files that are not there
        self.errors: list[PolicyError] = []
        #: what Terms have: groups that all hold of what is reachable in quarantine
        self.stay: list[tuple[str, ...]] = []
        if policy.connect is not None:
            self.places("connect", policy.connect, "@loopback")
        if policy.listen is not None:
            line = policy.listen.line
            self.places("listen", policy.listen, self.group("loopback", "network", "range", _LOOPBACK, line))
        if policy.allow is not None:
            self.programs(ALLOW_RULE, policy.allow)
        if policy.deny is not None:
            self.programs(DENY_RULE, policy.deny)
        for number, reach in enumerate(policy.quarantine, 1):
            name, line = f"stay-{number}", policy.quarantine_line
            groups = [self.group(f"{name}-networks", "network", "range", reach.networks, line)]
            if reach.ports is not None:
                groups.append(self.group(f"{name}-ports", "port", "range", reach.ports, line))
            self.stay.append(tuple(groups))

    def places(self, kind: str, listed: Listed[Place], always: str) -> None:
        """The rule about connecting or listening. ``always``: the signal of what is always allowed."""
        anywhere: tuple[str, ...] = (always,)
        ports: list[str] = []
        found: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        number = 0
        for entry in port_sets(listed.entries):
            name = kind
            if entry.ports is not None:
                number += 1
                name = f"{kind}-{number}"
            if entry.ports is not None:
                ports.append(self.group(f"{name}-ports", "port", "range", entry.ports, listed.line))
                if set(EVERYWHERE) <= set(entry.networks):
                    continue  # nothing is wrong with these ports
            places = tuple(
                self.group(f"{name}-{what}", where, match, values, listed.line)
                for what, where, match, values in (
                    ("networks", "network", "range", entry.networks),
                    ("hosts", "host", "domain", entry.hosts),
                )
                if values
            )
            if entry.ports is None:  # comes first
                anywhere += places
            else:
                found.append(((ports[-1],), (*anywhere, *places)))
        found.insert(0, ((), (*anywhere, *ports)))
        rule = {"connect": CONNECT_RULE, "listen": LISTEN_RULE}[kind]
        self.rule(rule, kind, listed, [(every, (), none) for every, none in found])

    def programs(self, rule: str, listed: Listed[Program]) -> None:
        """The rule about what is not among these programs, or about what is."""
        name = "allow" if rule == ALLOW_RULE else "deny"
        values: dict[str, list[str]] = {}
        for program in listed.entries:
            literal = program.literal
            if program.match == "range":
                literal = self.inode(program, whatever_is_in_it=name == "deny")
            values.setdefault(program.match, []).append(literal)
        groups = tuple(
            self.group(
                f"exec-{name}-{match}",
                "inode" if match == "range" else "path",
                match,
                tuple(texts),
                listed.line,
            )
            for match, texts in values.items()
        )
        self.rule(rule, "exec", listed, [((), groups, ()) if name == "deny" else ((), (), groups)])

    def inode(self, program: Program, *, whatever_is_in_it: bool) -> str:
        """The number of the file that ``program`` names."""
        try:
            found = identify(program.literal)
        except Unfit as wrong:
            self.fail(wrong, program.line)
            return _NO_FILE
        return found.place if whatever_is_in_it else found.content

    def gpu_users(self) -> tuple[str, ...] | None:
        """Who may use the GPU, as the engine reads it."""
        users = []
        for text in self.policy.gpu_users or ():
            try:
                users.append(known_user(text))
            except Unfit as wrong:
                self.fail(wrong, self.policy.gpu_users_line)
        return None if self.policy.gpu_users is None else tuple(users)

    def fail(self, wrong: Unfit, line: int) -> None:
        """Keep a mistake."""
        self.errors.append(PolicyError(wrong.message, path=self.policy.source, line=line, hint=wrong.hint))

    def group(self, name: str, where: str, match: str, values: tuple[str, ...], line: int) -> str:
        """Make a group; its id."""
        made = Group(POLICY_PREFIX + name, (where,), match, where == "path", values, self.policy.source, line)
        self.groups.append(made)
        return made.id

    def rule(
        self,
        name: str,
        on: str,
        listed: Listed[Place] | Listed[Program],
        conditions: Iterable[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]],
    ) -> None:
        """Make a rule that holds if, of one of ``conditions``, all, any and none do."""
        title, severity, remedy = _WORDS[name]
        action = action_under(self.policy, name, listed.choice, "alert")
        if action != "alert":  # or it would not be done
            severity = max(severity, "high", self.policy.act_from, key=SEVERITIES.index)
        self.rules.append(
            Rule(
                id=name,
                title=title,
                on=on,
                severity=severity,
                attack=(),
                remedy=remedy,
                action=action,
                enabled=True,
                alternatives=tuple(
                    Alternative(every, some, min(len(some), 1), none, severity)
                    for every, some, none in conditions
                ),
                source=self.policy.source,
                line=listed.line,
            )
        )


#: Title, severity of what only alerts, and remedy of the rules that policies make.
_WORDS = {
    CONNECT_RULE: (
        "A connection to a place that the policy does not allow",
        "medium",
        "If the job needs it, add the place to [network] connect; else see what wanted to go there.",
    ),
    LISTEN_RULE: (
        "A port is opened that the policy does not allow",
        "medium",
        "If the job needs it, add the port to [network] listen; else see who is to come in.",
    ),
    ALLOW_RULE: (
        "A program is run that the policy does not allow",
        "medium",
        "If the job needs it, add the program to [exec] allow; else see what started it.",
    ),
    DENY_RULE: (
        "A program is run that the policy forbids",
        "high",
        "See what started it.",
    ),
}
