# SPDX-License-Identifier: Apache-2.0
"""Rule files: what they can say, and how their mistakes are told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.errors import RuleError
from tracer.rules import Sample, load_rules
from tracer.rules import load as loading
from tracer.rules.load import join, read_packs
from tracer.rules.model import INTERPRETER_GROUP
from tracer.rules.parse import parse

GOOD = """\
[indicators.mine]
where = "args"
match = "prefix"
values = ["--mine"]

[rules."miner.mine"]
title = "Mine"
on = "exec"
any = ["mine"]
severity = "low"
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def fired(rules, *argv: str, path: str | None = None, facts: tuple[str, ...] = ()) -> dict[str, str]:
    words = [word.encode() for word in argv]
    program = path.encode() if path else None
    sample = Sample.from_command(words, path=program, facts=frozenset(facts))
    return {rule.id: severity for rule, severity in rules.judge(sample)}


# What a file can say


def test_a_user_rule_works_beside_the_packs(write):
    rules = load_rules([write(GOOD)])
    assert fired(rules, "/opt/x", "--mine-all") == {"miner.mine": "low"}
    assert fired(rules, "/opt/x", "not--mine") == {}
    assert fired(rules, "/opt/xmrig") == {"miner.command": "critical"}
    rule = rules.rule("miner.mine")
    assert rule is not None
    assert (rule.family, rule.action, rule.attack, rule.line) == ("miner", "alert", (), 6)
    assert rule.source.endswith("mine.toml")


def test_a_group_is_replaced(write):
    text = '[indicators.miner-names]\nwhere = "name"\nmatch = "whole"\nvalues = ["digger"]\n'
    rules = load_rules([write(text)])
    assert fired(rules, "digger") == {"miner.command": "critical"}
    assert fired(rules, "xmrig") == {}


def test_a_group_is_extended(write):
    rules = load_rules([write('[indicators.miner-names]\nextend = true\nvalues = ["digger"]\n')])
    assert fired(rules, "digger") == fired(rules, "xmrig") == {"miner.command": "critical"}


def test_a_rule_is_replaced(write):
    text = GOOD.replace("miner.mine", "miner.command")
    rules = load_rules([write(text)])
    assert fired(rules, "xmrig") == {}
    assert fired(rules, "x", "--mine") == {"miner.command": "low"}


def test_a_rule_is_changed_in_part(write):
    text = '[rules."tunnel.ssh-local"]\nextend = true\nseverity = "critical"\nnone = ["mine"]\n'
    rules = load_rules([write(GOOD + text)])
    assert fired(rules, "ssh", facts=("ssh-local",)) == {"tunnel.ssh-local": "critical"}
    assert "tunnel.ssh-local" not in fired(rules, "ssh", "--mine", facts=("ssh-local",))
    changed, packed = rules.rule("tunnel.ssh-local"), load_rules().rule("tunnel.ssh-local")
    assert changed is not None
    assert packed is not None
    assert changed.title == packed.title


@pytest.mark.parametrize("rule", ["miner.command", "tunnel.ssh-reverse"])
def test_a_rule_is_switched_off_and_on(write, rule: str):
    off = write(f'[rules."{rule}"]\nenabled = false\n', "off.toml")
    on = write(f'[rules."{rule}"]\nenabled = true\n', "on.toml")
    argv, facts = ("xmrig",), ("ssh-reverse",)
    assert rule in fired(load_rules(), *argv, facts=facts)
    assert rule not in fired(load_rules([off]), *argv, facts=facts)
    assert rule in fired(load_rules([off, on]), *argv, facts=facts)
    kept = load_rules([off]).rule(rule)
    assert kept is not None
    assert not kept.enabled


def test_later_files_win(write):
    first = write(GOOD, "a.toml")
    second = write(GOOD.replace('"low"', '"high"'), "b.toml")
    assert fired(load_rules([first, second]), "x", "--mine") == {"miner.mine": "high"}
    assert fired(load_rules([second, first]), "x", "--mine") == {"miner.mine": "low"}


