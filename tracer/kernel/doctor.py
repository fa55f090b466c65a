# SPDX-License-Identifier: Apache-2.0
"""What this host lets us see: found out by trying, not by comparing versions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tracer.errors import VigilesError
from tracer.kernel import cgroup, host, libbpf, loader
from tracer.kernel.findings import Report
from tracer.text import printable


def _try(report: Report, name: str, check: Callable[[], str]) -> bool:
    try:
        report.add("host", name, "ok", check())
    except VigilesError as error:
        report.add("host", name, "no", error.message, error.hint)
        return False
    return True


def _privileges() -> str:
    host.require_privileges()
    return "root" if os.geteuid() == 0 else "the capabilities needed"


def _kernel() -> str:
    types = (
        "describes its types (BTF)" if host.BTF_FILE.exists() else "has no BTF: does not describe its types"
    )
    return f"{os.uname().release} {os.uname().machine}, {types}"


def _loader(name: str, btf: Path | None) -> str:
    taken = loader.choose(name, btf)
    if taken.types is None:
        return f"{taken.name}: {taken.why}"
    from tracer.kernel import fit

    fit.require()
    if taken.name == "libbpf":
        return f"{taken.name}: {taken.why}, and they fit"
    from tracer.kernel import bcc

    place, (major, minor) = bcc.find()
    return (
        f"{taken.name}: {taken.why}; bcc {major}.{minor} in {place} has compiled its types from its headers"
    )


def _cgroup() -> str:
    root = host.cgroup2_root()  # first: where it is not mounted, no process is in a cgroup of it
    place = cgroup.of_process().relative_to(root)
    return f"v2 at {root}, we are in /{'' if str(place) == '.' else place}"


def _filesystem(report: Report, kind: str, use: str) -> None:
    place = host.find_mount(kind)
    text = f"mounted at {place}" if place else f"not mounted; not needed to watch, only {use}"
    report.add("host", kind, "info", text)


def _confinement(report: Report) -> None:
    """What a watch keeps once it has begun."""
    from tracer.privileges import outlook

    text, remarks = outlook()
    report.add("host", "a watch keeps", "info", text)
    for remark in remarks:
        report.add("host", "", "info", remark)


def _guard(report: Report) -> None:
    """What `--enforce` comes to here, by what a rule is about; a hook that is missing is listed above."""
    from tracer.kernel.rungs import refuses

    tampering = (
        "refused by the probe (BPF LSM), and whoever tried is killed"
        if refuses()
        else "whoever did it is killed; ptrace, bpf(2), mounts and our files are not seen: no BPF LSM"
    )
    programs = (
        "block by path or file alone: refused with EPERM (BPF LSM); all else: killed before its first instruction"
        if refuses()
        else "killed by the probe before its first instruction; never refused: no BPF LSM"
    )
    for name, text in (
        ("exec", programs),
        ("connect", "refused with EPERM by the probe, io_uring's too; also by a name that DNS has given"),
        (
            "— not allowed",
            "by name: cut from user space after it, since that it has no name is known to nobody",
        ),
        ("first bytes", "dropped by the probe, the flow cut both ways; then reset from user space"),
        ("listening", "TCP: the probe lets nobody reach the port, then closed from user space; UDP: refused"),
        ("gpu", "whoever is on no list of users is killed by the probe in the call that makes a context"),
        ("others, files", "a client that the job's shape makes suspicious, a file: ended from user space"),
        ("tampering", tampering),
        ("freeze", "cgroup.freeze where the tree has a cgroup to itself, else SIGSTOP"),
        (
            "kill-tree",
            "cgroup.kill where the tree has one to itself; whoever forks or execs is killed by the probe",
        ),
        ("quarantine", "every packet but loopback's and what the policy lists is dropped by the probe"),
    ):
        report.add("guard", name, "info", text)
    if loader.taken().plain:
        report.add(
            "guard", "without tracer", "info", "the guard ends: without BTF nobody could find the tree again"
        )
        return
    mounted = host.find_mount("bpf")
    kept = (
        f"pinned in {mounted}" if mounted else "a BPF file system is mounted at /sys/fs/bpf when it is needed"
    )
    report.add("guard", "without tracer", "info", f"the guard goes on: {kept}")


def _footholds(report: Report) -> None:
    """What tells of files that are obeyed later."""
    from tracer.footholds.places import everywhere
    from tracer.footholds.watcher import Footholds

    shows = "writes to ~/.ssh, cron's tables, units, start-up files"
    try:
        footholds = Footholds(everywhere())
    except VigilesError as error:
        report.add("hook", "footholds", "no", error.message, error.hint)
        return
    state = "ok" if footholds.folders else "info"
    report.add("hook", "footholds", state, f"{shows} — fanotify on {footholds.folders} folders")
    for path, why in footholds.refused:
        report.add("hook", "", "info", f"not in {printable(path)}: {why} (a file system without handles?)")
    footholds.close()


def _gpus(report: Report) -> bool:
    from tracer.gpu.devices import discover, summary

    devices = discover()
    for line in summary(devices):
        report.add("gpu", "driver", "info", line)
    for device in devices:
        number = f"{device.major}:{'*' if device.minor is None else device.minor}"
        report.add("gpu", number, "info", device.label)
    from tracer.gpu.nvml import outlook as nvml_outlook

    asked, text = nvml_outlook()
    report.add("gpu", "NVML", "ok" if asked else "info", printable(text.removeprefix("NVML ")))
    if not devices:
        report.add("gpu", "none", "info", "no GPU driver has registered a device (see --gpu-device)")
    return bool(devices)


def _code(report: Report) -> None:
    from tracer import jit

    place = jit.cache_directory()
    report.add(
        "host",
        "code cache",
        "info",
        f"{place}" if place else "none: the engine is compiled at every start",
        None if place else f"make {jit.SYSTEM_CACHE} root's own, writable by nobody else",
    )
    path = jit.linked_path()
    if path is not None and path.exists():
        report.add("host", "engine", "info", "linked for this processor: no compiler is loaded")
    elif place is not None:
        remedy = "vigiles warm" if shutil.which("ld") else "install a linker (binutils), then: vigiles warm"
        text = "not linked: every start loads the compiler, 0.6 s and 150 MiB"
        report.add("host", "engine", "info", text, remedy)


def examine(loader_name: str = "auto", btf: Path | None = None) -> Report:
    """Look at everything, by this loader; a lack is a finding, not an exception."""
    report = Report()
    able = _try(report, "privileges", _privileges)
    able &= _try(report, "kernel", _kernel)
    able &= _try(report, "libbpf", lambda: f"version {libbpf.version()}")
    able &= _try(report, "loader", lambda: _loader(loader_name, btf))
    cgroups = _try(report, "cgroup", _cgroup)
    _confinement(report)
    _filesystem(report, "bpf", "to outlive the tracer")
    _filesystem(report, "tracefs", "for tracepoints by name")
    _code(report)
    gpu = _gpus(report)
    if able:
        from tracer.kernel.doctor_hooks import look_at_gpu_rungs, look_at_hooks

        look_at_hooks(report, cgroups=cgroups)
        look_at_gpu_rungs(report, gpu=gpu)
        _footholds(report)
        _guard(report)
    return report
