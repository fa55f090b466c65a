# SPDX-License-Identifier: Apache-2.0
"""A policy in plain sentences, and as JSON: what will be allowed, and what happens otherwise."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from tracer.policy.compile import ALLOW_RULE, CONNECT_RULE, DENY_RULE, GPU_RULE, LISTEN_RULE
from tracer.policy.places import EVERYWHERE
from tracer.policy.undecided import undecided
from tracer.rules.model import FAMILIES, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from tracer.policy.model import Exemption, Policy
    from tracer.policy.places import Place
    from tracer.rules.model import Rule

_DEEDS = {
    "alert": "is told, no more",
    "block": "is blocked",
    "kill": "is killed",
    "kill-tree": "is killed with its whole tree",
    "freeze": "is frozen",
    "quarantine": "puts the tree in quarantine",
}
_WIDTH = 110


def lines(policy: Policy, rules: Sequence[Rule], today: date) -> Iterator[str]:
    """What people are told; ``rules`` stand under ``policy`` already."""
    by_id = {rule.id: rule for rule in rules}
    enforced = (
        "what it says is done" if policy.mode == "enforce" else "nothing is done, alerts say what would be"
    )
    yield f"{policy.name} ({policy.source}), mode {policy.mode}: {enforced}."
    yield f"What is less than {policy.act_from} is told, no more, whatever its action."
    yield ""
    yield "GPU"
    yield (
        f"  {_gpu(policy)} Any other client {_otherwise(policy, by_id[GPU_RULE])}."
        if GPU_RULE in by_id
        else "  No rule."
    )
    yield ""
    yield "Network"
    yield from _network(policy, by_id)
    yield ""
    yield "Programs"
    yield from _programs(policy, by_id)
    yield ""
    yield "Actions"
    yield from _actions(policy, rules)
    if general := list(_generalised(policy)):
        yield ""
        yield "Generalised"
        yield from (line for text in general for line in _wrapped("  ", text))
    if policy.exceptions:
        yield ""
        yield "Exceptions (looked at when an alert is finished: the kernel does not decide these rules)"
        for item in policy.exceptions:
            yield from _wrapped("  ", _exception(item, today))


def _gpu(policy: Policy) -> str:
    if policy.gpu_users is None:
        return "Whoever uses it first is presumed to be the trainer; it and what is its own may."
    return f"May use it: {', '.join(policy.gpu_users)}." if policy.gpu_users else "Nobody may use it."


def _network(policy: Policy, rules: dict[str, Rule]) -> Iterator[str]:
    if policy.own_networks:
        yield f"  Inside, besides private networks: {', '.join(policy.own_networks)}."
    if policy.connect is None:
        yield "  May connect to any place that no other rule tells."
    else:
        yield from _bullets("May connect to", ["this host", *map(_place, policy.connect.entries)])
        yield f"  Whoever connects to any other place {_otherwise(policy, rules[CONNECT_RULE])}."
        if rules[CONNECT_RULE].action != "alert" and any(place.host for place in policy.connect.entries):
            yield from _wrapped(
                "  ",
                "Where hosts are allowed by name that is found out a millisecond after the connect: what has no "
                "such name is cut, not refused.",
            )
    if policy.listen is None:
        yield "  May listen on any port."
    else:
        entries = [_listener(place) for place in policy.listen.entries]
        yield from _bullets("May listen on", ["any port that only this host can reach", *entries])
        yield f"  Whoever listens on any other {_otherwise(policy, rules[LISTEN_RULE])}."
    kept = [
        f"{', '.join(map(_network_text, reach.networks))}{_on(' or '.join(reach.ports)) if reach.ports else ''}"
        for reach in policy.quarantine
    ]
    yield f"  In quarantine it reaches only: {'; '.join(['this host', *kept])}."


def _programs(policy: Policy, rules: dict[str, Rule]) -> Iterator[str]:
    if policy.allow is None:
        yield "  May run any program that no other rule tells."
    else:
        yield from _bullets("May run", [item.text for item in policy.allow.entries])
        yield f"  Any other {_otherwise(policy, rules[ALLOW_RULE])}."
    if policy.deny is not None:
        yield from _bullets("Must not run", [item.text for item in policy.deny.entries])
        yield f"  Each of them {_otherwise(policy, rules[DENY_RULE])}."


def _actions(policy: Policy, rules: Sequence[Rule]) -> Iterator[str]:
    """By family and action, the rules and the severity from which they act."""
    for family in FAMILIES:
        own = [rule for rule in rules if rule.family == family]
        for action in dict.fromkeys(rule.action for rule in own):
            there = [rule for rule in own if rule.action == action and rule.enabled]
            texts = []
            for rule in there:
                acts = action == "alert" or acts_from(policy, rule) is not None
                texts.append(rule.id if acts else f"{rule.id} (never: {_most(rule)} at most)")
            since = "" if action == "alert" else f" from {policy.act_from}"
            if texts:
                yield from _wrapped(f"  {family:7} {action + since:24} ", ", ".join(texts))
        if off := [rule.id for rule in own if not rule.enabled]:
            yield f"  {family:7} {'off':24} {', '.join(off)}"


def _generalised(policy: Policy) -> Iterator[str]:
    """What stands for more than it says."""
    hosts = [place.host for place in (policy.connect.entries if policy.connect else ()) if place.host]
    if hosts:
        yield (
            f"{_some(hosts)}: every host below, too. Names are taken from the DNS answers that the tree gets: "
            "whoever answers it can make an address pass for one of these. Networks are safer."
        )
    allowed = policy.allow.entries if policy.allow else ()
    if prefixes := [item.text for item in allowed if item.match == "prefix"]:
        yield f"{_some(prefixes)}: every program whose path begins so, also one that the job puts there."
    if files := [item.literal for item in allowed if item.match == "range"]:
        yield (
            f"{_some(files)}: that very file, whatever it is called, as it was when this policy was read; another one "
            "under its name is not. Who can write to it can also set back the time of its change: see that nobody can."
        )
    if names := [item.text for item in allowed if item.match == "file"]:
        yield f"{_some(names)}: a program of this name in any folder, also one that the job puts there."


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more


def _wrapped(head: str, text: str) -> list[str]:
    """Lines of which the first begins with ``head``."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * (len(head) if len(head) > 2 else 4),
        break_long_words=False,
        break_on_hyphens=False,
    )