def test_alternatives_with_their_own_severities(write):
    text = """
[indicators.one]
where = "args"
match = "whole"
values = ["1"]
[indicators.two]
where = ["args", "name"]
match = "whole"
values = ["2"]
[indicators.stop]
where = "args"
match = "whole"
values = ["stop"]
[rules."net.numbers"]
title = "Numbers"
on = "exec"
severity = "low"
none = ["stop"]
when = [
    { any = ["one", "two"] },
    { any = ["one", "two"], at_least = 2, severity = "high", none = ["@memfd"] },
]
"""
    rules = load_rules([write(text)])
    assert fired(rules, "x", "1") == {"net.numbers": "low"}
    assert fired(rules, "2") == {"net.numbers": "low"}
    assert fired(rules, "x", "1", "2") == {"net.numbers": "high"}
    assert fired(rules, "x", "1", "2", "stop") == {}
    assert fired(rules, "x", "1", "2", facts=("memfd",))["net.numbers"] == "low"


def test_the_hash_names_the_content(write):
    one = load_rules([write(GOOD, "a.toml")])
    assert re.fullmatch("[0-9a-f]{32}", one.hash)
    assert one.hash == load_rules([write("# moved\n" + GOOD, "b.toml")]).hash
    assert one.hash != load_rules().hash
    assert one.hash != load_rules([write(GOOD.replace("--mine", "--yours"))]).hash
    assert one.hash != load_rules([write(GOOD.replace('"low"', '"high"'))]).hash


