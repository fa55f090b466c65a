# SPDX-License-Identifier: Apache-2.0
"""What is missing on the host is one clear error."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tracer.errors import HostError, LoadError
from tracer.kernel import host, libbpf
from tracer.kernel.btf import Btf


def test_no_libbpf(monkeypatch):
    monkeypatch.setattr(libbpf, "_library", None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)

    def refuse(*_arguments, **_more):
        raise OSError("libbpf.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(HostError, match="not installed") as caught:
        libbpf.library()
    assert "apt-get install libbpf1" in caught.value.hint
    assert caught.value.exit_code == 125


def test_old_libbpf(monkeypatch):
    class Old:
        """0.5 has no libbpf_major_version()."""

    monkeypatch.setattr(libbpf, "_library", None)
    monkeypatch.setattr(libbpf, "_find", Old)
    with pytest.raises(HostError, match="too old"):
        libbpf.library()


def test_no_btf(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "BTF_FILE", tmp_path / "vmlinux")
    with pytest.raises(HostError, match="no BTF"):
        host.require_btf()


def test_no_cgroup2(monkeypatch):
    monkeypatch.setattr(host, "_mounts", lambda: [("/", "ext4"), ("/sys/fs/cgroup", "tmpfs")])
    with pytest.raises(HostError, match="cgroup v2 is not mounted") as caught:
        host.cgroup2_root()
    assert "mount -t cgroup2" in caught.value.hint


@pytest.mark.parametrize("place", ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/mnt/odd place"])
def test_cgroup2_is_found_wherever_it_is(monkeypatch, place):
    monkeypatch.setattr(host, "_mounts", lambda: [("/", "ext4"), (place, "cgroup2")])
    assert host.cgroup2_root() == Path(place)


def test_no_privileges(monkeypatch):
    monkeypatch.setattr(host, "effective_capabilities", lambda: 0)
    with pytest.raises(HostError, match="needs root"):
        host.require_privileges()
    bpf_alone = sum(1 << host.CAPABILITIES[c] for c in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"))
    monkeypatch.setattr(host, "effective_capabilities", lambda: bpf_alone)
    with pytest.raises(HostError):
        host.require_privileges()
    monkeypatch.setattr(host, "effective_capabilities", lambda: 1 << host.CAPABILITIES["CAP_SYS_ADMIN"])
    host.require_privileges()


def test_probes_that_were_never_built(tmp_path):
    with pytest.raises(LoadError, match="missing") as caught:
        Btf(tmp_path / "vigiles.bpf.o")
    assert "make probes" in caught.value.hint