def acts_from(policy: Policy, rule: Rule) -> str | None:
    """The least severity of ``rule`` at which more is done than alerting, None if that never is."""
    if rule.action == "alert" or not rule.enabled:
        return None
    ranks = [SEVERITIES.index(item.severity) for item in rule.alternatives if policy.acts_at(item.severity)]
    return SEVERITIES[min(ranks)] if ranks else None


def _most(rule: Rule) -> str:
    return SEVERITIES[max(SEVERITIES.index(item.severity) for item in rule.alternatives)]


def _exception(item: Exemption, today: date) -> str:
    conditions = []
    if item.exe is not None:
        conditions.append(f"by {item.exe.text}")
    if item.args is not None:
        conditions.append(f"with '{item.args}' in the command line")
    if item.remote is not None:
        conditions.append(f"to {_place(item.remote)}")
    days = (item.until - today).days
    left = f"{days} day{'' if days == 1 else 's'} left" if days else "its last day"
    if not item.holds_on(today):
        left = "ended, without effect"
    return f"{item.rule.pattern} {', '.join(conditions)}: {item.reason} (until {item.until}: {left})"


def _otherwise(policy: Policy, rule: Rule) -> str:
    """What becomes of what a rule is about."""
    if not rule.enabled:
        return f"is not even told: {rule.id} is off"
    if rule.action != "alert" and acts_from(policy, rule) is None:
        return f"{_DEEDS['alert']} ({rule.id}, {_most(rule)} at most)"
    return f"{_DEEDS[rule.action]} ({rule.id})"


def _bullets(head: str, texts: Sequence[str]) -> Iterator[str]:
    """One line if they are few, else one each."""
    joined = "; ".join(texts)
    if len(joined) <= 80:
        yield f"  {head}: {joined}."
    else:
        yield f"  {head}:"
        yield from (f"    {text}" for text in texts)


def _on(ports: str) -> str:
    return f" on {ports}"


def _place(place: Place) -> str:
    ports = "" if place.ports is None else _on(place.ports)
    if place.networks == EVERYWHERE:
        return f"anywhere{ports}"
    if place.host is not None:
        return f"{place.host} and hosts below it{ports}"
    return f"{_network_text(place.networks[0])}{ports}"


def _network_text(network: str) -> str:
    """A network of one address is that address."""
    return network.removesuffix("/128" if ":" in network else "/32")


def _listener(place: Place) -> str:
    if place.networks == EVERYWHERE:
        return f"port {place.ports}"
    return (
        f"{_network_text(place.networks[0])}, {'any port' if place.ports is None else f'port {place.ports}'}"
    )


def as_json(policy: Policy, rules: Sequence[Rule], today: date) -> dict[str, Any]:
    """The same for machines."""
    lists = {
        "connect": policy.connect and [place.text for place in policy.connect.entries],
        "listen": policy.listen and [place.text for place in policy.listen.entries],
        "allow": policy.allow and [item.text for item in policy.allow.entries],
        "deny": policy.deny and [item.text for item in policy.deny.entries],
    }
    return {
        "name": policy.name,
        "source": policy.source,
        "digest": policy.digest,
        "mode": policy.mode,
        "act_from": policy.act_from,
        "gpu_users": None if policy.gpu_users is None else list(policy.gpu_users),
        "own_networks": list(policy.own_networks),
        **lists,
        "quarantine": [
            {"networks": list(n), "ports": ports and list(ports)} for n, ports in policy.quarantine
        ],
        "rules": [
            {
                "id": rule.id,
                "family": rule.family,
                "action": rule.action,
                "acts_from": acts_from(policy, rule),
                "enabled": rule.enabled,
            }
            for rule in rules
        ],
        "exceptions": [
            {
                "rule": item.rule.pattern,
                "exe": item.exe and item.exe.text,
                "args": item.args,
                "remote": item.remote and item.remote.text,
                "reason": item.reason,
                "until": item.until.isoformat(),
                "days_left": max((item.until - today).days, 0) if item.holds_on(today) else None,
            }
            for item in policy.exceptions
        ],
        "undecided_rules": {
            rule: unless and list(unless)
            for rule, unless in sorted(undecided(policy.exceptions_on(today), rules, "").unless.items())
        },
    }