def test_byte_order_mark_and_carriage_returns(tmp_path: Path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_rules([path]).rule("miner.mine")


# Mistakes

GROUP = '[indicators.g]\nwhere = "args"\nmatch = "whole"\nvalues = ["x"]\n'
NUMBERS = '[indicators.g]\nwhere = "{}"\nvalues = [{}]\n'
RULE = '[rules."net.r"]\ntitle = "t"\non = "exec"\nseverity = "low"\n'


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("a = = 1", 1, "not valid TOML", None),
        ("[indicators.g]\nwhere = 'args\n", 2, "not valid TOML", None),
        ("[rules]\nx = [1,\n\n", 2, "not valid TOML", None),
        ("[indicator.g]\n", 1, "unknown key 'indicator'", "'indicators'"),
        ("indicators = 1", 1, "must be a table", None),
        ("[indicators]\ng = 1", 2, "'g' must be a table", None),
        ("[indicators.Big]\n", 1, "'Big' can't name a group", "small letters"),
        ("[indicators.g]\nvalus = []", 2, "unknown key 'valus'", "'values'"),
        ("[indicators.g]\nmatch = 'whole'\nvalues=['x']", 1, "lacks 'where'", "where = "),
        ("[indicators.g]\nwhere = 'args'\nvalues=['x']", 1, "lacks 'match'", "match = "),
        ("[indicators.g]\nwhere = 'args'\nmatch = 'whole'\n", 1, "without 'values'", "values"),
        (GROUP.replace('"args"', '"arg"'), 2, "where = 'arg' is not a field", "'args'"),
        (GROUP.replace('"args"', "[]"), 2, "'where' is empty", "args"),
        (GROUP.replace('"args"', "[{}]"), 2, "is not a field", "args"),
        (GROUP.replace('"args"', "3"), 2, "'where' must be a string, not a whole number", None),
        (GROUP.replace("whole", "wholly"), 3, "match = 'wholly' is not known", "'whole'"),
        (GROUP.replace("args", "name").replace("whole", "option"), 3, "can't be used on name", "whole"),
        (GROUP.replace('["x"]', "[]"), 4, "an empty list", None),
        (GROUP.replace('["x"]', '["a",\n\n""]'), 6, "empty indicator", None),
        (GROUP.replace('["x"]', '["a", 1]'), 4, "1 is no indicator", "quotes"),
        (GROUP.replace('["x"]', '["a\\u0000b"]'), 4, "NUL", None),
        (GROUP.replace('"x"', f'"{"x" * 257}"'), 4, "more than 256 bytes", None),
        (GROUP.replace('["x"]', '"x"'), 4, "'values' must be a list, not a string", None),
        (GROUP.replace("args", "name").replace('"x"', '"a/b"'), 4, "a name has no '/'", "path"),
        (GROUP + "case = 1", 5, "'case' must be true or false, not a whole number", None),
        ("[indicators.miner-nams]\nextend = true\nvalues = ['x']", 1, "to extend", "'miner-names'"),
        ("[indicators.miner-names]\nextend=true\nmatch='word'\nvalues=['x']", 1, "'match' of group", "leave"),
        (GROUP + '[rules."r"]\n', 5, "'r' can't name a rule", "family.what"),
        (GROUP + '[rules."mine.r"]\n', 5, "'mine.r' can't name a rule", "miner"),
        ("[rules.miner.x]\ntitle = 't'\n", 1, "'miner' is a family", '[rules."miner.x"]'),
        (RULE + 'any = ["@memfd"]\nseverty = "low"', 6, "unknown key 'severty'", "'severity'"),
        (RULE, 1, "lacks 'any'", None),
        (RULE.replace('title = "t"\n', "") + 'any = ["@memfd"]', 1, "lacks 'title'", "extend"),
        (RULE.replace('"t"', '"a\\nb"') + 'any = ["@memfd"]', 2, "one line of text", None),
        (RULE.replace("exec", "exce") + 'any = ["@memfd"]', 3, "on = 'exce'", "'exec'"),
        (RULE.replace("low", "hihg") + 'any = ["@memfd"]', 4, "severity = 'hihg'", "'high'"),
        (RULE + 'action = "explode"\nany = ["@memfd"]', 5, "action = 'explode'", "alert"),
        (RULE + 'attack = ["T1496", "X1"]\nany = ["@memfd"]', 5, "'X1' is no ATT&CK technique", "T1496.001"),
        (RULE + 'any = ["@memdf"]', 5, "no fact '@memdf'", "'@memfd'"),
        (RULE + 'any = ["@gpu-not-listed"]', 5, "is a fact of gpu events", "@memfd"),
        (RULE + 'any = [\n"@memfd",\n"miner-nams"]', 7, "no group 'miner-nams'", "'miner-names'"),
        (RULE + 'any = "miner-names"', 5, "'any' must be a list, not a string", None),
        (RULE + "any = [1]", 5, "1 is no name", "quotes"),
        (
            RULE.replace("exec", "gpu") + 'any = ["miner-names"]',
            5,
            "is looked for in name, the rule is on gpu",
            "events of this kind have: ioctl",
        ),
        (RULE + 'none = ["@memfd"]', 1, "lacks 'any'", None),
        (RULE + 'when = [{ none = ["@memfd"] }]', 5, "nothing has to be found", "'any'"),
        (RULE + "when = []", 5, "'when' is empty", "any"),
        (RULE + 'when = [{ any = ["@memfd"] },\n{ anny = ["@memfd"] }]', 6, "unknown key 'anny'", "'any'"),
        (RULE + 'any = ["@memfd"]\nwhen = [{ any = ["@memfd"] }]', 5, "'any' beside 'when'", "into"),
        (RULE + 'any = ["@memfd"]\nat_least = 2', 6, "at_least = 2 can't be met", "from 1 to 1"),
        (RULE + 'all = ["@memfd"]\nat_least = 1', 6, "at_least = 1 can't be met", "add 'any'"),
        (RULE + 'any = ["@memfd"]\nat_least = true', 6, "must be a whole number, not true or false", None),
        ('[rules."net.nothing"]\nenabled = false', 1, "no rule 'net.nothing' to switch", None),
        ('[rules."miner.comand"]\nextend = true', 1, "to extend", "'miner.command'"),
        ("[[indicators.g]]\nwhere = 'args'", 1, "'g' must be a table", None),
        (NUMBERS.format("network", '"10.0.0.0/8",\n"10.0.0.1/8"'), 4, "'10.0.0.1/8' is no network", "/24"),
        (NUMBERS.format("network", '"example.org"'), 3, "'example.org' is no network", "2001:db8::/32"),
        (NUMBERS.format("port", '"22", "ssh"'), 3, "'ssh' is no port", "8000-8100"),
        (NUMBERS.format("port", '"22-"'), 3, "'22-' is no port", "udp/53"),
        (NUMBERS.format("port", "22"), 3, "22 is no indicator", "quotes"),
        (NUMBERS.format("ioctl", '"0x2b"'), 3, "'0x2b' is no ioctl", "family:number"),
        (NUMBERS.format("port", '"22"') + "match = 'whole'", 4, "can't be used on port", "range"),
        (NUMBERS.format("args", '"22"') + "match = 'range'", 4, "can't be used on args", "whole"),
        (GROUP.replace('"args"', '["args", "port"]'), 2, "'port' beside other fields", "two groups"),
        (NUMBERS.format("prot", '"22"'), 2, "where = 'prot' is not a field", "'port'"),
        (
            NUMBERS.format("port", '"22"') + RULE + 'any = ["g"]',
            8,
            "group 'g' is looked for in port, the rule is on exec",
            "name, path, args",
        ),
        (
            NUMBERS.format("network", '"::/0"') + RULE.replace("exec", "gpu") + 'any = ["g"]',
            8,
            "is looked for in network, the rule is on gpu",
            "ioctl",
        ),
        (
            NUMBERS.format("ioctl", '"1:1"') + RULE.replace("exec", "flow") + 'any = ["g"]',
            8,
            "is looked for in ioctl, the rule is on flow",
            "sent, received, host, network, port",
        ),
    ],
)
def test_mistakes_are_told(write, text: str, line: int, message: str, hint: str | None):
    path = write(text)
    with pytest.raises(RuleError) as caught:
        load_rules([path])
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_every_mistake_of_a_file_is_told():
    draft = parse("[indicators.a]\nx=1\n[indicators.b]\n[rules.c]\n[what]\n", "f.toml")
    assert [error.line for error in draft.errors] == [2, 3, 4, 5]


