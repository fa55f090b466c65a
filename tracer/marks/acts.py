# SPDX-License-Identifier: Apache-2.0
"""Before a process is started, a connection made or a device driven, the thread is put into the span of its task.

Python's audit events tell of those just before they happen, in the thread that does them. Installed once,
when the first span has been taken by a tracer, since it costs every audit event of the program a little, and
can't be removed: so a tracer that comes while spans are open hears of them when the next one begins. What starts processes
without an audit event (C extensions, multiprocessing's spawn) is in whatever span its thread was in last.
"""

from __future__ import annotations

import sys
from typing import Any

from tracer.marks.api import Marks

#: https://docs.python.org/3/library/audit_events.html; threads tell of their beginning since 3.12.
ACTS = frozenset(
    {
        "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec",
        "pty.spawn", "socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind",
        "_thread.start_new_thread", "_thread.start_joinable_thread", "fcntl.ioctl", "os.kill", "os.killpg",
        "signal.pthread_kill",
    }
)  # fmt: skip


def listen(marks: Marks) -> None:
    """From now on."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ACTS:
            return
        try:
            marks.align()
        except Exception:  # noqa: BLE001 - what is raised here would fail the act itself
            marks.failures += 1

    sys.addaudithook(hook)
