# SPDX-License-Identifier: Apache-2.0
"""Ask NVML again and again who uses the cards, and how much: ``python -I nvml_child.py PARENT SECONDS FOLDER…``.

A process of its own, since NVML drives devices, which a running watch has no business with, and since a call of its
may never come back once a card has fallen off the bus. It has no capability, can start nothing, and ends with PARENT. FOLDERs
are where we and pynvml are imported from.

On its standard output are rows of one size: what each process uses, what could not be asked, and one that says that all
cards have been asked. Of a process on several cards there is one row.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

#: what, pid or code, percent or count, cards or card, bytes
ROW = struct.Struct("<IIIIQ")
# What a row is about
USE, FAILED, PASS = 1, 2, 3
NOT_KNOWN_PERCENT, NOT_KNOWN_BYTES = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
#: Of a failure that is no single card's.
NO_CARD = 0xFFFFFFFF
#: More than a host has; and processes that are told of in a pass: more are counted.
CARDS_MAX, SLICES_MAX, PROCESSES_MAX = 64, 64, 2048
#: Written at once, which a pipe never takes apart (PIPE_BUF, pipe(7)).
_AT_ONCE = 4096 // ROW.size * ROW.size
#: What may pass is tried again after so long: a driver that is being loaded, a card that is being reset.
AGAIN_S = 60.0

_PR_SET_PDEATHSIG = 1
# enum nvmlReturn_enum, nvml.h
_SUCCESS, _NOT_SUPPORTED, _NOT_FOUND, _LIBRARY_NOT_FOUND, _FUNCTION_NOT_FOUND = 0, 3, 6, 12, 13


class Use(NamedTuple):
    """What one process uses of all cards. ``utilisation``: percent of one card's time; None: not known, as ``memory``."""

    utilisation: int | None = None
    memory: int | None = None
    cards: int = 0

    def with_card(self, utilisation: int | None, memory: int | None) -> Use:
        """And of another one."""
        return Use(_sum(self.utilisation, utilisation), _sum(self.memory, memory), self.cards + 1)


class Failure(NamedTuple):
    """What NVML has answered instead, as its number, about which card."""

    code: int
    card: int


def _sum(one: int | None, other: int | None) -> int | None:
    """Of what is known."""
    return other if one is None else one + (other or 0)


class Cards:
    """Asks ``nvml``, the module pynvml. ``seconds``: between two passes."""

    def __init__(self, nvml: Any, seconds: float) -> None:
        self._nvml = nvml
        self._before_us = int(seconds * 1e6)
        self._seen_us: dict[int, int] = {}  # by card: its newest sample

    def ask(self) -> tuple[dict[int, Use], list[Failure], int]:
        """What each process uses, what failed, and how many cards there are. Raises NVMLError."""
        count = min(self._nvml.nvmlDeviceGetCount(), CARDS_MAX)
        uses: dict[int, Use] = {}
        failures = []
        for card in range(count):
            try:
                for pid, utilisation, memory in self._of_card(card):
                    uses[pid] = uses.get(pid, Use()).with_card(utilisation, memory)
            except self._nvml.NVMLError as error:
                failures.append(Failure(error.value, card))
        return uses, failures, count

    def _of_card(self, card: int) -> list[tuple[int, int | None, int | None]]:
        """(pid, percent, bytes) of all that have a context there."""
        handle = self._nvml.nvmlDeviceGetHandleByIndex(card)
        slices = self._slices(handle)
        memory: dict[int, int | None] = {}
        for part in slices or [handle]:
            for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(part):
                memory[process.pid] = _sum(memory.get(process.pid), process.usedGpuMemory)
        # of a card that is cut up nobody knows whose its time is
        busy = None if slices else self._busy(card, handle)
        return [(pid, None if busy is None else busy[pid], held) for pid, held in memory.items()]

    def _slices(self, handle: Any) -> list[Any]:
        """The parts of a card that is cut up (MIG)."""
        nvml = self._nvml
        try:
            if not nvml.nvmlDeviceGetMigMode(handle)[0]:
                return []
        except nvml.NVMLError as error:
            if error.value in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND):
                return []
            raise
        found = []
        for number in range(min(nvml.nvmlDeviceGetMaxMigDeviceCount(handle), SLICES_MAX)):
            try:
                found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
            except nvml.NVMLError as error:
                if error.value != _NOT_FOUND:
                    raise
        return found

    def _busy(self, card: int, handle: Any) -> Counter[int] | None:
        """Percent of the card's time by pid, in the samples since the last pass; None where it can't be said."""
        nvml = self._nvml
        since = self._seen_us.get(card, time.time_ns() // 1000 - self._before_us)
        busy: Counter[int] = Counter()
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, since)
        except nvml.NVMLError as error:
            if error.value in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND):
                return None
            if error.value not in (_SUCCESS, _NOT_FOUND):  # both: nobody was busy
                raise
            return busy
        for sample in samples:
            # what is left of older ones is given out, too
            if sample.timeStamp > since:
                busy[sample.pid] = max(busy[sample.pid], min(sample.smUtil, 100))
        self._seen_us[card] = max((s.timeStamp for s in samples), default=since)
        return busy


def rows_of(uses: dict[int, Use], failures: list[Failure], cards: int) -> Iterator[bytes]:
    """One pass, as rows."""
    for pid, use in list(uses.items())[:PROCESSES_MAX]:
        percent = NOT_KNOWN_PERCENT if use.utilisation is None else use.utilisation
        memory = NOT_KNOWN_BYTES if use.memory is None else use.memory
        yield ROW.pack(USE, pid, percent, use.cards, memory)
    for failure in failures:
        yield ROW.pack(FAILED, failure.code, 0, failure.card, 0)
    yield ROW.pack(PASS, 0, max(len(uses) - PROCESSES_MAX, 0), cards, 0)


def _write(rows: Iterator[bytes]) -> None:
    """Whoever does not read has us wait: then what is told is late, and no more than fits into the pipe."""
    data = b"".join(rows)
    for at in range(0, len(data), _AT_ONCE):
        os.write(sys.stdout.fileno(), data[at : at + _AT_ONCE])


def _give_up_the_rest() -> None:
    """What is root's own can be read and written still, and there is no way to start a program."""
    from tracer.privileges import capabilities
    from tracer.privileges import filter as seccomp
    from tracer.promptness import schedule_patiently

    schedule_patiently()
    capabilities.drop(0)
    if not seccomp.why_not():
        seccomp.install()


def main(parent: str, seconds: str, *folders: str) -> int:
    """Never returns as long as ``parent`` is there, and there is an NVML."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != int(parent):
        return 0  # it has ended before we have asked for that
    sys.path.extend(folders)
    _give_up_the_rest()
    nvml: Any = importlib.import_module("pynvml")
    try:
        while True:
            try:
                nvml.nvmlInit()
                cards = Cards(nvml, float(seconds))
                while True:
                    _write(rows_of(*cards.ask()))
                    time.sleep(float(seconds))
            except nvml.NVMLError as error:
                _write(rows_of({}, [Failure(error.value, NO_CARD)], 0))
                if error.value == _LIBRARY_NOT_FOUND:
                    return 0
            time.sleep(AGAIN_S)
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
