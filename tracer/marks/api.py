# SPDX-License-Identifier: Apache-2.0
"""``tracer.span``: what a training job or an agent says of what it does.

Which span a task is in lies in a context variable, so that it is right in threads and in asyncio; the
kernel knows of threads alone. :mod:`.acts` brings the one in line with the other just before it matters.
A span is told to the probes once, and its end; going from one task to another costs nothing by itself.
"""

from __future__ import annotations

import _thread
import atexit
import itertools
import os
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from tracer.marks import channel as channels
from tracer.marks.channel import Channel
from tracer.marks.text import encode

F = TypeVar("F", bound=Callable[..., Any])

_TOKEN_MASK = 0x7FFF_FFFF


class Entered:
    """One entry of a span: its number in this process, and whether the probes have been told."""

    __slots__ = ("above", "epoch", "left", "pid", "said", "token")

    def __init__(self, said: dict[str, object], above: Entered | None, pid: int, token: int) -> None:
        self.said = said
        self.above = above
        self.pid = pid
        self.token = token
        self.epoch = 0  # of the watch that was told
        self.left = False


class _Thread(threading.local):
    """What the kernel believes of this thread. ``token`` None: what it has inherited, not set by us."""

    token: int | None = None
    epoch: int = 0


class Marks:
    """The spans of this process. ``failures``: of marking, which never fails the program itself."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.current: ContextVar[Entered | None] = ContextVar("vigiles_span", default=None)
        self.failures = 0
        self.on_first: Callable[[], None] | None = None
        self._thread = _Thread()
        self._pid = os.getpid()
        # numbers are not used again by a program that is executed in our place
        self._numbers = itertools.count(int.from_bytes(os.urandom(4), "little"))
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """In a child: it was born in a span of the parent's, and has none of its own yet."""
        self._pid = os.getpid()
        self.channel.lock = _thread.allocate_lock()  # whoever held it is not here
        self._thread.token = None

    def enter(self, said: dict[str, object]) -> tuple[Entered, Token[Entered | None]]:
        """Begin a span inside the one that the task is in."""
        token = next(self._numbers) & _TOKEN_MASK or next(self._numbers) & _TOKEN_MASK
        entered = Entered(said, self.current.get(), self._pid, token)
        undo = self.current.set(entered)
        if self.channel.worth_trying():
            self._tell(entered)
        return entered, undo

    def leave(self, entered: Entered, undo: Token[Entered | None]) -> None:
        """End it."""
        try:
            self.current.reset(undo)
        except ValueError:  # left in another context than it was entered in
            self.current.set(entered.above)
        entered.left = True
        channel = self.channel
        if not channel.on or entered.epoch != channel.epoch or entered.pid != self._pid:
            return
        above = self._open(entered.above)
        token = above.token if above is not None and above.epoch == channel.epoch else 0
        if channel.call(channels.END, entered.token, token) and self._thread.token == entered.token:
            self._thread.token = token

    def align(self) -> None:
        """Put the calling thread into the span of its task: something is about to happen."""
        channel = self.channel
        wanted = self._open(self.current.get())
        if wanted is None:
            if channel.on and self._is_in_ours():
                self._switch(0)
        elif channel.worth_trying():
            if wanted.epoch != channel.epoch or not channel.on:
                self._tell(wanted)
            elif self._thread.token != wanted.token or self._thread.epoch != channel.epoch:
                self._switch(wanted.token)

    def _is_in_ours(self) -> bool:
        """Is the thread in a span that its task is not in? What it was started in is its own, unless it is a
        pool's worker: that was started by whoever came first.
        """
        thread = self._thread
        if thread.token is None:
            target = getattr(threading.current_thread(), "_target", None)
            return getattr(target, "__module__", None) == "concurrent.futures.thread"
        return thread.token != 0

    def _open(self, entered: Entered | None) -> Entered | None:
        """The innermost of ours that is still open."""
        while entered is not None and (entered.left or entered.pid != self._pid):
            entered = entered.above
        return entered

    def _tell(self, entered: Entered) -> None:
        """Tell of the span, and first of those around it that this watch has not been told of."""
        above = self._open(entered.above)
        channel = self.channel
        if above is not None and (above.epoch != channel.epoch or not channel.on):
            self._tell(above)
            if not channel.on:
                return
        text, cut = encode(entered.said)
        known = above.token if above is not None and above.epoch == channel.epoch else 0
        flags = channels.CUT if cut else 0
        if channel.call(channels.BEGIN, entered.token, known, flags=flags, text=text):
            entered.epoch = channel.epoch
            self._note(entered.token)
            if self.on_first is not None:
                first, self.on_first = self.on_first, None
                first()

    def _switch(self, token: int) -> None:
        if self.channel.call(channels.SWITCH, token):
            self._note(token)

    def _note(self, token: int) -> None:
        self._thread.token = token
        self._thread.epoch = self.channel.epoch


MARKS = Marks(Channel())
atexit.register(MARKS.channel.close)


def _listen() -> None:
    from tracer.marks.acts import listen

    listen(MARKS)


MARKS.on_first = _listen


class span:  # noqa: N801 - used like a function
    """A tool call, a step: ``with span(tool="bash", step=412): …``, or as a decorator, also of coroutines.

    Every process that is started inside belongs to it, and so does what that process starts, for as long as
    it lives. Spans lie inside one another. What is said is shown in alerts: 512 bytes of ``key=value`` in all.
    Without a tracer it does nothing. It never raises what the body doesn't.
    """

    __slots__ = ("_entered", "_said")

    def __init__(
        self, tool: str | None = None, step: int | None = None, episode: str | None = None, **said: object
    ) -> None:
        self._said: dict[str, object] = {"tool": tool, "step": step, "episode": episode, **said}
        self._entered: list[tuple[Entered, Token[Entered | None]]] = []

    def __enter__(self) -> Self:
        try:
            self._entered.append(MARKS.enter(self._said))
        except Exception:  # noqa: BLE001 - a training job must not fail because it is traced
            MARKS.failures += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._entered:
                MARKS.leave(*self._entered.pop())
        except Exception:  # noqa: BLE001 - as above
            MARKS.failures += 1

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _again(self) -> span:
        another = span()
        another._said = self._said
        return another

    def __call__(self, function: F) -> F:
        """Every call of ``function`` is a span of its own."""
        import functools  # these take longer to import than all the rest
        import inspect

        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                "a generator runs in its caller's context: use `with span(…)` around what it does"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def as_coroutine(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return cast("F", as_coroutine)

        @functools.wraps(function)
        def as_function(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return cast("F", as_function)
