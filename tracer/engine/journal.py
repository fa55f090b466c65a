# SPDX-License-Identifier: Apache-2.0
"""Who is told what an engine takes in besides the records of its rings.

With that and the records, the same engine comes to the same state again, and to the same alerts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tracer.rules import RuleSet


class Journal(Protocol):
    """Told of each thing before the engine acts on it."""

    def fed(self, laid: bytes, *, counted: bool) -> None:
        """Records made in user space, laid out as a tap has them."""

    def listed(self, tasks: bytes) -> None:
        """The kernel's list of the tree's processes, TASK[n]."""

    def unseen(self, before_ns: int) -> None:
        """Who was born before, and is not on the last list, has ended."""

    def judged(self, rules: RuleSet, epoch: int) -> None:
        """From here on ``rules`` are judged by; probes' verdicts by them carry ``epoch``."""
