# SPDX-License-Identifier: Apache-2.0
"""Policy files: what they can say, and how their mistakes are told."""

from __future__ import annotations

import hashlib
import tomllib
from datetime import date
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.errors import FileError, PolicyError, RuleError
from tracer.policy import SIZE_MAX, Reach, load_policy, load_rules_under
from tracer.policy.parse import ENTRIES_MAX, parse
from tracer.policy.ports import PORT_SETS_MAX

if TYPE_CHECKING:
    from pathlib import Path

FULL = """\
[policy]
name = "sft-run"
mode = "enforce"
act_from = "medium"

[gpu]
users = ["train.py"]
action = "kill"

[network]
own = ["192.0.2.0/24"]
connect = ["192.0.2.0/24", "pypi.org:443", "[2001:db8::1]:443", "*.example.org"]
connect_action = "block"
listen = ["8000-8100", "127.0.0.1:5000", 9000]
listen_action = "alert"
quarantine = ["192.0.2.10:22", "192.0.2.11:22", "198.51.100.0/24"]

[exec]
allow = ["/usr/bin/*", "/opt/venv/bin/python3.11", "bash"]
allow_action = "alert"
deny = ["nmap", "/usr/bin/nc*"]
deny_action = "kill-tree"

[actions]
"miner.*" = "kill"
"tunnel.ssh-local" = "freeze"

[rules]
files = ["site.toml"]
off = ["net.unexpected"]

[[exceptions]]
rule = "tunnel.ssh-*"
exe = "/usr/bin/ssh"
args = "bastion.example"
reason = "the data set is fetched through the bastion"
until = 2027-01-31
"""

EXCEPTION = '[[exceptions]]\nrule = "tunnel.*"\nexe = "ssh"\nreason = "r"\nuntil = 2027-01-31\n'


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "job.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


# What a file can say


def test_everything(write, tmp_path: Path):
    path = write(FULL)
    policy = load_policy(path)
    assert (policy.name, policy.mode, policy.act_from) == ("sft-run", "enforce", "medium")
    assert policy.gpu_users == ("train.py",)
    assert policy.gpu_choice is not None
    assert (policy.gpu_choice.action, policy.gpu_choice.line) == ("kill", 8)
    assert policy.own_networks == ("192.0.2.0/24",)
    assert policy.quarantine == (
        Reach(("198.51.100.0/24",), None),
        Reach(("192.0.2.10/32", "192.0.2.11/32"), ("22",)),
    )
    assert policy.source == str(path)
    assert policy.digest == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert policy.rule_files == (tmp_path / "site.toml",)
    assert policy.connect is not None
    assert [place.host for place in policy.connect.entries] == [None, "pypi.org", None, "example.org"]
    assert policy.connect.choice is not None
    assert policy.connect.choice.action == "block"
    assert policy.listen is not None
    assert [place.ports for place in policy.listen.entries] == ["8000-8100", "5000", "9000"]
    assert policy.allow is not None
    assert [item.match for item in policy.allow.entries] == ["prefix", "whole", "file"]
    (exception,) = policy.exceptions
    assert (exception.until, exception.line) == (date(2027, 1, 31), 32)


def test_nothing(write):
    policy = load_policy(write("", "quiet.toml"))
    assert (policy.name, policy.mode, policy.act_from) == ("quiet", "observe", "high")
    assert policy.gpu_users is policy.connect is policy.listen is policy.allow is policy.deny is None
    assert policy.own_networks == policy.quarantine == policy.exceptions == policy.rule_files == ()


def test_nobody_may_use_the_gpu(write):
    assert load_policy(write('[gpu]\nusers = ["none"]\n')).gpu_users == ()


def test_rule_files_lie_beside_the_policy(write, tmp_path: Path):
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "site.toml").write_text('[rules."miner.node"]\nenabled = false\n', encoding="utf-8")
    more = write('[rules."miner.node"]\nenabled = true\n', "more.toml")
    policy = load_policy(write('[rules]\nfiles = ["rules/site.toml"]\n'))
    off, on = load_rules_under(policy).rule("miner.node"), load_rules_under(policy, [more]).rule("miner.node")
    assert off is not None
    assert not off.enabled
    assert on is not None
    assert on.enabled
    assert load_rules_under(None, [more]).rule("miner.node") is not None


