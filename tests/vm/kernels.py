# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels, fetched by apt and kept unpacked: nothing is installed."""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Series → the names of its packages. Those without "unsigned" have the same kernel, come later and go earlier.
SERIES = {
    "6.1": r"linux-image-(6\.1\.0-\d+-amd64)(-unsigned)?",
    "6.12": r"linux-image-(6\.12\.\d+\+deb12-amd64)(-unsigned)?",
}


class UnavailableError(Exception):
    """What a guest needs can't be had here: one line that says what and why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: ``folder`` has ``vmlinux`` and ``lib/modules/RELEASE``."""

    release: str
    folder: Path

    @property
    def image(self) -> Path:
        """What QEMU boots: not compressed, so that the guest need not unpack it."""
        return self.folder / "vmlinux"

    @property
    def modules(self) -> Path:
        """What belongs at /lib/modules/RELEASE."""
        return self.folder / "lib/modules" / self.release

    def closure(self, names: list[str]) -> list[Path]:
        """The files of these modules and of all they need, in the order of loading; built-in ones have none."""
        command = ["modprobe", "-d", self.folder, "-S", self.release, "--show-depends", "-a", *names]
        shown = run_tool(command, f"the modules of {self.release}").splitlines()
        return [Path(line.split()[1]) for line in dict.fromkeys(shown) if line.startswith("insmod ")]


def cache() -> Path:
    """Where kernels are kept."""
    if chosen := os.environ.get("VIGILES_VM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vigiles-vm"


def find(series: str) -> Kernel:
    """The newest kernel of ``series`` that apt offers, else the newest that is here. Raises UnavailableError."""
    with locked() as folder:
        packages = _offered(series)
        if not packages and os.geteuid() == 0:
            _apt_update()
            packages = _offered(series)
        if not packages:
            if kept := _kept(folder, series):
                return kept
            raise UnavailableError(f"apt offers no Debian kernel {series}: {SERIES[series]}")
        release = max(packages, key=_natural)
        if not (folder / release / "vmlinux").exists():
            try:
                _fetch(packages[release], release, folder)
            except UnavailableError:
                if kept := _kept(folder, series):
                    return kept
                raise
            _forget_older(folder, series, release)
        return Kernel(release, folder / release)


@contextmanager
def locked() -> Iterator[Path]:
    """The cache, for one at a time: two runs that begin together fetch once."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def run_tool(command: list[str | Path], what: str, **more) -> str:
    """What ``command`` prints; ``what`` it is for. Raises UnavailableError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed; as root: .ci/setup packages vm") from None
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"{command[0]} ended with {done.returncode}"]
        raise UnavailableError(f"can't get {what}: {words[-1]}")
    return done.stdout


def _natural(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _offered(series: str) -> dict[str, str]:
    """Release → package."""
    names = run_tool(
        ["apt-cache", "search", "--names-only", f"^{SERIES[series]}$".replace(r"\d", "[0-9]")], series
    )
    found = {}
    for name in sorted(line.split()[0] for line in names.splitlines()):  # unsigned ones last: they win
        if match := re.fullmatch(SERIES[series], name):
            found[match[1]] = name
    return found


def _apt_update() -> None:
    run_tool(["apt-get", "-qq", "update"], "apt's lists")


def unpack(package: str, folder: Path) -> None:
    """Download a package and put its files below ``folder``."""
    download = ["apt-get", "-qq", "download", package]
    try:
        run_tool(download, package, cwd=folder)
    except UnavailableError:
        if os.geteuid() != 0:
            raise
        _apt_update()  # a list that names what the archive has replaced
        run_tool(download, package, cwd=folder)
    (deb,) = folder.glob("*.deb")
    run_tool(["dpkg-deb", "--extract", deb, folder], package)
    deb.unlink()


def _fetch(package: str, release: str, folder: Path) -> None:
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    new.mkdir()
    try:
        unpack(package, new)
        (new / "vmlinux").write_bytes(_payload((new / f"boot/vmlinuz-{release}").read_bytes()))
        shutil.rmtree(new / "usr", ignore_errors=True)
        run_tool(["depmod", "-b", new, release], f"the modules of {release}")
        new.rename(folder / release)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _payload(image: bytes) -> bytes:
    """The kernel in a bzImage (Documentation/arch/x86/boot.rst: payload_offset, payload_length)."""
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (image[0x1F1] + 1) * 512 + offset
    packed = image[start : start + length]
    if packed.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(packed)
    for magic, tool in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4")):
        if packed.startswith(magic):
            # both complain about the length that follows, and have written everything by then
            return subprocess.run([tool, "-dc"], input=packed, capture_output=True, check=False).stdout
    raise UnavailableError(f"this kernel is packed in an unknown way: {packed[:4].hex()}")


def _kept(folder: Path, series: str) -> Kernel | None:
    """The newest that is here: better than none where there is no network."""
    pattern = re.compile(re.search(r"\((.*?)\)", SERIES[series])[1])
    there = [entry.name for entry in folder.iterdir() if pattern.fullmatch(entry.name)]
    release = max(there, key=_natural, default=None)
    return Kernel(release, folder / release) if release else None


def _forget_older(folder: Path, series: str, release: str) -> None:
    while (kept := _kept(folder, series)) and kept.release != release:
        shutil.rmtree(kept.folder)
    pattern = re.compile(re.search(r"\((.*?)\)", SERIES[series])[1])
    for entry in list(folder.iterdir()):
        if pattern.fullmatch(entry.name) and entry.name != release:
            shutil.rmtree(entry)
