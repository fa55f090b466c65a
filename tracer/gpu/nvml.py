# SPDX-License-Identifier: Apache-2.0
"""NVML's word on who uses the cards, from a process of its own: see nvml_child.py for why, and for what it writes.

It is started before a watch gives up its privileges, and never waited for: whatever it has written is taken in, and that
it fails, hangs or has ended is said once, and counted.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from tracer.errors import HostError
from tracer.gpu.nvml_child import FAILED, NO_CARD, PASS, ROW

#: Between two passes.
EVERY_S = 2.0
#: NVML hangs if nothing has come for so long: to begin with it asks each card, which takes seconds where none is in use.
SILENT_S = 30.0
#: How long its process is waited for when it has been killed: in the driver no signal reaches it.
_PATIENCE_S = 0.5
_READ_BYTES = 128 * ROW.size
#: Different complaints that are said.
_TOLD_MAX = 32

_CHILD = Path(__file__).with_name("nvml_child.py")
_FOLDER = Path(__file__).parent.parent.parent
_LIBRARY_NOT_FOUND = 12
#: enum nvmlReturn_enum, nvml.h
_WORDS = {
    3: "it is not supported",
    4: "that is not permitted",
    9: "NVIDIA's driver is not loaded",
    _LIBRARY_NOT_FOUND: "there is no libnvidia-ml.so.1",
    13: "the library does not know the question",
    15: "it has fallen off the bus",
    16: "it must be reset",
    18: "the library is of another version than the driver",
    20: "there is no memory for the answer",
}

Row = tuple[int, int, int, int, int]


def package() -> Path | None:
    """Where pynvml is imported from; None: it is not installed."""
    spec = find_spec("pynvml")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def require_package() -> Path:
    """The same. Raises HostError."""
    found = package()
    if found is None:
        raise HostError(
            "NVML can't be asked: the package nvidia-ml-py is not installed",
            hint="pip install 'vigiles[nvml]'",
        )
    return found


class Nvml:
    """The process that asks. ``say``: tells people a line. Raises HostError, OSError."""

    def __init__(self, say: Callable[[str], None], every_s: float = EVERY_S) -> None:
        folders = str(_FOLDER), str(require_package())
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_CHILD), str(os.getpid()), str(every_s), *folders],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C at the terminal is not meant for it
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        #: Becomes readable when something has been said.
        self.fd = self._pipe.fileno()
        os.set_blocking(self.fd, False)
        self._say = say
        self._told: set[str] = set()
        self._rest = b""
        self._heard = time.monotonic()
        self._silent = self._missing = False
        self.ended = False
        #: What went wrong: by what, how often.
        self.lost: Counter[str] = Counter()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def take(self) -> list[Row]:
        """Rows that have come since the last call, or some of them: then the descriptor stays readable."""
        if self.ended:
            return []
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            self._end()
            return []
        self._heard, self._silent = time.monotonic(), False
        data = self._rest + data
        whole = len(data) // ROW.size * ROW.size
        self._rest = data[whole:]
        rows = list(ROW.iter_unpack(data[:whole]))
        for what, code, _, card, _ in rows:
            if what == FAILED:
                self._failed(code, card)
        return rows

    def _failed(self, code: int, card: int) -> None:
        self.lost["failed"] += 1
        self._missing = code == _LIBRARY_NOT_FOUND
        about = "" if card == NO_CARD else f" of card {card}"
        self._tell(f"NVML does not say who uses the GPU{about}: {_WORDS.get(code, f'error {code}')}")

    def _tell(self, line: str) -> None:
        if line not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(line)
            self._say(line)

    def _end(self) -> None:
        self.ended = True
        if not self._missing:  # else that has been said
            self.lost["ended"] += 1
            self._tell("NVML is not asked any more: the process that did has ended")

    def look_out(self) -> None:
        """Notice that it hangs; call it now and then."""
        if self.ended or self._silent or time.monotonic() - self._heard < SILENT_S:
            return
        self._silent = True
        self.lost["silent"] += 1
        self._tell(
            f"NVML has not answered for {SILENT_S:.0f} s: who uses the GPU, and how much, is not known"
        )

    def close(self) -> None:
        """End it."""
        self._process.kill()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            pass  # it ends when the driver lets it
        self._pipe.close()


def outlook(patience_s: float = 10.0) -> tuple[bool, str]:
    """Does NVML say here who uses the cards? And that it does, or why it doesn't, in words."""
    said: list[str] = []
    try:
        nvml = Nvml(said.append)
    except (HostError, OSError) as error:
        return False, str(error)
    try:
        end = time.monotonic() + patience_s
        while not said and (left := end - time.monotonic()) > 0:
            select.select([nvml.fd], [], [], left)
            for what, _, _, cards, _ in nvml.take():
                if what == PASS and not said:
                    return (
                        True,
                        f"NVML says who uses the GPU, and how much, every {EVERY_S:.0f} s; cards: {cards}",
                    )
        return False, said[0] if said else f"NVML has not answered for {patience_s:.0f} s"
    finally:
        nvml.close()
