# SPDX-License-Identifier: Apache-2.0
"""A libnvidia-ml.so.1 that says what it is told to: see nvml.c."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import MUST_RUN

_SOURCE = Path(__file__).with_name("nvml.c")


def has_ended(pid: int) -> bool:
    """Is it no more, though perhaps nobody has waited for it?"""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z"
    except OSError:
        return True


class StandIn:
    """Built in ``folder``. ``environment``: with this, a process finds it."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("cc"):
            (pytest.fail if MUST_RUN else pytest.skip)("needs a C compiler")  # set-up brings one
        library = folder / "libnvidia-ml.so.1"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
        self._says = folder / "says"
        self.environment = {"LD_LIBRARY_PATH": str(folder), "NVML_STAND_IN": str(self._says)}
        self.say()

    def say(self, *lines: str) -> None:
        """What it answers from the next pass on."""
        fresh = self._says.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        os.replace(fresh, self._says)
