# SPDX-License-Identifier: Apache-2.0
"""Ends connections that are cut already, beside the loop: to find one among a process's descriptors takes time."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

from tracer.respond import acts

#: So many wait; for more, both sides find out by themselves that nothing passes.
_WAITING_MAX = 256


class Resetter:
    """A thread, from the first one on, that resets connections in the order in which it is told to.

    ``skipped``: more than could wait.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._waiting: queue.Queue[tuple[acts.Identity, int] | None] = queue.Queue(_WAITING_MAX)
        self._thread: threading.Thread | None = None

    def reset(self, identity: acts.Identity, cookie: int) -> None:
        """Have the connection with this cookie end, if the process has it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vigiles-reset", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((identity, cookie))
        except queue.Full:
            self.skipped += 1

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            with suppress(OSError):  # it has ended meanwhile, or closed it
                acts.shut_socket(*task)

    def close(self) -> None:
        """Do what waits, then end. May be called again."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
