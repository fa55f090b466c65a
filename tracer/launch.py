# SPDX-License-Identifier: Apache-2.0
"""Start the command to trace, held before its exec until the watch is armed.

The child is forked before any thread exists, waits on a pipe, drops to the invoking user and
executes the command itself, so that the very first exec is seen and nothing of ours runs inside the
tree. If the tracer dies while the child waits, the pipe closes and the child exits.
"""

from __future__ import annotations

import errno
import os
import pwd
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from tracer.errors import CommandError, VigilesError

_ERROR = struct.Struct("<ii")
_STAGE_ENTER, _STAGE_USER, _STAGE_EXEC = range(3)

NOT_FOUND = 127
NOT_EXECUTABLE = 126


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the command runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


def _identity(entry: pwd.struct_passwd, gid: int) -> Identity:
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Identity(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


def invoking_user() -> Identity | None:
    """The user behind sudo; None when there is none (the command then runs as we do)."""
    uid, gid = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() != 0 or uid is None or gid is None or uid == "0":
        return None
    try:
        return _identity(pwd.getpwuid(int(uid)), int(gid))
    except (ValueError, KeyError):
        raise VigilesError(
            f"SUDO_UID={uid} is no user of this host", hint="name one: --user NAME, or --user root"
        ) from None


def user_named(name: str) -> Identity | None:
    """The user called ``name`` (or with that number); None for root itself."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        raise VigilesError(f"there is no user {name!r}", hint="see: getent passwd") from None
    return None if entry.pw_uid == os.geteuid() else _identity(entry, entry.pw_gid)


def _become(identity: Identity) -> None:
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    os.environ.update(HOME=identity.home, USER=identity.name, LOGNAME=identity.name)


def _child(
    argv: list[str], identity: Identity | None, enter: Callable[[], None] | None, gate: int, report: int
) -> NoReturn:
    """What the forked child does; never returns, never raises."""
    stage, code = _STAGE_ENTER, 0
    try:
        if os.read(gate, 1) != b"g":
            os._exit(125)
        if enter is not None:
            enter()
        stage = _STAGE_USER
        if identity is not None:
            _become(identity)
        # Python ignores these two; a command expects their default.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        stage = _STAGE_EXEC
        os.execvp(argv[0], argv)
    except OSError as error:
        code = error.errno or errno.EIO
    except BaseException:  # noqa: BLE001 - nothing may pass: this is a copy of our process
        code = errno.EINVAL
    os.write(report, _ERROR.pack(stage, code))
    os._exit(NOT_FOUND)


class Command:
    """The held, then running, root process of a tree.

    ``enter`` is called in the child, with all our privileges, before it becomes the command: to enter
    namespaces, say.
    """

    def __init__(
        self,
        argv: list[str],
        identity: Identity | None = None,
        enter: Callable[[], None] | None = None,
    ) -> None:
        self.argv = argv
        gate_read, self._gate = os.pipe2(os.O_CLOEXEC)
        self._report, report_write = os.pipe2(os.O_CLOEXEC)
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            os.close(self._report)
            _child(argv, identity, enter, gate_read, report_write)
        os.close(gate_read)
        os.close(report_write)
        self.pidfd = os.pidfd_open(self.pid)

    def release(self) -> None:
        """Let it execute the command; CommandError (126, 127) if that fails."""
        os.write(self._gate, b"g")
        os.close(self._gate)
        self._gate = -1
        raw = os.read(self._report, _ERROR.size)  # empty: closed by a successful exec
        os.close(self._report)
        self._report = -1
        if not raw:
            return
        stage, code = _ERROR.unpack(raw)
        self.wait()
        words = os.strerror(code)
        if stage == _STAGE_ENTER:
            raise VigilesError(f"can't put the command where it is to run: {words}")
        if stage == _STAGE_USER:
            raise VigilesError(f"can't become the invoking user: {words}", hint="try --user root")
        if code == errno.ENOENT:
            raise CommandError(f"{self.argv[0]}: command not found", exit_code=NOT_FOUND)
        raise CommandError(f"{self.argv[0]}: can't be executed: {words}", exit_code=NOT_EXECUTABLE)

    def poll(self) -> int | None:
        """The exit status as a shell gives it (128+N for signal N), or None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = _as_shell(status)
        return self._status

    def wait(self) -> int:
        """Wait for its end."""
        while self._status is None:
            _, status = os.waitpid(self.pid, 0)
            self._status = _as_shell(status)
        return self._status

    def abandon(self) -> None:
        """End it if it still waits to be released; leave it alone if it runs."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
            self.wait()

    def close(self) -> None:
        """Give the descriptors back."""
        self.abandon()
        for fd in (self._report, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self._report = self.pidfd = -1


def _as_shell(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
