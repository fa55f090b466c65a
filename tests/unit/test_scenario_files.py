# SPDX-License-Identifier: Apache-2.0
"""Scenario files: what they may say, what is wrong where, and what comes of which alerts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tracer.errors import ScenarioError, VigilesError
from tracer.scenario.find import corpus_folder, files, resolve
from tracer.scenario.services import expand
from tracer.scenario.spec import Expected, Service, parse, read
from tracer.scenario.table import Score
from tracer.scenario.verdict import BROKEN, CAUGHT, FALSE_ALARM, MISSED, QUIET, STOPPED, Flag, Result, judge

CORPUS = Path(__file__).resolve().parents[1] / "scenarios"
PATH = Path("/corpus/malicious/some-tunnel.toml")
MALICIOUS = """\
title = "A tunnel"
kind = "malicious"
needs = ["ssh", "python:paramiko"]
timeout = 5
names = { "pool.example" = "pool" }

[[services]]
host = "proxy"
run = "true"
ready = "tcp:22"

[run]
script = "true"

[expect]
alerts = [{ rule = "tunnel.*", severity = "high" }]
never = ["miner.*"]
"""
BENIGN = 'title = "Work"\nkind = "benign"\n[run]\nscript = "true"\n[expect]\nallow = ["tunnel.ssh-local"]\n'


def flag(rule: str, severity: str) -> Flag:
    return Flag(rule, severity, 100.0, 1, "/bin/x", {})


def judged(text: str, *flags: Flag) -> Result:
    result = Result(parse(text, PATH), BROKEN, flags=list(flags))
    judge(result)
    return result


def test_a_file_is_read():
    found = parse(MALICIOUS, PATH)
    assert found.name == "malicious/some-tunnel"
    assert found.hosts == ("inside", "outside", "proxy", "pool")
    assert found.services == (Service("proxy", "true", "tcp:22"),)
    assert found.alerts == (Expected("tunnel.*", "high"),)
    assert (found.timeout, found.launcher, found.status, found.pending) == (5.0, "sh", 0, None)


def test_a_detector_that_waits_for_minutes_can_be_given_other_numbers():
    found = parse(BENIGN + "[watch.thresholds.effort]\nseconds = 1\n", PATH)
    assert found.thresholds == {"effort": {"seconds": 1}}
    for wrong in ("[watch.thresholds.efort]\nseconds = 1", "[watch.thresholds.effort]\nsecond = 1"):
        with pytest.raises(ScenarioError) as caught:
            parse(BENIGN + wrong + "\n", PATH)
        assert "unknown key" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('kind = "malicious"', 'kind = "malicous"', 2, "malicous"),
        ("timeout = 5", "timeout = 5000", 4, "no time"),
        ("timeout = 5", "timeouts = 5", 4, "unknown key 'timeouts'"),
        ('ready = "tcp:22"', 'ready = "soon"', 10, "no sign"),
        ('host = "proxy"', 'host = "Proxy 2"', 8, "can't name a host"),
        ('= "pool" }', '= "a pool" }', 5, "can't name a host"),
        ('[run]\nscript = "true"', "[run]", 12, "'script' is missing"),
        ('script = "true"', "script = 1", 13, "must be a string"),
        ('script = "true"', 'script = "true"\nlauncher = "zsh"', 14, "launcher = 'zsh'"),
        ('severity = "high"', 'severity = "loud"', 16, "loud"),
        ("[expect]\nalerts", "[expect]\nallow = []\nalerts", 16, "unknown key 'allow'"),
        ('alerts = [{ rule = "tunnel.*", severity = "high" }]', "", 15, "expects no alert"),
        ('kind = "malicious"', "kind = ", 2, "not valid TOML"),
    ],
)
def test_mistakes_are_told_by_line(old, new, line, words):
    assert old in MALICIOUS
    with pytest.raises(ScenarioError, match=words.replace("(", r"\(")) as caught:
        parse(MALICIOUS.replace(old, new, 1), PATH)
    assert (caught.value.path, caught.value.line) == (str(PATH), line)
    assert str(caught.value).startswith(f"{PATH}:{line}: ")


@pytest.mark.parametrize(
    ("text", "flags", "verdict"),
    [
        (MALICIOUS, [flag("tunnel.tool", "high")], CAUGHT),
        (MALICIOUS, [flag("tunnel.tool", "critical"), flag("shell.reverse", "high")], CAUGHT),
        (MALICIOUS, [flag("tunnel.tool", "medium")], MISSED),
        (MALICIOUS, [], MISSED),
        (MALICIOUS, [flag("tunnel.tool", "high"), flag("miner.command", "low")], FALSE_ALARM),
        (BENIGN, [], QUIET),
        (BENIGN, [flag("tunnel.ssh-local", "medium")], QUIET),
        (BENIGN, [flag("tunnel.ssh-local", "high")], FALSE_ALARM),
        (BENIGN, [flag("tunnel.tool", "low")], FALSE_ALARM),
    ],
)
def test_verdicts(text, flags, verdict):
    result = judged(text, *flags)
    assert result.verdict == verdict
    assert result.passed == (verdict in {CAUGHT, QUIET})


@pytest.mark.parametrize("severity", ["medium", "high"])
def test_what_another_rule_has_stopped_is_stopped(severity):
    """A key that is written ends the script at once, if its writer still lives; the tunnel then never comes."""
    result = Result(
        parse(MALICIOUS.replace('severity = "high"', f'severity = "{severity}"'), PATH), BROKEN, enforced=True
    )
    judge(result)
    assert result.verdict == MISSED
    result.flags = [replace(flag("foothold.ssh-key", "high"), action="killed")]
    judge(result)
    assert (result.verdict, result.passed) == (STOPPED, True)


def test_what_is_pending_may_be_missed_but_not_broken():
    text = MALICIOUS.replace("timeout = 5", 'pending = "not yet"')
    assert judged(text).passed
    assert not Result(parse(text, PATH), BROKEN).passed


def test_the_score_leaves_out_what_did_not_run():
    hit, miss = judged(MALICIOUS, flag("tunnel.tool", "high")), judged(MALICIOUS)
    alarm = judged(BENIGN, flag("tunnel.tool", "high"))
    score = Score.of([hit, hit, hit, miss, alarm, judged(BENIGN), Result(hit.scenario, BROKEN)])
    assert (score.precision, score.recall) == (0.75, 0.75)
    assert (Score.of([]).precision, Score.of([]).recall) == (None, None)


def test_names_expand_whole():
    assert expand("$OUTSIDE6 $OUTSIDE", {"OUTSIDE": "a", "OUTSIDE6": "b"}) == "b a"


def test_the_corpus_can_be_read():
    found = [read(path) for path in files(CORPUS)]
    assert {scenario.kind for scenario in found} == {"malicious", "benign"}
    assert all(scenario.kind == scenario.path.parent.name for scenario in found)
    assert len({scenario.name for scenario in found}) == len(found)
    assert [s.name for s in found if s.kind == "benign" and s.pending] == []


def test_every_scenario_names_its_licence():
    without = [
        p.name for p in files(CORPUS) if not p.read_text().startswith("# SPDX-License-Identifier: Apache")
    ]
    assert without == []


def test_scenarios_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(CORPUS / "benign")
    assert corpus_folder() == CORPUS
    assert [p.name for p in resolve(["ssh-reverse", "benign/git-ssh"], None)] == [
        "ssh-reverse.toml",
        "git-ssh.toml",
    ]
    assert set(resolve(["benign", "malicious"], None)) == set(files(CORPUS))
    with pytest.raises(VigilesError, match="no scenario 'ssh-revers'") as caught:
        list(resolve(["ssh-revers"], None))
    assert "ssh-reverse" in caught.value.hint
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VigilesError, match="no tests/scenarios"):
        corpus_folder()


def test_the_sample_in_the_documentation_can_be_read():
    text = (CORPUS.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (sample,) = [block for block in text.split("```") if block.startswith("toml\ntitle =")]
    found = parse(sample.removeprefix("toml\n"), PATH)
    assert found.launcher == "agent" and found.alerts and found.never
