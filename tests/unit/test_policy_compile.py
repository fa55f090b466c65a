# SPDX-License-Identifier: Apache-2.0
"""What a policy comes to: groups and rules that hold for what it doesn't allow, and for nothing else."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.errors import PolicyError, RuleError
from tracer.policy import apply_policy, load_policy, load_rules_under
from tracer.policy.compile import ALLOW_RULE, CONNECT_RULE, DENY_RULE, GPU_RULE, LISTEN_RULE, apply
from tracer.policy.parse import parse
from tracer.policy.ports import port_sets
from tracer.rules import RuleSet, load_rules
from tracer.rules import load as loading
from tracer.rules.model import ACTIONS, POLICY_PREFIX, SEVERITIES
from tracer.rules.parse import parse as parse_rules

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_policy
import naive_rules
from naive_policy import ICMP, TCP, UDP

PACKS = load_rules()


def under(text: str) -> RuleSet:
    """The packs under a policy."""
    parsed = parse(text, "f.toml")
    assert not parsed.errors
    return apply_policy(parsed.policy, PACKS)


def alone(text: str) -> RuleSet:
    """What a policy makes, without the packs."""
    parsed = parse(text, "f.toml")
    assert not parsed.errors
    return apply_policy(parsed.policy, RuleSet((), ()))


def quoted(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


# Connections: the alternatives against the plain question


@dataclass(frozen=True)
class Entry:
    """One entry of ``connect``: a network, a name, or "*"; and ports, as it is written and as it is meant."""

    target: str
    protocol: str = ""
    first: int | None = None
    last: int = 0

    @property
    def text(self) -> str:
        if self.first is None:
            return self.target
        target = f"[{self.target}]" if ":" in self.target else self.target
        span = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{target}:{self.protocol}{span}"

    def allows(self, address: naive_policy.Address, protocol: int, port: int, name: str | None) -> bool:
        if self.first is not None:
            spoken = {"tcp/": [TCP], "udp/": [UDP], "": [TCP, UDP]}[self.protocol]
            if protocol not in spoken or not self.first <= port <= self.last:
                return False
        if self.target == "*":
            return True
        try:
            return address in ipaddress.ip_network(self.target)
        except ValueError:
            host = self.target.removeprefix("*.")
            return name is not None and (name == host or name.endswith("." + host))


NETWORKS = ["192.0.2.0/24", "192.0.2.7", "198.51.100.0/25", "2001:db8::/32", "2001:db8::1", "0.0.0.0/0"]
HOSTS = ["example.org", "*.example.org", "b.example.org", "pypi.example"]
ADDRESSES = [
    ipaddress.ip_address(text)
    for text in ("192.0.2.7", "192.0.2.8", "198.51.100.1", "198.51.100.200", "2001:db8::1", "2001:db9::1")
]
NAMES = [
    None,
    "example.org",
    "b.example.org",
    "a.b.example.org",
    "notexample.org",
    "example.org.evil",
    "pypi.example",
]
PORTS = [1, 2, 3, 4, 5, 6, 7, 8, 9]


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    target = draw(st.sampled_from([*NETWORKS, *HOSTS, "*"]))
    if target != "*" and draw(st.integers(0, 3)) == 0:
        return Entry(target)
    first, last = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
    return Entry(target, draw(st.sampled_from(["", "", "tcp/", "udp/"])), first, last)


@given(
    st.lists(entries(), max_size=8, unique_by=lambda entry: entry.text),
    st.lists(
        st.tuples(
            st.sampled_from(ADDRESSES),
            st.sampled_from([TCP, UDP, ICMP]),
            st.sampled_from([0, *PORTS, 10]),
            st.sampled_from(NAMES),
        ),
        min_size=1,
        max_size=20,
    ),
)
@settings(max_examples=400)
def test_connections(
    listed: list[Entry], connections: list[tuple[naive_policy.Address, int, int, str | None]]
):
    rules = alone(f"[network]\nconnect = {quoted([entry.text for entry in listed])}\n")
    for address, protocol, number, name in connections:
        port = 0 if protocol == ICMP else number
        there = naive_policy.network_signals(rules.groups, address, protocol, port, name)
        allowed = any(entry.allows(address, protocol, port, name) for entry in listed)
        fired = naive_rules.evaluate("connect", there, rules.rules)
        assert fired == ([] if allowed else [(CONNECT_RULE, "medium")])
        assert naive_rules.evaluate("connect", there | {"@loopback"}, rules.rules) == []


@given(st.lists(entries(), max_size=8))
@settings(max_examples=200)
def test_no_port_is_in_two_sets(listed: list[Entry]):
    parsed = parse(f"[network]\nconnect = {quoted([entry.text for entry in listed])}\n", "f.toml")
    assert parsed.policy.connect is not None
    sets = port_sets(parsed.policy.connect.entries)
    for protocol in (TCP, UDP):
        for port in PORTS:
            having = [
                found
                for found in sets
                if found.ports and any(naive_policy.has_port(text, protocol, port) for text in found.ports)
            ]
            assert len(having) <= 1


def test_one_alternative_a_set_of_ports():
    rules = alone(
        '[network]\nconnect = ["10.0.0.1:80", "10.0.0.1:443", "a.example:22", "*:53", "b.example"]\n'
    )
    (rule,) = rules.rules
    # another port; 80 or 443; 22. Nothing can be wrong on 53.
    assert len(rule.alternatives) == 3
    assert {group.id: group.values for group in rules.groups} == {
        "policy-connect-hosts": ("b.example",),
        "policy-connect-1-ports": ("22",),
        "policy-connect-1-hosts": ("a.example",),
        "policy-connect-2-ports": ("53",),
        "policy-connect-3-ports": ("80", "443"),
        "policy-connect-3-networks": ("10.0.0.1/32",),
    }


def test_nothing_is_allowed_but_this_host():
    (rule,) = alone("[network]\nconnect = []\n").rules
    (alternative,) = rule.alternatives
    assert (alternative.all, alternative.any, alternative.at_least) == ((), (), 0)
    assert alternative.none == ("@loopback",)


# Listening


@pytest.mark.parametrize(
    ("address", "port", "allowed"),
    [
        ("0.0.0.0", 8000, True),
        ("::", 8100, True),
        ("192.0.2.1", 8050, True),
        ("192.0.2.1", 5000, True),
        ("192.0.2.2", 5000, False),
        ("0.0.0.0", 5000, False),  # more than the address that is allowed
        ("192.0.2.1", 5001, False),
        ("::", 22, False),
        ("0.0.0.0", 9000, True),
        ("::", 9000, True),
        ("192.0.2.2", 9000, True),
        ("0.0.0.0", 9001, False),
        ("127.0.0.1", 22, True),
        ("127.9.9.9", 22, True),
        ("::1", 22, True),
        ("10.0.0.1", 1, True),
    ],
)
def test_listening(address: str, port: int, allowed: bool):
    rules = alone('[network]\nlisten = ["8000-8100", "192.0.2.1:5000", "10.0.0.0/8", "0.0.0.0:9000"]\n')
    there = naive_policy.listen_signals(rules.groups, ipaddress.ip_address(address), TCP, port)
    assert naive_rules.evaluate("listen", there, rules.rules) == (
        [] if allowed else [(LISTEN_RULE, "medium")]
    )


def test_a_port_is_listened_on_by_its_protocol():
    rules = alone('[network]\nlisten = ["tcp/53"]\n')
    for protocol, allowed in ((TCP, True), (UDP, False)):
        there = naive_policy.listen_signals(rules.groups, ipaddress.ip_address("0.0.0.0"), protocol, 53)
        assert (naive_rules.evaluate("listen", there, rules.rules) == []) == allowed


# Programs

PARTS = ["a", "ab", "b", "bin"]


@st.composite
def paths(draw: st.DrawFn) -> str:
    return "/" + "/".join(draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3)))


@st.composite
def programs(draw: st.DrawFn) -> str:
    kind = draw(st.integers(0, 3))
    path = draw(paths())
    return [path, f"{path}/*", f"{path}*", path.rpartition("/")[2]][kind]


def names(entry: str, path: str) -> bool:
    if entry.endswith("*"):
        return path.startswith(entry[:-1])
    return path == entry if "/" in entry else path.rpartition("/")[2] == entry


@given(st.lists(programs(), min_size=1, max_size=4), st.lists(programs(), min_size=1, max_size=4), paths())
@settings(max_examples=300)
def test_programs(allow: list[str], deny: list[str], path: str):
    rules = alone(f"[exec]\nallow = {quoted(allow)}\ndeny = {quoted(deny)}\n")
    there = naive_policy.exec_signals(rules.groups, path)
    wanted = set()
    if not any(names(entry, path) for entry in allow):
        wanted.add((ALLOW_RULE, "medium"))
    if any(names(entry, path) for entry in deny):
        wanted.add((DENY_RULE, "high"))
    assert set(naive_rules.evaluate("exec", there, rules.rules)) == wanted


def test_paths_are_matched_in_their_case():
    rules = alone('[exec]\nallow = ["/Opt/*", "Bash"]\n')
    assert naive_policy.exec_signals(rules.groups, "/opt/x") == set()
    assert naive_policy.exec_signals(rules.groups, "/bin/bash") == set()
    assert len(naive_policy.exec_signals(rules.groups, "/Opt/Bash")) == 2


# Actions


def action(rules: RuleSet, name: str) -> str:
    rule = rules.rule(name)
    assert rule is not None
    return rule.action


def test_the_most_specific_action_wins():
    rules = under(
        "[actions]\n'tunnel.ssh-*' = 'block'\n'tunnel.ssh-reverse' = 'kill'\n'*' = 'freeze'\n"
        "'tunnel.*' = 'kill-tree'\n'tunnel.ssh-????' = 'alert'\n"
    )
    assert action(rules, "miner.command") == "freeze"
    assert action(rules, "tunnel.tool") == "kill-tree"
    assert action(rules, "tunnel.ssh-local") == "block"
    assert action(rules, "tunnel.ssh-reverse") == "kill"
    assert action(rules, "tunnel.ssh-wire") == "alert"  # as specific, and later


def test_what_a_section_says_gives_way_to_the_id_alone():
    for text, wanted in (
        ("[gpu]\naction = 'kill'\n", "kill"),
        ("[gpu]\naction = 'kill'\n[actions]\n'gpu.*' = 'block'\n", "kill"),
        ("[gpu]\naction = 'kill'\n[actions]\n'gpu.unexpected-client' = 'block'\n", "block"),
        ("[actions]\n'gpu.*' = 'block'\n", "block"),
        ("", action(PACKS, GPU_RULE)),
    ):
        assert action(under(text), GPU_RULE) == wanted
    for text, wanted in (
        ("connect_action = 'block'\n", "block"),
        ("connect_action = 'block'\n[actions]\n'net.*' = 'kill'\n", "block"),
        ("connect_action = 'block'\n[actions]\n'net.not-allowed' = 'kill'\n", "kill"),
        ("[actions]\n'net.*' = 'kill'\n", "kill"),
        ("", "alert"),
    ):
        assert action(under("[network]\nconnect = []\n" + text), CONNECT_RULE) == wanted


@pytest.mark.parametrize("chosen", ACTIONS)
@pytest.mark.parametrize("act_from", SEVERITIES)
def test_the_policys_own_rules_act(chosen: str, act_from: str):
    """Whatever the severity from which is acted, what a list says happens."""
    text = (
        f"[policy]\nact_from = '{act_from}'\n"
        f"[network]\nconnect = []\nconnect_action = '{chosen}'\nlisten = []\nlisten_action = '{chosen}'\n"
        f"[exec]\nallow = ['x']\nallow_action = '{chosen}'\ndeny = ['x']\ndeny_action = '{chosen}'\n"
    )
    found = alone(text)
    rules = found.rules
    assert [rule.id for rule in rules] == [CONNECT_RULE, LISTEN_RULE, ALLOW_RULE, DENY_RULE]
    for rule in rules:
        assert {alternative.severity for alternative in rule.alternatives} == {rule.severity}
        assert found.terms.action(rule, rule.severity) == chosen
    low = next(rule for rule in rules if rule.id == CONNECT_RULE).severity
    assert (low == "medium") == (chosen == "alert")


def test_less_than_act_from_alerts():
    rules = under("[policy]\nact_from = 'high'\n[actions]\n'miner.*' = 'kill'\n")
    rule = rules.rule("miner.command")
    assert rule is not None
    assert rules.terms.action(rule, "critical") == rules.terms.action(rule, "high") == "kill"
    assert rules.terms.action(rule, "medium") == rules.terms.action(rule, "low") == "alert"


def test_rules_are_switched_off():
    rules = under("[rules]\noff = ['net.unexpected', 'shell.*']\n")
    off = {rule.id for rule in rules.rules if not rule.enabled}
    assert off == {"net.unexpected", *(rule.id for rule in PACKS.rules if rule.family == "shell")}


def test_a_policy_that_says_nothing_changes_nothing():
    assert under("").hash == PACKS.hash


# Terms


def test_terms():
    exception = "[[exceptions]]\nrule = 'tunnel.ssh-*'\nexe = 'ssh'\nreason = 'r'\nuntil = 9999-01-31\n"
    rules = under("[policy]\nact_from = 'low'\n[network]\nown = ['192.0.2.0/24']\n" + exception)
    assert rules.terms.act_from == "low"
    assert rules.terms.own_networks == ("192.0.2.0/24",)
    assert rules.terms.undecided.keys() == {r.id for r in PACKS.rules if r.id.startswith("tunnel.ssh-")}
    assert rules.terms.stay == ()
    assert under("").terms == PACKS.terms


@given(
    st.lists(entries().filter(lambda entry: entry.target not in HOSTS), max_size=6),
    st.sampled_from(ADDRESSES),
    st.sampled_from([TCP, UDP]),
    st.sampled_from(PORTS),
)
@settings(max_examples=200)
def test_what_stays_in_quarantine(
    listed: list[Entry], address: naive_policy.Address, protocol: int, port: int
):
    rules = alone(f"[network]\nquarantine = {quoted([entry.text for entry in listed])}\n")
    assert rules.rules == ()
    there = naive_policy.network_signals(rules.groups, address, protocol, port)
    stays = any(there.issuperset(groups) for groups in rules.terms.stay)
    assert stays == any(entry.allows(address, protocol, port, None) for entry in listed)


# Mistakes that only show beside the rules


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("[actions]\n'miner.comand' = 'kill'\n", 2, "no rule 'miner.comand'", "'miner.command'"),
        ("[actions]\n'*' = 'kill'\n'minr.*' = 'kill'\n", 3, "no rule is called like 'minr.*'", "'miner.*'"),
        ("[rules]\noff = ['net.unexpected',\n'net.x']\n", 3, "no rule 'net.x'", None),
        (
            "[[exceptions]]\nexe = 'x'\nreason = 'r'\nuntil = 2027-01-31\nrule = 'tunel.*'\n",
            5,
            "no rule is called like 'tunel.*'",
            "'tunnel.*'",
        ),
        ("[actions]\n'net.not-allowed' = 'kill'\n", 2, "no rule 'net.not-allowed'", None),
    ],
)
def test_rules_that_there_are_not(tmp_path: Path, text: str, line: int, message: str, hint: str | None):
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load_rules_under(load_policy(path))
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_every_such_mistake_is_found():
    policy = parse("[actions]\n'a' = 'kill'\n[rules]\noff = ['b']\n", "f.toml").policy
    assert [error.line for error in apply(policy, PACKS.groups, PACKS.rules).errors] == [2, 4]


def test_a_rule_file_that_takes_the_name_of_our_rule(tmp_path: Path):
    (tmp_path / "site.toml").write_text(
        '[rules."net.not-allowed"]\ntitle = "t"\non = "connect"\nseverity = "low"\nall = ["@external"]\n',
        encoding="utf-8",
    )
    path = tmp_path / "job.toml"
    path.write_text('[rules]\nfiles = ["site.toml"]\n[network]\nconnect = []\n', encoding="utf-8")
    with pytest.raises(PolicyError, match=r"job\.toml:4: 'net\.not-allowed' is made of this.*site\.toml:1"):
        load_rules_under(load_policy(path))


def test_the_names_of_our_groups_are_reserved():
    text = '[indicators.policy-x]\nwhere = "args"\nmatch = "whole"\nvalues = ["x"]\n'
    (error,) = parse_rules(text, "f.toml").errors
    assert error.line == 1
    assert "policies make" in error.message
    assert all(not group.id.startswith(POLICY_PREFIX) for group in PACKS.groups)


def test_limits_hold_for_all_together(monkeypatch: pytest.MonkeyPatch):
    policy = parse('[network]\nconnect = ["a.example:1", "b.example:2"]\n', "f.toml").policy
    monkeypatch.setattr(loading, "GROUPS_MAX", len(PACKS.groups) + 3)
    with pytest.raises(RuleError, match=r"f\.toml:2: .* there is room for"):
        apply_policy(policy, PACKS)
