# SPDX-License-Identifier: Apache-2.0
"""From rules that fired to what is done about it: the probe's part is known by now, the rest is done here.

Nothing is built or told before it: a process that is to end ends some microseconds after the engine has
seen its event, not after its evidence has been put together.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracer import clock
from tracer.kernel import schema
from tracer.respond import acts
from tracer.respond.orders import Orders
from tracer.respond.resetter import Resetter

if TYPE_CHECKING:
    from tracer.engine.engine import Fired
    from tracer.rules.model import Rule, Terms

#: What was done, by what was called for. The first of these that was done is what alerts say.
WORDS = {
    "kill-tree": "killed",
    "kill": "killed",
    "freeze": "frozen",
    "quarantine": "quarantined",
    "block": "blocked",
}
_BITS = {name: 1 << schema.ACTION[f"ACTION_{name.upper().replace('-', '_')}"] for name in WORDS}
#: Why nothing was done to a process that is no more.
ENDED = "the process had ended already"
_CONNECT = schema.KIND["EVENT_CONNECT"]
_ON_SOCKETS = frozenset(
    schema.KIND[f"EVENT_{kind}"] for kind in ("FIRST_BYTES", "CONNECT", "LISTEN", "FLOW_SAMPLE")
)


@dataclass(frozen=True, slots=True)
class Response:
    """What was done about an event, or would have been; ``error``: why something could not be."""

    action: str = "none"
    would: str | None = None
    error: str | None = None
    effect_ns: int = 0


NOTHING = Response()


class Responder:
    """Carries out what rules call for in one tree. ``cgroup``: where the tree is alone, None elsewhere."""

    def __init__(
        self,
        orders: Orders,
        tasks: Callable[[], Iterable[acts.Identity]],
        cgroup: Path | None,
    ) -> None:
        self._orders = orders
        self._tasks = tasks
        self._cgroup = cgroup
        #: The probe lets nothing pass: this only spares both sides the waiting.
        self._resetter = Resetter()
        #: Done from here, by word; what probes did they count themselves.
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def respond(
        self, fired: Fired, identity: acts.Identity | None, rules: list[Rule], terms: Terms
    ) -> Response:
        """Do what ``rules`` (those of ``fired`` that nothing excuses) call for to ``identity``'s process."""
        wanted = _wanted(fired, rules, terms)
        if not wanted and not fired.done:
            return NOTHING
        socket = fired.kind in _ON_SOCKETS
        if not self._orders.enforce and not fired.done:
            return Response(would=_word(_in_effect(wanted, refused=socket or fired.refusable)))
        by_probe = {name for name, bit in _BITS.items() if fired.done & bit}
        if "kill" in by_probe and not socket:
            by_probe.add("block")  # which is no more than that
        done = set(by_probe)
        errors = []
        if "block" in done and socket and fired.kind != _CONNECT and identity is not None:
            self._resetter.reset(identity, fired.subject)
        for name in WORDS:
            if name in wanted - done:
                try:
                    self._do(name, fired, identity, socket=socket, blocked="block" in done)
                    done |= {name} if socket or name != "block" else {"kill"}
                    self.done[name] += 1
                except OSError as error:
                    errors.append(f"{name}: {_why(error)}")
                    self.failed[name] += 1
        at = clock.boottime_ns() if wanted - by_probe else fired.decided_ns
        return Response(_word(done) or "none", None, "; ".join(errors) or None, at if done else 0)

    def _do(
        self, name: str, fired: Fired, identity: acts.Identity | None, *, socket: bool, blocked: bool
    ) -> None:
        if name == "quarantine":
            self._orders.quarantine = True
        elif name == "kill-tree":
            self.kill_tree()
        elif name == "freeze":
            acts.freeze(self._tasks, self._cgroup)
        else:
            if socket and not blocked:
                self._orders.cut(fired.subject)
            if identity is None:
                raise ProcessLookupError(errno.ESRCH, "whose it is, is not known")
            if name == "kill" or not socket:
                acts.kill(identity)
            else:
                self._resetter.reset(identity, fired.subject)

    def close(self) -> None:
        """End what is still to be ended."""
        self._resetter.close()
        if self._resetter.skipped:
            self.failed["reset"] = self._resetter.skipped

    def kill_tree(self) -> int:
        """End every process of the tree, however fast it forks."""
        self._orders.doomed = True
        return acts.kill_all(self._tasks, self._cgroup)


def would_do(fired: Fired, rules: list[Rule], terms: Terms) -> str | None:
    """The word for what ``rules`` (those of ``fired`` that nothing excuses) call for."""
    refused = fired.kind in _ON_SOCKETS or fired.refusable
    return _word(_in_effect(_wanted(fired, rules, terms), refused=refused))


def _wanted(fired: Fired, rules: list[Rule], terms: Terms) -> set[str]:
    return {terms.action(rule, severity) for rule, severity in fired.rules if rule in rules} - {"alert"}


def _in_effect(wanted: set[str], *, refused: bool) -> set[str]:
    """Where a program can't be refused it is ended: so that is what blocking it means."""
    return wanted if refused or "block" not in wanted else (wanted - {"block"}) | {"kill"}


def _word(names: set[str]) -> str | None:
    return next((word for name, word in WORDS.items() if name in names), None)


def _why(error: OSError) -> str:
    if error.errno == errno.ESRCH:
        return ENDED
    return error.strerror or os.strerror(error.errno or 0)
