# SPDX-License-Identifier: Apache-2.0
"""Recordings that nobody has made: whatever is in one, it is read to its end.

    python tests/fuzz/fuzz_recording.py [FOLDER] [-max_total_time=SECONDS]   # libFuzzer's options

What it takes is either a file but for its header, or types and payloads, of which it makes blocks with a right CRC.
What was found is in tests/unit/test_record_fuzz.py.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

import atheris
import msgpack

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]
# what is compiled must not be instrumented
import tracer.alerts  # noqa: E402
import tracer.sinks.events  # noqa: E402
from tracer.engine import crc, reconcile  # noqa: E402
from tracer.engine.engine import Engine  # noqa: E402
from tracer.respond import responder  # noqa: E402
from tracer.rules import load_rules  # noqa: E402

with atheris.instrument_imports(include=["tracer.record", "tracer.report"]):
    from tracer.errors import VigilesError
    from tracer.record import layout
    from tracer.record.export import events
    from tracer.record.follow import Follower
    from tracer.record.layout import Head
    from tracer.record.player import Player
    from tracer.record.reader import in_order
    from tracer.record.verify import verify
    from tracer.report.live import Live
    from tracer.report.story import tell

assert tracer.alerts and tracer.sinks.events and crc and reconcile and responder
RULES = load_rules()
M_MMAP_THRESHOLD = -3
TYPES = sorted(set(layout.NAMES) - {layout.HEADER})
FILE = Path(f"/dev/shm/vigiles-fuzz-{os.getpid()}")


def header() -> bytes:
    """A right one, once made."""
    from recordings import header_of

    said = header_of(Engine(RULES, processes=8, flows=8))
    said |= {"part": 1, "previous": layout.NO_CHAIN, "began_ns": 1, "wall_offset_ns": 1}
    return msgpack.packb(said)


HEADER = header()


def block(kind: int, number: int, payload: bytes) -> bytes:
    """One block with a right CRC."""
    head = Head(kind, layout.RAW, number, 1, 2, len(payload), len(payload), 0, b"")
    return layout.seal(head, payload, layout.NO_CHAIN, b"")[0] + payload


def made(data: bytes) -> bytes:
    """The file that an input stands for."""
    provider = atheris.FuzzedDataProvider(data)
    if provider.ConsumeBool():
        return block(layout.HEADER, 0, HEADER) + provider.ConsumeBytes(len(data))
    out, number = block(layout.HEADER, 0, HEADER), 0
    while provider.remaining_bytes() and number < 12:
        number += 1
        kind = TYPES[provider.ConsumeIntInRange(0, len(TYPES) - 1)]
        out += block(kind, number, provider.ConsumeBytes(provider.ConsumeIntInRange(0, 600)))
    return out


def read_it(data: bytes) -> None:
    """All ways in which one is read."""
    FILE.write_bytes(made(data))
    with suppress(VigilesError):
        verify([FILE])
        (parts,) = in_order([FILE])
        for alert in Player(parts, RULES).alerts():
            alert.to_json()
        for event in events(parts):
            event.to_json()
            event.detail()
        tell(parts, RULES)
        follower = Follower(FILE)
        Live().take(follower)
        follower.close()
        for part in parts:
            part.close()
    gc.collect()  # an engine is few objects and many megabytes


if __name__ == "__main__":
    # tables come as fresh pages, which nobody has to fill with zeros: that took most of the time
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 17)
    gc.freeze()
    try:
        atheris.Setup(sys.argv, read_it)
        atheris.Fuzz()
    finally:
        FILE.unlink(missing_ok=True)