def test_references_are_checked_in_every_rule():
    text = RULE + 'any = ["@memdf"]\n' + RULE.replace("net.r", "net.s") + 'any = ["nothing"]\n'
    joined = join([*read_packs(), parse(text, "f.toml")])
    assert [error.line for error in joined.errors] == [5, 10]


def test_unreadable_files(tmp_path: Path):
    with pytest.raises(RuleError, match=r"nothing\.toml: can't be read: No such file"):
        load_rules([tmp_path / "nothing.toml"])
    with pytest.raises(RuleError, match="can't be read: Is a directory"):
        load_rules([tmp_path])
    (tmp_path / "latin.toml").write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(RuleError, match=r"latin\.toml:2: not UTF-8"):
        load_rules([tmp_path / "latin.toml"])


def test_deep_nesting_is_refused(write):
    with pytest.raises(RuleError, match="nested too deeply"):
        load_rules([write("a = " + "[" * 100_000 + "]" * 100_000)])


# Limits


def test_too_many_groups(write):
    text = "".join(
        f'[indicators.g{number}]\nwhere = "args"\nmatch = "whole"\nvalues = ["x"]\n'
        for number in range(loading.GROUPS_MAX)
    )
    with pytest.raises(RuleError, match=f"there is room for {loading.GROUPS_MAX}"):
        load_rules([write(text)])


def test_too_many_states(write, monkeypatch: pytest.MonkeyPatch):
    load_rules([write(GOOD)])
    monkeypatch.setattr(loading, "STATES_MAX", 20)
    with pytest.raises(RuleError, match="more than 20 states"):
        load_rules([write(GOOD)])


