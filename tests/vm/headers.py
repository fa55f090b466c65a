# SPDX-License-Identifier: Apache-2.0
"""Debian's headers for a guest's kernel, and what is built against them: the stand-in for NVIDIA's driver (``nvidia/``)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import kernels
from kernels import Kernel, UnavailableError

SOURCES = Path(__file__).with_name("nvidia")
_NAMES = "linux-headers-", "linux-kbuild-"


def nvidia_module(kernel: Kernel) -> Path:
    """``nvidia.ko`` for ``kernel``, built once for each state of its sources. Raises UnavailableError."""
    files = sorted(file for file in SOURCES.iterdir() if file.is_file())
    digest = hashlib.sha256(b"".join(file.name.encode() + file.read_bytes() for file in files))
    with kernels.locked() as _:
        place = kernel.folder / f"nvidia-{digest.hexdigest()[:16]}"
        if (place / "nvidia.ko").exists():
            return place / "nvidia.ko"
        tree = _tree(kernel)
        for old in kernel.folder.glob("nvidia-*"):
            shutil.rmtree(old)
        new = kernel.folder / "new-nvidia"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for file in files:
            shutil.copy(file, new)
        _build(kernel, tree, new)
        new.rename(place)
    return place / "nvidia.ko"


def _build(kernel: Kernel, tree: Path, folder: Path) -> None:
    # Types (BTF) would take another tool, and the real driver's modules mostly have none, either.
    command = ["make", "-C", tree, f"M={folder}", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UnavailableError("make is not installed; as root: .ci/setup packages vm") from None
    if done.returncode or not (folder / "nvidia.ko").exists():
        said = "\n  | ".join((done.stdout + done.stderr).splitlines()[-20:])
        raise UnavailableError(f"the stand-in driver can't be built for {kernel.release}:\n  | {said}")


def installed(kernel: Kernel) -> Path:
    """What belongs at /usr/src where ``kernel``'s headers are installed; its modules' folder leads there."""
    with kernels.locked() as _:
        tree = _tree(kernel)
        folder = kernel.folder / "headers"
        for name in ("build", "source"):
            link = kernel.modules / name
            if not link.is_symlink():
                link.symlink_to((folder / "lib/modules" / kernel.release / name).readlink())
    return tree.parent


def _tree(kernel: Kernel) -> Path:
    """What modules for ``kernel`` are built in."""
    folder = kernel.folder / "headers"
    tree = folder / f"usr/src/linux-headers-{kernel.release}"
    if tree.exists():
        return tree
    new = kernel.folder / "new-headers"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    first = f"linux-headers-{kernel.release}"
    shown = kernels.run_tool(["apt-cache", "depends", "--important", first], first)
    depends = [line.split()[-1] for line in shown.splitlines() if line.strip().startswith("Depends:")]
    for package in (first, *(name for name in depends if name.startswith(_NAMES))):
        kernels.unpack(package, new)
    # Its own folders have links to each other, but this one path is written out.
    makefile = new / f"usr/src/linux-headers-{kernel.release}/Makefile"
    makefile.write_text(makefile.read_text().replace(" /usr/src/", f" {folder}/usr/src/"))
    new.rename(folder)
    return tree
