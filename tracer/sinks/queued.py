# SPDX-License-Identifier: Apache-2.0
"""A sink that may block, beside the loop: a full pipe, a stopped terminal, a file server that is gone.

The loop hands an alert over and goes on. One thread a sink writes them in order; for what does not fit into
its queue any more there is no room, which is counted. At the end the queue is given a bounded time: whoever
does not read must not keep the tree's guard from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer.alerts import Alert
    from tracer.teller import Sink

#: Alerts and lines that may wait: a storm of a thousand miners fits in, and 20 MiB of memory at most.
WAITING_MAX = 4096
#: How long the end of a watch waits for what is still to be written.
PATIENCE_S = 2.0


class Queued:
    """Hands alerts on to ``sink`` in a thread of its own, from :meth:`start` on; before that they wait.

    ``dropped``: those for which there was no room.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unwritten = 0
        self._stuck = False
        self.dropped = 0

    @property
    def started(self) -> bool:
        """Is there somebody who writes?"""
        return self._thread is not None

    @property
    def target(self) -> str:
        """What people call it."""
        return self._sink.target

    @property
    def failed(self) -> int:
        """Alerts that have not been written: refused, without room, or given up."""
        return self._sink.failed + self.dropped + self._unwritten

    def start(self) -> None:
        """Begin to write. Not earlier than the process has given up what its threads must not have."""
        self._thread = threading.Thread(target=self._run, name="vigiles-sink", daemon=True)
        self._thread.start()

    def tell(self, alert: Alert) -> None:
        """Take one alert; comes back at once."""
        self.put(lambda: self._sink.tell(alert))

    def put(self, write: Callable[[], None]) -> None:
        """Have ``write`` called behind what waits."""
        if self._waiting.qsize() < WAITING_MAX:
            self._waiting.put(write)
        else:
            self.dropped += 1

    def _run(self) -> None:
        while (write := self._waiting.get()) is not None:
            write()

    def settle(self, patience_s: float = PATIENCE_S) -> bool:
        """Wait until all that waits is written, but not for long, and not twice; True if it is."""
        if self._stuck:
            return False
        if self._thread is None:
            self.start()
        written = threading.Event()
        self._waiting.put(written.set)
        if written.wait(patience_s):
            return True
        self._stuck = True
        self._unwritten = 1  # the one at hand
        with suppress(Empty):
            while self._waiting.get_nowait() != written.set:
                self._unwritten += 1
        return False

    def close(self) -> None:
        """Write what waits, then close the sink. One that is stuck is left to the end of the process."""
        if self._thread is None and self._waiting.empty():
            self._sink.close()
        elif self.settle():
            self._waiting.put(None)
            assert self._thread is not None
            self._thread.join()
            self._thread = None
            self._sink.close()
