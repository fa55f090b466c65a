# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: duties that have something to say, whose time has come, or that the engine asks for something."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable

from tracer.duties import Duty

#: Of our time, a duty that comes by the clock takes no more than this part, with the judging of what it has found.
SHARE = 0.05
NEVER = float("inf")


class Rounds:
    """Hands what ``duties`` take to ``feed``. ``poll`` wakes whoever waits when one of them has something to say."""

    def __init__(
        self, duties: Iterable[Duty], poll: select.epoll, feed: Callable[[list[bytes]], None]
    ) -> None:
        self._duties = list(duties)
        self._poll = poll
        self._feed = feed
        #: these have a turn after each drain
        self.following = [duty for duty in self._duties if duty.follows]
        self._speaking = {fd: duty for duty in self._duties if (fd := duty.fd) is not None}
        for fd in self._speaking:
            poll.register(fd, select.EPOLLIN)
        #: descriptors that duties speak by, or have
        self.fds = frozenset(self._speaking)
        began = time.monotonic()
        self._due = {duty: began for duty in self._duties if duty.every_s is not None}
        #: when the next turn by the clock is
        self.due = min(self._due.values(), default=NEVER)

    def next_by_clock(self) -> None:
        """Give the one its turn that has waited longest."""
        duty = min(self._due, key=self._due.__getitem__)
        began = time.monotonic()
        self._feed(duty.take())
        ended = time.monotonic()
        self._due[duty] = ended + max(duty.every_s or 0.0, (ended - began) / SHARE)
        self.due = min(self._due.values())

    def listen(self, fds: Iterable[int]) -> None:
        """Give those their turn that speak by ``fds``."""
        for fd in fds:
            duty = self._speaking.get(fd)
            if duty is None:
                continue
            self._feed(duty.take())
            if duty.fd is None:
                self._poll.unregister(fd)
                del self._speaking[fd]

    def settle(self, duties: Iterable[Duty] | None = None) -> None:
        """Have all that ``duties``, or all of them, can still say."""
        for duty in self._duties if duties is None else duties:
            self._feed(duty.settle())

    def lost(self) -> dict[str, int]:
        """What duties have lost, for the summary: by whose it is and why."""
        sums: dict[str, int] = {}
        for duty in self._duties:
            for why, count in sorted(duty.lost().items()):
                name = f"{duty.name}-{why}"
                sums[name] = sums.get(name, 0) + count
        return sums
