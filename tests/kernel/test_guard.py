# SPDX-License-Identifier: Apache-2.0
"""What is enforced is stopped before it does anything; what is only observed goes on, and says what would be."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from harness import Recording, guarded, record

from tracer.kernel import schema

PORT = 4433
RULES = f"""
[indicators.bad-port]
where = "port"
values = ["{PORT}"]
[indicators.bad-word]
where = ["sent", "received"]
match = "substring"
case = true
values = ["BADWORD"]
[indicators.freezing]
where = "args"
match = "argument"
values = ["freeze-me"]
[indicators.ending]
where = "args"
match = "argument"
values = ["end-all"]
[rules."net.bad-port"]
title = "A port that is not to be used"
on = "connect"
severity = "high"
action = "block"
any = ["bad-port"]
[rules."net.bad-word"]
title = "A word that is not to be said"
on = "flow"
severity = "high"
action = "block"
any = ["bad-word"]
[rules."net.bad-listener"]
title = "A port that is not to be served"
on = "listen"
severity = "high"
action = "block"
all = ["bad-port", "@external"]
[rules."exec.freezing"]
title = "A program that stops its tree"
on = "exec"
severity = "high"
action = "freeze"
any = ["freezing"]
[rules."exec.ending"]
title = "A program that ends its tree"
on = "exec"
severity = "high"
action = "kill-tree"
any = ["ending"]
"""
#: What it does first is make a file; then it ends.
MINER = r"""
#if defined(__x86_64__)
asm(".globl _start\n_start: mov $2,%eax\nlea name(%rip),%rdi\nmov $0x41,%esi\nmov $0644,%edx\nsyscall\n"
    "mov $60,%eax\nxor %edi,%edi\nsyscall\nname: .asciz \"mark\"\n");
#elif defined(__aarch64__)
asm(".globl _start\n_start: mov x8,#56\nmov x0,#-100\nadr x1,name\nmov x2,#0x41\nmov x3,#0644\nsvc #0\n"
    "mov x8,#93\nmov x0,#0\nsvc #0\nname: .asciz \"mark\"\n");