def test_a_missing_rule_file_is_told(write, tmp_path: Path):
    with pytest.raises(RuleError, match="can't be read: No such file") as caught:
        load_rules_under(load_policy(write('[rules]\nfiles = ["site.toml"]\n')))
    assert caught.value.path == str(tmp_path / "site.toml")


def test_twice_is_remarked():
    parsed = parse('[network]\nconnect = ["a.example",\n"a.example"]\n', "f.toml")
    assert [(remark.line, remark.message) for remark in parsed.remarks] == [
        (3, "'a.example' is there already")
    ]
    assert parsed.policy.connect is not None
    assert len(parsed.policy.connect.entries) == 1


# Mistakes


def network(key: str, *entries: object) -> str:
    listed = ",\n".join(f'"{entry}"' if isinstance(entry, str) else str(entry) for entry in entries)
    return f"[network]\n{key} = [{listed}]\n"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("a = = 1", 1, "not valid TOML", None),
        ("[actions]\nminer.* = 'kill'\n", 2, "not valid TOML", None),
        ("[polcy]\n", 1, "unknown key 'polcy'", "'policy'"),
        ("policy = 1\n", 1, "'policy' must be a table", None),
        ("[policy]\nmod = 'enforce'\n", 2, "unknown key 'mod'", "'mode'"),
        ("[policy]\nmode = 'enfore'\n", 2, "mode = 'enfore'", "'enforce'"),
        ("[policy]\nact_from = 'hihg'\n", 2, "act_from = 'hihg'", "'high'"),
        ("[policy]\nname = ''\n", 2, "one line of text", None),
        ("[policy]\nname = 3\n", 2, "'name' must be a string, not a whole number", None),
        ("[gpu]\nuser = ['x']\n", 2, "unknown key 'user'", "'users'"),
        ("[gpu]\nusers = []\n", 2, "an empty list of users", '["none"]'),
        ("[gpu]\nusers = ['none', 'x']\n", 2, "'none' beside users", None),
        ("[gpu]\nusers = ['x', '']\n", 2, "names no program", "train.py"),
        ("[gpu]\naction = 'explode'\n", 2, "action = 'explode'", "kill-tree"),
        (network("own", "192.0.2.0/24", "192.0.2.1/24"), 3, "bits beyond", "'192.0.2.0/24'"),
        (network("own", "example.org"), 2, "'example.org' is no network", "2001:db8::/32"),
        (network("own", 4), 2, "'4' is neither a network nor a host", "192.0.2.0/24"),
        (network("connect", "10.0.0.1", 1.5), 3, "1.5 is no text", "quotes"),
        (network("connect", "10.0.0.1", "10.0.0.1:sssh"), 3, "'sssh' is no port", "udp/53"),
        (network("connect", "10.0.0.1:70000"), 2, "'70000' is no port", "8000-8100"),
        (network("connect", "pypi.org:"), 2, "'' is no port", "22"),
        (network("connect", 443), 2, "'443' is a port without a place", '"*:443"'),
        (network("connect", "*"), 2, "'*' is everywhere", '"*:443"'),
        (network("connect", "a.*.org"), 2, "only a *. at the beginning", '"*.example.org"'),
        (network("connect", "https://pypi.org/simple"), 2, "an address of a page", '"pypi.org"'),
        (network("connect", "256.0.0.1"), 2, "neither a network nor a host", "192.0.2.0/24"),
        (network("connect", "10.0.0.0/33"), 2, "neither a network nor a host", None),
        (network("connect", "2001:db8::/16"), 2, "bits beyond", "'2001::/16'"),
        (network("connect", "[2001:db8::1"), 2, "no place on the network", "[2001:db8::1]:443"),
        (network("connect", "[10.0.0.1]:22"), 2, "only IPv6 stands in brackets", None),
        (network("connect", "bücher.example:443"), 2, "not as DNS has it", "xn--bcher-kva.example"),
        (network("connect", "a b"), 2, "is no place on the network", None),
        (network("connect", "-x.example"), 2, "neither a network nor a host", None),
        (network("listen", "example.org:80"), 2, "one listens on an address", "8000-8100"),
        (network("listen", "0.0.0.0"), 2, "every port of every address", "leave the list out"),
        (network("listen", "::/0"), 2, "every port of every address", None),
        (network("quarantine", "example.org:80"), 2, "names can't be trusted in quarantine", "address"),
        ("[network]\nconnect_action = 'block'\n", 2, "'connect_action' without 'connect'", "connect = "),
        ("[exec]\ndeny_action = 'kill'\n", 2, "'deny_action' without 'deny'", "deny = "),
        ("[network]\nconnect = []\nconnect_action = 'blok'\n", 3, "'blok'", "'block'"),
        ("[network]\nconnect = 'a'\n", 2, "'connect' must be a list, not a string", None),
        ("[exec]\nallow = []\n", 2, "'allow' is empty", "nothing could be started"),
        ("[exec]\nallow = ['/*']\n", 2, "'/*' is every program", "leave the list out"),
        ("[exec]\nallow = ['*']\n", 2, "'*' is every program", None),
        ("[exec]\nallow = ['/usr/*/x']\n", 2, "only a * at the end", '"/opt/venv/*"'),
        ("[exec]\nallow = ['python3*']\n", 2, "can't end with *", '"/usr/bin/python3*"'),
        ("[exec]\nallow = ['bin/x']\n", 2, "neither a whole path nor a bare file name", '"/bin/x"'),
        ("[exec]\nallow = ['/usr/bin/']\n", 2, "'/usr/bin/' is a folder", '"/usr/bin/*"'),
        ("[exec]\nallow = ['/usr/../bin/x']\n", 2, "can't match", None),
        ("[exec]\nallow = ['/usr//bin/*']\n", 2, "can't match", None),
        (f"[exec]\nallow = ['/{'x' * 300}']\n", 2, "more than 256 bytes", None),
        ("[exec]\nallow = [3]\n", 2, "3 is no text", None),
        ("[actions]\n'miner.*' = 'kil'\n", 2, "'kil' is not known", "'kill'"),
        ("[actions]\nminer.command = 'kill'\n", 2, "'miner' is a family", '"miner.command"'),
        ("[actions]\n'Miner!' = 'kill'\n", 2, "'Miner!' is no rule", "tunnel.*"),
        ("[actions]\n'miner.*' = 3\n", 2, "must be a string", None),
        ("[rules]\noff = ['net unexpected']\n", 2, "'net unexpected' is no rule", None),
        ("[rules]\nfiles = ['']\n", 2, "is no file", "relative to this file"),
        ("[exceptions]\nrule = 'a'\n", 1, "must be a list", "[[exceptions]]"),
        ("exceptions = [3]\n", 1, "an exception must be a table", "[[exceptions]]"),
        (EXCEPTION.replace("exe =", "exec ="), 3, "unknown key 'exec'", "'exe'"),
        (EXCEPTION.replace('exe = "ssh"\n', ""), 1, "without a condition", "exe, args or remote"),
        (EXCEPTION.replace('reason = "r"\n', ""), 1, "without 'reason'", "reason = "),
        (EXCEPTION.replace("until = 2027-01-31", ""), 1, "without 'until'", "until = 2027-01-31"),
        (EXCEPTION.replace('rule = "tunnel.*"', ""), 1, "without 'rule'", "tunnel.ssh-local"),
        (EXCEPTION.replace("2027-01-31", '"2027-01-31"'), 5, "must be a date", "2027-01-31"),
        (EXCEPTION.replace("2027-01-31", "2027-01-31T00:00:00Z"), 5, "not a date with a time", None),
        (EXCEPTION.replace("2027-01-31", "2027-02-31"), 5, "not valid TOML", None),
        (EXCEPTION.replace('exe = "ssh"', 'remote = "ssh:x"'), 3, "'x' is no port", "udp/53"),
        (EXCEPTION.replace('exe = "ssh"', 'exe = "bin/ssh"'), 3, "neither a whole path", None),
        (EXCEPTION.replace('"r"', '" "'), 4, "one line of text", None),
    ],
)
def test_mistakes_are_told(write, text: str, line: int, message: str, hint: str | None):
    path = write(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_every_mistake_is_told():
    text = (
        "[policy]\nmode = 'x'\nact_from = 'y'\n[network]\nconnect = ['10.0.0.1:x',\n'b:y']\n"
        "[exec]\nallow = ['*',\n'x*']\n[what]\n[actions]\n'm' = 'k'\n'n' = 'k'\n"
        "[[exceptions]]\n[[exceptions]]\n"
    )
    assert [error.line for error in parse(text, "f.toml").errors] == [2, 3, 5, 6, 8, 9, 10, 12, 13, 14, 15]


def test_too_many_sets_of_ports():
    entries = [f"10.0.0.{number}:{number}" for number in range(1, PORT_SETS_MAX + 1)]
    assert not parse(network("connect", *entries), "f.toml").errors
    for key in ("connect", "listen", "quarantine"):
        (error,) = parse(network(key, *entries, "10.0.0.99:99"), "f.toml").errors
        assert error.line == 2
        assert f"room for {PORT_SETS_MAX}" in error.message
    alike = [f"10.0.0.1:{number}" for number in range(1, 200)]
    assert not parse(network("connect", *alike), "f.toml").errors


def test_too_many_entries():
    entries = [f"10.0.{number >> 8}.{number & 255}" for number in range(ENTRIES_MAX + 1)]
    (error,) = parse(network("connect", *entries), "f.toml").errors
    assert f"{ENTRIES_MAX} may be" in error.message


def test_files_that_are_no_policies(tmp_path: Path):
    with pytest.raises(PolicyError, match=r"nothing\.toml: can't be read: No such file"):
        load_policy(tmp_path / "nothing.toml")
    with pytest.raises(PolicyError, match="can't be read: Is a directory"):
        load_policy(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(PolicyError, match=r"latin\.toml:2: not UTF-8"):
        load_policy(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (SIZE_MAX + 1))
    with pytest.raises(PolicyError, match="is larger than 1024 KiB"):
        load_policy(tmp_path / "large.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000 + "]" * 100_000, encoding="utf-8")
    with pytest.raises(PolicyError, match="nested too deeply"):
        load_policy(tmp_path / "deep.toml")


def test_byte_order_mark_and_carriage_returns(tmp_path: Path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert load_policy(path).name == "sft-run"


# Whatever is written, it is either read or explained


@given(st.text(alphabet="[]{}=\"'.,#\n abx1\\*:/", max_size=80) | st.text(max_size=40))
@settings(max_examples=300)
def test_any_text(text: str):
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(PolicyError, match="not valid TOML"):
            parse(text, "f.toml")
    else:
        assert all(error.line for error in parse(text, "f.toml").errors)


VALUE = st.recursive(
    st.sampled_from(
        ["none", "x", "*", "10.0.0.0/8", "a:1", ":", "[::]:x", "kill", "", "é", 0, -1, True, 1.5]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rule", "exe"]), inner),
    max_leaves=5,
)
SECTIONS = {
    "[policy]": ["name", "mode", "act_from"],
    "[gpu]": ["users", "action"],
    "[network]": ["own", "connect", "connect_action", "listen", "listen_action", "quarantine"],
    "[exec]": ["allow", "allow_action", "deny", "deny_action"],
    "[actions]": ["'miner.*'", "miner", "x"],
    "[rules]": ["files", "off"],
    "[[exceptions]]": ["rule", "exe", "args", "remote", "reason", "until"],
}


def toml(value: object) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return str(value)


@given(st.data())
@settings(max_examples=500)
def test_any_keys_and_values(data: st.DataObject):
    header = data.draw(st.sampled_from(sorted(SECTIONS)))
    body = data.draw(st.dictionaries(st.sampled_from(SECTIONS[header]), VALUE))
    text = header + "\n" + "".join(f"{key} = {toml(value)}\n" for key, value in body.items())
    try:
        errors: tuple[FileError, ...] = parse(text, "f.toml").errors
    except PolicyError as error:
        errors = (error,)
    for error in errors:
        assert error.line
        assert error.hint
