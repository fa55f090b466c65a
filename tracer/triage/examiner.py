# SPDX-License-Identifier: Apache-2.0
"""Files that the watched tree executes are examined beside the drain loop, in a thread of their own.

Whoever drains calls :meth:`Examiner.submit` for each exec. That opens ``/proc/PID/exe``, which pins the file
(one without a name, one deleted: all the same), and asks nothing of the file system the file is on: that
may be one that the tree itself answers for (FUSE), and it may choose not to answer. A program that has ended
before is looked for by its path, in the thread, and has to be the same file still. What comes of it is fetched with :meth:`Examiner.collect`, when :attr:`Examiner.ready` is readable.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tracer.kernel.cgroup import process_start_ticks
from tracer.promptness import schedule_patiently
from tracer.triage.bounded import Limits, NotRegularError, regular_file
from tracer.triage.examine import Examination, identity_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracer.rules.model import Group
    from tracer.triage.report import FileReport, Identity

QUEUE_MAX = 128
CACHE_MAX = 4096
#: A thread that a file system does not answer is given up after so many times the time limit; and so many.
_STUCK_AFTER = 5
_THREADS_MAX = 4
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

#: Why an exec's file was not examined.
LOST = (
    "queue-full", "gone", "other-file", "not-regular", "not-readable", "uncollected", "stuck", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Examined:
    """The report for the exec that was submitted with ``token``."""

    token: int
    pid: int
    report: FileReport
    #: the file was known already
    cached: bool
    #: the device is the one that was submitted, too; false is usual on btrfs and overlayfs
    same_device: bool


@dataclass(slots=True)
class _Task:
    fd: int
    pid: int
    device: int
    inode: int
    token: int
    #: where it was, for a process that has ended; then ``fd`` is -1
    path: bytes = b""

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Examiner:
    """Examines files one after the other; see the module's own words."""

    def __init__(
        self,
        groups: Sequence[Group],
        limits: Limits | None = None,
        *,
        queue_max: int = QUEUE_MAX,
        cache_max: int = CACHE_MAX,
    ) -> None:
        self._groups = groups
        self._limits = limits or Limits()
        self._queue_max = queue_max
        self._cache_max = cache_max
        self._tasks: deque[_Task] = deque()
        self._results: deque[Examined] = deque()
        self._cache: OrderedDict[Identity, FileReport] = OrderedDict()
        self._wake = threading.Condition()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._examination = self._new_examination()
        self._busy_since: float | None = None
        #: readable when there are results: for epoll
        self.ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        #: files that were not examined, by ``LOST``
        self.lost: Counter[str] = Counter()
        self.examined = 0
        self.from_cache = 0
        self._start()

    # for the thread that drains

    def submit(
        self, pid: int, start_ns: int, dev: int, ino: int, entry_token: int, path: bytes = b""
    ) -> bool:
        """Have the file that ``pid`` executes examined; false if that can't be, see :attr:`lost`.

        ``start_ns`` is when the process began (CLOCK_BOOTTIME), ``dev`` and ``ino`` name the file as the
        kernel's event does (``major << 20 | minor``). The inode has to be the same; the device need not be:
        file systems that span devices (btrfs, overlayfs) show programs another one than they use inside.
        ``path``: where the file is looked for if the process has ended.
        """
        if len(self._tasks) >= self._queue_max:
            return self._lose("stuck" if self._replace_stuck() else "queue-full")
        try:
            # O_PATH: the file system is not asked
            fd = os.open(f"/proc/{pid}/exe", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return self._by_path(_Task(-1, pid, dev, ino, entry_token, path))
        # another process's, if the number has been given away; None is one that has just ended: the inode decides
        ticks = process_start_ticks(pid)
        if ticks is not None and ticks != start_ns // _NS_PER_TICK:
            os.close(fd)
            return self._by_path(_Task(-1, pid, dev, ino, entry_token, path))
        return self._enqueue(_Task(fd, pid, dev, ino, entry_token))

    def submit_fd(self, fd: int, token: int, pid: int = 0) -> bool:
        """As :meth:`submit`, for a file that is open already; ``fd`` is closed here in any case."""
        if len(self._tasks) >= self._queue_max:
            os.close(fd)
            return self._lose("queue-full")
        return self._enqueue(_Task(fd, pid, 0, 0, token))

    def collect(self) -> list[Examined]:
        """What has been finished since; never waits."""
        if self.ready >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.ready)
        found = []
        while self._results:
            found.append(self._results.popleft())
        return found

    def close(self, patience: float = 3.0) -> None:
        """End the thread, after the file it is at; what waits is given up."""
        with self._wake:
            self._closed = True
            self._drop_tasks()
            self._examination.cancel()
            self._wake.notify_all()
        end = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        # a thread that hangs in a read may still come back and tell: then it needs the descriptor
        if not any(thread.is_alive() for thread in self._threads) and self.ready >= 0:
            os.close(self.ready)
            self.ready = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lose(self, reason: str) -> bool:
        with self._wake:
            self.lost[reason] += 1
        return False

    def _by_path(self, task: _Task) -> bool:
        return self._enqueue(task) if task.path.startswith(b"/") and task.inode else self._lose("gone")

    def _enqueue(self, task: _Task) -> bool:
        with self._wake:
            if self._closed:
                task.close()
                return False
            self._tasks.append(task)
            self._wake.notify()
        return True

    def _drop_tasks(self) -> None:
        while self._tasks:
            self._tasks.popleft().close()

    def _replace_stuck(self) -> bool:
        """Start another thread if the one we have hangs; true if none may be started."""
        since = self._busy_since
        if since is None or time.monotonic() - since < _STUCK_AFTER * self._limits.seconds:
            return False
        if len(self._threads) >= _THREADS_MAX:
            return True
        self._lose("stuck")
        self._examination = self._new_examination()
        self._start()
        return False

    def _new_examination(self) -> Examination:
        """Made by the caller, not in the thread: compiling would hold the interpreter there all the same."""
        examination = Examination(self._groups, self._limits)
        examination.warm()
        return examination

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._run, args=(self._examination,), name="vigiles-triage", daemon=True
        )
        self._threads.append(thread)
        self._busy_since = None
        thread.start()

    # the thread's own

    def _run(self, examination: Examination) -> None:
        # whoever waits for signals is elsewhere
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        schedule_patiently()
        me = threading.current_thread()
        while True:
            with self._wake:
                while not self._tasks and not self._closed:
                    self._wake.wait()
                # given up as stuck, while this one came back: the newest goes on
                if self._closed or self._threads[-1] is not me:
                    return
                task = self._tasks.popleft()
                self._busy_since = time.monotonic()
            try:
                self._one(examination, task)
            except NotRegularError:
                self._lose("not-regular")
            except OSError:
                self._lose("not-readable")
            except Exception:  # noqa: BLE001 - a file must not end the thread: it is counted, and the next one comes
                self._lose("error")
            finally:
                task.close()
                with self._wake:
                    if self._threads[-1] is me:
                        self._busy_since = None

    def _one(self, examination: Examination, task: _Task) -> None:
        if task.fd < 0:
            try:
                task.fd = os.open(task.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                self._lose("gone")
                return
        name = f"/proc/self/fd/{task.fd}"
        status = regular_file(task.fd)
        if task.inode and task.inode != status.st_ino:
            self._lose("other-file")
            return
        identity = identity_of(status)
        with self._wake:
            report = self._cache.get(identity)
            if report is not None:
                self._cache.move_to_end(identity)
                self.from_cache += 1
        cached = report is not None
        if report is None:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                report = examination.examine(fd, os.fsencode(os.readlink(name)))
            finally:
                os.close(fd)
            self._keep(report)
        device = os.makedev(task.device >> 20, task.device & 0xFFFFF)
        self._tell(Examined(task.token, task.pid, report, cached, device == identity.device))

    def _keep(self, report: FileReport) -> None:
        with self._wake:
            self.examined += 1
            # what was seen while it changed is nobody's content
            if "changed" not in report.facts:
                self._cache[report.identity] = report
                while len(self._cache) > self._cache_max:
                    self._cache.popitem(last=False)

    def _tell(self, found: Examined) -> None:
        with self._wake:
            if len(self._results) >= 4 * self._queue_max:
                self.lost["uncollected"] += 1
                return
            self._results.append(found)
            if not self._closed:
                os.eventfd_write(self.ready, 1)
