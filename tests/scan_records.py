# SPDX-License-Identifier: Apache-2.0
"""Records of processes that connect, and what the scans' rule says of them."""

from __future__ import annotations

from functools import partial

import records
from behaviour import engine_with, told_by

from bench import synthetic

ENDS = {
    "refused": {"error": 111},
    "unanswered": {"error": 110},
    "unused": {"established": 1},
    "used": {"established": 1, "sent": 9},
}


engine = partial(engine_with, "scan", 64, 64)
told = partial(told_by, "net.scan")


class Tree:
    """Records of processes that connect."""

    def __init__(self) -> None:
        self.records = [synthetic.execute(100, 1, 1, [b"sh"], b"/usr/bin/dash")]
        self.now = 1
        self.cookie = 0

    def fork(self, child: int, parent: int = 100) -> None:
        self.records.append(synthetic.fork(child, parent, self.now))

    def exit(self, who: int) -> None:
        self.records.append(synthetic.exit_(who, self.now))

    def connect(self, who: int, address: str, port: int) -> int:
        self.cookie += 1
        self.records.append(records.connect(address, port, tgid=who, ts=self.now, cookie=self.cookie))
        return self.cookie

    def close(self, who: int, cookie: int, address: str, port: int, end: str, **more: int) -> None:
        more = ENDS[end] | more
        self.records.append(records.close(cookie, address, port, tgid=who, ts=self.now, **more))

    def attempt(self, address: str, port: int, end: str = "refused", *, who: int = 100, **more: int) -> None:
        self.now += 1000
        self.close(who, self.connect(who, address, port), address, port, end, **more)
