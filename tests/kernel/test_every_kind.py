# SPDX-License-Identifier: Apache-2.0
"""Every program is attached, and something of each kind arrives: little, and at once."""

from __future__ import annotations

import functools
import shutil
import subprocess

import pytest
from conftest import kernel_lacks
from harness import record, tampering, workload
from test_exactness import CHANNEL, GPU, RM_ALLOC, gpu_options
from test_tamper import USR1, stand_in

from tracer.errors import LoadError
from tracer.kernel import cgroup, host, loader, schema, trial
from tracer.kernel.hooks import GPU as IOCTLS
from tracer.kernel.hooks import HOOKS
from tracer.kernel.loader import Loader
from tracer.kernel.rungs import hooks as all_hooks
from tracer.kernel.rungs import refuses, taken
from tracer.kernel.trial import needs_kin, opened, sections, usable

pytestmark = pytest.mark.guest


def test_one_of_each_kind():
    attached = set()

    def look(watch, found):
        attached.update(watch.probes.attached)

    with stand_in() as target:
        protect = (target.pid, cgroup.identity(cgroup.of_process()))
        run = record(
            workload("everything", GPU, RM_ALLOC, CHANNEL, target.pid, int(USR1), host.cgroup2_root()),
            gpu_options(),
            protect=protect,
            between=look,
        )
    assert run.status == 0
    kinds = {schema.KIND_NAME[kind] for kind in schema.SENT_KINDS}
    local = "on_connect_local" in attached  # not before Linux 6.7
    unseen = {"exec-refused"} if local else {"exec-refused", "local-connect"}  # nothing is enforced here
    assert {name for name in kinds if not run.of(name)} == unseen
    hooks = {hook.program for hook in all_hooks() if hook.place not in ("iterator", "local", "gpu")}
    hooks |= set(taken(IOCTLS).programs)
    attached -= {"on_connect_local"}
    absent = set() if host.takes_modules() else {"on_module"}
    absent |= set() if refuses() else {hook.program for hook in all_hooks() if hook.place == "lsm"}
    assert hooks - attached == absent
    families = {(int(e["family"]), int(e["protocol"])) for e in run.of("connect")}
    assert families == {(family, protocol) for family in (2, 10) for protocol in (6, 17)}
    assert {(int(e["family"]), int(e["protocol"])) for e in run.of("listen")} == families
    assert {(first.sent, first.data[:1]) for first in run.firsts() if first.data[:1] in b"xy"} == {
        (sent, data) for sent in (True, False) for data in (b"x", b"y")
    }
    assert run.summary.lost_total == 0


def loads(programs: set[str]) -> bool:
    """Does the kernel take these together?"""
    with opened() as probes:
        probes.select(programs)
        trial.set_options(probes, {"keep_kin": int(trial.needs_kin())})
        try:
            probes.load()
        except LoadError:
            return False
    return True


@pytest.mark.parametrize("types", [None, host.BTF_FILE], ids=["typed", "plain"])
def test_every_program_passes_the_verifier(types, monkeypatch):
    """Of both objects, those included that something better stands in for here."""
    monkeypatch.setattr(loader, "_taken", Loader("libbpf", "asked for", types))
    monkeypatch.setattr(trial, "needs_kin", functools.cache(needs_kin.__wrapped__))
    places = {hook.program: hook.place for hook in HOOKS}
    everything = set(sections())
    if loads(everything) or loads({name for name in everything if places.get(name) != "local"}):
        return
    doubtful = [name for name in everything if places.get(name) in ("lsm", "gpu", "local", "iterator")]
    refused = {name: why for name, why in usable(doubtful).items() if why}
    for name, why in refused.items():
        # not let load at all, or nothing there to be loaded for: of what it is made, nobody has looked at
        assert "EPERM" in why or "ESRCH" in why or places[name] == "local", (name, why)
    assert loads(everything - refused.keys())


def test_a_module_is_told():
    name = "dummy"
    if not host.takes_modules():
        kernel_lacks("modules")
    modprobe = shutil.which("modprobe")
    if (
        modprobe is None
        or subprocess.run([modprobe, "-n", name], check=False, capture_output=True).returncode
    ):
        kernel_lacks(f"module called {name} that could be loaded")
    subprocess.run([modprobe, "-r", name], check=True)
    run = record([modprobe, name])
    subprocess.run([modprobe, "-r", name], check=True)
    (alert,) = [alert for alert in run.alerts if alert.rule.id == "tamper.module"]
    assert alert.evidence["module"] == name


def test_a_program_on_a_cgroup_knows_the_tree_of_its_task():
    """By a copy that is kept where a task's own storage is out of its reach; and only there."""
    watched = []

    def look(watch, found):
        kin = watch.probes.map("kin").lookup(found.root.to_bytes(4, "little"), 8)
        watched.append(kin is not None)

    run = record(tampering("wait", 1), between=look)
    assert run.status == 0
    assert watched[0] is needs_kin()
