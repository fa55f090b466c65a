# SPDX-License-Identifier: Apache-2.0
"""A program that is named by its file is that file, whatever it is called; another under its name is not."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from harness import record

from tracer.kernel.rungs import refuses
from tracer.policy import apply_policy
from tracer.policy.parse import parse
from tracer.rules import RuleSet, load_rules

#: Run it as it is, renamed, by a hard link; then a copy under its old name; then itself, written to.
SCRIPT = """
T=$1
"$T"; a=$?
mv "$T" "$T-2"; "$T-2"; b=$?
ln "$T-2" "$T-3"; "$T-3"; c=$?
cp -p "$T-2" "$T"; "$T"; d=$?
echo >>"$T-3"; "$T-2"; e=$?
echo $a $b $c $d $e >"$2"
"""
KILLED = 128 + 9
#: What the process is before it runs the script.
PYTHON = Path(sys.executable).resolve()


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    return Path(shutil.copy("/bin/true", tmp_path / "tool"))


def under(text: str) -> RuleSet:
    parsed = parse(text, "f.toml")
    assert not parsed.errors
    return apply_policy(parsed.policy, load_rules([]))


def ends(tool: Path, policy: str, *, enforce: bool = True) -> tuple[list[int], list]:
    out = tool.with_name("out")
    run = record(["sh", "-c", SCRIPT, "sh", str(tool), str(out)], known=under(policy), enforce=enforce)
    alerts = [alert for alert in run.alerts if alert.rule.family == "exec"]
    for alert in alerts:
        assert alert.hook_ns < alert.response.effect_ns < alert.engine_ns or not enforce, "the probe did it"
    return [int(word) for word in out.read_text().split()], alerts


@pytest.mark.guest
def test_what_is_allowed_is_the_file_as_it_was(tool):
    allow = f'[exec]\nallow = ["/usr/*", "{PYTHON}", "file:{tool}"]\nallow_action = "kill"\n'
    found, alerts = ends(tool, allow)
    assert found == [0, 0, 0, KILLED, KILLED]
    assert [(a.rule.id, a.response.action) for a in alerts] == [("exec.not-allowed", "killed")] * 2


def test_what_is_forbidden_is_the_file_whatever_is_in_it(tool):
    deny = f'[exec]\ndeny = ["file:{tool}"]\ndeny_action = "kill"\n'
    found, alerts = ends(tool, deny)
    assert found == [KILLED, KILLED, KILLED, 0, KILLED]
    assert {a.rule.id for a in alerts} == {"exec.denied"}


def test_observed_it_runs(tool):
    found, alerts = ends(tool, f'[exec]\ndeny = ["file:{tool}"]\ndeny_action = "kill"\n', enforce=False)
    assert found == [0] * 5
    assert {(a.response.action, a.response.would) for a in alerts} == {("none", "killed")}


@pytest.mark.skipif(refuses(), reason="it is refused here: test_refuse.py")
@pytest.mark.guest
def test_blocked_without_bpf_lsm_it_is_killed(tool):
    found, alerts = ends(tool, f'[exec]\ndeny = ["file:{tool}"]\ndeny_action = "block"\n')
    assert found == [KILLED, KILLED, KILLED, 0, KILLED]
    assert {a.response.action for a in alerts} == {"killed"}
