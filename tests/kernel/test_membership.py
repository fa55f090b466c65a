# SPDX-License-Identifier: Apache-2.0
"""Who is in the tree stays in it, whatever it does."""

from __future__ import annotations

import sys

import pytest
from harness import record, workload

from tracer.kernel import host, schema


def trues(found) -> list[list[bytes]]:
    return [e.argv for e in found.execs() if e.path.endswith(b"/true")]


def test_setsid():
    assert trues(record(workload("setsid_exec"))) == [[b"true", b"after-setsid"]]


def test_double_fork_and_reparenting():
    found = record(workload("double_fork_exec"))
    (late,) = [e for e in found.execs() if e.path.endswith(b"/true")]
    assert late.argv[1] == b"after-double-fork"
    middle = next(e for e in found.of("fork") if e["tgid"] == late.pid)["parent_tgid"]
    assert late.fixed["parent_tgid"] != middle  # init or a subreaper has taken it over
    assert next(e for e in found.of("fork") if e["tgid"] == middle)["parent_tgid"] == found.root


def test_exec_by_a_thread_keeps_the_process():
    found = record(workload("thread_exec"))
    (late,) = [e for e in found.execs() if e.path.endswith(b"/true")]
    assert late.pid == found.root
    assert late.has("EXEC_THREAD")
    starts = {int(e["start"]) for e, _ in found.events if e["tgid"] == found.root}
    assert len(starts) == 1
    assert len(found.of("exit")) == 1


def test_vfork():
    found = record([sys.executable, "-c", "import subprocess as s; s.run(['/bin/true', 'vforked'])"])
    assert [b"/bin/true", b"vforked"] in trues(found)


def test_leaving_the_cgroup():
    found = record(workload("leave_cgroup_exec", host.cgroup2_root()))
    assert len(trues(found)) == 1
    (connect,) = found.of("connect")
    assert connect["flags"] & schema.FLOW_FLAG["FLOW_OUTSIDE"]


def test_never_in_the_cgroup():
    found = record(workload("refused", 3), own_cgroup=False)
    assert len(found.of("connect")) == 3


@pytest.mark.parametrize(
    "depth", [200, pytest.param(600, marks=(pytest.mark.slow, pytest.mark.timeout(300)))]
)
def test_ancestry(depth, tmp_path):
    rules = tmp_path / "r.toml"
    rules.write_text(
        '[indicators.bottom]\nwhere = "args"\nmatch = "whole"\nvalues = ["at-the-bottom"]\n'
        '[rules."exec.bottom"]\ntitle = "t"\non = "exec"\nany = ["bottom"]\nseverity = "low"\nremedy = "r"\n'
    )
    found = record(workload("chain", depth), rules=[rules])
    (alert,) = found.alerts
    assert len(alert.ancestry) == min(depth + 1, 256)
    if depth == 200:
        assert alert.ancestry[-1][0] == found.root
        assert len({pid for pid, _ in alert.ancestry}) == depth + 1


def test_a_reused_pid_is_somebody_else():
    found = record(workload("reuse_pid"))
    first, second = (e for e in found.execs() if e.path.endswith(b"/true"))
    assert first.pid == second.pid
    assert first.fixed["start"] != second.fixed["start"]
    assert found.summary.tables["exits-missed"] == 0
