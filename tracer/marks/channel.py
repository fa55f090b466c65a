# SPDX-License-Identifier: Apache-2.0
"""The system call by which the probes are told: setsockopt(2), at a level that only they know.

probes/span_call.h defines it. Without a tracer the kernel refuses it at once; that answer is good for
RETRY_S, so that a program which nobody traces pays for a look at the clock and no more.
"""

from __future__ import annotations

import _socket  # socket imports enum and selectors, for what is not needed here
import _thread
import errno
import struct
import time

LEVEL = 0x56494749
BEGIN, END, SWITCH = 1, 2, 3
CUT = 1
#: secret, token, above, flags, up
CALL = struct.Struct("=QIIII")

RETRY_S = 1.0
_GONE = {errno.EBADF, errno.ENOTSOCK}


class Channel:
    """Tells the probes of this process. ``epoch`` counts the watches met so far: what an earlier one was
    told, a later one doesn't know. ``failures``: calls that were refused, or could not be made, although
    somebody traces this process.
    """

    def __init__(self) -> None:
        self.on = False
        self.epoch = 0
        self.failures = 0
        self._retry_at = 0.0
        self.lock = _thread.allocate_lock()  # of the socket
        self._socket: _socket.socket | None = None

    def worth_trying(self) -> bool:
        """Is somebody there, as far as is known, or is it time to ask again?"""
        return self.on or time.monotonic() >= self._retry_at

    def call(
        self,
        op: int,
        token: int,
        above: int = 0,
        *,
        flags: int = 0,
        up: int = 0,
        secret: int = 0,
        text: bytes = b"",
    ) -> bool:
        """Tell it; true if it was taken. Never raises an OSError."""
        data = CALL.pack(secret, token, above, flags, up) + text
        code = self._send(op, data)
        if code in _GONE:  # somebody has closed all descriptors, as daemons do
            with self.lock:
                lost, self._socket = self._socket, None
                if lost is not None:
                    lost.detach()
            code = self._send(op, data)
        if code == 0:
            if not self.on:
                self.on = True
                self.epoch += 1
            return True
        if code == errno.EPERM:
            self.failures += 1
            return False
        self.failures += self.on and code not in (errno.EOPNOTSUPP, errno.ENOPROTOOPT)
        self.on = False
        self._retry_at = time.monotonic() + RETRY_S
        self.close()  # it belongs to the cgroup that it was made in, and we may be in another by then
        return False

    def close(self) -> None:
        """Give the descriptor back; the next call takes another."""
        with self.lock:
            own, self._socket = self._socket, None
        if own is not None:
            try:
                own.close()
            except OSError:  # not ours any more
                own.detach()

    def _send(self, op: int, data: bytes) -> int:
        """The call's errno."""
        try:
            own = self._socket
            if own is None:
                with self.lock:
                    own = self._socket = self._socket or _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            own.setsockopt(LEVEL, op, data)
        except OSError as error:
            return error.errno or errno.EIO
        return 0
