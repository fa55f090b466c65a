# SPDX-License-Identifier: Apache-2.0
"""The probes for kernels that do not describe their types see what the others see."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import kernel_lacks
from harness import record, workload
from test_exactness import CHANNEL, GPU, RM_ALLOC, gpu_options

from tracer.alerts import Alert
from tracer.errors import HostError
from tracer.kernel import bcc, host, loader, rungs, schema
from tracer.kernel.loader import Loader
from tracer.kernel.probes import by_rungs, hooks, needs_kin, unseen

pytestmark = pytest.mark.guest
PATIENCE_S = 60.0
CHILDREN = 200
#: struct members_kept of probes/compat.bpf.h and its key.
KEY_BYTES, MARK_BYTES = 4, 32
POOL = "stratum+tcp://pool.example.com:3333"


def forget() -> None:
    """What has been found out by the other loader's programs."""
    for found in (needs_kin, by_rungs, rungs.gpu_rung, rungs.complaint_about):
        found.cache_clear()


@pytest.fixture
def take(monkeypatch) -> Iterator:
    """Go on by another loader."""

    def do(taken: Loader | None) -> None:
        monkeypatch.setattr(loader, "_taken", taken)
        forget()

    yield do
    monkeypatch.undo()
    forget()


@pytest.fixture
def plain(take) -> None:
    """These probes, placed by what the running kernel says of its types."""
    take(Loader("bcc", "asked for"))


def told(run) -> list[tuple[str, str, str]]:
    return sorted(
        (said["rule"], Path(said["exe"]).name, said["severity"]) for said in map(Alert.to_json, run.alerts)
    )


def mine(tmp_path: Path) -> list[str]:
    miner = tmp_path / "xmrig"
    shutil.copy(shutil.which("true"), miner)
    return ["/bin/sh", "-c", f"{miner} -o {POOL} & wait; true"]


def test_programs_take_no_types_of_the_kernel(plain):
    names = {hook.program for hook in hooks()}
    assert {"on_fork", "on_exec", "on_exit", "on_free", "on_tcp_ops", "on_egress"} <= names
    assert not {hook.place for hook in hooks()} & {"iterator", "lsm", "local"}
    assert "on_sample" in unseen()
    assert not {"on_tcp_state", "on_task"} & set(unseen()), "there is something else for these"


def test_everything_arrives(plain):
    run = record(
        workload("everything", GPU, RM_ALLOC, CHANNEL, os.getpid(), 0, host.cgroup2_root()), gpu_options()
    )
    seen = {schema.KIND_NAME[kind] for kind in schema.SENT_KINDS if run.of(schema.KIND_NAME[kind])}
    assert {"fork", "exec", "exit", "connect", "listen", "flow-open", "flow-close"} <= seen
    assert {"first-bytes", "span", "gpu-open", "gpu-ioctl", "gpu-counts"} <= seen
    assert run.summary.lost_total == 0


def test_a_miner_gives_the_same_alerts(take, tmp_path):
    command = mine(tmp_path)
    take(None)
    by_libbpf = record(command)
    take(Loader("bcc", "asked for"))
    by_bcc = record(command)
    assert told(by_bcc) == told(by_libbpf)
    assert "miner.command" in {rule for rule, _, _ in told(by_bcc)}
    assert by_bcc.summary.loader == "bcc"


def test_enforced_it_is_killed_before_it_runs(plain, tmp_path):
    run = record(mine(tmp_path), enforce=True)
    (alert,) = [alert for alert in run.alerts if alert.rule.id == "miner.command"]
    assert alert.to_json()["action"] == "killed"


def test_marks_are_given_back(plain):
    counts = []

    def look(watch, _found):
        counts.append(len(watch.probes.map("members").items(KEY_BYTES, MARK_BYTES)))

    run = record(workload("forks", CHILDREN), between=look)
    assert run.status == 0
    assert len(run.of("fork")) >= CHILDREN
    assert 1 <= counts[-1] < CHILDREN // 2


def test_with_types_that_bcc_has_compiled(take, tmp_path):
    try:
        take(loader.choose("bcc"))
    except HostError as error:
        kernel_lacks(f"headers that bcc finds, or there is no bcc: {error.message}")
    began = time.monotonic()
    assert bcc.kernel_types() == loader.taken().types
    assert time.monotonic() - began < PATIENCE_S, "it is kept"
    run = record(mine(tmp_path))
    assert "miner.command" in {rule for rule, _, _ in told(run)}
    assert run.summary.lost_total == 0