#endif
"""


@pytest.fixture
def rules(tmp_path):
    file = tmp_path / "guard.toml"
    file.write_text(RULES)
    return [file]


@pytest.fixture(scope="session")
def miner(tmp_path_factory) -> Path:
    """A folder with it, and a script that it is the interpreter of."""
    folder = tmp_path_factory.mktemp("miner")
    folder.chmod(0o755)
    (folder / "miner.c").write_text(MINER)
    subprocess.run(
        ["cc", "-static", "-nostdlib", "-o", "xmrig", "miner.c"], cwd=folder, check=True, capture_output=True
    )
    (folder / "xmrig-script").write_text(f"#!{folder}/xmrig\n")
    (folder / "xmrig-script").chmod(0o755)
    return folder


def ends_of(folder: Path) -> dict[str, int]:
    return json.loads((folder / "ends.json").read_text())


def told(run: Recording, rule: str) -> list:
    return [alert for alert in run.alerts if alert.rule.id == rule]


@pytest.mark.parametrize(
    "how", ["plain", "vfork", "at", "memfd", pytest.param("script", marks=pytest.mark.guest), "thread"]
)
def test_no_instruction_of_a_miner_runs(miner, how):
    (miner / "mark").unlink(missing_ok=True)
    count = 1000 if how in ("plain", "vfork") else 200
    run = record(guarded("executions", miner, how, count), enforce=True, keep_events=False)
    assert not (miner / "mark").exists()
    assert ends_of(miner) == {"-9": count}
    alerts = told(run, "miner.command")
    assert len(alerts) == count
    assert {alert.response.action for alert in alerts} == {"killed"}
    assert not any(alert.response.error for alert in alerts)
    assert run.summary.acted == {"kill": count}
    for alert in alerts:
        assert alert.hook_ns < alert.response.effect_ns < alert.engine_ns, (
            "the probe did it, before anybody else"
        )


def test_a_thousand_miners_at_once(miner):
    (miner / "mark").unlink(missing_ok=True)
    run = record(guarded("at_once", miner, 1000), enforce=True, keep_events=False)
    assert not (miner / "mark").exists()
    assert ends_of(miner) == {"-9": 1000}
    assert run.summary.lost_total == 0


def test_observed_it_runs_and_says_what_would_be(miner):
    (miner / "mark").unlink(missing_ok=True)
    run = record(guarded("executions", miner, "plain", 3))
    assert (miner / "mark").exists()
    assert ends_of(miner) == {"0": 3}
    assert {(a.response.action, a.response.would) for a in told(run, "miner.command")} == {("none", "killed")}
    assert run.summary.acted == {}
    assert run.summary.tally.would == {"killed": 3}
    (exec_, *_) = [e for e in run.execs() if e.path.endswith(b"/xmrig")]
    assert int(exec_.fixed["actions"]) == 1 << schema.ACTION["ACTION_KILL"]
    assert int(exec_.fixed["done"]) == 0


@pytest.mark.guest
def test_a_connection_is_refused_however_it_is_asked_for(tmp_path, rules):
    out = tmp_path / "out.json"
    run = record(guarded("connections", out, PORT), rules=rules, enforce=True)
    found = json.loads(out.read_text())
    assert len(found) == 7
    assert set(found.values()) == {"EPERM"}, found
    alerts = told(run, "net.bad-port")
    assert len(alerts) == 7
    assert {alert.response.action for alert in alerts} == {"blocked"}
    assert run.summary.acted["block"] == 7
    assert not run.of("flow-open")


def test_observed_connections_go_through(tmp_path, rules):
    out = tmp_path / "out.json"
    run = record(guarded("connections", out, PORT), rules=rules)
    assert "EPERM" not in json.loads(out.read_text()).values()
    assert {alert.response.would for alert in told(run, "net.bad-port")} == {"blocked"}


@pytest.mark.guest
def test_a_cut_flow_carries_no_byte_of_the_verdict(tmp_path, rules):
    out = tmp_path / "out.json"
    run = record(
        guarded("conversation", out, "127.0.0.1", 4000, "hello", "a BADWORD", "more"),
        rules=rules,
        enforce=True,
    )
    found = json.loads(out.read_text())
    assert found["heard"] == "hello"
    assert found["said"] == 1
    reset = ("ConnectionResetError", "[Errno 104] Connection reset by peer")
    assert (found["near"], found["far"]) == reset, "neither end is left to wait"
    alerts = told(run, "net.bad-word")
    assert {alert.response.action for alert in alerts} == {"blocked"}
    assert run.summary.packets_dropped


def test_an_observed_flow_goes_on(tmp_path, rules):
    out = tmp_path / "out.json"
    run = record(guarded("conversation", out, "127.0.0.1", 4000, "hello", "a BADWORD", "more"), rules=rules)
    assert json.loads(out.read_text())["heard"] == "helloa BADWORDmore"
    assert {a.response.would for a in told(run, "net.bad-word")} == {"blocked"}
    assert run.summary.packets_dropped == 0


@pytest.mark.guest
def test_datagrams_are_cut(tmp_path, rules):
    out = tmp_path / "out.json"
    record(guarded("datagrams", out, 4000, "BADWORD", "more"), rules=rules, enforce=True)
    found = json.loads(out.read_text())
    assert found == {"sent": ["EPERM", "EPERM"], "heard": [None, None]}


def test_a_listener_is_not_reached(tmp_path, rules):
    out = tmp_path / "out.json"
    other = tmp_path / "rules.toml"
    other.write_text(RULES.replace('on = "connect"\nseverity = "high"', 'on = "connect"\nseverity = "low"'))
    run = record(guarded("listening", out, PORT), rules=[other], enforce=True)
    assert json.loads(out.read_text()) != "reached"
    (alert,) = told(run, "net.bad-listener")
    assert alert.response.action == "blocked"


def test_a_tree_is_ended_as_a_whole(tmp_path, rules):
    """While it forks as fast as it can."""
    command = f"import os,sys; sys.path.insert(0,{str(Path(__file__).parent)!r}); import guarded; "
    command += "pid=os.fork()\nif pid: guarded.bomb('5')\nelse:\n import time; time.sleep(0.5); "
    command += "os.execv('/bin/true',['true','end-all'])"
    began = time.monotonic()
    run = record(["python3", "-c", command], rules=rules, enforce=True, keep_events=False)
    took = time.monotonic() - began
    (alert,) = told(run, "exec.ending")
    assert alert.response.action == "killed", alert.response
    assert run.status == 128 + 9
    effect = (alert.response.effect_ns - alert.hook_ns) / 1e9
    print(f"ended after {effect * 1e3:.1f} ms")  # a test must not fail on an absolute time
    assert effect < took / 2, "it is not the bomb that ends by itself"


def test_a_frozen_tree_uses_no_processor(tmp_path, rules):
    seen = []

    def look(watch, found):
        cgroup = watch.responder._cgroup
        if told(found, "exec.freezing"):
            usage = [line for line in (cgroup / "cpu.stat").read_text().splitlines() if "usage_usec" in line]
            seen.append((time.monotonic(), int(usage[0].split()[1])))
            if seen[-1][0] - seen[0][0] > 0.7:
                from tracer.respond.acts import freeze

                freeze(watch._identities, cgroup, thaw=True)

    line = f"{guarded('spin', 3)[0]} {guarded('spin', 3)[1]} spin 2 & /bin/true freeze-me; wait"
    run = record(["sh", "-c", line], rules=rules, enforce=True, between=look)
    (alert,) = told(run, "exec.freezing")
    assert alert.response.action == "frozen"
    frozen = [usage for at, usage in seen if at - seen[0][0] < 0.6]
    assert len(frozen) >= 2
    assert frozen[-1] - frozen[1 if len(frozen) > 2 else 0] < 20_000, "µs of processor while frozen"
    assert run.status == 0
