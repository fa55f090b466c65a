# SPDX-License-Identifier: Apache-2.0
"""What boots other kernels, as far as no kernel is needed for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import initrd
import kernels
import pytest


def test_the_newest_is_chosen_by_number(monkeypatch: pytest.MonkeyPatch):
    listed = "\n".join(
        f"linux-image-{name} - Linux"
        for name in ("6.1.0-9-amd64", "6.1.0-56-amd64-unsigned", "6.1.0-56-amd64", "6.1.0-47-amd64-unsigned")
    )
    monkeypatch.setattr(kernels, "run_tool", lambda *_: listed)
    offered = kernels._offered("6.1")
    assert max(offered, key=kernels._natural) == "6.1.0-56-amd64"
    assert offered["6.1.0-56-amd64"] == "linux-image-6.1.0-56-amd64-unsigned"


def test_an_archive_is_what_cpio_reads(tmp_path: Path):
    busybox = shutil.which("busybox") or shutil.which("cpio")
    if busybox is None:
        pytest.skip("nothing here reads cpio archives")
    archive = initrd._Archive()
    archive.add("folder", 0o040755)
    archive.add("folder/file", 0o100755, b"odd length")
    archive.add("link", 0o120777, b"folder/file")
    command = [busybox, "cpio"] if busybox.endswith("busybox") else [busybox]
    done = subprocess.run(
        [*command, "-idm"], cwd=tmp_path, input=archive.finish(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link").read_bytes() == b"odd length"


def test_a_lack_is_one_line(tmp_path: Path):
    """Of the runner as a program: no kernel can be had here."""
    run = Path(kernels.__file__).with_name("run.py")
    done = subprocess.run(
        [sys.executable, str(run), "--", "true"],
        env={"PATH": "/nowhere", "VIGILES_VM_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert done.stderr.startswith("run.py: ") and done.stderr.count("\n") == 1, done.stderr
