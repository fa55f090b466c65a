# SPDX-License-Identifier: Apache-2.0
"""Before a process is started or a connection made, the thread is put into the span of its task.

Python's audit events tell of those just before they happen, in the thread that does them. Installed once,
when the first span has been taken by a tracer; an audit hook can't be removed. What starts processes
without an audit event (C extensions, multiprocessing's spawn) is in whatever span its thread was in last.
"""

from __future__ import annotations

import sys
from typing import Any

from tracer.marks.api import Marks

#: https://docs.python.org/3/library/audit_events.html
ACTS = frozenset(
    {
        "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec",
        "pty.spawn", "socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind",
    }
)  # fmt: skip
THREADS = frozenset({"_thread.start_new_thread", "_thread.start_joinable_thread"})


def listen(marks: Marks) -> None:
    """From now on."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ACTS:
            outside = False
        elif event in THREADS:
            outside = _serves_anybody(arguments[0])
        else:
            return
        try:
            marks.align(outside=outside)
        except Exception:  # noqa: BLE001 - what is raised here would fail the act itself
            marks.failures += 1

    sys.addaudithook(hook)


def _serves_anybody(function: Any) -> bool:
    """Is this the beginning of a pool's worker? It must not inherit the span of whoever came first."""
    thread = getattr(function, "__self__", None)
    target = getattr(thread, "_target", None)
    return getattr(target, "__module__", None) == "concurrent.futures.thread"
