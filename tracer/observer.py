# SPDX-License-Identifier: Apache-2.0
"""Who wants to know more of a run than its alerts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.summary import Summary
    from tracer.teller import Sink

    class Observer(Sink, Protocol):
        """A sink that is handed every record, too. That costs Python work for each.

        ``one_by_one``: each, while the engine stands right behind it.
        """

        one_by_one: bool

        def take(self, tap: bytes) -> None:
            """Take records, laid out as the engine taps them."""

        def finished(self, summary: Summary, *, ended: bool) -> None:
            """The watch is over; ``ended``: so is every process of the tree."""

    #: Called when the engine is there: what an observer needs must not be imported before the command is
    #: forked, since some of it makes threads.
    Observe = Callable[[Engine], Observer]
