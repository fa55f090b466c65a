# SPDX-License-Identifier: Apache-2.0
"""What the host must offer: privileges, file systems, BTF. Each lack is one clear error."""

from __future__ import annotations

import os
from pathlib import Path

from tracer.errors import HostError

BTF_FILE = Path("/sys/kernel/btf/vmlinux")

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}


def effective_capabilities() -> int:
    """The effective capability set of this process, as a bit mask."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def missing_capabilities() -> list[str]:
    """Names of the capabilities that BPF needs and this process lacks."""
    have = effective_capabilities()
    missing = [name for name, bit in CAPABILITIES.items() if not have >> bit & 1]
    if "CAP_SYS_ADMIN" not in missing:
        return []  # stands for the other three
    return missing


def require_privileges() -> None:
    """Raise HostError unless this process may load and attach our programs."""
    if missing := missing_capabilities():
        who = "not root" if os.geteuid() else "root, but without " + ", ".join(missing)
        raise HostError(
            f"tracing needs root; this is {who}",
            hint='run it as: sudo env "PATH=$PATH" vigiles …'
            if os.geteuid()
            else "start the container with these capabilities, or run on the host",
        )


def require_btf() -> None:
    """Raise HostError unless the running kernel describes its own types."""
    if not BTF_FILE.exists():
        raise HostError(
            f"this kernel ({os.uname().release}) has no BTF: {BTF_FILE} is missing",
            hint="--loader bcc needs none, --btf FILE brings one; kernels built with CONFIG_DEBUG_INFO_BTF=y have it (Debian 12, Ubuntu 22.04, RHEL 9)",
        )


def _mounts() -> list[tuple[str, str]]:
    """(mount point, type) of every mount that this process sees, last one last."""
    rows = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        rows.append((point, after.split()[0]))
    return rows


def find_mount(kind: str) -> Path | None:
    """Where a file system of ``kind`` is mounted; None if it is not."""
    points = [Path(point) for point, found in _mounts() if found == kind]
    return points[0] if points else None


def cgroup2_root() -> Path:
    """The mount point of the cgroup v2 hierarchy; HostError if there is none.

    Hybrid hosts have it at /sys/fs/cgroup/unified, unified ones at /sys/fs/cgroup. Those that know version 1 alone can
    have it mounted beside: programs are attached to it, and no controller is needed for that.
    """
    root = find_mount("cgroup2")
    if root is None:
        beside = "; version 1 is, and stays as it is beside it" if find_mount("cgroup") else ""
        raise HostError(
            f"cgroup v2 is not mounted{beside}",
            hint="mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2",
        )
    return root


def takes_modules() -> bool:
    """Can modules be loaded into this kernel? One that is built without them has nothing to list."""
    return Path("/proc/modules").exists()


def asks_bpf() -> bool:
    """Is BPF among the security modules that this kernel asks (lsm= on its command line)? Programs for it
    can be loaded elsewhere as well, and are never run.
    """
    place = find_mount("securityfs")
    listed = Path(place or "/sys/kernel/security") / "lsm"
    return listed.exists() and "bpf" in listed.read_text(encoding="ascii").strip().split(",")
