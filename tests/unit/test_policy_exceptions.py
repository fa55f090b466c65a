# SPDX-License-Identifier: Apache-2.0
"""Exceptions of policies: which alerts they excuse, and until when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from tracer.alerts import unexcused
from tracer.policy.model import Exemption, Policy, utc_today
from tracer.policy.parse import parse
from tracer.policy.undecided import undecided
from tracer.rules import load_rules

RULES = load_rules().rules
DAY = date(2027, 1, 31)


def policy(conditions: str, rule: str = "tunnel.*", until: str = "2027-01-31") -> Policy:
    text = f'[[exceptions]]\nrule = "{rule}"\nreason = "r"\nuntil = {until}\n{conditions}\n'
    parsed = parse(text, "f.toml")
    assert not parsed.errors
    return parsed.policy


def excused(
    found: Policy,
    rule: str = "tunnel.ssh-wire",
    exe: str = "/usr/bin/ssh",
    argv: tuple[str, ...] = ("ssh", "-N", "me@bastion.example"),
    remote: tuple[str | None, int | None, str | None] = (None, None, None),
    today: date = DAY,
) -> bool:
    answer = found.excused(rule, exe, argv, *remote, today)
    assert answer is None or isinstance(answer, Exemption)
    return answer is not None


@pytest.mark.parametrize(
    ("written", "exe", "met"),
    [
        ("/usr/bin/ssh", "/usr/bin/ssh", True),
        ("/usr/bin/ssh", "/usr/bin/ssh2", False),
        ("/usr/bin/*", "/usr/bin/ssh", True),
        ("/usr/bin/*", "/usr/local/bin/ssh", False),
        ("ssh", "/home/me/ssh", True),
        ("ssh", "/home/me/xssh", False),
        ("ssh", "", False),
    ],
)
def test_executables(written: str, exe: str, met: bool):
    assert excused(policy(f'exe = "{written}"'), exe=exe) == met


def test_arguments():
    found = policy('args = "-N me@bastion"')
    assert excused(found)
    assert not excused(found, argv=("ssh", "me@bastion.example"))
    assert not excused(found, argv=())


@pytest.mark.parametrize(
    ("written", "remote", "met"),
    [
        ("203.0.113.5:22", ("203.0.113.5", 22, None), True),
        ("203.0.113.5:22", ("::ffff:203.0.113.5", 22, None), True),
        ("203.0.113.5:22", ("203.0.113.5", 23, None), False),
        ("203.0.113.5:22", ("203.0.113.6", 22, None), False),
        ("203.0.113.5:22", ("203.0.113.5", None, None), False),
        ("203.0.113.0/24", ("203.0.113.9", 1, None), True),
        ("203.0.113.0/24", ("203.0.113.9", None, None), True),
        ("203.0.113.0/24", (None, None, None), False),
        ("203.0.113.0/24", ("no address", 1, None), False),
        ("[2001:db8::]:443", ("2001:db8::", 443, "x.example"), True),
        ("2001:db8::/32", ("203.0.113.9", 443, None), False),
        ("*:22", ("203.0.113.9", 22, None), True),
        ("bastion.example:22", ("203.0.113.9", 22, "bastion.example"), True),
        ("bastion.example:22", ("203.0.113.9", 22, "A.Bastion.Example."), True),
        ("bastion.example:22", ("203.0.113.9", 23, "bastion.example"), False),
        ("bastion.example", ("203.0.113.9", 23, "notbastion.example"), False),
        ("bastion.example", ("203.0.113.9", 23, None), False),
        ("203.0.113.9:8000-8100", ("203.0.113.9", 8050, None), True),
    ],
)
def test_places(written: str, remote: tuple[str | None, int | None, str | None], met: bool):
    assert excused(policy(f'remote = "{written}"'), remote=remote) == met


def test_every_condition_must_be_met():
    found = policy('exe = "ssh"\nargs = "bastion"\nremote = "203.0.113.5"')
    there = ("203.0.113.5", 22, None)
    assert excused(found, remote=there)
    assert not excused(found, remote=there, exe="/usr/bin/scp")
    assert not excused(found, remote=there, argv=("ssh",))
    assert not excused(found)


def test_rules():
    assert excused(policy('exe = "ssh"'), "tunnel.proxy")
    assert not excused(policy('exe = "ssh"'), "miner.command")
    assert not excused(policy('exe = "ssh"', rule="tunnel.ssh-local"), "tunnel.ssh-wire")


def test_days():
    found = policy('exe = "ssh"')
    assert excused(found, today=DAY)
    assert excused(found, today=DAY - timedelta(400))
    assert not excused(found, today=DAY + timedelta(1))


def test_today_is_that_of_utc():
    assert abs(datetime.now(UTC).date() - utc_today()) <= timedelta(1)
    assert policy('exe = "ssh"', until="9999-12-31").excused("tunnel.proxy", "ssh", [])
    assert not policy('exe = "ssh"', until="2001-01-01").excused("tunnel.proxy", "ssh", [])


def test_the_first_that_fits_is_told():
    text = "".join(
        f'[[exceptions]]\nrule = "tunnel.*"\nreason = "{reason}"\nuntil = {until}\nexe = "ssh"\n'
        for reason, until in (("old", "2026-01-01"), ("first", "2027-01-31"), ("second", "2027-01-31"))
    )
    found = parse(text, "f.toml").policy.excused("tunnel.proxy", "ssh", [], today=DAY)
    assert found is not None
    assert found.reason == "first"


@pytest.mark.parametrize(
    ("conditions", "exec_unless", "place_unless"),
    [
        ('exe = "ssh"', ("policy-excused-path-file",), None),
        ('exe = "/opt/*"\nargs = "-N"', ("policy-excused-path-prefix",), None),
        ('args = "-N me"', None, None),  # which may stand in several arguments, or in the first
        ('remote = "203.0.113.5:22"', None, ("policy-excused-network-range",)),
        (
            'exe = "ssh"\nremote = "203.0.113.5"',
            ("policy-excused-path-file",),
            ("policy-excused-network-range",),
        ),
        ('remote = "*:22"', None, ("policy-excused-port-range",)),
        ('remote = "bastion.example:22"', None, ("policy-excused-port-range",)),
        ('remote = "bastion.example"', None, None),  # an address may have a name that no probe has seen
    ],
)
def test_what_probes_leave_to_user_space(
    conditions: str, exec_unless: tuple[str, ...] | None, place_unless: tuple[str, ...] | None
):
    found = undecided(policy(conditions, rule="*").exceptions_on(DAY), RULES, "f.toml")
    by_kind = {
        on: {found.unless[rule.id] for rule in RULES if rule.on == on} for on in ("exec", "connect", "flow")
    }
    assert by_kind == {"exec": {exec_unless}, "connect": {place_unless}, "flow": {place_unless}}
    assert {group.id for group in found.groups} == {*(exec_unless or ()), *(place_unless or ())}


def test_what_has_ended_leaves_everything_to_the_probes():
    found = policy('exe = "ssh"', rule="tunnel.ssh-*")
    wanted = {rule.id for rule in RULES if rule.id.startswith("tunnel.ssh-")}
    assert undecided(found.exceptions_on(DAY), RULES, "f.toml").unless.keys() == wanted
    assert undecided(found.exceptions_on(DAY + timedelta(1)), RULES, "f.toml") == ((), {})


def test_one_that_no_probe_can_tell_leaves_all_of_its_rule_to_user_space():
    text = "".join(
        f'[[exceptions]]\nrule = "{rule}"\nreason = "r"\nuntil = {DAY}\n{condition}\n'
        for rule, condition in (("tunnel.*", 'exe = "a"'), ("*", 'exe = "b"'), ("tunnel.tool", 'args = "c"'))
    )
    found = undecided(parse(text, "f.toml").policy.exceptions, RULES, "f.toml")
    assert found.unless["tunnel.tool"] is None
    assert (
        found.unless["tunnel.ssh-dynamic"] == found.unless["miner.command"] == ("policy-excused-path-file",)
    )
    assert [sorted(group.values) for group in found.groups] == [["a", "b"]]


@pytest.mark.parametrize(
    ("excused_ones", "done", "standing"),
    [
        ({}, False, ["a", "b"]),
        ({"a"}, False, ["b"]),
        ({"a", "b"}, False, []),
        ({"a"}, True, ["b"]),
        ({"a", "b"}, True, ["a", "b"]),
    ],
)
def test_what_a_probe_has_done_is_told_whatever_is_excused(excused_ones, done: bool, standing: list[str]):
    assert unexcused(["a", "b"], lambda alert: alert in excused_ones, done=done) == standing
