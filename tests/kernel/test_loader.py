# SPDX-License-Identifier: Apache-2.0
"""The probes for kernels that do not describe their types see what the others see."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import kernel_lacks
from harness import record, workload
from test_exactness import CHANNEL, GPU, RM_ALLOC, gpu_options

from tracer.alerts import Alert
from tracer.errors import HostError
from tracer.kernel import bcc, fit, host, loader, rungs, schema, trial
from tracer.kernel.doctor import examine
from tracer.kernel.hooks import LEFT_OUT
from tracer.kernel.loader import Loader

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
CHILDREN = 200
#: struct members_kept of probes/compat.bpf.h and its key.
KEY_BYTES, MARK_BYTES = 4, 32
POOL = "stratum+tcp://pool.example.com:3333"


def forget() -> None:
    """What has been found out by the other loader's programs."""
    for found in (trial.needs_kin, rungs.taken, rungs.complaint_about):
        found.cache_clear()


@pytest.fixture
def take(monkeypatch) -> Iterator:
    """Go on by another loader."""
    monkeypatch.setattr(loader, "_taken", loader._taken)  # put back, whoever else changes it

    def do(taken: Loader | None) -> None:
        monkeypatch.setattr(loader, "_taken", taken)
        forget()

    yield do
    monkeypatch.undo()
    forget()


@pytest.fixture
def plain(take) -> None:
    """These probes, placed by what the running kernel says of its types."""
    take(Loader("bcc", "asked for", host.BTF_FILE))


def told(run) -> list[tuple[str, str, str]]:
    return sorted(
        (said["rule"], Path(said["exe"]).name, said["severity"]) for said in map(Alert.to_json, run.alerts)
    )


def mine(tmp_path: Path) -> list[str]:
    miner = tmp_path / "xmrig"
    shutil.copy(shutil.which("true"), miner)
    return ["/bin/sh", "-c", f"{miner} -o {POOL} & wait; true"]


def test_programs_take_no_types_of_the_kernel(plain):
    names = {hook.program for hook in rungs.hooks()}
    assert {"on_fork", "on_exec", "on_exit", "on_free", "on_tcp_ops", "on_egress"} <= names
    assert not {hook.place for hook in rungs.hooks()} & {"iterator", "lsm", "local"}


def test_what_they_leave_out_is_listed(take, plain):
    """But for what another program shows, what /proc does, and BPF LSM, which few kernels ask."""
    here = rungs.hooks()
    take(None)
    gone = set(rungs.hooks()) - set(here)
    assert "on_task" in {hook.program for hook in gone if hook.needed}
    shown = {hook.shows for hook in here}
    missed = {h.program for h in gone if h.shows not in shown and h.place != "lsm" and not h.needed}
    assert missed - {"on_sample_files"} == set(LEFT_OUT), "on_sample stands for both"
    assert rungs.unseen() == {}


def test_what_is_not_seen_is_told(plain):
    """By doctor, with what rules are thereby without."""
    report = examine("libbpf", host.BTF_FILE)
    said = {f.name: f.text for f in report.findings if f.section == "hook" and "not seen:" in f.text}
    assert set(said) == {program.removeprefix("on_") for program in LEFT_OUT}
    for program, left_out in LEFT_OUT.items():
        text = said[program.removeprefix("on_")]
        assert left_out.why in text
        assert all(word in text for word in left_out.on + left_out.in_part)
    assert rungs.unseen() == {program: left_out.why for program, left_out in LEFT_OUT.items()}


@pytest.mark.guest
def test_everything_arrives(plain):
    run = record(
        workload("everything", GPU, RM_ALLOC, CHANNEL, os.getpid(), 0, host.cgroup2_root()), gpu_options()
    )
    seen = {schema.KIND_NAME[kind] for kind in schema.SENT_KINDS if run.of(schema.KIND_NAME[kind])}
    assert {"fork", "exec", "exit", "connect", "listen", "flow-open", "flow-close"} <= seen
    assert {"first-bytes", "span", "gpu-open", "gpu-ioctl", "gpu-counts"} <= seen
    assert run.summary.lost_total == 0


@pytest.mark.guest
def test_a_miner_gives_the_same_alerts(take, tmp_path):
    command = mine(tmp_path)
    take(None)
    by_libbpf = record(command)
    take(Loader("bcc", "asked for", host.BTF_FILE))
    by_bcc = record(command)
    assert told(by_bcc) == told(by_libbpf)
    assert "miner.command" in {rule for rule, _, _ in told(by_bcc)}
    assert by_bcc.summary.loader == "bcc"


