# SPDX-License-Identifier: Apache-2.0
"""The first file system of a guest: busybox, the modules for the real one, what to run."""

from __future__ import annotations

import io
import lzma
import shlex
import shutil
from pathlib import Path

from kernels import Kernel, UnavailableError

INIT = Path(__file__).with_name("init")
#: What sharing the host's files takes, where it is not built in.
MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"]
APPLETS = ["cat", "chmod", "echo", "ifconfig", "insmod", "mkdir", "mount", "sh", "stty", "switch_root"]
_FILE, _FOLDER, _LINK = 0o100755, 0o040755, 0o120777


def make(kernel: Kernel, script: str, **settings: str) -> bytes:
    """A cpio archive; ``script`` is what the guest's shell runs as root, ``settings`` are for ``init``."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise UnavailableError("busybox is not installed; as root: .ci/setup packages vm")
    archive = _Archive()
    for folder in ("bin", "modules", "proc", "sys", "dev", "host", "upper", "root"):
        archive.add(folder, _FOLDER)
    archive.add("init", _FILE, INIT.read_bytes())
    archive.add("script", _FILE, script.encode())
    settings |= {"release": kernel.release, "modules": str(kernel.modules)}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
    archive.add("settings", _FILE, "".join(lines).encode())
    archive.add("bin/busybox", _FILE, Path(busybox).read_bytes())
    for applet in APPLETS:
        archive.add(f"bin/{applet}", _LINK, b"busybox")
    for number, file in enumerate(kernel.closure(MODULES)):
        data = file.read_bytes()
        if file.suffix == ".xz":
            data = lzma.decompress(data)
        archive.add(f"modules/{number:02}-{file.name.partition('.')[0]}.ko", _FILE, data)
    return archive.finish()


class _Archive:
    """cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._count = 0

    def add(self, name: str, mode: int, data: bytes = b"") -> None:
        self._count += 1
        path = name.encode() + b"\0"
        numbers = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        self._out.write(b"070701" + b"".join(b"%08X" % number for number in numbers))
        for part in (path, data):
            self._out.write(part)
            self._out.write(bytes(-self._out.tell() % 4))

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return self._out.getvalue()
