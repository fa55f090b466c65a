# SPDX-License-Identifier: Apache-2.0
"""Numbers that rule files give to detectors, under ``[thresholds.NAME]``.

What a detector asks for is registered here; the values, with the reasons for them, stand in the packs, and
later files replace them one by one. Of a detector some of whose numbers no file gives, nothing is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Threshold(NamedTuple):
    """One number: between which it may be, and what it means."""

    least: int
    most: int
    meaning: str


#: As ``RuleSet.thresholds`` has them: by detector and key.
Thresholds = Mapping[str, Mapping[str, int]]

#: Targets that are kept of one series of connects: more can't be asked for.
TARGETS_MAX = 32
#: Intervals that are kept of one series of check-ins.
INTERVALS_MAX = 16
#: Names below one domain that are told apart.
NAMES_MAX = 64
#: Bytes of a ping that are compared with those of the one before.
SHOWN_MAX = 64

THRESHOLDS: dict[str, dict[str, Threshold]] = {
    "scan": {
        "addresses": Threshold(2, TARGETS_MAX, "addresses inside that were tried in vain"),
        "ports": Threshold(2, TARGETS_MAX, "ports of one address inside that were tried in vain"),
        "targets": Threshold(2, TARGETS_MAX, "addresses and ports inside, together, that were tried in vain"),
        "own_ports": Threshold(2, TARGETS_MAX, "ports of this host, over loopback, that were tried in vain"),
        "own_ports_below": Threshold(1, 65536, "ports from here on don't count over loopback"),
        "window_s": Threshold(10, 86400, "seconds over which they are counted together"),
    },
    "relay": {
        "exchanges": Threshold(2, 1000, "samples, each way, in which both connections moved together"),
        "bytes": Threshold(256, 1 << 30, "bytes carried inside, both ways together"),
        "changes": Threshold(1, 1000, "times that the amount was another than the time before"),
        "apart_percent": Threshold(1, 100, "of those, at most, in which one moved without the other"),
        "overhead_percent": Threshold(1, 400, "what goes over the connection outside may be so much more"),
        "packet_bytes": Threshold(1, 4096, "and this for each packet"),
        "slack_bytes": Threshold(1, 1 << 20, "and this once"),
        "back_times": Threshold(
            1, 1000, "what has gone back outside is at most so many times what came from inside"
        ),
        "window_s": Threshold(1, 3600, "seconds after which what has not moved is forgotten"),
    },
    "effort": {
        "cores_percent": Threshold(1, 100, "of the processors that it may use, so much is kept busy"),
        "seconds": Threshold(1, 86400, "for so long, and with a connection that has been thin for so long"),
        "pause_s": Threshold(1, 3600, "seconds that it may be less without beginning anew"),
        "calls": Threshold(1, 1_000_000, "reads and writes in a second of a processor's time, at most"),
        "switches": Threshold(1, 1_000_000, "pauses of its own in a second of a processor's time, at most"),
        "exchanges": Threshold(1, 1000, "samples in which a thin connection carried something, each way"),
        "minute_bytes": Threshold(64, 1 << 30, "a thin connection carries no more in a minute, both ways"),
    },
    "gpu": {
        "idle_s": Threshold(1, 86400, "seconds in which none of the job's own clients has worked"),
    },
    "session": {
        "exchanges": Threshold(2, 1000, "times that what came in made the tree act"),
        "missed_percent": Threshold(1, 1000, "of those, at most, so many times it did not"),
        "hello_bytes": Threshold(1, 1 << 16, "bytes that this end may say before it is told anything"),
        "handshake_bytes": Threshold(1, 1 << 16, "and so many more, in TLS, beside its ClientHello"),
        "patience": Threshold(1, 100, "samples, with that in which it came, in which it must act"),
        "still": Threshold(1, 600, "samples before in which nothing was carried or done"),
    },
    "beacon": {
        "intervals": Threshold(3, INTERVALS_MAX, "intervals in a row that are even"),
        "jitter_percent": Threshold(1, 100, "each is so near to their mean"),
        "least_ms": Threshold(100, 3_600_000, "milliseconds of pause that begin another check-in"),
        "most_bytes": Threshold(64, 1 << 30, "bytes of a check-in at most, each way, on average"),
        "keep_alive_bytes": Threshold(
            1, 1 << 20, "bytes sent a check-in, on average, below which one connection is kept alive"
        ),
        "window_s": Threshold(10, 7 * 86400, "seconds after which a place that was not asked is forgotten"),
    },
    "dns": {
        "names": Threshold(4, NAMES_MAX, "different names below one domain"),
        "name_bytes": Threshold(1, 250, "bytes in long labels of each, on average"),
        "label_bytes": Threshold(1, 63, "bytes of the longest label of each, on average"),
        "counted_from": Threshold(1, 63, "bytes from which a label is long"),
        "window_s": Threshold(10, 86400, "seconds over which they are counted together"),
    },
    "icmp": {
        "packets": Threshold(
            2, 10_000, "pings to one place, or answers, with other data than the one before"
        ),
        "changed_bytes": Threshold(
            1, SHOWN_MAX, "bytes behind the time that are others than in the ping before"
        ),
        "window_s": Threshold(10, 86400, "seconds over which they are counted together"),
    },
}


def numbers_of(thresholds: Thresholds, detector: str) -> npt.NDArray[np.int64]:
    """The numbers of a detector, in the order of the registry; all 0 if one is missing."""
    given = thresholds.get(detector, {})
    keys = THRESHOLDS[detector]
    numbers = [given.get(key, 0) for key in keys]
    return np.array(numbers if all(numbers) else [0] * len(keys), np.int64)