@pytest.mark.guest
def test_enforced_it_is_killed_before_it_runs(plain, tmp_path):
    run = record(mine(tmp_path), enforce=True)
    (alert,) = [alert for alert in run.alerts if alert.rule.id == "miner.command"]
    assert alert.to_json()["action"] == "killed"


@pytest.mark.guest
def test_marks_are_given_back(plain):
    counts = []

    def look(watch, _found):
        counts.append(len(watch.probes.map("members").items(KEY_BYTES, MARK_BYTES)))

    run = record(workload("forks", CHILDREN), between=look)
    assert run.status == 0
    assert len(run.of("fork")) >= CHILDREN
    assert 1 <= counts[-1] < CHILDREN // 2


@pytest.mark.guest
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


def shifted(raw: bytes) -> bytes:
    """BTF (Documentation/bpf/btf.rst) in which all that task_struct has lies eight bytes on, as in another kernel."""
    data = bytearray(raw)
    header, type_at, type_len, string_at = struct.unpack_from("<4x4I", data)
    at, end = header + type_at, header + type_at + type_len
    behind = {1: 4, 3: 12, 14: 4, 17: 4}  # kind -> bytes that follow; others below
    per_member = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    while at < end:
        name, info, _ = struct.unpack_from("<3I", data, at)
        kind, count, at = info >> 24 & 0x1F, info & 0xFFFF, at + 12
        start = header + string_at + name
        if kind == 4 and data[start : data.index(0, start)] == b"task_struct":
            for member in range(at + 8, at + 12 * count, 12):
                (offset,) = struct.unpack_from("<I", data, member)
                struct.pack_into("<I", data, member, offset + 64)
        at += behind.get(kind, 0) + per_member.get(kind, 0) * count
    return bytes(data)


@pytest.mark.guest
def test_types_from_a_file(take, tmp_path):
    """A copy of the kernel's own, as BTFHub has them."""
    types = tmp_path / "types.btf"
    types.write_bytes(host.BTF_FILE.read_bytes())
    take(loader.choose("libbpf", types))
    run = record(mine(tmp_path), enforce=True)
    (alert,) = [alert for alert in run.alerts if alert.rule.id == "miner.command"]
    assert alert.to_json()["action"] == "killed"
    assert str(types) in run.summary.loader_why


@pytest.mark.guest
def test_types_of_another_kernel_are_refused(take, tmp_path):
    types = tmp_path / "other.btf"
    types.write_bytes(shifted(host.BTF_FILE.read_bytes()))
    take(loader.choose("libbpf", types))
    with pytest.raises(HostError, match="does not describe this kernel") as caught:
        fit.require()
    assert "tasks" in caught.value.message
    with pytest.raises(HostError, match="does not describe this kernel"):
        record(["true"])


def test_doctor_tells_them_from_this_ones(take, tmp_path):
    types = tmp_path / "other.btf"
    types.write_bytes(shifted(host.BTF_FILE.read_bytes()))
    (finding,) = [f for f in examine("libbpf", types).findings if f.name == "loader"]
    assert finding.state == "no"
    assert "does not describe this kernel" in finding.text


def test_without_its_own_types_a_kernel_is_watched_by_a_file(tmp_path):
    """The whole command, where there is no /sys/kernel/btf; and what it says without the file."""
    types, empty = tmp_path / "types.btf", tmp_path / "empty"
    types.write_bytes(host.BTF_FILE.read_bytes())
    empty.mkdir()
    mask = f"mount --bind {empty} {host.BTF_FILE.parent} && exec "
    vigiles = [sys.executable, "-c", "from tracer.cli import main; main()"]

    def under(*words: object) -> subprocess.CompletedProcess:
        line = mask + shlex.join([*vigiles, *map(str, words)])
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", line], capture_output=True, text=True, check=False, cwd=ROOT
        )

    done = under("run", "--btf", types, "--json", "--", *mine(tmp_path))
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert "miner.command" in {line.get("rule") for line in lines}
    why = f"the kernel has no BTF, its types are taken from {types}"
    assert lines[-1]["summary"]["loader"] == {"name": "libbpf", "why": why}
    refused = under("run", "--loader", "libbpf", "--", "true")
    assert refused.returncode == 125
    assert "--btf FILE" in refused.stderr
