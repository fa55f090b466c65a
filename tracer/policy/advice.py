# SPDX-License-Identifier: Apache-2.0
"""What is allowed in a policy, but hardly meant: remarks of ``vigiles policy check``."""

from __future__ import annotations

import ipaddress
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from tracer.policy.compile import ALLOW_RULE, CONNECT_RULE, DENY_RULE, GPU_RULE, LISTEN_RULE
from tracer.policy.model import Selector
from tracer.rules.model import SEVERITIES, Remark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from tracer.policy.model import Policy
    from tracer.policy.programs import Program
    from tracer.rules.model import Rule

#: Kinds of events that have another end.
_REMOTE = ("flow", "connect")
_MADE = {
    CONNECT_RULE: "[network] connect",
    LISTEN_RULE: "[network] listen",
    ALLOW_RULE: "[exec] allow",
    DENY_RULE: "[exec] deny",
}


def advice(policy: Policy, rules: Sequence[Rule], today: date) -> list[Remark]:
    """Remarks on ``policy``, under which ``rules`` stand already."""
    found = [*_exceptions(policy, rules, today), *_actions(policy, rules), *_hosts(policy)]
    for selector in policy.off:
        for rule in [rule.id for rule in rules if rule.id in _MADE and selector.takes(rule.id)]:
            message = f"'{selector.pattern}' switches off what {_MADE[rule]} says"
            found.append(Remark(policy.source, selector.line, message, "leave one of the two out"))
    return sorted(found, key=lambda remark: remark.line)


def advice_here(policy: Policy, resolver: str = "/etc/resolv.conf") -> list[Remark]:
    """Remarks that hold for this host: others may have other links and name servers."""
    found = [*_programs(policy), *_name_servers(policy, resolver)]
    return sorted(found, key=lambda remark: remark.line)


def _exceptions(policy: Policy, rules: Sequence[Rule], today: date) -> Iterator[Remark]:
    for item in policy.exceptions:
        if not item.holds_on(today):
            message = f"the exception for '{item.rule.pattern}' ended on {item.until}"
            yield Remark(policy.source, item.line, message, "remove it, or give it another day")
        kinds = {rule.on for rule in rules if item.rule.takes(rule.id)}
        if item.remote is not None and not kinds & set(_REMOTE):
            kind = " and ".join(sorted(kinds))
            message = f"'remote' is never met: '{item.rule.pattern}' is about {kind} events, which go nowhere"
            yield Remark(policy.source, item.line, message, "put what is in the command line into args")


def _actions(policy: Policy, rules: Sequence[Rule]) -> Iterator[Remark]:
    """Actions that no severity leads to."""
    chosen = [(f"'{item.pattern}'", item, action) for item, action in policy.actions]
    if policy.gpu_choice is not None:
        choice = policy.gpu_choice
        chosen.append(("[gpu] action", Selector(GPU_RULE, choice.line), choice.action))
    for what, selector, action in chosen:
        severities = [
            SEVERITIES.index(alternative.severity)
            for rule in rules
            if selector.takes(rule.id)
            for alternative in rule.alternatives
        ]
        if action != "alert" and severities and not policy.acts_at(SEVERITIES[max(severities)]):
            most = SEVERITIES[max(severities)]
            message = f"{what}: {action} never happens, as this is {most} at most"
            yield Remark(policy.source, selector.line, message, f'act_from = "{most}" would let it happen')


def _hosts(policy: Policy) -> Iterator[Remark]:
    for place in policy.connect.entries if policy.connect else ():
        if place.host is not None and "." not in place.host:
            message = f"'{place.text}' allows every host whose name ends with .{place.host}, too"
            yield Remark(policy.source, place.line, message, "write the whole name, if it has more parts")


def _programs(policy: Policy) -> Iterator[Remark]:
    """Programs that are called otherwise by the time they run."""
    for listed in (policy.allow, policy.deny):
        for program in listed.entries if listed else ():
            runs = _resolved(program)
            if runs is not None and program.match != "range" and not program.covers(runs):
                message = f"'{program.text}' is {runs} here when it runs"
                hint = f'"{os.path.dirname(runs)}/*"' if program.match == "prefix" else f'"{runs}"'
                yield Remark(policy.source, program.line, message, f"the kernel resolves links: {hint}")
                continue
            interpreter = _interpreter(runs) if program.match != "prefix" else None
            if interpreter is not None:
                message = f"'{program.text}' is a script: what runs is its interpreter, {interpreter}"
                yield Remark(policy.source, program.line, message, "name that one")


def _resolved(program: Program) -> str | None:
    """The path by which the kernel knows ``program`` on this host, if it is there."""
    if program.match == "prefix":
        folder, _, rest = program.literal.rpartition("/")
        return f"{os.path.realpath(folder)}/{rest}" if os.path.isdir(folder) else None
    found = shutil.which(program.literal) if program.match == "file" else program.literal
    return os.path.realpath(found) if found and os.path.isfile(found) else None


def _interpreter(path: str | None) -> str | None:
    """The first word of a ``#!`` line."""
    if path is not None:
        with suppress(OSError), open(path, "rb") as file:
            line = file.read(256).partition(b"\n")[0]
            if line.startswith(b"#!") and line[2:].strip():
                return os.fsdecode(line[2:].split()[0])
    return None


def _name_servers(policy: Policy, resolver: str) -> Iterator[Remark]:
    """Names are of use only to those who can look them up."""
    listed = policy.connect
    if listed is None or all(place.host is None for place in listed.entries):
        return
    try:
        with open(resolver, encoding="ascii", errors="replace") as file:
            words = [line.split() for line in file.read(1 << 16).splitlines()]
    except OSError:
        return
    for server in [word[1] for word in words if word[:1] == ["nameserver"] and len(word) > 1]:
        with suppress(ValueError):
            if ipaddress.ip_address(server).is_loopback:
                continue
            if not any(place.covers(server, 53, None) for place in listed.entries):
                message = f"names can't be looked up: this host's name server {server} is not allowed"
                entry = f"[{server}]:53" if ":" in server else f"{server}:53"
                yield Remark(policy.source, listed.line, message, f'add "{entry}"')