def test_too_many_that_end_alike(write):
    values = ", ".join(f'"{"x" * length}"' for length in range(3, loading.OUTPUTS_MAX + 4))
    text = GOOD.replace('"--mine"', values)
    with pytest.raises(RuleError, match="indicators end where") as caught:
        load_rules([write(text)])
    assert caught.value.line == 1


def test_our_own_group_leaves_room_for_those_that_end_alike():
    ends = [value.lower() for value in INTERPRETER_GROUP.values]
    alike = max(sum(value.endswith(end) for end in ends) for value in ends)
    assert loading.OUTPUTS_MAX + alike <= 32  # LIST_MAX of probes/knowledge.bpf.h


#: Groups that are left for rule files and a policy, which has a dozen.
FOR_USERS = 100


def test_limits_hold_for_the_packs():
    rules = load_rules()
    states = rules.automaton.next.size // rules.automaton.class_count
    # what the kernel's map and a second-level cache bear
    assert states < 16_384
    assert len(rules.groups) <= loading.GROUPS_MAX - FOR_USERS
    assert rules.automaton.output_count.max() <= loading.OUTPUTS_MAX // 2


# Remarks


def test_duplicates_are_remarked(write):
    text = GOOD.replace('["--mine"]', '["--mine",\n"--MINE"]').replace('["mine"]', '["mine", "mine"]')
    remarks = load_rules([write(text)]).remarks
    assert [(remark.line, remark.message) for remark in remarks] == [
        (5, "'--MINE' is there already"),
        (10, "'mine' is there already"),
    ]


def test_case_sensitive_values_differ(write):
    text = GOOD.replace('["--mine"]', '["--mine", "--MINE"]\ncase = true')
    assert load_rules([write(text)]).remarks == ()


@pytest.mark.parametrize("match", ["substring", "word", "domain"])
def test_short_indicators_are_remarked(write, match: str):
    text = GOOD.replace("prefix", match).replace("--mine", "ab")
    (remark,) = load_rules([write(text)]).remarks
    assert "will match by chance" in remark.message
    assert remark.line == 1


def test_unused_groups_are_remarked(write):
    (remark,) = load_rules([write(GROUP)]).remarks
    assert remark.message == "no rule uses group 'g'"


def test_the_packs_give_no_cause():
    assert load_rules().remarks == ()


# Whatever is written, it is either read or explained


@given(st.text(alphabet="[]{}=\"'.,#\n abx1\\", max_size=80) | st.text(max_size=40))
@settings(max_examples=300)
def test_any_text(text: str):
    try:
        tomllib.loads(text)
        valid = True
    except tomllib.TOMLDecodeError:
        valid = False
    draft = parse(text, "f.toml")
    if not valid:
        assert draft.errors[0].message.startswith("not valid TOML")


VALUE = st.recursive(
    st.sampled_from(["name", "args", "whole", "exec", "low", "@memfd", "", "é", 0, 1, -1, True, 1.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["all", "any"]), inner),
    max_leaves=5,
)


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


KEYS = ["where", "match", "case", "values", "extend", "title", "on", "severity", "attack", "remedy", "action"]
KEYS += ["enabled", "when", "all", "any", "at_least", "none"]


@given(
    st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=6),
    st.sampled_from(["[indicators.g]", '[rules."net.r"]', '[rules."miner.command"]', "[indicators.readers]"]),
)
@settings(max_examples=500)
def test_any_keys_and_values(body: dict[str, object], header: str):
    text = header + "\n" + "".join(f"{key} = {toml(value)}\n" for key, value in body.items())
    joined = join([*PACKS, parse(text, "f.toml")])
    for error in joined.errors:
        assert error.path == "f.toml" or "can't be" not in error.message
        assert error.line
        assert error.hint


PACKS = read_packs()
