# SPDX-License-Identifier: Apache-2.0
"""Connects to UNIX sockets, as the kernel that can tell of them does."""

from __future__ import annotations

from conftest import kernel_lacks
from harness import record, workload

from tracer.evidence.programs import local_name
from tracer.kernel.trial import usable


def test_names_of_every_kind():
    if usable(["on_connect_local"])["on_connect_local"] is not None:
        kernel_lacks("hook for UNIX sockets (Linux 6.7)")
    long = "/" + "a" * 106  # the longest that Python takes
    found = record(
        workload("connects_locally", "/run/nobody/docker.sock", "@abstract", "relative.sock", long)
    )
    assert found.status == 0
    rows = found.of("local-connect")
    assert [local_name(row).decode() for row in rows] == [
        "/run/nobody/docker.sock", "@abstract", "relative.sock", long,
    ]  # fmt: skip
    assert {int(row["tgid"]) for row in rows} == {found.root}
    assert [(a.rule.id, a.evidence["socket"]) for a in found.alerts] == [
        ("net.runtime-socket", "/run/nobody/docker.sock")
    ]
    assert found.summary is not None
    assert found.summary.lost_total == 0
